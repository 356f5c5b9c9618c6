"""Comparisons as tables: a row per contender, a column per shape, the fastest in bold."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab.benchmark.comparison import EXISTING, Comparison
from lab.benchmark.problem import written

# pandas is imported where a table is made, because measuring does not need it.
if TYPE_CHECKING:
    import pandas as pd


def times(comparisons: Sequence[Comparison]) -> Any:
    """Milliseconds with quartiles, and the largest error, of each contender at each shape.

    The last rows show the time of moving the bytes that must be moved. Displays as a table.
    """
    import pandas as pd

    columns = {written(each.shape): _column(each) for each in comparisons}
    table = pd.DataFrame(columns).fillna("")
    order = dict.fromkeys(name for column in columns.values() for name in column)
    table = table.reindex(sorted(order, key=lambda name: _is_bound(name, comparisons)))
    fastest = {written(each.shape): _fastest(each) for each in comparisons}

    def bold(column: "pd.Series[str]") -> list[str]:
        best = fastest[str(column.name)]
        return ["font-weight: bold" if name == best else "" for name in column.index]

    return table.style.apply(bold, axis=0).set_table_styles(
        [{"selector": "td", "props": "text-align: right; white-space: nowrap"}]
    )


def leads(comparisons: Sequence[Comparison]) -> "pd.DataFrame":
    """For each shape: our time, the best of the others, and the ratios to it and to the bounds."""
    import pandas as pd

    rows = {
        (each.problem, written(each.shape)): {
            "ours, ms": 1e3 * each.ours,
            "best other": each.best[0],
            "best other, ms": 1e3 * each.best[1],
            "best other / ours": each.lead,
            **{f"ours / {name}": each.ours / bound for name, bound in each.bounds.items()},
        }
        for each in comparisons
    }
    return pd.DataFrame.from_dict(rows, orient="index").map(_rounded)


def beside(
    comparisons: Sequence[Comparison], reported: Mapping[str, Mapping[str, float]]
) -> "pd.DataFrame":
    """Milliseconds measured earlier beside the current ones, at the shapes that both have.

    Args:
        comparisons: the current results for one problem.
        reported: milliseconds by shape, by contender.
    """
    import pandas as pd

    found = {written(each.shape): each.timings for each in comparisons}
    rows = [
        {"contender": name, "shape": shape, "earlier, ms": value,
         "now, ms": 1e3 * found[shape][name].median if name in found[shape] else None}
        for name, by_shape in reported.items()
        for shape, value in by_shape.items()
        if shape in found
    ]  # fmt: skip
    columns = ["contender", "shape", "earlier, ms", "now, ms"]
    table = pd.DataFrame(rows, columns=columns).set_index(["contender", "shape"])
    return table.astype(float).map(_rounded)


def what_bounds(
    comparisons: Sequence[Comparison], calls: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Our time divided into three: the call itself, moving memory, and the rest, which is work.

    Args:
        comparisons: results at any shapes, with a contender other than ours in each.
        calls: seconds of a call with two steps, by the name of the problem.

    Returns:
        A row per comparison, with shares of our time, and the largest of them by name.
    """
    rows = []
    for each in comparisons:
        call = min(1.0, calls[each.problem] / each.ours)
        moving = min(1.0 - call, each.bounds[EXISTING] / each.ours)
        shares = {"the call": call, "moving memory": moving, "work": 1.0 - call - moving}
        row = {
            "layer": each.problem,
            "shape": written(each.shape),
            "ours, ms": 1e3 * each.ours,
            "best other": each.best[0],
            "best other / ours": each.lead,
            **{f"share of {name}": share for name, share in shares.items()},
            "bound by": max(shares, key=lambda name: shares[name]),
        }
        rows.append({name: _rounded(value) for name, value in row.items()})
    return rows


def _column(comparison: Comparison) -> dict[str, str]:
    column = {}
    for name, timing in comparison.timings.items():
        low, median, high = (_digits(1e3 * x) for x in (timing.low, timing.median, timing.high))
        error = comparison.errors.get(name)
        shown = f" · {error.largest:.0e}".replace("e-0", "e-") if error else ""
        column[name] = f"{median} [{low}, {high}]{shown}"
    column |= comparison.notes
    return column | {name: _digits(1e3 * bound) for name, bound in comparison.bounds.items()}


def _is_bound(name: str, comparisons: Sequence[Comparison]) -> bool:
    return any(name in each.bounds for each in comparisons)


def _fastest(comparison: Comparison) -> str:
    return min(comparison.timings, key=lambda name: comparison.timings[name].median)


def _digits(value: float) -> str:
    """A number with three digits and without an exponent."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _rounded(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value
