"""Targets, states and eigenvalues: panels show what tasks and models say of themselves."""

import plotly.graph_objects as go
import pytest
import torch

from lab.memories import GatedLinearAttention, LinearAttention
from lab.mixers import MultiHead, OscDPLR
from lab.model import SequenceModel
from lab.plots import figures, looks, panels
from lab.seeding import stream
from lab.tasks import KnownOscillators, Recall, WordProblem, groups

Z4 = WordProblem(groups.cyclic(4), range(4))


def model(seed, memory=LinearAttention, layers=2):
    generator = torch.Generator().manual_seed(seed)
    mixers = [
        MultiHead(8, memory(8, heads=2, d_key=4, d_value=4), generator=generator)
        for _ in range(layers)
    ]
    return SequenceModel(4, 4, 8, mixers, generator=generator)


def oscillator():
    generator = torch.Generator().manual_seed(0)
    return OscDPLR(
        2, d_output=1, d_state=1, rank=0, complex_io=True, generator=generator, dtype=torch.float64
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _new_looks():
    looks.reset()


def drawn(panel, **moved):
    """The figure with some controls moved from where they start."""
    return panel.drawn({name: c.value for name, c in panel.controls.items()} | moved)


def test_targets_of_tokens_are_cells_of_input_over_target():
    panel = panels.targets(Z4, length=6, rows=("letter", "product"), symbols=list("wxyz"))
    inputs, targets, _ = Z4.sample(20, 6, stream(0, "panel"))
    (cells,) = drawn(panel, sequence=3).data
    for row, values in zip(cells.text, (inputs[3], targets[3]), strict=True):
        assert list(row) == ["wxyz"[i] for i in values]


def test_a_step_of_which_nothing_is_asked_has_an_empty_target():
    task = Recall(pairs=2, queries=1, symbols=4)
    (cells,) = panels.targets(task, length=task.length).default().data
    mask = task.sample(20, task.length, stream(0, "panel")).mask[0]
    assert [bool(text) for text in cells.text[1]] == mask.tolist()


def test_several_tasks_are_a_choice_with_their_own_lengths_and_symbols():
    tasks = {"one": Z4, "other": WordProblem(groups.cyclic(3), range(3))}
    panel = panels.targets(tasks, length={"one": 5, "other": 7},
                           symbols={"one": list("abcd"), "other": list("xyz")})  # fmt: skip
    assert list(panel.controls["task"].options) == ["one", "other"]
    for name, length, symbols in (("one", 5, "abcd"), ("other", 7, "xyz")):
        (cells,) = drawn(panel, task=name).data
        assert len(cells.text[0]) == length
        assert set(cells.text[0]) <= set(symbols)


def test_targets_of_numbers_are_curves_and_silence_follows_a_short_input():
    task = KnownOscillators.draw(1, stream(0, "oscillators"))
    batch = task.sample(20, 30, stream(0, "panel"))
    *inputs, target = drawn(panels.targets(task, length=30), sequence=7).data
    assert target.y == pytest.approx(batch.targets[7, :, 0].numpy(), abs=1e-6)
    for channel, trace in enumerate(inputs):
        assert trace.y[0] == pytest.approx(batch.inputs[7, 0, channel].item(), abs=1e-6)
        assert not any(trace.y[1:])


def test_states_are_those_of_the_model_seed_layer_and_sequence_chosen():
    models = {"a": [model(0), model(1)], "b": [model(2), model(3)]}
    words = panels.examples(Z4, length=5)
    panel = panels.states(models, words)
    assert list(panel.controls) == ["model", "seed", "layer", "sequence"]
    figure = drawn(panel, model="b", seed=1, layer=2, sequence=4)
    h = models["b"][1].states(words[[4]], 1)[0].flatten(1).detach()
    assert figure.data[2].y == pytest.approx(h[:, 2].numpy(), abs=1e-6)
    assert figure.layout.title.text.startswith("b: ")


def test_a_single_model_of_one_layer_has_no_choice_of_them():
    x = panels.examples(KnownOscillators.draw(1, stream(0, "oscillators")), length=9)
    assert x.shape[:2] == (20, 9)
    assert list(panels.states(oscillator(), x).controls) == ["sequence"]
    assert list(panels.eigenvalues(oscillator(), x).controls) == ["step", "sequence"]


def test_what_is_special_goes_in_as_a_function():
    seen = []

    def draw(h, model, power):
        seen.append((tuple(h.shape), model, power))
        return figures.lines(
            {"size": h.flatten(1).norm(dim=1) ** power}, x_title="t", y_title="|h|"
        )

    panel = panels.states({"a": model(0, layers=1)}, panels.examples(Z4, length=5), draw=draw,
                          power=panels.Slider("power", 1, 1, 3, 1), title="size")  # fmt: skip
    figure = drawn(panel, power=2)
    assert figure.layout.title.text == "a: size"
    assert seen == [(tuple(model(0).states(torch.zeros(1, 5, dtype=int)).shape[1:]), "a", 2)]


def test_inputs_may_depend_on_the_model_and_on_controls():
    def inputs(model, token):
        return torch.full((20, {"short": 3, "long": 6}[model]), int(token))

    models = {"short": model(0, layers=1), "long": model(1, layers=1)}
    panel = panels.states(models, inputs, token=panels.Slider("token", 0, 0, 3, 1))
    assert len(drawn(panel, model="short").data[0].y) == 3
    figure = drawn(panel, model="long", token=3)
    h = models["long"].states(torch.full((1, 6), 3))[0].flatten(1).detach()
    assert figure.data[0].y == pytest.approx(h[:, 0].numpy(), abs=1e-6)


@pytest.mark.parametrize("memory", [LinearAttention, GatedLinearAttention])
def test_gains_of_memories_stand_on_the_axes_of_the_unit_circle(memory):
    one, words = model(0, memory, layers=1), panels.examples(Z4, length=5)
    panel = panels.eigenvalues(one, words)
    assert panel.controls["step"].play
    figure = drawn(panel, step=3, sequence=2)
    gains = one.eigenvalues(words[[2]])[0].detach()
    assert [trace.name for trace in figure.data] == ["step 3", "all steps"]
    assert figure.data[0].x == pytest.approx(gains[3].flatten().real.numpy(), abs=1e-6)
    assert max(figure.data[1].x) == pytest.approx(gains.real.max().item(), abs=1e-3)
    (circle,) = figure.layout.shapes
    assert (circle.type, circle.x0, circle.x1) == ("circle", -1, 1)
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert axis.range[0] < -1 < 1 < axis.range[1]


def test_an_eigenvalue_outside_the_circle_is_on_the_axes():
    figure = panels.eigenvalues(model(0), spectra=lambda chosen: {"growing": torch.tensor([3j])})
    assert figure.default().layout.yaxis.range[1] > 3


def test_spectra_are_of_the_model_and_the_controls_chosen():
    def spectra(chosen, model, token):
        return {f"{model}, {int(token)}": chosen.embedding[int(token), :1]}

    models = {"a": [model(0), model(1)], "b": [model(2), model(3)]}
    panel = panels.eigenvalues(models, spectra=spectra, token=panels.Slider("token", 0, 0, 3, 1))
    assert list(panel.controls) == ["model", "seed", "token"]
    (trace,) = drawn(panel, model="b", seed=1, token=2).data
    assert trace.name == "b, 2"
    assert trace.x[0] == pytest.approx(models["b"][1].embedding[2, 0].item(), abs=1e-6)


def test_what_there_is_nothing_to_draw_of_is_refused():
    with pytest.raises(ValueError, match="targets needs a task"):
        panels.targets()
    with pytest.raises(ValueError, match="eigenvalues needs models"):
        panels.eigenvalues(model(0))


class Training:
    """What a training with two snapshots has kept."""

    def __init__(self, models):
        self.watched = {"eigenvalues": torch.stack([panels.by_token(each) for each in models])}
        self.watched_at = [0, 40]


def test_eigenvalues_of_every_token_are_those_that_the_model_has_for_it():
    found = panels.by_token(gated := model(0, GatedLinearAttention))
    assert found.shape[0] == 4
    token = gated.eigenvalues(torch.tensor([[2]]))[0, 0].flatten()
    torch.testing.assert_close(found[2], token)


def test_eigenvalues_in_training_go_from_the_first_snapshot_to_the_last():
    gated = [model(seed, GatedLinearAttention) for seed in range(2)]
    panel = panels.in_training({"gla": [Training(gated)]}, symbols={"gla": list("wxyz")})
    assert list(panel.controls) == ["one", "other", "training"]
    for part, which, updates in ((0, 0, 0), (100, 1, 40)):
        figure = drawn(panel, training=part, one=3, other=1)
        assert [trace.name for trace in figure.data] == ["z", "x"]
        expected = panels.by_token(gated[which])[3].to(torch.complex64)
        assert figure.data[0].x.tolist() == pytest.approx(expected.real.tolist())
        assert figure.layout.title.text == f"gla: eigenvalues after {updates} updates"


def test_what_was_watched_in_training_can_be_drawn_in_another_way():
    arms = {name: [Training([model(seed)] * 2) for seed in (0, 1)] for name in ("a", "b")}
    panel = panels.in_training(
        arms, draw=lambda seen, at: go.Figure(layout={"title": {"text": f"{list(seen)} {at}"}})
    )
    assert list(panel.controls) == ["model", "seed", "training"]
    assert drawn(panel, model="b", training=100).layout.title.text == "['eigenvalues'] 1"
    unnamed = panels.in_training(arms, draw=lambda seen, at: go.Figure())
    title = unnamed.default().layout.title.text
    assert title.startswith("a: eigenvalues after ")


def test_a_training_that_was_not_watched_is_named():
    blind = Training([model(0)])
    blind.watched = {}
    with pytest.raises(ValueError, match="gla: nothing was watched as 'eigenvalues'"):
        panels.in_training({"gla": [blind]})
