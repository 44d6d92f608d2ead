"""Recover the models of serial order (``python -m benchmarks.serial_order``).

The task is a sequence of eight items, learned in 40 episodes by 30 subjects: a b a c b c d a, in which most items are
followed by different ones, so that the models differ. Parameters are drawn from around those of subjects who learn it.
Fits are by maximum a posteriori, with the models' own priors. Results are in ``benchmarks/results/serial_order.json``.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seqrl_lightning.behavior.fits import Fit, GroupLevel, fit
from seqrl_lightning.behavior.histories import Histories, read_histories
from seqrl_lightning.behavior.model import find_model
from seqrl_lightning.behavior.recovery import inversion, recover_models, recover_parameters, summarize_recovery

RESULTS = Path(__file__).parent / "results" / "serial_order.json"
SEQUENCE = (0, 1, 0, 2, 1, 2, 3, 0)
NUM_SUBJECTS, NUM_EPISODES = 30, 40
METHOD = "map"
SPREADS = (0.5, 1.0)  # standard deviations of the parameters over subjects, on the scale without bounds
MODELS = {  # medians of the parameters
    "PositionCode": {"alpha": 0.3, "beta": 6.0, "width": 0.6},
    "Chaining": {"alpha": 0.3, "beta": 6.0},
    "Chunking": {"alpha": 0.3, "beta": 6.0, "binding": 0.8},
}


def main() -> None:
    """Write how parameters and models are recovered where subjects differ little, and more."""
    told = design()
    fits = {name: fit(find_model(name), told, METHOD) for name in MODELS}
    found = {f"spread {spread}": recovered(fits, told, spread) for spread in SPREADS}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def recovered(fits: Mapping[str, Fit], told: Histories, spread: float) -> dict[str, Any]:
    """Return the correlations of true and found parameters, the confusion matrix and the inversion matrix."""
    fits = {name: with_medians(one, MODELS[name], spread) for name, one in fits.items()}
    parameters = {name: summarize_recovery(recover_parameters(one, told)) for name, one in fits.items()}
    confusion = recover_models(fits, told)
    return {
        "correlations": {name: table["correlation"].round(2).to_dict() for name, table in parameters.items()},
        "confusion": confusion.round(2).to_dict("index"),
        "inversion": inversion(confusion).round(2).to_dict("index"),
    }


def design() -> Histories:
    """Return random choices in the task: they show the outcome of each item at each position."""
    rng = np.random.default_rng(0)
    shape = NUM_SUBJECTS, NUM_EPISODES, len(SEQUENCE)
    subject, episode, position = (numbers.ravel() for numbers in np.indices(shape))
    table = pd.DataFrame({"subject": subject, "episode": episode, "state": position})
    table["action"] = rng.integers(max(SEQUENCE) + 1, size=len(table))
    table["correct_action"] = np.array(SEQUENCE)[position]
    table["reward"] = (table["action"] == table["correct_action"]).astype(float)
    return read_histories(table)


def with_medians(found: Fit, medians: Mapping[str, float], spread: float) -> Fit:
    """Return a fit whose subjects come from a distribution with these medians."""
    mean = np.array([[spec.unbounded(np.array(medians[name])) for name, spec in found.model.free.items()]], float)
    level = GroupLevel(("all",), mean, np.full_like(mean, spread), 0 * mean, np.array([NUM_SUBJECTS]))
    return replace(found, group_level=level)


if __name__ == "__main__":
    main()
