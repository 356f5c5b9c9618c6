"""The scan over any monoid."""

from collections.abc import Callable

import torch
from torch import Tensor

from lab.scan.arguments import are_tensors

Elements = tuple[Tensor, ...]


def associative_scan(
    combine: Callable[[Elements, Elements], Elements], elements: Elements
) -> Elements:
    """All prefixes e[0], e[0] • e[1], ..., e[0] • ... • e[T-1] of a monoid, in torch operations.

    Args:
        combine: (earlier, later) -> earlier • later, on tuples of tensors like `elements` with any
            number of steps at once. It must be associative and need not be commutative.
        elements: tensors ["B T ..."], one per part of an element, all with the same T > 0.

    Returns:
        tensors ["B T ..."], as `elements`; the same ones where T is 1.

    Raises:
        TypeError: `elements` is no tuple of tensors.
        ValueError: `elements` is empty, or its tensors have not all the same T > 0.

    Cost: combines fewer than 2 T pairs, in 2 log2(T) calls; memory for autograd likewise.
    Source: Blelloch 1990, Prefix sums and their applications, section 1.3 (a tree, up and down).
    """
    T = _length(elements)
    if T == 1:
        return elements

    def every_second(parts: Elements, start: int, stop: int | None = None) -> Elements:
        return tuple(part[:, start:stop:2] for part in parts)

    # Up the tree: the prefixes of neighbouring pairs are the odd prefixes of all.
    pairs = combine(every_second(elements, 0, T - T % 2), every_second(elements, 1))
    odd = associative_scan(combine, pairs)
    # Down again: an even prefix is the odd one before it and one more element.
    before = odd if T % 2 else tuple(part[:, :-1] for part in odd)
    even = combine(before, every_second(elements, 2)) if T > 2 else every_second(elements, 2)
    first = (part[:, :1] for part in elements)
    even = tuple(torch.cat(parts, dim=1) for parts in zip(first, even, strict=True))
    return tuple(_interleave(*parts) for parts in zip(even, odd, strict=True))


def associative_scan_sequential(
    combine: Callable[[Elements, Elements], Elements], elements: Elements
) -> Elements:
    """The definition of `associative_scan`, one element after another."""
    T = _length(elements)
    prefixes = [tuple(part[:, :1] for part in elements)]
    for t in range(1, T):
        prefixes.append(combine(prefixes[-1], tuple(part[:, t : t + 1] for part in elements)))
    return tuple(torch.cat(parts, dim=1) for parts in zip(*prefixes, strict=True))


def _length(elements: Elements) -> int:
    """The one T of all parts."""
    if not isinstance(elements, tuple | list):
        got = "None" if elements is None else f"a {type(elements).__name__}"
        raise TypeError(f"elements must be a tuple of tensors, got {got}")
    are_tensors(**{f"elements[{place}]": part for place, part in enumerate(elements)})
    # Not a set: torch.compile's symbols for lengths have no hash.
    lengths = [part.shape[1] if part.ndim > 1 else 0 for part in elements] or [0]
    if lengths[0] == 0 or any(length != lengths[0] for length in lengths):
        shapes = [tuple(part.shape) for part in elements]
        raise ValueError(f"elements {shapes} must be tensors (B, T, ...) with the same T > 0")
    return lengths[0]


def _interleave(even: Tensor, odd: Tensor) -> Tensor:
    """["B T ..."] with `even` at steps 0, 2, ... and `odd` at steps 1, 3, ...; T may be odd."""
    whole = torch.stack([even[:, : odd.shape[1]], odd], dim=2).flatten(1, 2)
    return torch.cat([whole, even[:, odd.shape[1] :]], dim=1)
