"""One page for every folder of lab/: first its public names, then those of its files."""

import ast
from collections.abc import Iterator
from pathlib import Path

# Kernels behind the scans, which users do not call.
INNER = ("lab.scan.cpu", "lab.scan.gpu")


def write(package: Path, folder: Path) -> None:
    """Write the pages of a package into a folder, and remove those of folders that no longer exist.

    A page that would stay as it is is not touched, so that it is not read again.
    """
    folder.mkdir(exist_ok=True)
    pages = {f"{room}.rst": page(room, package.parent) for room in rooms(package)}
    for old in folder.glob("*.rst"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def rooms(package: Path) -> list[str]:
    """The import names of the folders and top-level modules of a package."""
    found = [package / "__init__.py", *package.glob("*.py"), *package.glob("*/__init__.py")]
    return sorted({_module(path, package.parent) for path in found})


def page(room: str, root: Path) -> str:
    """The page of a folder or top-level module."""
    path = root.joinpath(*room.split("."))
    own = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    lines = [room, "=" * len(room), "", f".. automodule:: {room}", "   :members:", ""]
    if room != "lab" and path.is_dir():
        shown = set(_names(own))
        for file in sorted(path.rglob("*.py")):
            lines += _section(_module(file, root), file, shown) if file != own else []
    return "\n".join(lines)


def _section(module: str, file: Path, shown: set[str]) -> Iterator[str]:
    """The section of a file, if it has public names that the package does not export."""
    names = [name for name in _names(file) if name not in shown]
    if not names or module.startswith(INNER):
        return
    yield from (module, "-" * len(module), "")
    yield from (f".. automodule:: {module}", f"   :members: {', '.join(names)}")
    if module.rpartition(".")[2] in shown:  # the name of a function of the face as well
        yield "   :no-index:"
    yield ""


def _names(file: Path) -> list[str]:
    """The names in __all__; without it, the public classes and functions that a file defines."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    kinds = (ast.ClassDef, ast.FunctionDef)
    return [n.name for n in body if isinstance(n, kinds) and not n.name.startswith("_")]


def _module(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")
