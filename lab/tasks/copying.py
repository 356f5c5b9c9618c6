"""Copying: of content at fixed places, which is queried by index, or at random places."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lab.tasks.base import Batch
from lab.tasks.retrieval import (
    Retrieval,
    as_float,
    at_least,
    at_most,
    distinct,
    places,
    unasked_value,
)

PAD, BETWEEN, FIRST_INDEX = 0, 1, 2
COPY = 0

Layout = Literal["spaced", "packed"]
Filler = Literal["end", "between"]


@dataclass(frozen=True)
class IndexedCopying(Retrieval):
    """Copying of content at fixed places: queries are the indices of what must be copied.

        "spaced"  input    c0  BLK c1  BLK c2  BLK Q1
                  target   .   .   .   .   .   .   c1
        "packed"  input    c0  c1  c2  SEP Q2  Q0
                  target   .   .   .   .   c2  c0          with 2 queries

    Content is drawn uniformly, with replacement; the queries are distinct indices, in random order.
    If an example is longer than `length`, BLANK ("spaced") or PAD ("packed") fills the "end", or
    the gap "between" content and queries. Unscored targets (.) are 0.

    This task needs no selection: a delay line that reaches back to the first step holds all content
    at known places when the query arrives. See `SelectiveCopying`.

    Tokens: PAD is 0, BLANK or SEP is 1, index j is 2 + j, followed by the symbols. Every token is a
    class.

    Args:
        content: M, number of content tokens and of index tokens.
        symbols: V, number of symbols from which content is drawn.
        queries: number of queried indices.
        layout: "spaced" or "packed".
        filler: place of the steps beyond `length`, "end" or "between".

    Raises:
        ValueError: content, symbols or queries is below 1, queries is above content, or the layout
            or the filler is unknown.

    Source: the proposals of experiment 014 ("spaced", one query, 32 steps) and of experiment 007
    ("packed"; one query and 32 steps with filler "between", which leaves a gap of 22, and 8 queries
    without filler).
    """

    content: int = 8
    symbols: int = 16
    queries: int = 1
    layout: Layout = "spaced"
    filler: Filler = "end"

    def __post_init__(self) -> None:
        at_least(1, content=self.content, symbols=self.symbols, queries=self.queries)
        at_most(self.content, "content tokens", queries=self.queries)
        if self.layout not in get_args(Layout):
            raise ValueError(f"layout is {self.layout!r}; it must be one of {get_args(Layout)}")
        if self.filler not in get_args(Filler):
            raise ValueError(f"filler is {self.filler!r}; it must be one of {get_args(Filler)}")

    @property
    def first_symbol(self) -> int:
        """The number of the first symbol."""
        return FIRST_INDEX + self.content

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return self.first_symbol + self.symbols

    @property
    def classes(self) -> int:
        """Number of classes; every token is a class."""
        return self.vocabulary

    @property
    def held(self) -> int:
        """M."""
        return self.content

    @property
    def answers(self) -> int:
        """V."""
        return self.symbols

    @property
    def length(self) -> int:
        """Number of steps without filler: content, separators and queries."""
        return self._shown + self.queries

    @property
    def _shown(self) -> int:
        """Number of steps before the first query, if there is no filler between."""
        return 2 * self.content if self.layout == "spaced" else self.content + 1

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Inputs Int64["B T"], targets Int64["B T"], mask Bool["B T"], with T = length.

        Raises:
            ValueError: the layout takes more steps than `length`.
        """
        self._check_request(batch, length, generator)
        content = torch.randint(self.symbols, (batch, self.content), generator=generator)
        content += self.first_symbol
        asked = distinct(batch, self.content, self.queries, generator)
        inputs = self._shown_content(content, length)
        end = length if self.filler == "between" else self.length
        steps = slice(end - self.queries, end)
        inputs[:, steps] = FIRST_INDEX + asked
        targets, mask = torch.zeros_like(inputs), torch.zeros_like(inputs, dtype=torch.bool)
        targets[:, steps] = content.gather(1, asked)
        mask[:, steps] = True
        return Batch(inputs, targets, mask)

    def _shown_content(self, content: Tensor, length: int) -> Tensor:
        """Int64["B T"]: the content at its places, and filler at those of the queries."""
        spaced = self.layout == "spaced"
        inputs = torch.full((len(content), length), BETWEEN if spaced else PAD)
        inputs[:, : self._shown : 2 if spaced else 1][:, : self.content] = content
        inputs[:, self._shown - 1] = BETWEEN
        return inputs

    @property
    def ceilings(self) -> dict[str, float]:
        """Best accuracy of a model that knows the content but ignores all or current queries."""
        return super().ceilings | unasked_value(self.content, self.symbols, self.queries)

    def distinct_inputs(self, length: int) -> float:
        """V^M times the number of orders of queries; inf beyond the range of a float."""
        self._check_length(length)
        return as_float(self.symbols**self.content * math.perm(self.content, self.queries))


