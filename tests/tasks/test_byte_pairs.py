"""Byte pairs lose no byte, and are learned as the definition says."""

import json
import sys
from functools import cache, partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.tasks.byte_pairs import BytePairs

LINES = ["low lower lowest \n", "new newer newest \n", " \n", "wider é wide\n"] * 5


@cache
def trained(vocabulary=270):
    return BytePairs.trained(LINES, vocabulary=vocabulary)


def text_of(encoding, tokens):
    return b"".join(encoding.pieces[token] for token in tokens)


def test_every_byte_is_a_token_and_a_merge_joins_two():
    pieces = trained().pieces
    assert len(pieces) == 270
    assert sorted(pieces[:256]) == [bytes([byte]) for byte in range(256)]
    assert all(
        any(p[:k] in pieces and p[k:] in pieces for k in range(1, len(p))) for p in pieces[256:]
    )
    # In lower, lowest, newer and newest; no other pair is in four words.
    assert pieces[256] == b"we"


@settings(deadline=None)
@given(lines=st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=5))
def test_no_byte_is_lost(lines):
    encoding = trained()
    tokens = encoding.encode(lines)
    assert tokens.dtype == "int32"
    assert text_of(encoding, tokens) == "".join(lines).encode()


def test_frequent_words_take_few_tokens_and_lines_are_encoded_apart():
    encoding = trained()
    assert len(encoding.encode(LINES)) < 0.7 * sum(len(line.encode()) for line in LINES)
    each = [token for line in LINES for token in encoding.encode([line])]
    assert encoding.encode(LINES).tolist() == each
    many = LINES * 120  # more than are encoded at once
    assert encoding.encode(many).tolist() == each * 120


def test_an_encoding_is_its_text():
    encoding, again = trained(), BytePairs.trained(LINES, vocabulary=270)
    assert encoding.text == again.text
    read = BytePairs(encoding.text)
    assert read.pieces == encoding.pieces
    assert read.encode(LINES).tolist() == encoding.encode(LINES).tolist()


def test_more_tokens_than_a_text_has_merges_for_are_refused():
    with pytest.raises(
        ValueError, match=r"vocabulary is 5000; it must be at most \d+, all that the"
    ):
        trained(5000)
    with pytest.raises(ValueError, match="vocabulary is 256; it must be at least 257"):
        trained(256)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", json.dumps({"model": {"vocab": {"\u4e00": 0}}}),
     json.dumps({"model": {"vocab": {"a": 0, "b": 2}}}), json.dumps({"model": {"vocab": ["a"]}})],
)  # fmt: skip
def test_what_is_no_encoding_is_refused(text):
    with pytest.raises(ValueError, match=r"BytePairs: text is .*; it must be the JSON of a"):
        BytePairs(text)


def test_without_the_package_the_remedy_is_named(monkeypatch):
    encoding = trained()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    train = partial(BytePairs.trained, LINES, vocabulary=270)
    for call in (train, lambda: encoding.encode(["a"])):
        with pytest.raises(ImportError, match=r"pip install -c constraints\.txt -e '\.\[text\]'"):
            call()
