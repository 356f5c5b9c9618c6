"""Scans with compiled kernels, as torch operators: what autograd, torch.compile and vmap see.

A scan brings two kernels per device, for its states and for the gradients of its inputs, and one
formula: the same gradients, written with differentiable scans. The formula is what autograd
differentiates for second and higher derivatives, and what the second kernel is tested against.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lab.scan.cpu import memory
from lab.scan.interrupts import handlers_wait
from lab.scan.torch_private import below_autograd, is_differentiating, is_watched, operator_name

# What a result is like: the name of an argument, of the same shape and type; that name and another
# type; or a function from all arguments by name to a tensor of the shape and type.
Like = str | tuple[str, torch.dtype] | Callable[[dict[str, Tensor]], Tensor]

_LIBRARY = torch.library.Library("lab", "FRAGMENT")

COMPILED_DTYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)


class Scan:
    """A scan as a pair of torch operators: its states, and the gradients of its inputs.

    Args:
        name: of the operator, torch.ops.lab.NAME; that of the gradients is NAME_backward.
        inputs: names of the inputs, all with the batch in front; indices come last.
        outputs: what each output is like (see `Like`); those with another type are whole numbers,
            come last and have no gradient.
        saved: names of the inputs and outputs that the gradients are computed from.
        gradients: for each input but the indices, which of `saved` its gradient is like.
        kernels: for each type of device, a module with `forward(*inputs, *outputs)` and
            `backward(*grads, *saved, *gradients)`, which read contiguous tensors and fill their
            last arguments.
        formula: `backward` as a differentiable function (*grads, *saved) -> gradients.
        kept: names of outputs that are there for the gradients alone, and have none; they come
            after those that have.
        grouped: names of inputs, and so of their gradients, of which several neighbours in the
            batch share one: their batch axis is a divisor of the batch.
    """

    def __init__(
        self,
        name: str,
        *,
        inputs: Sequence[str],
        outputs: Mapping[str, Like],
        saved: Sequence[str],
        gradients: Mapping[str, Like],
        kernels: dict[str, ModuleType],
        formula: Callable[..., tuple[Tensor, ...]],
        kept: Sequence[str] = (),
        grouped: Sequence[str] = (),
    ) -> None:
        self.devices = set(kernels)
        grads = [
            f"grad_{output}"
            for output, like in outputs.items()
            if not _type(like) and output not in kept
        ]
        forward = {device: module.forward for device, module in kernels.items()}
        backward = {device: module.backward for device, module in kernels.items()}
        self.states = Operator(name, inputs, outputs, forward, grouped)
        pull_back = Operator(f"{name}_backward", [*grads, *saved], gradients, backward, grouped)
        names = [*inputs, *outputs]

        places = [names.index(name) for name in saved]

        def save(ctx: Any, values: Sequence[Tensor], results: Sequence[Tensor]) -> None:
            both = (*values, *results)
            ctx.save_for_backward(*[both[place] for place in places])
            if len(grads) < len(results):
                ctx.mark_non_differentiable(*results[len(grads) :])

        def gradient(ctx: Any, *of_outputs: Tensor) -> Sequence[Tensor | None]:
            filled = _listed(pull_back(*of_outputs[: len(grads)], *ctx.saved_tensors))
            return *filled, *[None] * (len(inputs) - len(gradients))

        def save_all(ctx: Any, values: Sequence[Tensor], _: Sequence[Tensor]) -> None:
            ctx.save_for_backward(*values)

        def second(ctx: Any, *of_gradients: Tensor) -> Sequence[Tensor | None]:
            return _derivative(formula, ctx.saved_tensors, of_gradients)

        self.states.differentiable(save, gradient)
        pull_back.differentiable(save_all, second)

    def runs_on(self, *inputs: Tensor) -> bool:
        """Whether there is a kernel for these inputs, here: else the plain form has to do."""
        device, dtype = inputs[0].device.type, inputs[0].dtype
        return device in self.devices and dtype in COMPILED_DTYPES and not is_differentiating()

    def __call__(self, *inputs: Tensor) -> Any:
        """The outputs, one tensor or a tuple of them."""
        return self.states(*inputs)


def _derivative(
    formula: Callable[..., tuple[Tensor, ...]],
    values: Sequence[Tensor],
    of_results: Sequence[Tensor],
) -> tuple[Tensor | None, ...]:
    """Vector-Jacobian product of `formula` at `values`; differentiable again."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Other names for the same values, still connected to where those came from.
        values = [value.view_as(value) for value in values]
        differentiable = {
            place: value.requires_grad_()
            for place, value in enumerate(values)
            if value.is_floating_point() or value.is_complex()
        }
        found = torch.autograd.grad(
            formula(*values), list(differentiable.values()), of_results,
            create_graph=again, allow_unused=True,
        )  # fmt: skip
    derivatives = dict(zip(differentiable, found, strict=True))
    return tuple(derivatives.get(place) for place in range(len(values)))


