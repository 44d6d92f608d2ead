"""The warnings at the beginning of a report."""

from seqrl_lightning.analysis.conditions import Groups
from seqrl_lightning.analysis.curves import note_on_training, unfinished


def warning(groups: Groups) -> str:
    """Name the runs that have not reached their budget, and say how unequally conditions trained; empty if neither."""
    early = [
        f"{name}, seed {run.seed} ({how_far})"
        for name, runs in groups.items()
        for run in runs
        if (how_far := unfinished(run)) is not None
    ]
    warned = f" Not all runs have reached their budget: {'; '.join(early)}." if early else ""
    return warned + note_on_training(groups)
