"""Colour, dash and marker of an arm, which are the same in all figures of a notebook.

    looks.of(["delta rule", "LinOSS"])["LinOSS"].line(width=2)

Names get their looks in the order in which a notebook first draws them. `claim` assigns looks
before anything is drawn, and `reset` forgets all of them, as in a new kernel.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lab.plots.theme import COLOURS, GREY

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
# The number of markers, seven, and the number of colours, six, have no common factor. Therefore no
# two of the 30 looks share colour and marker, and no two share colour and dash.
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down")
GLYPHS = dict(zip(MARKERS, "●■◆▲✚✖▼", strict=True))  # the markers as characters


@dataclass(frozen=True)
class Look:
    """A colour, and plotly's names of a dash and of a marker."""

    colour: str
    dash: str
    marker: str

    def line(self, width: float) -> dict[str, Any]:
        """The line of a plotly trace, `width` in px."""
        return {"color": self.colour, "dash": self.dash, "width": width}

    def points(self, size: float, **more: Any) -> dict[str, Any]:
        """The marker of a plotly trace, `size` in px."""
        return {"color": self.colour, "symbol": self.marker, "size": size, **more}

    @property
    def glyph(self) -> str:
        """The marker as a character."""
        return GLYPHS[self.marker]


LOOKS = tuple(
    Look(COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS)], MARKERS[i % len(MARKERS)])
    for i in range(len(COLOURS) * len(DASHES))
)
REFERENCES = tuple(
    Look(GREY, dash, "circle") for dash in ("dash", "dot", "dashdot", "longdash", "longdashdot")
)


class Register:
    """Which name has which look. A notebook needs only one register; the functions below use it."""

    def __init__(self) -> None:
        self._worn: dict[str, Look] = {}
        self._borrowing = False

    def of(self, names: Iterable[str]) -> dict[str, Look]:
        """The looks of the arms of one figure, by name; all of them differ.

        A name keeps its look. A new name gets an unused look or, once all looks have been assigned,
        one that no other arm of this figure has.

        Raises:
            ValueError: there are more names than looks.
        """
        names = list(dict.fromkeys(names))
        if len(names) > len(LOOKS):
            raise ValueError(
                f"a figure of {len(names)} arms, from {names[0]!r} to {names[-1]!r}, would draw "
                f"some alike: there are {len(LOOKS)} looks; split it into several figures"
            )
        worn = dict(self._worn)
        for name in names:
            self._dress(name, names, worn)
        if not self._borrowing:
            self._worn = worn
        return {name: worn[name] for name in names}

    def known(self, text: str) -> Look | None:
        """The look of the arm whose name the text is or begins with, as in "LinOSS, 128 steps"."""
        heads = [name for name in self._worn if text == name or text.startswith(f"{name}, ")]
        return self._worn[max(heads, key=len)] if heads else None

    def reset(self) -> None:
        """Forget all names."""
        self._worn = {}

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Names drawn inside are forgotten: a slider from "step 1" to "step 99" uses no looks."""
        before, self._borrowing = self._borrowing, True
        try:
            yield
        finally:
            self._borrowing = before

    def _dress(self, name: str, names: list[str], worn: dict[str, Look]) -> None:
        """Give `name` a look; it keeps an earlier one unless another arm of this figure has it."""
        earlier = names[: names.index(name)]
        taken = {worn[other] for other in earlier}
        if name in worn and worn[name] not in taken:
            return
        taken |= {worn[other] for other in names if other in worn and other != name}
        wearers = Counter(worn.values())
        # `min` returns the first of equal elements, so looks are assigned in their order.
        free = [look for look in LOOKS if look not in taken]
        worn[name] = min(free, key=lambda look: wearers[look])


_register = Register()
of, known, reset, borrowed = (
    _register.of, _register.known, _register.reset, _register.borrowed,
)  # fmt: skip


def claim(names: Iterable[str]) -> None:
    """Give these names the first unused looks, before any figure shows them."""
    of(names)


def references(names: Iterable[str]) -> dict[str, Look]:
    """Grey looks for curves that are not arms, such as bounds and floors.

    Raises:
        ValueError: there are more names than grey looks.
    """
    names = list(names)
    if len(names) > len(REFERENCES):
        raise ValueError(
            f"a figure of {len(names)} grey references, from {names[0]!r} to {names[-1]!r}, would "
            f"draw some alike: at most {len(REFERENCES)} can be told apart"
        )
    return dict(zip(names, REFERENCES, strict=False))
