"""Tables of choices for tests."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from seqrl_lightning.behavior.histories import Histories, read_histories
from seqrl_lightning.behavior.model import Model


def histories_of(rows: Sequence[Sequence[object]], columns: str = "state action reward") -> Histories:
    return read_histories(pd.DataFrame(rows, columns=columns.split()))


def point(model: Model, **values: float) -> np.ndarray:
    """The point of a single subject, on the scale without bounds."""
    return np.array([float(spec.unbounded(np.array(values[name]))) for name, spec in model.free.items()])[None]


def bandit(
    num_subjects: int,
    num_trials: int,
    alpha: Sequence[float] = (0.3,),
    beta: Sequence[float] = (4.0,),
    seed: int = 0,
) -> pd.DataFrame:
    """Subjects that learn by Q-learning with which of two actions a reward is likelier; it changes in the middle."""
    rng = np.random.default_rng(seed)
    rows = []
    for subject in range(num_subjects):
        values = np.zeros(2)
        for t in range(num_trials):
            block = 2 * t // num_trials
            action = int((beta[subject % len(beta)] * values + rng.gumbel(size=2)).argmax())
            reward = float(rng.random() < (0.8 if action == block else 0.2))
            values[action] += alpha[subject % len(alpha)] * (reward - values[action])
            rows.append((f"s{subject}", block, "only", action, reward, block))
    return pd.DataFrame(rows, columns=["subject", "block", "state", "action", "reward", "correct_action"])
