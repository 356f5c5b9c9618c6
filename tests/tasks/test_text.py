"""Text as a task: windows against slices of bytes, splits that share nothing, units of losses."""

import hashlib
import math
import re
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import stream

from lab import audit
from lab.mixers import DelayLine
from lab.model import SequenceModel
from lab.tasks import Splits, Text, TokenTask, bits_per_byte, python_library, split_by_file
from lab.tasks.text import EXCLUDED, check_splits, python_source, split_of
from lab.train import fit, score
from lab.train.identity import describe

FILES = {"a.py": b"import os\n", "b/c.py": b"", "d.py": b"x = 1\r\n\xff"}


def text():
    return Text(FILES, name="train")


@cache
def library():
    return python_library()


# --- windows -------------------------------------------------------------------------------------


def test_files_are_joined_by_a_newline_in_their_order():
    joined = b"import os\n\n\nx = 1\r\n\xff"
    assert bytes(text().data.numpy()) == joined
    assert len(text()) == len(joined)
    assert text().digest == hashlib.sha256(joined).hexdigest()
    assert text().hashes["d.py"] == hashlib.sha256(FILES["d.py"]).hexdigest()


@settings(deadline=None)
@given(
    content=st.binary(min_size=2, max_size=40), B=st.integers(0, 5), seed=st.integers(0, 2**31),
    data=st.data(),
)  # fmt: skip
def test_a_window_is_a_slice_and_its_target_the_next_byte(content, B, seed, data):
    content = b"." + content[1:]  # it might be the beginning of an array
    T = data.draw(st.integers(2, len(content)))
    inputs, targets, mask = Text({"f": content}).sample(B, T, stream(seed))
    assert inputs.shape == targets.shape == mask.shape == (B, T)
    for row, said, scored in zip(inputs.tolist(), targets.tolist(), mask.tolist(), strict=True):
        assert bytes(row) in content
        assert said[:-1] == row[1:]
        assert scored == [True] * (T - 1) + [False]


def test_every_window_is_drawn_and_equally_often():
    starts = text().starts(4000, 9, stream(0))
    counts = torch.bincount(starts)
    assert len(counts) == len(text()) - 8
    # 12 windows, each 333 times on average: 5 standard deviations.
    assert (counts - 4000 / len(counts)).abs().max() < 5 * math.sqrt(4000 / len(counts))


def test_the_file_of_a_byte_is_the_one_that_was_joined_there():
    owners = [0] * 11 + [1] + [2] * 8  # the newline after a file is its own
    assert text().file_of(torch.arange(len(text()))).tolist() == owners


def test_a_generator_alone_decides_the_examples():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = text().sample(7, 5, stream(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, first, text().sample(7, 5, stream(3))))
    assert not torch.equal(first.inputs, text().sample(7, 5, stream(4)).inputs)


@pytest.mark.parametrize("length", [1, 21])
def test_windows_that_do_not_fit_are_named(length):
    with pytest.raises(ValueError, match=f"length is {length}; it must be at least 2 and at most"):
        text().sample(1, length, stream(0))


@pytest.mark.parametrize("start", [-1, 16])
def test_offsets_outside_the_text_are_named(start):
    with pytest.raises(ValueError, match=r"Text train: starts must be in \[0, 16\)"):
        text().windows(torch.tensor([3, start]), 5)


# --- as a task -----------------------------------------------------------------------------------


def test_chance_is_the_loss_of_a_guess_and_eight_bits():
    task = text()
    assert isinstance(task, TokenTask)
    batch = task.sample(10, 6, stream(0))
    loss = task.loss(lambda tokens: torch.zeros(*tokens.shape, 256), batch)
    assert loss.item() == pytest.approx(task.chance(6))
    assert bits_per_byte(task.chance(6)) == pytest.approx(8)


def test_the_best_guess_is_the_commonest_byte():
    task = Text({"f": b"aab" * 100})
    batch = task.sample(3000, 5, stream(0))
    share = (batch.targets[batch.mask] == ord("a")).double().mean()
    assert task.chance_accuracy(5).tolist() == pytest.approx([2 / 3] * 5)
    assert share.item() == pytest.approx(2 / 3, abs=0.02)


def test_the_audit_takes_it():
    report = audit.task(text(), length=5, drawn=200)
    assert report["distinct inputs, of all"] == "16"
    assert report["bits that a state must hold"] == "nan"


def test_a_model_of_one_byte_learns_text_that_needs_one():
    task = Text({"f": b"the cat " * 50})  # only " " follows two different letters
    torch.manual_seed(0)
    model = SequenceModel(256, 256, 16, [DelayLine(16, taps=3, channels=8)])
    fit(model, task, steps=150, batch=16, length=16, lr=1e-2, seed=0)
    assert score(model, task, length=16, samples=50, seed=0).loss < 0.1 * task.chance(16)


def test_checkpoints_know_the_text_by_its_bytes():
    other = Text({**FILES, "d.py": FILES["d.py"] + b"!"}, name="train")
    assert describe(text()) == describe(text())
    assert describe(text()) != describe(other)


# --- units ---------------------------------------------------------------------------------------


def test_a_loss_has_one_number_in_each_unit():
    task = Text({"f": b"one two  three\n"})  # 15 bytes, 3 words
    units = task.units(2 * math.log(2))
    assert units["bits per byte"] == pytest.approx(2)
    assert units["perplexity per byte"] == pytest.approx(4)
    assert units["perplexity per word"] == pytest.approx(4**5)
    assert Text({"f": b"x" * 1000 + b" y"}).units(8.0)["perplexity per word"] == math.inf
    with pytest.raises(ValueError, match=r"Text\.units: loss is nan; it must be"):
        task.units(math.nan)


