"""The calls into torch that it does not promise to keep: all that lab makes are here.

Each was seen in the torch releases that its docstring names, and a test calls each of them. Where
torch has changed, this is the file to change. `tree_map` and `tree_leaves`, for tensors in tuples,
lists and dictionaries, and `TorchDispatchMode`, which sees every operation, have no public name;
seen in torch 2.9 to 2.15.
"""

import importlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._functorch import pyfunctorch
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = [
    "TorchDispatchMode",
    "below_autograd",
    "compile_graph",
    "is_batched",
    "is_differentiating",
    "is_watched",
    "operator_name",
    "storage_identity",
    "storage_users",
    "torch_associative_scan",
    "trace",
    "tree_leaves",
    "tree_map",
    "values_of",
    "writes_to",
]


def is_differentiating() -> bool:
    """Whether torch.func (grad, jvp, hessian, but not vmap) or forward-mode AD is at work.

    torch has no public question for either. `forward_ad._current_level` is -1 outside of
    `dual_level`; the interpreters are the levels of torch.func, the outermost first. Seen in torch
    2.9 to 2.15.
    """
    if forward_ad._current_level >= 0:
        return True
    if not torch._C._are_functorch_transforms_active():
        return False
    return any(
        level.key() != torch._C._functorch.TransformType.Vmap
        for level in pyfunctorch.retrieve_all_functorch_interpreters()
    )


# torch.compile calls the question while it traces, with the levels that are then at work, and makes
# its answer part of the graph. `torch.compiler.assume_constant_result` sets the same mark, but
# imports the compiler, which takes seconds. Seen in torch 2.13.
is_differentiating._dynamo_marked_constant = True  # type: ignore[attr-defined]


def is_watched(values: Sequence[Tensor]) -> bool:
    """Whether a tracer, a profiler, vmap, a mode or a kind of tensor wants to see an operator.

    A custom operator tells all of them by itself; these are the questions that torch's dispatcher
    asks before. Legacy batched tensors are those of `torch.autograd.grad(is_grads_batched=True)`.
    Seen in torch 2.9 to 2.15.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
        or torch._C._get_tracing_state() is not None
        or torch.autograd._profiler_enabled()
        or not all(type(value) in (Tensor, torch.nn.Parameter) for value in values)
        or any(map(torch._C._functorch.is_legacy_batchedtensor, values))
    )


def is_batched(tensor: Tensor) -> bool:
    """Whether torch.vmap is at work on it, perhaps around or inside other transforms.

    Each transform of torch.func wraps the tensors that it watches, and there is no public way to
    look inside. Seen in torch 2.9 to 2.15.
    """
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            return True
        tensor = functorch.get_unwrapped(tensor)
    return False


def values_of(tensor: Tensor) -> Tensor | None:
    """The numbers themselves, of all lanes of a vmap, from inside the transforms of torch.func.

    None where they cannot be looked at: in tracers, on the meta device, of kinds of tensors. Seen
    in torch 2.9 to 2.15.
    """
    functorch = torch._C._functorch
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return None
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and not tensor.is_meta
    if not plain or functorch.is_legacy_batchedtensor(tensor):
        return None
    return tensor.detach()


def below_autograd() -> AbstractContextManager[Any]:
    """Inside, the dispatcher passes autograd over, as between an operator and its kernel.

    Of this the public form is `torch.library.register_autograd`, which takes several times as long
    for each call. Seen in torch 2.9 to 2.15.
    """
    guard: AbstractContextManager[Any] = torch._C._AutoDispatchBelowAutograd()
    return guard


def operator_name(operator: Any) -> str:
    """The bare name of a torch.ops.NAMESPACE.NAME.OVERLOAD, which names the nodes of its graph.

    Publicly there is only `str(operator)`. Seen in torch 2.9 to 2.15.
    """
    name: str = operator._opname
    return name


def storage_identity(storage: torch.UntypedStorage) -> int:
    """A number that tells storages from one another while they live, with contents or without.

    Seen in torch 2.9 to 2.15.
    """
    return int(storage._cdata)


def storage_users(storage: torch.UntypedStorage) -> int:
    """How many tensors and graphs share the storage, and 1 for the Python object itself.

    Seen in torch 2.9 to 2.15.
    """
    return torch._C._storage_Use_Count(storage._cdata)


def torch_associative_scan() -> Callable[..., Any]:
    """torch's own associative scan, a prototype.

    Where it has no public name it is imported from where it was first seen: torch 2.9 to 2.15.
    """
    module: Any = importlib.import_module("torch._higher_order_ops.associative_scan")
    scan: Callable[..., Any] = module.associative_scan
    return scan


def writes_to(tensor: Tensor) -> int:
    """How often operations have written to the memory of the tensor, in place.

    Seen in torch 2.13.
    """
    return tensor._version


def trace(function: Callable[..., Any], inputs: Sequence[Tensor]) -> torch.fx.GraphModule:
    """The torch operations that `function(*inputs)` comes to, for all inputs of these shapes.

    Values are unknown while it runs, so that a branch on values is an error. Tensors that are no
    inputs become attributes of the graph.

    `make_fx` is public; that such tensors are allowed is not. Seen in torch 2.13.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    traced = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)
    graph: torch.fx.GraphModule = traced(*inputs)
    return graph


def compile_graph(
    graph: torch.fx.GraphModule, inputs: Sequence[Tensor], folder: Path
) -> Callable[..., Sequence[Tensor]]:
    """The graph as machine code, by inductor, for inputs of these shapes; without gradients.

    Sources and libraries are written to `folder` alone, which can be removed afterwards. Inductor's
    caches of graphs are off: what they hold is unpickled, and they outlive the process.

    Args:
        graph: of torch operations; it may be changed.
        inputs: of the shapes, types and strides that it will be called with.
        folder: where nobody else can write.

    Raises:
        Exception: of many kinds, such as CppCompileError; there may be no compiler.

    `torch.compile` does the same behind guards, and keeps its files where other users may write.
    Seen in torch 2.13.
    """
    with _compiling_in(folder), _quiet(), torch.no_grad():
        from torch import _inductor

        compiled: Callable[..., Sequence[Tensor]] = _inductor.compile(graph, list(inputs))
    return compiled


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, inductor does not warn of itself, nor of operations that it leaves to torch."""
    log = logging.getLogger("torch._inductor")
    level = log.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(level)


@contextmanager
def _compiling_in(folder: Path) -> Iterator[None]:
    """Inside, inductor and its compiler keep all files in a folder, and no workers are started.

    Headers are not compiled beforehand, because these would be kept elsewhere. With the C++ wrapper
    all kernels of a graph are in one file, which takes a third of the time.
    """
    places = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TMPDIR")
    told = "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR"  # an address, for libraries as they are loaded
    before = {name: os.environ.get(name) for name in (*places, told)}
    os.environ.update(dict.fromkeys(places, os.fspath(folder)))
    try:
        from torch._functorch import config as functorch
        from torch._inductor import config as inductor
        from torch._inductor.utils import clear_caches

        caches = {"fx_graph_cache": False, "fx_graph_remote_cache": False}
        own = {"compile_threads": 1, "cpp_cache_precompile_headers": False, "cpp_wrapper": True}
        with inductor.patch({**caches, **own}), functorch.patch({"enable_autograd_cache": False}):
            clear_caches()  # paths of files elsewhere, or in a folder that is gone
            try:
                yield
            finally:
                clear_caches()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
