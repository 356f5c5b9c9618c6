"""Compares all contenders for a scan or a layer at one shape: times, errors, bounds by memory."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lab.benchmark.problem import (
    OURS,
    Contender,
    Problem,
    Shape,
    memory_available,
    written,
)
from lab.benchmark.timing import Call, Timing, seconds, take_turns
from lab.seeding import stream

EXISTING = "copy, existing memory"
FRESH = "copy, fresh memory"


@dataclass(frozen=True)
class Errors:
    """Largest error against float64, relative to the largest entry: of states and of gradients.

    For discontinuous gradients (`Problem.jumps`), the error of gradients is instead the sum of all
    errors divided by the sum of all entries: the share of the gradient that reached a wrong input.
    So is that of states that jump. Where all entries have to be zero, an error is absolute.
    """

    states: float
    gradients: float

    @property
    def largest(self) -> float:
        """The larger of the two errors; NaN if either is NaN."""
        either = (self.states, self.gradients)
        return math.nan if any(map(math.isnan, either)) else max(either)


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`.

    Attributes:
        problem: name of the problem.
        shape: (B, T, N).
        timings: times of value and gradients together, by contender; without those in `notes`.
        errors: errors of the same contenders.
        notes: why a contender has no time, by its name.
        bounds: seconds to move the bytes that must be moved, at the speed of a plain copy: into
            memory that is already allocated (`EXISTING`) or newly allocated (`FRESH`).
        array_bytes: size of the states.
        moved_bytes: size of everything that must be moved.
    """

    problem: str
    shape: Shape
    timings: Mapping[str, Timing]
    errors: Mapping[str, Errors]
    notes: Mapping[str, str]
    bounds: Mapping[str, float]
    array_bytes: int
    moved_bytes: int

    @property
    def ours(self) -> float:
        """Median seconds of lab.scan."""
        return self.timings[OURS].median

    @property
    def best(self) -> tuple[str, float]:
        """The fastest of the others, and its seconds.

        Raises:
            ValueError: none of them ran.
        """
        others = self._others()
        if not others:
            raise ValueError(f"only {OURS} ran at {written(self.shape)}: {dict(self.notes)}")
        return min(others.items(), key=lambda pair: pair[1])

    @property
    def lead(self) -> float:
        """Time of the best of the others, as a multiple of ours."""
        return self.best[1] / self.ours

    def lead_of(self, largest: float) -> float:
        """The same, if only others with errors up to `largest` count; infinity if none has."""
        right = [
            seconds
            for name, seconds in self._others().items()
            if name in self.errors and self.errors[name].largest <= largest
        ]
        return min(right, default=math.inf) / self.ours

    def _others(self) -> dict[str, float]:
        """Median seconds of everybody else."""
        return {name: t.median for name, t in self.timings.items() if name != OURS}

    @property
    def over_bound(self) -> float:
        """Our time, as a multiple of that of moving the same bytes into existing memory."""
        return self.ours / self.bounds[EXISTING]


def compare(
    problem: Problem,
    shape: Shape,
    *,
    rounds: int,
    budget: float,
    longest: float,
    seed: int = 0,
    device: str = "cpu",
    without: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
    exact: bool = True,
) -> Comparison:
    """Time the contenders forwards and backwards on the same inputs, and measure their errors.

    Args:
        problem: the scan.
        shape: (B, T, N).
        rounds, budget: as for `take_turns`.
        longest: seconds; a contender is left out if a single call is predicted, from shorter
            sequences, to take longer.
        seed: seed of the inputs.
        device: where to run.
        without: contenders to leave out, with the reason for the notes.
        only: names of the contenders to run, all if None.
        exact: whether to compute a reference in float64; otherwise there are no errors.
    """
    values, grad = _inputs(problem, shape, seed, device)
    notes = {name: note for name, note in (without or {}).items() if name in problem.contenders}
    calls: dict[str, Call] = {}
    errors: dict[str, Errors] = {}
    reference = _reference(problem.loop, values, grad) if exact else None
    for name, contender in problem.contenders.items():
        if name in notes or (only is not None and name not in only):
            continue
        notes[name] = _objection(contender, shape, values, grad, longest)
        if notes[name]:
            continue
        try:
            call = _call(contender, values, grad)
            states, *gradients = call()  # the first call: loads, compiles, touches memory
        except Exception as error:  # other libraries may raise anything
            notes[name] = _reason(contender, error)
            continue
        if reference is not None:
            unpacked = contender.gradients(values, gradients)
            errors[name] = _errors(contender.unpack(states), unpacked, reference, problem)
        del states, gradients
        calls[name] = call
    del reference
    source = max(values, key=lambda value: value.nbytes)
    target = source.clone()
    copies: dict[str, Call] = {EXISTING: partial(target.copy_, source), FRESH: source.clone}
    label = f"{problem.name} {written(shape)}"
    times = take_turns({**calls, **copies}, rounds=rounds, budget=budget, label=label)
    moved, fresh = problem.moved(values)
    # A copy of n bytes moves 2 n of them.
    into_old, into_new = (times.pop(name).median / (2 * source.nbytes) for name in copies)
    return Comparison(
        problem=problem.name,
        shape=shape,
        timings=times,
        errors=errors,
        notes={name: note for name, note in notes.items() if note},
        bounds={
            EXISTING: moved * into_old,
            FRESH: (moved - 2 * fresh) * into_old + 2 * fresh * into_new,
        },
        array_bytes=grad.nbytes,
        moved_bytes=moved,
    )


