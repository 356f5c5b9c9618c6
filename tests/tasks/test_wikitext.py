"""The path to WikiText-103, on small files in its format: nothing is lost or mistaken."""

import json
import math
import os
import pickle
import random
import sys

import datasets
import numpy as np
import pyarrow.parquet
import pytest
import torch
from numeric import stream

from lab.tasks import Splits, wikitext
from lab.tasks.byte_pairs import BytePairs

WORDS = ["the", "cat", "of", "a", "sat", "on", "mat", "saw", "é", "1", "@-@", "2", ",", "year"]
V = 280


def article(draw, title):
    body = "".join(f" {' '.join(draw.choices(WORDS, k=30))} . \n" for _ in range(4))
    return f" \n = {title} = \n \n{body} \n = = History = = \n \n{body}"


def raw(seed):
    """Articles as in wiki.train.raw: headings between = signs, a blank before and after a line."""
    draw = random.Random(seed)
    return "".join(article(draw, " ".join(draw.choices(WORDS, k=3))) for _ in range(15)) + " \n"


TEXTS = {"train": raw(0), "validation": raw(1), "test": raw(2)}


def published(text):
    """Rows of the published Parquet files, where a line without words is empty."""
    return [line if line.strip() else "" for line in text.splitlines(keepends=True)]


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "arrow")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


@pytest.fixture
def write(tmp_path):
    """Writes splits as text or Parquet; gives their paths."""

    def make(texts=TEXTS, kind="raw"):
        paths = {}
        for name, text in texts.items():
            paths[name] = tmp_path / f"wiki.{name}.{kind}"
            if kind == "raw":
                paths[name].write_bytes(text.encode())
            else:
                table = pyarrow.table({"text": published(text)})
                pyarrow.parquet.write_table(table, paths[name])
        return paths

    return make


def load(paths, tmp_path, **settings):
    return wikitext.wikitext(paths, **{"vocabulary": V, "cache": tmp_path / "kept", **settings})


@pytest.mark.parametrize("kind", ["raw", "parquet"])
def test_the_tokens_of_each_split_are_its_bytes(write, tmp_path, kind):
    splits = load(write(kind=kind), tmp_path)
    assert isinstance(splits, Splits)
    for name, text in TEXTS.items():
        split = splits.called(name)
        assert (split.name, split.vocabulary) == (name, V)
        assert split.decode(split.data) == text.encode()
        assert split.n_bytes == len(text.encode())
        # Words between white space, and the end of every line.
        assert split.n_words == len(text.split()) + text.count("\n")
        assert len(split) < 0.8 * split.n_bytes


def test_the_encoding_is_learned_from_training_alone(write, tmp_path):
    splits = load(write(), tmp_path)
    expected = BytePairs.trained(TEXTS["train"].splitlines(keepends=True), vocabulary=V)
    for split in splits:
        assert split.pieces == expected.pieces


def test_a_file_may_come_in_parts(write, tmp_path):
    whole = load(write(kind="parquet"), tmp_path)
    lines = TEXTS["train"].splitlines(keepends=True)
    paths = write({**TEXTS, "train": "".join(lines[:50]), "rest": "".join(lines[50:])}, "parquet")
    rest = paths.pop("rest")
    parts = load({**paths, "train": [paths["train"], str(rest)]}, tmp_path)
    assert parts.train.digest == whole.train.digest


def test_losses_are_told_per_byte_and_per_word(write, tmp_path):
    split = load(write(), tmp_path).test
    batch = split.sample(4, 16, stream(0))
    loss = split.loss(lambda tokens: torch.zeros(*tokens.shape, V), batch).item()
    units = split.units(loss)
    assert loss == pytest.approx(math.log(V))
    total = len(split) * math.log2(V)
    assert units["bits per byte"] == pytest.approx(total / len(TEXTS["test"].encode()))
    words = len(TEXTS["test"].split()) + TEXTS["test"].count("\n")
    assert math.log2(units["perplexity per word"]) == pytest.approx(total / words)


# --- what is kept --------------------------------------------------------------------------------


