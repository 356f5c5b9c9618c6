"""The interface of all memories, which the heads of a mixer write to and read from."""

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from lab.arguments import whole
from lab.linalg.precision import autocasts, uncast, wide
from lab.nn.guard import Guarded, Method, check_numbers, check_reset

# The smallest divisor for sums of weights: see `normalised`.
EPSILON = 1e-10


def normalised(
    sums: Float[Tensor, "... M"], weights: Float[Tensor, "... 1"]
) -> Float[Tensor, "... M"]:
    """Averages sums / weights, of sums of weighted values ["... M"] and of weights ["... 1"].

    The average is exact if the weights add up to at least `EPSILON`. If all weights are zero, which
    is possible with ReLU features, the average is 0. In between, the divisor is `EPSILON` and has
    no gradient, so no gradient exceeds 1 / `EPSILON` times a value.
    """
    return sums / weights.clamp(min=EPSILON)


def _checked(memory: "Memory", q: Tensor, k: Tensor, v: Tensor, x: Tensor, axes: str) -> None:
    """Check the inputs; K and M may differ from the memory's, which is linear in its values."""
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
    """Call the method in float32 at least, unless the memory handles half precision itself."""
    if memory.any_precision:
        return method(memory, *parts, *state)
    with uncast(parts[-1]):
        return method(memory, *map(wide, parts), *state)


def _reading(
    memory: "Memory", method: Method, q: Tensor, k: Tensor, v: Tensor, x: Tensor,
    reset: Tensor | None = None,
) -> Any:  # fmt: skip
    _checked(memory, q, k, v, x, " T")
    if reset is None:
        return _precisely(memory, method, [q, k, v, x]).to(v.dtype)
    if not memory.resets:
        raise ValueError(f"{type(memory).__name__} has no reset: give it one sequence a row")
    check_reset(memory, reset, x)
    return _precisely(memory, method, [q, k, v, x], reset).to(v.dtype)


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

    A subclass defines `forward` and `step`, two forms of the same causal map, which the shared
    tests compare. If something else than q, k and v depends on the input, the subclass computes it
    from x.

    Inputs are checked, and half precision is converted to float32, before a subclass sees them.
    Also inside torch.autocast, everything in a memory is computed and stored in float32 at least.
    The read-outs have the dtype of the values.

    Args:
        d_model: D, the width of the layer's input. It is required even if the memory does not use
            the input, because `lab.mixers.MultiHead` compares it with its own width.
        heads, d_key, d_value: H, K and M; M is K if None.

    Raises:
        ValueError: a size is not a whole number, or is below 1.

    Attributes:
        d_model, heads, d_key, d_value: the sizes.
        any_precision: whether the memory handles half precision itself.
        resets: whether sequences of different lengths can be packed into one row: `forward` then
            takes `reset`, Bool["B T"], and forgets everything before the steps that it marks.
    """

    guards: ClassVar = {
        "forward": _reading,
        "states": _looking,
        "eigenvalues": _looking,
        "step": _step,
    }
    any_precision: ClassVar[bool] = False
    resets: ClassVar[bool] = False

    def __init__(self, d_model: int, *, heads: int, d_key: int, d_value: int | None = None) -> None:
        super().__init__()
        who = type(self).__name__
        self.d_model = whole(who, "d_model", d_model, least=1)
        self.heads = whole(who, "heads", heads, least=1)
        self.d_key = whole(who, "d_key", d_key, least=1)
        self.d_value = self.d_key if d_value is None else whole(who, "d_value", d_value, least=1)

    def forward(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Float[Tensor, "B H T M"]:
        """The read-outs ["B H T M"], in parallel form.

        Args:
            q, k: ["B H T K"].
            v: ["B H T M"].
            x: the input of the layer.
        """
        raise NotImplementedError

    def step(
        self,
        q: Float[Tensor, "B H K"],
        k: Float[Tensor, "B H K"],
        v: Float[Tensor, "B H M"],
        x: Float[Tensor, "B D"],
        state: Any = None,
    ) -> tuple[Float[Tensor, "B H M"], Any]:
        """`forward` as a recurrence: without the axis T, and with a state (None before step 0)."""
        raise NotImplementedError

    def states(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Float[Tensor, "B T ..."]:
        """The state after every step, or the part of it that a figure can show."""
        raise NotImplementedError

    def eigenvalues(
        self,
        q: Float[Tensor, "B H T K"],
        k: Float[Tensor, "B H T K"],
        v: Float[Tensor, "B H T M"],
        x: Float[Tensor, "B T D"],
    ) -> Complex[Tensor, "B T n"]:
        """Eigenvalues of the map that a step applies to the stored state.

        By default they are 1: what is stored is kept.
        """
        dtype = wide(x).dtype.to_complex()
        return torch.ones(*x.shape[:2], self.heads, dtype=dtype, device=x.device)


def forgotten(
    log_gain: Float[Tensor, "B T H G"] | None, reset: Bool[Tensor, "B T"], heads: int,
    dtype: torch.dtype,
) -> Float[Tensor, "B T H G"]:  # fmt: skip
    """log gains that are -inf at the steps before which a state is set to zero.

    Args:
        log_gain: None for gains of 1, which become ["B T H 1"].
        reset: the steps.
        heads: H.
        dtype: of the gains, where there were none.
    """
    steps = reset[:, :, None, None]
    if log_gain is None:
        log_gain = torch.zeros((), dtype=dtype, device=reset.device).expand(*reset.shape, heads, 1)
    return torch.where(steps, -torch.inf, log_gain)


def causal(T: int, device: torch.device) -> Bool[Tensor, "T T"]:
    """Bool["T T"], axes (reading step, writing step): whether the write is not after the read."""
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()


def visible(reset: Bool[Tensor, "B T"]) -> Bool[Tensor, "B T T"]:
    """Bool["B T T"], as `causal`, where other sequences begin at the steps of `reset`."""
    sequence = reset.cumsum(1)  # the number of the sequence in its row
    return causal(reset.shape[1], reset.device) & (sequence[:, :, None] == sequence[:, None])
