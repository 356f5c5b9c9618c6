"""Strips of coloured cells: tokens, permutations and other categories, with their symbols."""

import colorsys
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from torch import Tensor

from lab.plots import fit
from lab.plots.theme import SMALL, WIDTH, width_of

BLANK = "·"  # the symbol of an empty cell (filler, or no target), which is drawn faintly
_FAINT = "rgba(128, 128, 128, 0.15)"
_DARK = "#222222"  # colour of symbols: cells are light on any page
_CELL, _GAP = 30, 16  # px: the height of a row, and between blocks of rows
_ROOM = WIDTH - 150  # px available for the cells of a row
_GOLDEN = 0.618034  # step of hue, in turns: consecutive numbers get very different colours


def tokens(
    rows: Mapping[str, Tensor | Sequence[Any]], *, title: str = "",
    symbols: Sequence[str] | Mapping[str, Sequence[str]] | None = None, x_title: str = "step t",
) -> go.Figure:  # fmt: skip
    """Sequences of categories, one below the other: one cell per step, with its symbol.

    Equal symbols have equal colours in all rows. Long sequences continue in further blocks of rows.

    Args:
        rows: ["steps"] by name, such as input and target: whole numbers, or the symbols themselves.
            A negative or missing number gives a blank cell, where no target is required.
        title: what the figure shows.
        symbols: the symbols of the numbers 0, 1, ...: one list for all rows, or one list per row
            name; the numbers themselves if None. The symbol "·" is blank.
        x_title: what the x axis counts.

    Raises:
        ValueError: no row, rows of different lengths, or a number without a symbol.
    """
    lists = {name: _symbols_of(symbols, name) for name in rows}
    words = {name: _words(values, lists[name], name) for name, values in rows.items()}
    lengths = {name: len(each) for name, each in words.items()}
    if not words or len(set(lengths.values())) > 1 or not min(lengths.values()):
        raise ValueError(f"rows have {lengths} steps: give one or more rows of one length above 0")
    steps, per_row = next(iter(lengths.values())), _cells_a_row(words)
    return _draw(words, _numbering(lists, words), title, x_title, steps, min(per_row, steps))


def _draw(
    words: Mapping[str, Sequence[str]], numbers: Mapping[str, int], title: str, x_title: str,
    steps: int, per_row: int,
) -> go.Figure:  # fmt: skip
    blocks = math.ceil(steps / per_row)
    names, table = _table(words, steps, per_row, blocks)
    height = 96 + _CELL * len(words) * blocks + _GAP * (blocks - 1)
    figure = fit.planned(go.Figure(), height).update_layout(title_text=title, showlegend=False)
    stops = _scale(numbers)
    z = [[numbers.get(word, np.nan) if word else np.nan for word in row] for row in table]
    hover = [[f"step {block * per_row + i}: {word}" for i, word in enumerate(row)]
             for block, row in zip(_blocks_of(len(words), blocks), table, strict=True)]  # fmt: skip
    texts = [[word.replace(BLANK, "") for word in row] for row in table]
    figure.add_heatmap(
        z=np.array(z, dtype=np.float32), y=_places(len(words), blocks), text=texts,
        texttemplate="%{text}",
        textfont={"size": _font_size(words), "color": _DARK}, colorscale=stops, zmin=-0.5,
        zmax=len(numbers) - 0.5, showscale=False, xgap=1, ygap=2, hovertext=hover,
        hoverinfo="text",
    )  # fmt: skip
    counted = x_title if blocks == 1 else f"{x_title}, from the first of the row"
    figure.update_xaxes(title_text=counted, showgrid=False)
    figure.update_yaxes(tickvals=_places(len(words), blocks), ticktext=names, autorange="reversed",
                        showgrid=False)  # fmt: skip
    return fit.fit(figure)


def _symbols_of(symbols: Any, name: str) -> Sequence[str] | None:
    return symbols.get(name) if isinstance(symbols, Mapping) else symbols


def _words(values: Any, symbols: Sequence[str] | None, name: str) -> list[str]:
    """The symbols of one row."""
    items = values.tolist() if isinstance(values, Tensor | np.ndarray) else list(values)
    return [item if isinstance(item, str) else _word(item, symbols, name) for item in items]


def _word(item: Any, symbols: Sequence[str] | None, name: str) -> str:
    if item is None or not math.isfinite(item) or item < 0:
        return BLANK
    if item != int(item) or (symbols is not None and item >= len(symbols)):
        known = "whole numbers" if symbols is None else f"whole numbers below {len(symbols)}"
        raise ValueError(f"{name!r} holds {item!r}: its tokens are {known}, or words")
    return str(symbols[int(item)]) if symbols is not None else str(int(item))


def _numbering(
    lists: Mapping[str, Sequence[str] | None], words: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """A number for every symbol that has a colour, from its place in the list or from its name.

    The number does not depend on the content of a sequence, so colours stay the same when a slider
    moves.
    """
    listed = [symbol for each in lists.values() if each is not None for symbol in each]
    shown = {word for row in words.values() for word in row}
    digits = [word for word in shown - set(listed) if word.isdigit()]
    counted = [str(n) for n in range(1 + max(map(int, digits)))] if digits else []
    rest = sorted(shown - set(counted) - set(listed))
    every = [symbol for symbol in dict.fromkeys([*listed, *counted, *rest]) if symbol != BLANK]
    return {symbol: number for number, symbol in enumerate([*every, BLANK])}


def _scale(numbers: Mapping[str, int]) -> list[list[Any]]:
    """A piecewise constant colour scale, with one piece for every number."""
    colours = [_FAINT if symbol == BLANK else colour_of(n) for symbol, n in numbers.items()]
    return [[end, colour] for n, colour in enumerate(colours)
            for end in (n / len(colours), (n + 1) / len(colours))]  # fmt: skip


def colour_of(number: int) -> str:
    """The colour of a category, light enough that dark symbols can be read on it."""
    lightness = (0.74, 0.82, 0.66)[number // 5 % 3]
    red, green, blue = colorsys.hls_to_rgb((0.58 + _GOLDEN * number) % 1, lightness, 0.62)
    return f"rgb({round(255 * red)}, {round(255 * green)}, {round(255 * blue)})"


def _cells_a_row(words: Mapping[str, Sequence[str]]) -> int:
    """How many cells fit side by side together with their symbols."""
    longest = max(width_of(word, _font_size(words)) for row in words.values() for word in row)
    return max(int(_ROOM / max(17, longest + 5)), 1)


def _font_size(words: Mapping[str, Sequence[str]]) -> int:
    return SMALL if max(len(word) for row in words.values() for word in row) <= 3 else SMALL - 1


def _table(
    words: Mapping[str, Sequence[str]], steps: int, per_row: int, blocks: int
) -> tuple[list[str], list[list[str]]]:
    """The name and the symbols of every row of cells; "" after the end of a sequence."""
    names, table = [], []
    for block in range(blocks):
        first = block * per_row
        last = min(first + per_row, steps) - 1
        for name, row in words.items():
            cells = list(row[first : last + 1])
            table.append(cells + [""] * (per_row - len(cells)))
            names.append(name if blocks == 1 else f"{name}, {first} to {last}")
    return names, table


def _places(rows: int, blocks: int) -> list[float]:
    """The y positions of the rows of cells, from the top down."""
    return [block * (rows + _GAP / _CELL) + row for block in range(blocks) for row in range(rows)]


def _blocks_of(rows: int, blocks: int) -> list[int]:
    return [block for block in range(blocks) for _ in range(rows)]
