"""Losses and gradients of an update as one compiled graph, beside the eager form.

An update of a small model is thousands of torch operations, each of which costs more to call than
to compute. Here the loss and its gradients are traced once into a graph of operations, which
inductor fuses and compiles to machine code. Clipping, the optimiser, its schedule and the drawing
of examples stay outside of the graph.

Compiling takes from some seconds to a minute, so that it pays after some thousand updates. What is
compiled is kept for this process: a second arm whose graph is the same has only to be traced.

The eager form, `lab.train.eager`, is the reference. The first updates are eager; some of them are
computed in both forms and compared. Wherever tracing, compiling or this comparison fails, training
goes on eagerly.
"""

import hashlib
import tempfile
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from lab.scan import growth
from lab.scan.torch_private import compile_graph, storage_identity, trace, writes_to
from lab.tasks import Batch
from lab.train.resuming import Watchman
from lab.train.side_by_side import SideBySide

WATCHED = 2  # first updates, in which models and tasks must not show a state of their own
CHECKED = 3  # next updates, of every length, that are computed in both forms and compared
EAGER = WATCHED + CHECKED  # first updates, whose eager losses and gradients are used
LENGTHS = 4  # for which a training may be compiled; each of them takes as long as the first

Gradients = list[Tensor | None]

# What was compiled in this process, by the digest of its graph; or why it could not be.
_COMPILED: dict[str, "Callable[..., Sequence[Tensor]] | str"] = {}


class Traced:
    """The same by a compiled graph, or eagerly where that is not possible; of which it warns once.

    Args:
        run: the models, on the CPU.
        lengths: of all updates.
        before_update: whether something changes the models between updates.
    """

    def __init__(self, run: SideBySide, lengths: Collection[int], *, before_update: bool) -> None:
        self.run, self.lengths, self.before_update = run, lengths, before_update
        self.trained = [p for p in run.parameters.values() if p.requires_grad]
        self.watchman = Watchman(run.models, lambda: {"tasks": run.tasks})
        self.programs: dict[Any, _Program] = {}
        self.is_compiled = True
        self.gradients: Gradients | None = None

    def losses(self, batch: int, length: int, step: int) -> Tensor:
        """As `Eager.losses`; where they are compiled, autograd does not know of them."""
        examples, self.gradients = self.run.draw(batch, length), None
        if not self.is_compiled:
            return self.run.evaluate(examples)
        if step < WATCHED:
            return self._watched(examples)
        program = self.programs.get(_kinds(examples))
        if program is None or program.unchecked:
            return self._in_both_forms(examples, step)
        try:
            losses, self.gradients = program(self.run, examples)
        except Exception as error:  # such as of a matrix that is singular
            losses = self.run.evaluate(examples)  # which raises its own error, if it has one
            self._go_on_eagerly(error)
        return losses

    def backward(self, losses: Tensor) -> None:
        """As `Eager.backward`."""
        if self.gradients is None:
            losses.sum().backward()
            return
        for parameter, gradient in zip(self.trained, self.gradients, strict=True):
            parameter.grad = gradient

    def _watched(self, examples: Batch) -> Tensor:
        """Eager losses; the training stays eager if evaluating them changes models or tasks."""
        try:
            before = self.watchman.look()
        except ValueError as error:  # something in them cannot be compared
            self._go_on_eagerly(error)
            return self.run.evaluate(examples)
        losses = self.run.evaluate(examples)
        if changing := self.watchman.again(before):
            self._go_on_eagerly(_ObstacleError(f"{changing} changes with every update"))
        return losses

    def _in_both_forms(self, examples: Batch, step: int) -> Tensor:
        """Losses of one form or the other, whose difference is rounding.

        Which one is returned depends on the number of the update alone, so that a training that was
        resumed, and compares again, ends with the same numbers.
        """
        eager = found = self._eager(examples)
        try:
            if eager[0].isfinite().all():
                found = self._compiled(examples, eager)
        except Exception as error:  # tracers and compilers raise anything
            self._go_on_eagerly(error)
        losses, self.gradients = found if step >= EAGER and self.is_compiled else eager
        return losses

    def _eager(self, examples: Batch) -> tuple[Tensor, Gradients]:
        losses = self.run.evaluate(examples)
        for parameter in self.trained:
            parameter.grad = None
        losses.sum().backward()
        gradients = [parameter.grad for parameter in self.trained]
        for parameter in self.trained:
            parameter.grad = None
        return losses.detach(), gradients

    def _compiled(
        self, examples: Batch, eager: tuple[Tensor, Gradients]
    ) -> tuple[Tensor, Gradients]:
        """Losses and gradients of the compiled form, which are close to the eager ones.

        Raises:
            _ObstacleError: they are not, or something else is in the way.
        """
        kinds = _kinds(examples)
        if kinds not in self.programs:
            self._check_what_is_asked()
            self.programs[kinds] = _Program(self.run, examples)
        program = self.programs[kinds]
        found = program(self.run, examples)
        if difference := _difference(eager, found):
            raise _ObstacleError(difference)
        program.unchecked -= 1
        return found

    def _check_what_is_asked(self) -> None:
        """Stop before anything is traced that cannot be right, or cannot pay.

        Raises:
            _ObstacleError: says what.
        """
        if self.run.device.type != "cpu":
            raise _ObstacleError(f"it is for the CPU, and the models are on {self.run.device}")
        if self.before_update:
            raise _ObstacleError("before_update may change what is part of the graph")
        if max(len(set(self.lengths)), len(self.programs) + 1) > LENGTHS:
            raise _ObstacleError(f"examples have more than {LENGTHS} different shapes")

    def _go_on_eagerly(self, error: Exception) -> None:
        self.is_compiled = False
        self.programs.clear()
        name = type(self.run.models[0]).__name__
        warnings.warn(
            f"compiled=True, but {name} is trained eagerly: {_reason(error)}", stacklevel=2
        )


