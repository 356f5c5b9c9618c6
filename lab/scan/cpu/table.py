"""h[t] = A[tokens[t]] h[t-1] + b[tokens[t]] and its gradients, with tables that stay in the cache.

Backwards, every sequence goes through time by itself, and then every row of a table adds up the
outer products of its own steps, so that no two threads write to one row.
"""

import numpy as np
import torch
from torch import Tensor

from lab.scan.arguments import within
from lab.scan.cpu.matrix import send_back
from lab.scan.cpu.precision import accumulators
from lab.scan.cpu.threads import kernel, reduction, run


def forward(A: Tensor, b: Tensor, initial: Tensor, tokens: Tensor, h: Tensor) -> None:
    """Fill h ["B T N"] for A ["G V N N"], b ["G V N"], initial ["B N"] and tokens ["B T"].

    Raises:
        ValueError: a token is not in [0, V).
    """
    within(tokens, A.shape[1], "tokens")  # what lies outside would be read from foreign memory
    run(_forward, len(h), A, b, initial, tokens, h, work=h.numel() * h.shape[-1])


def backward(
    grad: Tensor,
    A: Tensor,
    h: Tensor,
    initial: Tensor,
    tokens: Tensor,
    gA: Tensor,
    gb: Tensor,
    gi: Tensor,
) -> None:
    """Fill gA ["G V N N"], gb ["G V N"] and gi ["B N"], given the gradient of h ["B T N"]."""
    within(tokens, A.shape[1], "tokens")
    g, work = torch.empty_like(h), h.numel() * h.shape[-1]
    run(_backward, len(h), grad, A, tokens, g, gi, work=work)
    run(_add_up, A.shape[0] * A.shape[1], g, h, initial, *by_token(tokens, A), gA, gb, work=work)


def by_token(tokens: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """The steps of each token of G tables, as two tensors of whole numbers.

    Returns:
        steps: ["G K"], the number of every step in the K of those sequences that share a table,
            ordered by its token.
        first: ["G V+1"], where the steps of each token begin among them, and end.
    """
    G, V = table.shape[:2]
    known, steps = tokens.view(G, tokens.numel() // G).sort(dim=1, stable=True)
    return steps, torch.searchsorted(known, torch.arange(V + 1).repeat(G, 1))


@reduction
def _forward(first, last, A, b, initial, tokens, h):  # type: ignore[no-untyped-def]
    B, T, N = h.shape
    states = accumulators((2, N), h)
    for s in range(first, last):
        table, drives = A[s * A.shape[0] // B], b[s * A.shape[0] // B]
        states[1] = initial[s]
        for t in range(T):
            token = np.uint64(tokens[s, t])
            matrix, drive = table[token], drives[token]
            before, state, row = states[1 - t % 2], states[t % 2], h[s, t]
            for i in range(N):
                gain = matrix[i]
                x = before.dtype.type(0)
                for j in range(N):
                    x += gain[j] * before[j]
                x += drive[i]
                state[i] = x
                row[i] = x


@kernel
def _backward(first, last, grad, A, tokens, g, gi):  # type: ignore[no-untyped-def]
    """The gradient g of every state, summed over all later steps; that of b at that step."""
    B, T, N = g.shape
    carry, x = accumulators(N, g), accumulators(N, g)
    for s in range(first, last):
        table = A[s * A.shape[0] // B]
        carry[:] = 0
        for back in range(1, T + 1):
            t = T - back
            matrix, arriving, row = table[np.uint64(tokens[s, t])], grad[s, t], g[s, t]
            for i in range(N):
                x[i] = arriving[i] + carry[i]
                row[i] = x[i]
                carry[i] = 0
            send_back(matrix, x, carry)
        gi[s] = carry


@kernel
def _add_up(first, last, g, h, initial, steps, begin, gA, gb):  # type: ignore[no-untyped-def]
    """gA and gb of rows of the tables: sums over all steps at which their token comes."""
    B, T, N = h.shape
    G, V = gb.shape[:2]
    matrix, drive = accumulators((N, N), h), accumulators(N, h)
    for item in range(first, last):
        table, token = item // V, item % V
        matrix[:] = 0
        drive[:] = 0
        for k in range(begin[table, token], begin[table, token + 1]):
            s, t = B // G * table + steps[table, k] // T, steps[table, k] % T
            before = h[s, t - 1] if t > 0 else initial[s]
            row = g[s, t]
            for i in range(N):
                x, sums = row[i], matrix[i]
                drive[i] += x
                for j in range(N):
                    sums[j] += x * np.conj(before[j])
        gA[table, token] = matrix
        gb[table, token] = drive
