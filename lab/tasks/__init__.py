"""Data generators that know their own chance level and Bayes floor."""

from lab.tasks.base import Batch, Stored, Task
from lab.tasks.oscillation import AnonymousOscillations, KnownOscillators, oscillation

__all__ = [
    "AnonymousOscillations",
    "Batch",
    "KnownOscillators",
    "Stored",
    "Task",
    "oscillation",
]
