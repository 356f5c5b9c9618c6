"""Every argument out of its range is one sentence: where, name, value, what was expected."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from lab import audit
from lab.arguments import finite, real, whole
from lab.mixers import OscDPLR
from lab.seeding import stream
from lab.tasks import (
    AnonymousOscillations,
    Batch,
    IndexedCopying,
    KnownOscillators,
    Recall,
    SelectiveCopying,
    Stored,
    TokenTask,
    WordProblem,
    ZoologyRecall,
    of_tokens,
)
from lab.tasks.by_length import ByLength
from lab.tasks.groups import symmetric
from lab.tasks.word_problem import MixedLengths
from lab.train import fit, fit_together, score

LENGTH = 20


def draw():
    return stream(0, "task")


def known():
    return KnownOscillators.draw(2, draw())


WORDS = WordProblem(symmetric(3), [1, 2])
TASKS = {
    "anonymous": AnonymousOscillations(),
    "known": known(),
    "indexed copying": IndexedCopying(content=3, symbols=4),
    "selective copying": SelectiveCopying(content=3, symbols=4),
    "recall": Recall(pairs=2, queries=1, symbols=4),
    "Zoology": ZoologyRecall(16, 2),
    "words": WORDS,
    "words of mixed lengths": MixedLengths(WORDS, 2),
    "stored": Stored(known(), 5, LENGTH, draw()),
    "by length": ByLength({LENGTH: WORDS}),
}
NO_LENGTH = [0, -1, 8.0, 2.5, math.nan, True, None, "8", [8], torch.tensor([8])]
NO_BATCH = [-1, 2.0, True, None, "2", [2]]


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 300
    return text


@pytest.mark.parametrize("length", NO_LENGTH, ids=repr)
@pytest.mark.parametrize("task", TASKS)
def test_no_task_draws_a_length_that_is_none(task, length):
    with pytest.raises(ValueError, match=r"length") as error:
        TASKS[task].sample(2, length, draw())
    assert str(length) in one_sentence(error) or repr(length) in one_sentence(error)


@pytest.mark.parametrize("batch", NO_BATCH, ids=repr)
@pytest.mark.parametrize("task", TASKS)
def test_no_task_draws_a_batch_that_is_none(task, batch):
    with pytest.raises(ValueError, match=r"sample: batch is .*; it must be ") as error:
        TASKS[task].sample(batch, LENGTH, draw())
    assert repr(batch) in one_sentence(error)


@pytest.mark.parametrize("task", TASKS)
def test_no_task_draws_without_a_generator(task):
    with pytest.raises(ValueError, match=r"generator is None; it must be a torch.Generator"):
        TASKS[task].sample(2, LENGTH, None)


@pytest.mark.parametrize("task", TASKS)
def test_numbers_of_numpy_and_torch_and_empty_batches_are_as_good_as_ints(task):
    expected = TASKS[task].sample(2, LENGTH, draw())
    found = TASKS[task].sample(np.int64(2), np.int32(LENGTH), draw())
    again = TASKS[task].sample(torch.tensor(2), torch.tensor(LENGTH), draw())
    for one, two, three in zip(expected, found, again, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
    assert TASKS[task].sample(0, LENGTH, draw()).mask.shape == (0, LENGTH)


def test_the_tasks_of_tokens_say_that_they_are():
    numbers = {"anonymous", "known", "stored"}
    assert {name for name, task in TASKS.items() if isinstance(task, TokenTask)} == (
        TASKS.keys() - numbers
    )
    assert of_tokens(Stored(WORDS, 5, LENGTH, draw())) is WORDS
    assert of_tokens(TASKS["stored"]) is None


@pytest.mark.parametrize("length", [0, -3, 2.5], ids=repr)
@pytest.mark.parametrize("task", TASKS)
def test_limits_of_no_length_are_refused_where_they_depend_on_it(task, length):
    limit = "chance" if task in ("anonymous", "known", "stored") else "distinct_inputs"
    with pytest.raises(ValueError, match=r"length|of -?\d steps"):
        getattr(TASKS[task], limit)(length)


CONSTRUCTED = [
    (lambda: KnownOscillators.draw(0, draw()), "systems is 0; it must be at least 1"),
    (lambda: KnownOscillators.draw(1.0, draw()), "systems is 1.0; it must be a whole number"),
    (lambda: KnownOscillators(torch.ones(2), torch.ones(3)), "shape of omega and zeta is"),
    (lambda: KnownOscillators(torch.ones(0), torch.ones(0)), "shape of omega and zeta is"),
    (lambda: KnownOscillators(torch.ones(1), torch.ones(1), math.nan), "dt is nan"),
    (lambda: AnonymousOscillations(dt=0), "dt is 0; it must be above 0"),
    (lambda: AnonymousOscillations(dt=math.inf), "dt is inf; it must be finite"),
    (lambda: AnonymousOscillations(kind="damp"), "kind is 'damp'; it must be one of"),
    (lambda: IndexedCopying(content=2.0), "content is 2.0; it must be a whole number"),
    (lambda: SelectiveCopying(noise=True), "noise is True; it must be a whole number"),
    (lambda: Recall(pairs=2, queries="1", symbols=4), "queries is '1'; it must be a whole number"),
    (lambda: ZoologyRecall(16.0, 2), "vocabulary is 16.0; it must be a whole number"),
    (lambda: MixedLengths(WORDS, 2.0), "shortest is 2.0; it must be a whole number"),
    (lambda: Stored(known(), 0, 8, draw()), "size is 0; it must be at least 1"),
    (lambda: ByLength({8.0: WORDS}), "a length is 8.0; it must be a whole number"),
    (lambda: symmetric(2.5), "n is 2.5; it must be a whole number"),
    (lambda: stream(1.5, "data"), "seed is 1.5; it must be a whole number"),
    (lambda: stream(True, "data"), "seed is True; it must be a whole number"),
    (lambda: stream("data", 1), "seed is 'data'; it must be a whole number"),
]


@pytest.mark.parametrize(("made", "sentence"), CONSTRUCTED, ids=[text for _, text in CONSTRUCTED])
def test_tasks_and_streams_are_made_of_what_they_can_be(made, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as error:
        made()
    one_sentence(error)


# --- training ------------------------------------------------------------------------------------

SETTINGS = {"seed": 0, "steps": 2, "batch": 2, "length": 8, "lr": 0.01, "device": "cpu"}


def layer():
    return OscDPLR(4, d_output=1, d_state=3, generator=stream(0, "init"), dtype=torch.float64)


WRONG = [
    *(("steps", value, "steps is") for value in (-1, 2.0, True, None, "3", math.nan)),
    *(("batch", value, "batch is") for value in (0, -2, 2.0, None)),
    *(("length", value, "length is") for value in (0, -1, 2.0, [], None, "8", {}, ())),
    ("length", [8, 0], "length[1] is 0; it must be at least 1"),
    ("length", [8, 2.5], "length[1] is 2.5; it must be a whole number, at least 1"),
    ("length", lambda step: step, "length(0) is 0; it must be at least 1"),
    ("length", lambda step: 4.0, "length(0) is 4.0; it must be a whole number"),
    *(("lr", value, "lr is") for value in (-1, math.nan, math.inf, True, None, "0.1", [0.1])),
    ("lr", {"": 0.1, "B": -0.1}, "lr['B'] is -0.1; it must be at least 0"),
    ("lr", {3: 0.1}, "lr names ['3']"),
    *(("seed", value, "a seed is") for value in (1.5, True, None, "0", [0])),
    *(("clip", value, "clip is") for value in (0, -1, math.nan, "1", True)),
    *(("watch_every", value, "watch_every is") for value in (-1, 1.5, None)),
    ("watch", {"C": None}, "watch['C'] is None; it must be a function"),
    ("before_update", 3, "before_update is 3; it must be a function"),
    ("optimizer", "Adam", "optimizer is 'Adam'; it must be a function"),
    ("schedule", "cosine", "schedule is 'cosine'; it must be one of"),
    ("skip_nonfinite", "yes", "skip_nonfinite is 'yes'; it must be True or False"),
    *(("checkpoint_seconds", value, "checkpoint_seconds is") for value in (-1, math.nan, None)),
    *(("checkpoint", value, "checkpoint is") for value in (True, 3, "", b"a")),
    ("device", "gpu", "device is 'gpu'; it must be auto, cpu, cuda or another device of torch"),
    ("device", None, "device is None; it must be auto, cpu, cuda or another device of torch"),
]


@pytest.mark.parametrize(("name", "value", "sentence"), WRONG)
def test_fit_names_the_argument_that_it_cannot_use(name, value, sentence):
    model = layer()
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(ValueError, match=re.escape(sentence)) as error:
        fit(model, known(), **{**SETTINGS, name: value})
    one_sentence(error)
    assert all(map(torch.equal, model.parameters(), before))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a cuda device")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="device is 'cuda:0'; it must be auto or cpu on this mach"):
        fit(layer(), known(), **{**SETTINGS, "device": "cuda:0"})


def test_a_schedule_is_checked_though_there_are_no_steps():
    with pytest.raises(ValueError, match="schedule is 'cosine'"):
        fit(layer(), known(), **{**SETTINGS, "steps": 0, "schedule": "cosine"})


def test_numbers_of_numpy_will_do():
    settings = {"steps": np.int64(2), "batch": np.int32(2), "length": np.array([8]), "seed": 0}
    one, other = layer(), layer()
    fit(one, known(), **{**SETTINGS, **settings, "lr": np.float64(0.01)})
    fit(other, known(), **SETTINGS)
    assert all(map(torch.equal, one.parameters(), other.parameters()))


class Parameterless(nn.Module):
    def forward(self, x, length=None):
        return x


def test_models_that_cannot_be_trained_are_named():
    with pytest.raises(ValueError, match="the model is 'Parameterless'; it must be one with param"):
        fit(Parameterless(), known(), **SETTINGS)
    model = layer()
    together = {**SETTINGS, "seeds": [0, 1]}
    del together["seed"]
    with pytest.raises(ValueError, match="one of the 2 models is given twice: build one a seed"):
        fit_together([model, model], [known(), known()], **together)


SCORED = {
    "numbers": lambda **changes: score(layer(), known(), **changes),
    "classes": lambda **changes: score(guess, TASKS["recall"], **changes),
}


def guess(tokens):
    return torch.zeros(*tokens.shape, 20)


@pytest.mark.parametrize("kind", SCORED)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("samples", 0),
        ("samples", -1),
        ("samples", 2.0),
        ("length", 0),
        ("length", 2.5),
        ("seed", 1.5),
        ("seed", None),
    ],
)
def test_scores_name_the_argument_that_they_cannot_use(kind, name, value):
    settings = {"length": 8, "samples": 3, "seed": 0}
    SCORED[kind](**settings)
    with pytest.raises(ValueError, match=f"{name} is {value}; it must be") as error:
        SCORED[kind](**{**settings, name: value})
    one_sentence(error)


@pytest.mark.parametrize("chunk", [0, -1, 1.5])
def test_chunks_of_a_score_are_checked(chunk):
    with pytest.raises(ValueError, match=f"score: chunk is {chunk}; it must be"):
        score(guess, TASKS["recall"], length=8, samples=3, seed=0, chunk=chunk)


def test_a_score_of_a_model_without_parameters_is_a_sentence():
    with pytest.raises(ValueError, match="score: the model is 'Parameterless'"):
        score(Parameterless(), known(), length=8, samples=2, seed=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("length", 0), ("length", -1), ("length", 2.0), ("drawn", 0), ("drawn", 1.5), ("seed", 0.5)],
)
def test_an_audit_of_a_task_names_the_argument_that_it_cannot_use(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}; it must be"):
        audit.task(known(), **{"length": 8, "drawn": 10, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("length", 0),
        ("length", -1),
        ("length", 2.0),
        ("parameters", -1),
        ("parameters", 2.0),
        ("seed", 0.5),
    ],
)
def test_an_audit_of_a_model_names_the_argument_that_it_cannot_use(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}; it must be"):
        audit.model(layer(), known(), **{"length": 8, name: value})
    with pytest.raises(ValueError, match="the model is 'Parameterless'"):
        audit.model(Parameterless(), known(), length=8)


# --- the checks ----------------------------------------------------------------------------------


def test_the_checks_give_back_plain_numbers():
    assert [type(whole("f", "n", n)) for n in (1, np.int8(1), torch.tensor(1))] == [int] * 3
    assert [type(real("f", "x", x)) for x in (1, 1.0, np.float32(1))] == [float] * 3
    assert real("f", "x", math.inf, above=0) == math.inf
    assert whole("f", "n", -5) == -5


@pytest.mark.parametrize("value", [np.bool_(True), torch.tensor(True), torch.ones(2), b"1", 1j])
def test_truths_arrays_and_text_are_no_numbers(value):
    for check in (whole, real, finite):
        with pytest.raises(ValueError, match=r"^f: x is .*; it must be a"):
            check("f", "x", value)


def test_a_long_value_is_shortened():
    with pytest.raises(ValueError, match=r"^f: x is '1{56}\.\.\.; it must be a whole number$"):
        whole("f", "x", "1" * 500)


def test_a_batch_is_still_what_it_was():
    assert Batch._fields == ("inputs", "targets", "mask")
