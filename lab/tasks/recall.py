"""Multi-query associative recall: pairs of key and value, then keys whose values are queried."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from lab.tasks.base import Batch
from lab.tasks.retrieval import (
    COMMONEST,
    RANDOM,
    UNASKED,
    Retrieval,
    as_float,
    at_least,
    at_most,
    distinct,
    interleave,
    places,
    unasked_value,
)

PAD, SEP, FIRST_SYMBOL = 0, 1, 2
OLD_OR_NEW = "the right key, its old or new value at random"

Filler = Literal["end", "between", "anywhere"]


@dataclass(frozen=True)
class Recall(Retrieval):
    """Distinct keys, each with a value, then some of the keys again, as queries for their values.

        input     k1  v1  k2  v2  k3  v3  SEP k3  k1
        target    .   .   .   .   .   .   .   v3  v1      3 pairs, 2 queries

    Keys and values are symbols of the same alphabet, and values are drawn with replacement. The
    queries are distinct keys in random order. Unscored targets (.) are 0. With `blank`, queries are
    answered one step later:

        input     k1  v1  k2  v2  SEP k2  BLK k1  BLK
        target    .   .   .   .   .   .   v2  .   v1

    With `rewritten`, random keys are repeated, in random order, with new values. Queries then ask
    for the new value, which may happen to equal the old one:

        input     k1  v1  k2  v2  k2  w2  SEP k1  k2
        target    .   .   .   .   .   .   .   v1  w2      1 rewritten

    `length` is the number of steps of this layout. Longer examples contain filler, which is placed

        "end"       k1  v1  k2  v2  SEP k2  k1  PAD PAD PAD     after everything
        "between"   k1  v1  k2  v2  SEP FIL FIL k2  FIL k1      at random places after SEP; a query
                                                                and its blank stay together
        "anywhere"  n3  k1  v1  n7  k2  v2  SEP n1  k2  k1      at random places, all equally
                                                                likely; a blank may come apart
                                                                from its query, a value from its key

    Tokens: PAD is 0, SEP is 1, symbol s is 2 + s, followed by BLANK, FILL and the noise tokens, if
    the options need them. Every token is a class, and the target is the value's token.

    Args:
        pairs: P, number of pairs.
        queries: number of queried keys.
        symbols: V, size of the alphabet.
        blank: whether every query is followed by a BLANK, where it is answered.
        rewritten: number of keys that get a new value.
        filler: place of the steps beyond `length`.
        noise: number of tokens from which the filler "anywhere" is drawn; 0 for other fillers.

    Raises:
        ValueError: a number is too small (pairs, queries and symbols must be at least 1, rewritten
            at least 0); pairs is above symbols, or queries or rewritten is above pairs; the filler
            is unknown; or noise does not match the filler.

    Source: Arora et al. 2023, Zoology, for the task; layouts and vocabularies are those of the
    proposals of experiments 008, 009 and 015.
    """

    pairs: int
    queries: int
    symbols: int
    blank: bool = False
    rewritten: int = 0
    filler: Filler = "end"
    noise: int = 0

    def __post_init__(self) -> None:
        at_least(1, pairs=self.pairs, queries=self.queries, symbols=self.symbols)
        at_least(0, rewritten=self.rewritten)
        at_most(self.symbols, "symbols to make different keys of", pairs=self.pairs)
        at_most(self.pairs, "pairs", queries=self.queries, rewritten=self.rewritten)
        if self.filler not in get_args(Filler):
            raise ValueError(f"filler is {self.filler!r}; it must be one of {get_args(Filler)}")
        if (self.noise > 0) != (self.filler == "anywhere") or self.noise < 0:
            wanted = "at least 1" if self.filler == "anywhere" else "0"
            raise ValueError(f"noise is {self.noise}; with filler {self.filler!r} it is {wanted}")

    @property
    def blank_token(self) -> int:
        """The number of the token BLANK, if there is one."""
        return FIRST_SYMBOL + self.symbols

    @property
    def fill_token(self) -> int:
        """The number of the token FILL, if there is one."""
        return self.blank_token + self.blank

    @property
    def first_noise(self) -> int:
        """The number of the first noise token, if there is one; the others follow."""
        return self.fill_token + (self.filler == "between")

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return self.first_noise + self.noise

    @property
    def classes(self) -> int:
        """Number of classes; every token is a class."""
        return self.vocabulary

    @property
    def held(self) -> int:
        """P."""
        return self.pairs

    @property
    def answers(self) -> int:
        """V."""
        return self.symbols

    @property
    def length(self) -> int:
        """Number of steps without filler: pairs, rewritten pairs, SEP, and queries with blanks."""
        return self._separator + 1 + self._width * self.queries

    @property
    def _separator(self) -> int:
        """The step of SEP, if there is no filler before it."""
        return 2 * (self.pairs + self.rewritten)

    @property
    def _width(self) -> int:
        """Number of steps of a query, with its blank."""
        return 1 + self.blank

    # --- examples --------------------------------------------------------------------------------

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Inputs Int64["B T"], targets Int64["B T"], mask Bool["B T"], with T = length.

        Raises:
            ValueError: the layout takes more steps than `length`.
        """
        self._check_request(batch, length, generator)
        bare = self._bare(batch, generator)
        if length == self.length:
            return bare
        steps = self._steps(batch, length, generator)
        background = (self._background(batch, length, generator), *self._unscored(batch, length))
        return Batch(*(b.scatter(1, steps, part) for b, part in zip(background, bare, strict=True)))

    def _bare(self, batch: int, generator: torch.Generator) -> Batch:
        """Examples without filler."""
        keys = distinct(batch, self.symbols, self.pairs, generator)
        values = torch.randint(self.symbols, keys.shape, generator=generator)
        again = distinct(batch, self.pairs, self.rewritten, generator)
        new = torch.randint(self.symbols, again.shape, generator=generator)
        asked = distinct(batch, self.pairs, self.queries, generator)
        written = [interleave(keys, values), interleave(keys.gather(1, again), new)]
        latest = values.scatter(1, again, new)
        inputs = torch.full((batch, self.length), SEP)
        inputs[:, : self._separator] = FIRST_SYMBOL + torch.cat(written, dim=1)
        tail = inputs[:, self._separator + 1 :]
        tail[:] = self.blank_token
        tail[:, :: self._width] = FIRST_SYMBOL + keys.gather(1, asked)
        targets, mask = self._unscored(batch, self.length)
        targets[:, self._answered] = FIRST_SYMBOL + latest.gather(1, asked)
        mask[:, self._answered] = True
        return Batch(inputs, targets, mask)

    @property
    def _answered(self) -> slice:
        """The scored steps of examples without filler."""
        return slice(self._separator + self._width, None, self._width)

    def _unscored(self, batch: int, length: int) -> tuple[Tensor, Tensor]:
        """Targets and mask for steps that are not scored."""
        shape = (batch, length)
        return torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.bool)

    def _background(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        """Int64["B T"]: only filler."""
        if self.filler == "anywhere":
            chosen = torch.randint(self.noise, (batch, length), generator=generator)
            return self.first_noise + chosen
        token = PAD if self.filler == "end" else self.fill_token
        return torch.full((batch, length), token)

    def _steps(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        """Int64["B length_without_filler"]: places of the steps without filler, ascending."""
        if self.filler == "anywhere":
            return places(batch, length, self.length, generator)
        steps = torch.arange(self.length).expand(batch, -1)
        if self.filler == "end":
            return steps
        # Draw a place for each query as if it had no blank, then shift to make room for the blanks.
        filler, before = length - self.length, self._separator + 1
        starts = places(batch, filler + self.queries, self.queries, generator)
        moved = (starts - torch.arange(self.queries)).repeat_interleave(self._width, dim=1)
        return torch.cat([steps[:, :before], steps[:, before:] + moved], dim=1)

    def rewritten_steps(self, batch: Batch) -> Bool[Tensor, "B T"]:
        """The scored steps that query a rewritten key, determined from the inputs.

        The other scored steps query keys that were not rewritten.
        """
        inputs = batch.inputs
        # Filler is moved to the end and the rest keeps its order; PAD is at the end already.
        is_filler = (inputs >= self.fill_token).int()
        steps = is_filler.argsort(dim=1, stable=True)[:, : self.length]
        bare = inputs.gather(1, steps)
        again = bare[:, 2 * self.pairs : self._separator : 2]
        queries = bare[:, self._separator + 1 :: self._width]
        found = torch.zeros_like(bare, dtype=torch.bool)
        found[:, self._answered] = (queries[:, :, None] == again[:, None]).any(-1)
        return torch.zeros_like(batch.mask).scatter(1, steps, found)

    # --- what can be scored ----------------------------------------------------------------------

    @property
    def ceilings(self) -> dict[str, float]:
        """Best accuracy of a model that knows the latest values but ignores queries.

        It ignores all queries, or only the current one. With rewritten keys, also the accuracy of
        a model that knows the query and both values, but not which value came last.
        """
        known = super().ceilings | unasked_value(self.pairs, self.symbols, self.queries)
        if self.rewritten:
            wrong = (1 - 1 / self.symbols) / 2
            known[OLD_OR_NEW] = 1 - wrong * self.rewritten / self.pairs
        return known

    def distinct_inputs(self, length: int) -> float:
        """Number of choices of keys, values, query orders and filler places; inf if too large."""
        self._check_length(length)
        P, V, filler = self.pairs, self.symbols, length - self.length
        written = math.perm(V, P) * math.perm(P, self.rewritten) * V ** (P + self.rewritten)
        spread = {
            "end": 1,
            "between": math.comb(filler + self.queries, self.queries),
            "anywhere": math.comb(length, filler) * self.noise**filler,
        }
        return as_float(written * math.perm(P, self.queries) * spread[self.filler])


@dataclass(frozen=True)
class ZoologyRecall(Retrieval):
    """Multi-query associative recall as the Zoology papers sample it.

        input     k1  v1  k2  v2  x   x   k2  x   x   x   k1  x
        target    .   .   .   .   .   .   v2  .   .   .   v1  .      2 pairs, 12 steps

    All keys are queried, each at an even number 2 g of steps after the pairs. The gaps g, in units
    of two steps, are drawn for one key after another without replacement, with probabilities
    proportional to power (g + 1)^(power - 1), so most queries come soon. Keys are drawn from the
    tokens 1 to V/2 - 1 and values from V/2 to V - 1, both without replacement. Every other step (x)
    is 0, or uniform among all V tokens.

    Args:
        vocabulary: V, number of tokens.
        pairs: P, number of pairs.
        power: exponent of the distribution of the gaps; 1 is uniform.
        random_filler: whether the filler consists of random tokens instead of 0.

    Raises:
        ValueError: pairs is below 1 or above the number of keys, V/2 - 1; or power is not above
            zero.

    Source: Arora et al. 2023, Zoology, and Arora et al. 2024, Based; HazyResearch/zoology,
    zoology/data/multiquery_ar.py.
    """

    vocabulary: int
    pairs: int
    power: float = 0.01
    random_filler: bool = True

    def __post_init__(self) -> None:
        at_least(1, vocabulary=self.vocabulary, pairs=self.pairs)
        keys = max(0, self.first_value - 1)
        at_most(keys, f"keys in a vocabulary of {self.vocabulary}", pairs=self.pairs)
        if not self.power > 0:
            raise ValueError(f"power is {self.power}; it must be above 0 (1: uniform gaps)")

    @property
    def classes(self) -> int:
        """Number of classes; every token is a class."""
        return self.vocabulary

    @property
    def first_value(self) -> int:
        """The number of the first value token; keys have smaller ones."""
        return self.vocabulary // 2

    @property
    def held(self) -> int:
        """P."""
        return self.pairs

    @property
    def answers(self) -> int:
        """Number of value tokens; the values in a sequence are distinct."""
        return self.vocabulary - self.first_value

    @property
    def length(self) -> int:
        """4 P: the steps of the pairs, and as many for the queries."""
        return 4 * self.pairs

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Inputs Int64["B T"], targets Int64["B T"], mask Bool["B T"], with T = length.

        Raises:
            ValueError: `length` is odd, or too small for the queries.
        """
        self._check_request(batch, length, generator)
        keys = 1 + distinct(batch, self.first_value - 1, self.pairs, generator)
        values = self.first_value + distinct(batch, self.answers, self.pairs, generator)
        asked = 2 * (self.pairs + self._gaps(batch, length, generator))
        inputs = torch.zeros(batch, length, dtype=torch.int64)
        if self.random_filler:
            inputs.random_(self.vocabulary, generator=generator)
        inputs[:, : 2 * self.pairs] = interleave(keys, values)
        inputs.scatter_(1, asked, keys)
        targets = torch.zeros_like(inputs).scatter_(1, asked, values)
        mask = torch.zeros_like(inputs, dtype=torch.bool).scatter_(1, asked, True)
        return Batch(inputs, targets, mask)

    def gap_weights(self, length: int) -> Float64[Tensor, "S"]:
        """Probabilities of the gaps 0 to S - 1, for the key that is drawn first."""
        self._check_length(length)
        spaces = length // 2 - self.pairs
        weights = torch.arange(1, spaces + 1, dtype=torch.float64) ** (self.power - 1)
        return weights / weights.sum()

    def _gaps(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        """Int64["B P"]: distinct gaps, one for each key, in the order in which they are drawn.

        Drawing without replacement with probabilities proportional to w is equivalent to sorting
        independent exponential times with rates w. The first is i with probability w_i / sum(w),
        and the other times have no memory.
        """
        rates = self.gap_weights(length)
        clocks = torch.empty(batch, len(rates), dtype=torch.float64)
        rings = clocks.exponential_(generator=generator) / rates
        return rings.topk(self.pairs, largest=False).indices

    def _check_length(self, length: int) -> None:
        super()._check_length(length)
        if length % 2:
            raise ValueError(f"the length is {length}; it must be even, as {length + 1} is")

    @property
    def ceilings(self) -> dict[str, float]:
        """1/P without the queries, and the mean of 1/P, 1/(P - 1), ..., 1 with the earlier ones."""
        left = [1 / values for values in range(1, self.pairs + 1)]
        return {RANDOM: left[-1], COMMONEST: left[-1], UNASKED: sum(left) / self.pairs}

    def bits(self, length: int) -> float:
        """log2 of the number of sequences of P distinct values, which a state must distinguish."""
        return math.log2(math.perm(self.answers, self.pairs))

    def distinct_inputs(self, length: int) -> float:
        """Number of choices of pairs and of what follows; inf beyond the range of a float.

        Random filler may repeat keys, so the tokens do not reveal the places of the queries.
        Therefore every sequence counts in which all keys occur at even steps after the pairs.
        """
        self._check_length(length)
        P, V, spaces = self.pairs, self.vocabulary, length // 2 - self.pairs
        pairs = math.perm(self.first_value - 1, P) * math.perm(self.answers, P)
        if not self.random_filler:
            return as_float(pairs * math.perm(spaces, P))
        without = ((-1) ** j * math.comb(P, j) * (V - j) ** spaces for j in range(P + 1))
        return as_float(pairs * sum(without) * V**spaces)
