"""Audit of a model: its parameter count, causality, agreement of both forms, and gradients."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lab.arguments import refuse, whole
from lab.audit.look_ahead import look_ahead
from lab.audit.report import AuditError, Report
from lab.audit.state_size import state_bytes
from lab.mixers import unroll
from lab.seeding import stream
from lab.tasks import Batch, Task, of_tokens


def model(
    examined: nn.Module,
    trained_on: Task,
    *,
    length: int,
    parameters: int | None = None,
    seed: int = 0,
) -> Report:
    """Audit a model before it is trained: parameter count, causality, both forms, gradients.

    Causality is tried at several lengths up to the given one, and at several positions: see
    `lab.audit.look_ahead`.

    Args:
        examined: a mixer, or a model with the same methods.
        trained_on: for the shape of its inputs, and one batch for the gradients.
        length: time steps.
        parameters: the count that was reported, if any.
        seed: of the random inputs.

    Raises:
        AuditError: the parameter count is another one; an output depends on a later input; the step
            form differs from the parallel form; an output is not finite.
        ValueError: length is not a whole number of at least 1, parameters is not one of at least 0,
            seed is not a whole number, the model has no parameters, or the task has whole numbers
            as inputs and is no `lab.tasks.TokenTask`.
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
        _causal(examined, x, late, _more(batch.inputs, x, trained_on, seed), report)
        _forms(examined, x, report)
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
        if (task := of_tokens(trained_on)) is None:
            expected = "a lab.tasks.TokenTask, as its inputs are whole numbers"
            refuse("audit.model", "the task", type(trained_on).__name__, expected)
        if task.vocabulary < 2:
            raise AuditError("with a single token there is no other input to compare with")
        x = like[:2]
        return x, torch.where(_later_half(x), (x + 1) % task.vocabulary, x)
    x = torch.randn(2, length, like.shape[-1], generator=generator, dtype=torch.float64)
    return x, x + _later_half(x)[:, None]


def _later_half(x: Tensor) -> Tensor:
    """Bool["T"]: the steps of x ["B T ..."] from its middle on."""
    return torch.arange(x.shape[1]) >= x.shape[1] // 2


def _more(like: Tensor, x: Tensor, trained_on: Task, seed: int) -> tuple[Tensor, Tensor]:
    """More inputs, and what each of their steps may become, which is different."""
    generator = stream(seed, "audit of look-ahead")
    if x.is_floating_point():
        shape = (2, *like.shape[:1], *x.shape[1:])
        first, change = torch.randn(shape, generator=generator, dtype=torch.float64).to(x)
        return first, first + change
    task = of_tokens(trained_on)
    assert task is not None  # `_probes` has asked
    other = torch.randint(1, task.vocabulary, like.shape, generator=generator).to(like.device)
    return like, (like + other) % task.vocabulary


def _causal(
    examined: nn.Module, x: Tensor, late: Tensor, more: tuple[Tensor, Tensor], report: Report
) -> None:
    """No output moves before a changed input: `late` differs from `x` in the later half."""
    y = examined(x)
    if not y.isfinite().all():
        raise AuditError("the output is not finite on random input of unit variance")
    tolerance = _tolerance(y) * max(1.0, y.abs().max().item())
    change = x.shape[1] // 2
    leak = (examined(late) - y)[:, :change].abs()
    leaked = leak.max().item() if leak.numel() else 0.0
    if leaked > tolerance:
        raise AuditError(f"a change of the input at step {change} moves earlier outputs: {leaked}")
    found = look_ahead(examined, *more)
    if not found.size <= _tolerance(y):
        where = f"at step {found.step} of {found.length}"
        raise AuditError(f"a change of the input {where} moves earlier outputs: {found.size}")
    report.add("largest move before a changed input", max(leaked, found.size), "causal")


def _forms(examined: nn.Module, x: Tensor, report: Report) -> None:
    """The parallel form against the step form."""
    y = examined(x)
    tolerance = _tolerance(y) * max(1.0, y.abs().max().item())
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
    task = of_tokens(trained_on)
    remark = "" if task is None else f"{task.bits(length) / 8:,.4g} bytes are needed at least"
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
    """The rounding error allowed for outputs of size 1: float64 has 16 digits, float32 has 7."""
    return 1e-10 if x.dtype == torch.float64 else 1e-4
