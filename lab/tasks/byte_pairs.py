"""Byte-level byte-pair encoding: trained and applied by `tokenizers`, which is an extra."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.arguments import refuse, whole

BYTES = 256  # every byte is a token, so that any text can be encoded
LEAST_COUNT = 2  # how often two tokens must stand side by side to be merged
_AT_ONCE = 1000  # lines that are encoded in parallel
_MISSING = "byte pairs need tokenizers: pip install -c constraints.txt -e '.[text]'"


class BytePairs:
    """An encoding of text into tokens of one or more bytes.

    Args:
        text: the JSON of a `tokenizers.Tokenizer`, such as `trained` gives.

    Attributes:
        pieces: the bytes that each token stands for.

    Raises:
        ValueError: the text is no such JSON.

    Source: Sennrich et al. 2016, Neural machine translation of rare words with subword units;
    Radford et al. 2019, Language models are unsupervised multitask learners, section 2.2, for
    bytes in place of characters and for merges that stay within words.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            vocabulary = json.loads(text)["model"]["vocab"]
            names = sorted(vocabulary, key=vocabulary.__getitem__)
            byte_of = _byte_of()
            self.pieces = tuple(bytes(byte_of[sign] for sign in name) for name in names)
        except (ValueError, KeyError, TypeError):
            refuse("BytePairs", "text", text, "the JSON of a byte-level tokenizer")
        if sorted(vocabulary.values()) != list(range(len(names))):
            refuse("BytePairs", "text", text, "the JSON of a tokenizer that numbers all its tokens")

    @classmethod
    def trained(cls, lines: Iterable[str], *, vocabulary: int) -> "BytePairs":
        """The encoding that merges the commonest pairs of a text until there are V tokens.

        Args:
            lines: of the training text.
            vocabulary: V, above 256.

        Raises:
            ValueError: the size is too small, or the text has too few pairs that occur twice.
            ImportError: `tokenizers` is not installed.
        """
        whole("BytePairs.trained", "vocabulary", vocabulary, least=BYTES + 1)
        tokenizers = _tokenizers()
        made = tokenizers.Tokenizer(tokenizers.models.BPE())
        made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocabulary, min_frequency=LEAST_COUNT, show_progress=False,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
        made.train_from_iterator(lines, trainer)
        found = cls(made.to_str())
        if len(found.pieces) != vocabulary:
            expected = f"at most {len(found.pieces)}, all that the training text has merges for"
            refuse("BytePairs.trained", "vocabulary", vocabulary, expected)
        return found

    def encode(self, lines: Iterable[str]) -> NDArray[np.int32]:
        """The tokens of lines, one after the other. No token reaches from one line into the next.

        Raises:
            ImportError: `tokenizers` is not installed.
        """
        encoder = _tokenizers().Tokenizer.from_str(self.text)
        parts = [
            np.fromiter(
                chain.from_iterable(each.ids for each in encoder.encode_batch(some)), np.int32
            )
            for some in _batches(lines)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise ImportError(_MISSING) from None
    return tokenizers


def _batches(lines: Iterable[str]) -> Iterator[Sequence[str]]:
    following = iter(lines)
    while some := list(islice(following, _AT_ONCE)):
        yield some


def _byte_of() -> dict[str, int]:
    """The byte that each sign in a name of a token stands for.

    Bytes that are printable signs of Latin-1 stand for themselves. The others, in their order, have
    the signs from 256 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(BYTES) if byte not in printable]
    signs = {chr(byte): byte for byte in printable}
    return signs | {chr(BYTES + number): byte for number, byte in enumerate(hidden)}
