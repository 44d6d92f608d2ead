"""The sections of a report on runs that differ in their seed alone."""

from collections.abc import Sequence

from seqrl_lightning.analysis.chance import chance_of
from seqrl_lightning.analysis.curves import Axis
from seqrl_lightning.analysis.report import Section
from seqrl_lightning.analysis.runs import Run
from seqrl_lightning.analysis.sections.greedy_choices import confusions, positions, probed_errors
from seqrl_lightning.analysis.sections.mastery import criterion
from seqrl_lightning.analysis.sections.performance import episodes, learning, returns
from seqrl_lightning.analysis.sections.training_choices import distractors, errors, transfer


def sections_on_one_condition(runs: Sequence[Run], axis: Axis) -> list[Section]:
    """All sections on runs that differ in their seed alone."""
    facts = runs[0].facts
    groups, chances = {"seeds": runs}, {"seeds": chance_of(runs[0])}
    sections = [learning(groups, axis, chances), returns(groups), episodes(runs), criterion(runs, chances)]
    tables = {run.seed: run.trials for run in runs if run.trials is not None}
    if len(tables) < len(runs):
        why = "The task does not state which action is right, so there is no table of trials (trials.csv)."
        return [*sections, Section("trials", "Trials", why)]
    sections += [positions({"seeds": runs}), confusions(runs, facts.order)]
    if facts.num_positions is None or facts.num_objects is None:
        why = "The observations don't show a position in an order of objects, so errors have no kinds."
        return [*sections, Section("errors", "Errors", why)]
    sections += [probed_errors({"seeds": runs}), errors(tables, facts)]
    if facts.order is None or facts.num_blocks == 1:
        why = "No order of objects changes from block to block, so there is no transfer of ranks."
        return [*sections, Section("transfer", "Transfer of rank order", why)]
    return [*sections, transfer(tables, facts.order), distractors(tables, facts.order)]
