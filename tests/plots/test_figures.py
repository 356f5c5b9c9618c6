"""Figures carry the numbers they were given, and mark what a reader has to see."""

import json

import figure_cases
import numpy as np
import plotly.graph_objects as go
import pytest
import structure_cases
import torch
from figure_cases import CASES

from lab.plots import figures, looks
from lab.plots.arrange import spread
from lab.plots.fit import fit
from lab.statistics import Interval


@pytest.fixture(autouse=True)
def fresh():
    looks.reset()


def series(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def complex_series(*shape, seed=0):
    return torch.complex(series(*shape, seed=seed), series(*shape, seed=seed + 1))


def assert_same(values, tensor):
    """Whether values are equal in single precision, in which figures are drawn."""
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
    assert [trace.line.dash for trace in figure.data] == ["solid", "dash"]
    assert figure.data[1].line.color == figures.GREY
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("t, s", "u, V")


def test_lines_count_steps_from_zero_and_take_gradients_along():
    values = series(4).requires_grad_()
    figure = figures.lines({"a": values}, x_title="step", y_title="y", log=True)
    assert list(figure.data[0].x) == [0, 1, 2, 3]
    assert_same(figure.data[0].y, values.detach())
    assert figure.layout.yaxis.type == "log"


def test_bands_go_round_their_intervals_and_are_inside_the_axis():
    found = {
        "do": [Interval(1, 0, 3), Interval(2, 1.5, 2.5)],
        "placebo": [Interval(0, -1, 1), Interval(1, 0, 4)],
    }
    figure = figures.bands(found, x=[0.1, 0.9], x_title="r", y_title="y", dashed=["placebo"])
    line, band = named(figure, "do")
    assert_same(line.y, torch.tensor([1.0, 2.0]))
    assert_same(band.x, torch.tensor([0.1, 0.9, 0.9, 0.1]))
    assert_same(band.y, torch.tensor([0, 1.5, 2.5, 3]))
    assert (band.fillcolor, band.mode) == (line.line.color, "none")
    assert named(figure, "placebo")[1].fillcolor == figures.GREY
    low, high = figure.layout.yaxis.range
    assert low < -1
    assert high > 4


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
    assert [(line.y0, line.y1, line.xref) for line in figure.layout.shapes] == [
        (0.25, 0.25, "x domain"), (0.01, 0.01, "x domain"),
    ]  # fmt: skip
    # Their labels stand right of the plot, at places that plotly takes as exponents.
    labels = {note.text: note for note in figure.layout.annotations}
    assert {text: note.y for text, note in labels.items()} == pytest.approx(
        {"noise": np.log10(0.25), "bias": -2}
    )
    assert {(note.x, note.xanchor, note.xref) for note in labels.values()} == {
        (1, "left", "x domain")
    }
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


def test_heatmaps_have_steps_along_x_and_white_at_zero_where_there_are_signs():
    h = series(7, 3)
    figure = figures.heatmaps({"h": h, "|h|": h.abs()})
    for trace, values in zip(figure.data, (h, h.abs()), strict=True):
        assert_same(np.asarray(trace.z).T.ravel(), values)
    layout = figure.layout
    assert (layout.coloraxis.cmid, layout.coloraxis2.cmid) == (0, None)
    assert [each.text for each in layout.annotations] == ["h", "|h|"]
    # A bar stands beside its own map, and before the next one begins.
    assert layout.xaxis.domain[1] < layout.coloraxis.colorbar.x < layout.xaxis2.domain[0]


def test_matrices_have_their_first_row_on_top_and_frames_where_asked():
    A, mask = series(4, 3) - 0.5, torch.eye(4, 3, dtype=torch.bool)
    figure = figures.matrices({"A": A, "its mask": mask, "turned": A * 1j}, outline=mask)
    for trace, values in zip(figure.data, (A, mask.double(), A.abs()), strict=True):
        assert_same(np.asarray(trace.z).ravel(), values)
        assert trace.coloraxis == "coloraxis"
    assert {figure.layout[axis].range for axis in ("yaxis", "yaxis2")} == {(3.5, -0.5)}
    assert {figure.layout[axis].range for axis in ("xaxis", "xaxis2")} == {(-0.5, 2.5)}
    frames = [(each.x0, each.y0, each.xref) for each in figure.layout.shapes]
    assert frames == [(i - 0.5, i - 0.5, x) for x in ("x", "x2", "x3") for i in range(3)]
    assert figure.layout.coloraxis.cmid == 0
    assert figures.matrices({"mask": mask}).layout.coloraxis.cmid is None


@pytest.mark.parametrize("case", structure_cases.CASES, ids=lambda case: case.name)
def test_any_structure_is_drawn_as_its_dense_matrix(case):
    A, batch = (
        case.build(*case.draw(structure_cases.stream_of(0), batch, *case.sizes[-1]))
        for batch in ((), (2,))
    )
    dense, n = A.to_dense(), len(A.to_dense())
    figure = figures.matrices({"structure": A, "dense": dense})
    assert len(figure.data) == 2
    for trace in figure.data:
        assert_same(np.asarray(trace.z).ravel(), dense.abs() if dense.is_complex() else dense)
    with pytest.raises(ValueError, match=rf"shape \(2, {n}, {n}\) is no matrix; pass one of them"):
        figures.matrices({"a batch": batch})


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
    figure = figures.strips(values, y_title="error", limits={"C1": 0.01, "C2": 1.0}, log=log)
    for place, (trace, points) in enumerate(zip(figure.data, values.values(), strict=True)):
        assert_same(trace.y, points)
        assert (abs(np.asarray(trace.x) - place) < 0.4).all()
    assert figure.layout.xaxis.ticktext == ("one, two", "three")
    assert {shape.y0 for shape in figure.layout.shapes} == {0.01, 1.0}
    # On a log axis plotly takes the height of a line in data units, that of a text as exponent.
    labels = {note.text: note.y for note in figure.layout.annotations}
    assert labels == pytest.approx({"C1": -2, "C2": 0} if log else {"C1": 0.01, "C2": 1.0})


def test_equal_points_of_a_strip_stand_side_by_side():
    figure = figures.strips({"a": torch.ones(5), "b": torch.tensor([0.0, 1.0])}, y_title="y",
                            log=False)  # fmt: skip
    assert len(set(figure.data[0].x)) == 5
    assert np.mean(figure.data[0].x) == pytest.approx(0, abs=1e-6)
    assert list(figure.data[1].x) == [1, 1]  # those that are apart keep their place


def test_rows_take_the_place_of_columns_where_names_are_long():
    values = {f"an arm with a long name and the number {i}": series(3, seed=i) for i in range(9)}
    figure = figures.strips(values, y_title="error", log=False, limits={"bound": 0.5})
    for place, (trace, points) in enumerate(zip(figure.data, values.values(), strict=True)):
        assert_same(trace.x, points)
        assert (abs(np.asarray(trace.y) - place) < 0.4).all()
    assert [text.replace("<br>", " ") for text in figure.layout.yaxis.ticktext] == list(values)
    assert figure.layout.yaxis.range == (8.5, -0.5)  # from the top down
    assert figure.layout.xaxis.title.text == "error"
    assert figure.layout.shapes[0].x0 == 0.5


@pytest.mark.parametrize("arms", [3, 14])
def test_seeds_that_solve_a_task_or_do_not_are_counted(arms):
    values = {f"an arm with a long name {i}": torch.tensor([1.0, 0.2, 0.96]) for i in range(arms)}
    figure = figures.strips(values, y_title="accuracy", log=False, solved=0.95)
    counts = [note.text.replace("<br>", " ") for note in figure.layout.annotations]
    assert counts.count("2 of 3 solved") == arms
    assert "solved: 0.95" in counts
    runs = {"a": torch.tensor([[1.0, 0.5], [0.3, 0.5]]), "b": torch.ones(2, 2)}
    names = [t.name for t in figures.accuracy(runs, solved=0.95).data if t.showlegend]
    assert names == ["a (1 of 2 solved)", "b (2 of 2 solved)"]


def test_groups_of_a_strip_stand_beside_each_other_in_their_looks():
    values = {kind: {f"seed {s}": series(4, seed=s) for s in (0, 1)} for kind in ("key", "value")}
    figure = figures.strips(values, y_title="gate", log=False)
    assert [(t.name, t.showlegend) for t in figure.data] == [
        ("seed 0", True), ("seed 1", True), ("seed 0", False), ("seed 1", False),
    ]  # fmt: skip
    assert [round(float(np.mean(t.x)), 3) for t in figure.data] == [-0.2, 0.2, 0.8, 1.2]
    assert figure.data[0].marker.color == figure.data[2].marker.color
    assert figure.data[0].marker.color != figure.data[1].marker.color


def test_an_arm_of_other_figures_has_its_look_in_strips():
    look = looks.of(["x", "LinOSS"])["LinOSS"]
    figure = figures.strips({"LinOSS, 128 steps": series(3), "bound": series(3)}, y_title="y",
                            log=False)  # fmt: skip
    assert (figure.data[0].marker.color, figure.data[0].marker.symbol) == (look.colour, look.marker)
    assert figure.data[1].marker.color == figures.COLOURS[0]


def test_scaling_draws_every_line_over_its_own_x_in_logarithms():
    series = {"a": {256: 1e-3, 512: 2e-3, 1024: 5e-3}, "bound": {256: 1e-4}}
    figure = figures.scaling(series, x_title="T", y_title="ms", dashed=["bound"])
    for trace, (name, points) in zip(figure.data, series.items(), strict=True):
        assert (trace.name, list(trace.x), list(trace.y)) == (
            name, list(points), list(points.values()),
        )  # fmt: skip
    assert [trace.mode for trace in figure.data] == ["lines+markers", "lines"]
    assert [trace.line.dash for trace in figure.data] == ["solid", "dash"]
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("T", "ms")


def test_ranges_are_points_and_label_their_limits_in_place():
    values = {"ours": (1.0, 2.0, 2.5), "other": (9.0, 10.0, 30.0)}
    figure = figures.ranges(values, x_title="ms", limits={"bound": 0.1, "fresh": 1.0})
    (trace,) = figure.data
    assert (trace.type, trace.mode) == ("scatter", "markers")  # a bar on a log axis starts nowhere
    assert (list(trace.x), list(trace.y)) == ([2.0, 10.0], [0, 1])
    assert figure.layout.yaxis.ticktext == ("ours", "other")
    assert figure.layout.yaxis.range == (1.5, -0.5)
    assert (list(trace.error_x.arrayminus), list(trace.error_x.array)) == ([1.0, 1.0], [0.5, 20.0])
    assert trace.marker.color[0] != trace.marker.color[1]
    assert figure.layout.xaxis.type == "log"
    assert [shape.x0 for shape in figure.layout.shapes] == [0.1, 1.0]
    labels = {note.text: note.x for note in figure.layout.annotations}
    assert labels == pytest.approx({"bound": -1, "fresh": 0})


def test_accuracy_shows_every_seed_and_the_median_of_each_arm():
    runs = {"a": torch.tensor([[0.5, 0.1], [0.7, 0.2], [1.0, 0.9]]), "b": torch.zeros(1, 2)}
    figure = figures.accuracy(runs, x=[20, 80], levels={"chance": 0.125})
    drawn = [(t.name, np.round(t.y, 6).tolist()) for t in figure.data]
    assert drawn[:4] == [("a", pytest.approx(y)) for y in (*runs["a"].tolist(), [0.7, 0.2])]
    assert [name for name, _ in drawn] == ["a"] * 4 + ["b"] * 2
    assert [trace.line.width for trace in figure.data] == [1, 1, 1, 2, 1, 2]
    assert [t.opacity for t in figure.data] == [0.4, 0.4, 0.4, None, 0.4, None]
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


@pytest.mark.parametrize("name", CASES)
def test_every_figure_names_its_axes_and_travels_as_json(name):
    figure = CASES[name]()
    assert figure.layout.title.text or name in ("bars", "boxes")
    named = {way: [axis.title.text for axis in getattr(figure, f"select_{way}axes")()
                   if axis.title.text] for way in "xy"}  # fmt: skip
    # Axes of words need no name: arms, rows of cells, kinds of tokens.
    words = {"strips 4": "x", "strips 14": "y", "groups": "x", "errors": "x", "ranges": "y",
             "slopes": "x", "intervals": "y", "word": "y", "copying": "y",
             "attention": "xy"}  # fmt: skip
    assert all(named[way] for way in "xy" if way not in words.get(name, ""))
    assert go.Figure(json.loads(figure.to_json())) == figure


def test_axes_have_to_be_named():
    with pytest.raises(TypeError, match="x_title"):
        figures.lines({"a": series(3)}, y_title="singular value")


@pytest.mark.parametrize("draw", ["lines", "losses", "accuracy", "scaling", "recall"])
@pytest.mark.parametrize("count", [6, 7, 10, 11, 14])
def test_few_arms_have_a_legend_more_have_labels_and_many_a_plot_each(draw, count):
    figure = getattr(figure_cases, draw)(count)
    names = figure_cases.ARMS[:count]
    notes = [note.text.replace("<br>", " ") for note in figure.layout.annotations]
    labelled = [name for name in names if any(note.endswith(f" {name}") for note in notes)]
    planes = {(t.xaxis or "x", t.yaxis or "y") for t in figure.data}
    if count <= 6:
        assert (figure.layout.showlegend, labelled, len(planes)) == (True, [], 1)
        assert {t.name for t in figure.data if t.showlegend} >= set(names)
    else:
        assert (figure.layout.showlegend, labelled) == (False, names)
        assert len(planes) == (1 if count <= 10 else count)
    if count > 10:  # all over the same axes
        assert all(axis.matches == "x" for axis in list(figure.select_xaxes())[1:])
        assert all(axis.matches == "y" for axis in list(figure.select_yaxes())[1:])


@pytest.mark.parametrize("seed", range(20))
def test_labels_that_would_overlap_move_apart_and_keep_their_order(seed):
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, 12))
    wanted, heights = generator.normal(100, 60, count), generator.choice([14.0, 28.0], count)
    places = spread(wanted, heights, 300)
    order = np.argsort(wanted, kind="stable")
    gaps = np.diff(places[order]) - (heights[order][1:] + heights[order][:-1]) / 2
    assert (gaps > -1e-9).all()
    if heights.sum() <= 300:
        assert (places - heights / 2 > -1e-9).all()
        assert (places + heights / 2 < 300 + 1e-9).all()
    far = np.arange(count) * 40.0 + 20  # those that do not overlap stay
    np.testing.assert_allclose(spread(far, np.full(count, 14.0), 600), far)


