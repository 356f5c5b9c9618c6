"""Recall of pairs that are one token each: what counts is only how much a state can hold."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from lab.tasks.base import Batch
from lab.tasks.retrieval import Retrieval, as_float, at_least, at_most, distinct


@dataclass(frozen=True)
class JointRecall(Retrieval):
    """Distinct keys, each with its value in one token, then keys alone, as queries for the values.

        input     k1:v1  k2:v2  k3:v3  k2:   k2:   k3:
        target    .      .      .      v2    v2    v3        3 pairs, 3 queries

    Nothing depends on order or position, and no value has to be bound to a key that came before
    it. Values are drawn with replacement, and so are queries. Unscored targets (.) are 0.

    Token key (V + 1) + value is a pair, and value V stands for none. A target is the number of a
    value. Embeddings of key and value may add up, which takes K + V + 1 rows: see `parts`.

    Args:
        pairs: P.
        queries: number of queries.
        keys: K, number of keys.
        symbols: V, number of values.

    Raises:
        ValueError: a number is below 1, or there are more pairs than keys.

    Source: the plan of experiment 005; Arora et al. 2023, Zoology, for recall in general.
    """

    pairs: int
    queries: int = 8
    keys: int = 64
    symbols: int = 64

    def __post_init__(self) -> None:
        at_least(1, pairs=self.pairs, queries=self.queries, keys=self.keys, symbols=self.symbols)
        at_most(self.keys, "keys", pairs=self.pairs)

    @property
    def vocabulary(self) -> int:
        """K (V + 1): every pair, and every key alone."""
        return self.keys * (self.symbols + 1)

    @property
    def classes(self) -> int:
        """V."""
        return self.symbols

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
        """P and the queries."""
        return self.pairs + self.queries

    def parts(self, tokens: Int64[Tensor, "..."]) -> tuple[Int64[Tensor, "..."], ...]:
        """Key and value of every token; the value is V where there is none."""
        return tokens // (self.symbols + 1), tokens % (self.symbols + 1)

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Inputs Int64["B T"], targets Int64["B T"], mask Bool["B T"].

        Raises:
            ValueError: the length is not that of pairs and queries; there is no filler.
        """
        self._check_request(batch, length, generator)
        if length != self.length:
            raise ValueError(
                f"{self.pairs} pairs and {self.queries} queries are not {length} steps"
            )
        keys = distinct(batch, self.keys, self.pairs, generator)
        values = torch.randint(self.symbols, keys.shape, generator=generator)
        asked = torch.randint(self.pairs, (batch, self.queries), generator=generator)
        each = self.symbols + 1
        queries = each * keys.gather(1, asked) + self.symbols
        inputs = torch.cat([each * keys + values, queries], dim=1)
        targets, mask = torch.zeros_like(inputs), torch.zeros_like(inputs, dtype=torch.bool)
        targets[:, self.pairs :] = values.gather(1, asked)
        mask[:, self.pairs :] = True
        return Batch(inputs, targets, mask)

    def distinct_inputs(self, length: int) -> float:
        """Number of choices of keys, values and queries; inf beyond the range of a float."""
        self._check_length(length)
        shown = math.perm(self.keys, self.pairs) * self.symbols**self.pairs
        return as_float(shown * self.pairs**self.queries)
