"""What a parameters file may say, and the one sentence for everything else."""

import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from notebook_cases import BOMB
from papermill.iorw import NoDatesSafeLoader

from lab.params.plain_yaml import DEEPEST, LONGEST, PlainError, load, load_map

# A thousand merges, each of two maps.
MERGES = "a: &a {x: 1}\n" + "".join(f"b{i}: {{<<: [*a, *a]}}\n" for i in range(1000))


def refusal(text):
    with pytest.raises(PlainError) as error:
        load_map(text, "p.yaml")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
    return str(error.value)


def test_plain_values_come_back_as_they_stand():
    text = """\
\ufeff# a comment
experiment: "010"
lengths: [1, -2, +3, 0]
rates: [1.0e-3, .5, -2., 010.5]
arms: [a b, "yes", '1:30', 2020-01-01, 1e-3]
on_it: true
nothing: ~
inner: {a: [{b: 1}]}
"""
    assert load_map(text, "p.yaml") == {
        "experiment": "010",
        "lengths": [1, -2, 3, 0],
        "rates": [0.001, 0.5, -2.0, 10.5],
        "arms": ["a b", "yes", "1:30", "2020-01-01", "1e-3"],
        "on_it": True,
        "nothing": None,
        "inner": {"a": [{"b": 1}]},
    }


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),  # YAML can write no half of a pair
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner),
    max_leaves=6,
)  # fmt: skip


def depth(value):
    inner = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(map(depth, inner), default=0) if isinstance(inner, list) else 0


@settings(deadline=None)
@given(plain)
def test_what_papermill_would_read_of_plain_values_is_what_is_read(value):
    # In ASCII: pyyaml's dumper loses some line breaks, such as U+0085, where it writes them raw.
    text = yaml.safe_dump(value)
    # It dumps what occurs twice once, with an anchor.
    if depth(value) <= DEEPEST and "&id" not in text:
        assert load(text, "p.yaml") == value == yaml.load(text, Loader=NoDatesSafeLoader)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: 2\na: 3\n", "p.yaml, line 3: a was given before, on line 1: keep one"),
        ("a: {b: 1, b: 2}", "p.yaml, line 1: b was given before, on line 1: keep one"),
        ("a: 010", "p.yaml, line 1: YAML 1.1 reads 010 as 8: "),
        ("a:\n- 1:30", "p.yaml, line 2: YAML 1.1 reads 1:30 as 90: "),
        ("a: 1:30.5", "p.yaml, line 1: YAML 1.1 reads 1:30.5 as 90.5: "),
        ("a: 0x10", "YAML 1.1 reads 0x10 as 16: "),
        ("a: 0b_", "YAML 1.1 reads 0b_ as a number: "),
        ("a: 1_000", "YAML 1.1 reads 1_000 as 1000: "),
        ("a: .nan", "YAML 1.1 reads .nan as nan: "),
        ("a: -.inf", "YAML 1.1 reads -.inf as -inf: "),
        ("a: 1.0e+400", "YAML 1.1 reads 1.0e+400 as inf: "),
        ("a: " + "1" * 5000, "p.yaml, line 1: a number of 5000 digits is too long"),
        ("a: 1" + ":30" * 3000, "p.yaml, line 1: a number of 9001 digits is too long"),
        ("", "p.yaml is empty: write NAME: VALUE, or leave it out"),
        ("# a: 1\n", "p.yaml is empty: write NAME: VALUE, or leave it out"),
        ("---\n", "p.yaml holds None (NoneType), and must be a map"),
        ("[1, 2]", "p.yaml holds [1, 2] (list), and must be a map"),
        ("a b", "p.yaml holds 'a b' (str), and must be a map"),
        ("a: 1\n---\nb: 2", "p.yaml, line 2: a second document begins: keep one"),
        ("a:\t1", "p.yaml, line 1: a tab stands where YAML wants spaces: replace it"),
        ("a:\n\t- 1", "p.yaml, line 2: a tab stands where YAML wants spaces: replace it"),
        ("a: b\n\tc", "p.yaml, line 2: a tab stands where YAML wants spaces: replace it"),
        ("a: 5\t# x", "p.yaml, line 1: a tab stands where YAML wants spaces: replace it"),
        (BOMB, "p.yaml, line 1: &a refers to another place: write the value out"),
        (MERGES, "p.yaml, line 1: &a refers to another place: write the value out"),
        ("a: *b", "p.yaml, line 1: *b refers to another place: write the value out"),
        ("<<: {a: 1}", "p.yaml, line 1: << has a meaning of its own in YAML: put it in quotes"),
        ("a: !!binary Ig==", "the tag 'tag:yaml.org,2002:binary' is not allowed: write a plain"),
        ("a: !!python/object/apply:os.getcwd []", "python/object/apply:os.getcwd' is not allowed"),
        ("a: !!set {b, c}", "the tag 'tag:yaml.org,2002:set' is not allowed"),
        ("!!omap [a: 1]", "the tag 'tag:yaml.org,2002:omap' is not allowed"),
        ("a: !!timestamp 2020-01-01", "the tag 'tag:yaml.org,2002:timestamp' is not allowed"),
        ("a: ! 010", "the tag '!' is not allowed"),
        ("!!str a: 1", "the tag 'tag:yaml.org,2002:str' is not allowed"),
        ("1: 2", "p.yaml, line 1: the key 1 is read as 1 (int): put it in quotes"),
        ("yes: 2", "p.yaml, line 1: the key yes is read as True (bool): put it in quotes"),
        ("? [a]\n: 2", "p.yaml, line 1: a key must be a name"),
        ("[" * 90_000, f"p.yaml, line 1: more than {DEEPEST} lists or maps inside one another"),
        ("x" * (LONGEST + 1), f"p.yaml holds more than {LONGEST} characters: it should fit on a"),
        ('a: "\\ud83d"', "p.yaml, line 1: half a character (a surrogate) stands here: write it"),
        ("a: 1\nb: \x01", "p.yaml, line 2: the character U+0001 is not allowed in YAML: remove it"),
        ("a: [1, 2", "p.yaml, line 1: while parsing a flow sequence, expected ',' or ']', but got"),
        ("%YAML 3.0\n---\na: 1", "p.yaml, line 1: found incompatible YAML document"),
    ],
)
def test_what_is_not_plain_is_one_sentence(text, sentence):
    assert sentence in refusal(text)


@settings(deadline=None, max_examples=300)
@given(st.text("ab:-[]{}&*!?|>'\"%@#,~.01x_\n\t \\", max_size=20))
def test_any_text_is_read_as_papermill_reads_it_or_refused_in_one_sentence(text):
    try:
        value = load(text, "p.yaml")
    except PlainError as error:
        sentence = str(error)
    else:
        sentence = ""
        assert same(value, yaml.load(text, Loader=NoDatesSafeLoader))
    assert "\n" not in sentence


def same(a, b):
    """Equal, with types: True is not 1."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b and not (isinstance(a, float) and math.isnan(a))