def test_a_change_after_the_fact_is_fitted_again_and_what_was_set_by_hand_stays():
    figure = figures.losses({"a": series(1, 5).exp()}, title="Short")
    before = figure.layout.height, figure.layout.margin.t, figure.layout.margin.b
    figure.add_scatter(x=[1], y=[1], name="another").update_layout(title_text="A long title " * 14,
                                                                   showlegend=True)  # fmt: skip
    fit(figure)
    assert figure.layout.title.text.count("<br>") == 2
    assert (figure.layout.height, figure.layout.margin.t, figure.layout.margin.b) > before
    assert figure.layout.margin.t > before[1]
    assert figure.layout.margin.b > before[2]
    again = figure.to_json()
    assert fit(figure).to_json() == again
    figure.update_layout(height=500, margin={"l": 111})
    fit(fit(figure))
    assert (figure.layout.height, figure.layout.margin.l) == (500, 111)


def test_every_pair_is_a_line_and_the_last_is_their_mean():
    pairs = {"a": (torch.tensor([0.1, 0.5]), torch.tensor([0.2, 0.4])),
             "b": (torch.tensor([1.0]), torch.tensor([0.0]))}  # fmt: skip
    figure = figures.slopes(pairs, ends=("without", "with"), levels={"chance": 0.3})
    lines = [[round(float(y), 6) for y in trace.y] for trace in figure.data]
    assert lines == [[0.1, 0.2], [0.5, 0.4], [0.3, 0.3], [1, 0], [1, 0]]
    assert [trace.line.width for trace in figure.data] == [1, 1, 4, 1, 4]
    assert figure.layout.xaxis.ticktext == ("a<br>without → with", "b<br>without → with")
    assert figure.layout.shapes[0].y0 == 0.3


