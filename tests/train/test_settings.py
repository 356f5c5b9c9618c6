"""The settings of a training are the same wherever they are listed."""

import inspect
import re
from typing import get_type_hints

import pytest

from lab.experiment.arms import Arm, training
from lab.train import Settings, fit, fit_together
from lab.train.settings import REQUIRED, check_settings

ALONE = inspect.signature(fit).parameters
TOGETHER = inspect.signature(fit_together).parameters
COMPLETE = dict.fromkeys(REQUIRED, 1)


def test_one_model_has_the_settings_of_several():
    own = {"model", "task", "seed"}, {"models", "tasks", "seeds"}
    alone = {n: p for n, p in ALONE.items() if n not in own[0]}
    together = {n: p for n, p in TOGETHER.items() if n not in own[1]}
    assert alone == together
    assert own[0] <= ALONE.keys()
    assert own[1] <= TOGETHER.keys()


def test_every_setting_reaches_the_training(monkeypatch):
    given = {name: object() for name in ALONE if name not in ("model", "task", "seed")}
    seen = {}
    monkeypatch.setattr(
        "lab.train.loop.fit_together", lambda m, t, **more: seen.update(more) or ["history"]
    )
    assert fit("model", "task", seed=3, **given) == "history"
    assert seen == {"seeds": [3], **given}


def test_recipes_know_the_settings_by_name_and_type():
    # What an experiment gives itself is no setting of a recipe.
    own = {"models", "tasks", "seeds", "before_update", "checkpoint", "return"}
    hints = {n: hint for n, hint in get_type_hints(fit_together).items() if n not in own}
    assert get_type_hints(Settings) == hints
    required = {name for name in hints if TOGETHER[name].default is inspect.Parameter.empty}
    assert required == set(REQUIRED)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (COMPLETE | {"step": 3}, "train: there is no setting 'step'; did you mean 'steps'?"),
        (COMPLETE | {"dropout": 0.1}, "train: there is no setting 'dropout'; there are ['batch', "),
        ({"steps": 1, "batch": 1, "length": 1}, "train: the settings ['lr'] are missing, in the"),
    ],
)
def test_misspelt_and_missing_settings_stop_before_anything_trains(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_settings(settings, "train")
    with pytest.raises(ValueError, match=re.escape(message)):
        training(Arm(lambda task, seed: None, **settings), None, {}, [0])


def test_a_setting_may_come_from_the_arm():
    recipe = {name: 1 for name in REQUIRED if name != "lr"}
    job = training(Arm(lambda task, seed: None, lr=0.1), None, recipe, [0, 1])
    assert (job.steps, job.models) == (1, 2)
