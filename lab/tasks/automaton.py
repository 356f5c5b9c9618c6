"""Finite automata: the target is the state after every token."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from lab.tasks.base import Batch, check_length, check_request, masked_cross_entropy
from lab.tasks.groups import Group


@dataclass(frozen=True)
class Automaton:
    """Independent tokens move an automaton from state 0; the target at every step is its state.

    Args:
        transitions: for each state, the state that follows each token.
        probabilities: of the tokens; they add up to 1.

    Raises:
        ValueError: rows of different lengths, a state that does not exist, or probabilities that
            are negative or do not add up to 1.
    """

    transitions: Sequence[Sequence[int]]
    probabilities: Sequence[float]

    def __post_init__(self) -> None:
        rows = tuple(tuple(int(state) for state in row) for row in self.transitions)
        object.__setattr__(self, "transitions", rows)
        object.__setattr__(self, "probabilities", tuple(map(float, self.probabilities)))
        if not rows or {len(row) for row in rows} != {len(self.probabilities)}:
            lengths = sorted({len(row) for row in rows})
            tokens = len(self.probabilities)
            raise ValueError(f"rows of {lengths} tokens for {tokens} probabilities: one for each")
        if not {state for row in rows for state in row} <= set(range(len(rows))):
            raise ValueError(f"transitions must be states from 0 to {len(rows) - 1}")
        total = sum(self.probabilities)
        if min(self.probabilities) < 0 or abs(total - 1) > 1e-9:
            raise ValueError(f"probabilities {self.probabilities} must add up to 1, not {total}")

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return len(self.probabilities)

    @property
    def classes(self) -> int:
        """Number of states."""
        return len(self.transitions)

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Inputs Int64["B T"], targets Int64["B T"], mask Bool["B T"]; all steps are scored."""
        check_request(self, batch, length, generator)
        uniform = torch.rand(batch, length, dtype=torch.float64, generator=generator)
        ends = torch.tensor(self.probabilities, dtype=torch.float64).cumsum(0)
        inputs = torch.bucketize(uniform, ends[:-1], right=True)
        return Batch(inputs, self.labels(inputs), torch.ones_like(inputs, dtype=torch.bool))

    def labels(self, inputs: Int64[Tensor, "B T"]) -> Int64[Tensor, "B T"]:
        """The state after every step."""
        steps, state = torch.tensor(self.transitions), torch.zeros_like(inputs[:, 0])
        labels = torch.empty_like(inputs)
        for t, tokens in enumerate(inputs.unbind(1)):
            state = labels[:, t] = steps[state, tokens]
        return labels

    def loss(self, model: Callable[..., Tensor], batch: Batch) -> Float[Tensor, ""]:
        """Mean cross-entropy over all steps; `model` gives logits ["B T classes"]."""
        return masked_cross_entropy(model(batch.inputs), batch)

    def distribution(self, length: int) -> Float64[Tensor, "T n"]:
        """The probability of every state after every step."""
        check_length(self, length)
        steps = torch.tensor(self.transitions).flatten()
        each = torch.tensor(self.probabilities, dtype=torch.float64)
        now, rows = torch.zeros(self.classes, dtype=torch.float64), []
        now[0] = 1.0
        for _ in range(length):
            now = torch.zeros_like(now).index_add(0, steps, (now[:, None] * each).flatten())
            rows.append(now)
        return torch.stack(rows)

    def chance(self, length: int) -> float:
        """The lowest loss of a model that knows the step and no token."""
        return torch.special.entr(self.distribution(length)).sum(1).mean().item()

    def floor(self, length: int) -> float:
        """Zero: the input determines the target."""
        return 0.0

    def chance_accuracy(self, length: int) -> Float64[Tensor, "T"]:
        """Accuracy of guessing the most probable state of every step."""
        return self.distribution(length).amax(1)

    @property
    def ceilings(self) -> dict[str, float]:
        """None that hold for every automaton."""
        return {}

    def bits(self, length: int) -> float:
        """The largest entropy of the state before any token."""
        check_length(self, length)
        if length == 1:
            return 0.0
        before = self.distribution(length - 1)
        return torch.special.entr(before).sum(1).max().item() / math.log(2)

    def distinct_inputs(self, length: int) -> float:
        """The number of tokens to the power of T."""
        check_length(self, length)
        return float(self.vocabulary) ** length


def count_and_reset(count: int, group: Group) -> Automaton:
    """A counter, an element of a group, and a token that resets both.

    Half of the tokens add 1 modulo `count`, three in ten multiply by an element of the group on the
    right, drawn uniformly, and a fifth reset. State `order` c + g has the counter at c and element
    g; the last state is that after a reset, which is told from state 0.

    Args:
        count: number of values of the counter.
        group: the group, of order n; there are n + 2 tokens and `count` n + 1 states.
    """
    n = group.order
    rows = []
    for state in [*range(count * n), 0]:
        c, g = divmod(state, n)
        multiplied = (n * c + group.table[g]).tolist()
        rows.append([n * ((c + 1) % count) + g, *multiplied, count * n])
    return Automaton(rows, [0.5, *[0.3 / n] * n, 0.2])
