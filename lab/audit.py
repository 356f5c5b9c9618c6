"""Checks made before anything trains: of a task, and of a model.

What would invalidate every later number (a model that sees the future, two forms of it that
disagree, NaN in the data) stops with an `AuditError`. All the rest is shown, for a reader to judge.
"""

import html
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from lab.arguments import refuse, whole
from lab.mixers import unroll
from lab.seeding import stream
from lab.state_size import state_bytes
from lab.tasks import Batch, Task


class AuditError(Exception):
    """The apparatus is broken: numbers made with it would mean nothing."""


class Report:
    """What an audit found, as rows of (what, found, remark); displays as a table."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows: list[tuple[str, str, str]] = []

    def add(self, what: str, found: float | str, remark: str = "") -> None:
        """Append a row; numbers are shown to four digits."""
        shown = found if isinstance(found, str) else f"{found:,.4g}"
        self.rows.append((what, shown, remark))

    def __getitem__(self, what: str) -> str:
        """What was found under a name."""
        return {name: found for name, found, _ in self.rows}[what]

    def __repr__(self) -> str:
        widths = [max(len(row[i]) for row in self.rows) for i in range(2)]
        lines = [f"{w:<{widths[0]}}  {f:>{widths[1]}}  {r}".rstrip() for w, f, r in self.rows]
        return "\n".join([self.title, *lines])

    def _repr_html_(self) -> str:
        def row(tag: str, *texts: str) -> str:
            sides = zip(("left", "right", "left"), texts, strict=True)
            cells = [f'<{tag} style="text-align:{s}">{html.escape(t)}</{tag}>' for s, t in sides]
            return f"<tr>{''.join(cells)}</tr>"

        head = f"<thead>{row('th', '', 'found', 'remark')}</thead>"
        body = "".join(row("td", *texts) for texts in self.rows)
        return f"<b>{html.escape(self.title)}</b><table>{head}<tbody>{body}</tbody></table>"


def task(examined: Task, *, length: int, drawn: int = 8000, seed: int = 0) -> Report:
    """Does the input determine the target, and what could a model score at all?

    Args:
        examined: the task.
        length: time steps of an example.
        drawn: how many examples to look at; a further tenth stands for a test set.
        seed: of the draw.

    Raises:
        AuditError: an input or target is NaN or infinite, or the measured variance of the targets
            given the input is not what the task states as its floor.
        ValueError: length or drawn is no whole number of at least 1, or the seed is none.
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
    _retrieval(getattr(examined, "task", examined), length, report)
    return report


def model(
    examined: nn.Module,
    trained_on: Task,
    *,
    length: int,
    parameters: int | None = None,
    seed: int = 0,
) -> Report:
    """Is the model what it is said to be, and fit to be trained?

    Args:
        examined: a mixer, or a model with the same methods.
        trained_on: for the shape of its inputs, and one batch for the gradients.
        length: time steps.
        parameters: the count that was reported, if any.
        seed: of the random inputs.

    Raises:
        AuditError: the parameter count is another one; an output depends on a later input; the step
            form differs from the parallel form; an output is not finite.
        ValueError: length is no whole number of at least 1, parameters none of at least 0, or the
            seed is none; or the model has no parameters.
    """
    whole("audit.model", "length", length, least=1)
    if parameters is not None:
        whole("audit.model", "parameters", parameters, least=0)
    if next(examined.parameters(), None) is None:
        refuse("audit.model", "the model", type(examined).__name__, "one with parameters")
    generator = stream(seed, "audit of the model")
    batch = trained_on.sample(32, length, generator)
    weight = next(examined.parameters())
    x, late = _probes(batch.inputs, length, trained_on, generator)
    x, late = (probe.to(weight if x.is_floating_point() else weight.device) for probe in (x, late))
    batch = Batch(*(part.to(weight.device) for part in batch))
    report = Report(f"{type(examined).__name__}, {length} steps")
    _count(examined, parameters, report)
    with torch.no_grad():
        _forms(examined, x, late, report)
        _dynamics(examined, x, report)
    _capacity(examined, x, trained_on, length, report)
    _gradients(examined, trained_on, batch, report)
    return report


def disagreement(
    examined: nn.Module, x: Tensor, forms: Sequence[Callable[[Tensor], Tensor]]
) -> float:
    """The largest gap between several forms of one model, in outputs and gradients.

    Args:
        examined: whose parameters the gradients of the mean squared output are taken for.
        x: the input.
        forms: functions of `x`; the first is the one that all others are held against.

    Returns:
        The gap, relative to the largest value of what is compared where that is above 1.
    """
    parameters = [parameter for parameter in examined.parameters() if parameter.numel()]
    found = []
    for form in forms:
        y = form(x)
        found.append([y, *torch.autograd.grad(y.square().mean(), parameters)])
    gaps = [
        (other - reference).abs().max() / reference.abs().max().clamp(min=1)
        for results in found[1:]
        for other, reference in zip(results, found[0], strict=True)
    ]
    return max(gap.item() for gap in gaps)


