"""Fits of tabular learners to behavior, by maximum likelihood (Daw 2011; Wilson and Collins 2019, eLife 8:e49547).

The learner has a value for each state and action. After each choice, ``Q(s, a) += alpha (r - Q(s, a))``, and the values
of the state's other actions decay, ``Q(s, a') *= 1 - forgetting``. The learner chooses by a softmax over
``beta Q(s, a) + perseveration [a was chosen in s last time]``. It does not look ahead (gamma = 0), as fits tasks that
reward each choice by itself. A model is this learner with some parameters held at 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pandas as pd
from scipy.optimize import differential_evolution
from scipy.stats import chi2

from seqrl_lightning.analysis.trials import MAX_ACTIONS
from seqrl_lightning.types import ConfigurationError, FloatArray, IntArray, require

BOUNDS = {"alpha": (0.001, 1.0), "beta": (0.0, 20.0), "forgetting": (0.0, 1.0), "perseveration": (-5.0, 5.0)}
MODELS: dict[str, tuple[str, ...]] = {
    "chance": (),
    "Q-learning": ("alpha", "beta"),
    "+ forgetting": ("alpha", "beta", "forgetting"),
    "+ perseveration": ("alpha", "beta", "perseveration"),
    "+ both": ("alpha", "beta", "forgetting", "perseveration"),
}
"""The free parameters of each model; the others are 0."""


class ChoiceHistory(NamedTuple):
    """One subject's choices, in their order."""

    state: IntArray  # [N] int64, numbered from 0
    action: IntArray  # [N] int64
    reward: FloatArray  # [N] float64
    n_actions: int


def read_choices(table: pd.DataFrame) -> dict[str, ChoiceHistory]:
    """Read the choices of each subject.

    Args:
        table: A row for each choice, in their order, with the columns ``state``, ``action``, ``reward`` and, if there
            are several subjects, ``subject`` (or ``seed``); ``trials.csv`` is such a table.

    Raises:
        ConfigurationError: If a column is missing, a cell is empty, or actions are not whole numbers from 0
            and below ``MAX_ACTIONS``.
    """
    for column in ("state", "action", "reward"):
        require(column in table, "the table's columns", list(table.columns), "state, action, reward (and subject)")
    if table[["state", "action", "reward"]].isna().any(axis=None):
        raise ConfigurationError("the table has empty cells in state, action or reward; every choice needs all three")
    actions = pd.to_numeric(table["action"], errors="coerce")
    invalid = table["action"][~((actions >= 0) & (actions < MAX_ACTIONS) & (actions % 1 == 0))].tolist()
    require(not invalid, "an action in the table", invalid[:1], f"a whole number from 0 to {MAX_ACTIONS - 1}")
    rewards = pd.to_numeric(table["reward"], errors="coerce").to_numpy(float)
    invalid = table["reward"][~np.isfinite(rewards)].tolist()
    require(not invalid, "a reward in the table", invalid[:1], "a number")
    require(len(table) > 0, "the number of choices in the table", 0, "at least 1")
    key = next((name for name in ("subject", "seed") if name in table), None)
    groups = table.groupby(key) if key else [("all", table)]
    n_actions = int(actions.max()) + 1
    q_columns = sum(column.startswith("q_") for column in table)
    return {
        str(name): ChoiceHistory(
            pd.factorize(rows["state"])[0],
            rows["action"].to_numpy(np.int64),
            rows["reward"].to_numpy(float),
            max(n_actions, q_columns),
        )
        for name, rows in groups
    }


def log_likelihood(choices: ChoiceHistory, parameters: Mapping[str, FloatArray | float]) -> FloatArray:
    """Compute the log-likelihood of the choices under P sets of parameters at once.

    Args:
        choices: N choices.
        parameters: ``alpha``, ``beta``, ``forgetting`` and ``perseveration``, [P] float or a number each; 0 if missing.

    Returns:
        [P] float.
    """
    alpha, beta, forgetting, stay = (
        column[:, None]
        for column in np.broadcast_arrays(*(np.atleast_1d(parameters.get(name, 0.0)) for name in BOUNDS))
    )
    size = len(alpha)
    values = np.zeros((int(choices.state.max()) + 1, size, choices.n_actions))
    last = np.full(len(values), -1)
    total = np.zeros(size)
    for state, action, reward in zip(choices.state, choices.action, choices.reward, strict=True):
        state_values = values[state]  # [P, A], a view
        logits = beta * state_values
        if last[state] >= 0:
            logits[:, last[state]] += stay[:, 0]
        top = logits.max(1)
        total += logits[:, action] - top - np.log(np.exp(logits - top[:, None]).sum(1))
        chosen = state_values[:, action] + alpha[:, 0] * (reward - state_values[:, action])
        state_values *= 1 - forgetting
        state_values[:, action] = chosen
        last[state] = action
    return total


class Fit(NamedTuple):
    """The fit of a model to one subject."""

    parameters: dict[str, float]
    log_likelihood: float
    num_choices: int

    @property
    def aic(self) -> float:
        """Akaike's information criterion: 2 k - 2 log L."""
        return 2 * len(self.parameters) - 2 * self.log_likelihood

    @property
    def bic(self) -> float:
        """The Bayesian information criterion: k log N - 2 log L."""
        return len(self.parameters) * float(np.log(self.num_choices)) - 2 * self.log_likelihood


