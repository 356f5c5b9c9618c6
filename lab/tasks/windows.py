"""Next-token prediction in windows of a long text, whatever its tokens are."""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from lab.arguments import refuse
from lab.tasks.base import Batch, check_length, check_request, masked_cross_entropy


class Windows:
    """Predict the next token of windows of T tokens, drawn from a text at random offsets.

        input     i  m  p  o  r  t
        target    m  p  o  r  t  .

    A window of T tokens has T - 1 scored steps, since the token after its last is not in it. The
    target there (.) is 0.

    Args:
        data: the tokens of the text, whole numbers from 0 to V - 1, of any such dtype.
        vocabulary: V, the number of tokens that there are.
        name: what the text is called in errors and records, such as "train".
        unit: what its tokens are called there.
        digest: SHA-256 of all that the text is made of, by which checkpoints know it.
    """

    def __init__(
        self,
        data: Shaped[Tensor, " tokens"],
        *,
        vocabulary: int,
        name: str,
        unit: str,
        digest: str,
    ) -> None:
        self.data, self.vocabulary = data, vocabulary
        self.name, self.unit, self.digest = name, unit, digest

    @property
    def classes(self) -> int:
        """V: every token is a class."""
        return self.vocabulary

    def __len__(self) -> int:
        """The number of tokens."""
        return len(self.data)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}: {len(self):,} {self.unit})"

    @property
    def checkpoint_identity(self) -> str:
        """What a checkpoint knows the text by: its name and its digest."""
        return f"{type(self).__name__} {self.name}, sha256 {self.digest}"

    # --- windows ---------------------------------------------------------------------------------

    def sample(self, batch: int, length: int, generator: torch.Generator) -> Batch:
        """Inputs Int64["B T"], targets Int64["B T"], mask Bool["B T"]."""
        return self.windows(self.starts(batch, length, generator), length)

    def starts(self, batch: int, length: int, generator: torch.Generator) -> Int64[Tensor, "B"]:
        """Offsets of windows, uniform over all that the text has room for.

        Raises:
            ValueError: the text is shorter than a window, or a window has no scored step.
        """
        check_request(self, batch, length, generator)
        room = self._room(length)
        return torch.randint(room, (batch,), generator=generator)

    def windows(self, starts: Int64[Tensor, "B"], length: int) -> Batch:
        """The windows at given offsets.

        Raises:
            ValueError: a window does not lie within the text.
        """
        room = self._room(length)
        if ((starts < 0) | (starts >= room)).any():
            where = f"{type(self).__name__} {self.name}"
            raise ValueError(f"{where}: starts must be in [0, {room}), got {starts}")
        inputs = self.data[starts[:, None] + torch.arange(length)].long()
        targets = torch.cat([inputs[:, 1:], torch.zeros_like(inputs[:, :1])], dim=1)
        scored = torch.arange(length) < length - 1
        return Batch(inputs, targets, scored.expand(len(starts), length).clone())

    def _room(self, length: int) -> int:
        check_length(self, length)
        room = len(self) - length + 1
        if length < 2 or room < 1:
            expected = (
                f"at least 2 and at most {len(self)}, the {self.unit} of the {self.name} text"
            )
            refuse(type(self).__name__, "length", length, expected)
        return room

    # --- limits ----------------------------------------------------------------------------------

    def loss(self, model: Callable[..., Tensor], batch: Batch) -> Float[Tensor, ""]:
        """Mean cross-entropy over the scored steps, in nats per token; logits ["B T V"]."""
        return masked_cross_entropy(model(batch.inputs), batch)

    def chance(self, length: int) -> float:
        """log V: all tokens are equally likely."""
        return math.log(self.vocabulary)

    def floor(self, length: int) -> float:
        """Zero. The entropy of text is not known; n-gram counts are estimates from above."""
        return 0.0

    def chance_accuracy(self, length: int) -> Float64[Tensor, "T"]:
        """The share of the commonest token, at every step."""
        check_length(self, length)
        share = self.counts.max().item() / len(self)
        return torch.full((length,), share, dtype=torch.float64)

    @property
    def ceilings(self) -> dict[str, float]:
        """None: n-gram counts on held-out text are the references."""
        return {}

    def bits(self, length: int) -> float:
        """NaN: nobody knows what a model that predicts text best has to remember."""
        return math.nan

    def distinct_inputs(self, length: int) -> float:
        """At most one window for every offset."""
        return float(self._room(length))

    # --- what the text is like -------------------------------------------------------------------

    @cached_property
    def counts(self) -> Int64[Tensor, "V"]:
        """How often each token occurs."""
        return torch.from_numpy(np.bincount(self.data.numpy(), minlength=self.vocabulary))

    @property
    def unigram_entropy(self) -> float:
        """Entropy of the distribution of single tokens, in bits."""
        return entropy(self.counts)

    def record(self) -> dict[str, Any]:
        """What a record keeps of the text: plain values."""
        return {
            "name": self.name, self.unit: len(self), "sha256": self.digest,
            "unigram entropy, bits": self.unigram_entropy,
        }  # fmt: skip


def entropy(counts: Int64[Tensor, "V"]) -> float:
    """Entropy of the shares that counts have of their sum, in bits."""
    shares = counts[counts > 0].double() / counts.sum()
    return -(shares * shares.log2()).sum().item()


def units_of_loss(
    loss: float, *, token: str, n_tokens: int, n_bytes: int, n_words: int
) -> dict[str, float]:
    """A loss in nats per token in the units that are in use, by name.

    All stand for one total loss, shared among other things: bits per byte are
    loss * tokens / bytes / log 2, and perplexity per word is exp(loss * tokens / words), which is
    infinite where there is no word. Perplexities beyond the range of floats are infinite as well.

    Args:
        loss: in nats per token.
        token: what a token is called.
        n_tokens, n_bytes, n_words: how many of each the text has.
    """
    return {
        f"nats per {token}": loss,
        "bits per byte": loss * n_tokens / n_bytes / math.log(2),
        f"perplexity per {token}": _exp(loss),
        "perplexity per word": _exp(loss * n_tokens / n_words) if n_words else math.inf,
    }


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf
