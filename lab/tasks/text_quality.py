"""What can be said of generated text without a reader: syntax, n-grams, repetition."""

import ast
import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from lab.arguments import refuse, whole
from lab.tasks.ngrams import LONGEST, NGrams, gram_keys

# What a line of Python may be, and what completes it to a program.
_COMPLETED = (
    "{}",  # a statement
    "{}\n pass",  # the head of a block, such as "if x:"
    "{}\n pass\nfinally: pass",  # try
    "{}\ndef f(): pass",  # a decorator
    "if x: pass\n{}",  # elif and else, with what they do
    "if x: pass\n{}\n pass",
    "try: pass\n{}",  # except and finally
    "try: pass\n{}\n pass",
)


def compiled_share(samples: Sequence[bytes]) -> float:
    """Share of the lines of samples that are Python, from 0 to 1.

    A line counts if, without its indentation, it parses as a statement, as the head of a block or
    as a decorator. It is parsed and never executed. Not counted are empty lines, comments (which
    hold anything), and the last line of a sample, which was cut off; a sample without an end of
    line is one line.

    Lines that continue an expression or a string fail, also in code that somebody wrote: compare
    with the share in held-out text, and not with 1.

    Args:
        samples: text in UTF-8. A line that is not fails.

    Raises:
        TypeError: samples are not bytes.
        ValueError: there is no line to count.
    """
    lines = [line for sample in _checked("compiled_share", samples) for line in _lines(sample)]
    if not lines:
        refuse("compiled_share", "samples", list(samples), "text with a line that is no comment")
    return sum(map(_is_python, lines)) / len(lines)


def seen_share(samples: Sequence[bytes], train: bytes | NGrams, *, order: int = 4) -> float:
    """Share of the n-grams of bytes in samples that occur in the training text, from 0 to 1.

    Args:
        samples: text; n-grams lie within one sample. One that occurs k times counts k times.
        train: the training text, or counts of it.
        order: n in bytes, 1 to 7, and at most that of the counts.

    Raises:
        TypeError: a text is not bytes.
        ValueError: the order is out of range, or no sample is that long.

    Cost: a text is sorted, in 8 bytes of memory for each of its bytes; counts are sorted already.
    """
    grams = _grams("seen_share", samples, order)
    if not isinstance(train, NGrams):
        known = np.unique(_grams("seen_share", [train], order))
    elif order <= train.order:
        known = train.grams[order - 1]
    else:
        refuse("seen_share", "order", order, f"at most {train.order}, that of the counts")
    place = np.searchsorted(known, grams).clip(max=len(known) - 1)
    return float((known[place] == grams).mean())


def distinct(samples: Sequence[bytes], *, order: int = 4) -> float:
    """Distinct n-grams of bytes in all samples together, over their number: above 0 and up to 1.

    The value falls as the samples grow, so compare samples of the same number and length.

    Args:
        samples: text; n-grams lie within one sample.
        order: n in bytes, 1 to 7.

    Raises:
        TypeError: samples are not bytes.
        ValueError: the order is out of range, or no sample is that long.

    Source: Li et al. 2016, A diversity-promoting objective function for neural conversation models.
    """
    grams = _grams("distinct", samples, order)
    return len(np.unique(grams)) / len(grams)


def cycle_length(tokens: Int64[Tensor, "T"] | Sequence[int]) -> int | None:
    """The number of tokens after which a text repeats itself; None if it does not.

    It is the least p for which the second half of the text equals itself moved on by p tokens, and
    shows at least two periods. The likeliest text of a model that sees one token follows a map from
    tokens to tokens, so it must end in a cycle of at most V tokens.

    Args:
        tokens: one text of likeliest tokens, such as a row of `lab.model.generate` at temperature
            0, or its bytes.
    """
    values = np.asarray(tokens.tolist() if isinstance(tokens, Tensor) else list(tokens))
    half = values[len(values) // 2 :]
    for period in range(1, len(half) // 2 + 1):
        if (half[period:] == half[:-period]).all():
            return period
    return None


def _checked(where: str, samples: Sequence[bytes]) -> list[bytes]:
    if isinstance(samples, bytes) or not all(isinstance(each, bytes) for each in samples):
        raise TypeError(f"{where}: samples must be a list of bytes, one for each sample")
    return list(samples)


def _lines(sample: bytes) -> list[bytes]:
    """Stripped lines that count."""
    whole_lines = sample.split(b"\n")[:-1] or [sample]
    stripped = (line.strip() for line in whole_lines)
    return [line for line in stripped if line and not line.startswith(b"#")]


def _is_python(line: bytes) -> bool:
    return any(_parses(program, line) for program in _COMPLETED)


def _parses(program: str, line: bytes) -> bool:
    # A warning, such as of an unknown escape, is no error; nor may it fill the screen.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(program.format(line.decode()))
        # Null bytes are a ValueError, and lines nested too deeply for the parser the last two.
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return False
    return True


def _grams(where: str, samples: Sequence[bytes], order: int) -> NDArray[np.int64]:
    """All n-grams of each sample, as numbers."""
    n = whole(where, "order", order, least=1)
    if n > LONGEST:
        refuse(where, "order", order, f"at most {LONGEST}")
    texts = [np.frombuffer(each, np.uint8) for each in _checked(where, samples) if len(each) >= n]
    if not texts:
        refuse(where, "samples", list(samples), f"text of at least {n} bytes")
    return np.concatenate([gram_keys(text, n) for text in texts])
