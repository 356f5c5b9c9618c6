"""The one training loop: one model, or the models of several seeds at once; killed runs resume."""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from lab.checkpoint import Checkpoint, describe
from lab.frontend import progress
from lab.seeding import stream
from lab.tasks import Batch, Task

Named = dict[str, Tensor]
_CHUNK = 1000  # examples drawn at once for a score; another number would draw others
Rates = float | Mapping[str, float]
Schedule = Literal["constant", "one-cycle", "warmup-cosine"]
Length = int | Sequence[int] | Callable[[int], int]
Watcher = Callable[[nn.Module], Tensor]


@dataclass
class History:
    """What one model did in training.

    Attributes:
        loss: Float["steps"], the loss of every step before its update.
        watched: for every name in `watch`, what it returned, stacked: ["snapshots ..."].
        watched_at: the steps (updates made) at which the snapshots were taken.
        seconds: of training, all models of a joint run together, resumed parts included.
        skipped: updates left out because the loss or a gradient was not finite.
    """

    loss: Tensor
    watched: dict[str, Tensor] = field(default_factory=dict)
    watched_at: list[int] = field(default_factory=list)
    seconds: float = math.nan
    skipped: int = 0


def fit(model: nn.Module, task: Task, *, seed: int, **settings: Any) -> History:
    """Train one model; `fit_together` has the settings."""
    return fit_together([model], [task], seeds=[seed], **settings)[0]


