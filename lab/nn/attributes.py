"""Attributes of layers that have another value for a while."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(layers: Sequence[Any], name: str, value: Any) -> Iterator[None]:
    """Inside this context, an attribute of all layers has this value; then each has its own again.

    Args:
        layers: which have the attribute.
        name: of the attribute.
        value: for all of them.

    Raises:
        AttributeError: a layer has no such attribute.
    """
    earlier = [getattr(layer, name) for layer in layers]
    try:
        for layer in layers:
            setattr(layer, name, value)
        yield
    finally:
        for layer, was in zip(layers, earlier, strict=True):
            setattr(layer, name, was)
