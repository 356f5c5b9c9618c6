"""Figures carry the numbers they were given, and mark what a reader has to see."""

import json

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from lab import figures


def series(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def complex_series(*shape, seed=0):
    return torch.complex(series(*shape, seed=seed), series(*shape, seed=seed + 1))


def assert_same(values, tensor):
    """Equal to the single precision that figures are drawn in."""
    np.testing.assert_array_equal(np.asarray(values), tensor.flatten().to(torch.float32).numpy())


def named(figure, name):
    return [trace for trace in figure.data if trace.name == name]


def test_lines_carry_their_series_over_the_shared_x():
    x, a, b = series(5), series(5, seed=1), series(5, seed=2)
    figure = figures.lines({"a": a, "b": b}, x=x, x_title="t, s", y_title="u, V", dashed=["b"])
    for name, values in (("a", a), ("b", b)):
        (trace,) = named(figure, name)
        assert_same(trace.x, x)
        assert_same(trace.y, values)
    assert [trace.line.dash for trace in figure.data] == [None, "dash"]
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("t, s", "u, V")


def test_lines_count_steps_from_zero_and_take_gradients_along():
    values = series(4).requires_grad_()
    figure = figures.lines({"a": values}, log=True)
    assert list(figure.data[0].x) == [0, 1, 2, 3]
    assert_same(figure.data[0].y, values.detach())
    assert figure.layout.yaxis.type == "log"


@pytest.mark.parametrize("steps", [1, 3, 400, 401, 1000, 12_500])
def test_losses_are_thinned_and_keep_their_mean(steps):
    curves = series(2, steps).exp()
    figure = figures.losses({"arm": curves})
    assert len(figure.data) == 2
    for trace, curve in zip(figure.data, curves, strict=True):
        assert len(trace.x) == len(trace.y) == min(steps, 400)
        # Every point stands for a stretch of updates around its x, and weighs as many.
        stretches = [len(part) for part in np.array_split(np.arange(steps), len(trace.x))]
        assert np.average(trace.y, weights=stretches) == pytest.approx(
            curve.mean().item(), rel=1e-6
        )
        assert np.average(trace.x, weights=stretches) == pytest.approx((steps - 1) / 2)


def test_a_short_loss_curve_is_drawn_as_it_is():
    curve = series(1, 7).exp()
    (trace,) = figures.losses({"arm": curve}).data
    assert list(trace.x) == list(range(7))
    assert_same(trace.y, curve)


def test_seeds_share_the_colour_of_their_arm_and_one_entry_of_the_legend():
    figure = figures.losses({"a": series(3, 4).exp(), "b": series(2, 4).exp()})
    colours = {arm: {trace.line.color for trace in named(figure, arm)} for arm in ("a", "b")}
    assert [len(named(figure, arm)) for arm in ("a", "b")] == [3, 2]
    assert all(len(found) == 1 for found in colours.values())
    assert colours["a"] != colours["b"]
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == ["a", "b"]


def test_floors_are_drawn_across_the_longest_run():
    figure = figures.losses(
        {"a": series(1, 900).exp(), "b": series(1, 50).exp()}, floors={"noise": 0.25, "bias": 0.01}
    )
    for name, floor in (("noise", 0.25), ("bias", 0.01)):
        (trace,) = named(figure, name)
        assert (list(trace.x), list(trace.y)) == ([0, 899], [floor, floor])
        assert trace.line.dash == "dash"
        assert trace.showlegend is not False  # the legend says what the line is
    assert figure.layout.yaxis.type == "log"


A = torch.tensor([-0.05 + 0.04j, -0.01 - 0.02j, 0.003 + 0.07j, 0.001j])
A_D = torch.tensor([0.95 + 0.04j, -0.2 + 0.1j, 1.01 + 0.07j, 1.0 + 0.0j])


def test_growing_eigenvalues_are_crosses_of_another_colour():
    figure = figures.eigenvalues(A, A_D)
    for axis, values, outside in (
        ("x", A, [False, False, True, False]),  # on the imaginary axis nothing grows
        ("x2", A_D, [False, False, True, False]),  # nor on the circle
    ):
        (trace,) = [t for t in named(figure, "eigenvalue") if t.xaxis == axis]
        assert_same(trace.x, values.real)
        assert_same(trace.y, values.imag)
        assert [symbol == "x" for symbol in trace.marker.symbol] == outside
        colours = set(trace.marker.color)
        assert len(colours) == 2
        assert {c for c, grows in zip(trace.marker.color, outside, strict=True) if grows} != (
            {c for c, grows in zip(trace.marker.color, outside, strict=True) if not grows}
        )


def holds(axis, *values):
    low, high = axis.range
    return all(low <= value <= high for value in values)


@pytest.mark.parametrize("size", [1, 5])
def test_the_axes_hold_every_eigenvalue_and_the_border_next_to_it(size):
    A, A_d = -0.1 + 0.02 * complex_series(size), 0.9 + 0.02 * complex_series(size, seed=5)
    layout = figures.eigenvalues(A, A_d).layout
    assert holds(layout.xaxis, *A.real.tolist(), 0)
    assert holds(layout.yaxis, *A.imag.tolist())
    outermost = A_d[A_d.abs().argmax()]
    assert holds(layout.xaxis2, *A_d.real.tolist(), (outermost / outermost.abs()).real.item())
    assert holds(layout.yaxis2, *A_d.imag.tolist(), (outermost / outermost.abs()).imag.item())
    assert np.ptp(layout.xaxis2.range) < 1  # a cluster near 1 is not a dot in a big circle


def test_spread_eigenvalues_have_the_whole_circle_around_them():
    layout = figures.eigenvalues(A, torch.tensor([0.9 + 0j, -0.9 + 0j])).layout
    assert holds(layout.xaxis2, -1, 1)
    assert holds(layout.yaxis2, -1, 1)
    (circle,) = [shape for shape in layout.shapes if shape.type == "circle"]
    assert (circle.x0, circle.x1, circle.y0, circle.y1) == (-1, 1, -1, 1)
    assert circle.xref == "x2"


def test_the_path_of_eigenvalues_fixes_the_axes():
    path = torch.stack([A, 3 * A, A - 1]), torch.stack([A_D, 0.5 * A_D, A_D])
    drawn = [figures.eigenvalues(path[0][i], path[1][i], path=path) for i in range(3)]
    for axis in ("xaxis", "yaxis", "xaxis2", "yaxis2"):
        assert len({figure.layout[axis].range for figure in drawn}) == 1
    for figure in drawn:
        for axis, values in (("x", path[0]), ("x2", path[1])):
            (dots,) = [t for t in named(figure, "at other times") if t.xaxis == axis]
            assert_same(dots.x, values.real)
            assert_same(dots.y, values.imag)


def test_an_eigenvalue_of_zero_has_axes_too():
    figure = figures.eigenvalues(torch.zeros(1).cfloat(), torch.zeros(1).cfloat())
    for axis in ("xaxis", "yaxis", "xaxis2", "yaxis2"):
        low, high = figure.layout[axis].range
        assert low < 0 < high


def test_trajectories_show_states_and_updates_of_every_mode():
    states = complex_series(6, 3)
    figure = figures.trajectories(states, most=5)
    before = torch.cat([torch.zeros(1, 3), states[:-1]])  # h[-1] = 0
    for axis, values in (
        ("y", states.real), ("y2", states.abs()), ("y3", (states - before).abs())
    ):  # fmt: skip
        traces = [trace for trace in figure.data if trace.yaxis == axis]
        assert len(traces) == 5  # the same number whatever the model, the last ones empty
        for mode in range(3):
            np.testing.assert_allclose(traces[mode].y, values[:, mode], rtol=1e-5, atol=1e-6)
        assert [len(trace.y) for trace in traces[3:]] == [0, 0]
    assert [figure.layout[a].type for a in ("yaxis", "yaxis2", "yaxis3")] == [None, "log", "log"]


def test_only_the_first_modes_are_drawn():
    states = complex_series(4, 9)
    figure = figures.trajectories(states, most=2)
    assert len(figure.data) == 3 * 2
    np.testing.assert_allclose(figure.data[1].y, states[:, 1].real, rtol=1e-6)


def test_truth_and_recovery_share_a_colour_and_no_circle_hides_another():
    truth = {"a": (series(2, 3), series(2, 3, seed=1)), "b": (series(2, 3), series(2, 3, seed=1))}
    learned = {arm: (omega + 1, zeta - 1) for arm, (omega, zeta) in truth.items()}
    figure = figures.recovered(truth, learned)
    sizes = []
    for arm in ("a", "b"):
        (circle,), (cross,) = named(figure, f"true, {arm}"), named(figure, f"learned, {arm}")
        for trace, (omega, zeta) in ((circle, truth[arm]), (cross, learned[arm])):
            assert_same(trace.x, omega)
            assert_same(trace.y, zeta)
        assert circle.marker.color == cross.marker.color
        sizes.append(circle.marker.size)
    assert len(set(sizes)) == 2  # both arms have the same truth here


@pytest.mark.parametrize("log", [True, False])
def test_strips_show_every_value_and_label_their_limits_in_place(log):
    values = {"one, two": series(4).exp(), "three": series(2, 2, seed=1).exp()}
    figure = figures.strips(values, limits={"C1": 0.01, "C2": 1.0}, log=log)
    for trace, (name, points) in zip(figure.data, values.items(), strict=True):
        assert_same(trace.y, points)
        assert trace.boxpoints == "all"
        assert set(trace.x) == {name.replace(", ", ",<br>")}
    lines = {shape.y0 for shape in figure.layout.shapes}
    assert lines == {0.01, 1.0}
    # On a log axis plotly takes the height of a line in data units, that of a text as exponent.
    labels = {note.text: note.y for note in figure.layout.annotations}
    assert labels == pytest.approx({"C1": -2, "C2": 0} if log else {"C1": 0.01, "C2": 1.0})


def test_scaling_draws_every_line_over_its_own_x_in_logarithms():
    series = {"a": {256: 1e-3, 512: 2e-3, 1024: 5e-3}, "bound": {256: 1e-4}}
    figure = figures.scaling(series, x_title="T", y_title="ms", dashed=["bound"])
    for trace, (name, points) in zip(figure.data, series.items(), strict=True):
        assert (trace.name, list(trace.x), list(trace.y)) == (
            name, list(points), list(points.values()),
        )  # fmt: skip
    assert [trace.mode for trace in figure.data] == ["lines+markers", "lines"]
    assert [trace.line.dash for trace in figure.data] == [None, "dash"]
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("T", "ms")


def test_bars_show_ranges_and_label_their_limits_in_place():
    values = {"ours": (1.0, 2.0, 2.5), "other": (9.0, 10.0, 30.0)}
    figure = figures.bars(values, x_title="ms", limits={"bound": 0.1, "fresh": 1.0})
    (bar,) = figure.data
    assert (list(bar.y), list(bar.x)) == (["ours", "other"], [2.0, 10.0])
    assert (list(bar.error_x.arrayminus), list(bar.error_x.array)) == ([1.0, 1.0], [0.5, 20.0])
    assert bar.marker.color[0] != bar.marker.color[1]
    assert (figure.layout.xaxis.type, figure.layout.yaxis.autorange) == ("log", "reversed")
    assert [shape.x0 for shape in figure.layout.shapes] == [0.1, 1.0]
    labels = {note.text: note.x for note in figure.layout.annotations}
    assert labels == pytest.approx({"bound": -1, "fresh": 0})


def test_accuracy_shows_every_seed_and_the_median_of_each_arm():
    runs = {"a": torch.tensor([[0.5, 0.1], [0.7, 0.2], [1.0, 0.9]]), "b": torch.zeros(1, 2)}
    figure = figures.accuracy(runs, x=[20, 80], levels={"chance": 0.125})
    drawn = [(t.name, np.round(t.y, 6).tolist()) for t in figure.data]
    assert drawn[:4] == [("a", pytest.approx(y)) for y in (*runs["a"].tolist(), [0.7, 0.2])]
    assert [name for name, _ in drawn] == ["a"] * 4 + ["b"] * 2
    assert [trace.line.width for trace in figure.data] == [1, 1, 1, 3, 1, 3]
    assert figure.layout.xaxis.type == "log"
    assert [shape.y0 for shape in figure.layout.shapes] == [0.125]


def test_positions_count_from_one_on_an_even_axis():
    figure = figures.accuracy({"a": torch.zeros(2, 9)})
    assert list(figure.data[0].x) == list(range(1, 10))
    assert figure.layout.xaxis.type is None


def test_transitions_are_drawn_against_the_unit_circle():
    spectra = {"r": torch.tensor([1j, -1j]), "s": torch.tensor([1 + 0j, -1])}
    figure = figures.transitions(spectra)
    assert [(t.name, list(t.x), list(t.y)) for t in figure.data] == [
        ("r", [0, 0], [1, -1]), ("s", [1, -1], [0, 0]),
    ]  # fmt: skip
    (circle,) = figure.layout.shapes
    assert (circle.type, circle.x0, circle.x1, circle.y0, circle.y1) == ("circle", -1, 1, -1, 1)


EVERY = {
    "lines": lambda: figures.lines({"a": series(3)}, title="t"),
    "losses": lambda: figures.losses({"a": series(1, 3).exp()}, title="t"),
    "eigenvalues": lambda: figures.eigenvalues(A, A_D, title="t"),
    "trajectories": lambda: figures.trajectories(complex_series(3, 2), title="t"),
    "recovered": lambda: figures.recovered({}, {"a": (series(2), series(2))}, title="t"),
    "strips": lambda: figures.strips({"a": series(2)}, y_title="loss", title="t", log=False),
    "scaling": lambda: figures.scaling({"a": {1: 2.0}}, title="t", x_title="T", y_title="ms"),
    "accuracy": lambda: figures.accuracy({"a": series(2, 3)}, title="t"),
    "transitions": lambda: figures.transitions({"a": complex_series(3)}, title="t"),
    "bars": lambda: figures.bars({"a": (1.0, 2.0, 3.0)}, title="t", x_title="ms"),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_figure_names_its_axes_and_travels_as_json(name):
    figure = EVERY[name]()
    assert figure.layout.title.text == "t"
    # strips and bars name their arms by labels, and stacked axes share the lowest title.
    shown = [*figure.select_yaxes(), *list(figure.select_xaxes())[-1:]]
    assert all(axis.title.text for axis in shown) or name in ("strips", "bars")
    assert go.Figure(json.loads(figure.to_json())) == figure


def test_recall_draws_every_seed_and_the_medians_over_bytes():
    curves = {"delta rule": {512: [0.9, 1.0, 0.5], 128: [0.2]}, "softmax attention": {640: [1.0]}}
    figure = figures.recall(curves, levels={"a guess": 1 / 32}, needed=4.8)
    assert list(figure.data[0].x) == [128, 512]
    assert list(figure.data[0].y) == [0.2, 0.9]
    assert list(zip(figure.data[1].x, figure.data[1].y, strict=True)) == [
        (128, 0.2), (512, 0.9), (512, 1.0), (512, 0.5),
    ]  # fmt: skip
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == list(curves)
    assert sorted(shape.x0 == 4.8 for shape in figure.layout.shapes) == [False, True]
    assert figure.layout.xaxis.type == "log"
