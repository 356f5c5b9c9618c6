"""Mamba's selective scan (S6): the token decides on the step, on what is written and read."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import silu, softplus

from lab.linalg.precision import autocasts
from lab.scan import gpu
from lab.scan.arguments import COMPUTED, are_numbers, check_marks
from lab.scan.cpu import selective as cpu
from lab.scan.linear import before, linear_scan, linear_scan_associative, reversed_scan
from lab.scan.log import real
from lab.scan.operators import Scan

Result = Any  # y, or a pair of y and the last state, as the caller asks


def selective_scan(
    u: Float[Tensor, "B _ _"],
    delta: Float[Tensor, "B _ _"],
    A: Float[Tensor, "D N"],
    B: Float[Tensor, "B ..."],
    C: Float[Tensor, "B ..."],
    D: Float[Tensor, "D"] | None = None,
    z: Float[Tensor, "B _ _"] | None = None,
    delta_bias: Float[Tensor, "D"] | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    initial: Float[Tensor, "B D N"] | None = None,
    reset: Bool[Tensor, "B T"] | None = None,
    time_first: bool = False,
) -> Result:
    """y[t] = C[t] h[t] + D u[t] with h[t] = exp(dt[t] A) h[t-1] + dt[t] u[t] B[t], per channel.

    The arguments are those of `selective_scan_fn` in mamba_ssm, in its order and with its layout.
    dt = delta, with `delta_bias` added if there is one, and then softplus(dt) if asked for; y is
    multiplied by silu(z) if there is a z.

    Args:
        u: Float["B D T"], the input.
        delta: as u: the length of each step, in units of 1 / |A|, or what it is computed of.
        A: Float["D N"], the rate of each state. Negative in Mamba, so that states fade.
        B, C: Float["B N T"], how a step writes and how it reads, in all channels; or
            ["B G N T"], in G groups of D / G neighbouring channels.
        D: Float["D"], what of u goes past the states; none if None.
        z: as u, a gate; none if None.
        delta_bias: Float["D"].
        delta_softplus: whether dt is a softplus, and so positive.
        return_last_state: whether h[T-1] is returned, too.
        initial: Float["B D N"], h before step 0; zero if None.
        reset: Bool["B T"]: before these steps h is set to zero, where another sequence begins that
            shares a row with those before; none if None.
        time_first: whether u, delta and z are ["B T D"], and B and C ["B T N"] or ["B T G N"].

    Returns:
        y, shaped as u and of its dtype; with `return_last_state` a pair of y and h[T-1],
        Float["B D N"] in float32 at least.

    Raises:
        TypeError: one is no tensor.
        ValueError: a shape is not as above, T is 0, D is no multiple of G, numbers are complex or
            whole; devices differ; or a dtype is neither that of u nor, where u is of half
            precision, float32.

    Cost: forwards about 20 operations per state and step, backwards about 45. A state is in memory
    at every 32nd step only, so that with N = 16 the states need half as much memory as u. Where
    there is no kernel, as `selective_scan_associative`, whose states are all in memory.
    Precision: states are carried in the dtype of what comes in, as in mamba_ssm, and half precision
    in float32: a gain of 1 that adds up a million numbers of one size in float32 is off by a
    percent. A gain exp(x) is off by about 1 + |x| units in the last place, and never zero: at least
    2e-38 in float32, at most the largest number there is.
    Source: Gu & Dao 2023, Mamba: Linear-time sequence modeling with selective state spaces, arXiv
    2312.00752, algorithm 2, section 3.3.2 and appendix D (states kept out of memory and computed
    again); Dao & Gu 2024, arXiv 2405.21060, section 7 (groups).
    """
    given = _checked(
        u, delta, A, B, C, D, z, delta_bias, initial, reset, delta_softplus, time_first
    )
    return _finished(given, _compute(*given.inputs), return_last_state)


def _compute(*inputs: Tensor) -> tuple[Tensor, Tensor]:
    if not _fused.runs_on(*inputs):
        return _associative(*inputs)
    y, last, _ = _fused(*inputs)
    return y, last


def selective_scan_associative(
    u: Float[Tensor, "B _ _"],
    delta: Float[Tensor, "B _ _"],
    A: Float[Tensor, "D N"],
    B: Float[Tensor, "B ..."],
    C: Float[Tensor, "B ..."],
    D: Float[Tensor, "D"] | None = None,
    z: Float[Tensor, "B _ _"] | None = None,
    delta_bias: Float[Tensor, "D"] | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    initial: Float[Tensor, "B D N"] | None = None,
    reset: Bool[Tensor, "B T"] | None = None,
    time_first: bool = False,
) -> Result:
    """`selective_scan` in torch operations: `linear_scan_associative` of all states at once.

    A state that is not finite goes beyond a reset: 0 times infinity is NaN.
    """
    given = _checked(
        u, delta, A, B, C, D, z, delta_bias, initial, reset, delta_softplus, time_first
    )
    return _finished(given, _associative(*given.inputs), return_last_state)


def selective_scan_sequential(
    u: Float[Tensor, "B _ _"],
    delta: Float[Tensor, "B _ _"],
    A: Float[Tensor, "D N"],
    B: Float[Tensor, "B ..."],
    C: Float[Tensor, "B ..."],
    D: Float[Tensor, "D"] | None = None,
    z: Float[Tensor, "B _ _"] | None = None,
    delta_bias: Float[Tensor, "D"] | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    *,
    initial: Float[Tensor, "B D N"] | None = None,
    reset: Bool[Tensor, "B T"] | None = None,
    time_first: bool = False,
) -> Result:
    """The definition of `selective_scan`, step by step: what every other form must equal."""
    given = _checked(
        u, delta, A, B, C, D, z, delta_bias, initial, reset, delta_softplus, time_first
    )
    u, delta, A, B, C, skip, bias, h, reset = given.inputs
    dt = softplus(delta + bias[:, None]) if bias.shape[1] else delta
    B, C = (_of_channels(part, u) for part in (B, C))
    outputs = []
    # Taken apart once: the gradient of B[:, t] would fill an array of the whole length every step.
    steps = zip(*(part.unbind(1) for part in (dt, dt * u, B, C)), strict=True)
    for t, (dt_t, written, B_t, C_t) in enumerate(steps):
        if reset.shape[1]:
            h = torch.where(reset[:, t, None, None], 0, h)
        h = (dt_t[..., None] * A).exp() * h + written[..., None] * B_t
        outputs.append((h * C_t).sum(-1))
    y = torch.stack(outputs, dim=1)
    return _finished(given, (y + skip[:, None] * u if skip.shape[1] else y, h), return_last_state)


def _associative(*inputs: Tensor) -> tuple[Tensor, Tensor]:
    u, delta, A, B, C, skip, bias, initial, reset = inputs
    _, a, b = _maps(u, delta, A, B, bias, reset)
    h = linear_scan_associative(a.flatten(2), b.flatten(2), initial.flatten(1)).view_as(a)
    y = (h * _of_channels(C, u)).sum(-1)
    return y + skip[:, None] * u if skip.shape[1] else y, h[:, -1]


def _maps(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, bias: Tensor, reset: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """dt ["B T D"], and each step as h -> a * h + b, both ["B T D N"]."""
    dt = softplus(delta + bias[:, None]) if bias.shape[1] else delta
    a = torch.exp(dt[..., None] * A[:, None])
    if reset.shape[1]:
        a = torch.where(reset[..., None, None], 0, a)
    return dt, a, (dt * u)[..., None] * _of_channels(B, u)


def _of_channels(part: Tensor, u: Tensor) -> Tensor:
    """["B T D N"]: what each channel takes of ["B T G N"]."""
    groups = part.shape[2]
    each = part[:, :, :, None].expand(-1, -1, -1, u.shape[2] // max(1, groups), -1)
    return each.flatten(2, 3)


def _gradients(
    grad: Tensor, grad_last: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    skip: Tensor, bias: Tensor, initial: Tensor, reset: Tensor, marks: Tensor,  # noqa: ARG001
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gradients with respect to the inputs, given those of y and of the last state."""
    dt, a, b = _maps(u, delta, A, B, bias, reset)
    start = initial.flatten(1)
    flat = linear_scan(a.flatten(2), b.flatten(2), start)
    h, earlier = flat.view_as(a), before(flat, start).view_as(a)
    arriving = grad[..., None] * _of_channels(C, u)
    arriving = torch.cat([arriving[:, :-1], arriving[:, -1:] + grad_last[:, None]], dim=1)
    g = reversed_scan(a.flatten(2), arriving.flatten(2)).view_as(a)
    of_exponent, of_drive = g * a * earlier, (g * _of_channels(B, u)).sum(-1)
    of_dt = (of_exponent * A[:, None]).sum(-1) + of_drive * u
    of_u = of_drive * dt
    of_A = (of_exponent * dt[..., None]).sum(1).sum_to_size(A.shape)
    of_B, of_C = (
        part.unflatten(2, (B.shape[2], -1)).sum(3)
        for part in (g * (dt * u)[..., None], grad[..., None] * h)
    )
    of_skip, of_bias = skip.clone(), bias.clone()  # empty, and so are their gradients
    if skip.shape[1]:
        of_u = of_u + skip[:, None] * grad
        of_skip = (grad * u).sum(1).sum_to_size(skip.shape)
    if bias.shape[1]:
        of_dt = of_dt * torch.sigmoid(delta + bias[:, None])
        of_bias = of_dt.sum(1).sum_to_size(bias.shape)
    return of_u, of_dt, of_A, of_B, of_C, of_skip, of_bias, a[:, 0] * g[:, 0]


