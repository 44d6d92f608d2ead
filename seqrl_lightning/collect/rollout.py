"""Play whole episodes of a policy, one in each environment, for evaluation, testing and prediction."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv

from seqrl_lightning.envs import action_mask_of
from seqrl_lightning.types import Array, BoolArray, IntArray

Act = Callable[[Array, BoolArray | None], IntArray]
"""From observations [N, *obs] and the allowed actions [N, A] to actions [N], like :meth:`Policy.act`."""


class Step(NamedTuple):
    """One step of all environments, N of them."""

    observation: Array  # [N, *obs], seen before it
    action: IntArray  # [N]
    reward: Array  # [N] float
    terminated: BoolArray  # [N]
    truncated: BoolArray  # [N]
    infos: dict[str, Any]  # what the task stated before it
    is_playing: BoolArray  # [N], whether the environment's first episode was still under way


def rollout(
    act: Act, envs: VectorEnv[Any, Any, Any], seed: int, options: dict[str, Any] | None = None
) -> Iterator[Step]:
    """Play one episode in each environment, and yield every step until the last of them has ended.

    Args:
        act: Picks the actions.
        envs: The environments, N of them.
        seed: Environment i starts from ``seed + i`` (Gymnasium's own rule for a vector environment).
        options: The environments' options for ``reset``.
    """
    observation, infos = envs.reset(seed=seed, options=options)
    is_playing = np.ones(envs.num_envs, np.bool_)
    while is_playing.any():
        action = act(observation, action_mask_of(infos))
        next_observation, reward, terminated, truncated, next_infos = envs.step(action)
        yield Step(observation, action, reward, terminated, truncated, infos, is_playing)
        is_playing = is_playing & ~(terminated | truncated)
        observation, infos = next_observation, next_infos
