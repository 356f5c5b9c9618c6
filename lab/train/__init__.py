"""The one training loop, its scores, and what makes a killed run go on."""

from lab.train.interrupt import Interrupted
from lab.train.loop import History, fit, fit_together
from lab.train.scoring import accuracy, evaluate, mean_loss, scored_accuracy

__all__ = [
    "History",
    "Interrupted",
    "accuracy",
    "evaluate",
    "fit",
    "fit_together",
    "mean_loss",
    "scored_accuracy",
]
