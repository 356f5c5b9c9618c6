"""How arms look: a colour, a dash and a marker, the same for an arm in all figures of a notebook.

    looks.of(["delta rule", "LinOSS"])["LinOSS"].line(width=2)

Names get their looks in the order in which a notebook first draws them. `claim` fixes them before;
`reset` forgets them, as a new kernel does.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lab.plots.theme import COLOURS, GREY

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
# Seven, a number that shares no factor with six colours: of 30 looks, no two have the same colour
# and the same marker, nor the same colour and the same dash.
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down")
GLYPHS = dict(zip(MARKERS, "●■◆▲✚✖▼", strict=True))  # the same in a line of text


@dataclass(frozen=True)
class Look:
    """A colour, a dash of plotly, a marker of plotly."""

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
    """Who has which look. One is enough for a notebook: the functions below use it."""

    def __init__(self) -> None:
        self._worn: dict[str, Look] = {}
        self._borrowing = False

    def of(self, names: Iterable[str]) -> dict[str, Look]:
        """The looks of the arms of one figure, by name; no two are the same.

        A name keeps its look for good. A new one takes a look that nobody has, or, when all have
        been given away, one that nobody in this figure has.

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
        """The look of the arm that a text names or begins with, as in "LinOSS, 128 steps"."""
        heads = [name for name in self._worn if text == name or text.startswith(f"{name}, ")]
        return self._worn[max(heads, key=len)] if heads else None

    def reset(self) -> None:
        """Forget all names."""
        self._worn = {}

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Names met in here leave no trace: a slider through "step 1" to "step 99" uses nothing."""
        before, self._borrowing = self._borrowing, True
        try:
            yield
        finally:
            self._borrowing = before

    def _dress(self, name: str, names: list[str], worn: dict[str, Look]) -> None:
        """Give `name` a look; one that it has stays, unless another of this figure has it too."""
        earlier = names[: names.index(name)]
        taken = {worn[other] for other in earlier}
        if name in worn and worn[name] not in taken:
            return
        taken |= {worn[other] for other in names if other in worn and other != name}
        wearers = Counter(worn.values())
        # `min` takes the first of equals, so that looks go in their order.
        free = [look for look in LOOKS if look not in taken]
        worn[name] = min(free, key=lambda look: wearers[look])


_register = Register()
of, known, reset, borrowed = (
    _register.of, _register.known, _register.reset, _register.borrowed,
)  # fmt: skip


def claim(names: Iterable[str]) -> None:
    """Give these names the first looks that are free, before any figure shows them."""
    of(names)


def references(names: Iterable[str]) -> dict[str, Look]:
    """Grey looks of what is no arm: bounds, floors, what could be.

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