class Operator:
    """A torch operator, torch.ops.lab.NAME, that allocates its outputs and has a kernel fill them.

    Its own call goes straight to the kernel where nobody but autograd has to know of it, which
    halves the time that a small scan takes. Tracing, modes and vmap see the operator.
    """

    def __init__(
        self,
        name: str,
        inputs: Sequence[str],
        outputs: Mapping[str, Like],
        kernels: dict[str, Callable[..., None]],
        grouped: Sequence[str] = (),
    ) -> None:
        self.inputs, self.outputs, self.kernels = inputs, outputs, kernels
        self.grouped = set(grouped)
        self._apply: Callable[..., Any] = lambda compute, *values: compute(*values)
        with handlers_wait():
            if name not in _LATEST:
                _register(name, inputs, len(outputs), kernels)
            _LATEST[name] = self
        self.traced: Any = getattr(torch.ops.lab, name).default

    def differentiable(
        self,
        save: Callable[[Any, Sequence[Tensor], Sequence[Tensor]], None],
        gradient: Callable[..., Sequence[Tensor | None]],
    ) -> None:
        """Tell autograd what to keep, save(ctx, inputs, outputs), and how to use it."""

        def forward(ctx: Any, compute: Callable[..., Any], *values: Tensor) -> Any:
            results = compute(*values)
            save(ctx, values, _listed(results))
            return results

        def backward(ctx: Any, *of_results: Tensor) -> tuple[Tensor | None, ...]:
            return None, *gradient(ctx, *of_results)

        # Graphs and messages call it by the name of the operator.
        members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        function: Any = type(operator_name(self.traced), (torch.autograd.Function,), members)

        def apply(compute: Callable[..., Any], *values: Tensor) -> Any:
            if torch.is_grad_enabled() and any(value.requires_grad for value in values):
                return function.apply(compute, *values)
            return compute(*values)

        self._apply = apply

    def __call__(self, *values: Tensor) -> Any:
        """The outputs, one tensor or a tuple of them."""
        if is_watched(values):
            return self.traced(*values)
        return self._apply(self._compute, *values)

    def _under_autograd(self, *values: Tensor) -> Any:
        def compute(*values: Tensor) -> Any:
            with below_autograd():
                return self.traced(*values)

        return self._apply(compute, *values)

    def _allocate(self, empty: Callable[..., Tensor], values: Sequence[Tensor]) -> list[Tensor]:
        named = dict(zip(self.inputs, values, strict=True))
        results = []
        for like in self.outputs.values():
            template = _template(like, named)
            results.append(empty(template, _type(like) or template.dtype))
        return results

    def _compute(self, *values: Tensor) -> Tensor | tuple[Tensor, ...]:
        results = self._allocate(memory.empty_like, values)
        self.kernels[values[0].device.type](*map(_plain, values), *results)
        return _packed(results)

    def _fake(self, *values: Tensor) -> Tensor | tuple[Tensor, ...]:
        return _packed(self._allocate(_fake_like, values))

    def _vmapped(self, info: Any, in_dims: Sequence[int | None], *values: Tensor) -> Any:
        lanes = [
            v.expand(info.batch_size, *v.shape) if dim is None else v.movedim(dim, 0)
            for v, dim in zip(values, in_dims, strict=True)
        ]
        sizes = dict(zip(self.inputs, (lane.shape[1] for lane in lanes), strict=True))
        batch = max(size for name, size in sizes.items() if name not in self.grouped)
        groups = max((size for name, size in sizes.items() if name in self.grouped), default=1)
        whole = []
        for name, lane in zip(self.inputs, lanes, strict=True):
            # What one batch shares (a batch axis of 1) is repeated, since another lane has another.
            # Groups of all lanes are one after another, and so are those who share them.
            repeated = lane if name in self.grouped else lane.expand(-1, batch, *lane.shape[2:])
            whole.append(repeated.flatten(0, 1))
        results = []
        for tensor, (name, like) in zip(_listed(self(*whole)), self.outputs.items(), strict=True):
            rows = groups if name in self.grouped else batch
            result = tensor.unflatten(0, (info.batch_size, rows))
            shared = isinstance(like, str) and sizes[like] not in (rows, batch)
            results.append(result.sum(1, keepdim=True) if shared else result)
        return _packed(results), (0,) * len(results) if len(results) > 1 else 0


# By name. A module that is imported again, after an interrupt for instance, brings its operator
# again, and torch takes a name only once: what it calls is the latest.
_LATEST: dict[str, Operator] = {}


def _register(name: str, inputs: Sequence[str], outputs: int, devices: Iterable[str]) -> None:
    """Make the operator known to torch; its calls go to the latest Operator of this name."""
    arguments = ", ".join(f"Tensor {argument}" for argument in inputs)
    results = ", ".join(["Tensor"] * outputs)
    _LIBRARY.define(f"{name}({arguments}) -> ({results})")
    operator: Any = getattr(torch.ops.lab, name).default
    for device in devices:
        _LIBRARY.impl(operator, lambda *given: _LATEST[name]._compute(*given), device.upper())
    _LIBRARY.impl(operator, lambda *given: _LATEST[name]._under_autograd(*given), "Autograd")
    torch.library.register_fake(operator, lambda *given: _LATEST[name]._fake(*given), lib=_LIBRARY)
    torch.library.register_vmap(
        operator, lambda *given: _LATEST[name]._vmapped(*given), lib=_LIBRARY
    )


def _plain(value: Tensor) -> Tensor:
    """The same numbers one after another in memory, as they are."""
    if value.is_contiguous() and not (value.is_conj() or value.is_neg()):
        return value
    return value.resolve_conj().resolve_neg().contiguous()


def _fake_like(template: Tensor, dtype: torch.dtype) -> Tensor:
    return template.new_empty(template.shape, dtype=dtype)


def _template(like: Like, named: dict[str, Tensor]) -> Tensor:
    if callable(like):
        return like(named)
    return named[like] if isinstance(like, str) else named[like[0]]


def _type(like: Like) -> torch.dtype | None:
    """The type that is not that of the template, if there is one."""
    return like[1] if isinstance(like, tuple) else None


def _listed(values: Tensor | tuple[Tensor, ...]) -> Sequence[Tensor]:
    return values if isinstance(values, tuple) else (values,)


def _packed(results: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
    return tuple(results) if len(results) > 1 else results[0]
