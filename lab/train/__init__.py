"""The one training loop, its scores, and what makes a killed run go on."""

from lab.train.interrupt import Interrupted
from lab.train.loop import History, fit, fit_together
from lab.train.scoring import Score, score
from lab.train.settings import Settings

__all__ = [
    "History",
    "Interrupted",
    "Score",
    "Settings",
    "fit",
    "fit_together",
    "score",
]
