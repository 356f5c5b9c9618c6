"""Text as tokens that stand for several bytes each, such as byte-pair encoding gives."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from lab.arguments import finite, whole
from lab.tasks.windows import Windows, units_of_loss


class TokenText(Windows):
    """A text of tokens whose bytes are known, so that losses can be told per byte and per word.

    Args:
        tokens: whole numbers below V, in one axis.
        pieces: the bytes that each token stands for; V of them.
        n_words: number of words in the text, for perplexity per word.
        name: what the text is called in errors and records, such as "train".

    Attributes:
        n_bytes: number of bytes that all tokens together stand for.

    Raises:
        ValueError: the tokens are not such numbers, or there is none.
    """

    def __init__(
        self, tokens: NDArray[np.integer], pieces: Sequence[bytes], *, n_words: int, name: str
    ) -> None:
        where = f"TokenText {name}"
        if tokens.ndim != 1 or not len(tokens) or tokens.dtype.kind not in "iu":
            found = f"{tokens.dtype} {tokens.shape}"
            raise ValueError(f"{where}: tokens are {found}; they must be whole numbers in one axis")
        if not 0 <= tokens.min() <= tokens.max() < len(pieces):
            found = f"from {tokens.min()} to {tokens.max()}"
            raise ValueError(f"{where}: tokens are {found}; they must be in [0, {len(pieces)})")
        self.pieces, self.n_words = tuple(pieces), whole(where, "n_words", n_words, least=0)
        narrow = np.ascontiguousarray(tokens, np.int32)
        digest = hashlib.sha256(repr(self.pieces).encode())
        digest.update(narrow.astype("<i4", copy=False).data)
        super().__init__(
            torch.from_numpy(narrow), vocabulary=len(pieces), name=name, unit="tokens",
            digest=digest.hexdigest(),
        )  # fmt: skip
        lengths = torch.tensor([len(piece) for piece in self.pieces])
        self.n_bytes = int((self.counts * lengths).sum())

    def decode(self, tokens: Int[Tensor, "T"] | Iterable[int]) -> bytes:
        """The bytes that tokens stand for. Text that was generated may be no valid UTF-8.

        Raises:
            IndexError: a token is not below V.
        """
        numbers = tokens.tolist() if isinstance(tokens, Tensor) else tokens
        return b"".join(self.pieces[token] for token in numbers)

    def units(self, loss: float) -> dict[str, float]:
        """A loss in nats per token in the units that are in use, by name: see `units_of_loss`.

        Raises:
            ValueError: the loss is not a finite number of at least 0.
        """
        finite("TokenText.units", "loss", loss, least=0)
        return units_of_loss(
            loss, token="token", n_tokens=len(self), n_bytes=self.n_bytes, n_words=self.n_words
        )

    def record(self) -> dict[str, object]:
        """What a record keeps of the text: plain values."""
        sizes = {"vocabulary": self.vocabulary, "bytes": self.n_bytes, "words": self.n_words}
        return {**super().record(), **sizes}
