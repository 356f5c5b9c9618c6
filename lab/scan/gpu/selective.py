"""The selective scan and its gradients on a GPU, with states that are in memory at chunks alone.

One warp walks through time for a few channels of one sequence, whose states are in its registers.
Backwards it computes the states of a chunk again, from the one in memory before it, and leaves them
where only itself reads them: all warps together need CHUNK states of memory per channel and N.
Time is never cut: gains are not composed, and may have any size.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from lab.scan.cpu.selective import CHUNK
from lab.scan.gpu.launch import launch
from lab.scan.gpu.log import logaddexp, shares

NUMBERS = 128  # states that one warp takes, four per thread
SIZES = ["T", "channels", "N", "groups", "blocks", "own_A", "own_D", "own_bias"]


def forward(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor,
    initial: Tensor, reset: Tensor, y: Tensor, last: Tensor, marks: Tensor,
) -> None:  # fmt: skip
    """Fill y ["B T D"], last ["B D N"] and marks ["B chunks N D"], as `lab.scan.cpu.selective`."""
    programs, sizes, flags = _programs(u, A, B, D, bias, reset)
    given = (u, delta, A, B, C, D, bias, initial, reset, y, last, marks)
    launch(_forward, programs, *given, *sizes, num_warps=1, **flags)


def backward(
    grad: Tensor, grad_last: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor, bias: Tensor, initial: Tensor, reset: Tensor, marks: Tensor,  # noqa: ARG001
    to_u: Tensor, to_delta: Tensor, to_A: Tensor, to_B: Tensor, to_C: Tensor, to_D: Tensor,
    to_bias: Tensor, to_initial: Tensor,
) -> None:  # fmt: skip
    """Fill the gradients of all but `reset`; what programs add to is left to torch to sum up."""
    programs, sizes, flags = _programs(u, A, B, D, bias, reset)
    size, blocks = len(u), sizes[4]
    own_A = u.new_zeros(size, *A.shape[1:])
    own_D, own_bias = (u.new_zeros(size, each.shape[1]) for each in (D, bias))
    own_B, own_C = (u.new_zeros(blocks, *part.shape) for part in (B, C))
    states = u.new_empty(programs, CHUNK, flags["LANES"] * flags["STATES"])
    launch(
        _backward, programs, grad, grad_last, u, delta, A, B, C, D, bias, reset, marks, states,
        to_u, to_delta, own_A, own_B, own_C, own_D, own_bias, to_initial, *sizes,
        num_warps=1, **flags,
    )  # fmt: skip
    torch.sum(own_B, 0, out=to_B)
    torch.sum(own_C, 0, out=to_C)
    for own, whole in ((own_A, to_A), (own_D, to_D), (own_bias, to_bias)):
        whole.copy_(own if len(whole) == size else own.sum(0, keepdim=True))


def _programs(
    u: Tensor, A: Tensor, B: Tensor, D: Tensor, bias: Tensor, reset: Tensor
) -> tuple[int, list[int], dict[str, int]]:
    """How many programs there are, the sizes in the order of SIZES, and what is compiled in."""
    size, T, channels = u.shape
    N, groups = A.shape[2], B.shape[2]
    each = channels // max(1, groups)
    states = triton.next_power_of_2(max(1, N))
    lanes = max(1, min(NUMBERS // states, triton.next_power_of_2(max(1, each))))
    blocks = -(-each // lanes)
    # How far from the numbers of one sequence to those of the next, if each has its own.
    own = [part[0].numel() if len(part) > 1 else 0 for part in (A, D, bias)]
    flags = {
        "SKIP": D.shape[1] > 0, "SOFTPLUS": bias.shape[1] > 0, "RESET": reset.shape[1] > 0,
        "CHUNK": CHUNK, "LANES": lanes, "STATES": states,
    }  # fmt: skip
    return size * groups * blocks, [T, channels, N, groups, blocks, *own], flags


@triton.jit
def _place(channels, groups, blocks, LANES: tl.constexpr):  # type: ignore[no-untyped-def]
    """Sequence, group and block of a program, its channels, and which of these there are."""
    program = tl.program_id(0).to(tl.int64)
    s, g, block = program // (groups * blocks), program // blocks % groups, program % blocks
    within = block * LANES + tl.arange(0, LANES)
    each = channels // groups
    return s, g, block, g * each + within, within < each


@triton.jit(do_not_specialize=SIZES)
def _forward(  # type: ignore[no-untyped-def]
    u, delta, A, B, C, D, bias, initial, reset, y, last, marks,
    T, channels, N, groups, blocks, own_A, own_D, own_bias,
    SKIP: tl.constexpr, SOFTPLUS: tl.constexpr, RESET: tl.constexpr,
    CHUNK: tl.constexpr, LANES: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    s, g, block, d, here = _place(channels, groups, blocks, LANES)
    n = tl.arange(0, STATES)
    known = n < N
    both = here[:, None] & known[None, :]
    state = d[:, None] * N + n[None, :]
    rate = tl.load(A + s * own_A + state, both, other=0.0)
    h = tl.load(initial + s * channels * N + state, both, other=0.0)
    if SKIP:
        skip = tl.load(D + s * own_D + d, here, other=0.0)
    if SOFTPLUS:
        shift = tl.load(bias + s * own_bias + d, here, other=0.0)
    for t in range(T):
        if t % CHUNK == 0:
            mark = (s * ((T + CHUNK - 1) // CHUNK) + t // CHUNK) * N
            tl.store(marks + (mark + n[None, :]) * channels + d[:, None], h, both)
        at, shared = (s * T + t) * channels + d, ((s * T + t) * groups + g) * N + n
        value, dt = tl.load(u + at, here, other=0.0), tl.load(delta + at, here, other=0.0)
        if SOFTPLUS:
            dt = logaddexp(dt + shift, tl.zeros_like(dt))
        to_state = tl.load(B + shared, known, other=0.0)
        to_output = tl.load(C + shared, known, other=0.0)
        if RESET:
            h = tl.where(tl.load(reset + s * T + t) != 0, 0.0, h)
        h = tl.exp(dt[:, None] * rate) * h + (dt * value)[:, None] * to_state[None, :]
        out = tl.sum(h * to_output[None, :], 1)
        if SKIP:
            out += skip * value
        tl.store(y + at, out, here)
    tl.store(last + s * channels * N + state, h, both)


@triton.jit(do_not_specialize=SIZES)
def _backward(  # type: ignore[no-untyped-def]
    grad, grad_last, u, delta, A, B, C, D, bias, reset, marks, states,
    to_u, to_delta, to_A, to_B, to_C, to_D, to_bias, to_initial,
    T, channels, N, groups, blocks, own_A, own_D, own_bias,
    SKIP: tl.constexpr, SOFTPLUS: tl.constexpr, RESET: tl.constexpr,
    CHUNK: tl.constexpr, LANES: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    s, g, block, d, here = _place(channels, groups, blocks, LANES)
    n = tl.arange(0, STATES)
    known = n < N
    both = here[:, None] & known[None, :]
    state = d[:, None] * N + n[None, :]
    # Where this program leaves the states of a chunk.
    mine = tl.arange(0, LANES)[:, None] * STATES + n[None, :]
    mine += tl.program_id(0).to(tl.int64) * CHUNK * LANES * STATES
    rate = tl.load(A + s * own_A + state, both, other=0.0)
    # What later steps send back to the state of this one.
    carry = tl.load(grad_last + s * channels * N + state, both, other=0.0)
    of_rate, of_skip = tl.zeros_like(rate), tl.zeros([LANES], rate.dtype)
    of_shift = tl.zeros([LANES], rate.dtype)
    skip, shift = of_skip, of_skip
    if SKIP:
        skip = tl.load(D + s * own_D + d, here, other=0.0)
    if SOFTPLUS:
        shift = tl.load(bias + s * own_bias + d, here, other=0.0)
    chunks = (T + CHUNK - 1) // CHUNK
    for back in range(1, chunks + 1):
        start = (chunks - back) * CHUNK
        mark = (s * chunks + chunks - back) * N
        h = tl.load(marks + (mark + n[None, :]) * channels + d[:, None], both, other=0.0)
        for k in range(CHUNK):
            t = start + k
            valid, at = here & (t < T), (s * T + t) * channels + d
            if RESET:
                begins = tl.load(reset + s * T + t, t < T, other=0) != 0
                h = tl.where(begins, 0.0, h)
            tl.store(states + mine + k * LANES * STATES, h)
            dt = tl.load(delta + at, valid, other=0.0)
            if SOFTPLUS:
                dt = logaddexp(dt + shift, tl.zeros_like(dt))
            shared = ((s * T + t) * groups + g) * N + n
            to_state = tl.load(B + shared, known & (t < T), other=0.0)
            drive = dt * tl.load(u + at, valid, other=0.0)
            h = tl.exp(dt[:, None] * rate) * h + drive[:, None] * to_state[None, :]
        tl.debug_barrier()
        for down in range(1, CHUNK + 1):
            k = CHUNK - down
            t = start + k
            valid, at = here & (t < T), (s * T + t) * channels + d
            of_y = tl.load(grad + at, valid, other=0.0)
            value, dt = tl.load(u + at, valid, other=0.0), tl.load(delta + at, valid, other=0.0)
            slope = tl.where(valid, 1.0, 0.0).to(dt.dtype)
            if SOFTPLUS:
                slope *= shares(dt + shift, tl.zeros_like(dt))[0]
                dt = tl.where(valid, logaddexp(dt + shift, tl.zeros_like(dt)), 0.0)
            shared = ((s * T + t) * groups + g) * N + n
            to_state = tl.load(B + shared, known & (t < T), other=0.0)
            to_output = tl.load(C + shared, known & (t < T), other=0.0)
            before = tl.load(states + mine + k * LANES * STATES)
            gain, drive = tl.exp(dt[:, None] * rate), dt * value
            h = gain * before + drive[:, None] * to_state[None, :]
            of_h = carry + of_y[:, None] * to_output[None, :]
            # Blocks of channels have sums of their own.
            sums = block * tl.num_programs(0) // blocks // groups * T * groups * N + shared
            tl.store(to_B + sums, tl.sum(of_h * drive[:, None], 0), known & (t < T))
            tl.store(to_C + sums, tl.sum(of_y[:, None] * h, 0), known & (t < T))
            carry = gain * of_h
            of_exponent = carry * before
            of_rate += of_exponent * dt[:, None]
            of_drive = tl.sum(of_h * to_state[None, :], 1)
            of_dt = (of_drive * value + tl.sum(of_exponent * rate, 1)) * slope
            of_u = of_drive * dt + skip * of_y
            tl.store(to_u + at, of_u, valid)
            tl.store(to_delta + at, of_dt, valid)
            of_skip += of_y * value
            of_shift += of_dt
            if RESET:
                begins = tl.load(reset + s * T + t, t < T, other=0) != 0
                carry = tl.where(begins, 0.0, carry)
        tl.debug_barrier()
    tl.store(to_A + s * channels * N + state, of_rate, both)
    tl.store(to_initial + s * channels * N + state, carry, both)
    if SKIP:
        tl.store(to_D + s * channels + d, of_skip, here)
    if SOFTPLUS:
        tl.store(to_bias + s * channels + d, of_shift, here)
