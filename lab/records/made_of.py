"""What an executed notebook was made of, beside its parameters: code, versions, other results.

papermill's reader of .py writes it into the metadata of every notebook that it runs, and
`lab.records.programme` compares it with the files of now.
"""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lab.files import PROJECT
from lab.records import executed, stale

KEY = "made_of"  # in the metadata of an executed notebook
_PACKAGES = ("torch", "numpy", "numba", "scipy")  # those that compute
_READER = PROJECT / "lab" / "records" / "executed.py"
_UNSTEADY = ("runtime_s", "environment", "written")  # of a record, where no number changes


def made_of(notebook: Path, root: Path = PROJECT) -> dict[str, dict[str, str]]:
    """What a notebook would be made of now.

    Args:
        notebook: a .py.
        root: the top of the checkout with the library.

    Returns:
        "code": a digest of the notebook and of every module of lab that it takes something from, by
        path. "versions": of Python and of the packages that compute. "results": where the notebook
        itself reads executed ones, a digest of the record of every other one in `executed` of its
        checkout, by name; else empty.
    """
    stale.forget()
    files = sorted(stale.dependencies(notebook, root))
    return {
        "code": {_name(path, root): _digest(path.read_bytes()) for path in files},
        "versions": versions(),
        "results": _results(notebook) if reads_results(notebook) else {},
    }


def reads_results(notebook: Path) -> bool:
    """Whether a notebook itself reads executed ones, so that it has to run after them."""
    return _READER in stale.imported(notebook)


def versions() -> dict[str, str]:
    """Of Python, and of the packages that compute, as they are installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def changes(then: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> str:
    """What differs between two, in words; empty if nothing does."""
    return "; ".join(_changes(then, now))


def _changes(
    then: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    for kind, words in (("code", "changed"), ("results", "another result now")):
        before, after = then.get(kind, {}), now[kind]
        found = [each for each in {**before, **after} if before.get(each) != after.get(each)]
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            yield f"{words}: {', '.join(found[:3])}{more}"
    installed = then.get("versions", {})
    for package, version in now["versions"].items():
        if installed.get(package) != version:
            yield f"{package} was {installed.get(package)}, is {version}"


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _results(notebook: Path) -> dict[str, str]:
    folder = notebook.parents[1] / "executed"
    own = executed.number_of(notebook.name)
    entries = executed.read(folder) if folder.is_dir() else []
    return {
        entry.path: _digest(_steady(entry.record))
        for entry in entries
        if entry.record is not None and executed.number_of(entry.path) != own
    }


def _steady(record: Mapping[str, Any]) -> bytes:
    kept = {name: value for name, value in record.items() if name not in _UNSTEADY}
    return json.dumps(kept, sort_keys=True).encode()
