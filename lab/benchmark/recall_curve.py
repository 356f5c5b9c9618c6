"""Recall accuracy against state size, by one protocol for all mixers, as rows for a shared figure.

Experiments store their rows by `Evidence.table` under the name `TABLE`; `rows_of` reads them back.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from lab.arguments import whole
from lab.audit.state_size import state_bytes
from lab.model import SequenceModel, SwiGLU
from lab.seeding import stream
from lab.tasks import ZoologyRecall
from lab.train import fit_together, score

TABLE = "recall by state size"
TASK = ZoologyRecall(vocabulary=64, pairs=8, random_filler=False)
D_MODEL = 32
LAYERS = 2
CONVOLUTION = 3  # the width of the short convolution that every mixer has
SIZES = (4, 8, 16)
# What rows of one figure should share, and how a curve says of which it is where they do not.
BUDGET = {
    "steps": "{} updates", "d_model": "width {}", "layers": "{} layers", "samples": "{} samples",
}  # fmt: skip

Build = Callable[[int, torch.Generator], nn.Module]
Row = dict[str, Any]


def measure(
    mixers: Mapping[str, Build],
    *,
    seeds: Sequence[int],
    steps: int = 600,
    sizes: Sequence[int] = SIZES,
    lr: float | Mapping[str, float] = 1e-2,
    samples: int = 500,
    train: Callable[..., Any] = fit_together,
) -> list[Row]:
    """Train every mixer at every size on the same recall task, and measure its accuracy.

    The task is `TASK` at its natural length, 32 steps. The model has two layers of 32 channels,
    each with a mixer, which includes a short convolution, and a SwiGLU; there are no position
    embeddings. Optimiser, batches and number of updates are the same for all mixers. The learning
    rate may be chosen per mixer, because recall is learned only in a narrow range of learning
    rates.

    Args:
        mixers: by name, functions that build a mixer for D_MODEL channels from a size and a
            generator. The mixer must include a short convolution of width CONVOLUTION. The size
            determines the state; its meaning depends on the mixer (entries of a key, slots).
        seeds: seeds of the models; those of one mixer and size train side by side.
        steps: number of updates.
        sizes: the sizes that `mixers` are called with.
        lr: peak learning rate, or one per mixer by name.
        samples: number of examples on which a model is scored.
        train: called like `fit_together`; for mixers that train in more than one stage.

    Returns:
        A row for each mixer, size and seed: mixer, size, seed, lr; the budget (steps, d_model,
        layers, samples); number of parameters, the bytes of the state after the sequence, the bits
        that it must store, and the accuracy in evaluation mode.

    Raises:
        ValueError: learning rates are given for other names than those of the mixers; steps or
            samples is not a whole number, or is too small.

    Source: the task and the plot are those of Arora et al. 2023, Zoology, and 2024, Based.
    """
    whole("measure", "steps", steps, least=0)
    whole("measure", "samples", samples, least=1)
    rates = dict(lr) if isinstance(lr, Mapping) else dict.fromkeys(mixers, float(lr))
    if set(rates) != set(mixers):  # checked first: a later error would lose finished training
        raise ValueError(f"lr is given for {sorted(rates)}, the mixers are {sorted(mixers)}")
    return [
        row
        for name, build in mixers.items()
        for size in sizes
        for row in _train(
            name, partial(build, size), size, seeds, steps, rates[name], samples, train
        )
    ]


def build_model(mixer: Callable[[torch.Generator], nn.Module], seed: int) -> SequenceModel:
    """The model of the protocol, with two mixers built by `mixer`."""
    generator = stream(seed, "init")
    return SequenceModel(
        TASK.vocabulary,
        TASK.classes,
        D_MODEL,
        [mixer(generator) for _ in range(LAYERS)],
        channels=[SwiGLU(D_MODEL, 2 * D_MODEL, generator=generator) for _ in range(LAYERS)],
        generator=generator,
    )


def by_state(
    rows: Iterable[Row], *, against: str = "state_bytes"
) -> dict[str, dict[int, list[float]]]:
    """The accuracies of all seeds by mixer and bytes of state, as `figures.recall` takes them.

    Where the rows are not all of one budget or of the same seeds, the name of every curve says of
    which it is, as in "delta rule, 450 updates": a mixer that was trained with two has two curves.

    Args:
        rows: as `measure` returns them.
        against: the column that replaces the bytes of the state, such as "parameters".
    """
    rows = list(rows)
    mixed = [name for name in BUDGET if len({row.get(name, ...) for row in rows} - {...}) > 1]
    curves: dict[str, list[Row]] = {}
    for row in rows:
        words = [BUDGET[name].format(row[name]) for name in mixed if name in row]
        curves.setdefault(", ".join([row["mixer"], *words]), []).append(row)
    seeds = {name: sorted({row["seed"] for row in of}) for name, of in curves.items()}
    if len({*map(tuple, seeds.values())}) > 1:
        curves = {f"{name}, {_seeds(seeds[name])}": of for name, of in curves.items()}
    return {name: _by(against, of) for name, of in curves.items()}


def _by(column: str, rows: Iterable[Row]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for row in rows:
        found.setdefault(row[column], []).append(row["accuracy"])
    return found


def _seeds(seeds: Sequence[int]) -> str:
    """Which seeds, in a few words."""
    if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))) and len(seeds) > 1:
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"


def _train(
    name: str,
    mixer: Callable[[torch.Generator], nn.Module],
    size: int,
    seeds: Sequence[int],
    steps: int,
    lr: float,
    samples: int,
    train: Callable[..., Any],
) -> list[Row]:
    models = [build_model(mixer, seed) for seed in seeds]
    train(
        models, [TASK] * len(seeds), seeds=seeds, steps=steps, batch=32, length=TASK.length, lr=lr,
        schedule="warmup-cosine", optimizer=torch.optim.AdamW, decay="all", clip=1.0,
        label=f"{name}, {size}",
    )  # fmt: skip
    example = TASK.sample(1, TASK.length, stream(0, "state size")).inputs
    shared = {
        "mixer": name, "size": size, "lr": lr, "steps": steps, "bits": TASK.bits(TASK.length),
        "parameters": sum(parameter.numel() for parameter in models[0].parameters()),
        "state_bytes": state_bytes(models[0].eval(), example),
        "d_model": D_MODEL, "layers": LAYERS, "samples": samples,
    }  # fmt: skip
    scored = partial(score, task=TASK, length=TASK.length, samples=samples)
    return [
        {**shared, "seed": seed, "accuracy": scored(model.eval(), seed=seed).accuracy}
        for model, seed in zip(models, seeds, strict=True)
    ]
