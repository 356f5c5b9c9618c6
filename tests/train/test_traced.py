"""A compiled form of losses and gradients: close to the eager one, or else the eager one itself."""

import functools
import math
import os
import re
import stat
import subprocess
import tempfile
import warnings

import pytest
import torch
from compilers import needs_compiler
from killed import Fragile, KilledError
from torch import nn
from training_cases import MIXERS

from lab.experiment.arms import Arm, training
from lab.mixers import OscDPLR
from lab.model import SequenceModel
from lab.scan import linear_scan, linear_scan_associative, torch_private
from lab.seeding import stream
from lab.tasks import KnownOscillators, WordProblem, groups
from lab.train import fit, fit_together, traced
from lab.train.side_by_side import SideBySide

SETTINGS = {"steps": 8, "batch": 3, "length": 6, "lr": 0.02, "device": "cpu"}
S3 = groups.symmetric(3)
WORDS = WordProblem(S3, S3.indices(groups.transpositions(3)))
OSCILLATORS = KnownOscillators.draw(1, stream(0, "task"))


@pytest.fixture(autouse=True)
def nothing_is_compiled_yet(monkeypatch):
    monkeypatch.setattr(traced, "_COMPILED", {})


@pytest.fixture
def graphs(monkeypatch):
    """Run graphs as they were traced, operation after operation; a list of them."""
    seen = []

    def keep(graph, inputs, folder):
        seen.append(graph)
        return graph

    monkeypatch.setattr(traced, "compile_graph", keep)
    return seen


class Decay(nn.Module):
    """A linear scan of the impulse, whose tensors and weights a test may share or change."""

    def __init__(self, seed=0, scale=1.0):
        super().__init__()
        g = stream(seed, "init")
        self.a = nn.Parameter(torch.rand(2, generator=g, dtype=torch.float64))
        self.c = nn.Parameter(torch.randn(2, 1, generator=g, dtype=torch.float64))
        self.scale = torch.tensor(scale, dtype=torch.float64)  # part of no state
        self.scan = linear_scan

    def middle(self, h):
        return h

    def forward(self, x, length):
        b = torch.cat([x, x.new_zeros(len(x), length - x.shape[1], 2)], dim=1)
        return self.scale * self.middle(self.scan(self.a.expand_as(b), b)) @ self.c


def words(kind, seed):
    g = stream(seed, "init")
    return SequenceModel(WORDS.vocabulary, WORDS.classes, 8, [MIXERS[kind](g)], generator=g)


def oscillators(seed):
    return OscDPLR(
        2, d_output=1, d_state=3, rank=1, dt=0.5, complex_io=True, generator=stream(seed, "init"),
        dtype=torch.float64,
    )  # fmt: skip


def train(build, count=2, task=OSCILLATORS, **settings):
    """Losses ["models steps"] and the parameters of all models in one row."""
    models = [build(seed) for seed in range(count)]
    histories = fit_together(models, [task] * count, seeds=range(count), **SETTINGS | settings)
    losses = torch.stack([history.loss for history in histories])
    ends = [p.detach().flatten() for model in models for p in model.parameters()]
    return losses, torch.cat(
        [torch.view_as_real(p).flatten() if p.is_complex() else p for p in ends]
    )


def is_eager(build, reason, **settings):
    """Assert that a training is eager to the last bit, and warns of that once."""
    expected = train(build, **settings)
    with pytest.warns(UserWarning, match="is trained eagerly") as caught:
        actual = train(build, compiled=True, **settings)
    (warning,) = caught
    assert re.search(
        rf"compiled=True, but \w+ is trained eagerly: .*{reason}", str(warning.message)
    )
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one, other)


# --- as eager ------------------------------------------------------------------------------------

