"""The word problem of a finite group: the product of the elements that the tokens stand for."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from lab.arguments import whole
from lab.tasks.base import Batch, check_length, check_request, masked_cross_entropy
from lab.tasks.groups import Group

Side = Literal["right", "left"]
Scored = Literal["every", "last"]
MOST_COUNTS = 200_000  # the most count vectors that `commuting_ceiling` enumerates


@dataclass(frozen=True)
class WordProblem:
    """The target at every step is the product of the tokens so far.

    Element g_0 is the identity, and

        side "right"   g_t = g_{t-1} x_t      the token acts first
        side "left"    g_t = x_t g_{t-1}      the token acts last

        input     s   r   r   s       tokens, drawn uniformly and independently
        target    s   sr  srr srrs    as element numbers; side "right"

    A word of `length` tokens takes T = length steps, or one more with a start token. Limits that
    are given per step have an entry for each of these T steps.

    Args:
        group: the group, whose elements are the classes.
        alphabet: distinct element numbers; token i stands for alphabet[i].
        side: the side on which the next factor is multiplied.
        scored: "every" step, or only the "last".
        start_token: whether one more token, the last number of the vocabulary, precedes every word;
            the target there is the identity, which is not scored.

    Raises:
        ValueError: the alphabet is empty, repeats an element or names one that is not in the group;
            or side or scored is none of the above.
    """

    group: Group
    alphabet: Sequence[int]
    side: Side = "right"
    scored: Scored = "every"
    start_token: bool = False

    def __post_init__(self) -> None:
        # Any sequence is converted to a tuple, so that the task is hashable and immutable.
        object.__setattr__(self, "alphabet", tuple(int(element) for element in self.alphabet))
        if not self.alphabet or len(set(self.alphabet)) < self.size:
            raise ValueError(f"the alphabet must hold different elements, got {self.alphabet}")
        if not set(self.alphabet) <= set(range(self.classes)):
            name, largest = self.group.name, self.classes - 1
            raise ValueError(f"{self.alphabet} must be elements of {name}, 0 to {largest}")
        if self.side not in ("right", "left"):
            raise ValueError(f"side is {self.side!r}; it must be right or left")
        if self.scored not in ("every", "last"):
            raise ValueError(f"scored is {self.scored!r}; it must be every or last")

    @property
    def size(self) -> int:
        """k, the number of tokens from which words are drawn."""
        return len(self.alphabet)

    @property
    def vocabulary(self) -> int:
        """Number of tokens, including the start token."""
        return self.size + self.start_token

    @property
    def classes(self) -> int:
        """n, the number of elements of the group."""
        return self.group.order

    @property
    def transitions(self) -> Int64[Tensor, "n vocabulary"]:
        """For each element and token, the element that follows."""
        tokens = list(self.alphabet)
        table = self.group.table
        steps = table[:, tokens] if self.side == "right" else table[tokens].mT
        if self.start_token:
            steps = torch.cat([steps, torch.arange(self.classes)[:, None]], dim=1)
        return steps

    # --- examples --------------------------------------------------------------------------------

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Inputs Int64["B T"], targets Int64["B T"], mask Bool["B T"]."""
        words = self.words(batch, length, generator)
        return self.examples(words, torch.full((batch,), length))

    def words(
        self, batch: int, length: int, generator: torch.Generator
    ) -> Int64[Tensor, "B length"]:
        """Uniform tokens other than the start token."""
        if whole("WordProblem", "length", length) < 1:
            raise ValueError(f"a word needs at least one token, got a length of {length}")
        check_request(self, batch, length, generator)
        return torch.randint(self.size, (batch, length), generator=generator)

    def examples(self, words: Int64[Tensor, "B length"], lengths: Int64[Tensor, "B"]) -> Batch:
        """Inputs, targets and mask for given words.

        Args:
            words: without start token.
            lengths: number of tokens of each word; no later step is scored.
        """
        inputs = words
        if self.start_token:
            inputs = torch.cat([torch.full_like(words[:, :1], self.size), words], dim=1)
        first = int(self.start_token)
        word_step = torch.arange(inputs.shape[1]) - first  # 0 at the first token of the word
        last = lengths[:, None] - 1
        if self.scored == "last":
            mask = word_step == last
        else:
            mask = (word_step >= 0) & (word_step <= last)
        return Batch(inputs, self.labels(inputs), mask)

    def labels(self, inputs: Int64[Tensor, "B T"]) -> Int64[Tensor, "B T"]:
        """The element after every step, for inputs Int64["B T"]."""
        steps = self.transitions
        element = torch.zeros_like(inputs[:, 0])
        labels = torch.empty_like(inputs)
        for t, tokens in enumerate(inputs.unbind(1)):
            element = labels[:, t] = steps[element, tokens]
        return labels

    def loss(self, model: Callable[..., Tensor], batch: Batch) -> Float[Tensor, ""]:
        """Mean cross-entropy over the scored steps; `model` gives logits ["B T classes"]."""
        return masked_cross_entropy(model(batch.inputs), batch)

    # --- what can be scored ----------------------------------------------------------------------

    def distribution(self, length: int) -> Float64[Tensor, "T n"]:
        """The probability of every element after every step, exact to rounding."""
        check_length(self, length)
        steps = self.transitions[:, : self.size].flatten()
        now = torch.zeros(self.classes, dtype=torch.float64)
        now[0] = 1.0
        rows = [now] if self.start_token else []
        for _ in range(length):
            moved = (now / self.size).repeat_interleave(self.size)
            now = torch.zeros_like(now).index_add(0, steps, moved)
            rows.append(now)
        return torch.stack(rows)

    def entropy(self, length: int) -> Float64[Tensor, "T"]:
        """Entropy of the element after every step, in nats."""
        return torch.special.entr(self.distribution(length)).sum(1)

    def chance(self, length: int) -> float:
        """The lowest loss over the scored steps of a model that knows the step but no token.

        Uniform predictions have the loss log(n), which is higher unless all elements are equally
        likely.
        """
        entropy = self.entropy(length)
        return entropy[-1].item() if self.scored == "last" else entropy[-length:].mean().item()

    def floor(self, length: int) -> float:
        """Zero: the input determines the target."""
        return 0.0

    def chance_accuracy(self, length: int) -> Float64[Tensor, "T"]:
        """Accuracy of guessing the most frequent element at each step."""
        return self.distribution(length).amax(1)

    @property
    def ceilings(self) -> dict[str, float]:
        """None that hold at every length: see `abelian_ceiling` and `commuting_ceiling`."""
        return {}

    def bits(self, length: int) -> float:
        """Entropy of the element before the last token, which a state must hold to be right.

        It is at no earlier step larger: a further factor of its own never lowers the entropy.
        """
        check_length(self, length)
        return self.entropy(length - 1)[-1].item() / math.log(2) if length > 1 else 0.0

    def abelian_ceiling(self, length: int) -> Float64[Tensor, "T"]:
        """Best accuracy of a model that knows the step and g_t modulo [G, G].

        Its best guess is the most frequent element of each coset.
        """
        share, image = self.distribution(length), self.group.abelian_image
        best = share.new_zeros(len(share), int(image.max()) + 1)
        return best.scatter_reduce(1, image.expand_as(share), share, "amax").sum(1)

    def commuting_ceiling(self, length: int) -> float:
        """Best accuracy at the last step of a model that knows only the count of each token.

        A sum, or a product of commuting transitions, depends only on these counts. A model that
        also knows the last m tokens has the ceiling of a word that is shorter by m, because those
        tokens shift every guess in the same way.

        Raises:
            ValueError: there are too many count vectors; the error says how many.

        Cost: k n times the number of count vectors, binomial(t + k - 1, k - 1), summed over t.
        """
        check_length(self, length)
        vectors = math.comb(length + self.size - 1, self.size - 1)
        if vectors > MOST_COUNTS:
            counted = f"{self.size} tokens over {length} steps have {vectors:,} count vectors"
            raise ValueError(f"{counted}; the limit is {MOST_COUNTS:,}")
        counts = torch.zeros(1, self.size, dtype=torch.int64)
        joint = torch.zeros(1, self.classes, dtype=torch.float64)
        joint[0, 0] = 1.0
        for _ in range(length):
            counts, joint = self._one_more_token(counts, joint)
        return joint.amax(1).sum().item()

    def _one_more_token(self, counts: Tensor, joint: Tensor) -> tuple[Tensor, Tensor]:
        """Count vectors ["C k"], and the joint probability ["C n"] of count vector and element."""
        longer = counts[None] + torch.eye(self.size, dtype=torch.int64)[:, None]
        longer, place = torch.unique(longer.flatten(0, 1), dim=0, return_inverse=True)
        grown, steps = joint.new_zeros(len(longer), self.classes), self.transitions
        for token, rows in enumerate(place.view(self.size, -1)):
            moved = torch.empty_like(joint)
            moved[:, steps[:, token]] = joint / self.size
            grown.index_add_(0, rows, moved)
        return longer, grown

    def distinct_inputs(self, length: int) -> float:
        """k^length, the number of words; inf beyond the range of a float."""
        check_length(self, length)
        try:
            return float(self.size) ** length
        except OverflowError:
            return math.inf

    def lookup_ceiling(self, draws: int, length: int) -> float:
        """The share of words that occur among so many random training words.

        It is 1 - (1 - k^-length)^draws, because draws are independent.
        """
        words = self.distinct_inputs(length)
        whole("WordProblem.lookup_ceiling", "draws", draws, least=0)
        if words == 1:
            return float(draws > 0)
        return -math.expm1(draws * math.log1p(-1 / words))


