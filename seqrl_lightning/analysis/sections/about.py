"""The warnings at the beginning of a report."""

from seqrl_lightning.analysis.conditions import Groups, settings_of
from seqrl_lightning.analysis.curves import note_on_training, unfinished
from seqrl_lightning.analysis.sections.agreement import by_value, named_runs


def warning(groups: Groups) -> str:
    """Name runs that have not reached their budget, conditions that are the same, and those that trained more or less.

    Returns:
        Sentences; empty if there is nothing to warn of.
    """
    early = [f"{name} ({how_far})" for name, run in named_runs(groups) if (how_far := unfinished(run)) is not None]
    warned = f" Not all runs have reached their budget: {'; '.join(early)}." if early else ""
    same = by_value({name: tuple(settings_of(runs[0]).items()) for name, runs in groups.items()}).values()
    warned += "".join(f" {' and '.join(names)} have the same settings." for names in same if len(names) > 1)
    return warned + note_on_training(groups)