class _ObstacleError(Exception):
    """Why a training cannot be compiled."""


@dataclass(frozen=True)
class _Graph:
    """What was traced.

    Attributes:
        module: the graph; its results are the losses, and the gradients that there are.
        constants: tensors that are inputs of the graph after parameters, buffers and examples.
        has_gradient: of every trained parameter.
    """

    module: GraphModule
    constants: list[Tensor]
    has_gradient: list[bool]


class _Program:
    """The compiled losses and gradients for examples of one shape.

    Args:
        run: the models.
        examples: of that shape.

    Attributes:
        unchecked: updates that are still to be computed in both forms.

    Raises:
        _ObstacleError: something in the models or the task cannot be part of a graph.
        Exception: whatever tracing and compiling raise.
    """

    def __init__(self, run: SideBySide, examples: Batch) -> None:
        self.unchecked = CHECKED
        inputs = _inputs(run, examples)
        graph = _traced(run, inputs)
        self.constants, self.has_gradient = graph.constants, graph.has_gradient
        self.compiled = _compiled(graph.module, [*inputs, *graph.constants])

    def __call__(self, run: SideBySide, examples: Batch) -> tuple[Tensor, Gradients]:
        """Losses Float["models"], and the gradients of the trained parameters."""
        inputs = [*_inputs(run, examples), *self.constants]
        with torch.no_grad():
            losses, *found = self.compiled(*inputs)
        taken = {tensor.data_ptr() for tensor in inputs}
        gradients: Gradients = []
        given = iter(found)
        for there_is_one in self.has_gradient:
            gradient = next(given) if there_is_one else None
            if gradient is not None:
                # Clipping writes to gradients: each needs memory of its own.
                gradient = gradient.clone() if gradient.data_ptr() in taken else gradient
                taken.add(gradient.data_ptr())
            gradients.append(gradient)
        return losses, gradients


# --- the graph -----------------------------------------------------------------------------------


def _inputs(run: SideBySide, examples: Batch) -> list[Tensor]:
    parameters = [parameter.detach() for parameter in run.parameters.values()]
    return [*parameters, *run.buffers.values(), *examples]


