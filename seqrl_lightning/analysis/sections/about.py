"""The methods of a report, and a warning of runs that are unfinished."""

import pandas as pd

from seqrl_lightning.analysis.conditions import Groups, settings_of
from seqrl_lightning.analysis.curves import Axis, unfinished
from seqrl_lightning.analysis.report import Section, written_by
from seqrl_lightning.analysis.runs import Run, one_task
from seqrl_lightning.analysis.sections.agreement import by_value


def methods(groups: Groups, axis: Axis, command: str) -> Section:
    """A paragraph for a paper, and the settings of each condition, the differing ones first.

    Args:
        groups: Runs by condition.
        axis: The x axis of curves.
        command: The command that wrote the report.
    """
    env_id = one_task([run for runs in groups.values() for run in runs])
    learners = by_value({name: _learner(runs[0]) for name, runs in groups.items()})
    subject = " and ".join(
        learner if len(learners) == 1 else f"{learner} ({'; '.join(names)})" for learner, names in learners.items()
    )
    verb = "was" if len(learners) == 1 else "were"
    seeds = "; ".join(f"{name}: {', '.join(str(run.seed) for run in runs)}" for name, runs in groups.items())
    text = (
        f"{subject} {verb} trained on {env_id} with the settings below, under their names in the runs' config.yaml "
        f"(seeds: {seeds}). The seed was the unit of analysis. Learning curves are over {axis.label} "
        f"({axis.reason}). {written_by(command)}"
    )
    table = pd.DataFrame([settings_of(runs[0]) for runs in groups.values()], index=list(groups)).T
    is_same = table.nunique(axis=1, dropna=False) == 1
    is_trainers = table.index.str.startswith("trainer.")
    parts = [table[~is_same], table[is_same & ~is_trainers], table[is_same & is_trainers]]
    table = pd.concat(parts).rename_axis("setting")
    return Section("methods", "Methods", text, None, table)


def _learner(run: Run) -> str:
    return str(run.config.get("model", {}).get("class_path", "DQN")).rpartition(".")[2]


def warning(groups: Groups) -> str:
    """Name the runs that have not reached their budget; empty without any."""
    early = [
        f"{name}, seed {run.seed} ({how_far})"
        for name, runs in groups.items()
        for run in runs
        if (how_far := unfinished(run)) is not None
    ]
    return f" Not all runs have reached their budget: {'; '.join(early)}." if early else ""
