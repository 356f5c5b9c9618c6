"""Causal softmax averages and their log-normaliser, with the gradients of both, on a GPU.

log_norm is the scan of `log.py`. With it the share of the past and that of the step are known, the
average is a linear scan, and so is what flows back. So each of the large arrays is read or written
once; arrays without the V columns of the values are small beside them, and are gone through in
several launches. Where threads are few, time is cut into chunks (see `launch.py`).
"""

# In a kernel a tuple may grow, which those of Python's type system cannot.
# mypy: disable-error-code="assignment,var-annotated"

import torch
import triton
import triton.language as tl
from torch import Tensor

from lab.scan.gpu import linear, log
from lab.scan.gpu.launch import GROUP, LANES, SIZES, Cut, launch, place
from lab.scan.gpu.log import shares

TILE = 128  # columns of averages and values that one warp takes together, four per thread


def forward(
    decay: Tensor, score: Tensor, value: Tensor, initial_average: Tensor, initial_norm: Tensor,
    average: Tensor, log_norm: Tensor, chunks: int | None = None,
) -> None:  # fmt: skip
    """Fill average ["B T N V"] and log_norm ["B T N"].

    For decay, score ["B T N"], value ["B T N V"] or ["B T 1 V"], initial_average ["B N V"] and
    initial_norm ["B N"]; where log_norm is -inf the average stays what it was before.
    """
    log.forward(decay, score, initial_norm, log_norm, chunks)
    of_past, of_step = _shares(decay, score, log_norm, initial_norm)
    cut, V = Cut.of(average, chunks), average.shape[3]
    inputs, kind = (of_past, of_step, value), {"SHARED": value.shape[2] < average.shape[2]}
    initial = initial_average.flatten(1)
    starts = initial[:, None]
    if cut.chunks > 1:
        gains, ends = (average.new_empty(cut.B, cut.chunks - 1, cut.columns) for _ in range(2))
        cut.run(_forward, *inputs, starts, ends, gains, V, summary=True, **kind)
        starts = linear.starts_of_chunks(gains, ends, initial)
    # The last tensor is for summaries alone.
    cut.run(_forward, *inputs, starts, average, average, V, **kind)


def backward(
    grad_average: Tensor, grad_norm: Tensor, decay: Tensor, score: Tensor, value: Tensor,
    average: Tensor, log_norm: Tensor, initial_average: Tensor, initial_norm: Tensor,
    g_decay: Tensor, g_score: Tensor, g_value: Tensor, g_average: Tensor, g_norm: Tensor,
    chunks: int | None = None,
) -> None:  # fmt: skip
    """Fill g_decay, g_score, g_value, g_average ["B N V"] and g_norm ["B N"].

    These are the gradients of decay, score, value, initial_average and initial_norm, given those of
    average and log_norm.
    """
    of_past, of_step = _shares(decay, score, log_norm, initial_norm)
    turn = _average_backward(
        grad_average, of_past, of_step, value, average, initial_average, g_value, g_average, chunks
    )
    # x[t] = of_past[t] (grad_norm[t] + x[t+1]) + turn[t], from the last step down.
    x = torch.empty_like(turn)
    drive = of_past * grad_norm + turn
    linear.forward(of_past.flip(1), drive.flip(1), torch.zeros_like(initial_norm), x, chunks)
    torch.sub(of_step * grad_norm, turn, out=g_score)
    g_score[:, :-1] += of_step[:, :-1] * x.flip(1)[:, 1:]
    g_decay.copy_(x.flip(1))
    g_norm.copy_(x[:, -1])


