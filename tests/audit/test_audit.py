"""An audit must let sound apparatus pass and stop at each of the faults it is there for."""

import math

import pytest
import torch

from lab import audit
from lab.audit import AuditError
from lab.memories import LinearAttention
from lab.mixers import MultiHead, OscDPLR, StateSpace
from lab.model import SequenceModel
from lab.seeding import stream
from lab.tasks import AnonymousOscillations, Batch, KnownOscillators, Recall, WordProblem, groups
from lab.transitions import RealDiagonal


def known(systems=2):
    return KnownOscillators.draw(systems, stream(0, "oscillators"))


def layer(**changes):
    settings = {"d_state": 3, "generator": stream(0, "init"), "dtype": torch.float64, **changes}
    return OscDPLR(4, d_output=1, **settings)


def test_a_task_whose_input_says_nothing_is_reported_as_such():
    report = audit.task(AnonymousOscillations(), length=32, drawn=400)
    assert report["distinct inputs, of all"] == report["distinct inputs, drawn"] == "1"
    assert report["test inputs also in training"] == "100.0%"
    assert "does NOT determine" in str(report)
    assert "no model can beat predicting zero" in str(report)


def test_the_variance_given_the_input_is_the_stated_floor():
    task = AnonymousOscillations(dtype=torch.float64)
    report = audit.task(task, length=32, drawn=20000)
    measured = float(report["variance of the target, input given"])
    assert measured == pytest.approx(task.floor(32), rel=0.03)  # 3 standard errors


class Copies(KnownOscillators):
    """Every example twice, so that equal inputs can be compared."""

    def sample(self, batch, length, generator):
        half = super().sample(batch // 2, length, generator)
        return Batch(*(torch.cat([part, part]) for part in half))


def test_a_task_whose_input_determines_its_target_is_reported_as_such():
    task = Copies(known().omega, known().zeta)
    report = audit.task(task, length=16, drawn=100)
    assert report["distinct inputs, drawn"] == "50"
    assert report["variance of the target, input given"] == "0"
    assert "the input determines the target" in str(report)


class Misstated(AnonymousOscillations):
    def floor(self, length):
        return 0.9 * super().floor(length)


def test_a_floor_that_the_data_contradict_stops():
    with pytest.raises(AuditError, match=r"given the input is 0\.8.* not 0\.7"):
        audit.task(Misstated(), length=32)


def test_inputs_that_never_repeat_are_not_compared():
    report = audit.task(known(), length=16, drawn=100)
    assert report["variance of the target, input given"] == "none to compare"


class Spoilt(KnownOscillators):
    def sample(self, batch, length, generator):
        inputs, targets, mask = super().sample(batch, length, generator)
        return Batch(inputs, targets.index_fill(0, torch.tensor([0]), math.nan), mask)


def test_nan_in_the_data_stops():
    with pytest.raises(AuditError, match="the targets of Spoilt hold NaN or infinity"):
        audit.task(Spoilt(known().omega, known().zeta), length=8, drawn=20)


def test_a_sound_model_passes_and_its_numbers_are_measured():
    report = audit.model(layer(form="dissipative"), known(), length=16)
    count = sum(parameter.numel() for parameter in layer().parameters())
    assert report["real parameters"] == str(count)
    assert float(report["step form against parallel form"]) < 1e-10
    assert float(report["largest size of an eigenvalue"]) <= 1
    assert float(report["gradient norm of log_omega"]) > 0
    assert "dead" not in str(report)


def test_a_dead_parameter_is_named():
    model = layer()
    model.P.data.zero_()
    model.Q.data.zero_()  # P Q^T is flat in both where both are zero
    remarks = {name: remark for name, _, remark in audit.model(model, known(), length=8).rows}
    assert remarks["gradient norm of P"].startswith("dead")
    assert remarks["gradient norm of log_omega"] == ""


def test_another_parameter_count_stops():
    with pytest.raises(AuditError, match=r"has \d+ parameters, 129 were reported"):
        audit.model(layer(), known(), length=8, parameters=129)


class Clairvoyant(OscDPLR):
    def forward(self, x, length=None):
        return super().forward(x, length) + 1e-6 * x.sum((1, 2), keepdim=True)


class Inconsistent(OscDPLR):
    def step(self, x_t, state=None):
        y_t, state = super().step(x_t, state)
        return y_t + 1e-6, state


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Clairvoyant, "a change of the input at step 4 moves earlier outputs"),
        (Inconsistent, "the step form differs from the parallel form by 1"),
    ],
)
def test_a_broken_model_stops(kind, message):
    model = kind(4, d_state=3, generator=stream(0, "init"), dtype=torch.float64)
    with pytest.raises(AuditError, match=message):
        audit.model(model, known(), length=8)


