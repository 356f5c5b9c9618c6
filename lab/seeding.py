"""Separate random streams of one seed, so that no draw can disturb another."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """torch's global random numbers, as Dropout draws them, from a seed; then as they were before.

    What a model draws in training is then decided by the seed of the training, as all else is.
    """
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        drawn = stream(seed, "model")
        torch.set_rng_state(drawn.get_state())
        for each in cuda:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(drawn.initial_seed())
        yield


def global_states(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of torch's global generators, by kind of device."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_global_states(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Put back what `global_states` gave."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
