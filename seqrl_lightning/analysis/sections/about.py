"""The warnings at the beginning of a report."""

from seqrl_lightning.analysis.conditions import Groups
from seqrl_lightning.analysis.curves import note_on_training, unfinished
from seqrl_lightning.analysis.sections.agreement import named_runs


def warning(groups: Groups) -> str:
    """Name the runs that have not reached their budget, and say how unequally conditions trained; empty if neither."""
    early = [f"{name} ({how_far})" for name, run in named_runs(groups) if (how_far := unfinished(run)) is not None]
    warned = f" Not all runs have reached their budget: {'; '.join(early)}." if early else ""
    return warned + note_on_training(groups)
