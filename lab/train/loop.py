"""The one training loop: one model, or the models of several seeds at once; killed runs resume."""

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor, nn

from lab.arguments import function, one_of, real, refuse, truth, whole
from lab.nn.weight_decay import undecayed
from lab.progress import Progress
from lab.seeding import own_randomness
from lab.tasks import Task
from lab.train.checkpoint import Checkpoint, as_tensor, from_tensor
from lab.train.denormals import denormals_are_zero
from lab.train.eager import Eager
from lab.train.heap import keep_freed_memory
from lab.train.interrupt import Interrupted, Patience
from lab.train.optimiser import (
    Rates,
    Schedule,
    grouped,
    optimiser_names,
    optimiser_state,
    rates_by_name,
    restore_optimiser,
    update,
)
from lab.train.optimiser import multiplier as _multiplier
from lab.train.resuming import (
    Watchman,
    attributes,
    check_attributes,
    check_content,
    circumstances,
    functions,
    leave,
    origin,
)
from lab.train.settings import Decay, Length, Watcher
from lab.train.side_by_side import Named, SideBySide, pick_device

if TYPE_CHECKING:
    from lab.train.traced import Traced

# Raised when the same settings lead to other numbers, or a checkpoint holds its state otherwise.
_VERSION = 2


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

    def reached(self, name: str, level: float) -> float:
        """Updates until a watched number was at least `level` for the first time; inf if never."""
        seen = zip(self.watched_at, self.watched[name], strict=True)
        return next((float(at) for at, value in seen if value >= level), math.inf)


