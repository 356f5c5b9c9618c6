"""Pieces of Markdown that show any text as it is."""

import os
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from urllib.parse import quote


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; its cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """`text` as Markdown that shows it as it is, on one line of a table."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    # Underscores inside a word mean nothing to Markdown, and names are full of them.
    return re.sub(r"[\\`*\[\]<>|$~&]|(?<![^\W_])_|_(?![^\W_])", lambda match: "\\" + match[0], line)


def plain(text: str) -> str:
    """`text` for the inside of an HTML tag on a line of a table."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    codes = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "|": "&#124;"}
    # Markdown reads between tags, too.
    codes |= {sign: f"&#{ord(sign)};" for sign in "\\`*[]$~_"}
    return "".join(codes.get(c, c) for c in line)


def address(path: str) -> str:
    """A relative path as the address of a link."""
    return quote(os.fsencode(path))


def link(path: str, text: str | None = None) -> str:
    """A link to a relative path, under its own name or as `text`."""
    return f"[{escape(path if text is None else text)}]({address(path)})"


def picture(path: str, words: str, width: int) -> str:
    """A picture of this width in pixels; `words` say what it shows."""
    return f'<img src="{address(path)}" width="{width}" alt="{plain(words)}">'


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def seeds(numbers: Sequence[int]) -> str:
    """Seeds in words, a row of them by its ends."""
    if not numbers:
        return "no seeds"
    first, last = numbers[0], numbers[-1]
    if len(numbers) > 2 and all(b - a == 1 for a, b in pairwise(numbers)):
        return f"seeds {first} to {last}"
    word = "seed" if len(numbers) == 1 else "seeds"
    return f"{word} {', '.join(map(str, numbers))}"
