"""WikiText-103 as tokens of a byte-pair encoding, read through `datasets`, which is an extra.

Encoded splits are kept in a private folder: numbers and JSON, of which nothing is unpickled. What
`datasets` downloads and converts lies in its own cache.
"""

import hashlib
import io
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs
import torch
from jaxtyping import Int64
from torch import Tensor

from lab.arguments import refuse
from lab.files import write_bytes, write_text
from lab.progress import Progress
from lab.tasks.byte_pairs import BytePairs
from lab.tasks.text import BYTES, SPLITS, Splits, check_bytes
from lab.tasks.token_text import TokenText

REPOSITORY, NAME = "Salesforce/wikitext", "wikitext-103-raw-v1"
REVISION = "b08601e04326c79dfdd32d625aee71d232d685c3"
LINES = {"train": 1_801_350, "validation": 3_760, "test": 4_358}
_FORMAT = 1  # of the kept files; raised when what is written into them changes
_RECORD = "record.json"  # written last: a folder without it is not finished
_OWNER_ONLY = 0o700
_MISSING = "WikiText needs datasets and tokenizers: pip install -c constraints.txt -e '.[text]'"

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def wikitext(
    files: Mapping[str, Paths] | None = None,
    *,
    vocabulary: int = 16_384,
    cache: str | os.PathLike[str] | None = None,
) -> Splits[TokenText]:
    """WikiText-103 raw, or files in its format, as tokens of an encoding learned from training.

    The encoding and the tokens are made once and kept. A word is what stands between white space,
    and every line's end is one more, as in the published word-level perplexities: their counts are
    103,227,021 in training, 217,646 in validation and 245,569 in the test.

    Args:
        files: of the splits "train", "validation" and "test", by these names: text, or Parquet with
            a column "text". None for the published files, which are then downloaded, 310 MB.
        vocabulary: V, number of tokens, above 256.
        cache: folder of what is kept; one in the user's cache folder if None. It must belong to
            this user, and nobody else may write to it.

    Returns:
        The splits. Their `units` tell losses in bits per byte and as perplexity per word.

    Raises:
        ImportError: the packages of the extra `text` are not installed.
        ValueError: a split is missing or called otherwise, two are the same, one is not in the
            encoding of the training text, a published split has another number of lines, the
            training text is too short for V tokens, or what was kept is damaged.
        PermissionError: others can write to the cache.
        OSError: a file cannot be read, or the published files cannot be downloaded.

    Source: Merity et al. 2017, Pointer sentinel mixture models.
    """
    source = _source(files)
    settings = {"format": _FORMAT, "source": source, "vocabulary": vocabulary}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    folder = _private(cache) / f"wikitext-{key}"
    if not (folder / _RECORD).exists():
        folder.mkdir(_OWNER_ONLY, exist_ok=True)
        _keep(folder, _loaded(files), vocabulary, settings)
    return _kept(folder)


# --- reading -------------------------------------------------------------------------------------


def _source(files: Mapping[str, Paths] | None) -> Any:
    """What tells one source from another: JSON values."""
    if files is None:
        return [REPOSITORY, NAME, REVISION]
    _check_names("files", files)
    return {name: [_digest_of(path) for path in _paths(files[name])] for name in SPLITS}


def _paths(given: Paths) -> list[Path]:
    several = [given] if isinstance(given, str | os.PathLike) else given
    return [Path(each) for each in several]


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_names(what: str, names: Iterable[str]) -> None:
    """A split under another name is not taken for one of these, and nothing stands in for it."""
    if sorted(names) != sorted(SPLITS):
        refuse("wikitext", what, sorted(names), f"the splits {', '.join(SPLITS)}, and no others")


def _loaded(files: Mapping[str, Paths] | None) -> Mapping[str, Any]:
    """A `datasets.Dataset` for each split, with a row for each line."""
    try:
        import datasets
        import tokenizers  # noqa: F401  known to be missing before anything is downloaded
    except ImportError:
        raise ImportError(_MISSING) from None
    if files is None:
        found = datasets.load_dataset(REPOSITORY, NAME, revision=REVISION)
    else:
        paths = {name: [str(path) for path in _paths(files[name])] for name in SPLITS}
        kind, settings = _kind([each for some in paths.values() for each in some])
        found = datasets.load_dataset(kind, data_files=paths, **settings)
    _check_names("what was loaded", found)
    for name in SPLITS if files is None else ():
        if len(found[name]) != LINES[name]:
            expected = f"{LINES[name]} as published"
            refuse("wikitext", f"number of lines of {name}", len(found[name]), expected)
    splits: Mapping[str, Any] = found
    return splits


def _kind(paths: Sequence[str]) -> tuple[str, dict[str, bool]]:
    """What `datasets` calls files of this kind, and how it is to read them."""
    are_parquet = {path.endswith(".parquet") for path in paths}
    if len(are_parquet) > 1:
        refuse("wikitext", "files", list(paths), "all Parquet or all text")
    return ("parquet", {}) if are_parquet == {True} else ("text", {"keep_linebreaks": True})