def fit(
    model: nn.Module,
    task: Task,
    *,
    seed: int,
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
    decay: Decay = "unmarked",
    compiled: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
    label: str = "training",
) -> History:
    """Train one model; `fit_together` says what the settings mean, and what stops it."""
    (history,) = fit_together(
        [model], [task], seeds=[seed], steps=steps, batch=batch, length=length, lr=lr,
        schedule=schedule, optimizer=optimizer, clip=clip, skip_nonfinite=skip_nonfinite,
        device=device, watch=watch, watch_every=watch_every, before_update=before_update,
        decay=decay, compiled=compiled, checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds, label=label,
    )  # fmt: skip
    return history


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
    decay: Decay = "unmarked",
    compiled: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
    label: str = "training",
) -> list[History]:
    """Train several models of one architecture side by side, each on its own task and data stream.

    With more than one, parameters are stacked and the models evaluated under torch.vmap: small
    models are bound by the number of operations, and five cost little more than one. The optimiser
    must work elementwise (all of Adam's family do); each model then gets the updates that it would
    get alone, up to rounding.

    torch's global random numbers, from which Dropout draws, come from the first seed while this
    runs, and are afterwards what they were before.

    On Linux, the process keeps up to 1 GiB of memory that is freed from then on, for the arrays of
    the next update (see `lab.train.heap`). Numbers too small for a normal float count as zero while
    this runs (see `lab.train.denormals`), and not afterwards.

    Ctrl-C takes effect once the update that is being made is complete: the models hold its weights,
    and the checkpoint, if one is asked for, is written. A second Ctrl-C acts at once, and writes
    nothing.

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
        optimizer: called with parameter groups, one for each lr and weight decay.
        clip: the largest norm that all gradients of one model have together; longer ones shrink.
        skip_nonfinite: leave a model as it is where its loss or a gradient is not finite, and count
            that, instead of stopping.
        device: "auto" is cuda where there is one, else cpu.
        watch: functions of a model, called before the first update, every `watch_every` updates
            (0: a fiftieth of the steps), and at the end.
        before_update: called with the number of every update before it is made, such as to change
            a temperature that is a plain attribute; it has to do so in all of the models. What it
            sets may depend on that number alone, so that it can be set again; where training is
            resumed, it is called with the number of the last update once more.
        decay: what the weight decay of the optimiser acts on: "unmarked", all parameters but those
            that `lab.nn.weight_decay.undecayed` lists (rates, first states, biases, norms);
            or "all".
        compiled: whether losses and gradients are computed by one compiled graph (see
            `lab.train.traced`), often in half the time, after a minute of compiling. It needs a
            C++ compiler. Numbers differ from eager ones by rounding. Where models, tasks or
            settings do not allow it (a warning says why), training is eager, with the eager bits.
            What models and losses read beside parameters, buffers and examples must not change.
        checkpoint: a safetensors file, written every `checkpoint_seconds`, at the end and on
            Ctrl-C; where it exists already, training resumes from it and ends with the same
            numbers, on the same kind of machine. It must be of the same settings, models with the
            same weights at the start, and functions and tasks that do the same, down to their code
            (`lab.train.identity` says how they are compared, and what to do where they cannot be).
        checkpoint_seconds: as above; 0 for every update, inf for the end alone.
        label: of the progress bar.

    Raises:
        ValueError: an argument is out of its range; a checkpoint is damaged, or of another model or
            other settings; one is asked for and something in the training cannot be compared or
            saved, which is named.
        FloatingPointError: a loss is not finite, which says which seed and update (unless
            `skip_nonfinite`); or parameters of a model have run away so far that a linear system
            cannot be solved, which stops all.
        Interrupted: Ctrl-C; has the `histories` so far.
    """
    seeds = [whole("fit", "a seed", seed) for seed in seeds]
    settings = _Settings(
        steps=whole("fit", "steps", steps, least=0),
        batch=whole("fit", "batch", batch, least=1),
        lengths=_lengths(length, steps),
        schedule=schedule,
        clip=None if clip is None else real("fit", "clip", clip, above=0),
        skip=truth("fit", "skip_nonfinite", skip_nonfinite),
        watch_every=whole("fit", "watch_every", watch_every, least=0) or max(1, steps // 50),
        decay=decay,
        compiled=truth("fit", "compiled", compiled),
    )
    one_of("fit", "schedule", schedule, get_args(Schedule))
    one_of("fit", "decay", decay, get_args(Decay))
    watch = {n: function("fit", f"watch[{n!r}]", each) for n, each in (watch or {}).items()}
    if before_update is not None:
        function("fit", "before_update", before_update)
    run = SideBySide(models, tasks, seeds, pick_device(device))
    keep_freed_memory()
    rates = rates_by_name(list(run.parameters), lr)
    spared = undecayed(run.models[0]) if decay == "unmarked" else set()
    function("fit", "optimizer", optimizer)
    updates = grouped(optimizer, run.parameters, rates, spared)
    log = _Log(run, seeds, watch, settings.watch_every, settings.skip)
    training = _Training(settings, run, updates, optimizer, rates, log, before_update)
    with own_randomness(seeds[0], run.device), denormals_are_zero(), Patience() as patience:
        try:
            training.open(checkpoint, checkpoint_seconds)
            training.go(label, patience)
        except KeyboardInterrupt:
            raise training.interrupted(patience) from None
        finally:
            run.write_back()
            run.bring_back()
            training.leave()
    return log.histories(training.seconds)


@dataclass(frozen=True)
class _Settings:
    """The plain arguments of `fit_together`, checked."""

    steps: int
    batch: int
    lengths: list[int]
    schedule: Schedule
    clip: float | None
    skip: bool
    watch_every: int
    decay: Decay
    compiled: bool


class _Training:
    """One call of `fit_together`: its parts, how far it is, and its checkpoint."""

    def __init__(
        self,
        settings: _Settings,
        run: SideBySide,
        updates: torch.optim.Optimizer,
        optimizer: Callable[..., torch.optim.Optimizer],
        rates: Mapping[str, float],
        log: "_Log",
        before_update: Callable[[int], None] | None,
    ) -> None:
        self.settings, self.run, self.updates, self.log = settings, run, updates, log
        self.optimizer, self.rates, self.before_update = optimizer, rates, before_update
        self.form = _form(run, settings, changes_models=before_update is not None)
        self.peaks = [group["lr"] for group in updates.param_groups]
        self.saved = Checkpoint(None, {}, math.inf)
        self.origins: list[Any] = []
        self.done, self.started = 0, time.perf_counter()
        # What the losses of the update that is being made were computed from; None between updates.
        self.mark: Named | None = None
        self.stepping = False  # whether the optimiser is changing the parameters

    @property
    def seconds(self) -> float:
        """Of training, resumed parts included."""
        return time.perf_counter() - self.started

    # --- the loop --------------------------------------------------------------------------------

    def go(self, label: str, patience: Patience) -> None:
        """Make all updates that are not made yet."""
        steps = self.settings.steps
        turns = islice(cycle(self.settings.lengths), self.done, steps)
        watchman = Watchman(self.run.models, self._others)
        models = len(self.run.models)
        with Progress(label, steps - self.done, models=models, loss=self.log.latest) as shown:
            for length in turns:
                patience.check()
                self.log.snapshot(self.done)
                patience.check()
                self._advance(length, watchman)
                shown.advance()
                patience.check()
                if self.saved.due(last=self.done == steps):
                    self.save()
            self.log.snapshot(steps, last=True)
            patience.check()

    def _others(self) -> dict[str, Any]:
        """What takes part in an update beside the models, without what a checkpoint holds of it."""
        saved = ("state", "param_groups")
        optimizer = {name: v for name, v in vars(self.updates).items() if name not in saved}
        parts = {"tasks": self.run.tasks, "optimizer": optimizer}
        return parts | {"before_update": self.before_update}

    def _advance(self, length: int, watchman: Watchman) -> None:
        """One update."""
        step, settings = self.done, self.settings
        saving = self.saved.path is not None
        if self.before_update is not None:
            self.before_update(step)
        before = watchman.look() if saving else None
        now = _multiplier(settings.schedule, step, settings.steps)
        for group, peak in zip(self.updates.param_groups, self.peaks, strict=True):
            group["lr"] = peak * now
        if saving or (settings.skip and self.run.buffers):
            self.mark = self.run.surroundings()
        try:
            losses = self.form.losses(settings.batch, length, step)
        except torch.linalg.LinAlgError as error:  # parameters that have run away
            problem = f"the model cannot be evaluated at update {step} ({error})"
            raise FloatingPointError(f"{problem}: try a smaller lr") from error
        self.log.add(losses, step)
        self.updates.zero_grad()
        self.form.backward(losses)
        self.stepping = True
        skipped = update(self.run, self.updates, losses.detach(), settings.clip, settings.skip)
        if self.mark is not None and bool(skipped.any()):
            self.run.keep_buffers(self.mark, ~skipped)
        self.log.skip(skipped)
        self.done, self.mark, self.stepping = step + 1, None, False
        watchman.compare(before)

    def interrupted(self, patience: Patience) -> Interrupted:
        """Save what is whole, and say so."""
        steps, path = self.settings.steps, self.saved.path
        self.log.cut(self.done)
        if patience.impatient or self.stepping:
            sentence = (
                f"training was stopped at once, within update {self.done + 1} of {steps}: that one "
                "may be half made, and was not saved"
            )
            return Interrupted(sentence, self.log.histories(self.seconds))
        if self.mark is not None:  # by an exception in the middle: back to the last update
            self.run.put_back(self.mark)
        sentence = f"training was stopped after {self.done} of {steps} updates"
        if path is None:
            sentence += ", and no checkpoint was asked for: what was learned is in the models alone"
        else:
            self.save()
            sentence += f", which {path} holds: the same call goes on from there"
        return Interrupted(sentence, self.log.histories(self.seconds))

    # --- the checkpoint --------------------------------------------------------------------------

    def open(self, path: str | os.PathLike[str] | None, every: float) -> None:
        """Go on from a checkpoint, if there is one.

        Raises:
            ValueError: it is of something else, or what is to be saved cannot be compared.
        """
        every = real("fit", "checkpoint_seconds", every, least=0)
        if path is None:
            return
        if not isinstance(path, str | os.PathLike) or not str(path):
            refuse("fit", "checkpoint", path, "the path of a file")
        resolved = Path(path).resolve()
        self.origins = [origin(model, resolved) for model in self.run.models]
        self.saved = Checkpoint(path, self._identity(), every)
        before = self._restore(self.saved.load())
        self.started = time.perf_counter() - before

    def _identity(self) -> dict[str, Any]:
        """All that decides what comes out of this training."""
        run, log, settings = self.run, self.log, self.settings
        identity = {
            "version": _VERSION, "seeds": log.seeds, "steps": settings.steps,
            "batch": settings.batch, "lengths": settings.lengths, "rates": self.rates,
            "schedule": settings.schedule,
            "optimizer": getattr(self.optimizer, "__name__", type(self.optimizer).__name__),
            "watch": sorted(log.watch), "watch_every": log.every, "clip": settings.clip,
            "skip": settings.skip, "decay": settings.decay,
            "parameters": {n: _kind(p) for n, p in run.models[0].named_parameters()},
            "models": {str(i): each.make for i, each in enumerate(self.origins)},
        }  # fmt: skip
        if settings.compiled:  # eager trainings are known as they were before there was a choice
            identity["compiled"] = True
        described = functions(
            run.models, tasks=list(run.tasks), optimizer=self.optimizer,
            before_update=self.before_update, **{f"watch.{n}": w for n, w in log.watch.items()},
        )  # fmt: skip
        identity |= {"tasks": described.pop("tasks"), "functions": described}
        started = {str(i): each.initial for i, each in enumerate(self.origins)}
        modes = {str(i): each.evaluating for i, each in enumerate(self.origins)}
        return identity | {
            "initial weights": started, "evaluating": modes, **circumstances(run.device),
        }  # fmt: skip

    def save(self) -> None:
        """Write the checkpoint."""
        self.saved.save(self._state())

    def _state(self) -> Named:
        """Everything that the rest of the training depends on, as named tensors."""
        run, log = self.run, self.log
        state = {f"parameter/{name}": p.detach() for name, p in run.parameters.items()}
        for name, seen in log.snapshots.items():
            state |= {f"watched/{name}/{i}": snapshot for i, snapshot in enumerate(seen)}
        if self.before_update is not None:
            state["attributes"] = as_tensor(attributes(run.models))
        losses = torch.stack(log.losses) if log.losses else torch.empty(0, len(run.models))
        state |= run.surroundings() | optimiser_state(self.updates)
        return state | {
            "losses": losses,
            "skipped": log.skipped,
            "taken_at": torch.tensor(log.taken_at, dtype=torch.int64),
            "progress": torch.tensor([self.done, self.seconds], dtype=torch.float64),
        }

    @torch.no_grad()
    def _restore(self, state: Named) -> float:
        """Put a saved state back; returns the seconds that it has behind it."""
        if not state:
            return 0.0
        run, log = self.run, self.log
        parameters = {f"parameter/{name}": p for name, p in run.parameters.items()}
        self._check(state, parameters)
        for name, parameter in parameters.items():
            parameter.copy_(state[name])
        restore_optimiser(self.updates, state)
        run.put_back(state)
        log.losses, log.skipped = list(state["losses"]), state["skipped"]
        log.taken_at = state["taken_at"].tolist()
        for name, seen in log.snapshots.items():
            seen.extend(state[f"watched/{name}/{i}"] for i in range(len(log.taken_at)))
        done, seconds = state["progress"].tolist()
        self.done = int(done)
        if self.before_update is not None and self.done:
            self.before_update(self.done - 1)
            now = attributes(run.models)
            check_attributes(from_tensor(state["attributes"]), now, self.saved.path)
        return seconds

    def _check(self, state: Named, parameters: Mapping[str, Tensor]) -> None:
        """Stop before anything is changed if something is not there.

        Raises:
            ValueError: it is not; says what.
        """
        around = self.run.surroundings()
        # Buffers alone may have other shapes than at the start.
        like = {n: each for n, each in around.items() if not n.startswith("buffer/")}
        names = [*around, "losses", "skipped", "taken_at", "progress", *optimiser_names(state)]
        names += [] if self.before_update is None else ["attributes"]
        snapshots = range(len(state.get("taken_at", ())))
        names += [f"watched/{name}/{i}" for name in self.log.watch for i in snapshots]
        check_content(state, names, {**parameters, **like}, self.saved.path)

    def leave(self) -> None:
        """Remember how the models are left, so that the same call can go on with them."""
        if self.saved.path is not None:
            leave(self.run.models, self.saved.path.resolve(), self.origins)


def _kind(parameter: nn.Parameter) -> str:
    frozen = "" if parameter.requires_grad else " frozen"
    return f"{parameter.dtype} {tuple(parameter.shape)}{frozen}"


def _lengths(length: Length, steps: int) -> list[int]:
    """Time steps of the first updates, after which they repeat.

    Raises:
        ValueError: one is no whole number of at least 1, or there are none; says for which update.
    """
    if callable(length):
        steps = whole("fit", "steps", steps, least=0)
        return [whole("fit", f"length({i})", length(i), least=1) for i in range(steps)]
    if isinstance(length, str | bytes | Mapping) or not isinstance(length, Iterable):
        return [whole("fit", "length", length, least=1)]
    if getattr(length, "ndim", 1) == 0:  # an array or a tensor of one number
        return [whole("fit", "length", length, least=1)]
    if not (several := list(length)):
        refuse("fit", "length", length, "a number of time steps, several, or a function")
    return [whole("fit", f"length[{i}]", each, least=1) for i, each in enumerate(several)]


def _form(run: SideBySide, settings: _Settings, *, changes_models: bool) -> "Eager | Traced":
    """How losses and gradients are computed."""
    if not settings.compiled:
        return Eager(run)
    from lab.train.traced import Traced  # not above: it imports all scans, which takes a second

    lengths = settings.lengths[: settings.steps]
    return Traced(run, lengths, before_update=changes_models)


class _Log:
    """Losses and snapshots of a run, as plain tensors that a checkpoint can hold."""

    def __init__(
        self,
        run: SideBySide,
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
        seen = {
            name: torch.stack([look(model).detach().cpu() for model in self.run.models])
            for name, look in self.watch.items()
        }
        # Together, after all of them: an interrupt in between must not leave half of a snapshot.
        self.taken_at.append(step)
        for name, each in seen.items():
            self.snapshots[name].append(each)

    def latest(self) -> float | None:
        """The median loss of the models in the last update, None before the first."""
        return self.losses[-1].nanmedian().item() if self.losses else None

    def cut(self, done: int) -> None:
        """Forget the loss of an update that was not made."""
        del self.losses[done:]

    def histories(self, seconds: float) -> list[History]:
        """One for every model."""
        losses = torch.stack(self.losses).mT if self.losses else torch.empty(len(self.seeds), 0)
        watched = {n: torch.stack(seen, dim=1) for n, seen in self.snapshots.items() if seen}
        return [
            History(
                losses[i], {n: w[i] for n, w in watched.items()}, self.taken_at, seconds, skipped
            )
            for i, skipped in enumerate(self.skipped.tolist())
        ]