def test_what_is_kept_is_read_without_loading_anything(write, tmp_path, monkeypatch):
    paths = write()
    first = load(paths, tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    again = load(paths, tmp_path)
    assert [split.digest for split in again] == [split.digest for split in first]
    with pytest.raises(ImportError, match=r"WikiText needs .*pip install .* -e '\.\[text\]'"):
        load(paths, tmp_path, vocabulary=V + 1)  # another encoding was not kept
    paths["test"].write_bytes(TEXTS["validation"].encode())
    with pytest.raises(ImportError):
        load(paths, tmp_path)  # nor were other files


def test_it_is_kept_where_nobody_else_reads_or_writes(write, tmp_path):
    load(write(), tmp_path)
    wikitext.wikitext(write(), vocabulary=V)
    for kept in (tmp_path / "kept", tmp_path / "cache" / "sequence-lab"):
        assert kept.stat().st_mode & 0o777 == 0o700
        (folder,) = kept.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        names = ["record.json", "test.npy", "tokenizer.json", "train.npy", "validation.npy"]
        assert sorted(path.name for path in folder.iterdir()) == names


def test_a_folder_that_others_write_to_is_refused(write, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(
        PermissionError, match=r"wikitext: others can write to .*open: name a folder"
    ):
        load(write(), tmp_path, cache=tmp_path / "open")


def test_an_unfinished_folder_is_made_again(write, tmp_path):
    paths = write()
    first = load(paths, tmp_path)
    (folder,) = (tmp_path / "kept").iterdir()
    (folder / "record.json").unlink()
    (folder / "train.npy").write_bytes(b"cut sho")
    assert load(paths, tmp_path).train.digest == first.train.digest


class Harmful:
    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return os.mkdir, (str(self.made),)


def test_nothing_that_is_kept_is_unpickled(write, tmp_path):
    paths, made = write(), tmp_path / "made"
    load(paths, tmp_path)
    (folder,) = (tmp_path / "kept").iterdir()
    for content in (np.array([Harmful(made)], object), None):
        with (folder / "test.npy").open("wb") as file:
            if content is None:
                pickle.dump(Harmful(made), file)
            else:
                np.save(file, content, allow_pickle=True)
        with pytest.raises(
            ValueError, match=r"is damaged \(.*pickle.*\): delete it to make it again"
        ):
            load(paths, tmp_path)
        assert not made.exists()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("train.npy", lambda content: content[:-4]),
        ("train.npy", lambda content: content[:-4] + b"\1\0\0\0"),
        ("validation.npy", lambda content: b""),
        ("test.npy", lambda content: content[-400:]),
        ("tokenizer.json", lambda content: content.replace(b'"e":', b'"\\u00fe":', 1)),
        ("tokenizer.json", lambda content: b"{}"),
        ("record.json", lambda content: b"[]"),
        ("record.json", lambda content: content.replace(b'"n_bytes": ', b'"n_bytes": 1')),
    ],
)
def test_damage_is_found(write, tmp_path, name, change):
    paths = write()
    load(paths, tmp_path)
    (folder,) = (tmp_path / "kept").iterdir()
    content = (folder / name).read_bytes()
    assert change(content) != content
    (folder / name).write_bytes(change(content))
    with pytest.raises(ValueError, match=r"is damaged \(.*\): delete it to make it again"):
        load(paths, tmp_path)


# --- splits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["val", "valid", "Validation"])
def test_a_split_has_one_name_and_no_other_falls_back_on_it(write, tmp_path, wrong):
    paths = write()
    named = {**paths, wrong: paths["validation"]}
    with pytest.raises(
        ValueError, match=f"files is .*{wrong}.*; it must be the splits train, valida"
    ):
        load(named, tmp_path)
    del named["validation"]
    with pytest.raises(
        ValueError, match=f"files is .*{wrong}.*; it must be the splits train, valida"
    ):
        load(named, tmp_path)


def test_two_splits_with_the_same_text_are_named(write, tmp_path):
    with pytest.raises(ValueError, match="the splits validation and test are the same text"):
        load(write({**TEXTS, "test": TEXTS["validation"]}), tmp_path)


def test_a_split_in_another_encoding_is_named(write, tmp_path):
    with pytest.raises(
        ValueError, match="bytes of the validation split have values that never occ"
    ):
        load(write({**TEXTS, "validation": raw(1).upper()}), tmp_path)
    spread = " ".join(raw(2).replace(" ", "")).replace(" \n ", " \n ")
    with pytest.raises(ValueError, match=r"unigram entropy is .* bits in the test split and"):
        load(write({**TEXTS, "test": spread}), tmp_path)
    assert not list((tmp_path / "kept").rglob("record.json"))


def test_text_beside_parquet_is_refused(write, tmp_path):
    paths = {**write(), "test": write(kind="parquet")["test"]}
    with pytest.raises(ValueError, match=r"files is .*; it must be all Parquet or all text"):
        load(paths, tmp_path)


def test_a_file_that_is_not_there_is_named(write, tmp_path):
    paths = write()
    paths["test"].unlink()
    with pytest.raises(FileNotFoundError, match=r"wiki\.test\.raw"):
        load(paths, tmp_path)


# --- the published files -------------------------------------------------------------------------


@pytest.fixture
def hub(write, monkeypatch):
    """What `load_dataset` gives, and the calls of it; nothing is downloaded."""
    paths = {name: str(path) for name, path in write(kind="parquet").items()}
    splits, calls = dict(datasets.load_dataset("parquet", data_files=paths)), []

    def load_dataset(*args, **settings):
        calls.append((args, settings))
        return datasets.DatasetDict(splits)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    lines = {name: len(published(text)) for name, text in TEXTS.items()}
    monkeypatch.setattr(wikitext, "LINES", lines)
    return splits, calls


def test_the_published_files_are_asked_for_at_one_revision(hub, tmp_path):
    _, calls = hub
    splits = load(None, tmp_path)
    ((args, settings),) = calls
    assert args == ("Salesforce/wikitext", "wikitext-103-raw-v1")
    assert settings == {"revision": wikitext.REVISION}
    assert len(wikitext.REVISION) == 40
    assert splits.test.decode(splits.test.data) == TEXTS["test"].encode()
    record = json.loads(next((tmp_path / "kept").rglob("record.json")).read_text())
    assert record["source"] == [*args, wikitext.REVISION]
    assert [row["words"] for row in splits.record()["splits"]] == [s.n_words for s in splits]


def test_published_files_that_are_cut_short_are_named(hub, tmp_path, monkeypatch):
    monkeypatch.setitem(wikitext.LINES, "test", 4358)
    with pytest.raises(
        ValueError, match=r"number of lines of test is .*; it must be 4358 as publis"
    ):
        load(None, tmp_path)


@pytest.mark.parametrize("rename", [None, "val"])
def test_a_published_split_that_is_missing_is_named(hub, tmp_path, rename):
    splits, _ = hub
    rows = splits.pop("validation")
    if rename:
        splits[rename] = rows
    with pytest.raises(
        ValueError, match=r"what was loaded is .*; it must be the splits train, valid"
    ):
        load(None, tmp_path)
