"""h[t] = A[t] @ h[t-1] + b[t] and its gradients on a GPU; also in blocks.

As on the CPU every scan has K blocks: A ["B T K out in"], b ["B T K in"], with K = 1 for a full
matrix. What the batch or all steps share has an axis of 1, and stays that small.

One program walks through time for each block of each sequence, with its state in registers. Where
these are far fewer than the multiprocessors, time is cut into chunks: a chunk is summed up by the
product of its matrices, which torch multiplies, and the state it reaches from zero; where a product
has grown, time is not cut (see `lab.scan.growth`). What has no order in time, the gradients of A,
is left to torch as well; it sums in a fixed order.
"""

# In a kernel a tuple may grow, which those of Python's type system cannot.
# mypy: disable-error-code="assignment,var-annotated"

import torch
import triton
import triton.language as tl
from torch import Tensor

from lab.scan.arguments import full_precision
from lab.scan.gpu.launch import GROUP, Cut, chunk_count, grown, launch, processors
from lab.scan.gpu.pairs import conjugate, load, plus, real_views, store, times

WIDEST = 64  # columns of a block, of which a program keeps some matrices in registers
SHARE = 8  # numbers of a matrix that each thread holds
AHEAD = 128  # bytes of matrices that each thread loads together


def forward(A: Tensor, b: Tensor, initial: Tensor, h: Tensor, chunks: int | None = None) -> None:
    """Fill h ["B T N"] for A ["B T N N"] or ["B T K N/K N/K"], b ["B T N"], initial ["B N"]."""
    A = _in_blocks(A)
    b, initial, h = (_split(tensor, A) for tensor in (b, initial, h))
    with full_precision(A):
        _scan(A, b, initial, h, chunks=chunks, backwards=False)


def backward(
    grad: Tensor, A: Tensor, h: Tensor, initial: Tensor, gA: Tensor, gb: Tensor, gi: Tensor,
    chunks: int | None = None,
) -> None:  # fmt: skip
    """Fill gA (as A), gb ["B T N"] and gi ["B N"], given the gradient of h ["B T N"]."""
    A, gA = _in_blocks(A), _in_blocks(gA)
    grad, h, initial, gb, gi = (_split(tensor, A) for tensor in (grad, h, initial, gb, gi))
    with full_precision(A):
        _scan(A, grad, torch.zeros_like(initial), gb, chunks=chunks, backwards=True)
        first = A[:, 0].expand(len(gi), -1, -1, -1)
        gi.copy_(torch.einsum("bkij,bki->bkj", first.conj(), gb[:, 0]))
        _outer_products(gb, torch.cat([initial[:, None], h[:, :-1]], dim=1).conj(), gA)


def _outer_products(g: Tensor, before: Tensor, gA: Tensor) -> None:
    """Fill gA with the sum of g[t] before[t]^T over what shares a matrix, in a fixed order."""
    if gA.shape[:2] == g.shape[:2]:
        torch.mul(g[..., :, None], before[..., None, :], out=gA)
        return
    batch, time = ("" if size == 1 else axis for axis, size in zip("bt", gA.shape, strict=False))
    gA.copy_(torch.einsum(f"btki,btkj->{batch}{time}kij", g, before).view(gA.shape))


def _in_blocks(A: Tensor) -> Tensor:
    return A if A.ndim == 5 else A[:, :, None]


def _split(h: Tensor, A: Tensor) -> Tensor:
    """["... K in"] for h ["... N"]."""
    return h.view(*h.shape[:-1], A.shape[2], A.shape[4])


def _scan(
    A: Tensor, b: Tensor, initial: Tensor, h: Tensor, *, chunks: int | None, backwards: bool
) -> None:
    """Fill h ["B T K M"]; `backwards` with h[t] = A[t+1]^H h[t+1] + b[t], from `initial` down."""
    B, T, K, M = h.shape
    if M > WIDEST:
        _step_by_step(A, b, initial, h, backwards=backwards)
        return
    if chunks is None:
        # Two programs per multiprocessor, if they are to replace a quarter of one.
        chunks = chunk_count(4 * B * K, T, processors(h.device), enough=1, wanted=8)
    cut = Cut.of(h, chunks)
    starts = initial[:, None]
    if cut.chunks > 1:
        gains = _products(cut, A, backwards=backwards).resolve_conj().contiguous()
        if grown(gains):
            cut = Cut.of(h, 1)
        else:
            ends = h.new_empty(B, cut.chunks - 1, K, M)
            _walk(cut, A, b, starts, ends, backwards=backwards, summary=True)
            states = torch.empty_like(ends)
            _scan(gains, ends, initial, states, chunks=None, backwards=False)
            starts = torch.cat([starts, states], dim=1)
    _walk(cut, A, b, starts, h, backwards=backwards, summary=False)


def _products(cut: Cut, A: Tensor, *, backwards: bool) -> Tensor:
    """["B|1 C-1|1 K M M"]: what each chunk but the last multiplies the state before it by."""
    if A.shape[1] == 1:
        # The same matrix at every step makes the same product of every chunk.
        power = torch.linalg.matrix_power(A, cut.span)
        return power.mH if backwards else power
    chunks = cut.chunks - 1
    if not backwards:
        return _product(A[:, : chunks * cut.span].unflatten(1, (chunks, cut.span)))
    # The first chunk is the one at the end; what it multiplies is zero. The step at the end of
    # a chunk multiplies by the matrix of the step after it.
    steps = A[:, cut.T + 1 - chunks * cut.span : cut.T + 1 - cut.span]
    first = torch.zeros_like(A[:, :1])
    if chunks == 1:
        return first
    others = _product(steps.unflatten(1, (chunks - 1, cut.span)))
    return torch.cat([first, others.flip(1).mH], dim=1)


