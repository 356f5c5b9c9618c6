"""What an executed notebook depends on besides its parameters: code, versions, other results.

The papermill handler for .py files writes this into the metadata of every notebook that it runs,
and `lab.records.programme` compares it with the current files.
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
_PACKAGES = ("torch", "numpy", "numba", "scipy")  # numerical packages
_READER = PROJECT / "lab" / "records" / "executed.py"
_UNSTEADY = ("runtime_s", "environment", "written")  # may differ when all results are equal


def made_of(notebook: Path, root: Path = PROJECT) -> dict[str, dict[str, str]]:
    """What a notebook depends on now.

    Args:
        notebook: a .py file.
        root: the top folder of the checkout with the library.

    Returns:
        "code": digests of the notebook and of every module of lab that it uses, by path.
        "versions": the versions of Python and of the numerical packages. "results": if the notebook
        itself reads executed notebooks, digests of the records of all others in `executed` of its
        checkout, by file name; otherwise empty.
    """
    stale.forget()
    files = sorted(stale.dependencies(notebook, root))
    return {
        "code": {_name(path, root): _digest(path.read_bytes()) for path in files},
        "versions": versions(),
        "results": _results(notebook) if reads_results(notebook) else {},
    }


def reads_results(notebook: Path) -> bool:
    """Whether a notebook itself reads executed notebooks, and so must run after them."""
    return _READER in stale.imported(notebook)


def versions() -> dict[str, str]:
    """Installed versions of Python and of the numerical packages."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def changes(then: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]) -> str:
    """What differs between two such mappings, in words; empty if nothing does."""
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
