"""State heads of which a router lets some move at every step, while the others hold."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Complex, Float, Int64
from torch import Tensor, nn

from lab.arguments import one_of
from lab.linalg.precision import uncast, wide
from lab.mixers.base import Layer
from lab.mixers.state_space import look_up
from lab.nn.guard import check_kind, check_width
from lab.nn.linear import linear
from lab.nn.routing import Router
from lab.nn.weight_decay import without_decay
from lab.scan import matrix_scan, table_scan
from lab.transitions.base import Transition

ReadOut = Literal["all", "selected"]


class RoutedHeads(Layer):
    """h_i[t] = h_i[t-1] + m_i[t] ((A_i(x[t]) - I) h_i[t-1] + B_i x[t]), for H heads.

    The router decides m_i[t], 0 or 1, by p = softmax(W x). With the read-out "all",
    y = C [h_1; ...; h_H]; with "selected", y = C [m_1 p_1 h_1; ...; m_H p_H h_H].

    A decision has the gradient of p, as if m were p where it is differentiated (straight through).
    With a router that is not causal, this layer is not causal either, and its step form gives
    something else: there each token is ranked once, when it comes.

    Args:
        d_model: D.
        transitions: A_1 to A_H, all real, with the same D and N.
        router: of H heads.
        read_out: "all" or "selected".
        generator, dtype: random stream and dtype of the initial parameters.

    Real parameters in addition to those of transitions and router: H N (D + 1) for B, H N for the
    states before step 0, D (H N + 1) for C.

    Raises:
        TypeError: one of `transitions` is not a Transition, or `router` is not a Router.
        ValueError: one is for inputs of another width, or complex, or sizes or numbers differ.
    """

    def __init__(
        self,
        d_model: int,
        transitions: Sequence[Transition],
        *,
        router: Router,
        read_out: ReadOut = "all",
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        one_of("RoutedHeads", "read_out", read_out, get_args(ReadOut))
        check_kind(self, "router", router, Router)
        for each in transitions:
            check_kind(self, "transition", each, Transition)
            check_width(self, d_model, "transition", each)
        sizes = {(each.d_state, each.is_complex) for each in transitions}
        if len(transitions) != router.heads or len(sizes) != 1 or sizes.pop()[1]:
            given = f"{len(transitions)} transitions for a router of {router.heads} heads"
            raise ValueError(f"RoutedHeads: {given}; give one each, real and of one size")
        self.transitions: Any = nn.ModuleList(transitions)
        self.router, self.read_out = router, read_out
        H, N = router.heads, transitions[0].d_state
        self.B = linear(d_model, H * N, generator=generator, dtype=dtype)
        self.C = linear(H * N, d_model, generator=generator, dtype=dtype)
        self.initial = nn.Parameter(torch.randn(H, N, generator=generator, dtype=dtype))
        without_decay(self, "initial")

    @property
    def d_model(self) -> int:
        """D."""
        return self.C.out_features

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """["B T D"] to ["B T D"], as a scan."""
        return self._read(*self._run(*self._parts(x)))

    def of_tokens(
        self, table: Float[Tensor, "V D"], tokens: Int64[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """`forward` of x[t] = table[tokens[t]]; transitions are computed once per token.

        Where a decision depends on the token alone, gates are, too, and the scan reads its matrices
        from a table.
        """
        A, b, p = self._parts(table)
        each = look_up(p, tokens)
        if not self.router.sees_one_token:
            return self._read(*self._run(look_up(A, tokens), look_up(b, tokens), each))
        gate = self.router.gates(p, self.router.taken(p[None])[0])
        A, b = (part.transpose(0, 1) for part in self._gated(A, b, gate))
        H, rows = len(A), tokens.repeat(len(A), 1)
        with uncast(b):
            h = table_scan(A, b, rows, self._initial(len(tokens)).transpose(0, 1).flatten(0, 1))
        h = h.unflatten(0, (H, len(tokens))).movedim(0, 2)
        return self._read(h, each, self.router.choose(each))

    def step(
        self, x_t: Float[Tensor, "B D"], state: Any = None
    ) -> tuple[Float[Tensor, "B D"], Any]:
        """`forward` as a recurrence; the state is h ["B H N"], and the scores a router needs."""
        A, b, p = self._parts(x_t)
        h, past = (self._initial(len(x_t)), None) if state is None else state
        taken, past = self.router.step(p, past)
        gate = self.router.gates(p, taken)[..., None]
        h = h + gate * ((A * h[..., None, :]).sum(-1) - h + b)
        return self._read(h, p, taken), (h, past)

    def states(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T H N"]:
        """h_1 to h_H after every step."""
        return self._run(*self._parts(x))[0]

    def decisions(self, x: Float[Tensor, "B T D"]) -> Bool[Tensor, "B T H"]:
        """Which heads take which tokens."""
        return self.router.taken(self.router(x))

    def eigenvalues(self, x: Float[Tensor, "B T D"]) -> Complex[Tensor, "B T n"]:
        """Those of A_i(x[t]) where head i takes the token, and 1 where it holds."""
        A, _, p = self._parts(x)
        found = torch.linalg.eigvals(A)
        return torch.where(self.router.taken(p)[..., None], found, 1.0).flatten(-2)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A ["... H N N"], B x ["... H N"] and p ["... H"]."""
        A = torch.stack([_dense(each, x) for each in self.transitions], dim=-3)
        return A, wide(self.B(x)).to(A.dtype).unflatten(-1, self.initial.shape), self.router(x)

    def _run(self, A: Tensor, b: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """h ["B T H N"], p and the decisions, Bool["B T H"]."""
        taken = self.router.choose(p)
        A, b = self._gated(A, b, self.router.gates(p, taken))
        return self._scan(A.transpose(1, 2), b.transpose(1, 2)), p, taken

    def _gated(self, A: Tensor, b: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """I + gate (A - I) and gate b, for a gate ["... H"]."""
        if self.router.routing == "all":
            return A, b
        identity = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        return identity + gate[..., None, None] * (A - identity), gate[..., None] * b

    def _scan(self, A: Tensor, b: Tensor) -> Tensor:
        """h ["B T H N"] for A ["B H T N N"] and b ["B H T N"]."""
        B, H = b.shape[:2]
        with uncast(b):
            h = matrix_scan(A.flatten(0, 1), b.flatten(0, 1), self._initial(B).flatten(0, 1))
        return h.unflatten(0, (B, H)).transpose(1, 2)

    def _initial(self, batch: int) -> Tensor:
        """["B H N"]."""
        return wide(self.initial).expand(batch, -1, -1)

    def _read(self, h: Tensor, p: Tensor, taken: Tensor) -> Tensor:
        if self.read_out == "selected":
            h = (taken * p)[..., None] * h
        y: Tensor = self.C(h.flatten(-2).to(self.C.weight.dtype))
        return y


def _dense(transition: Transition, x: Tensor) -> Tensor:
    """["... N N"]: A(x), computed once if it is the same for every x."""
    if not transition.is_constant:
        A: Tensor = transition.dense(transition(x))
        return A
    A = transition.dense(transition(x.new_zeros(x.shape[-1])))
    return A.expand(*x.shape[:-1], -1, -1)