@dataclass(frozen=True)
class MixedLengths:
    """A word problem whose words have different lengths, drawn uniformly.

        length 4, shortest 2:   input  x1 x2 x3 0     scored: every step  1 1 1 0
                                                      or the last alone   0 0 1 0

    A word is padded by token 0, which is not scored; `length` is the length of the longest word.

    Args:
        task: the word problem.
        shortest: number of tokens of the shortest word.

    Raises:
        ValueError: `shortest` is not a whole number.
    """

    task: WordProblem
    shortest: int

    def __post_init__(self) -> None:
        whole("MixedLengths", "shortest", self.shortest)

    @property
    def vocabulary(self) -> int:
        """The vocabulary of the task; no token is added."""
        return self.task.vocabulary

    @property
    def classes(self) -> int:
        """The classes of the task."""
        return self.task.classes

    @property
    def scored(self) -> Scored:
        """Which steps the task scores."""
        return self.task.scored

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Inputs, targets and mask, ["B T"] each, where T is the length of the longest word."""
        self._check(length)
        check_request(self, batch, length, generator)
        words = self.task.words(batch, length, generator)
        lengths = torch.randint(self.shortest, length + 1, (batch,), generator=generator)
        ended = torch.arange(length) >= lengths[:, None]
        return self.task.examples(words.masked_fill(ended, 0), lengths)

    def loss(self, model: Callable[..., Tensor], batch: Batch) -> Float[Tensor, ""]:
        """Mean cross-entropy over the scored steps."""
        return self.task.loss(model, batch)

    def chance(self, length: int) -> float:
        """Lowest loss of a model that knows only the step, weighted by how often it is scored."""
        self._check(length)
        lengths = range(self.shortest, length + 1)
        steps = [1 if self.scored == "last" else each for each in lengths]
        losses = [self.task.chance(each) for each in lengths]
        return sum(n * loss for n, loss in zip(steps, losses, strict=True)) / sum(steps)

    def floor(self, length: int) -> float:
        """Zero: the input determines the target."""
        return 0.0

    def chance_accuracy(self, length: int) -> Float64[Tensor, "T"]:
        """That of the task, as the element at a step knows nothing of the end."""
        self._check(length)
        return self.task.chance_accuracy(length)

    @property
    def ceilings(self) -> dict[str, float]:
        """Those of the task."""
        return self.task.ceilings

    def bits(self, length: int) -> float:
        """Those of the longest words."""
        self._check(length)
        return self.task.bits(length)

    def distinct_inputs(self, length: int) -> float:
        """The number of longest words, because shorter words are padded with token 0."""
        self._check(length)
        return self.task.distinct_inputs(length)

    def _check(self, length: int) -> None:
        if not 1 <= self.shortest <= whole("MixedLengths", "length", length):
            raise ValueError(f"lengths from {self.shortest} to {length}: 1 <= shortest <= longest")


def in_training(train: Batch, test: Batch) -> Bool[Tensor, "B"]:
    """Which words of the test set also occur in the training set.

    Two words are the same if their tokens and their scored steps are equal.
    """
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        shapes = f"{tuple(train.inputs.shape)} and {tuple(test.inputs.shape)}"
        raise ValueError(f"inputs of {shapes} must have the same number of steps")
    known = set(_keys(train))
    return torch.tensor([key in known for key in _keys(test)], dtype=torch.bool)


def overlap(train: Batch, test: Batch) -> float:
    """The share of test words that also occur in the training set."""
    return in_training(train, test).double().mean().item()


def _keys(batch: Batch) -> Iterable[bytes]:
    rows = torch.cat([batch.inputs, batch.mask], dim=1).cpu().contiguous().numpy()
    return (row.tobytes() for row in rows)
