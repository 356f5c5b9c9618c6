"""Finds committed results that are older than the code they ran.

A record names the commit at which it was made. The files behind a result are the notebook, its
parameters, and every module of `lab` that it imports from, directly or indirectly. This module
lists those files that now differ from that commit. A changed file does not imply changed numbers:
the list says where to look.
"""

import ast
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lab import git
from lab.files import PROJECT
from lab.records import executed

MODULE = re.compile(r"lab(\.\w+)+")


class StaleError(RuntimeError):
    """No comparison is possible; the message is one sentence."""


@dataclass(frozen=True)
class Result:
    """One executed notebook, and what has changed since it ran.

    Attributes:
        path: path of its file, relative to the folder that was read.
        commit: the commit at which it ran, with "+changes" if the code had uncommitted changes;
            None if unknown.
        files: number of files on which it depends now.
        changed: the files that differ from the commit or did not exist in it.
        unknown: why the comparison is impossible, in a few words; empty if it is possible.
    """

    path: str
    commit: str | None
    files: int = 0
    changed: tuple[str, ...] = ()
    unknown: str = ""

    def __str__(self) -> str:
        run = f"{self.path}, of {self.commit}"
        if self.unknown:
            return f"{run}: {self.unknown}"
        if not self.changed:
            return f"{run}: none of its {self.files} files has changed"
        changed = f"{len(self.changed)} of its {self.files} files have changed"
        return f"{run}: {changed}: {', '.join(self.changed)}"


def results(folder: str | os.PathLike[str], root: Path = PROJECT) -> list[Result]:
    """Every complete result in a folder of executed notebooks, compared with the current code.

    Args:
        folder: folder of executed notebooks, such as `executed` or `executed/smoke`.
        root: top folder of the checkout that contains their code.

    Raises:
        NotADirectoryError: there is no such folder.
        StaleError: `root` is not a git checkout.
    """
    if git.output(root, "rev-parse", "HEAD") is None:
        raise StaleError(f"{root} is no git checkout with a commit: there is nothing to compare")
    forget()
    kind = _kind(Path(folder), root)
    entries = [entry for entry in executed.read(folder) if entry.record is not None]
    return [result(entry, root / "params" / kind, root) for entry in entries]


def forget() -> None:
    """Look at all files again: they may have changed since they were read."""
    for kept in (_hashes_at, imported, _exports):
        kept.cache_clear()


def summary(found: Iterable[Result]) -> str:
    """One line about all results."""
    found = list(found)
    stale = sum(bool(each.changed) for each in found)
    unknown = sum(bool(each.unknown) for each in found)
    line = f"{stale} of {len(found)} results are older than the code they ran"
    return f"{line}; of {unknown} it cannot be told." if unknown else f"{line}."


def dependencies(path: Path, root: Path = PROJECT) -> set[Path]:
    """A Python file and the modules of `lab` from which it imports, directly or indirectly.

    Imports inside functions count, and so do modules named in strings, which may run in a process
    of their own. A package that imports by computed names depends on all its modules.
    """
    found: set[Path] = set()
    waiting = {path}
    while waiting:
        current = waiting.pop()
        found.add(current)
        waiting |= imported(current, root) - found
    return found


def _kind(folder: Path, root: Path) -> Path:
    """Subfolder of params/ that belongs to a folder of results: `smoke` for executed/smoke."""
    inside = (root / "executed").resolve()
    resolved = folder.resolve()
    return resolved.relative_to(inside) if resolved.is_relative_to(inside) else Path()


def result(entry: executed.Entry, parameters: Path, root: Path = PROJECT) -> Result:
    """Compare a complete result with the current code.

    Args:
        entry: a result with a record.
        parameters: the folder with the parameters file.
        root: the top folder of the checkout that contains its code.
    """
    assert entry.record is not None
    number, commit = entry.record["experiment"], entry.record["environment"].get("commit")
    notebooks = [path for path in (root / "notebooks").glob("*.py") if _has(path, number)]
    if not commit:
        return Result(entry.path, None, unknown="its record names no commit")
    if len(notebooks) != 1:
        return Result(entry.path, commit, unknown=f"{len(notebooks)} notebooks have its number")
    then = _hashes_at(root, str(commit).removesuffix("+changes"))
    if then is None:
        return Result(entry.path, commit, unknown="its commit is not in this repository")
    given = parameters / f"{number}.yaml"
    paths = dependencies(notebooks[0], root) | ({given} if given.is_file() else set())
    now = _hashes_now(root, sorted(path.relative_to(root).as_posix() for path in paths))
    changed = tuple(name for name, blob in now.items() if then.get(name) != blob)
    return Result(entry.path, commit, len(now), changed)


