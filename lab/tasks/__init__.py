"""Data generators that know their own chance level and Bayes floor."""

from lab.tasks import groups
from lab.tasks.base import Batch, Stored, Task
from lab.tasks.groups import Group
from lab.tasks.oscillation import AnonymousOscillations, KnownOscillators, oscillation
from lab.tasks.word_problem import MixedLengths, WordProblem, in_training, overlap

__all__ = [
    "AnonymousOscillations",
    "Batch",
    "Group",
    "KnownOscillators",
    "MixedLengths",
    "Stored",
    "Task",
    "WordProblem",
    "groups",
    "in_training",
    "oscillation",
    "overlap",
]
