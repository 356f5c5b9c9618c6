"""Audit of a task: does its input determine the target, and what can a model score at best?"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from lab.arguments import whole
from lab.audit.report import AuditError, Report
from lab.seeding import stream
from lab.tasks import Batch, Task, of_tokens


def task(examined: Task, *, length: int, drawn: int = 8000, seed: int = 0) -> Report:
    """Audit a task: does its input determine the target, and what can a model score at best?

    Args:
        examined: the task.
        length: time steps of an example.
        drawn: how many examples to look at; a further tenth stands for a test set.
        seed: of the draw.

    Raises:
        AuditError: an input or target is NaN or infinite, or the measured variance of the targets
            given the input is not what the task states as its floor.
        ValueError: length or drawn is not a whole number of at least 1, or seed is not one.
    """
    whole("audit.task", "length", length, least=1)
    whole("audit.task", "drawn", drawn, least=1)
    train = examined.sample(drawn, length, stream(seed, "audit of training data"))
    test = examined.sample(max(1, drawn // 10), length, stream(seed, "audit of test data"))
    for name, part in (("inputs", train.inputs), ("targets", train.targets)):
        if not part.double().isfinite().all():
            raise AuditError(f"the {name} of {type(examined).__name__} hold NaN or infinity")
    groups, seen = _group(train.inputs), _rows(train.inputs)
    chance, floor = examined.chance(length), examined.floor(length)
    report = Report(f"{type(examined).__name__}, {length} steps, {drawn:,} examples")
    report.add("distinct inputs, of all", examined.distinct_inputs(length))
    report.add("distinct inputs, drawn", len(seen))
    overlap = sum(row in seen for row in map(bytes, _as_bytes(test.inputs))) / len(test.inputs)
    report.add("test inputs also in training", f"{overlap:.1%}")
    report.add("chance: without looking at the input", chance)
    report.add("floor: the best possible", floor, _floor_remark(floor, chance))
    variance, error = _variance_within(train, groups)
    if abs(variance - floor) > 6 * error + 1e-9 * chance:  # nan where no two inputs are the same
        measured = f"{variance:.4g} with a standard error of {error:.2g}"
        raise AuditError(
            f"the variance of the target given the input is {measured}, not {floor:.4g}"
        )
    report.add("variance of the target, input given", *_variance_remark(variance, error, chance))
    _limits(examined, train.mask, length, report)
    return report


def _as_bytes(inputs: Tensor) -> Iterable[bytes]:
    return (row.tobytes() for row in inputs.flatten(1).contiguous().numpy())


def _rows(inputs: Tensor) -> set[bytes]:
    return set(_as_bytes(inputs))


def _group(inputs: Tensor) -> Tensor:
    """Int64["B"]: the same number for identical inputs."""
    return torch.unique(inputs.flatten(1), dim=0, return_inverse=True)[1]


def _variance_within(train: Batch, groups: Tensor) -> tuple[float, float]:
    """Variance of the targets among examples with the same input, and its standard error."""
    sizes = torch.bincount(groups)
    repeated = sizes[groups] > 1
    if not repeated.any():
        return math.nan, math.nan
    targets = train.targets.double().flatten(1)
    sums = torch.zeros(len(sizes), targets.shape[1], dtype=torch.float64)
    means = sums.index_add(0, groups, targets) / sizes[:, None]
    squares = (targets - means[groups]).square().mean(1)
    unbiased = (squares * (sizes / (sizes - 1))[groups])[repeated]
    return unbiased.mean().item(), unbiased.std().item() / math.sqrt(len(unbiased))


def _variance_remark(variance: float, error: float, chance: float) -> tuple[float | str, str]:
    if math.isnan(variance):
        return "none to compare", "all inputs differ"
    if variance <= 1e-12 * chance:
        return 0.0, "the input determines the target"
    return variance, f"± {error:.2g}: the input does NOT determine the target"


def _limits(examined: Task, mask: Tensor, length: int, report: Report) -> None:
    """Of tasks of tokens: bits that a state must hold, and the accuracy of guesses.

    That of a guess that knows the step is the mean over the scored steps, Bool["B T"].
    """
    if (task := of_tokens(examined)) is None:
        return
    report.add("bits that a state must hold", task.bits(length))
    scored = mask.sum(0)
    guess = (task.chance_accuracy(length) * scored).sum() / scored.sum()
    for name, accuracy in {"a guess": guess.item(), **task.ceilings}.items():
        report.add(f"accuracy of {name}", f"{accuracy:.1%}")


def _floor_remark(floor: float, chance: float) -> str:
    if floor >= 0.999 * chance:
        return "no model can beat predicting zero"
    return f"{floor / chance:.1%} of chance"