def _kinds(tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    """What compiled code depends on of its inputs."""
    return tuple((t.dtype, t.shape, t.stride(), t.device.type) for t in tensors)


def _traced(run: SideBySide, inputs: Sequence[Tensor]) -> _Graph:
    """The losses and gradients as a graph without side effects.

    Raises:
        _ObstacleError: there are some, or values decide what is computed.
    """
    names, buffered = list(run.parameters), list(run.buffers)
    trained = {name for name, parameter in run.parameters.items() if parameter.requires_grad}
    has_gradient: list[bool] = []

    def step(*given: Tensor) -> list[Tensor]:
        written = [writes_to(tensor) for tensor in given]
        leaves = {
            name: tensor.detach().requires_grad_(name in trained)
            for name, tensor in zip(names, given, strict=False)
        }
        rest = given[len(names) :]
        buffers = dict(zip(buffered, rest, strict=False))
        losses, after = run.function(leaves, buffers, Batch(*rest[len(buffered) :]))
        wanted = [leaf for name, leaf in leaves.items() if name in trained]
        found = torch.autograd.grad(losses.sum(), wanted, allow_unused=True)
        kept = all(_place(after[name]) == _place(buffers[name]) for name in buffered)
        if not kept or written != [writes_to(tensor) for tensor in given]:
            raise _ObstacleError("it changes buffers or other tensors as it runs")
        has_gradient[:] = [gradient is not None for gradient in found]
        plain = [g.resolve_conj().resolve_neg().contiguous() for g in found if g is not None]
        return [losses.detach(), *plain]

    unseen = growth.unseen()
    module = trace(step, inputs)
    if growth.unseen() != unseen:
        raise _ObstacleError("the values of its gains decide on the form of a scan")
    _check_randomness(module)
    return _Graph(module, _constants_as_inputs(module), has_gradient)


def _place(tensor: Tensor) -> int:
    return storage_identity(tensor.untyped_storage())


def _check_randomness(module: GraphModule) -> None:
    """Raises _ObstacleError if an operation draws random numbers: eager ones would be others."""
    for node in module.graph.nodes:
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise _ObstacleError(f"it draws random numbers as it runs ({node.target})")


def _constants_as_inputs(module: GraphModule) -> list[Tensor]:
    """Make the tensors that a graph holds inputs after all others, so that arms can share it."""
    constants: list[Tensor] = []
    nodes = list(module.graph.nodes)
    first = next(node for node in nodes if node.op != "placeholder")
    for node in nodes:
        value = getattr(module, node.target) if node.op == "get_attr" else None
        if isinstance(value, Tensor):
            with module.graph.inserting_before(first):
                given = module.graph.placeholder(f"constant_{len(constants)}")
            given.meta.update(node.meta)
            node.replace_all_uses_with(given)
            module.graph.erase_node(node)
            constants.append(value.detach())
    module.recompile()
    return constants


def _compiled(module: GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Sequence[Tensor]]:
    """The graph as machine code, from the memory of this process if it has been there before.

    Raises:
        _ObstacleError: it could not be compiled before, either.
        Exception: whatever compiling raises.
    """
    key = _digest(module, inputs)
    if key not in _COMPILED:
        with tempfile.TemporaryDirectory(prefix="lab-compiled-") as folder:  # private: mode 0700
            try:
                _COMPILED[key] = compile_graph(module, inputs, Path(folder))
            except Exception as error:
                if not _was_killed(error):
                    _COMPILED[key] = _reason(error)
                raise
    found = _COMPILED[key]
    if isinstance(found, str):
        raise _ObstacleError(found)
    return found


def _was_killed(error: BaseException | None) -> bool:
    """Whether a signal has ended the compiler, as Ctrl-C does: it says nothing of the next time."""
    while error is not None:
        if getattr(error, "returncode", 0) < 0:
            return True
        error = error.__cause__ or error.__context__
    return False


def _digest(module: GraphModule, inputs: Sequence[Tensor]) -> str:
    """Of all that decides on the machine code: operations, their numbers, and shapes."""
    codes = [part.code for part in module.modules() if isinstance(part, GraphModule)]
    settings = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        torch.get_default_dtype(),
    )
    return hashlib.sha256(repr((codes, _kinds(inputs), settings)).encode()).hexdigest()


# --- the comparison ------------------------------------------------------------------------------


def tolerance(dtype: torch.dtype) -> float:
    """The largest relative difference of two forms: half of the digits, 3e-4 in float32."""
    return float(torch.finfo(dtype).eps) ** 0.5


def _difference(eager: tuple[Tensor, Gradients], found: tuple[Tensor, Gradients]) -> str:
    """Where compiled losses or gradients are not the eager ones; empty if they are.

    The norm of the error of a gradient, for each model and parameter, may be `tolerance` times the
    sum of its norm and a tenth of the norm of all gradients together: one that is tiny beside the
    others is the rounding of larger numbers that cancel.
    """
    losses, others = eager[0].double(), found[0].double()
    limit = tolerance(eager[0].dtype)
    if not bool(((losses - others).abs() <= limit * losses.abs()).all()):
        return f"compiled losses are {others.tolist()}, and eager ones {losses.tolist()}"
    if [g is None for g in eager[1]] != [g is None for g in found[1]]:
        return "compiled and eager gradients are of different parameters"
    pairs = zip(eager[1], found[1], strict=True)
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    norms = torch.stack([_norm(a, len(losses)) for a, _ in both])
    errors = torch.stack([_norm(a - b, len(losses)) for a, b in both])
    allowed = limit * (norms + 0.1 * norms.square().sum(0).sqrt())
    if not bool((errors <= allowed).all()):
        worst = (errors / norms.square().sum(0).sqrt()).max().item()
        return f"compiled gradients differ from eager ones by {worst:.0e} of their norm"
    return ""


def _norm(gradient: Tensor, models: int) -> Tensor:
    """Float64["models"]: of each model's part of a gradient."""
    rows = gradient.reshape(models, -1).abs().double()
    return torch.linalg.vector_norm(rows, dim=1)


def _reason(error: Exception) -> str:
    """One line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else ""
    name = "" if isinstance(error, _ObstacleError) else type(error).__name__
    return ": ".join(part for part in (name, first[:200]) if part)
