"""The chance level of a task: the return of random choices, measured by playing it."""

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from scipy.stats import binomtest

from seqrl_lightning.analysis.conditions import Groups
from seqrl_lightning.analysis.runs import Run
from seqrl_lightning.envs import EnvFactory
from seqrl_lightning.functional import episodes_to_criterion_by_chance, is_mastered
from seqrl_lightning.trust import task_kwargs, task_mode
from seqrl_lightning.types import FloatArray

_MOST_EPISODES = 1000
_MOST_ENV_STEPS = 20_000  # of slow tasks, fewer episodes are played


class Chance(NamedTuple):
    """The chance level of a task."""

    mean_return: float
    fewest: float  # expected episodes to criterion: the ends of the 95 % interval that follows from the episodes played
    most: float  # infinite, like `fewest`, if no episode was mastered; NaN if the task doesn't state when
    error: float = 0.0  # of the mean return: its standard error

    def is_likely_within(self, num_episodes: int) -> bool:
        """Whether random choices meet the criterion within that many episodes with a probability above 5 %."""
        return bool(1 - np.exp(-num_episodes / self.most) > 0.05)


def chance_of(run: Run) -> Chance:
    """Play a run's task, in its first block, with uniformly random actions; the run's wrappers are left out.

    Args:
        run: A run.
    """
    facts, data = run.facts, run.config["data"]
    with run.task():
        modes = task_mode(data), data.get("autoreset_mode")
        factory = EnvFactory(run.env_id, task_kwargs(data), (), 1, *modes)
        returns = random_returns(factory.make_env())
    mean, error = float(returns.mean()), float(returns.std() / np.sqrt(len(returns)))
    if facts.mastery_return is None:
        return Chance(mean, np.nan, np.nan, error)
    mastered = int(is_mastered(torch.from_numpy(returns), facts.mastery_return).sum())
    if mastered == 0:
        return Chance(mean, np.inf, np.inf, error)
    share = binomtest(mastered, len(returns)).proportion_ci()  # the number of episodes goes with its fifth power
    fewest, most = (episodes_to_criterion_by_chance(float(p)) for p in (share.high, share.low))
    return Chance(mean, fewest, most, error)


def chances_of(groups: Groups) -> dict[str, Chance]:
    """Play the task of each condition with random actions, each task once."""
    played: dict[str, Chance] = {}
    found = {}
    for name, runs in groups.items():
        task = f"{runs[0].env_id} {runs[0].config['data'].get('env_kwargs')}"
        found[name] = played[task] = played.get(task) or chance_of(runs[0])
    return found


def random_returns(env: gym.Env[Any, Any]) -> FloatArray:
    """Play episodes with uniformly random actions among those that ``info["action_mask"]`` allows.

    Args:
        env: The task; it is closed.

    Returns:
        [episodes] float64, the return of each episode, of at least one.
    """
    rng = np.random.default_rng([0, 1])  # not the stream of an environment with seed 0, whose cues it would repeat
    assert isinstance(env.action_space, gym.spaces.Discrete)
    actions = np.arange(env.action_space.n)
    returns: list[float] = []
    env_steps = 0
    while not returns or (len(returns) < _MOST_EPISODES and env_steps < _MOST_ENV_STEPS):
        _, info = env.reset(seed=None if returns else 0)
        total, ended = 0.0, False
        while not ended and env_steps < 2 * _MOST_ENV_STEPS:
            allowed = actions[np.asarray(info["action_mask"], bool)] if "action_mask" in info else actions
            _, reward, terminated, truncated, info = env.step(int(rng.choice(allowed)))
            total += float(reward)
            env_steps += 1
            ended = terminated or truncated
        returns.append(total)
    env.close()
    return np.array(returns)