class _Given(NamedTuple):
    """Arguments that fit: those of the operator, time first, and what is left to do after it."""

    inputs: tuple[Tensor, ...]
    z: Tensor | None
    dtype: torch.dtype
    time_first: bool


def _finished(given: _Given, results: tuple[Tensor, Tensor], with_last: bool) -> Result:
    """What is returned: y gated, in the dtype and the layout of u, perhaps with the last state."""
    y, last = results
    y = (y if given.z is None else y * silu(given.z)).to(given.dtype)
    y = y if given.time_first else y.mT
    return (y, last) if with_last else y


def _checked(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor | None, z: Tensor | None, delta_bias: Tensor | None,
    initial: Tensor | None, reset: Tensor | None, delta_softplus: bool, time_first: bool,
) -> _Given:  # fmt: skip
    """The one check of everything that comes in."""
    given: dict[str, Any] = {"u": u, "delta": delta, "A": A, "B": B, "C": C}
    optional = {"D": D, "z": z, "delta_bias": delta_bias, "initial": initial}
    given |= {name: part for name, part in optional.items() if part is not None}
    are_numbers(**given)
    for name, part in given.items():
        real(name, part)
    _fit(given, reset, time_first)
    given = _alike(given)
    dtype, inner = given["u"].dtype, COMPUTED[given["u"].dtype]
    part = {name: tensor.to(inner) for name, tensor in given.items()}
    if not time_first:
        turned = {"u", "delta", "z", "B", "C"} & part.keys()
        # Groups come before states, and time before both.
        part |= {n: part[n].mT if part[n].ndim == 3 else part[n].movedim(3, 1) for n in turned}
    u = part["u"]
    for name in ("B", "C"):
        part[name] = part[name][:, :, None] if part[name].ndim == 3 else part[name]
    none = u.new_empty(1, 0)
    skip, bias = (part[name][None] if name in part else none for name in ("D", "delta_bias"))
    if delta_softplus:
        bias = bias if bias.shape[1] else u.new_zeros(1, u.shape[2])
    elif bias.shape[1]:
        part["delta"], bias = part["delta"] + bias, none
    start = u.new_zeros(u.shape[0], *A.shape) if initial is None else part["initial"]
    reset = u.new_empty(u.shape[0], 0, dtype=torch.bool) if reset is None else reset
    inputs = (u, part["delta"], part["A"][None], part["B"], part["C"], skip, bias, start, reset)
    return _Given(inputs, part.get("z"), dtype, time_first)


