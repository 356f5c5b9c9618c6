"""Products of small matrices that lie in the cache; sums stay in registers.

All matrices lie in one flat scratch array, row after row, and are named by their first place in it.
Rows are filled up with zeros to a multiple of `WIDTH`, and their number is a multiple of `ROWS`.
"""

from lab.scan.cpu.threads import reduction
from lab.scan.cpu.vectors import WIDTH, load, more, once, spread, store, turn, zeros

ROWS = 4  # of a tile: with two vectors each, its sums fill half of sixteen registers


@reduction
def product(w, out, x, y, R, L, N):  # type: ignore[no-untyped-def]
    """out = x @ y for ["R N"], ["R L"] and ["L N"]."""
    once()
    clear(w, out, R * N)
    _add(w, out, x, L, 1, y, R, L, N)


@reduction
def add_product(w, out, x, y, R, L, N):  # type: ignore[no-untyped-def]
    """out += x @ y for ["R N"], ["R L"] and ["L N"]."""
    _add(w, out, x, L, 1, y, R, L, N)


@reduction
def add_transposed_product(w, out, x, y, R, L, N):  # type: ignore[no-untyped-def]
    """out += x^T @ y for ["R N"], ["L R"] and ["L N"]."""
    _add(w, out, x, 1, R, y, R, L, N)


@reduction
def clear(w, out, size):  # type: ignore[no-untyped-def]
    """So many zeros, a multiple of `WIDTH`."""
    nothing = zeros(w)
    for n in range(out, out + size, WIDTH):
        store(w, n, nothing)


@reduction
def transpose(w, out, x, R, N):  # type: ignore[no-untyped-def]
    """out = x^T for ["N R"] and ["R N"], both multiples of `WIDTH`."""
    once()
    for r in range(0, R, WIDTH):
        for n in range(0, N, WIDTH):
            turn(w, out + n * R + r, R, w, x + r * N + n, N)


@reduction
def _add(w, out, x, down, along, y, R, L, N):  # type: ignore[no-untyped-def]
    """`down` and `along` are the steps in memory from row to row of x, and from term to term."""
    once()
    for r in range(0, R, ROWS):
        for n in range(0, N - WIDTH, 2 * WIDTH):
            _wide(w, out + r * N + n, N, x + r * down, down, along, y + n, L)
        if N % (2 * WIDTH):
            n = N - WIDTH
            _narrow(w, out + r * N + n, N, x + r * down, down, along, y + n, L)


@reduction
def _wide(w, at, N, x, down, along, y, terms):  # type: ignore[no-untyped-def]
    """A tile of four rows and two vectors."""
    a0, b0 = load(w, at), load(w, at + WIDTH)
    a1, b1 = load(w, at + N), load(w, at + N + WIDTH)
    a2, b2 = load(w, at + 2 * N), load(w, at + 2 * N + WIDTH)
    a3, b3 = load(w, at + 3 * N), load(w, at + 3 * N + WIDTH)
    for _ in range(terms):
        a, b = load(w, y), load(w, y + WIDTH)
        x0, x1 = spread(w, x), spread(w, x + down)
        x2, x3 = spread(w, x + 2 * down), spread(w, x + 3 * down)
        a0, b0, a1, b1 = more(a0, x0, a), more(b0, x0, b), more(a1, x1, a), more(b1, x1, b)
        a2, b2, a3, b3 = more(a2, x2, a), more(b2, x2, b), more(a3, x3, a), more(b3, x3, b)
        x += along
        y += N
    store(w, at, a0)
    store(w, at + WIDTH, b0)
    store(w, at + N, a1)
    store(w, at + N + WIDTH, b1)
    store(w, at + 2 * N, a2)
    store(w, at + 2 * N + WIDTH, b2)
    store(w, at + 3 * N, a3)
    store(w, at + 3 * N + WIDTH, b3)


@reduction
def _narrow(w, at, N, x, down, along, y, terms):  # type: ignore[no-untyped-def]
    """A tile of four rows and one vector."""
    a0, a1, a2, a3 = load(w, at), load(w, at + N), load(w, at + 2 * N), load(w, at + 3 * N)
    for _ in range(terms):
        a = load(w, y)
        a0 = more(a0, spread(w, x), a)
        a1 = more(a1, spread(w, x + down), a)
        a2 = more(a2, spread(w, x + 2 * down), a)
        a3 = more(a3, spread(w, x + 3 * down), a)
        x += along
        y += N
    store(w, at, a0)
    store(w, at + N, a1)
    store(w, at + 2 * N, a2)
    store(w, at + 3 * N, a3)