def fit_together(
    models: Sequence[nn.Module],
    tasks: Sequence[Task],
    *,
    seeds: Sequence[int],
    steps: int,
    batch: int,
    length: Length,
    lr: Rates,
    schedule: Schedule = "constant",
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    clip: float | None = None,
    skip_nonfinite: bool = False,
    device: str = "auto",
    watch: Mapping[str, Watcher] | None = None,
    watch_every: int = 0,
    before_update: Callable[[int], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
    label: str = "training",
) -> list[History]:
    """Train several models of one architecture side by side, each on its own task and data stream.

    With more than one, parameters are stacked and the models evaluated under torch.vmap: small
    models are bound by the number of operations, and five cost little more than one. The optimiser
    must work elementwise (all of Adam's family do); each model then gets the updates that it would
    get alone, up to rounding.

    Args:
        models: trained in place, on their own device afterwards.
        tasks: one each; they must share one `loss`.
        seeds: one each, for the data stream.
        steps: updates.
        batch: sequences per update and model.
        length: time steps of a sequence; or several, taken in turns, one an update; or a function
            from the number of the update to them, as for a curriculum.
        lr: step size at the peak; or one per parameter name, "" for all that are not named.
        schedule: "constant"; "one-cycle", up along a cosine over the first 30 %, down to 0; or
            "warmup-cosine", up along a line over the first 5 %, down along a cosine to 0.
        optimizer: called with parameter groups that have their own lr.
        clip: the largest norm that all gradients of one model have together; longer ones shrink.
        skip_nonfinite: leave a model as it is where its loss or a gradient is not finite, and count
            that, instead of stopping.
        device: "auto" is cuda where there is one, else cpu.
        watch: functions of a model, called before the first update, every `watch_every` updates
            (0: a fiftieth of the steps), and at the end.
        before_update: called with the number of every update before it is made, such as to change
            a temperature that is a plain attribute; it has to do so in all of the models.
        checkpoint: a safetensors file, written every `checkpoint_seconds` and at the end; where it
            exists already, training resumes from it and ends with the same numbers. It must be of
            the same settings, and of models and tasks with the same public attributes.

    Raises:
        ValueError: a checkpoint of another model or other settings; an lr for no parameter.
        FloatingPointError: a loss is not finite, which says which seed and update (unless
            `skip_nonfinite`); or parameters of a model have run away so far that a linear system
            cannot be solved, which stops all.
    """
    if clip is not None and not clip > 0:
        raise ValueError(f"clip is {clip}; it must be above 0, or None for no clipping")
    run = _Run(models, tasks, seeds, pick_device(device))
    rates = _rates(run.parameters, lr)
    updates = optimizer([{"params": [p], "lr": rates[n]} for n, p in run.parameters.items()])
    lengths = _lengths(length, steps)
    log = _Log(run, seeds, watch or {}, watch_every or max(1, steps // 50), skip_nonfinite)
    identity = {
        "seeds": list(seeds), "steps": steps, "batch": batch, "lengths": lengths, "rates": rates,
        "schedule": schedule, "optimizer": getattr(optimizer, "__name__", str(optimizer)),
        "watch": sorted(log.watch), "watch_every": log.every, "clip": clip, "skip": skip_nonfinite,
        "parameters": {n: f"{p.dtype} {tuple(p.shape)}" for n, p in run.parameters.items()},
        "models": describe(models), "tasks": describe(tasks),
    }  # fmt: skip
    saved = Checkpoint(checkpoint, identity, checkpoint_seconds)
    done, before = _resume(saved.load(), run, updates, log)
    started = time.perf_counter() - before

    turns = islice(cycle(lengths), done, steps)
    for step, steps_long in enumerate(progress(turns, label, steps - done), start=done):
        log.snapshot(step)
        if before_update is not None:
            before_update(step)
        for group, rate in zip(updates.param_groups, rates.values(), strict=True):
            group["lr"] = rate * _multiplier(schedule, step, steps)
        try:
            losses = run.losses(batch, steps_long)
        except torch.linalg.LinAlgError as error:  # parameters that have run away
            problem = f"the model cannot be evaluated at update {step} ({error})"
            raise FloatingPointError(f"{problem}: try a smaller lr") from error
        log.add(losses, step)
        updates.zero_grad()
        losses.sum().backward()
        log.skip(_update(run, updates, losses.detach(), clip, skip_nonfinite))
        if saved.due(last=step + 1 == steps):
            saved.save(_state(step + 1, time.perf_counter() - started, run, updates, log))
    log.snapshot(steps, last=True)
    run.write_back()
    run.bring_back()
    return log.histories(time.perf_counter() - started)


def _lengths(length: Length, steps: int) -> list[int]:
    """Time steps of the first updates, after which they repeat."""
    if callable(length):
        return [length(step) for step in range(steps)]
    return [length] if isinstance(length, int) else list(length)


@torch.no_grad()
def accuracy(
    model: Callable[[Tensor], Tensor],
    task: Task,
    *,
    length: int,
    samples: int,
    seed: int,
    chunk: int = _CHUNK,
) -> Tensor:
    """Float["T"]: the share of right answers of a classifier at every step, NaN where none counts.

    The examples are those of `evaluate`, drawn and shown in chunks that fit into memory, on the
    device of the model if it is a module. Other chunks draw other examples.
    """
    right, scored = _counts(model, task, length, samples, seed, chunk)
    return right / scored


@torch.no_grad()
def scored_accuracy(
    model: Callable[[Tensor], Tensor],
    task: Task,
    *,
    length: int,
    samples: int,
    seed: int,
    chunk: int = _CHUNK,
) -> float:
    """The share of right answers over all scored steps, wherever they are; else as `accuracy`."""
    right, scored = _counts(model, task, length, samples, seed, chunk)
    return (right.sum() / scored.sum()).item()


def _counts(
    model: Callable[[Tensor], Tensor], task: Task, length: int, samples: int, seed: int, chunk: int
) -> tuple[Tensor, Tensor]:
    """["T"] each: right answers of a classifier, and how many counted."""
    device = next(model.parameters()).device if isinstance(model, nn.Module) else "cpu"
    generator, right, scored = stream(seed, "scoring"), torch.zeros(()), torch.zeros(())
    for begin in range(0, samples, chunk):
        examples = task.sample(min(chunk, samples - begin), length, generator)
        inputs, targets, mask = _to_device(examples, torch.device(device))
        found = model(inputs).argmax(-1) == targets
        right, scored = right + (found & mask).sum(0).cpu(), scored + mask.sum(0).cpu()
    return right, scored


@torch.no_grad()
def evaluate(
    model: nn.Module, task: Task, *, length: int, samples: int, seed: int
) -> dict[str, float]:
    """Score a model on fresh examples, drawn and shown in chunks that fit into memory.

    Returns:
        loss: the mean over `samples` examples of `length` steps; floor and chance: the task's own.
    """
    device = next(model.parameters()).device
    generator, scored, total = stream(seed, "scoring"), 0, 0.0
    for begin in range(0, samples, _CHUNK):
        size = min(_CHUNK, samples - begin)
        examples = _to_device(task.sample(size, length, generator), device)
        steps = int(examples.mask.sum())
        scored, total = scored + steps, total + task.loss(model, examples).item() * steps
    return {"loss": total / scored, "floor": task.floor(length), "chance": task.chance(length)}


def pick_device(device: str) -> torch.device:
    """The device by that name; "auto" is cuda where there is one, else cpu."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def _to_device(batch: Batch, device: torch.device) -> Batch:
    return Batch(*(part.to(device) for part in batch))


def _rates(parameters: Mapping[str, Tensor], lr: Rates) -> dict[str, float]:
    """One step size per parameter name."""
    named = {"": lr} if isinstance(lr, float | int) else dict(lr)
    if unknown := set(named) - set(parameters) - {""}:
        raise ValueError(f"lr names {sorted(unknown)}, the model has {sorted(parameters)}")
    if missing := [name for name in parameters if name not in named and "" not in named]:
        raise ValueError(f'lr leaves out {missing}; give it, or "" for all that are not named')
    return {name: float(named.get(name, named.get("", math.nan))) for name in parameters}


def _multiplier(schedule: Schedule, step: int, steps: int) -> float:
    """What the peak step size is multiplied by at an update."""
    if schedule == "constant":
        return 1.0
    if schedule not in get_args(Schedule):
        raise ValueError(f"schedule is {schedule!r}; it must be one of {get_args(Schedule)}")
    rise = (0.3 if schedule == "one-cycle" else 0.05) * steps
    if schedule == "warmup-cosine" and step < rise:
        return (step + 1) / (rise + 1)
    done = step / rise if step < rise else 1 + (step - rise) / max(steps - rise, 1)
    return 0.5 - 0.5 * math.cos(math.pi * max(done, 0.04))  # never a step size of zero at the start


class _Run:
    """Models, tasks and data streams behind one `parameters` and one `losses`."""

    def __init__(
        self,
        models: Sequence[nn.Module],
        tasks: Sequence[Task],
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        if not len(models) == len(tasks) == len(seeds) > 0:
            counts = f"{len(models)} models, {len(tasks)} tasks and {len(seeds)} seeds"
            raise ValueError(f"{counts}: there must be one of each, and at least one")
        self.homes = [next(model.parameters()).device for model in models]
        self.models, self.tasks, self.device = [m.to(device) for m in models], tasks, device
        self.generators = [stream(seed, "data") for seed in seeds]
        if len(models) == 1:
            self.parameters: Named = dict(models[0].named_parameters())
        else:
            self.parameters, self.buffers = torch.func.stack_module_state(list(self.models))

    def losses(self, batch: int, length: int) -> Tensor:
        """Float["models"]: the loss of each on a batch of its own."""
        batches = [
            _to_device(task.sample(batch, length, generator), self.device)
            for task, generator in zip(self.tasks, self.generators, strict=True)
        ]
        loss = self.tasks[0].loss
        if len(self.models) == 1:
            return loss(self.models[0], batches[0])[None]

        def one(parameters: Named, buffers: Named, examples: Batch) -> Tensor:
            def model(*args: Any) -> Tensor:
                return torch.func.functional_call(self.models[0], (parameters, buffers), args)

            return loss(model, examples)

        stacked = Batch(*(torch.stack(parts) for parts in zip(*batches, strict=True)))
        return torch.vmap(one)(self.parameters, self.buffers, stacked)

    def gradient_norms(self) -> Tensor:
        """Float["models"]: of all gradients of a model together."""
        found = [p.grad for p in self.parameters.values() if p.grad is not None]
        rows = [grad.reshape(len(self.models), -1).abs().square().sum(1) for grad in found]
        return torch.stack(rows).sum(0).sqrt()

    def shrink_gradients(self, longest: float, norms: Tensor) -> None:
        """Multiply the gradients of each model so that together they are not above `longest`."""
        factors = (longest / norms).clamp(max=1.0)
        for parameter in self.parameters.values():
            if parameter.grad is not None:
                parameter.grad *= self._by_model(factors, parameter)

    def keep(self, tensors: Sequence[Tensor], before: Sequence[Tensor], good: Tensor) -> None:
        """Put back what the models that are not `good` had before."""
        for tensor, old in zip(tensors, before, strict=True):
            tensor.copy_(torch.where(self._by_model(good, tensor), tensor, old))

    def _by_model(self, values: Tensor, like: Tensor) -> Tensor:
        """One value per model, of the shape that broadcasts over its part of a stacked tensor."""
        return values[0] if len(self.models) == 1 else values.view(-1, *[1] * (like.ndim - 1))

    def bring_back(self) -> None:
        """Move the models to where they were before."""
        for model, home in zip(self.models, self.homes, strict=True):
            model.to(home)

    @torch.no_grad()
    def write_back(self) -> None:
        """Copy the stacked parameters into their models."""
        if len(self.models) > 1:
            for i, model in enumerate(self.models):
                for name, parameter in model.named_parameters():
                    parameter.copy_(self.parameters[name][i])


@torch.no_grad()
def _update(
    run: _Run, updates: torch.optim.Optimizer, losses: Tensor, clip: float | None, skip: bool
) -> Tensor:
    """One update, of the good models alone if others are to be skipped; Bool["models"]: which."""
    good = torch.ones_like(losses, dtype=torch.bool)
    if clip is not None or skip:  # nobody else has to know how long the gradients are
        norms = run.gradient_norms()
        good = (losses + norms).isfinite()
        if clip is not None:
            run.shrink_gradients(clip, norms)
    if not skip or bool(good.all()):
        updates.step()
        return torch.zeros_like(good)
    parameters = list(run.parameters.values())
    before = [tensor.clone() for tensor in (*parameters, *_moments(updates))]
    updates.step()
    after = [*parameters, *_moments(updates)]
    # Before the first update there are no moments: they start at zero.
    before += [torch.zeros_like(tensor) for tensor in after[len(before) :]]
    run.keep(after, before, good)
    return ~good


def _moments(updates: torch.optim.Optimizer) -> list[Tensor]:
    """What the optimiser keeps for every entry of a parameter; counts of updates go on."""
    pairs = ((p, value) for p, kept in updates.state.items() for value in kept.values())
    return [v for p, v in pairs if isinstance(v, Tensor) and v.shape == p.shape and v.ndim]


class _Log:
    """Losses and snapshots of a run, as plain tensors that a checkpoint can hold."""

    def __init__(
        self,
        run: _Run,
        seeds: Sequence[int],
        watch: Mapping[str, Watcher],
        every: int,
        may_skip: bool = False,
    ) -> None:
        self.run, self.seeds, self.watch, self.every = run, seeds, watch, every
        self.may_skip = may_skip
        self.skipped = torch.zeros(len(seeds), dtype=torch.int64)
        self.losses: list[Tensor] = []
        self.snapshots: dict[str, list[Tensor]] = {name: [] for name in watch}
        self.taken_at: list[int] = []

    def add(self, losses: Tensor, step: int) -> None:
        """Keep the losses of one update, and stop at the first that is not finite."""
        losses = losses.detach().cpu()
        for seed, loss in zip(self.seeds, losses.tolist(), strict=True):
            if not math.isfinite(loss) and not self.may_skip:
                problem = f"the loss of seed {seed} is {loss} at update {step}"
                raise FloatingPointError(f"{problem}: try a smaller lr, or check the data for NaN")
        self.losses.append(losses)

    def skip(self, models: Tensor) -> None:
        """Count an update that these models did not make."""
        self.skipped += models.cpu()

    @torch.no_grad()
    def snapshot(self, step: int, *, last: bool = False) -> None:
        """Call every watching function on every model, if it is time."""
        if not self.watch or (step % self.every and not last) or step in self.taken_at:
            return
        self.run.write_back()
        self.taken_at.append(step)
        for name, function in self.watch.items():
            seen = torch.stack([function(model).detach().cpu() for model in self.run.models])
            self.snapshots[name].append(seen)

    def histories(self, seconds: float) -> list[History]:
        """One for every model."""
        losses = torch.stack(self.losses).mT if self.losses else torch.empty(len(self.seeds), 0)
        watched = {name: torch.stack(seen, dim=1) for name, seen in self.snapshots.items()}
        return [
            History(
                losses[i], {n: w[i] for n, w in watched.items()}, self.taken_at, seconds, skipped
            )
            for i, skipped in enumerate(self.skipped.tolist())
        ]


def _state(
    done: int, seconds: float, run: _Run, updates: torch.optim.Optimizer, log: _Log
) -> Named:
    """Everything that the rest of a run depends on, as named tensors."""
    state = {f"parameter/{name}": p.detach() for name, p in run.parameters.items()}
    for index, moments in updates.state_dict()["state"].items():
        state |= {f"optimizer/{index}/{key}": value for key, value in moments.items()}
    state |= {f"generator/{i}": g.get_state() for i, g in enumerate(run.generators)}
    for name, seen in log.snapshots.items():
        state |= {f"watched/{name}/{i}": snapshot for i, snapshot in enumerate(seen)}
    return state | {
        "losses": torch.stack(log.losses),
        "skipped": log.skipped,
        "taken_at": torch.tensor(log.taken_at, dtype=torch.int64),
        "progress": torch.tensor([done, seconds], dtype=torch.float64),
    }


@torch.no_grad()
def _resume(
    state: Named, run: _Run, updates: torch.optim.Optimizer, log: _Log
) -> tuple[int, float]:
    """Put a saved state back; returns the updates and seconds that it has behind it."""
    if not state:
        return 0, 0.0
    for name, parameter in run.parameters.items():
        parameter.copy_(state[f"parameter/{name}"])
    moments: dict[int, Named] = {}
    for kind, _, rest in (name.partition("/") for name in state):
        if kind == "optimizer":
            index, _, key = rest.partition("/")
            moments.setdefault(int(index), {})[key] = state[f"optimizer/{rest}"]
    updates.load_state_dict({**updates.state_dict(), "state": moments})
    for i, generator in enumerate(run.generators):
        generator.set_state(state[f"generator/{i}"])
    log.losses, log.skipped = list(state["losses"]), state["skipped"]
    log.taken_at = state["taken_at"].tolist()
    for name, seen in log.snapshots.items():
        seen.extend(state[f"watched/{name}/{i}"] for i in range(len(log.taken_at)))
    done, seconds = state["progress"].tolist()
    return int(done), seconds
