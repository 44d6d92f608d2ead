"""A model of behavior of your own: a bonus for actions that were rarely tried.

Fit it with ``seqrl fit-behaviour trials.csv --models QLearning,own_behavior_model.py:Novelty``.
"""

import numpy as np

from seqrl_lightning.behavior.histories import Trial
from seqrl_lightning.behavior.model import INVERSE_TEMPERATURE, RATE, TENDENCY, Memory, Model, Parameters, Size, softmax
from seqrl_lightning.types import FloatArray


class Novelty(Model):
    """Q-learning, with a bonus that falls with the number of times that an action was chosen in the state."""

    parameters = {"alpha": RATE, "beta": INVERSE_TEMPERATURE, "bonus": TENDENCY}

    def begin(self, size: Size) -> Memory:
        return {"q": np.zeros(size.values), "count": np.zeros(size.values)}

    def probabilities(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        q, count = (memory[name][trial.row, trial.state] for name in ("q", "count"))
        return softmax(p["beta"][:, None] * (q + p["bonus"][:, None] / np.sqrt(count + 1)), trial.allowed)

    def update(self, memory: Memory, p: Parameters, trial: Trial) -> dict[str, FloatArray]:
        error = trial.reward - memory["q"][trial.chosen]
        memory["q"][trial.chosen] += p["alpha"] * error
        memory["count"][trial.chosen] += 1
        return {"prediction_error": error}
