"""Trainings of the notebooks, one arm of each, as a script that also runs on older commits.

`lab.benchmark.updates` starts it with another checkout of `lab` on the path. It therefore uses
nothing that only the current `lab` has, and calls what has been renamed by the name at hand.
"""

import inspect
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn

import lab.memories as memories
import lab.mixers as mixers
import lab.transitions as transitions
from lab.benchmark import recall_curve
from lab.mixers import MultiHead, OscillatorBank, StateSpace
from lab.model import SequenceModel, SwiGLU
from lab.seeding import stream
from lab.tasks import IndexedCopying, Recall, SelectiveCopying, WordProblem, groups
from lab.train import fit_together

WARM_UP = 3  # updates in which kernels are compiled and memory is touched for the first time


@dataclass(frozen=True)
class Training:
    """One arm of a notebook: what `fit_together` is given, except for the number of updates.

    Attributes:
        build: called with a seed; returns a model.
        task: for all models.
        seeds: number of models that train side by side.
        batch, length, lr, skip: settings of `fit_together`.
        weight_decay: of AdamW.
    """

    build: Callable[[int], nn.Module]
    task: Any
    seeds: int
    batch: int
    length: int
    lr: float
    weight_decay: float = 0.01
    skip: bool = True


class Timed:
    """The same task, which notes when it is asked for examples, and the processor's time then."""

    def __init__(self, task: Any) -> None:
        self.task, self.loss = task, task.loss
        self.times: list[float] = []
        self.used: list[float] = []

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Any:
        """The examples of the task."""
        self.times.append(time.perf_counter())
        self.used.append(time.process_time())
        return self.task.sample(batch, length, generator)


# --- models --------------------------------------------------------------------------------------


def _renamed(module: Any, now: str, then: str) -> Any:
    """What a module has under its present or its earlier name."""
    return getattr(module, now if hasattr(module, now) else then)


def _memory(name: str, width: int, **settings: Any) -> Any:
    """A memory by its class, which has not always been told the width of the model."""
    kind = getattr(memories, name)
    if "d_model" in inspect.signature(kind).parameters:
        settings["d_model"] = width
    return kind(**settings)


def _sequence_model(task: Any, width: int, layers: Sequence[Any], **settings: Any) -> nn.Module:
    return SequenceModel(task.vocabulary, task.classes, width, layers, **settings)


def _displacement_rank(task: Any, seed: int) -> nn.Module:
    g = stream(seed, "init")
    transition = transitions.DisplacementRank(64, d_state=16, rank=4, generator=g)
    mixer = StateSpace(
        64, transition, drive=False, readout_bias=False, learn_initial=True, skip=True, generator=g
    )
    return _sequence_model(task, 64, [mixer], norm="layer", generator=g)


def _monarch(task: Any, seed: int) -> nn.Module:
    g = stream(seed, "init")
    mixer = StateSpace(64, transitions.MonarchID(64, d_state=64, generator=g), generator=g)
    channels = [SwiGLU(64, 170, generator=g)]
    return _sequence_model(task, 64, [mixer], channels=channels, generator=g)


def _osc_gate(task: Any, seed: int) -> nn.Module:
    g = stream(seed, "init")
    old = "oscillators" in inspect.signature(transitions.OscGate).parameters
    size: dict[str, Any] = {"oscillators": 64} if old else {"d_state": 128}
    layers = [
        OscillatorBank(32, transitions.OscGate(32, generator=g, **size), generator=g)
        for _ in range(2)
    ]
    channels = [SwiGLU(32, 43, generator=g) for _ in layers]
    return _sequence_model(task, 32, layers, channels=channels, generator=g)


def _levels(task: Any, seed: int) -> nn.Module:
    g = stream(seed, "init")
    kind = _renamed(memories, "LogLinearAttention", "FenwickAttention")

    def layer(favoured: int | None) -> nn.Module:
        inner = _memory("CosFormer", 32, heads=2, d_key=16, d_value=16, horizon=128)
        memory = kind(32, inner, levels=9, favoured=favoured, generator=g)
        return MultiHead(32, memory, bias=True, generator=g)

    layers = [layer(None), layer(None)]
    channels = [SwiGLU(32, 128, generator=g) for _ in layers]
    return _sequence_model(task, 32, layers, channels=channels, positions=128, generator=g)


def _recall(mixer: Callable[[torch.Generator], nn.Module], task: Any, seed: int) -> nn.Module:
    g = stream(seed, "init")
    layers = [mixer(g), mixer(g)]
    channels = [SwiGLU(32, 64, generator=g) for _ in layers]
    return _sequence_model(
        task, 32, layers, channels=channels, norm="layer", positions=49, generator=g
    )


def _gla(g: torch.Generator) -> nn.Module:
    memory = _memory("GatedLinearAttention", 32, heads=2, d_key=8, generator=g)
    return MultiHead(32, memory, convolution=3, norm=True, gate="elementwise", generator=g)


def _selective(g: torch.Generator) -> nn.Module:
    kind = _renamed(mixers, "Mamba", "SelectiveDiagonal")
    layer: nn.Module = kind(32, d_state=16, convolution=3, gate="elementwise", generator=g)
    return layer


def _slots(task: Any, seed: int) -> nn.Module:
    g = stream(seed, "init")

    def layer() -> nn.Module:
        settings = {"heads": 4, "d_key": 16, "d_value": 16, "decay": 0.018, "generator": g}
        return MultiHead(64, _memory("SoftSlots", 64, **settings), generator=g)

    def channel() -> nn.Module:
        return nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))

    layers, channels = [layer(), layer()], [channel(), channel()]
    settings = {"channels": channels, "positions": 32, "norm": "layer", "generator": g}
    return _sequence_model(task, 64, layers, **settings)


