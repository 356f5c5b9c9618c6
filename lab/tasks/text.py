"""Byte-level language modelling on files, split by file into train, validation and test."""

import hashlib
import math
import platform
import sysconfig
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from lab.arguments import finite, one_of, refuse
from lab.tasks.base import Batch, check_length, check_request, masked_cross_entropy

BYTES = 256
# Folders of a Python installation whose files are no library source, or that not all have.
EXCLUDED = frozenset(
    {"test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3", "turtledemo",
     "ensurepip"}
)  # fmt: skip
SPLITS = ("train", "validation", "test")
# Splits of one corpus differ in unigram entropy by less than this, in bits; the standard library of
# Python 3.11 by 0.13. Numbers read as another type, or a header taken for text, by several bits.
ENTROPY_GAP = 0.3
# Shorter files, such as a licence line in an empty module, may occur in two splits.
SHORT = 256  # bytes
UNSEEN = 1e-3  # the largest share of held-out bytes whose value does not occur in training
_NUMPY = b"\x93NUMPY"


class Text:
    """Predict the next byte of windows of T bytes, drawn from the files at random offsets.

        input     i  m  p  o  r  t
        target    m  p  o  r  t  .

    A window of T bytes has T - 1 scored steps, since the byte after its last is not in it. The
    target there (.) is 0.

    Args:
        files: contents by name. They are joined in this order with a newline between any two.
        name: what the text is called in errors and records, such as "train".

    Raises:
        ValueError: there is no file or no byte, or a file is not text but an array of numpy.
        TypeError: the content of a file is not bytes.
    """

    vocabulary = classes = BYTES

    def __init__(self, files: Mapping[str, bytes], *, name: str = "text") -> None:
        for path, content in files.items():
            if not isinstance(content, bytes):
                kind = type(content).__name__
                raise TypeError(f"Text {name}: {path} is a {kind}; it must be bytes")
            if content.startswith(_NUMPY):
                raise ValueError(
                    f"Text {name}: {path} is an array that numpy has saved, whose header would be "
                    "read as text: load it with numpy.load, and give the text it stands for"
                )
        joined = b"\n".join(files.values())
        if not joined:
            raise ValueError(f"Text {name}: {len(files)} files without a byte; it must have one")
        self.name, self.files = name, tuple(files)
        self.hashes = {path: _sha256(content) for path, content in files.items()}
        self.digest = _sha256(joined)
        self.data: UInt8[Tensor, " bytes"] = torch.frombuffer(bytearray(joined), dtype=torch.uint8)
        lengths = torch.tensor([len(content) for content in files.values()])
        # Where each file begins: after all files before it, and the newline behind each of them.
        self.begins: Int64[Tensor, " files"] = (lengths + 1).cumsum(0) - lengths - 1
        self.words = len(joined.split())

    def __len__(self) -> int:
        """The number of bytes."""
        return len(self.data)

    def __repr__(self) -> str:
        return f"Text({self.name}: {len(self.files)} files, {len(self):,} bytes)"

    @property
    def checkpoint_identity(self) -> str:
        """What a checkpoint knows the text by: its name and the hash of all its bytes."""
        return f"Text {self.name}, sha256 {self.digest}"

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
            raise ValueError(f"Text {self.name}: starts must be in [0, {room}), got {starts}")
        inputs = self.data[starts[:, None] + torch.arange(length)].long()
        targets = torch.cat([inputs[:, 1:], torch.zeros_like(inputs[:, :1])], dim=1)
        scored = torch.arange(length) < length - 1
        return Batch(inputs, targets, scored.expand(len(starts), length).clone())

    def file_of(self, starts: Int64[Tensor, "B"]) -> Int64[Tensor, "B"]:
        """The number of the file in which each offset lies; the newline after a file is its own."""
        return torch.searchsorted(self.begins, starts, right=True) - 1

    def _room(self, length: int) -> int:
        check_length(self, length)
        room = len(self) - length + 1
        if length < 2 or room < 1:
            expected = f"at least 2 and at most {len(self)}, the bytes of the {self.name} text"
            refuse("Text", "length", length, expected)
        return room

    # --- limits ----------------------------------------------------------------------------------

    def loss(self, model: Callable[..., Tensor], batch: Batch) -> Float[Tensor, ""]:
        """Mean cross-entropy over the scored steps, in nats per byte; logits ["B T 256"]."""
        return masked_cross_entropy(model(batch.inputs), batch)

    def chance(self, length: int) -> float:
        """log 256, 8 bits per byte: all bytes are equally likely."""
        return math.log(BYTES)

    def floor(self, length: int) -> float:
        """Zero. The entropy of text is not known; n-gram counts are estimates from above."""
        return 0.0

    def chance_accuracy(self, length: int) -> Float64[Tensor, "T"]:
        """The share of the commonest byte, at every step."""
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
    def counts(self) -> Int64[Tensor, "256"]:
        """How often each byte occurs."""
        return torch.from_numpy(np.bincount(self.data.numpy(), minlength=BYTES))

    @property
    def unigram_entropy(self) -> float:
        """Entropy of the distribution of single bytes, in bits."""
        shares = self.counts[self.counts > 0].double() / len(self)
        return -(shares * shares.log2()).sum().item()

    def units(self, loss: float) -> dict[str, float]:
        """A loss in nats per byte in the units that are in use, by name.

        Perplexity per word is exp(loss * bytes / words) with words separated by white space: the
        same total loss, shared among fewer units. It is infinite beyond the range of floats.

        Raises:
            ValueError: the loss is not a finite number of at least 0.
        """
        finite("Text.units", "loss", loss, least=0)
        return {
            "nats per byte": loss,
            "bits per byte": bits_per_byte(loss),
            "perplexity per byte": math.exp(loss),
            "perplexity per word": _exp(loss * len(self) / self.words) if self.words else math.inf,
        }

    def record(self) -> dict[str, Any]:
        """What a record keeps of the text: plain values."""
        return {
            "name": self.name, "files": len(self.files), "bytes": len(self), "sha256": self.digest,
            "unigram entropy, bits": self.unigram_entropy,
        }  # fmt: skip


