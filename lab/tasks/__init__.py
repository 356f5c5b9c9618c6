"""Tasks: data generators that know their chance level and Bayes floor."""

from lab.tasks import groups
from lab.tasks.base import Batch, Stored, Task, TokenTask, masked_cross_entropy, of_tokens
from lab.tasks.copying import IndexedCopying, SelectiveCopying
from lab.tasks.groups import Group
from lab.tasks.ngrams import NGrams
from lab.tasks.oscillation import AnonymousOscillations, KnownOscillators, oscillation
from lab.tasks.recall import Recall, ZoologyRecall
from lab.tasks.text import Splits, Text, bits_per_byte, python_library, split_by_file
from lab.tasks.word_problem import MixedLengths, WordProblem, in_training, overlap

__all__ = [
    "AnonymousOscillations",
    "Batch",
    "Group",
    "IndexedCopying",
    "KnownOscillators",
    "MixedLengths",
    "NGrams",
    "Recall",
    "SelectiveCopying",
    "Splits",
    "Stored",
    "Task",
    "Text",
    "TokenTask",
    "WordProblem",
    "ZoologyRecall",
    "bits_per_byte",
    "groups",
    "in_training",
    "masked_cross_entropy",
    "of_tokens",
    "oscillation",
    "overlap",
    "python_library",
    "split_by_file",
]