def test_unigram_entropy_is_that_of_the_counts():
    assert Text({"f": bytes(range(256))}).unigram_entropy == pytest.approx(8)
    assert Text({"f": b"aaab"}).unigram_entropy == pytest.approx(2 - 0.75 * math.log2(3))


# --- loading -------------------------------------------------------------------------------------


def test_an_array_of_numpy_is_not_read_as_text(tmp_path):
    np.save(tmp_path / "tokens.npy", np.arange(10, dtype=np.int32))
    saved = (tmp_path / "tokens.npy").read_bytes()
    with pytest.raises(ValueError, match=r"Text train: tokens\.npy is an array that numpy has sav"):
        Text({"tokens.npy": saved}, name="train")


@pytest.mark.parametrize("content", ["text", np.zeros(3, np.int32), bytearray(b"ab")])
def test_only_bytes_are_read(content):
    with pytest.raises(TypeError, match=rf"f is a {type(content).__name__}; it must be bytes"):
        Text({"f": content})


@pytest.mark.parametrize("files", [{}, {"f": b""}])
def test_no_text_is_refused(files):
    with pytest.raises(ValueError, match=f"Text train: {len(files)} files without a byte"):
        Text(files, name="train")


@pytest.mark.parametrize("name", ["val", "valid", "Validation", ""])
def test_a_split_has_one_name_and_no_other_falls_back_on_it(name):
    splits = library()
    assert splits.called("validation") is splits.validation
    with pytest.raises(ValueError, match=re.escape(f"Splits: name is {name!r}; it must be one of")):
        splits.called(name)


def test_source_files_are_found_by_folder(tmp_path):
    for path in ("b.py", "a/x.py", "a/test/y.py", "test.py", "idlelib/z.py", "a/data.txt", "B.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(path.encode())
    found = python_source(tmp_path)
    assert list(found) == ["B.py", "a/x.py", "b.py", "test.py"]
    assert found["a/x.py"] == b"a/x.py"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"it must be a folder with \.py files"):
        python_source(tmp_path / "empty")


# --- splits --------------------------------------------------------------------------------------


def test_a_file_is_in_the_split_that_the_hash_of_its_path_says():
    for path in ("abc.py", "ast.py", "json/decoder.py", "os.py"):
        digit = int(hashlib.sha256(path.encode()).hexdigest(), 16) % 10
        assert split_of(path) == ("test", "validation", *["train"] * 8)[digit]
    shares = [split_of(f"{number}.py") for number in range(3000)]
    assert shares.count("test") == pytest.approx(300, abs=80)
    assert shares.count("validation") == pytest.approx(300, abs=80)


def test_the_library_of_this_python_is_split_into_disjoint_parts_of_one_kind():
    files, splits = python_source(), library()
    names = [name for text in splits for name in text.files]
    assert sorted(names) == sorted(files)
    assert not any(EXCLUDED & set(name.split("/")[:-1]) for name in names)
    for text in splits:
        assert {split_of(name) for name in text.files} == {text.name}
        assert bytes(text.data.numpy()) == b"\n".join(files[name] for name in text.files)
    assert len(splits.train) > 5 * max(len(splits.validation), len(splits.test))
    assert [row["name"] for row in splits.record()["splits"]] == ["train", "validation", "test"]


def contents(**changed):
    """A corpus of three splits of Python-like text, with one of them changed."""
    body = b"def f(x): return x " * 40
    plain = {name: body[shift:] + body[:shift] for shift, name in enumerate(Splits._fields)}
    return Splits(**{n: Text({f"{n}.py": changed.get(n, plain[n])}, name=n) for n in plain})


def check(splits):
    return check_splits(splits, {f"{name}.py": 1000 for name in Splits._fields})


def test_splits_of_one_kind_pass():
    check(contents())


def test_a_file_in_two_splits_is_named():
    same = contents().train
    body = b"def f(x): return x " * 40
    copied = contents(train=body)._replace(test=Text({"copy.py": body}, name="test"))
    with pytest.raises(ValueError, match=r"copy\.py of the test split is train\.py of the train"):
        check_splits(copied, {"copy.py": 700, "train.py": 700, "validation.py": 700})
    renamed = Text({"train.py": b"def g(x): return x " * 40}, name="test")
    with pytest.raises(ValueError, match=r"train\.py of the test split is train\.py of the train"):
        check(contents()._replace(train=same, test=renamed))
    check_splits(copied, {"copy.py": 38, "train.py": 38, "validation.py": 700})


def test_numbers_of_another_type_are_no_split_of_the_same_text():
    wide = np.frombuffer(b"def f(x): return x " * 40, np.uint8).astype(np.int32).tobytes()
    with pytest.raises(ValueError, match=r"unigram entropy is .* in the validation split and"):
        check(contents(validation=wide))


def test_bytes_that_training_never_has_are_named():
    with pytest.raises(ValueError, match=r"% of the bytes of the test split have values that"):
        check(contents(test=b"DEF f(x): return x " * 40))


def test_a_split_without_files_is_named():
    with pytest.raises(ValueError, match="Text validation: 0 files without a byte"):
        split_by_file({"os.py": b"import sys"})
