"""Figures of generated text against counts by hand and slices of bytes."""

import math
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numeric import stream

from lab.tasks.ngrams import NGrams
from lab.tasks.text import python_source
from lab.tasks.text_quality import compiled_share, cycle_length, distinct, seen_share

few_letters = st.lists(st.sampled_from(b"ab\xff"), max_size=30).map(bytes)
some_samples = st.lists(few_letters, min_size=1, max_size=4)

# --- lines that compile --------------------------------------------------------------------------

PYTHON = [
    "x = 1", "return x", "yield", "break", "    pass", "\tx += 1  # more", 'r"\\d"', '"\\d"',
    "if x:", "for i in y:  # all", "def f(self, *, a=1) -> int:", "class A(B):", "with a as b:",
    "if x: return", "@property", "@a.b(c)", "else:", "elif x > 1:", "elif x: y = 2", "else: y()",
    "except ValueError:", "except: pass", "finally:", "try:", "async def f():", "x\r",
]  # fmt: skip
NOT_PYTHON = [
    "x = ", "if x", "x = (", "a b", "= = =", "'unfinished", '"""', "for i in:", "def f(:", "elif:",
    ")", "x = 1 \\", "@", "finally", "the quick brown fox", "x\0", "-" * 5000 + ">", "(" * 300,
]  # fmt: skip


@pytest.mark.parametrize("line", PYTHON)
def test_statements_and_heads_of_blocks_compile(line):
    assert compiled_share([f"{line}\n".encode()]) == 1


@pytest.mark.parametrize("line", NOT_PYTHON)
def test_what_no_program_holds_does_not(line):
    assert compiled_share([f"{line}\n".encode()]) == 0


def test_the_share_is_that_of_whole_lines_that_are_no_comments():
    # Counted: x = 1, y =, if z:, and in the second sample a b.
    samples = [b"x = 1\n\n# any thing\n  y =\n    # x =\nif z:\nretu", b"a b\n)"]
    assert compiled_share(samples) == pytest.approx(2 / 4)
    assert compiled_share([b"x = 1", b"= = ="]) == pytest.approx(1 / 2)


def test_nothing_is_executed(tmp_path):
    made = tmp_path / "made"
    assert compiled_share([f"open({str(made)!r}, 'w')\nraise SystemExit\n".encode()]) == 1
    assert not made.exists()


def test_bytes_that_are_no_text_are_no_python():
    assert compiled_share([b"x = '\xff'\n", b"# -*- coding: latin-1 -*-\nx = '\xff'\n"]) == 0


def test_most_lines_of_the_library_compile_and_few_of_shuffled_ones():
    source = python_source()["heapq.py"]
    letters = torch.randperm(len(source), generator=stream(0)).tolist()
    shuffled = bytes(source[place] for place in letters)
    assert compiled_share([shuffled]) < 0.2 < 0.5 < compiled_share([source]) < 1


@pytest.mark.parametrize("samples", [[], [b""], [b"\n \n# only\n"]])
def test_a_share_of_no_lines_is_refused(samples):
    with pytest.raises(ValueError, match=r"compiled_share: samples is .* with a line that is no"):
        compiled_share(samples)


# --- n-grams -------------------------------------------------------------------------------------


def slices(samples, n):
    return [s[i : i + n] for s in samples for i in range(len(s) - n + 1)]


def test_shares_of_n_grams_by_hand():
    # abcd occurs, bcde does not; and there is no cdXX across two samples.
    assert seen_share([b"abcde", b"abcd"], b"xabcdx") == pytest.approx(2 / 3)
    assert seen_share([b"ab", b"b"], b"ba", order=1) == 1
    assert seen_share([b"zzzzz"], b"abcde") == 0
    assert seen_share([b"abcde", b"abcd"], NGrams(b"xabcdx", order=5)) == pytest.approx(2 / 3)
    assert distinct([b"aaaaa"]) == pytest.approx(1 / 2)
    assert distinct([b"abcab", b"abc"], order=2) == pytest.approx(3 / 6)  # ab bc ca ab, ab bc


@settings(deadline=None)
@given(samples=some_samples, train=few_letters, n=st.integers(1, 7))
def test_shares_are_those_of_slices(samples, train, n):
    grams = slices(samples, n)
    if grams:
        assert distinct(samples, order=n) == pytest.approx(len(set(grams)) / len(grams))
    if grams and len(train) >= n:
        known = set(slices([train], n))
        share = sum(gram in known for gram in grams) / len(grams)
        assert seen_share(samples, train, order=n) == pytest.approx(share)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: distinct([b"abc"]), "distinct: samples is .* text of at least 4 bytes"),
        (
            lambda: seen_share([b"abcd"], NGrams(b"abcd", order=3)),
            "order is 4; it must be at most 3",
        ),
        (lambda: seen_share([b"abcd"], b"abc"), "seen_share: samples is .*abc.* at least 4 bytes"),
        (lambda: distinct([b"abc"], order=0), "distinct: order is 0; it must be at least 1"),
        (lambda: distinct([b"abcdefgh"], order=8), "distinct: order is 8; it must be at most 7"),
        (lambda: seen_share([b"abcd"], b"abcd", order=2.0), "order is 2.0; it must be a whole"),
    ],
)
def test_n_grams_that_do_not_exist_are_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.parametrize("samples", [b"abcd", ["abcd"], [b"abcd", bytearray(b"abcd")]])
def test_samples_are_a_list_of_bytes(samples):
    for function in (compiled_share, distinct):
        with pytest.raises(TypeError, match=f"{function.__name__}: samples must be a list of byt"):
            function(samples)


# --- cycles --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "period"),
    [
        (b"= = = = = = ", 2),
        (b"import =======", 1),
        (b"anything xyzxyzxyzxyz", 3),
        (b"abcdabcd", None),  # the second half shows one period
        (b"abcdabcdabcdabcd", 4),
        (b"the quick brown fox jumps", None),
        (b"aaaaaaab", None),
        (b"", None),
        (b"a", None),
    ],
)
def test_cycles_by_hand(text, period):
    assert cycle_length(text) == period
    assert cycle_length(torch.tensor(list(text), dtype=torch.int64)) == period
    assert cycle_length(list(text)) == period


def test_the_greedy_text_of_a_map_of_tokens_ends_in_its_cycle():
    V = 50
    for seed in range(20):
        follows = torch.randint(V, (V,), generator=stream(seed)).tolist()
        said = [0]
        while len(said) < 4 * V:  # a cycle is entered within V tokens
            said.append(follows[said[-1]])
        first = said.index(said[-1])  # the last token occurred one period before, or more
        periods = len(said) - 1 - first
        found = cycle_length(said)
        assert math.gcd(found, periods) == found
        assert len(set(said[-found:])) == found


def test_the_parser_of_this_python_is_used():
    line = b"type X = int\n"
    assert compiled_share([line]) == (sys.version_info >= (3, 12))
