"""The scan of keys and values and its gradients, in chunks of eight steps that stay in the cache.

Most of the arithmetic is in products of small matrices (`lab.scan.cpu.tiles`). S is the state
before a chunk, c[t] the product of the gains of a chunk up to step t, e[s] the product of those
after step s, E[t, s] the product of those between them, and g the product of all. A chunk is then

    P[t, s] = sum over i of q[t, i] E[t, s, i] k[s, i]         for s <= t
    A[t, s] = sum over i of k[t, i] E[t, s, i] k[s, i]         for s < t
    r[t] = v[t] - (c[t] k[t]) S - sum over s < t of A[t, s] u[s]
    u[t] = beta[t] r[t], or v[t] without beta
    o = (c q) S + P u
    next S = g S + (e k)^T u

Nothing is divided by a gain. From chunk to chunk the state is kept in double precision; so is g,
the exponential of a sum of logarithms.

The backward kernel first stores the state before every chunk, then recomputes one chunk after
another from the last to the first. With D the gradient of o and G that of the next S, the gradients
of u and of -r are

    U = P^T D + (e k) G + A^T W        W[t] = -beta[t] U[t]

and those of c q, c k, e k, P and A are D S^T, W S^T, u G^T, D u^T and W u^T. The gain of step r
multiplies all pairs s < r <= t of a write at s and a read or a correction at t, where S counts as
written before the first step of the chunk.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from torch import Tensor

from lab.scan.cpu.precision import accumulators
from lab.scan.cpu.threads import reduction, run
from lab.scan.cpu.tiles import add_product, add_transposed_product, clear, product, transpose
from lab.scan.cpu.vectors import (
    WIDTH,
    converted,
    load,
    more,
    number,
    once,
    put,
    spread,
    store,
    total,
    zeros,
)  # fmt: skip

CHUNK = WIDTH  # steps


class Plan(NamedTuple):
    """Sizes, and the place of each matrix in the flat scratch memory of a thread.

    Matrices have the names of the module docstring, and C is `CHUNK`. K and M are filled up with
    zeros to a multiple of `WIDTH`.
    """

    T: int
    K: int
    M: int
    G: int
    corrects: int
    keys: int  # K, filled up
    values: int  # M, filled up
    gains: int  # G, filled up: at least 1
    # ["C K"]
    q: int
    k: int
    cq: int
    ck: int
    ek: int
    # ["C M"]
    v: int
    u: int
    reads: int
    # ["C G"]
    a: int
    c: int
    e: int
    # ["C 1"], ["K C"] and ["C C"]; the unit matrix, and ones below the diagonal
    beta: int
    k_turned: int
    E: int
    P: int
    A: int
    eye: int
    before: int
    change: int  # ["K M"]
    # Gradients, D of o, U of u, W of -r, DP of P, DA of A and so on, and transposes
    D: int
    U: int
    W: int
    D_turned: int
    u_turned: int
    W_turned: int
    of_q: int
    of_k: int
    of_cq: int
    of_ck: int
    of_ek: int
    turned: int
    DP: int
    DA: int
    of_gain: int
    kept: int
    of_beta: int
    carry: int  # ["K M"]
    S: int  # ["chunks K M"]; of one chunk forwards
    size: int


@cache
def _plan(T: int, K: int, M: int, G: int, corrects: int, *, backwards: bool) -> Plan:
    keys, values = _whole(K), _whole(M)
    gains = keys if G > 1 else 1
    like = [
        (CHUNK * keys, "q k cq ck ek k_turned of_q of_k of_cq of_ck of_ek turned"),
        (CHUNK * values, "v u reads D U W D_turned u_turned W_turned"),
        (CHUNK * gains, "a c e of_gain"),
        (CHUNK, "beta of_beta"),
        (CHUNK * CHUNK, "E P A eye before DP DA"),
        (keys * values, "change carry"),
        (gains, "kept"),
        (keys * values * (-(-T // CHUNK) if backwards else 1), "S"),
    ]
    places, size = {}, 0
    for numbers, names in like:
        for name in names.split():
            places[name] = size
            size += _whole(numbers)
    return Plan(
        T=T, K=K, M=M, G=G, corrects=corrects, keys=keys, values=values, gains=gains,
        size=size, **places,
    )  # fmt: skip


def _whole(size: int) -> int:
    return max(WIDTH, -(-size // WIDTH) * WIDTH)


def forward(
    q: Tensor, k: Tensor, v: Tensor, log_gain: Tensor, beta: Tensor, initial: Tensor,
    o: Tensor, last: Tensor,
) -> None:  # fmt: skip
    """Fill o ["B T M"] and last ["B K M"], for arguments as `lab.scan.key_value` has them."""
    p = _plan(*q.shape[1:], v.shape[2], log_gain.shape[2], beta.shape[2], backwards=False)
    arrays = (q, k, v, log_gain.exp(), log_gain, beta, initial, o, last)
    run(_forward, len(q), p, *(each.flatten() for each in arrays), work=_work(initial, v))


def backward(
    grad_o: Tensor, grad_last: Tensor,
    q: Tensor, k: Tensor, v: Tensor, log_gain: Tensor, beta: Tensor, initial: Tensor,
    to_q: Tensor, to_k: Tensor, to_v: Tensor, to_gain: Tensor, to_beta: Tensor, to_initial: Tensor,
) -> None:  # fmt: skip
    """Fill the gradients of all inputs, each of its shape, given those of o and last."""
    p = _plan(*q.shape[1:], v.shape[2], log_gain.shape[2], beta.shape[2], backwards=True)
    arrays = (
        grad_o, grad_last, q, k, v, log_gain.exp(), log_gain, beta, initial,
        to_q, to_k, to_v, to_gain, to_beta, to_initial,
    )  # fmt: skip
    run(_backward, len(q), p, *(each.flatten() for each in arrays), work=4 * _work(initial, v))


def _work(initial: Tensor, v: Tensor) -> int:
    B, T, M = v.shape
    return 3 * B * T * M * initial.shape[1]


@reduction
def _fill(w, at, width, source, place, count, N):  # type: ignore[no-untyped-def]
    """Rows of N numbers each from a place in a source on, as many as there are; then zeros."""
    once()
    for t in range(CHUNK):
        for n in range(N):
            put(w, at + n, number(source, place + n) if t < count else w.dtype.type(0))
        at += width
        place += N


@reduction
def _pour(w, at, width, target, place, count, N):  # type: ignore[no-untyped-def]
    """So many rows go to a place in a target."""
    once()
    for _ in range(count):
        for n in range(N):
            put(target, place + n, number(w, at + n))
        at += width
        place += N


@reduction
def _weigh(w, out, x, width, gains, columns):  # type: ignore[no-untyped-def]
    """out[t, :] = gains[t, :] x[t, :]."""
    once()
    for t in range(CHUNK):
        for n in range(t * width, (t + 1) * width, WIDTH):
            weight = spread(w, gains + t) if columns == 1 else load(w, gains + n)
            store(w, out + n, weight * load(w, x + n))


@reduction
def _set_up(p, w):  # type: ignore[no-untyped-def]
    """Matrices that stay the same, and ones where there are no gains."""
    for t in range(CHUNK):
        put(w, p.eye + t * CHUNK + t, w.dtype.type(1))
        for s in range(t):
            put(w, p.before + t * CHUNK + s, w.dtype.type(1))
        for i in range(t * p.gains, (t + 1) * p.gains):
            for gains in (p.a, p.c, p.e):
                put(w, gains + i, w.dtype.type(1))


@reduction
def _prepare(p, w, g, S, start, step, q, k, v, gain, log_gain, beta, reads):  # type: ignore[no-untyped-def]
    """All of a chunk but what is read: its first step, in the sequence and in the batch."""
    once()
    count = min(CHUNK, p.T - start)
    _fill(w, p.k, p.keys, k, step * p.K, count, p.K)
    _fill(w, p.v if p.corrects else p.u, p.values, v, step * p.M, count, p.M)
    if p.G:
        _fill_gains(p, w, g, gain, log_gain, step * p.G, count)
    _weigh(w, p.ek, p.k, p.keys, p.e, p.gains)
    if reads:
        _fill(w, p.q, p.keys, q, step * p.K, count, p.K)
        _weigh(w, p.cq, p.q, p.keys, p.c, p.gains)
    if p.corrects:
        _fill(w, p.beta, 1, beta, step, count, 1)
        _weigh(w, p.ck, p.k, p.keys, p.c, p.gains)
    if reads or p.corrects:
        if p.gains == 1:
            _pairs_of_one_gain(p, w)
        else:
            _pairs_of_many_gains(p, w)
    if p.corrects:
        _correct(p, w, S)


@reduction
def _fill_gains(p, w, g, gain, log_gain, place, count):  # type: ignore[no-untyped-def]
    _fill(w, p.a, p.gains, gain, place, count, p.G)
    for t in range(count, CHUNK):
        for i in range(p.G):
            put(w, p.a + t * p.gains + i, w.dtype.type(1))
    for i in range(p.G):
        exponent, c, e = g.dtype.type(0), w.dtype.type(1), w.dtype.type(1)
        for t in range(CHUNK):
            at, back = t * p.gains + i, (CHUNK - 1 - t) * p.gains + i
            c *= number(w, p.a + at)
            put(w, p.c + at, c)
            put(w, p.e + back, e)
            e *= number(w, p.a + back)
            if t < count:
                exponent += number(log_gain, place + t * p.G + i)
        put(g, i, math.exp(exponent))


@reduction
def _pairs_of_one_gain(p, w):  # type: ignore[no-untyped-def]
    """Fill E, P and A; all are zero for pairs that do not count."""
    transpose(w, p.k_turned, p.k, CHUNK, p.keys)
    product(w, p.P, p.q, p.k_turned, CHUNK, p.keys, CHUNK)
    if p.corrects:
        product(w, p.A, p.k, p.k_turned, CHUNK, p.keys, CHUNK)
    between = zeros(w)
    for t in range(CHUNK):
        row = t * CHUNK
        earlier = spread(w, p.a + t) * between
        between = earlier + load(w, p.eye + row)
        store(w, p.E + row, between)
        store(w, p.P + row, between * load(w, p.P + row))
        store(w, p.A + row, earlier * load(w, p.A + row))


@reduction
def _pairs_of_many_gains(p, w):  # type: ignore[no-untyped-def]
    clear(w, p.P, CHUNK * CHUNK)
    clear(w, p.A, CHUNK * CHUNK)
    for i in range(p.keys):
        between = zeros(w)  # E[t, s, i] k[s, i] for all s, while t runs
        for t in range(CHUNK):
            at, row = t * p.keys + i, t * CHUNK
            k = spread(w, p.k + at)
            earlier = spread(w, p.a + at) * between
            between = more(earlier, k, load(w, p.eye + row))
            store(w, p.P + row, more(load(w, p.P + row), spread(w, p.q + at), between))
            store(w, p.A + row, more(load(w, p.A + row), k, earlier))


@reduction
def _correct(p, w, S):  # type: ignore[no-untyped-def]
    """Fill u, and turn v into r."""
    product(w, p.u, p.ck, S, CHUNK, p.keys, p.values)
    for m in range(0, p.values, WIDTH):
        for t in range(CHUNK):
            at = t * p.values + m
            rest = load(w, p.v + at) - load(w, p.u + at)
            for s in range(t):
                rest = rest - spread(w, p.A + t * CHUNK + s) * load(w, p.u + s * p.values + m)
            store(w, p.v + at, rest)
            store(w, p.u + at, spread(w, p.beta + t) * rest)


@reduction
def _load_state(p, w, state, source, place, at):  # type: ignore[no-untyped-def]
    """A state ["K M"] of the batch, in double precision, and rounded into the scratch."""
    once()
    for i in range(p.keys):
        for m in range(p.values):
            inside = i < p.K and m < p.M
            value = number(source, place + i * p.M + m) if inside else w.dtype.type(0)
            put(state, i * p.values + m, state.dtype.type(value))
            put(w, at + i * p.values + m, value)


@reduction
def _save_state(p, state, target, place):  # type: ignore[no-untyped-def]
    for i in range(p.K):
        for m in range(p.M):
            value = number(state, i * p.values + m)
            put(target, place + i * p.M + m, target.dtype.type(value))


@reduction
def _advance(p, w, state, at, g):  # type: ignore[no-untyped-def]
    """state = g state + change, in double precision, and rounded at `at`; change = 0."""
    once()
    nothing, change = zeros(w), p.change
    place = 0
    for i in range(p.keys):
        gain = spread(g, 0 if p.gains == 1 else i)
        for _ in range(0, p.values, WIDTH):
            new = more(converted(load(w, change + place), state), gain, load(state, place))
            store(state, place, new)
            store(w, at + place, converted(new, w))
            store(w, change + place, nothing)
            place += WIDTH


@reduction
def _forward(first, end, p, q, k, v, gain, log_gain, beta, initial, o, last):  # type: ignore[no-untyped-def]
    w = np.zeros(p.size, q.dtype)
    state, g = accumulators(p.keys * p.values, q), accumulators(p.gains, q)
    g[:] = 1
    _set_up(p, w)
    for b in range(first, end):
        _load_state(p, w, state, initial, b * p.K * p.M, p.S)
        for start in range(0, p.T, CHUNK):
            step = b * p.T + start
            _prepare(p, w, g, p.S, start, step, q, k, v, gain, log_gain, beta, True)
            product(w, p.reads, p.cq, p.S, CHUNK, p.keys, p.values)
            add_product(w, p.reads, p.P, p.u, CHUNK, CHUNK, p.values)
            _pour(w, p.reads, p.values, o, step * p.M, min(CHUNK, p.T - start), p.M)
            add_transposed_product(w, p.change, p.ek, p.u, p.keys, CHUNK, p.values)
            _advance(p, w, state, p.S, g)
        _save_state(p, state, last, b * p.K * p.M)


@reduction
def _of_writes(p, w):  # type: ignore[no-untyped-def]
    """Fill U, and where there are corrections W and the gradient of beta."""
    product(w, p.U, p.ek, p.carry, CHUNK, p.keys, p.values)
    add_transposed_product(w, p.U, p.P, p.D, CHUNK, CHUNK, p.values)
    if not p.corrects:
        return
    for m in range(0, p.values, WIDTH):
        for back in range(1, CHUNK + 1):
            t = CHUNK - back
            at = t * p.values + m
            flow = load(w, p.U + at)
            for s in range(t + 1, CHUNK):
                weight = spread(w, p.A + s * CHUNK + t)
                flow = more(flow, weight, load(w, p.W + s * p.values + m))
            store(w, p.U + at, flow)
            store(w, p.W + at, zeros(w) - spread(w, p.beta + t) * flow)
    for t in range(CHUNK):
        sums = zeros(w)
        for at in range(t * p.values, (t + 1) * p.values, WIDTH):
            sums = more(sums, load(w, p.U + at), load(w, p.v + at))
            store(w, p.U + at, zeros(w) - load(w, p.W + at))
        put(w, p.of_beta + t, total(sums))


@reduction
def _of_pairs(p, w, S):  # type: ignore[no-untyped-def]
    """Fill the gradients of P, A, c q, c k and e k."""
    transpose(w, p.u_turned, p.u, CHUNK, p.values)
    transpose(w, p.D_turned, p.D, CHUNK, p.values)
    product(w, p.DP, p.D, p.u_turned, CHUNK, p.values, CHUNK)
    product(w, p.turned, S, p.D_turned, p.keys, p.values, CHUNK)
    transpose(w, p.of_cq, p.turned, p.keys, CHUNK)
    product(w, p.turned, p.carry, p.u_turned, p.keys, p.values, CHUNK)
    transpose(w, p.of_ek, p.turned, p.keys, CHUNK)
    if p.corrects:
        transpose(w, p.W_turned, p.W, CHUNK, p.values)
        product(w, p.DA, p.W, p.u_turned, CHUNK, p.values, CHUNK)
        product(w, p.turned, S, p.W_turned, p.keys, p.values, CHUNK)
        transpose(w, p.of_ck, p.turned, p.keys, CHUNK)
    for row in range(0, CHUNK * CHUNK, CHUNK):
        before = load(w, p.before + row)
        store(w, p.DA + row, before * load(w, p.DA + row))
        store(w, p.DP + row, (before + load(w, p.eye + row)) * load(w, p.DP + row))


@reduction
def _of_keys_of_one_gain(p, w):  # type: ignore[no-untyped-def]
    """Fill the gradients of q, k and the logarithms of gains by way of P and A."""
    over = zeros(w)  # for every s what steps from t on have read or corrected of it
    for back in range(1, CHUNK + 1):
        t = CHUNK - back
        row = t * CHUNK
        DP, DA, between = load(w, p.DP + row), load(w, p.DA + row), load(w, p.E + row)
        over = more(more(over, DP, load(w, p.P + row)), DA, load(w, p.A + row))
        put(w, p.of_gain + t, total(over * load(w, p.before + row)))
        store(w, p.DP + row, DP * between)
        store(w, p.DA + row, DA * between)
    product(w, p.of_q, p.DP, p.k, CHUNK, CHUNK, p.keys)
    clear(w, p.of_k, CHUNK * p.keys)
    add_transposed_product(w, p.of_k, p.DP, p.q, CHUNK, CHUNK, p.keys)
    if p.corrects:
        add_product(w, p.of_k, p.DA, p.k, CHUNK, CHUNK, p.keys)
        add_transposed_product(w, p.of_k, p.DA, p.k, CHUNK, CHUNK, p.keys)


@reduction
def _of_keys_of_many_gains(p, w):  # type: ignore[no-untyped-def]
    for i in range(p.keys):
        between = zeros(w)  # E[t, s, i] k[s, i] for all s, while t runs
        for t in range(CHUNK):
            at, row = t * p.keys + i, t * CHUNK
            earlier = spread(w, p.a + at) * between
            between = more(earlier, spread(w, p.k + at), load(w, p.eye + row))
            store(w, p.E + row, earlier)
            put(w, p.of_q + at, total(load(w, p.DP + row) * between))
            put(w, p.of_k + at, total(load(w, p.DA + row) * earlier))
        flow, of_k = zeros(w), zeros(w)  # what comes back to E[t, s, i] k[s, i]
        for back in range(1, CHUNK + 1):
            t = CHUNK - back
            at, row = t * p.keys + i, t * CHUNK
            flow = more(flow, spread(w, p.q + at), load(w, p.DP + row))
            flow = more(flow, spread(w, p.k + at), load(w, p.DA + row))
            put(w, p.of_gain + at, total(flow * load(w, p.E + row)))
            of_k = more(of_k, flow, load(w, p.eye + row))
            flow = spread(w, p.a + at) * flow
        store(w, p.E, of_k)
        for t in range(CHUNK):
            at = p.of_k + t * p.keys + i
            put(w, at, number(w, at) + number(w, p.E + t))


@reduction
def _add_states(p, w):  # type: ignore[no-untyped-def]
    """Add to the gradients of q and k what comes by way of c q, c k and e k.

    In place of those gradients it leaves their products with c q, c k and e k, summed up over what
    has one gain.
    """
    _weigh(w, p.of_cq, p.of_cq, p.keys, p.c, p.gains)
    _weigh(w, p.of_ck, p.of_ck, p.keys, p.c, p.gains)
    _weigh(w, p.of_ek, p.of_ek, p.keys, p.e, p.gains)
    for t in range(CHUNK):
        reads, writes = zeros(w), zeros(w)
        for at in range(t * p.keys, (t + 1) * p.keys, WIDTH):
            of_q, of_ck, of_ek = (
                load(w, p.of_cq + at), load(w, p.of_ck + at), load(w, p.of_ek + at)
            )  # fmt: skip
            store(w, p.of_q + at, load(w, p.of_q + at) + of_q)
            store(w, p.of_k + at, load(w, p.of_k + at) + of_ck + of_ek)
            k = load(w, p.k + at)
            read, written = of_q * load(w, p.q + at) + of_ck * k, of_ek * k
            store(w, p.of_cq + at, read)
            store(w, p.of_ek + at, written)
            reads, writes = reads + read, writes + written
        if p.gains == 1:
            put(w, p.of_cq + t, total(reads))
            put(w, p.of_ek + t, total(writes))


@reduction
def _add_to_gains(p, w, S, g):  # type: ignore[no-untyped-def]
    """Gain t has part in reads from t on, in writes before t, and in what is kept throughout."""
    clear(w, p.kept, p.gains if p.gains > 1 else WIDTH)
    at = 0
    for i in range(p.keys):
        sums = zeros(w)
        for _ in range(0, p.values, WIDTH):
            sums = more(sums, load(w, S + at), load(w, p.carry + at))
            at += WIDTH
        place = 0 if p.gains == 1 else i
        kept = w.dtype.type(number(g, place) * total(sums))
        put(w, p.kept + place, number(w, p.kept + place) + kept)
    for i in range(p.gains):
        from_here, before = w.dtype.type(0), number(w, p.kept + i)
        for t in range(CHUNK):
            at, back = t * p.gains + i, (CHUNK - 1 - t) * p.gains + i
            put(w, p.of_gain + at, number(w, p.of_gain + at) + before)
            before += number(w, p.of_ek + at)
            from_here += number(w, p.of_cq + back)
            put(w, p.of_gain + back, number(w, p.of_gain + back) + from_here)


@reduction
def _backward(  # type: ignore[no-untyped-def]
    first, end, p, grad_o, grad_last, q, k, v, gain, log_gain, beta, initial,
    to_q, to_k, to_v, to_gain, to_beta, to_initial,
):  # fmt: skip
    w = np.zeros(p.size, q.dtype)
    state, g = accumulators(p.keys * p.values, q), accumulators(p.gains, q)
    g[:] = 1
    _set_up(p, w)
    chunks = (p.T + CHUNK - 1) // CHUNK
    for b in range(first, end):
        _load_state(p, w, state, initial, b * p.K * p.M, p.S)
        S = p.S
        for n in range(chunks - 1):
            start = n * CHUNK
            _prepare(p, w, g, S, start, b * p.T + start, q, k, v, gain, log_gain, beta, False)
            add_transposed_product(w, p.change, p.ek, p.u, p.keys, CHUNK, p.values)
            S += p.keys * p.values
            _advance(p, w, state, S, g)
        _load_state(p, w, state, grad_last, b * p.K * p.M, p.carry)
        for back in range(1, chunks + 1):
            start = (chunks - back) * CHUNK
            step, count = b * p.T + start, min(CHUNK, p.T - start)
            _prepare(p, w, g, S, start, step, q, k, v, gain, log_gain, beta, True)
            _fill(w, p.D, p.values, grad_o, step * p.M, count, p.M)
            _of_writes(p, w)
            _pour(w, p.U, p.values, to_v, step * p.M, count, p.M)
            _of_pairs(p, w, S)
            if p.gains == 1:
                _of_keys_of_one_gain(p, w)
            else:
                _of_keys_of_many_gains(p, w)
            _add_states(p, w)
            _pour(w, p.of_q, p.keys, to_q, step * p.K, count, p.K)
            _pour(w, p.of_k, p.keys, to_k, step * p.K, count, p.K)
            if p.G:
                _add_to_gains(p, w, S, g)
                _pour(w, p.of_gain, p.gains, to_gain, step * p.G, count, p.G)
            add_transposed_product(w, p.change, p.cq, p.D, p.keys, CHUNK, p.values)
            if p.corrects:
                _pour(w, p.of_beta, 1, to_beta, step, count, 1)
                add_transposed_product(w, p.change, p.ck, p.W, p.keys, CHUNK, p.values)
            _advance(p, w, state, p.carry, g)
            S -= p.keys * p.values
        _save_state(p, state, to_initial, b * p.K * p.M)