def _lines(rows: Any, shown: Progress) -> Iterator[str]:
    """The lines of a split, each with its end, as in the published text files.

    In the published Parquet files a line without words is an empty row.
    """
    for batch in rows.iter(batch_size=1000):
        for row in batch["text"]:
            yield row if row.endswith("\n") else f"{row or ' '}\n"
        shown.advance(len(batch["text"]))


# --- measuring -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Extent:
    """How long the text of a split is, whatever its tokens are."""

    sha256: str
    n_bytes: int
    n_lines: int
    n_words: int


class _Measured(NamedTuple):
    extent: _Extent
    counts: Int64[Tensor, "256"]


def _measured(lines: Iterable[str]) -> _Measured:
    """The extent of a text, and how often each byte occurs."""
    digest, counts, n_lines, n_words = hashlib.sha256(), np.zeros(BYTES, np.int64), 0, 0
    for line in lines:
        content = line.encode()
        digest.update(content)
        counts += np.bincount(np.frombuffer(content, np.uint8), minlength=BYTES)
        n_lines, n_words = n_lines + 1, n_words + len(line.split()) + 1
    extent = _Extent(digest.hexdigest(), int(counts.sum()), n_lines, n_words)
    return _Measured(extent, torch.from_numpy(counts))


def _check(measured: Mapping[str, _Measured]) -> None:
    """Check that the splits are different texts in one encoding."""
    for name, (extent, counts) in measured.items():
        same = [each for each in SPLITS if measured[each].extent.sha256 == extent.sha256]
        if same != [name]:
            raise ValueError(f"wikitext: the splits {' and '.join(same)} are the same text")
        check_bytes(name, counts, measured["train"].counts)


# --- keeping -------------------------------------------------------------------------------------


def _private(cache: str | os.PathLike[str] | None) -> Path:
    """The folder of all that is kept, made if there is none."""
    chosen = Path(cache) if cache else platformdirs.user_cache_path("sequence-lab", False)
    chosen.mkdir(_OWNER_ONLY, parents=True, exist_ok=True)
    found = chosen.stat()
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    # On Windows modes say nothing, and the user's own folders are closed.
    if hasattr(os, "geteuid") and (others_write or found.st_uid != os.geteuid()):
        raise PermissionError(f"wikitext: others can write to {chosen}: name a folder of your own")
    return chosen


def _keep(folder: Path, rows: Mapping[str, Any], vocabulary: int, settings: Any) -> None:
    """Encode all splits and write them; the record comes last."""
    # Every line is read to be measured and to be encoded, and those of training to learn from.
    steps = 2 * sum(map(len, rows.values())) + len(rows["train"])
    with Progress("encoding WikiText", steps, unit="lines") as shown:
        lines = {name: partial(_lines, rows[name], shown) for name in SPLITS}
        measured = {name: _measured(lines[name]()) for name in SPLITS}
        _check(measured)
        encoding = BytePairs.trained(lines["train"](), vocabulary=vocabulary)
        write_text(folder / "tokenizer.json", encoding.text)
        digests = {}
        for name in SPLITS:
            tokens = encoding.encode(lines[name]())
            extent = measured[name].extent
            digests[name] = _text(tokens, encoding, asdict(extent), name).digest
            buffer = io.BytesIO()
            np.save(buffer, tokens, allow_pickle=False)
            write_bytes(folder / f"{name}.npy", buffer.getvalue())
    splits = {name: {**asdict(measured[name].extent), "tokens": digests[name]} for name in SPLITS}
    write_text(folder / _RECORD, json.dumps({**settings, "splits": splits}, indent=1))


def _kept(folder: Path) -> Splits[TokenText]:
    """The splits in a folder, each held to its record."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))["splits"]
        encoding = BytePairs((folder / "tokenizer.json").read_text(encoding="utf-8"))
        texts = {}
        for name in SPLITS:
            # Read by numpy, and not as bare numbers: the header would become tokens.
            tokens = np.load(folder / f"{name}.npy", allow_pickle=False)
            texts[name] = _text(tokens, encoding, record[name], name)
            if texts[name].digest != record[name]["tokens"]:
                raise ValueError(f"the tokens of {name} are not those of its record")
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OSError) as error:
        raise ValueError(f"{folder} is damaged ({error}): delete it to make it again") from None
    return Splits(**texts)


def _text(tokens: Any, encoding: BytePairs, extent: Mapping[str, Any], name: str) -> TokenText:
    """A split that has as many bytes as the text that was encoded."""
    text = TokenText(tokens, encoding.pieces, n_words=extent["n_words"], name=name)
    if text.n_bytes != extent["n_bytes"]:
        found = f"{text.n_bytes} bytes as tokens and {extent['n_bytes']} as text"
        raise ValueError(f"wikitext: {name} has {found}")
    return text