def _shares(
    decay: Tensor, score: Tensor, log_norm: Tensor, initial_norm: Tensor
) -> tuple[Tensor, Tensor]:
    """["B T N"], twice: the shares of the past and of the step in the average; both 0 at -inf."""
    of_past, of_step = torch.empty_like(decay), torch.empty_like(decay)
    size, (_, T, N) = decay.numel(), decay.shape
    launch(
        _fill_shares, -(-size // LANES), decay, score, log_norm, initial_norm, of_past, of_step,
        size, T, N, LANES=LANES, num_warps=LANES // 32,
    )  # fmt: skip
    return of_past, of_step


def _average_backward(
    grad: Tensor, of_past: Tensor, of_step: Tensor, value: Tensor, average: Tensor,
    initial: Tensor, g_value: Tensor, g_initial: Tensor, chunks: int | None,
) -> Tensor:  # fmt: skip
    """Fill g_value and g_initial; what the shares themselves send back ["B T N"].

    Sums go over a tile within a program, and over tiles by torch, always in the same order.
    """
    cut, (B, T, N, V) = Cut.of(average, chunks), average.shape
    width = min(TILE, triton.next_power_of_2(max(1, V)))
    height = min(TILE // width, triton.next_power_of_2(max(1, N)))
    rows, pieces = -(-N // height), -(-V // width)
    shared = value.shape[2] < N
    turns = average.new_empty(pieces, B, T, N)
    values = average.new_empty(rows, B, T, 1, V) if shared else g_value[None]
    nothing = average.new_zeros(B, 1, N, V)

    def run(starts: Tensor, to_initial: Tensor, gains: Tensor, *, summary: bool) -> None:
        number = cut.chunks - summary
        launch(
            _backward, B * number * rows * pieces, grad, of_past, of_step, value, average, initial,
            starts, turns, values, to_initial, gains, B, T, N, V, number, cut.span, rows, pieces,
            SUMMARY=summary, SHARED=shared, HEIGHT=height, WIDTH=width, GROUP=GROUP // 2,
            num_warps=1,
        )  # fmt: skip

    starts = nothing
    if cut.chunks > 1:
        gains, ends = (average.new_empty(B, cut.chunks - 1, N, V) for _ in range(2))
        run(starts, ends, gains, summary=True)
        flat = linear.starts_of_chunks(gains.flatten(2), ends.flatten(2), nothing.view(B, N * V))
        starts = flat.view(B, cut.chunks, N, V)
    run(starts, g_initial, g_initial, summary=False)
    if shared:
        torch.sum(values, 0, out=g_value)
    return turns.sum(0)


@triton.jit(do_not_specialize=["size", "T", "N"])
def _fill_shares(  # type: ignore[no-untyped-def]
    decay, score, log_norm, initial_norm, of_past, of_step, size, T, N, LANES: tl.constexpr
):
    at = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    inside = at < size
    is_first = at // N % T == 0
    first = tl.load(initial_norm + at // (N * T) * N + at % N, inside & is_first, other=0.0)
    before = tl.load(log_norm + at - N, inside & (at // N % T > 0), other=first)
    past = tl.load(decay + at, inside, other=0.0) + before
    p, w = shares(past, tl.load(score + at, inside, other=0.0))
    tl.store(of_past + at, p, inside)
    tl.store(of_step + at, w, inside)


@triton.jit
def _keep(of_past, of_step):  # type: ignore[no-untyped-def]
    """The share of the past average in the next one: all where there is neither."""
    return tl.where(of_past + of_step == 0, 1.0, of_past)


@triton.jit(do_not_specialize=[*SIZES, "V"])
def _forward(  # type: ignore[no-untyped-def]
    of_past, of_step, value, starts, average, gains, V, lanes, T, columns, chunks, span,
    SUMMARY: tl.constexpr, SHARED: tl.constexpr, LANES: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Columns are those of N and V together."""
    lane, batch, chunk, column, steps = place(lanes, T, columns, chunks, span, LANES)
    row = batch * T + chunk * span
    at = row * columns + column
    n, N = column // V, columns // V
    value_columns = V if SHARED else columns
    value_at = row * value_columns + (column % V if SHARED else column)
    if SUMMARY:
        x = tl.zeros([LANES], average.dtype.element_ty)
        gain = x + 1
    else:
        x = tl.load(starts + lane, steps > 0, other=0.0)
    for start in range(0, span, GROUP):
        # All loads of the group come first, so that they are under way together.
        inputs = ()
        for k in tl.static_range(GROUP):
            here = start + k < steps
            share_at = (row + start + k) * N + n
            inputs += ((
                tl.load(of_past + share_at, here, other=1.0),
                tl.load(of_step + share_at, here, other=0.0),
                tl.load(value + value_at + k * value_columns, here, other=0.0),
            ),)  # fmt: skip
        for k in tl.static_range(GROUP):
            p, w, drive = inputs[k]
            keep = _keep(p, w)
            x = keep * x + w * drive
            if SUMMARY:
                gain = keep * gain
            else:
                tl.store(average + at + k * columns, x, start + k < steps)
        at += GROUP * columns
        value_at += GROUP * value_columns
    if SUMMARY:
        tl.store(gains + lane, gain, steps > 0)
        tl.store(average + lane, x, steps > 0)


@triton.jit(
    do_not_specialize=["B", "T", "N", "V", "chunks", "span", "rows", "pieces"],
)
def _backward(  # type: ignore[no-untyped-def]
    grad, of_past, of_step, value, average, initial, starts, turns, values, to_initial, gains,
    B, T, N, V, chunks, span, rows, pieces,
    SUMMARY: tl.constexpr, SHARED: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
    GROUP: tl.constexpr,
):  # fmt: skip
    """Walks a tile of N and V from the last step down; chunk 0 is the one at the end."""
    program = tl.program_id(0).to(tl.int64)
    piece, row = program % pieces, program // pieces % rows
    chunk, batch = program // (pieces * rows) % chunks, program // (pieces * rows * chunks)
    n, v = row * HEIGHT + tl.arange(0, HEIGHT), piece * WIDTH + tl.arange(0, WIDTH)
    at = n[:, None] * V + v[None, :]
    inside = (n[:, None] < N) & (v[None, :] < V)
    first = chunk * span
    last = tl.minimum(first + span, T)
    # What later steps send back to the average of this one.
    if SUMMARY:
        x = tl.zeros([HEIGHT, WIDTH], grad.dtype.element_ty)
        gain = x + 1
    else:
        x = tl.load(starts + (batch * chunks + chunk) * N * V + at, inside, other=0.0)
        zeroth = tl.load(initial + batch * N * V + at, inside, other=0.0)
    for start in range(0, span, GROUP):
        # All loads of the group come first, so that they are under way together.
        inputs = ()
        for k in tl.static_range(GROUP):
            step = first + (start + k)
            # Beyond the last step of the chunk there is nothing to load.
            height = tl.where(step < last, N, 0)
            here = inside & (n[:, None] < height)
            t = batch * T + T - 1 - step
            p = tl.load(of_past + t * N + n, n < height, other=1.0)
            w = tl.load(of_step + t * N + n, n < height, other=0.0)
            arriving = tl.load(grad + t * N * V + at, here, other=0.0)
            if SUMMARY:
                inputs += ((p, w, arriving),)
            else:
                has_before = here & (n[:, None] < tl.where(step < T - 1, N, 0))
                before = tl.load(average + (t - 1) * N * V + at, has_before, other=zeroth)
                value_at = t * V + v[None, :] + 0 * n[:, None] if SHARED else t * N * V + at
                drive = tl.load(value + value_at, here, other=0.0)
                inputs += ((p, w, arriving, before, drive),)
        for k in tl.static_range(GROUP):
            p, w = inputs[k][0], inputs[k][1]
            g = inputs[k][2] + x
            keep = _keep(p, w)[:, None]
            x = keep * g
            if SUMMARY:
                gain = keep * gain
            else:
                step = first + (start + k)
                height = tl.where(step < last, N, 0)
                t = batch * T + T - 1 - step
                difference = tl.where(inside, g * (inputs[k][3] - inputs[k][4]), 0.0)
                turn = p * w * tl.sum(difference, 1)
                tl.store(turns + (piece * B * T + t) * N + n, turn, n < height)
                to_value = w[:, None] * g
                if SHARED:
                    total = tl.sum(tl.where(inside, to_value, 0.0), 0)
                    width = tl.where(step < last, V, 0)
                    tl.store(values + (row * B * T + t) * V + v, total, v < width)
                else:
                    here = inside & (n[:, None] < height)
                    tl.store(values + t * N * V + at, to_value, here)
    if SUMMARY:
        end_at = (batch * chunks + chunk) * N * V + at
        tl.store(gains + end_at, gain, inside)
        tl.store(to_initial + end_at, x, inside)
    else:
        # Where the walk ends at step 0.
        height = tl.where(chunk == chunks - 1, N, 0)
        tl.store(to_initial + batch * N * V + at, x, inside & (n[:, None] < height))
