"""Byte-level language modelling on files, split by file into train, validation and test."""

import hashlib
import math
import platform
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Int64
from torch import Tensor

from lab.arguments import finite, one_of, refuse
from lab.tasks.windows import Windows, entropy, units_of_loss

AnyText = TypeVar("AnyText", bound=Windows)
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


class Text(Windows):
    """Files as one text, whose tokens are its bytes.

    Args:
        files: contents by name. They are joined in this order with a newline between any two.
        name: what the text is called in errors and records, such as "train".

    Raises:
        ValueError: there is no file or no byte, or a file is not text but an array of numpy.
        TypeError: the content of a file is not bytes.
    """

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
        data = torch.frombuffer(bytearray(joined), dtype=torch.uint8)
        digest = _sha256(joined)
        super().__init__(data, vocabulary=BYTES, name=name, unit="bytes", digest=digest)
        self.files = tuple(files)
        self.hashes = {path: _sha256(content) for path, content in files.items()}
        lengths = torch.tensor([len(content) for content in files.values()])
        # Where each file begins: after all files before it, and the newline behind each of them.
        self.begins: Int64[Tensor, " files"] = (lengths + 1).cumsum(0) - lengths - 1
        self.words = len(joined.split())

    def __repr__(self) -> str:
        return f"Text({self.name}: {len(self.files)} files, {len(self):,} bytes)"

    def file_of(self, starts: Int64[Tensor, "B"]) -> Int64[Tensor, "B"]:
        """The number of the file in which each offset lies; the newline after a file is its own."""
        return torch.searchsorted(self.begins, starts, right=True) - 1

    def units(self, loss: float) -> dict[str, float]:
        """A loss in nats per byte in the units that are in use, by name.

        Perplexity per word is exp(loss * bytes / words) with words separated by white space: the
        same total loss, shared among fewer units. It is infinite beyond the range of floats.

        Raises:
            ValueError: the loss is not a finite number of at least 0.
        """
        finite("Text.units", "loss", loss, least=0)
        return units_of_loss(
            loss, token="byte", n_tokens=len(self), n_bytes=len(self), n_words=self.words
        )

    def record(self) -> dict[str, Any]:
        """What a record keeps of the text: plain values."""
        return {**super().record(), "files": len(self.files)}


def bits_per_byte(loss: float) -> float:
    """Bits per byte of a loss in nats per byte: the loss divided by log 2."""
    return loss / math.log(2)


class Splits(NamedTuple, Generic[AnyText]):
    """Texts of one corpus that share no file. There is no other name for any of them."""

    train: AnyText
    validation: AnyText
    test: AnyText

    def called(self, name: str) -> AnyText:
        """The split of a name.

        Raises:
            ValueError: there is none; "val" or "valid" do not fall back on anything else.
        """
        one_of("Splits", "name", name, SPLITS)
        found: AnyText = getattr(self, name)
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


def split_by_file(files: Mapping[str, bytes]) -> Splits[Text]:
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


def check_splits(splits: Splits[Text], sizes: Mapping[str, int]) -> None:
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
    for text in splits[1:]:
        check_bytes(text.name, text.counts, splits.train.counts)


def check_bytes(name: str, held_out: Int64[Tensor, "256"], train: Int64[Tensor, "256"]) -> None:
    """Check that a held-out split is in the encoding of the training text, by counts of its bytes.

    Raises:
        ValueError: it has another unigram entropy, or too many bytes that training never has.
    """
    ours, theirs = entropy(held_out), entropy(train)
    if abs(ours - theirs) > ENTROPY_GAP:
        raise ValueError(
            f"unigram entropy is {ours:.2f} bits in the {name} split and {theirs:.2f} in training; "
            f"they must differ by at most {ENTROPY_GAP}: is one of them encoded in another way?"
        )
    unseen = (held_out[train == 0].sum() / held_out.sum()).item()
    if unseen > UNSEEN:
        raise ValueError(
            f"{unseen:.1%} of the bytes of the {name} split have values that never occur in "
            f"training; it must be at most {UNSEEN:.1%}"
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


def python_library(root: Path | None = None) -> Splits[Text]:
    """The standard library's source as a corpus, split by file; about 11 MB in Python 3.11."""
    return split_by_file(python_source(root))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