def _delta(_: Any, seed: int) -> nn.Module:
    def layer(g: torch.Generator) -> nn.Module:
        memory = _memory("DeltaRule", 32, heads=2, d_key=16, d_value=16, generator=g)
        return MultiHead(32, memory, convolution=recall_curve.CONVOLUTION, generator=g)

    return recall_curve.build_model(layer, seed)


# --- trainings -----------------------------------------------------------------------------------


def training(name: str) -> Training:
    """The training with that name, a key of `TRAININGS`."""
    build, make_task, settings = TRAININGS[name]
    task = make_task()
    return Training(build=partial(build, task), task=task, **settings)


def _cycle_and_swap() -> Any:
    S5 = groups.symmetric(5)
    generators = S5.indices([groups.cycle(5, 0, 1, 2, 3, 4), groups.cycle(5, 0, 1)])
    return WordProblem(S5, generators, side="left")


def _swaps() -> Any:
    S5 = groups.symmetric(5)
    return WordProblem(S5, S5.indices(groups.transpositions(5)), start_token=True)


_eight_pairs = partial(Recall, pairs=8, queries=8, symbols=62)
_noisy_pairs = partial(Recall, pairs=8, queries=4, symbols=32, blank=True)
_by_index = partial(IndexedCopying, content=8, symbols=16)
_by_token = partial(SelectiveCopying, content=8, symbols=8)
_by_008 = {"seeds": 3, "batch": 24, "length": 25, "lr": 2e-2}
_by_009 = {"seeds": 8, "batch": 16, "length": 25, "lr": 1e-2}

# By name: what builds a model, what makes the task, and the rest.
TRAININGS: dict[str, tuple[Callable[..., nn.Module], Callable[[], Any], dict[str, Any]]] = {
    "022 rank 4": (
        _displacement_rank, _cycle_and_swap,
        {"seeds": 5, "batch": 64, "length": 20, "lr": 2e-2, "weight_decay": 1e-4},
    ),
    "006 MonarchID": (_monarch, _swaps, {"seeds": 5, "batch": 64, "length": 20, "lr": 3e-3}),
    "007 OscGate": (
        _osc_gate, _by_token,
        {"seeds": 5, "batch": 16, "length": 64, "lr": 2e-2, "skip": False},
    ),
    "008 levels": (_levels, _eight_pairs, _by_008),
    "009 GLA": (partial(_recall, _gla), _noisy_pairs, _by_009),
    "009 selective": (partial(_recall, _selective), _noisy_pairs, _by_009),
    "014 slots": (
        _slots, _by_index,
        {"seeds": 3, "batch": 64, "length": 17, "lr": 3e-3, "weight_decay": 1e-4},
    ),
    "201 delta": (
        _delta, lambda: recall_curve.TASK,
        {"seeds": 5, "batch": 32, "length": recall_curve.TASK.length, "lr": 1e-2, "skip": False},
    ),
}  # fmt: skip


class Run:
    """A training that goes on by some updates at a time.

    Args:
        name: a key of `TRAININGS`.
        compiled: whether losses and gradients are compiled, which an older `lab` cannot do.
    """

    def __init__(self, name: str, *, compiled: bool = False) -> None:
        self.training = training(name)
        self.options: dict[str, Any] = {}
        self.untimed = 0
        torch.manual_seed(0)  # for the layers of torch, which draw from there
        self.models = [self.training.build(seed) for seed in range(self.training.seeds)]
        self.first = self.go_on(WARM_UP)["losses"]
        if compiled:
            self.options, self.untimed = {"compiled": True}, _eager_updates()
            self.go_on(WARM_UP)

    def go_on(self, updates: int) -> dict[str, Any]:
        """Seconds of every update but the last, of all of them, of the processor, and losses.

        A compiled training makes its first updates eagerly; these come before the timed ones.
        """
        each, untimed = self.training, self.untimed
        task: Any = Timed(each.task)
        used, start = time.process_time(), time.perf_counter()
        histories = fit_together(
            self.models, [task] * each.seeds, seeds=range(each.seeds), steps=untimed + updates,
            batch=each.batch, length=each.length, lr=each.lr, schedule="warmup-cosine",
            optimizer=partial(torch.optim.AdamW, weight_decay=each.weight_decay), decay="all",
            clip=1.0, skip_nonfinite=each.skip, device="cpu", **self.options,
        )  # fmt: skip
        times, uses = task.times[:: each.seeds], task.used[:: each.seeds]
        if untimed:
            start, used = times[untimed], uses[untimed]
        total = time.perf_counter() - start
        used = time.process_time() - used
        return {
            "updates": [after - before for before, after in pairwise(times[untimed:])],
            "seconds": total, "processor": used,
            "losses": [history.loss.tolist() for history in histories],
        }  # fmt: skip


def _eager_updates() -> int:
    """How many updates of a compiled training are eager at its start."""
    from lab.train.traced import EAGER

    return EAGER


def main() -> None:
    """Say how large the models are and what they lost at first; then a line for every number."""
    torch.set_num_threads(1)
    warnings.filterwarnings("error", message="compiled=True")  # where it is eager after all
    started = time.perf_counter()
    run = Run(sys.argv[1], compiled="--compiled" in sys.argv[2:])
    parameters = sum(parameter.numel() for parameter in run.models[0].parameters())
    ready = {
        "lab": sys.modules["lab"].__file__, "parameters": parameters, "losses": run.first,
        "warm-up": time.perf_counter() - started,
    }  # fmt: skip
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        print(json.dumps(run.go_on(int(line))), flush=True)


if __name__ == "__main__":
    main()
