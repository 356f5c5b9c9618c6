"""One experiment in a notebook: criteria, arms that train in parallel, verdict.

`Experiment` holds the table of criteria, which is written before the run and filled in by it. `Arm`
says how one arm differs from the recipe. Training returns `Arms`, and scoring returns `Scores`.
"""

from lab.evidence.planned import Planned
from lab.experiment.arms import Arm, Arms, Trained
from lab.experiment.experiment import Experiment
from lab.experiment.scores import Scores
from lab.experiment.statistics import EVERY, GIVEN, MEAN, MEDIAN, NUMBER, WORST, solved
from lab.experiment.tuning import Tuned, accuracy_then_loss

__all__ = [
    "EVERY",
    "GIVEN",
    "MEAN",
    "MEDIAN",
    "NUMBER",
    "WORST",
    "Arm",
    "Arms",
    "Experiment",
    "Planned",
    "Scores",
    "Trained",
    "Tuned",
    "accuracy_then_loss",
    "solved",
]