def test_an_interval_clear_of_zero_looks_different():
    differences = {"up": torch.tensor([1.0, 3.0]), "null": torch.tensor([-1.0, 1.0])}
    found = {"up": Interval(2, 1, 3), "null": Interval(0, -1, 1)}
    figure = figures.intervals(differences, found, x_title="points")
    *dots, means = figure.data
    assert [list(map(float, trace.x)) for trace in dots] == [[1, 3], [-1, 1]]
    np.testing.assert_array_equal(means.x, [2, 0])
    np.testing.assert_array_equal(means.error_x.array, [1, 1])
    assert list(means.marker.color) == [figures.COLOURS[1], figures.COLOURS[0]]
    assert list(means.marker.symbol) == ["diamond", "circle"]
    assert figure.layout.yaxis.ticktext == ("up", "null")


def test_recall_draws_every_seed_and_the_medians_over_bytes():
    curves = {"delta rule": {512: [0.9, 1.0, 0.5], 128: [0.2]}, "softmax attention": {640: [1.0]}}
    figure = figures.recall(curves, levels={"a guess": 1 / 32}, needed=4.8)
    assert list(figure.data[1].x) == [128, 512]
    assert list(figure.data[1].y) == [0.2, 0.9]
    assert list(zip(figure.data[0].x, figure.data[0].y, strict=True)) == [
        (128, 0.2), (512, 0.9), (512, 1.0), (512, 0.5),
    ]  # fmt: skip
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == list(curves)
    assert sorted(shape.x0 == 4.8 for shape in figure.layout.shapes) == [False, True]
    assert figure.layout.xaxis.type == "log"