def _product(A: Tensor) -> Tensor:
    """["B C K M M"]: the products over the steps of A ["B C T K M M"], later ones on the left."""
    while A.shape[2] > 1:
        odd = A.shape[2] % 2
        pairs = A[:, :, 1::2] @ A[:, :, : A.shape[2] - odd : 2]
        A = torch.cat([pairs, A[:, :, -1:]], dim=2) if odd else pairs
    return A[:, :, 0]


def _step_by_step(A: Tensor, b: Tensor, initial: Tensor, h: Tensor, *, backwards: bool) -> None:
    """`_scan` by torch's own matrix products, one launch per step, for matrices that are large."""
    x = initial
    for step in range(h.shape[1]):
        t = h.shape[1] - 1 - step if backwards else step
        # Backwards the walk starts from zero, so that it does not matter which matrix comes first.
        matrix = A[:, 0 if A.shape[1] == 1 else t + (backwards and step > 0)]
        turned = matrix.mH if backwards else matrix
        x = (turned @ x[..., None])[..., 0] + b[:, t]
        h[:, t] = x


def _walk(
    cut: Cut, A: Tensor, b: Tensor, starts: Tensor, h: Tensor, *, backwards: bool, summary: bool
) -> None:
    K, M = b.shape[2:]
    chunks = cut.chunks - summary
    width = triton.next_power_of_2(M)
    threads = max(32, width * width // SHARE)
    held = -(-width * width // threads) * A.itemsize
    launch(
        _steps, cut.B * chunks * K, *real_views(A, b, starts, h),
        cut.T, chunks, cut.span, K, M, *_strides(A),
        BACKWARDS=backwards, SUMMARY=summary, COMPLEX=A.is_complex(), WIDTH=width,
        GROUP=max(1, min(GROUP, AHEAD // held)), num_warps=threads // 32,
    )  # fmt: skip


def _strides(A: Tensor) -> tuple[int, int]:
    """Numbers from one sequence and from one step to the next, 0 where they share a matrix."""
    step = A.shape[2:].numel()
    return step * A.shape[1] * (A.shape[0] > 1), step * (A.shape[1] > 1)


@triton.jit
def _load_matrix(  # type: ignore[no-untyped-def]
    A, at, M, size, BACKWARDS: tl.constexpr, COMPLEX: tl.constexpr, WIDTH: tl.constexpr
):
    """The M x M matrix `at` this place, or its conjugate transpose; zero from `size` on."""
    i = tl.arange(0, WIDTH)[:, None]
    j = tl.arange(0, WIDTH)[None, :]
    inside = (i < size) & (j < size)
    if BACKWARDS:
        return conjugate(load(A, at + j * M + i, inside, 0.0, COMPLEX))
    else:
        return load(A, at + i * M + j, inside, 0.0, COMPLEX)


@triton.jit(do_not_specialize=["T", "chunks", "span", "K", "M", "by_sequence", "by_step"])
def _steps(  # type: ignore[no-untyped-def]
    A, b, starts, h, T, chunks, span, K, M, by_sequence, by_step,
    BACKWARDS: tl.constexpr, SUMMARY: tl.constexpr, COMPLEX: tl.constexpr,
    WIDTH: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """Walks one chunk of one block; BACKWARDS from the last step down, chunk 0 being the last."""
    program = tl.program_id(0).to(tl.int64)
    batch, k = program // (K * chunks), program % K
    first = program // K % chunks * span
    last = tl.minimum(first + span, T)
    n = tl.arange(0, WIDTH)
    if SUMMARY:
        x = tl.zeros([WIDTH], h.dtype.element_ty), tl.zeros([WIDTH], h.dtype.element_ty)
    else:
        x = load(starts, program * M + n, n < M, 0.0, COMPLEX)
    for start in range(0, span, GROUP):
        # All loads of the group come first, so that they are under way together.
        inputs = ()
        for ahead in tl.static_range(GROUP):
            step = first + (start + ahead)
            t = T - 1 - step if BACKWARDS else step
            # Nothing is loaded beyond the last step; and backwards the first step has no matrix,
            # since it starts from zero.
            size = tl.where(step < last, M, 0)
            rows = tl.where(step > 0, size, 0) if BACKWARDS else size
            at = batch * by_sequence + (t + 1 if BACKWARDS else t) * by_step + k * M * M
            matrix = _load_matrix(A, at, M, rows, BACKWARDS, COMPLEX, WIDTH)
            drive = load(b, ((batch * T + t) * K + k) * M + n, n < size, 0.0, COMPLEX)
            inputs += ((matrix, drive),)
        for ahead in tl.static_range(GROUP):
            step = first + (start + ahead)
            t = T - 1 - step if BACKWARDS else step
            terms = times(inputs[ahead][0], (x[0][None, :], x[1][None, :]), COMPLEX)
            y = plus((tl.sum(terms[0], 1), tl.sum(terms[1], 1)), inputs[ahead][1])
            size = tl.where(step < last, M, 0)
            # Beyond the last step of the chunk the state stays as it is.
            x = tl.where(n < size, y[0], x[0]), tl.where(n < size, y[1], x[1])
            if not SUMMARY:
                store(h, ((batch * T + t) * K + k) * M + n, x, n < size, COMPLEX)
    if SUMMARY:
        store(h, program * M + n, x, n < M, COMPLEX)