def bits_per_byte(loss: float) -> float:
    """Bits per byte of a loss in nats per byte: the loss divided by log 2."""
    return loss / math.log(2)


class Splits(NamedTuple):
    """Texts of one corpus that share no file. There is no other name for any of them."""

    train: Text
    validation: Text
    test: Text

    def called(self, name: str) -> Text:
        """The split of a name.

        Raises:
            ValueError: there is none; "val" or "valid" do not fall back on anything else.
        """
        one_of("Splits", "name", name, SPLITS)
        found: Text = getattr(self, name)
        return found

    def record(self) -> dict[str, Any]:
        """What a record keeps of the splits; the standard library differs between Pythons."""
        return {"python": platform.python_version(), "splits": [text.record() for text in self]}


def split_of(path: str) -> str:
    """The split that a file belongs to, by the SHA-256 of its relative POSIX path in UTF-8.

    The value of the hexadecimal digest modulo 10 decides: 0 is "test", 1 is "validation", and all
    else is "train". So a file stays in its split whatever other files there are.
    """
    remainder = int(_sha256(path.encode()), 16) % 10
    return {0: "test", 1: "validation"}.get(remainder, "train")


def split_by_file(files: Mapping[str, bytes]) -> Splits:
    """The files as three texts, checked by `check_splits`.

    Raises:
        ValueError: a split is empty, or the splits do not pass the check.
    """
    parts: dict[str, dict[str, bytes]] = {name: {} for name in SPLITS}
    for path, content in files.items():
        parts[split_of(path)][path] = content
    splits = Splits(**{name: Text(part, name=name) for name, part in parts.items()})
    check_splits(splits, {path: len(content) for path, content in files.items()})
    return splits


def check_splits(splits: Splits, sizes: Mapping[str, int]) -> None:
    """Check that three texts are disjoint parts of one corpus in one encoding.

    Args:
        splits: the texts.
        sizes: the bytes of every file, by its name. Equal files below `SHORT` bytes are no overlap.

    Raises:
        ValueError: a file, or the content of one, is in two splits; a split has another unigram
            entropy than training; or too many of its bytes have values that training never has.
    """
    home: dict[str, tuple[str, str]] = {}
    for text in splits:
        for path, sha256 in text.hashes.items():
            keys = [f"path {path}", f"content {sha256}"][: 1 + (sizes[path] >= SHORT)]
            for key in keys:
                other, name = home.setdefault(key, (path, text.name))
                if name != text.name:
                    raise ValueError(
                        f"{path} of the {text.name} split is {other} of the {name} split: splits "
                        "must share no file"
                    )
    reference = splits.train
    for text in splits[1:]:
        gap = text.unigram_entropy - reference.unigram_entropy
        if abs(gap) > ENTROPY_GAP:
            raise ValueError(
                f"unigram entropy is {text.unigram_entropy:.2f} bits in the {text.name} split and "
                f"{reference.unigram_entropy:.2f} in training; they must differ by at most "
                f"{ENTROPY_GAP}: is one of them encoded in another way?"
            )
        unseen = text.counts[reference.counts == 0].sum().item() / len(text)
        if unseen > UNSEEN:
            raise ValueError(
                f"{unseen:.1%} of the bytes of the {text.name} split have values that never occur "
                f"in training; it must be at most {UNSEEN:.1%}"
            )


def python_source(root: Path | None = None) -> dict[str, bytes]:
    """The source of Python's standard library: contents by relative POSIX path, in order of path.

    Args:
        root: the folder of the library; that of the Python that runs if None. Files below a folder
            named in `EXCLUDED` are left out.

    Raises:
        ValueError: there is no .py file below it.
    """
    root = Path(sysconfig.get_path("stdlib")) if root is None else root
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
    files = {
        name: paths[name].read_bytes()
        for name in sorted(paths)
        if EXCLUDED.isdisjoint(name.split("/")[:-1])
    }
    if not files:
        refuse("python_source", "root", str(root), "a folder with .py files")
    return files


def python_library(root: Path | None = None) -> Splits:
    """The standard library's source as a corpus, split by file; about 11 MB in Python 3.11."""
    return split_by_file(python_source(root))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf
