"""`monarch_scan` with blocks that are rows of a table, as the matrices of `table_scan` are."""

from jaxtyping import Inexact, Int64
from torch import Tensor

from lab.scan import monarch
from lab.scan.arguments import alike, are_numbers, rounded_once, within
from lab.scan.cpu import monarch_table as cpu
from lab.scan.operators import Scan
from lab.scan.table import added_by_token, check_tokens, places


def monarch_table_scan(
    L: Inexact[Tensor, "G V n n n"],
    R: Inexact[Tensor, "G V n n n"],
    b: Inexact[Tensor, "G V n*n"],
    tokens: Int64[Tensor, "B T"],
    initial: Inexact[Tensor, "B n*n"] | None = None,
) -> Inexact[Tensor, "B T n*n"]:
    """States of h[t] = P^T L[g, k] P R[g, k] h[t-1] + b[g, k] for k = tokens[t], with G tables.

    Neighbouring sequences share a table: with B = G K, sequences 0 to K - 1 have g = 0.

    Args:
        L, R: blocks for every token, as those of `monarch_scan` for every step.
        b: an input for every token, in units of the state.
        tokens: in [0, V), at every step.
        initial: the state before step 0, in units of the state; zero if None.

    Returns:
        h[0] to h[T-1], in units of the state.

    Raises:
        TypeError: an argument is no tensor.
        ValueError: a shape is not as above, T is 0, B is no multiple of G, a token is outside of
            [0, V), or dtypes or devices differ.

    Cost: as `monarch_scan`, with 2 V n³ numbers of a table in place of 2 T n³. Gradients of the
    tables are added up over all steps of a token in double precision. Where there is no kernel, as
    `monarch_table_scan_sequential`.
    Precision: as `linear_scan`.
    Source: as `monarch_scan`.
    """
    return rounded_once(_compute, *_checked(L, R, b, tokens, initial))


def _compute(*inputs: Tensor) -> Tensor:
    return _fused(*inputs) if _fused.runs_on(*inputs) else _sequential(*inputs)


def monarch_table_scan_sequential(
    L: Inexact[Tensor, "G V n n n"],
    R: Inexact[Tensor, "G V n n n"],
    b: Inexact[Tensor, "G V n*n"],
    tokens: Int64[Tensor, "B T"],
    initial: Inexact[Tensor, "B n*n"] | None = None,
) -> Inexact[Tensor, "B T n*n"]:
    """The definition of `monarch_table_scan`: `monarch_scan_sequential` of the rows at tokens."""
    return rounded_once(_sequential, *_checked(L, R, b, tokens, initial))


def _sequential(L: Tensor, R: Tensor, b: Tensor, initial: Tensor, tokens: Tensor) -> Tensor:
    within(tokens, R.shape[1], "tokens")
    place = places(R, tokens)
    left, right, drive = (each.flatten(0, 1)[place] for each in (L, R, b))
    return monarch.monarch_scan_sequential(left, right, drive, initial)


def _gradients(
    grad: Tensor, L: Tensor, R: Tensor, h: Tensor, initial: Tensor, tokens: Tensor
) -> tuple[Tensor, ...]:
    """Gradients with respect to L, R, b and initial, given the gradient of h."""
    place = places(R, tokens)
    steps = L.flatten(0, 1)[place], R.flatten(0, 1)[place]
    *of_steps, of_initial = monarch.gradients(grad, *steps, h, initial)
    return *(added_by_token(each, R, place) for each in of_steps), of_initial


def _checked(
    L: Tensor, R: Tensor, b: Tensor, tokens: Tensor, initial: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The one check of everything that comes in."""
    are_numbers(L=L, R=R, b=b, initial=initial)
    n = R.shape[-1] if R.ndim else 0
    shapes = f"L {tuple(L.shape)}, R {tuple(R.shape)} and b {tuple(b.shape)}"
    if R.ndim != 5 or not L.shape == R.shape == (*R.shape[:2], n, n, n):
        raise ValueError(f"{shapes} must be (G, V, n, n, n) twice and (G, V, n²)")
    if b.shape != (*R.shape[:2], n * n):
        raise ValueError(f"{shapes} do not match: b must be {(*R.shape[:2], n * n)}")
    initial = check_tokens(b, tokens, initial)
    L, R, b, initial = alike(["L", "R", "b", "initial"], L, R, b, initial)
    return L, R, b, initial, tokens


def _states(given: dict[str, Tensor]) -> Tensor:
    return given["initial"][:, None].expand(*given["tokens"].shape, -1)


_fused = Scan(
    "monarch_table_scan",
    inputs=["L", "R", "b", "initial", "tokens"],
    outputs={"h": _states},
    saved=["L", "R", "h", "initial", "tokens"],
    gradients={
        "L": "L",
        "R": "R",
        "b": lambda given: given["R"][..., 0].flatten(2),
        "initial": "initial",
    },
    kernels={"cpu": cpu},
    formula=_gradients,
    grouped=["L", "R", "b"],
)