@dataclass(frozen=True)
class SelectiveCopying(Retrieval):
    """Copying of content at random places among noise: it must be repeated in order.

        input     n   c1  n   n   c2  n   c3  CPY CPY CPY
        target    .   .   .   .   .   .   .   c1  c2  c3      3 content tokens, 10 steps

    Content and noise are drawn uniformly with replacement, from separate sets of tokens; all places
    are equally likely. Unscored targets (.) are 0. Longer examples contain more noise; an example
    of `length` steps contains none.

    A delay line cannot solve this task, because it does not know where the content was: a model
    must decide by the token what to keep. It does not have to remember the places.

    Tokens: COPY is 0, symbol s is 1 + s, followed by the noise tokens. Every token is a class.

    Args:
        content: M, number of content tokens and of steps to repeat them.
        symbols: V, number of symbols from which content is drawn.
        noise: number of tokens from which noise is drawn.

    Raises:
        ValueError: one of them is below 1. `sample` raises it for a length below 2 M.

    Source: Gu & Dao 2023, Mamba, section 4.1.1 (16 content tokens, one noise token).
    """

    content: int = 16
    symbols: int = 16
    noise: int = 1

    def __post_init__(self) -> None:
        at_least(1, content=self.content, symbols=self.symbols, noise=self.noise)

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return 1 + self.symbols + self.noise

    @property
    def classes(self) -> int:
        """Number of classes; every token is a class."""
        return self.vocabulary

    @property
    def held(self) -> int:
        """M."""
        return self.content

    @property
    def answers(self) -> int:
        """V."""
        return self.symbols

    @property
    def length(self) -> int:
        """2 M: the content without noise, and as many steps to repeat it."""
        return 2 * self.content

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Inputs Int64["B T"], targets Int64["B T"], mask Bool["B T"], with T = length.

        Raises:
            ValueError: `length` is too small.
        """
        self._check_request(batch, length, generator)
        content = 1 + torch.randint(self.symbols, (batch, self.content), generator=generator)
        noisy = length - self.content
        inputs = torch.randint(self.noise, (batch, length), generator=generator)
        inputs += 1 + self.symbols
        inputs.scatter_(1, places(batch, noisy, self.content, generator), content)
        inputs[:, noisy:] = COPY
        targets, mask = torch.zeros_like(inputs), torch.zeros_like(inputs, dtype=torch.bool)
        targets[:, noisy:], mask[:, noisy:] = content, True
        return Batch(inputs, targets, mask)

    def fixed_place_ceiling(self, length: int) -> float:
        """Best accuracy of a readout that looks at one fixed step for each answer.

        The j-th content token is at step t of n with probability C(t, j) C(n-1-t, M-1-j) / C(n, M).
        The readout looks at the likeliest step. If the token is not there, the answer is right by
        coincidence with probability 1/V.
        """
        self._check_length(length)
        M, n = self.content, length - self.content
        ways = (
            [math.comb(t, j) * math.comb(n - 1 - t, M - 1 - j) for t in range(n)] for j in range(M)
        )
        there = sum(max(each) for each in ways) / math.comb(n, M) / M
        return there + (1 - there) / self.symbols

    def distinct_inputs(self, length: int) -> float:
        """Number of choices of places, content and noise; inf beyond the range of a float."""
        self._check_length(length)
        noisy = length - self.content
        noise = self.noise ** (noisy - self.content)
        return as_float(math.comb(noisy, self.content) * self.symbols**self.content * noise)
