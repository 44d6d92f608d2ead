"""The sections of a report: each function makes one section from runs of one task, by their condition."""

from seqrl_lightning.analysis.sections.about import warning
from seqrl_lightning.analysis.sections.greedy_choices import confusions, positions, probed_errors
from seqrl_lightning.analysis.sections.mastery import by_chance, criterion
from seqrl_lightning.analysis.sections.methods import methods
from seqrl_lightning.analysis.sections.one_condition import sections_on_one_condition
from seqrl_lightning.analysis.sections.performance import episodes, learning, returns
from seqrl_lightning.analysis.sections.training_choices import distractors, errors, transfer

__all__ = [
    "by_chance",
    "confusions",
    "criterion",
    "distractors",
    "episodes",
    "errors",
    "learning",
    "methods",
    "positions",
    "probed_errors",
    "returns",
    "sections_on_one_condition",
    "transfer",
    "warning",
]
