"""What the heads of a mixer write to and read from: one protocol, many memories."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from lab.arguments import whole
from lab.linalg.precision import autocasts, uncast, wide
from lab.nn.guard import Guarded, Method, check_numbers

# Sums of weights are not divided by below this: see `normalised`.
EPSILON = 1e-10


def normalised(sums: Tensor, weights: Tensor) -> Tensor:
    """Averages sums / weights: of weighted values ["... M"], by the sums of weights ["... 1"].

    Exact where the weights add up to `EPSILON` or more. Where all of them are zero, as ReLU
    features can be, the average is 0; between the two it falls with the sum, by which it has no
    gradient there, so that no gradient is more than 1 / `EPSILON` times a value.
    """
    return sums / weights.clamp(min=EPSILON)


def _checked(memory: "Memory", q: Tensor, k: Tensor, v: Tensor, x: Tensor, axes: str) -> None:
    """The widths may be others than those of the memory: it is linear in its values, for one."""
    check_numbers(memory, "x", x, f"B{axes} D", or_wider=True)
    for name, part, last in (("q", q, "K"), ("k", k, "K"), ("v", v, "M")):
        check_numbers(memory, name, part, f"B H{axes} {last}", or_wider=True)
    parts, who = (q, k, v, x), type(memory).__name__
    steps = {(*part.shape[:1], *part.shape[2:-1]) for part in parts[:3]}
    if q.shape != k.shape or v.shape[1] != q.shape[1] or steps != {tuple(x.shape[:-1])}:
        shapes = ", ".join(f"{n} {tuple(p.shape)}" for n, p in zip("qkvx", parts, strict=True))
        raise ValueError(
            f"{who}: {shapes} do not match; all have the same batch and steps, q, k and v the same "
            "heads, q and k the same width"
        )
    dtypes = [part.dtype for part in parts]
    if len(set(dtypes)) > 1 and not autocasts(x):
        raise ValueError(f"{who}: q, k, v and x are {dtypes}; give it one dtype")


def _precisely(memory: "Memory", method: Method, parts: list[Tensor], *state: Any) -> Any:
    """What the method returns, computed in float32 at least unless the memory has its own way."""
    if memory.any_precision:
        return method(memory, *parts, *state)
    with uncast(parts[-1]):
        return method(memory, *map(wide, parts), *state)


def _reading(memory: "Memory", method: Method, q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> Any:
    _checked(memory, q, k, v, x, " T")
    return _precisely(memory, method, [q, k, v, x]).to(v.dtype)


def _looking(memory: "Memory", method: Method, q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> Any:
    _checked(memory, q, k, v, x, " T")
    return _precisely(memory, method, [q, k, v, x])


def _step(
    memory: "Memory", method: Method, q: Tensor, k: Tensor, v: Tensor, x: Tensor, state: Any = None
) -> Any:
    _checked(memory, q, k, v, x, "")
    o, state = _precisely(memory, method, [q, k, v, x], state)
    return o.to(v.dtype), state


class Memory(Guarded):
    """Heads that store values under keys and answer queries. B batch, H heads, T time, D width.

    A subclass has `forward` and `step`, two forms of one causal map; the shared tests hold them to
    one another. What depends on the input beyond q, k and v it computes from x itself.

    Inputs are checked before a subclass sees them, and of half precision it sees none: inside
    torch.autocast too, everything in a memory is computed and stored in float32 at least, and what
    is read has the dtype of the values again.

    Args:
        d_model: D, the width of the layer's input, also where nothing is computed from it: what
            asks the memory (`lab.mixers.MultiHead`) compares it with its own.
        heads, d_key, d_value: H, K and M; M is K if None.

    Raises:
        ValueError: a size is no whole number, or is below 1.

    Attributes:
        d_model, heads, d_key, d_value: the sizes.
        any_precision: whether half precision is left to the memory itself.
    """

    guards: ClassVar = {
        "forward": _reading,
        "states": _looking,
        "eigenvalues": _looking,
        "step": _step,
    }
    any_precision: ClassVar[bool] = False

    def __init__(self, d_model: int, *, heads: int, d_key: int, d_value: int | None = None) -> None:
        super().__init__()
        who = type(self).__name__
        self.d_model = whole(who, "d_model", d_model, least=1)
        self.heads = whole(who, "heads", heads, least=1)
        self.d_key = whole(who, "d_key", d_key, least=1)
        self.d_value = self.d_key if d_value is None else whole(who, "d_value", d_value, least=1)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> Tensor:
        """What is read, ["B H T M"], the parallel form.

        Args:
            q, k: ["B H T K"].
            v: ["B H T M"].
            x: ["B T D"], the input of the layer.
        """
        raise NotImplementedError

    def step(
        self, q: Tensor, k: Tensor, v: Tensor, x: Tensor, state: Any = None
    ) -> tuple[Tensor, Any]:
        """`forward` as a recurrence: the same without the T, and the state; None before step 0."""
        raise NotImplementedError

    def states(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> Tensor:
        """["B T ..."]: what is stored after every step, or of it what a picture can show."""
        raise NotImplementedError

    def eigenvalues(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> Tensor:
        """Complex["B T n"]: eigenvalues of what a step does to all that was stored before it.

        Ones here: what is stored stays.
        """
        dtype = wide(x).dtype.to_complex()
        return torch.ones(*x.shape[:2], self.heads, dtype=dtype, device=x.device)


def causal(T: int, device: torch.device) -> Tensor:
    """Bool["T T"], axes (reading step, writing step): whether the write is not later."""
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()
