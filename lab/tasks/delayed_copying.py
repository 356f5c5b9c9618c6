"""Copying with a delay of its own for every place: recall by position, in another order."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lab.tasks.base import Batch
from lab.tasks.retrieval import Retrieval, as_float, at_least


@dataclass(frozen=True)
class DelayedCopying(Retrieval):
    """Content, then blanks; token i of the content is due delay[i] steps after its own place.

        input     BOS c0  c1  c2  SEP BLK BLK BLK BLK BLK
        target    .   .   .   .   .   c0  .   c2  .   c1        delays 0, 3, 0

    Blank number i + delay[i], counted from 0, is where token i is due. Content is drawn uniformly,
    with replacement. The delays are the same in every example, so that only the position says what
    is due. A longer example ends in PAD. Unscored targets (.) are 0.

    Tokens: symbol s is s, followed by BOS, SEP, BLANK and PAD. Every token is a class.

    Args:
        delays: one for each token of the content, in steps; no two tokens are due at once.
        symbols: V, number of symbols.
        blanks: number of steps after SEP.

    Raises:
        ValueError: there is no content, a number is too small, or two tokens are due at one step
            or one after the last blank.

    Source: the earlier run of experiment 005, where it is called hierarchical copying.
    """

    delays: Sequence[int] = (0, 4, 4, 0, 4, 8, 8, 4)
    symbols: int = 16
    blanks: int = 16

    def __post_init__(self) -> None:
        at_least(1, content=len(self.delays), symbols=self.symbols, blanks=self.blanks)
        at_least(0, **{f"delays[{i}]": delay for i, delay in enumerate(self.delays)})
        places = [i + delay for i, delay in enumerate(self.delays)]
        if len(set(places)) < len(places) or max(places) >= self.blanks:
            raise ValueError(f"tokens are due at blanks {places}, of {self.blanks}, one at a time")

    @property
    def due(self) -> list[int]:
        """The step at which each token of the content is due."""
        return [len(self.delays) + 2 + i + delay for i, delay in enumerate(self.delays)]

    @property
    def vocabulary(self) -> int:
        """V + 4."""
        return self.symbols + 4

    @property
    def classes(self) -> int:
        """V + 4: every token is a class."""
        return self.vocabulary

    @property
    def held(self) -> int:
        """Number of content tokens."""
        return len(self.delays)

    @property
    def answers(self) -> int:
        """V."""
        return self.symbols

    @property
    def length(self) -> int:
        """BOS, content, SEP and blanks."""
        return self.held + 2 + self.blanks

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Inputs Int64["B T"], targets Int64["B T"], mask Bool["B T"], with T = length.

        Raises:
            ValueError: the layout takes more steps than `length`.
        """
        self._check_request(batch, length, generator)
        begin, separator, blank, pad = range(self.symbols, self.vocabulary)
        content = torch.randint(self.symbols, (batch, self.held), generator=generator)
        inputs: Tensor = torch.full((batch, length), pad)
        inputs[:, 0] = begin
        inputs[:, 1 : self.held + 1] = content
        inputs[:, self.held + 1] = separator
        inputs[:, self.held + 2 : self.length] = blank
        targets, mask = torch.zeros_like(inputs), torch.zeros_like(inputs, dtype=torch.bool)
        targets[:, self.due] = content
        mask[:, self.due] = True
        return Batch(inputs, targets, mask)

    def distinct_inputs(self, length: int) -> float:
        """V to the power of the content; inf beyond the range of a float."""
        self._check_length(length)
        return as_float(self.symbols**self.held)
