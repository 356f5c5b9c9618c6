"""What the heads of a mixer write to and read from: one protocol, many memories."""

from typing import Any

import torch
from torch import Tensor, nn

# Weights that are averaged with may all be zero: so much is added to their sum.
EPSILON = 1e-6


class Memory(nn.Module):
    """Heads that store values under keys and answer queries. B batch, H heads, T time, D width.

    A subclass has `forward` and `step`, two forms of one causal map; the shared tests hold them to
    one another. What depends on the input beyond q, k and v it computes from x itself.

    Attributes:
        heads, d_key, d_value: H, K and M.
    """

    def __init__(self, heads: int, d_key: int, d_value: int | None = None) -> None:
        super().__init__()
        self.heads, self.d_key = heads, d_key
        self.d_value = d_key if d_value is None else d_value
        if min(self.heads, self.d_key, self.d_value) < 1:
            sizes = f"heads {heads}, d_key {d_key}, d_value {self.d_value}"
            raise ValueError(f"{sizes}: all must be at least 1")

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

    def gains(self, q: Tensor, k: Tensor, v: Tensor, x: Tensor) -> Tensor:
        """Complex["B T n"]: eigenvalues of what a step does to all that was stored before it.

        Ones here: what is stored stays.
        """
        return torch.ones(
            *x.shape[:2], self.heads, dtype=x.dtype.to_complex(), device=x.device
        )  # fmt: skip


def causal(T: int, device: torch.device) -> Tensor:
    """Bool["T T"], axes (reading step, writing step): whether the write is not later."""
    return torch.ones(T, T, dtype=torch.bool, device=device).tril()