OPTIONS = {
    "plain": {},
    "all": {
        "clip": 0.05, "schedule": "one-cycle", "skip_nonfinite": True, "length": [6, 4],
        "optimizer": functools.partial(torch.optim.AdamW, weight_decay=0.1),
    },
}  # fmt: skip
# Without the slots: in the graph of their softplus a gradient is viewed as it would lie in memory
# if torch's kernel left it as its tracer expects (see test_compiled.py), which inductor's does.
KINDS = {kind: (functools.partial(words, kind), WORDS) for kind in MIXERS if kind != "slots"}
KINDS |= {"oscillators": (oscillators, OSCILLATORS), "decay": (Decay, OSCILLATORS)}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_traced_graphs_train_as_eager_operations_do(graphs, kind, count, options):
    build, task = KINDS[kind]
    settings = {"count": count, "task": task, **OPTIONS[options]}
    expected, weights = train(build, **settings)
    actual, ends = train(build, compiled=True, **settings)
    # The first updates have the same bits; what follows differs by rounding.
    assert torch.equal(actual[:, : traced.EAGER], expected[:, : traced.EAGER])
    tolerance = 1e-4 if expected.dtype == torch.float32 else 1e-10
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=0)
    torch.testing.assert_close(ends, weights, rtol=0, atol=10 * tolerance)
    assert len(graphs) == (2 if options == "all" else 1)  # one for each length