def test_eigenvalues_outside_the_unit_circle_are_counted_not_fatal():
    model = layer(rank=1)
    model.P.data.fill_(1.0)
    model.Q.data.fill_(1.0)  # real and positive: pushes one eigenvalue to the right
    assert "of 3 outside the unit circle" in str(audit.model(model, known(), length=8))


def test_a_report_displays_as_text_and_as_a_table():
    report = audit.task(known(), length=8, drawn=20)
    assert str(report).splitlines()[0] == "KnownOscillators, 8 steps, 20 examples"
    assert "<table" in report._repr_html_()


def words(**settings):
    return WordProblem(groups.symmetric(3), [1, 2], **settings)


def tracker(task, kind=SequenceModel):
    generator = stream(0, "init")
    mixer = StateSpace(6, RealDiagonal(6, d_state=4, generator=generator), generator=generator)
    return kind(task.vocabulary, task.classes, 6, [mixer], generator=generator).double()


@pytest.mark.parametrize("start_token", [False, True])
def test_a_model_of_tokens_passes_and_is_measured(start_token):
    task = words(start_token=start_token)
    report = audit.model(tracker(task), task, length=9)
    assert float(report["step form against parallel form"]) < 1e-10
    assert float(report["largest size of an eigenvalue"]) <= 1
    assert "dead" not in str(report)


def test_an_eigenvalue_outside_is_counted_wherever_it_comes():
    # The first token decays, the second grows: only words tell that it is there.
    task = WordProblem(groups.symmetric(3), [1, 2], start_token=True)
    model = tracker(task)
    diagonal = model.mixers[0].transition
    diagonal.forward = lambda x: 1 + 0 * x[..., :4] + torch.tensor([0.5, 0.0, 0.0, -0.5])
    assert "1 of 4 outside the unit circle" in str(audit.model(model, task, length=9))


def test_a_single_token_leaves_nothing_to_compare():
    task = WordProblem(groups.symmetric(3), [1])
    with pytest.raises(AuditError, match="with a single token there is no other input"):
        audit.model(tracker(task), task, length=9)


class SeesTheEnd(SequenceModel):
    def forward(self, tokens):
        return super().forward(tokens) + 1e-6 * tokens[:, -1, None, None]


def test_a_model_of_tokens_that_sees_the_future_stops():
    with pytest.raises(AuditError, match="a change of the input at step 4 moves earlier outputs"):
        audit.model(tracker(words(), SeesTheEnd), words(), length=9)


def test_a_word_problem_is_audited_like_any_task():
    report = audit.task(words(), length=4, drawn=200)
    assert report["distinct inputs, of all"] == report["distinct inputs, drawn"] == "16"
    assert "the input determines the target" in str(report)


@pytest.mark.parametrize(
    ("task", "guess"),
    [
        # Of 2, 4, 8 and 16 words, 1, 2, 3 and 6 end at the commonest element.
        (words(), (1 / 2 + 1 / 2 + 3 / 8 + 3 / 8) / 4),
        (words(start_token=True), (1 / 2 + 1 / 2 + 3 / 8 + 3 / 8) / 4),
        (words(scored="last"), 3 / 8),
    ],
)
def test_the_accuracy_of_a_guess_is_that_at_the_scored_steps(task, guess):
    report = audit.task(task, length=4, drawn=50)
    assert report["accuracy of a guess"] == f"{guess:.1%}"
    assert float(report["bits that a state must hold"]) == pytest.approx(task.bits(4), rel=1e-3)


def test_whole_numbers_are_no_tokens_unless_the_task_says_so():
    class Counts:
        sample, loss = staticmethod(words().sample), staticmethod(words().loss)

    with pytest.raises(ValueError, match=r"the task is 'Counts'; it must be a lab.tasks.TokenTask"):
        audit.model(tracker(words()), Counts(), length=9)


def test_the_state_is_set_against_the_bits_that_it_must_hold():
    task = Recall(pairs=4, queries=2, symbols=16)
    mixer = MultiHead(8, LinearAttention(8, heads=2, d_key=4), generator=stream(0, "init"))
    model = SequenceModel(task.vocabulary, task.classes, 8, [mixer], generator=stream(0, "init"))
    report = audit.model(model, task, length=task.length)
    row = next(row for row in report.rows if row[0] == "bytes of state after 11 steps")
    assert row[1] == str(4 * 2 * 4 * 5)  # single precision; one more column for the sums
    assert row[2] == "2 bytes are needed at least"  # 4 of 16 values are 16 bits