def _fit(given: dict[str, Tensor], reset: Tensor | None, time_first: bool) -> None:
    """Check the shapes."""
    u, A = given["u"], given["A"]
    axes = "(B, T, D)" if time_first else "(B, D, T)"
    shapes = f"u {tuple(u.shape)} and A {tuple(A.shape)}"
    size, T, D = (u if time_first else u.mT).shape if u.ndim == 3 else (0, 0, 0)
    if A.ndim != 2 or T == 0 or A.shape[0] != D:
        raise ValueError(f"{shapes} must be {axes} and (D, N) with T > 0; see time_first")
    N = A.shape[1]
    wanted = {
        "delta": u.shape,
        "z": u.shape,
        "D": (D,),
        "delta_bias": (D,),
        "initial": (size, D, N),
    }
    for name, shape in wanted.items():
        if name in given and given[name].shape != shape:
            found = tuple(given[name].shape)
            raise ValueError(f"{name} must be {tuple(shape)} beside {shapes}, got {found}")
    for name in ("B", "C"):
        part = given[name]
        groups = 1 if part.ndim != 4 else part.shape[2 if time_first else 1]
        plain, grouped = ((size, T, N), (size, T, groups, N)) if time_first else (
            (size, N, T), (size, groups, N, T)
        )  # fmt: skip
        if part.shape not in (plain, grouped) or groups == 0 or D % groups:
            forms = "(B, T, N) or (B, T, G, N)" if time_first else "(B, N, T) or (B, G, N, T)"
            found = tuple(part.shape)
            raise ValueError(
                f"{name} must be {forms} beside {shapes}, G a divisor of D, got {found}"
            )
    if given["B"].shape != given["C"].shape:
        both = f"B {tuple(given['B'].shape)} and C {tuple(given['C'].shape)}"
        raise ValueError(f"{both} must share one shape")
    if reset is not None:
        check_marks(reset, u if time_first else u.mT)