@needs_compiler
def test_arms_of_one_shape_are_compiled_once_in_a_private_folder(monkeypatch, tmp_path):
    compiled = []

    def compile_graph(graph, inputs, folder):
        found = torch_private.compile_graph(graph, inputs, folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert any(folder.rglob("*.so"))
        compiled.append(folder)
        return found

    # With scales that are in both graphs, and in neither of them.
    builds = [functools.partial(Decay, scale=scale) for scale in (1.0, 2.0)]
    expected = [train(build) for build in builds]  # torch's optimisers make a folder at first
    monkeypatch.setattr(traced, "compile_graph", compile_graph)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = dict(os.environ)
    for build, (losses, weights) in zip(builds, expected, strict=True):
        actual, ends = train(build, compiled=True)
        torch.testing.assert_close(actual, losses, rtol=1e-10, atol=0)
        torch.testing.assert_close(ends, weights, rtol=0, atol=1e-10)
    (folder,) = compiled
    assert folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []
    assert dict(os.environ) == before


# --- eager after all -----------------------------------------------------------------------------


class Drawing(Decay):
    def middle(self, h):
        return nn.functional.dropout(h, 0.5)


class Branching(Decay):
    def middle(self, h):
        return h if self.a.sum() > 0 else -h


class Composing(Decay):
    """A scan whose form depends on its gains, of which a graph does not know."""

    def __init__(self, seed=0):
        super().__init__(seed)
        self.scan = linear_scan_associative


class Counting(Decay):
    steps = 0

    def middle(self, h):
        self.steps += 1
        return h if self.steps < 7 else -h


class Drifting(Decay):
    """A buffer that every call puts another in the place of."""

    def __init__(self, seed=0):
        super().__init__(seed)
        self.register_buffer("mean", torch.zeros(2, dtype=torch.float64))

    def middle(self, h):
        h = h - self.mean
        self.mean = 0.9 * self.mean + 0.1 * h.detach().mean((0, 1))
        return h


class Writing(Drifting):
    def middle(self, h):
        self.mean.mul_(0.9)
        return h - self.mean


OBSTACLES = {
    "random numbers": (Drawing, 1, {}, "draws random numbers"),
    "a branch on values": (Branching, 1, {}, "Data"),
    "a form by values": (Composing, 2, {}, "the values of its gains decide"),
    "a state": (Counting, 2, {}, "steps changes with every update"),
    "a new buffer": (Drifting, 2, {}, "changes buffers"),
    "a buffer": (Writing, 2, {}, "changes buffers"),
    "lengths": (Decay, 2, {"length": [6, 5, 4, 3, 2]}, "more than 4 different"),
    "a function": (Decay, 2, {"before_update": lambda step: None}, "before_update may change"),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_what_cannot_be_traced_is_eager_and_says_so_once(graphs, name):
    build, count, settings, reason = OBSTACLES[name]
    is_eager(build, reason, count=count, **settings)
    assert graphs == []


def test_where_the_compiler_fails_training_is_eager_and_asks_it_only_once(monkeypatch):
    asked = []

    def fail(graph, inputs, folder):
        asked.append(folder)
        raise RuntimeError("\nno such instruction\nand more")

    monkeypatch.setattr(traced, "compile_graph", fail)
    for _ in range(2):
        is_eager(Decay, "RuntimeError: no such instruction$")
    assert len(asked) == 1
    assert not asked[0].exists()


def test_a_compiler_that_was_killed_is_asked_again(monkeypatch):
    asked = []

    def kill(graph, inputs, folder):
        asked.append(folder)
        try:
            raise subprocess.CalledProcessError(-2, ["g++"])
        except subprocess.CalledProcessError as error:
            raise RuntimeError("no output") from error

    monkeypatch.setattr(traced, "compile_graph", kill)
    for _ in range(2):
        is_eager(Decay, "RuntimeError: no output$")
    assert len(asked) == 2


@pytest.mark.parametrize("good", range(traced.CHECKED))
@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_a_graph_that_computes_something_else_is_not_used(monkeypatch, wrong, good):
    """The loss, or one of two gradients, after some calls that were right."""

    def spoil(graph, inputs, folder):
        calls = []

        def call(*given):
            calls.append(1)
            found = list(graph(*given))
            found[wrong] = found[wrong] * (1 + 1e-5 * (len(calls) > good))
            return found

        return call

    monkeypatch.setattr(traced, "compile_graph", spoil)
    is_eager(Decay, "compiled losses are" if wrong == 0 else "compiled gradients differ")


def test_a_graph_that_fails_later_gives_way_to_the_eager_form(monkeypatch):
    def break_down(graph, inputs, folder):
        calls = []

        def call(*given):
            calls.append(1)
            if len(calls) > traced.CHECKED:
                raise RuntimeError("a matrix is singular")
            return graph(*given)

        return call

    monkeypatch.setattr(traced, "compile_graph", break_down)
    is_eager(Decay, "RuntimeError: a matrix is singular$")


def test_a_loss_that_is_not_finite_stops_the_training_as_before(graphs):
    with pytest.raises(FloatingPointError, match="the loss of seed 0 is nan at update 0"):
        train(functools.partial(Decay, scale=math.nan), compiled=True)
    assert graphs == []


def test_gradients_have_memory_of_their_own(monkeypatch):
    """Compilers return an input where it is a gradient, and one tensor where two are alike."""
    monkeypatch.setattr(
        traced, "compile_graph", lambda *_: lambda a, c, *rest: [torch.zeros(1), c, c]
    )
    run = SideBySide([Decay()], [OSCILLATORS], [0], torch.device("cpu"))
    examples = run.draw(2, 4)
    _, (first, second) = traced._Program(run, examples)(run, examples)
    places = {tensor.data_ptr() for tensor in (first, second, *run.parameters.values())}
    assert len(places) == 4


# --- settings and checkpoints --------------------------------------------------------------------


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_the_setting_is_true_or_false(value):
    with pytest.raises(ValueError, match=rf"fit: compiled is {value!r}; it must be True or False"):
        fit(Decay(), OSCILLATORS, seed=0, compiled=value, **SETTINGS)


def test_an_arm_may_be_compiled_and_its_recipe_not(graphs):
    recipe = {**SETTINGS, "compiled": False}
    for arm, count in (
        (Arm(lambda task, seed: Decay(seed)), 0),
        (Arm(lambda task, seed: Decay(seed), compiled=True), 1),
    ):
        training(arm, OSCILLATORS, recipe, [0, 1]).call()
        assert len(graphs) == count


@pytest.mark.parametrize("killed_at", [1, 2, 5])
def test_a_killed_training_ends_with_the_same_numbers(graphs, tmp_path, killed_at):
    expected = train(Decay, compiled=True, length=[6, 4])
    path = tmp_path / "run.safetensors"
    settings = {"compiled": True, "length": [6, 4], "checkpoint": path, "checkpoint_seconds": 0.0}

    with pytest.raises(KilledError):
        train(Decay, task=Fragile(OSCILLATORS, 2 * killed_at), **settings)
    found = train(Decay, task=Fragile(OSCILLATORS), **settings)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_an_eager_training_does_not_go_on_compiled(graphs, tmp_path):
    path = tmp_path / "run.safetensors"
    train(Decay, checkpoint=path)
    with pytest.raises(ValueError, match="compiled is None there and True here"):
        train(Decay, checkpoint=path, compiled=True)


def test_nothing_warns_where_nothing_is_compiled():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(Decay, compiled=False)
