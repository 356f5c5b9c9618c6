"""The scan whose matrices are rows of a table: h[t] = A[tokens[t]] h[t-1] + b[tokens[t]].

A recurrence over few tokens, as in a word problem of a group, has few different matrices. Read
from a table they stay in the cache, where one for every step would have to pass through memory.
"""

import torch
from jaxtyping import Inexact, Int64
from torch import Tensor

from lab.scan import matrix
from lab.scan.arguments import alike, are_numbers, are_tensors, rounded_once, within
from lab.scan.cpu import table as cpu
from lab.scan.operators import Scan


def table_scan(
    A: Inexact[Tensor, "G V N N"],
    b: Inexact[Tensor, "G V N"],
    tokens: Int64[Tensor, "B T"],
    initial: Inexact[Tensor, "B N"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """States of h[t] = A[g, tokens[t]] @ h[t-1] + b[g, tokens[t]], for G tables.

    Neighbouring sequences share a table: with B = G K, sequences 0 to K - 1 have g = 0.

    Args:
        A: a matrix for every token, dimensionless, of G tables.
        b: an input for every token, in units of the state.
        tokens: in [0, V), at every step.
        initial: the state before step 0, in units of the state; zero if None.

    Returns:
        h[0] to h[T-1], in units of the state.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: a shape is not as above, T is 0, B is no multiple of G, a token is outside of
            [0, V), or dtypes or devices differ.

    Cost: N^2 multiply-adds per step forwards, 2 N^2 backwards, and V N^2 numbers of a table in
    place of T N^2. Gradients of A and b are added up over all steps of a token in double precision.
    Where there is no kernel, as `table_scan_associative`.
    Precision: as `linear_scan`.
    Source: as `matrix_scan`.
    """
    return rounded_once(_compute, *_checked(A, b, tokens, initial))


def _compute(A: Tensor, b: Tensor, initial: Tensor, tokens: Tensor) -> Tensor:
    inputs = A, b, initial, tokens
    return _fused(*inputs) if _fused.runs_on(*inputs) else _associative(*inputs)


def table_scan_sequential(
    A: Inexact[Tensor, "G V N N"],
    b: Inexact[Tensor, "G V N"],
    tokens: Int64[Tensor, "B T"],
    initial: Inexact[Tensor, "B N"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """The definition of `table_scan`, one step after another, as every form must equal."""
    A, b, h, tokens = _checked(A, b, tokens, initial)
    within(tokens, A.shape[1], "tokens")
    place, states = places(A, tokens), []
    for each in place.unbind(1):
        h = (A.flatten(0, 1)[each] @ h[..., None])[..., 0] + b.flatten(0, 1)[each]
        states.append(h)
    return torch.stack(states, dim=1)


def table_scan_associative(
    A: Inexact[Tensor, "G V N N"],
    b: Inexact[Tensor, "G V N"],
    tokens: Int64[Tensor, "B T"],
    initial: Inexact[Tensor, "B N"] | None = None,
) -> Inexact[Tensor, "B T N"]:
    """`table_scan` as `matrix_scan_associative`, with a matrix for every step: for any device."""
    return rounded_once(_associative, *_checked(A, b, tokens, initial))


def _associative(A: Tensor, b: Tensor, initial: Tensor, tokens: Tensor) -> Tensor:
    within(tokens, A.shape[1], "tokens")
    place = places(A, tokens)
    return matrix.associative(A.flatten(0, 1)[place], b.flatten(0, 1)[place], initial)


def _gradients(
    grad: Tensor, A: Tensor, h: Tensor, initial: Tensor, tokens: Tensor
) -> tuple[Tensor, ...]:
    """Gradients with respect to A, b and initial, given the gradient of h."""
    place = places(A, tokens)
    *of_steps, of_initial = matrix.gradients(grad, A.flatten(0, 1)[place], h, initial)
    return *(added_by_token(each, A, place) for each in of_steps), of_initial


def places(table: Inexact[Tensor, "G V ..."], tokens: Int64[Tensor, "B T"]) -> Int64[Tensor, "B T"]:
    """The row of every step, where G tables lie one after another, ["G*V ..."]."""
    G, V = table.shape[:2]
    own = torch.arange(G, device=tokens.device).repeat_interleave(tokens.shape[0] // G)
    return V * own[:, None] + tokens


def added_by_token(
    of_steps: Inexact[Tensor, "B T ..."],
    table: Inexact[Tensor, "G V ..."],
    place: Int64[Tensor, "B T"],
) -> Inexact[Tensor, "G V ..."]:
    """What belongs to each row of the tables, added up over the steps at these `places`."""
    G, V = table.shape[:2]
    rows = of_steps.new_zeros(G * V, *of_steps.shape[2:])
    return rows.index_add(0, place.flatten(), of_steps.flatten(0, 1)).unflatten(0, (G, V))


def check_tokens(
    b: Inexact[Tensor, "G V N"],
    tokens: Int64[Tensor, "B T"],
    initial: Inexact[Tensor, "B N"] | None,
) -> Inexact[Tensor, "B N"]:
    """Check tokens against the tables of inputs b; the initial state, zero if it was None.

    Raises:
        TypeError: tokens are no tensor.
        ValueError: they are not ["B T"] whole numbers on this device, T is 0, B is no multiple of
            G, or the initial state has another shape.
    """
    are_tensors(tokens=tokens)
    if tokens.dtype != torch.int64 or tokens.device != b.device or tokens.ndim != 2:
        got = f"{tokens.dtype} {tuple(tokens.shape)} on {tokens.device}"
        raise ValueError(f"tokens must be torch.int64 (B, T) on {b.device}, got {got}")
    (G, _, N), (B, T) = b.shape, tokens.shape
    if T == 0 or G == 0 or B % G:
        said = f"{G} tables and tokens {(B, T)} do not match"
        raise ValueError(f"{said}: T must be at least 1, and B a multiple of the tables")
    initial = b.new_zeros(B, N) if initial is None else initial
    if initial.shape != (B, N):
        raise ValueError(f"initial must be {(B, N)}, got {tuple(initial.shape)}")
    return initial


def _checked(
    A: Tensor, b: Tensor, tokens: Tensor, initial: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The one check of everything that comes in."""
    are_numbers(A=A, b=b, initial=initial)
    if A.ndim != 4 or A.shape[2] != A.shape[3] or b.shape != A.shape[:3]:
        shapes = f"A {tuple(A.shape)} and b {tuple(b.shape)}"
        raise ValueError(f"{shapes} must be (G, V, N, N) and (G, V, N)")
    initial = check_tokens(b, tokens, initial)
    A, b, initial = alike(["A", "b", "initial"], A, b, initial)
    return A, b, initial, tokens


_fused = Scan(
    "table_scan",
    inputs=["A", "b", "initial", "tokens"],
    outputs={"h": lambda given: given["initial"][:, None].expand(*given["tokens"].shape, -1)},
    saved=["A", "h", "initial", "tokens"],
    gradients={"A": "A", "b": lambda given: given["A"][..., 0], "initial": "initial"},
    kernels={"cpu": cpu},
    formula=_gradients,
    grouped=["A", "b"],
)
