"""Play one episode in each environment, for evaluation, testing and prediction."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv

from seqrl_lightning.types import Array, BoolArray, IntArray, State

Act = Callable[[Array, State, BoolArray | None], tuple[IntArray, State]]
"""Maps observations [N, *obs], the policy's state and the action masks [N, A] to actions [N] and the next state."""


class Step(NamedTuple):
    """One step of N environments."""

    observation: Array  # [N, *obs]
    action: IntArray  # [N]
    reward: Array  # [N] float
    terminated: BoolArray  # [N]
    truncated: BoolArray  # [N]
    infos: dict[str, Any]  # of the time at which the action was chosen
    is_playing: BoolArray  # [N] whether the environment was still in its first episode


def rollout(
    act: Act, envs: VectorEnv[Any, Any, Any], seed: int, options: dict[str, Any] | None = None
) -> Iterator[Step]:
    """Play one episode in each environment and yield every step until the last of them has ended.

    Args:
        act: The policy.
        envs: The N environments.
        seed: Environment i is seeded with ``seed + i``, by Gymnasium's rule for vector environments.
        options: Options of ``reset()``.

    Yields:
        The steps, also of environments whose episode has ended (see ``is_playing``).
    """
    observation, infos = envs.reset(seed=seed, options=options)
    is_playing = np.ones(envs.num_envs, np.bool_)
    state: State = None
    while is_playing.any():
        action, state = act(observation, state, action_mask_of(infos))
        next_observation, reward, terminated, truncated, next_infos = envs.step(action)
        yield Step(observation, action, reward, terminated, truncated, infos, is_playing)
        is_playing = is_playing & ~(terminated | truncated)
        observation, infos = next_observation, next_infos


def action_mask_of(infos: dict[str, Any]) -> BoolArray | None:
    """Return the allowed actions, ``[N, A] bool``, or None if any action is allowed.

    They come from ``info["action_mask"]``, as Gymnasium and PettingZoo have it.
    """
    mask = infos.get("action_mask")
    if mask is None:
        return None
    if mask.dtype == object:  # vector environments put the arrays of single ones into an array of objects
        mask = np.stack(list(mask))
    return np.asarray(mask, np.bool_)
