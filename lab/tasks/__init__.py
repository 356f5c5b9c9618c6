"""Tasks: data generators that know their chance level and Bayes floor."""

from lab.tasks import groups
from lab.tasks.automaton import Automaton, count_and_reset
from lab.tasks.base import Batch, Stored, Task, TokenTask, masked_cross_entropy, of_tokens
from lab.tasks.copying import IndexedCopying, SelectiveCopying
from lab.tasks.delayed_copying import DelayedCopying
from lab.tasks.groups import Group
from lab.tasks.joint_recall import JointRecall
from lab.tasks.ngrams import NGrams
from lab.tasks.oscillation import AnonymousOscillations, KnownOscillators, oscillation
from lab.tasks.penalised import Penalised
from lab.tasks.random_tokens import RandomTokens
from lab.tasks.recall import Recall, ZoologyRecall
from lab.tasks.text import Splits, Text, bits_per_byte, python_library, split_by_file
from lab.tasks.word_problem import MixedLengths, WordProblem, in_training, overlap

__all__ = [
    "AnonymousOscillations",
    "Automaton",
    "Batch",
    "DelayedCopying",
    "Group",
    "IndexedCopying",
    "JointRecall",
    "KnownOscillators",
    "MixedLengths",
    "NGrams",
    "Penalised",
    "RandomTokens",
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
    "count_and_reset",
    "groups",
    "in_training",
    "masked_cross_entropy",
    "of_tokens",
    "oscillation",
    "overlap",
    "python_library",
    "split_by_file",
]
