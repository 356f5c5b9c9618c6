"""Markdown snippets, with escaping so that any text is shown literally."""

import os
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from urllib.parse import quote


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """`text` escaped for Markdown, on one line so that it fits into a table."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    # Underscores inside a word have no meaning in Markdown, and many names contain them.
    return re.sub(r"[\\`*\[\]<>|$~&]|(?<![^\W_])_|_(?![^\W_])", lambda match: "\\" + match[0], line)


def plain(text: str) -> str:
    """`text` escaped for the inside of an HTML tag, on one line of a table."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    codes = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "|": "&#124;"}
    # Markdown is also interpreted between HTML tags.
    codes |= {sign: f"&#{ord(sign)};" for sign in "\\`*[]$~_"}
    return "".join(codes.get(c, c) for c in line)


def address(path: str) -> str:
    """A relative path, quoted as the address of a link."""
    return quote(os.fsencode(path))


def link(path: str, text: str | None = None) -> str:
    """A link to a relative path, with the path or `text` as its label."""
    return f"[{escape(path if text is None else text)}]({address(path)})"


def picture(path: str, words: str, width: int) -> str:
    """A picture with this width in pixels and the description `words`."""
    return f'<img src="{address(path)}" width="{width}" alt="{plain(words)}">'


def duration(seconds: float) -> str:
    """A duration in readable form."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def seeds(numbers: Sequence[int]) -> str:
    """Seeds in words; consecutive seeds are given by the first and the last."""
    if not numbers:
        return "no seeds"
    first, last = numbers[0], numbers[-1]
    if len(numbers) > 2 and all(b - a == 1 for a, b in pairwise(numbers)):
        return f"seeds {first} to {last}"
    word = "seed" if len(numbers) == 1 else "seeds"
    return f"{word} {', '.join(map(str, numbers))}"
