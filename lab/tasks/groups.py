"""Finite groups, as permutations with a Cayley table.

A permutation of d points is a tuple p of the numbers 0 to d - 1, which maps point i to p[i]. In a
product, the right factor is applied first, as in compositions of functions: (p q)[i] = p[q[i]].
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations, product

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lab.arguments import whole

Permutation = tuple[int, ...]
LARGEST = 5040  # the most elements, as in S7: the Cayley table has the square of this number


@dataclass(frozen=True)
class Group:
    """A finite group, whose elements are referred to by their numbers, 0 to n - 1.

    Args:
        name: name in tables and figures.
        elements: distinct permutations of the same points, closed under products; the first is the
            identity.

    Raises:
        ValueError: an element is not a permutation of the same points as the first, two elements
            are equal, or the first is not the identity. Missing products are detected by `table`.
    """

    name: str
    elements: tuple[Permutation, ...]

    def __post_init__(self) -> None:
        _check(self.elements)
        if self.elements[0] != tuple(range(self.points)):
            raise ValueError(f"element 0 must be the identity, not {self.elements[0]}")
        if len(set(self.elements)) != self.order:
            raise ValueError(f"{self.order} elements of {self.name} are not all different")

    @classmethod
    def generated(cls, name: str, generators: Iterable[Permutation]) -> "Group":
        """All products of the generators, in lexicographic order, which puts the identity first.

        Raises:
            ValueError: a generator is not a permutation of the same points as the first, or there
                are more than `LARGEST` products.
        """
        generators = [tuple(generator) for generator in generators]
        _check(generators)
        identity = tuple(range(len(generators[0])))
        found, frontier = {identity}, {identity}
        while frontier:
            frontier = {compose(g, x) for g in generators for x in frontier} - found
            found |= frontier
            if len(found) > LARGEST:
                raise ValueError(f"{name} has more than {LARGEST} elements")
        return cls(name, tuple(sorted(found)))

    @property
    def order(self) -> int:
        """n, the number of elements."""
        return len(self.elements)

    @property
    def points(self) -> int:
        """d, the number of points."""
        return len(self.elements[0])

    @property
    def table(self) -> Int64[Tensor, "n n"]:
        """Entry [i, j] is the product of i and j, in which j is applied first."""
        return _table(self)

    @property
    def inverse(self) -> Int64[Tensor, "n"]:
        """The inverse of each element."""
        return (self.table == 0).int().argmax(dim=1)

    @property
    def element_orders(self) -> Int64[Tensor, "n"]:
        """The order of each element, its least positive power that is the identity."""
        power = elements = torch.arange(self.order)
        orders = torch.ones_like(power)
        while power.any():
            orders += power != 0
            # Once a power is the identity it stays there, so that the first such power counts.
            power = torch.where(power == 0, 0, self.table[power, elements])
        return orders

    @property
    def is_abelian(self) -> bool:
        """Whether all elements commute."""
        return torch.equal(self.table, self.table.mT)

    @property
    def matrices(self) -> Float64[Tensor, "n d d"]:
        """Permutation matrices, which map e_i to e_p[i]; a group homomorphism."""
        rows = torch.tensor(self.elements)
        return torch.eye(self.points, dtype=torch.float64)[rows].mT.contiguous()

    def product(self, *elements: int) -> int:
        """The product of elements in the given order, in which the last is applied first."""
        result = 0
        for element in elements:
            result = int(self.table[result, element])
        return result

    def index(self, permutation: Sequence[int]) -> int:
        """The number of a permutation.

        Raises:
            ValueError: it is not in the group.
        """
        number = _numbers(self).get(tuple(permutation))
        if number is None:
            raise ValueError(f"{tuple(permutation)} is not in {self.name}")
        return number

    def indices(self, chosen: Iterable[Sequence[int]]) -> list[int]:
        """The numbers of several permutations."""
        return [self.index(permutation) for permutation in chosen]

    def cycles(self, element: int) -> str:
        """An element in cycle notation, "(0 1)(2 3)"; the identity is "()"."""
        return (
            "".join(f"({' '.join(map(str, c))})" for c in _cycles(self.elements[element])) or "()"
        )

    def subgroup(self, generators: Iterable[int]) -> Int64[Tensor, "m"]:
        """The subgroup generated by the given elements, in ascending order."""
        inside = torch.zeros(self.order, dtype=torch.bool)
        inside[[0, *generators]] = True
        while True:
            members = inside.nonzero()[:, 0]
            inside[self.table[members][:, members].flatten()] = True
            if inside.sum() == len(members):
                return members

    def cosets(self, subgroup: Int64[Tensor, "m"]) -> Int64[Tensor, "n"]:
        """For each element, the number of its left coset, element times subgroup.

        Cosets are numbered in the order of their least elements, so the subgroup itself is 0.
        """
        least = self.table[:, subgroup].amin(dim=1)
        return torch.unique(least, return_inverse=True)[1]

    @property
    def derived_subgroup(self) -> Int64[Tensor, "m"]:
        """The subgroup generated by all commutators i j i^-1 j^-1."""
        inverse_of_ji = self.inverse[self.table.mT]
        return self.subgroup(self.table[self.table, inverse_of_ji].unique().tolist())

    @property
    def abelian_image(self) -> Int64[Tensor, "n"]:
        """The coset of the derived subgroup to which each element belongs.

        A homomorphism into a commutative group can depend only on this coset.
        """
        return self.cosets(self.derived_subgroup)


# --- permutations --------------------------------------------------------------------------------


def compose(p: Permutation, q: Permutation) -> Permutation:
    """q, then p: point i is mapped to p[q[i]]."""
    return tuple(map(p.__getitem__, q))


def cycle(points: int, *moved: int) -> Permutation:
    """The cycle that maps each of `moved` to the next, and the last to the first."""
    image = dict(zip(moved, moved[1:] + moved[:1], strict=True))
    permutation = tuple(image.get(point, point) for point in range(points))
    if len(image) != len(moved) or not set(moved) <= set(range(points)):
        raise ValueError(f"{moved} must be different points, 0 to {points - 1}")
    return permutation


def transpositions(points: int) -> list[Permutation]:
    """All permutations that swap two points i < j, ordered by i, then j."""
    return [cycle(points, i, j) for i, j in combinations(range(points), 2)]


# --- families ------------------------------------------------------------------------------------


def symmetric(n: int) -> Group:
    """S_n: all n! permutations of n points, in lexicographic order."""
    _at_least(1, n, "S")
    if n > 7:
        raise ValueError(f"S{n} has more than {LARGEST} elements")
    return Group(f"S{n}", tuple(permutations(range(n))))


def alternating(n: int) -> Group:
    """A_n: the even permutations of n points, in lexicographic order."""
    even = (p for p in symmetric(n).elements if sum(len(c) - 1 for c in _cycles(p)) % 2 == 0)
    return Group(f"A{n}", tuple(even))


def cyclic(n: int) -> Group:
    """Z_n: element k adds k modulo n."""
    _at_least(1, n, "Z")
    return Group(f"Z{n}", tuple(_turn(n, k) for k in range(n)))


def dihedral(n: int) -> Group:
    """D_n, the 2n symmetries of a regular n-gon, n > 2: element a + n b is r^a s^b.

    r maps corner i to i + 1 and s maps it to -i, modulo n, so that s r s = r^-1.
    """
    _at_least(3, n, "D")
    flip = tuple(-i % n for i in range(n))
    turns = [_turn(n, a) for a in range(n)]
    return Group(f"D{n}", (*turns, *(compose(turn, flip) for turn in turns)))


def direct_product(first: Group, second: Group) -> Group:
    """Pairs, multiplied side by side: the pair (i, j) is element i * second.order + j.

    The points of the second group come after those of the first.
    """
    pairs = product(first.elements, second.elements)
    name = f"{first.name} x {second.name}"
    return Group(name, tuple(p + _shifted(q, first.points) for p, q in pairs))


def wreath_product(group: Group, n: int) -> Group:
    """The regular wreath product with Z_n: n copies of a group, and rotations that permute them.

    It acts on n blocks of points: first by one element per block, then by a cyclic shift of all
    blocks. It has order**n * n elements, in lexicographic order. Z2 wr Z2 is D4.

    Raises:
        ValueError: there are more than `LARGEST` elements.
    """
    _at_least(1, n, f"{group.name} wr Z")
    d = group.points
    rest = tuple(range(d, n * d))
    in_first_block = [element + rest for element in group.elements]
    move_on = tuple((i + d) % (n * d) for i in range(n * d))
    return Group.generated(f"{group.name} wr Z{n}", [*in_first_block, move_on])


# --- helpers -------------------------------------------------------------------------------------


def _check(chosen: Sequence[Permutation]) -> None:
    """Check that all are permutations of the same points as the first."""
    if not chosen:
        raise ValueError("a group needs at least one permutation, got none")
    points = len(chosen[0])
    for permutation in chosen:
        if sorted(permutation) != list(range(points)):
            raise ValueError(f"{permutation} is no permutation of the points 0 to {points - 1}")


def _at_least(least: int, n: int, family: str) -> None:
    if whole("lab.tasks.groups", "n", n) < least:
        raise ValueError(f"{family}_n needs n >= {least}, got {n}")


def _turn(n: int, k: int) -> Permutation:
    return tuple((i + k) % n for i in range(n))


def _shifted(permutation: Permutation, by: int) -> Permutation:
    return tuple(point + by for point in permutation)


def _cycles(permutation: Permutation) -> Iterator[list[int]]:
    """The cycles with more than one point, each starting at its least point."""
    left = set(range(len(permutation)))
    while left:
        point = min(left)
        found = []
        while point in left:
            left.remove(point)
            found.append(point)
            point = permutation[point]
        if len(found) > 1:
            yield found


# Stored outside the object, because checkpoints compare groups by their attributes.
@cache
def _numbers(group: Group) -> dict[Permutation, int]:
    return {permutation: number for number, permutation in enumerate(group.elements)}


@cache
def _table(group: Group) -> Tensor:
    """`Group.table`.

    Raises:
        ValueError: a product is not among the elements.
    """
    numbers = _numbers(group)
    try:
        rows = [[numbers[compose(p, q)] for q in group.elements] for p in group.elements]
    except KeyError as missing:
        raise ValueError(f"{group.name} is not closed under products: it lacks {missing}") from None
    return torch.tensor(rows)
