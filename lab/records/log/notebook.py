"""What the log reads from a notebook beside its record: when it ran, its heading, a picture."""

import base64
import datetime
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLOTLY, PICTURE = "application/vnd.plotly.v1+json", "image/png"
LARGEST = 60_000  # the most bytes of a picture, as for every figure's static twin
SMALLEST = 67  # bytes: the size of the shortest possible PNG file
SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """The static picture of a figure: its title, and the content of a PNG file."""

    title: str
    content: bytes

    def width(self, widest: int, highest: int) -> int:
        """Width in pixels at which it fits into a box, from the size stored in the file."""
        wide, high = struct.unpack(">II", self.content[16:24])
        return max(1, min(widest, highest * wide // max(high, 1)))


class Notebook:
    """An executed notebook that is known to be complete, because it has been read before."""

    def __init__(self, path: Path) -> None:
        content = json.loads(path.read_bytes())
        self.cells: list[dict[str, Any]] = content["cells"]
        self.metadata = _mapping(content.get("metadata"))

    @property
    def started(self) -> str:
        """When the run began, in UTC to the second; empty if that was not recorded."""
        noted = _mapping(self.metadata.get("papermill")).get("start_time")
        try:
            time = datetime.datetime.fromisoformat(str(noted))
        except ValueError:
            return ""
        time = time.astimezone(datetime.UTC) if time.tzinfo else time
        return time.strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def heading(self) -> str:
        """The heading of the first cell without its number; empty if there is none."""
        first = _text(self.cells[0].get("source")) if self.cells else ""
        found = re.match(r"#[ \t]+(?:\w+ · )?(\S.*)", first)
        return found[1].strip() if found else ""

    def picture(self, title: str = "") -> Picture | None:
        """The picture of the figure with this title; without one, the first picture."""
        pictures = list(self._pictures())
        named = [each for each in pictures if title and each.title == _title(title)]
        return next(iter([*named, *pictures]), None)

    def _pictures(self) -> Iterator[Picture]:
        """The pictures of all figures, in order; those that are too large are left out."""
        outputs = [cell.get("outputs") for cell in self.cells]
        for output in (each for some in outputs if isinstance(some, list) for each in some):
            data = _mapping(_mapping(output).get("data"))
            if PLOTLY in data and PICTURE in data and (content := _content(data[PICTURE])):
                yield Picture(_title_of(data[PLOTLY]), content)


def _content(encoded: Any) -> bytes | None:
    """The PNG file that a notebook stores as base64 text; None if it is something else."""
    try:
        content = base64.b64decode(_text(encoded))
    except ValueError:
        return None
    is_whole = content.startswith(SIGNATURE) and len(content) >= SMALLEST
    return content if is_whole and len(content) <= LARGEST else None


def _title_of(figure: Any) -> str:
    title = _mapping(_mapping(figure).get("layout")).get("title")
    return _title(title.get("text") if isinstance(title, dict) else title)


def _title(text: object) -> str:
    """A title on one line; its line breaks depend on the width of the figure."""
    return " ".join(str(text or "").replace("<br>", " ").split())


def _text(value: Any) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
