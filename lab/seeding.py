"""Independent random streams from one seed, one for each purpose."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lab.arguments import whole


def stream(seed: int, purpose: str) -> torch.Generator:
    """A generator for one purpose ("init", "data", "scoring", ...) of one seed.

    Equal arguments give the same stream on every machine. Streams for different purposes, or for
    neighbouring seeds, are unrelated.

    Raises:
        ValueError: the seed is not a whole number.
    """
    seed = whole("stream", "seed", seed)
    digest = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@contextmanager
def own_randomness(seed: int, device: torch.device, purpose: str = "model") -> Iterator[None]:
    """Seed torch's global generators inside this context, and restore them afterwards.

    The random numbers that a model draws in training, as Dropout does, then depend only on the seed
    of the training, and those that it draws while it is scored only on the seed of the score. What
    the process did before, and which process it is, do not matter.
    """
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        drawn = stream(seed, purpose)
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
    """Restore the states that `global_states` returned."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
