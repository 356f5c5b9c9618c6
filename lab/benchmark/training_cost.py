"""What a training would need of a GPU, calculated without one: parameters, memory and time."""

import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import flop_registry

from lab.arguments import whole
from lab.scan.torch_private import TorchDispatchMode, storage_identity, tree_leaves

GIB = 2**30
_MOMENTS = 2  # that Adam keeps for every parameter
_ADAM_PASSES = 7  # weights, gradients and moments are read, and all but gradients written


@dataclass(frozen=True)
class Accelerator:
    """A GPU by its data sheet.

    Args:
        name: what it is called.
        flops: operations of matrix products in a second, in the precision of the training.
        bandwidth: bytes that are read or written in a second.
        memory: bytes.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float


# Products of float32 in TF32, without sparsity. Sources: NVIDIA's data sheets.
A100 = Accelerator("A100, 80 GB", flops=156e12, bandwidth=2.039e12, memory=80e9)
H100 = Accelerator("H100 SXM, 80 GB", flops=494.7e12, bandwidth=3.35e12, memory=80e9)


@dataclass(frozen=True)
class TrainingCost:
    """What `training_cost` finds.

    Args:
        parameters: number of the model's parameters.
        updates: number of updates.
        tokens: of one update.
        flops: operations of matrix products in one update, a multiplication and an addition as two.
        moved: bytes that all operations of one update read and write.
        peak: largest number of bytes in memory at once.
        operations: how often operations with so many (flops, bytes) are called in one update.
    """

    parameters: int
    updates: int
    tokens: int
    flops: int
    moved: int
    peak: int
    operations: Mapping[tuple[int, int], int]

    def seconds(self, gpu: Accelerator) -> float:
        """The least time that all updates take with these operations, in seconds.

        Each operation takes the time of its arithmetic or that of moving its bytes, whichever is
        longer, at the full speeds of the data sheet. Real trainings are slower: none reaches these
        speeds, and starting an operation takes time as well. Fusing operations makes them faster.
        """
        each = (
            count * max(flops / gpu.flops, moved / gpu.bandwidth)
            for (flops, moved), count in self.operations.items()
        )
        return self.updates * sum(each)

    def on(self, gpu: Accelerator) -> dict[str, float]:
        """The cost in numbers for a table, by name and unit."""
        return {
            "parameters": self.parameters,
            "updates": self.updates,
            "tokens, all updates": self.updates * self.tokens,
            "FLOP, all updates": self.updates * self.flops,
            "operations an update": sum(self.operations.values()),
            "peak memory, GiB": self.peak / GIB,
            f"share of the memory of {gpu.name}": self.peak / gpu.memory,
            f"hours on {gpu.name}, at least": self.seconds(gpu) / 3600,
        }


def training_cost(
    build: Callable[[], nn.Module], *, batch: int, length: int, updates: int, accumulated: int = 1
) -> TrainingCost:
    """Cost of a training of next tokens by Adam, without running it.

    One forward and backward pass is traced on tensors that have shapes and no contents. Memory
    holds weights, gradients, Adam's two moments, and whatever the operations, none of them fused,
    have alive; an allocator and libraries take more.

    Args:
        build: makes the model, ["B T"] to logits ["B T V"], with an attribute `vocabulary`.
        batch: sequences of one update.
        length: T.
        updates: how many.
        accumulated: passes that an update consists of, each over an equal part of the batch.

    Raises:
        ValueError: a number is not whole or below 1, or the batch has no equal parts.
    """
    where = "training_cost"
    sizes = {"length": length, "updates": updates, "accumulated": accumulated, "batch": batch}
    for name, value in sizes.items():
        whole(where, name, value, least=1)
    if batch % accumulated:
        raise ValueError(f"{where}: batch is {batch}; it must be a multiple of {accumulated}")
    model = build().to("meta")
    weights = list(model.parameters())
    count = sum(weight.numel() for weight in weights)
    held = sum(weight.nbytes for weight in weights)
    if accumulated > 1:
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
    tokens = torch.zeros(batch // accumulated, length, dtype=torch.int64, device="meta")
    with _Counted(held * (1 + (accumulated > 1)), weights) as counted:
        # Logits have no name that would keep them for the backward pass, as in `Task.loss`.
        cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
    operations = Counter({each: accumulated * n for each, n in counted.operations.items()})
    operations[0, _ADAM_PASSES * held] += 1
    return TrainingCost(
        parameters=count, updates=updates, tokens=batch * length,
        flops=sum(flops * n for (flops, _), n in operations.items()),
        moved=sum(moved * n for (_, moved), n in operations.items()),
        peak=counted.peak + _MOMENTS * held, operations=operations,
    )  # fmt: skip


class _Counted(TorchDispatchMode):
    """Counts operations, and the bytes that are alive.

    Args:
        held: bytes in memory before.
        known: tensors that they belong to.
    """

    def __init__(self, held: int, known: list[Any]) -> None:
        super().__init__()
        self.operations: Counter[tuple[int, int]] = Counter()
        self.alive = self.peak = held
        both = [*known, *(each.grad for each in known if each.grad is not None)]
        self.seen: dict[int, Any] = {_storage(each): None for each in both}

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        taken = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        given = [each for each in tree_leaves(out) if isinstance(each, Tensor)]
        storages = {_storage(each) for each in taken}
        for each in given:
            self._keep(each)
        writes = any(a.alias_info and a.alias_info.is_write for a in func._schema.arguments)
        is_view = not writes and all(_storage(each) in storages for each in given)
        if not is_view and not func._schema.name.startswith(("aten::empty", "aten::new_empty")):
            formula = flop_registry.get(func._overloadpacket)
            flops = int(formula(*args, **kwargs, out_val=out)) if formula else 0
            self.operations[flops, sum(map(_bytes, [*taken, *given]))] += 1
        return out

    def _keep(self, tensor: Tensor) -> None:
        """Count a storage as alive, as long as it is."""
        storage, key = tensor.untyped_storage(), _storage(tensor)
        if key in self.seen:
            return
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)

        def forget(_: Any) -> None:
            self.alive -= size
            self.seen.pop(key, None)

        # An address may be given to another storage as soon as this one is gone.
        self.seen[key] = weakref.ref(storage, forget)


def _storage(tensor: Tensor) -> int:
    """What tells one storage from another; those without contents have no address of contents."""
    return storage_identity(tensor.untyped_storage())


def _bytes(tensor: Tensor) -> int:
    """Bytes that an operation reads or writes; entries that a view repeats count once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