def _has(path: Path, number: str) -> bool:
    return path.name.startswith(f"{number}_")


# --- imports -------------------------------------------------------------------------------------


@cache
def imported(path: Path, root: Path = PROJECT) -> set[Path]:
    """The modules of `lab` that a Python file itself takes something from."""
    names = {name for node in ast.walk(_tree(path)) for name in _names(node, path, root)}
    return {file for name in names for file in _files(name, root)}


def _names(node: ast.AST, path: Path, root: Path) -> Iterator[str]:
    """Dotted names that a syntax node may import."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _base(node, path, root)
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from [node.value] if MODULE.fullmatch(node.value) else []
    elif isinstance(node, ast.Call) and _called(node).endswith("import_module"):
        here = path.parent.relative_to(root) if path.is_relative_to(root) else Path()
        yield from (".".join((here / each.stem).parts) for each in path.parent.glob("*.py"))


def _called(node: ast.Call) -> str:
    """The last name of what is called; empty if that is no name."""
    name: str = getattr(node.func, "attr", getattr(node.func, "id", ""))
    return name


def _base(node: ast.ImportFrom, path: Path, root: Path) -> str:
    if not node.level:
        return node.module or ""
    package = path.relative_to(root).parts[: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def _files(name: str, root: Path) -> Iterator[Path]:
    """The files behind a dotted name: a module, or the module whose name a package re-exports.

    Importing a name from a package runs all of the package, but its other modules do not count as
    dependencies.
    """
    parts = name.split(".")
    if parts[0] != "lab":
        return
    length = next((n for n in range(len(parts), 0, -1) if _module(root, parts[:n])), 0)
    file = _module(root, parts[:length])
    if file is None:
        return
    rest = parts[length:]
    origin = _exports(file, root).get(rest[0]) if rest and file.name == "__init__.py" else None
    if origin is None:
        yield file
    else:
        yield from _files(origin, root)


def _module(root: Path, parts: list[str]) -> Path | None:
    place = root.joinpath(*parts)
    files = [place / "__init__.py", place.with_suffix(".py")]
    return next((file for file in files if parts and file.is_file()), None)


@cache
def _exports(package: Path, root: Path) -> dict[str, str]:
    """For every name that a package imports, the module from which it comes."""
    return {
        alias.asname or alias.name: f"{_base(node, package, root)}.{alias.name}"
        for node in _tree(package).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _tree(path: Path) -> ast.Module:
    """The syntax tree of a file; empty if the file is not valid Python.

    None is kept: Python's search for garbage goes through all nodes that there are, again and
    again, and takes more time than to parse the few files whose tree is asked for twice.
    """
    try:
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
        tree = compile(path.read_bytes(), path, "exec", flags)
    except (OSError, SyntaxError, ValueError):
        return ast.Module([], [])
    assert isinstance(tree, ast.Module)
    return tree


# --- git -----------------------------------------------------------------------------------------


@cache
def _hashes_at(root: Path, commit: str) -> dict[str, str] | None:
    """Hashes of all files in a commit, by path; None if there is no such commit."""
    if not re.fullmatch(r"[0-9a-f]{4,64}", commit):
        return None
    listed = git.output(root, "ls-tree", "-r", "-z", "--full-tree", commit)
    if listed is None:
        return None
    entries = [line.split("\t", 1) for line in listed.split("\0") if line]
    return {path: head.split()[2] for head, path in entries}


def _hashes_now(root: Path, names: list[str]) -> dict[str, str]:
    listed = git.output(root, "hash-object", "--stdin-paths", text="\n".join(names))
    return dict(zip(names, (listed or "").split(), strict=True))