def _count(examined: nn.Module, expected: int | None, report: Report) -> None:
    count = sum(parameter.numel() for parameter in examined.parameters())
    if expected not in (None, count):
        raise AuditError(f"the model has {count} parameters, {expected} were reported")
    report.add("real parameters", f"{count:,}", "as reported" if expected == count else "")


def _probes(
    like: Tensor, length: int, trained_on: Task, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Two inputs that differ from the middle on: random numbers, or for a task of tokens, those."""
    if not like.is_floating_point():
        x, vocabulary = like[:2], trained_on.vocabulary  # type: ignore[attr-defined]
        if vocabulary < 2:
            raise AuditError("with a single token there is no other input to compare with")
        return x, torch.where(_later_half(x), (x + 1) % vocabulary, x)
    x = torch.randn(2, length, like.shape[-1], generator=generator, dtype=torch.float64)
    return x, x + _later_half(x)[:, None]


def _later_half(x: Tensor) -> Tensor:
    """Bool["T"]: the steps of x ["B T ..."] from its middle on."""
    return torch.arange(x.shape[1]) >= x.shape[1] // 2


def _forms(examined: nn.Module, x: Tensor, late: Tensor, report: Report) -> None:
    """Causality, as `late` differs from `x` in the later half; parallel form against step form."""
    y = examined(x)
    if not y.isfinite().all():
        raise AuditError("the output is not finite on random input of unit variance")
    tolerance = _tolerance(y) * max(1.0, y.abs().max().item())
    change = x.shape[1] // 2
    leak = (examined(late) - y)[:, :change].abs()
    leaked = leak.max().item() if leak.numel() else 0.0
    if leaked > tolerance:
        raise AuditError(f"a change of the input at step {change} moves earlier outputs: {leaked}")
    report.add("largest move before a changed input", leaked, "causal")
    gap = (unroll(examined, x) - y).abs().max().item()  # type: ignore[arg-type]
    if gap > tolerance:
        raise AuditError(f"the step form differs from the parallel form by {gap}")
    report.add("step form against parallel form", gap, "the same")
    remark = "input of variance 1" if x.is_floating_point() else ""
    report.add("variance of the output at the start", y.var().item(), remark)


def _dynamics(examined: nn.Module, x: Tensor, report: Report) -> None:
    """Eigenvalues against the unit circle, and how the state grows."""
    sizes = examined.eigenvalues(x).abs()  # type: ignore[operator]
    outside = (sizes > 1 + _tolerance(sizes)).sum(-1).max().item()
    remark = "stable" if outside == 0 else f"{outside} of {sizes.shape[-1]} outside the unit circle"
    report.add("largest size of an eigenvalue", f"{sizes.max().item():.6f}", remark)
    norms = examined.states(x).flatten(2).norm(dim=-1).mean(0)  # type: ignore[operator]
    report.add("norm of the state, largest", norms.max().item(), f"at step {norms.argmax().item()}")
    report.add("norm of the state, last", norms[-1].item())


def _capacity(
    examined: nn.Module, x: Tensor, trained_on: Task, length: int, report: Report
) -> None:
    """The size of the state, against the bits that the task says it must hold."""
    held = state_bytes(examined, x)
    needed = getattr(trained_on, "bits", None)
    remark = "" if needed is None else f"{needed(length) / 8:,.4g} bytes are needed at least"
    report.add(f"bytes of state after {x.shape[1]} steps", held, remark)


def _gradients(examined: nn.Module, trained_on: Task, batch: Batch, report: Report) -> None:
    """The gradient norm of every parameter, on one batch."""
    loss = trained_on.loss(examined, batch)
    named = {name: p for name, p in examined.named_parameters() if p.numel()}
    names, parameters = list(named), list(named.values())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    for name, gradient in zip(names, gradients, strict=True):
        size = 0.0 if gradient is None else gradient.norm().item()
        dead = "" if size else "dead: the loss does not depend on it"
        report.add(f"gradient norm of {name}", size, dead)


def _tolerance(x: Tensor) -> float:
    """What rounding may do, relative to outputs of size 1: float64 has 16 digits, float32 has 7."""
    return 1e-10 if x.dtype == torch.float64 else 1e-4


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


def _retrieval(examined: Task, length: int, report: Report) -> None:
    """What a state must hold and what guesses score, where the task, or that of a set, says so.

    A word problem states the accuracy of chance for every step, which is no row.
    """
    bits = getattr(examined, "bits", None)
    if bits is not None:
        report.add("bits that a state must hold", bits(length))
    guesses = {"a guess": getattr(examined, "chance_accuracy", None)}
    guesses |= getattr(examined, "ceilings", {})
    for guess, accuracy in guesses.items():
        if isinstance(accuracy, float):
            report.add(f"accuracy of {guess}", f"{accuracy:.1%}")


def _floor_remark(floor: float, chance: float) -> str:
    if floor >= 0.999 * chance:
        return "no model can beat predicting zero"
    return f"{floor / chance:.1%} of chance"
