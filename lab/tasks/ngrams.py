"""Interpolated n-gram counts of bytes: what a model that sees the last few bytes can predict."""

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from lab.arguments import whole

BYTES = 256
LONGEST = 7  # bytes that a 64-bit key has room for, with one bit to spare for its end


class NGrams:
    """P_n(w | h) = (c(h w) + d(h) P_{n-1}(w | h')) / (c(h) + d(h)) with P_0 = 1/256.

    h are the last n - 1 bytes and h' the last n - 2; c counts occurrences in training, and d(h) is
    the number of different bytes that followed h. A context that training never had is passed
    over, so every byte has a probability above 0.

    It is also a model of sequences with a step form, whose logits are log-probabilities, so that
    whatever generates from a model generates from counts as well.

    Args:
        data: bytes to count.
        order: n, at least 1 and at most 7. A prediction sees the n - 1 bytes before.

    Raises:
        ValueError: the order is not such a number, or there are fewer bytes.

    Memory: 16 bytes for every different sequence of up to n bytes.
    Source: Witten & Bell 1991, The zero-frequency problem, method C; Chen & Goodman 1999, section
    2.6, for the interpolated form.
    """

    def __init__(self, data: bytes, *, order: int) -> None:
        whole("NGrams", "order", order, least=1)
        if not order <= min(LONGEST, len(data)):
            most = min(LONGEST, len(data))
            raise ValueError(f"NGrams: order is {order}; it must be at most {most}")
        self.order = order
        text = np.frombuffer(data, np.uint8)
        # For k = 1 to n the different sequences of k bytes, as ascending numbers, and their counts.
        self.grams, self.sums = [], []
        for k in range(1, order + 1):
            grams, counts = np.unique(gram_keys(text, k), return_counts=True)
            self.grams.append(grams)
            self.sums.append(np.concatenate([[0], np.cumsum(counts)]))

    def losses(self, data: bytes) -> Float64[Tensor, "T"]:
        """Bits for every byte given those before it in `data`, of which the first has none."""
        return self.losses_by_order(data)[-1]

    def losses_by_order(self, data: bytes) -> Float64[Tensor, "order T"]:
        """`losses` of every order from 1 to n, of which each is computed from the one below it."""
        text = np.frombuffer(data, np.uint8)
        p = np.full((self.order + 1, len(text)), 1 / BYTES)
        for k in range(1, self.order + 1):
            # Bytes with fewer than k - 1 bytes before them keep what shorter contexts say.
            p[k] = p[k - 1]
            if k <= len(text):
                p[k, k - 1 :] = self._interpolated(k, gram_keys(text, k), p[k - 1, k - 1 :])
        return torch.from_numpy(-np.log2(p[1:]))

    def bits_per_byte(self, data: bytes) -> float:
        """The mean of `losses`.

        Raises:
            ValueError: there is no byte.
        """
        if not data:
            raise ValueError("NGrams: bits per byte of no bytes; there must be one")
        return self.losses(data).mean().item()

    def probabilities(self, context: bytes) -> Float64[Tensor, "256"]:
        """Of every byte after a context, of which the last n - 1 bytes count."""
        p = np.full(BYTES, 1 / BYTES)
        for k in range(1, min(self.order, len(context) + 1) + 1):
            history = int.from_bytes(context[len(context) - k + 1 :], "big") if k > 1 else 0
            p = self._interpolated(k, history * BYTES + np.arange(BYTES), p)
        return torch.from_numpy(p)

    def step(
        self, tokens: Int64[Tensor, "B"], state: list[bytes] | None = None
    ) -> tuple[Float[Tensor, "B 256"], list[bytes]]:
        """Log-probabilities after one more byte in each row; the state are the last n - 1 bytes."""
        before = [b""] * len(tokens) if state is None else state
        rows = zip(before, tokens.tolist(), strict=True)
        kept = self.order - 1
        # A slice of the last 0 bytes, [-0:], would be all of them.
        seen = [(past + bytes([byte]))[-kept:] if kept else b"" for past, byte in rows]
        logits = [self.probabilities(context).log() for context in seen]
        return torch.stack(logits) if logits else torch.zeros(0, BYTES).double(), seen

    def _interpolated(
        self, k: int, keys: NDArray[np.int64], shorter: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """P_k of sequences of k bytes, given P_{k-1} of their last k - 1."""
        grams, sums = self.grams[k - 1], self.sums[k - 1]
        place = np.searchsorted(grams, keys)
        found = np.minimum(place, len(grams) - 1)
        count = np.where(grams[found] == keys, sums[found + 1] - sums[found], 0)
        # All sequences that begin with the context stand next to one another.
        context = keys // BYTES * BYTES
        first = np.searchsorted(grams, context)
        last = np.searchsorted(grams, context + BYTES)
        total, different = sums[last] - sums[first], last - first
        known = total > 0
        mixed = (count + different * shorter) / np.where(known, total + different, 1)
        return np.where(known, mixed, shorter)


def gram_keys(text: NDArray[np.uint8], k: int) -> NDArray[np.int64]:
    """Every k neighbouring bytes as one number, the first byte leading; k is at most `LONGEST`."""
    keys = np.zeros(len(text) - k + 1, np.int64)
    for i in range(k):
        keys = keys * BYTES + text[i : len(text) - k + 1 + i]
    return keys