def fit(choices: ChoiceHistory, free: Sequence[str], start: Mapping[str, float] | None = None, seed: int = 0) -> Fit:
    """Find the parameters that maximize the likelihood, by differential evolution and a local search after it.

    Args:
        choices: One subject's choices.
        free: The parameters to fit; the others are 0.
        start: Parameters of a nested model: they are among the starting points, so that the likelihood is never lower.
        seed: Seed of the search.
    """
    if not free:
        return Fit({}, float(log_likelihood(choices, {})[0]), len(choices.action))

    def cost(points: FloatArray) -> Any:
        costs = -log_likelihood(choices, dict(zip(free, points, strict=True)))
        return costs if points.ndim == 2 else costs[0]

    bounds = [BOUNDS[name] for name in free]
    x0 = None if start is None else [start.get(name, 0.0) for name in free]
    search = {"vectorized": True, "updating": "deferred", "tol": 1e-4, "maxiter": 200}
    best = differential_evolution(cost, bounds, x0=x0, rng=seed, **search)
    return Fit(dict(zip(free, map(float, best.x), strict=True)), float(-best.fun), len(choices.action))


def fit_all(subjects: Mapping[str, ChoiceHistory]) -> pd.DataFrame:
    """Fit every model to every subject.

    Returns:
        A row for each subject and model: the parameters, the log-likelihood, AIC, BIC, the p value of the
        likelihood-ratio test against chance, and ``best``, true for the model with the lowest BIC.
    """
    rows = []
    for subject, choices in subjects.items():
        fits: dict[str, Fit] = {}
        for model, free in MODELS.items():
            nested = [found for name, found in fits.items() if name != "chance" and set(MODELS[name]) < set(free)]
            start = max(nested, key=lambda found: found.log_likelihood).parameters if nested else None
            fits[model] = fit(choices, free, start)
        lowest = min(found.bic for found in fits.values())
        for model, found in fits.items():
            ratio = 2 * (found.log_likelihood - fits["chance"].log_likelihood)
            rows.append(
                {
                    "subject": subject,
                    "model": model,
                    **{name: found.parameters.get(name, np.nan) for name in BOUNDS},
                    "log_likelihood": found.log_likelihood,
                    "AIC": found.aic,
                    "BIC": found.bic,
                    "p (chance)": chi2.sf(ratio, len(found.parameters)) if found.parameters else np.nan,
                    "best": found.bic == lowest,
                }
            )
    return pd.DataFrame(rows).set_index(["subject", "model"])


def simulate(env: gym.Env[Any, Any], parameters: Mapping[str, float], episodes: int, seed: int) -> ChoiceHistory:
    """Simulate the learner's choices in a task.

    Args:
        env: The task.
        parameters: As for :func:`log_likelihood`.
        episodes: Number of episodes.
        seed: Seed of the task and of the choices.
    """
    rng = np.random.default_rng([seed, 1])  # not the stream that the task is seeded with, whose cues it would repeat
    assert isinstance(env.action_space, gym.spaces.Discrete)
    n_actions = int(env.action_space.n)
    alpha, beta, forgetting, stay = (parameters.get(name, 0.0) for name in BOUNDS)
    numbers: dict[bytes, int] = {}
    values: list[FloatArray] = []
    last: list[int] = []
    rows: list[tuple[int, int, float]] = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed if episode == 0 else None)
        ended = False
        while not ended:
            state = numbers.setdefault(np.asarray(observation).tobytes(), len(numbers))
            if state == len(values):
                values.append(np.zeros(n_actions))
                last.append(-1)
            logits = beta * values[state] + stay * (np.arange(n_actions) == last[state])
            action = int((logits + rng.gumbel(size=n_actions)).argmax())  # a draw from the softmax
            observation, reward, terminated, truncated, _ = env.step(action)
            chosen = values[state][action] + alpha * (float(reward) - values[state][action])
            values[state] *= 1 - forgetting
            values[state][action] = chosen
            last[state] = action
            rows.append((state, action, float(reward)))
            ended = terminated or truncated
    state_column, action_column, reward_column = (np.array(column) for column in zip(*rows, strict=True))
    return ChoiceHistory(state_column, action_column, reward_column, n_actions)


def recover(env: gym.Env[Any, Any], subjects: int, episodes: int, seed: int = 0) -> pd.DataFrame:
    """Test parameter recovery: fit the full model to simulated subjects whose parameters are drawn at random.

    Args:
        env: The task.
        subjects: Number of subjects.
        episodes: Episodes of each subject.
        seed: Seed of the parameters and of the simulations.

    Returns:
        A row for each subject: ``alpha``, ``beta``, ... as drawn, and ``alpha found``, ... as fitted.
    """
    rng = np.random.default_rng(seed)
    typical = {"alpha": (0.1, 0.9), "beta": (1.0, 8.0), "forgetting": (0.0, 0.3), "perseveration": (-1.0, 2.0)}
    rows = []
    for subject in range(subjects):
        true = {name: float(rng.uniform(*bounds)) for name, bounds in typical.items()}
        found = fit(simulate(env, true, episodes, seed + subject), tuple(BOUNDS)).parameters
        rows.append({**true, **{f"{name} found": value for name, value in found.items()}})
    return pd.DataFrame(rows).rename_axis("subject")
