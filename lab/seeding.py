"""Separate random streams of one seed, so that no draw can disturb another."""

import hashlib

import torch

from lab.arguments import whole


def stream(seed: int, purpose: str) -> torch.Generator:
    """A generator for one purpose ("init", "data", "scoring", ...) of one seed.

    The same two arguments give the same stream on every machine; streams of different purposes, or
    of neighbouring seeds, have nothing in common.

    Raises:
        ValueError: the seed is no whole number.
    """
    seed = whole("stream", "seed", seed)
    digest = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
