"""The seeds of one arm, divided among processes."""

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def divided(seeds: Sequence[int], split: int) -> list[list[int]]:
    """As many parts of the seeds, of sizes that differ by one at most.

    Raises:
        ValueError: there are more parts than seeds.
    """
    if not 1 <= split <= max(len(seeds), 1):
        raise ValueError(f"split is {split}, of {len(seeds)} seeds: 1 to as many parts")
    return [list(seeds[i::split]) for i in range(split)]


def named(name: str, i: int, split: int) -> str:
    """The name of a part of an arm in messages."""
    return name if split == 1 else f"{name}, part {i + 1} of {split}"


def share(items: Sequence[Item], seeds: Sequence[int], part: Sequence[int]) -> list[Item]:
    """The items of one part, of items of all seeds."""
    of_seed = dict(zip(seeds, items, strict=True))
    return [of_seed[seed] for seed in part]


def in_order(
    found: Sequence[Sequence[Item]], parts: Sequence[Sequence[int]], seeds: Sequence[int]
) -> list[Item]:
    """What was found for each seed of each part, in the order of the seeds."""
    of_seed = {
        seed: item
        for part, items in zip(parts, found, strict=True)
        for seed, item in zip(part, items, strict=True)
    }
    return [of_seed[seed] for seed in seeds]