def sweep(
    problem: Problem,
    shapes: Sequence[Shape],
    *,
    longest: float,
    without: Mapping[str, str] | None = None,
    **settings: Any,
) -> dict[str, dict[Shape, float]]:
    """Seconds of every contender at increasing shapes, until a call takes longer than `longest`.

    Args:
        problem: the scan.
        shapes: the shapes, from small to large.
        longest: limit in seconds for a single call, predicted by the growth up to the last shape.
        without: contenders to leave out, by name.
        settings: further arguments of `compare`.

    Returns:
        Seconds by contender and shape, and those of the copies `EXISTING` and `FRESH`.
    """
    found: dict[str, dict[Shape, float]] = {}
    dropped = dict(without or {})
    for shape, following in zip(shapes, [*shapes[1:], shapes[-1]], strict=True):
        comparison = compare(
            problem, shape, longest=math.inf, without=dropped, exact=False, **settings
        )
        times = {name: timing.median for name, timing in comparison.timings.items()}
        for name, time in {**times, **comparison.bounds}.items():
            found.setdefault(name, {})[shape] = time
        ratio = math.prod(following) / math.prod(shape)
        slow = [name for name, time in times.items() if time * ratio > longest and name != OURS]
        dropped |= dict.fromkeys(slow, "too long")
    return found


def _inputs(problem: Problem, shape: Shape, seed: int, device: str) -> tuple[list[Tensor], Tensor]:
    values = problem.draw(shape, stream(seed, "inputs"), problem.dtype)
    last = values[-1]
    grad = torch.randn(last.shape, dtype=last.dtype, generator=stream(seed, "gradient"))
    return [value.to(device) for value in values], grad.to(device)


def _call(
    contender: Contender, values: Sequence[Tensor], grad: Tensor
) -> Callable[[], list[Tensor]]:
    """A function without arguments that computes value and gradients: [states, *gradients]."""
    inputs, arriving = contender.inputs(values), contender.pack(grad).contiguous()
    scan = contender.scan
    if contender.compiled:
        torch.compiler.reset()
        scan = torch.compile(scan, dynamic=False)

    return partial(contender.run, inputs, arriving, scan)


def _reference(loop: Callable[..., Tensor], values: Sequence[Tensor], grad: Tensor) -> list[Tensor]:
    double = torch.complex128 if grad.is_complex() else torch.float64
    if isinstance(loop, nn.Module):
        loop = deepcopy(loop).to(double)
    return _call(Contender(loop), [value.to(double) for value in values], grad.to(double))()


def _errors(
    states: Tensor, gradients: Sequence[Tensor], expected: Sequence[Tensor], problem: Problem
) -> Errors:
    def error(have: Tensor, want: Tensor, jumps: bool) -> Tensor:
        reduce = torch.sum if jumps else torch.max
        size = reduce(want.abs())
        return reduce((have - want).abs()) / torch.where(size > 0, size, 1)

    pairs = zip(gradients, expected[1:], strict=True)
    worst = torch.stack([error(have, want, problem.jumps) for have, want in pairs]).max()
    return Errors(error(states, expected[0], problem.states_jump).item(), worst.item())


def _objection(
    contender: Contender, shape: Shape, values: Sequence[Tensor], grad: Tensor, longest: float
) -> str:
    """Why this contender cannot run at this shape; empty if it can."""
    if missing := contender.missing():
        return missing
    needs = contender.needs(shape, grad.itemsize)
    if grad.device.type == "cpu" and needs > memory_available():
        return f"skipped: needs about {needs / 1e9:.0f} GB"
    if contender.compiled or math.isinf(longest) or grad.shape[1] < 512:
        return ""  # a short sequence predicts nothing: compilation takes as long as for a long one
    try:
        expected = _predicted(contender, values, grad, longest)
    except Exception:
        return ""  # the run on the whole sequence will report the same error
    return f"skipped: about {expected:.2g} s a call" if expected > longest else ""


def _predicted(
    contender: Contender, values: Sequence[Tensor], grad: Tensor, longest: float
) -> float:
    """Predicted seconds of a call, from an eighth of the sequence; a quarter if that seems slow."""
    T = grad.shape[1]

    def fastest(steps: int) -> float:
        call = _call(contender, [value[:, :steps] for value in values], grad[:, :steps])
        # The smaller of two times, because extrapolation multiplies the effect of a busy moment.
        return min(seconds(call), seconds(call))

    shorter = fastest(T // 16)
    for part in (8, 4):
        time = fastest(T // part)
        # No contender needs more than quadratic time; memory effects can make linear ones look so.
        power = min(2.0, max(1.0, math.log2(time / shorter)))
        expected, shorter = time * part**power, time
        if expected <= longest or 2**power * time > longest:
            break
    return expected


def _reason(contender: Contender, error: Exception) -> str:
    line = str(error).strip().splitlines()[0][:80] if str(error).strip() else ""
    what = "does not compile" if contender.compiled else "fails"
    return f"{what}: {type(error).__name__} {line}".strip()
