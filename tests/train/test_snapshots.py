"""Weights kept through training: the right ones, whole files, the same after a kill."""

import math

import pytest
import safetensors.torch
import torch
from numeric import stream

from lab.mixers import KuramotoSSM
from lab.model import SequenceModel
from lab.tasks import RandomTokens
from lab.train import History, fit
from lab.train.snapshots import BEST, Snapshots, at, every, weights, with_weights

TASK, STEPS = RandomTokens(4), 40


def model(d_state=5):
    generator = stream(0)
    mixer = KuramotoSSM(6, d_state=d_state, generator=generator)
    return SequenceModel(4, 4, 6, [mixer], generator=generator)


def trained(examined, **more):
    recipe = {"steps": STEPS, "batch": 4, "length": 6, "lr": 1e-2, "seed": 7}
    return fit(
        examined, TASK, watch={"weights": weights}, watch_every=every(STEPS), **recipe, **more
    )


def test_there_are_twenty_one_and_the_last_is_the_trained_model(tmp_path):
    started, examined = model(), model()
    history = trained(examined)
    assert history.watched_at == list(range(0, 41, 2))
    kept = Snapshots(tmp_path / "weights", "an arm")
    kept.keep(examined, history, seed=7)
    assert len(list((tmp_path / "weights").iterdir())) == 21
    tokens = TASK.sample(3, 6, stream(1)).inputs
    for step, expected in ((0, started), (STEPS, examined)):
        assert torch.equal(kept.load(model(), seed=7, step=step)(tokens), expected(tokens))
    halfway = kept.load(model(), seed=7, step=at(STEPS, 0.5))
    shorter = model()
    fit(shorter, TASK, steps=20, batch=4, length=6, lr=1e-2, seed=7)
    assert torch.equal(weights(halfway), weights(shorter))


@pytest.mark.parametrize(
    ("steps", "share", "expected"),
    [(1000, 0.1, 100), (1000, 0.25, 250), (1000, 1, 1000), (1000, 0, 0), (7, 0.5, 4),
     (50, 0.25, 12), (1019, 1, 1019), (0, 1, 0)],
)  # fmt: skip
def test_a_share_of_a_training_is_a_step_with_a_snapshot(steps, share, expected):
    assert at(steps, share) == expected
    assert expected in (*range(0, steps + 1, every(steps)), steps)


def test_the_best_is_that_of_the_lowest_loss(tmp_path):
    examined = model()
    history = trained(examined)
    losses = torch.linspace(1, 2, 21)
    losses[4] = 0.5
    kept = Snapshots(tmp_path, "an arm")
    kept.keep(examined, history, seed=7, losses=losses)
    best, fourth = (kept.load(model(), seed=7, step=step) for step in (BEST, 8))
    assert torch.equal(weights(best), weights(fourth))
    again = Snapshots(tmp_path / "each", "an arm").keep_each(
        [examined, examined], [history, history], [7, 8], losses=lambda _: losses
    )
    assert len(list((tmp_path / "each").iterdir())) == 44
    assert torch.equal(weights(again.load(model(), seed=8, step=BEST)), weights(best))
    with pytest.raises(ValueError, match="losses is '3 numbers'; it must be 21, one a snapshot"):
        kept.keep(examined, history, seed=7, losses=[1, 2, 3])


class StopError(Exception):
    """Stands for a kill."""


def test_a_killed_training_leaves_the_same_snapshots(tmp_path):
    class Killed(RandomTokens):
        checkpoint_identity = "random tokens"
        updates = 0

        def sample(self, *given):
            Killed.updates += 1
            if Killed.updates == 24:
                raise StopError
            return super().sample(*given)

    def run(folder, kills=False):
        Killed.updates = 0 if kills else 1000
        path = folder / "run.safetensors"
        recipe = {"steps": STEPS, "batch": 4, "length": 6, "lr": 1e-2, "seed": 7}
        examined = model()
        history = fit(
            examined, Killed(4), watch={"weights": weights}, watch_every=every(STEPS),
            checkpoint=path, checkpoint_seconds=0, **recipe,
        )  # fmt: skip
        Snapshots(folder / "kept", "an arm").keep(examined, history, seed=7)

    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
    with pytest.raises(StopError):
        run(tmp_path / "killed", kills=True)
    assert (tmp_path / "killed" / "run.safetensors").exists()
    run(tmp_path / "killed")
    run(tmp_path / "whole")
    files = sorted((tmp_path / "whole" / "kept").iterdir())
    assert len(files) == 21
    for file in files:
        other = safetensors.torch.load_file(tmp_path / "killed" / "kept" / file.name)["weights"]
        assert torch.equal(safetensors.torch.load_file(file)["weights"], other)


def test_what_is_no_snapshot_of_this_model_is_refused(tmp_path):
    examined = model()
    kept = Snapshots(tmp_path, "an arm")
    kept.keep(examined, trained(examined), seed=7)
    with pytest.raises(FileNotFoundError, match=r"an-arm-seed7-3\.safetensors: keep it first"):
        kept.load(model(), seed=7, step=3)
    with pytest.raises(ValueError, match="is of another model or other settings"):
        kept.load(model(d_state=4), seed=7, step=0)
    file = tmp_path / "an-arm-seed7-0.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        kept.load(model(), seed=7, step=0)
    with pytest.raises(ValueError, match=r"it must be a training with watch="):
        kept.keep(examined, fit(examined, TASK, steps=1, batch=2, length=3, lr=0.1, seed=0), seed=7)
    with pytest.raises(ValueError, match=r"row is \(3,\); it must be"):
        with_weights(model(), torch.zeros(3))
    with pytest.raises(ValueError, match=r"at: share is 1\.5"):
        at(10, 1.5)


def test_a_history_says_when_a_watched_number_reached_a_level():
    history = History(torch.ones(3), {"right": torch.tensor([0.1, 0.7, 0.6])}, [0, 2, 3])
    assert history.reached("right", 0.1) == 0.0
    assert history.reached("right", 0.6) == 2.0
    assert history.reached("right", 0.8) == math.inf
