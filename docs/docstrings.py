"""Docstrings of this project as reStructuredText.

They are plain prose: paragraphs, indented formulas, lists, `names` in backquotes and sections such
as Args. Whatever would mean something in reStructuredText is escaped.
"""

import re
from collections.abc import Iterator

SECTIONS = ("Args", "Attributes", "Raises", "Returns", "Args and returns", "Yields")
LABEL = re.compile(r"^([A-Z][a-z]+(?: [a-z]+)?): ")
LABELS = ("Claim", "Cost", "Parameters", "Precision", "Real parameters", "Source", "Sources")
INDENT = 4


def process(app, what, name, obj, options, lines: list[str]) -> None:
    """Convert the lines of a docstring in place; a listener of Sphinx.

    Sphinx has taken away the indentation that the docstring owes to its place.
    """
    lines[:] = converted("\n".join(lines)).splitlines()


def converted(docstring: str) -> str:
    """A docstring, without indentation in front of all lines, as reStructuredText."""
    blocks = re.split(r"\n\s*\n", docstring.strip())
    return "\n\n".join(part for block in blocks for part in _block(block.splitlines())) + "\n"


def _block(lines: list[str]) -> Iterator[str]:
    """Convert a block between two empty lines."""
    if not lines or not any(lines):
        return
    if lines[0].rstrip(":") in SECTIONS and lines[0].endswith(":"):
        yield f"**{lines[0].rstrip(':')}**"
        yield "\n".join(f"* {_inline(' '.join(entry))}" for entry in _entries(lines[1:]))
        return
    prose = 0
    while prose < len(lines) and not lines[prose].startswith(" " * INDENT):
        prose += 1
    yield from _paragraphs(lines[:prose])
    if prose < len(lines):
        yield "\n".join([".. code-block:: text", "", *(f"    {each}" for each in lines[prose:])])


def _entries(lines: list[str]) -> Iterator[list[str]]:
    """The entries of a section; a line with the smallest indentation starts an entry."""
    least = min((_depth(line) for line in lines), default=0)
    entry: list[str] = []
    for line in lines:
        if entry and _depth(line) == least:
            yield entry
            entry = []
        entry.append(line.strip())
    if entry:
        yield entry


def _paragraphs(lines: list[str]) -> Iterator[str]:
    """Convert prose; list items, and labels such as Source, start parts of their own."""
    part: list[str] = []
    for line in lines:
        label = LABEL.match(line)
        if part and (line.startswith("- ") or (label and label[1] in LABELS)):
            yield _prose(part)
            part = []
        part.append(line.strip())
    if part:
        yield _prose(part)


def _prose(lines: list[str]) -> str:
    text = " ".join(lines)
    if text.startswith("- "):
        return f"* {_inline(text[2:])}"
    label = LABEL.match(text)
    if label and label[1] in LABELS:
        return f"**{label[1]}:** {_inline(text[label.end() :])}"
    return _inline(text)


def _inline(text: str) -> str:
    """Text with `names` as code, linked to their definitions if the pages contain them."""
    parts = re.split(r"`([^`]+)`", text)
    return "".join(_code(part) if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _code(text: str) -> str:
    role = ":py:obj:" if re.fullmatch(r"[A-Za-z_][\w.]*[A-Za-z_]\w*", text) else ":code:"
    inner = text.strip().replace("\\", "\\\\")
    return f"\\ {role}`{inner}`\\ "


def _escaped(text: str) -> str:
    text = re.sub(r"([\\*_|`])", r"\\\1", text).replace("::", ":\\:")
    # What would begin a list, a directive or an example.
    return re.sub(r"^(\d+\.|\(?\w\)|[-+•]\s|\.\.\s|>>>|:)", r"\\\1", text)


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())