def _alike(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, which are on one device and of the dtype of u or the one it is computed in.

    Inside torch.autocast those of half precision become float32 (see `lab.scan.arguments.alike`).
    """
    u = given["u"]
    if autocasts(u):
        halves = (torch.float16, torch.bfloat16)
        given = {n: t.float() if t.dtype in halves else t for n, t in given.items()}
    dtype = given["u"].dtype
    for kind, right in (("dtype", {dtype, COMPUTED[dtype]}), ("device", {u.device})):
        if not {getattr(tensor, kind) for tensor in given.values()} <= right:
            each = [f"{name} {getattr(tensor, kind)}" for name, tensor in given.items()]
            raise ValueError(f"{kind}s differ: {', '.join(each)}")
    return given


def _like_last(named: dict[str, Tensor]) -> Tensor:
    """["B D N"]."""
    return named["u"][:, 0, :, None].expand(-1, -1, named["A"].shape[2])


def _like_marks(named: dict[str, Tensor]) -> Tensor:
    """["B chunks N D"]: the states before every chunk of steps."""
    return named["u"][:, :: cpu.CHUNK, None].expand(-1, -1, named["A"].shape[2], -1)


_INPUTS = ["u", "delta", "A", "B", "C", "D", "bias", "initial", "reset"]
_fused = Scan(
    "selective_scan",
    inputs=_INPUTS,
    outputs={"y": "u", "last": _like_last, "marks": _like_marks},
    saved=[*_INPUTS, "marks"],
    gradients={name: name for name in _INPUTS[:-1]},
    kernels={"cpu": cpu, **gpu.kernels("selective")},
    formula=_gradients,
    kept=["marks"],
)
