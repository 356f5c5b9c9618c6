"""Text of tokens against the bytes that they stand for."""

import math

import numpy as np
import pytest
import torch
from numeric import stream

from lab import audit
from lab.mixers import DelayLine
from lab.model import SequenceModel
from lab.tasks import TokenTask
from lab.tasks.token_text import TokenText
from lab.train import fit, score
from lab.train.identity import describe

PIECES = [b"a", b"b", b" ", b"the", b"\xc3", b"\xa9"]


def text(tokens=(3, 2, 0, 2, 4, 5), n_words=3, name="train"):
    return TokenText(np.array(tokens), PIECES, n_words=n_words, name=name)


def test_tokens_stand_for_bytes():
    found = text()
    assert (len(found), found.n_bytes, found.vocabulary, found.classes) == (6, 8, 6, 6)
    assert found.decode(found.data) == "the a é".encode()
    assert found.decode([4]) == b"\xc3"
    assert found.decode(torch.tensor([3, 1])) == b"theb"
    assert found.counts.tolist() == [1, 0, 2, 1, 1, 1]
    with pytest.raises(IndexError):
        found.decode([6])


def test_windows_are_slices_of_tokens():
    task = text(list(range(6)) * 5)
    assert isinstance(task, TokenTask)
    inputs, targets, mask = task.sample(40, 4, stream(0))
    assert torch.equal(targets[:, :-1], (inputs[:, :-1] + 1) % 6)
    assert mask.tolist() == [[True, True, True, False]] * 40
    assert task.chance(4) == pytest.approx(math.log(6))
    assert audit.task(task, length=4, drawn=50)["distinct inputs, of all"] == "27"


def test_a_loss_has_one_number_in_each_unit():
    units = text().units(2 * math.log(2))  # 6 tokens of 2 bits for 8 bytes and 3 words
    assert units["nats per token"] == pytest.approx(2 * math.log(2))
    assert units["bits per byte"] == pytest.approx(12 / 8)
    assert units["perplexity per token"] == pytest.approx(4)
    assert units["perplexity per word"] == pytest.approx(4**2)
    assert text(n_words=0).units(1.0)["perplexity per word"] == math.inf
    assert text().units(2000.0)["perplexity per token"] == math.inf
    with pytest.raises(ValueError, match=r"TokenText\.units: loss is nan; it must be"):
        text().units(math.nan)


def test_a_model_learns_it():
    task = text([3, 2, 0, 2, 1, 2] * 50)
    torch.manual_seed(0)
    model = SequenceModel(6, 6, 16, [DelayLine(16, taps=3, channels=8)])
    fit(model, task, steps=150, batch=16, length=16, lr=1e-2, seed=0)
    assert score(model, task, length=16, samples=50, seed=0).loss < 0.1 * task.chance(16)


def test_a_text_is_known_by_its_tokens_and_what_they_stand_for():
    others = [
        text([3, 2, 0, 2, 4, 4]),
        TokenText(np.array([3, 2, 0, 2, 4, 5]), [b"A", *PIECES[1:]], n_words=3, name="train"),
        text(name="test"),
    ]
    wide = TokenText(np.array([3, 2, 0, 2, 4, 5], np.uint16), PIECES, n_words=3, name="train")
    assert describe(text()) == describe(wide)
    assert all(describe(other) != describe(text()) for other in others)


def test_a_record_says_how_large_it_is():
    entropy = (4 * math.log2(6) + 2 * math.log2(3)) / 6
    assert text().record() == {
        "name": "train", "tokens": 6, "sha256": text().digest, "vocabulary": 6, "bytes": 8,
        "words": 3, "unigram entropy, bits": pytest.approx(entropy),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        ([0, 6], r"TokenText train: tokens are from 0 to 6; they must be in \[0, 6\)"),
        ([-1, 2], "tokens are from -1 to 2"),
        ([0.0, 1.0], r"tokens are float64 \(2,\); they must be whole numbers in one axis"),
        ([[0, 1]], r"tokens are int64 \(1, 2\)"),
        ([], r"tokens are float64 \(0,\)"),
    ],
)
def test_what_is_no_text_of_tokens_is_named(tokens, sentence):
    with pytest.raises(ValueError, match=sentence):
        text(tokens)


def test_a_saved_array_read_as_bare_numbers_is_refused(tmp_path):
    np.save(tmp_path / "train.npy", np.array([3, 2, 0], np.int32))
    bare = np.fromfile(tmp_path / "train.npy", np.int32)
    assert len(bare) == 3 + 32  # the header has become 32 tokens
    with pytest.raises(ValueError, match=r"they must be in \[0, 6\)"):
        text(bare)
