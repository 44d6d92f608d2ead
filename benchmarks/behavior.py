"""Time fits of a model of behavior with four parameters, on one core: ``python -m benchmarks.behavior``.

The subjects are simulated, in a bandit of two arms whose better one changes every 50 trials.
"""

import argparse
import time

import numpy as np
import pandas as pd

from seqrl_lightning.behavior.fits import METHODS, fit
from seqrl_lightning.behavior.histories import Histories, read_histories
from seqrl_lightning.behavior.model import find_model

MODEL = "QLearning+alpha_worse+perseveration"


def simulated(subjects: int, trials: int) -> Histories:
    """Subjects that follow the model, with parameters that differ."""
    rng = np.random.default_rng(0)
    alpha, worse = (1 / (1 + np.exp(-rng.normal(mean, 0.8, subjects))) for mean in (-0.5, -1.0))
    beta, stay = np.exp(rng.normal(1.0, 0.4, subjects)), rng.normal(0.5, 0.5, subjects)
    values, last, subject = np.zeros((subjects, 2)), np.full(subjects, -1), np.arange(subjects)
    tables = []
    for t in range(trials):
        logits = beta[:, None] * values + stay[:, None] * (np.arange(2) == last[:, None])
        action = (logits + rng.gumbel(size=logits.shape)).argmax(1)
        reward = (rng.random(subjects) < np.where(action == t // 50 % 2, 0.8, 0.2)).astype(float)
        error = reward - values[subject, action]
        values[subject, action] += np.where(error < 0, worse, alpha) * error
        last = action
        tables.append(pd.DataFrame({"subject": subject, "state": 0, "action": action, "reward": reward}))
    return read_histories(pd.concat(tables))


def main() -> None:
    """Print the seconds of each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=100)
    parser.add_argument("--trials", type=int, default=500)
    arguments = parser.parse_args()
    histories = simulated(arguments.subjects, arguments.trials)
    model = find_model(MODEL)
    for method in METHODS:
        began = time.process_time()
        fit(model, histories, method)
        seconds = time.process_time() - began
        print(f"{method}: {seconds:.1f} s of CPU time for {arguments.subjects} subjects x {arguments.trials} trials")


if __name__ == "__main__":
    main()
