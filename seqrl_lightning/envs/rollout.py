"""Playing episodes: what evaluation, testing and prediction have in common."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv

from seqrl_lightning.types import Array, BoolArray, IntArray, State

Act = Callable[[Array, State, BoolArray | None], tuple[IntArray, State]]
"""From observations [N, *obs], the policy's state and the allowed actions [N, A] to actions [N] and the next state."""


class Step(NamedTuple):
    """One step of all environments. N is their number."""

    observation: Array  # [N, *obs]
    action: IntArray  # [N]
    reward: Array  # [N] float
    terminated: BoolArray  # [N]
    truncated: BoolArray  # [N]
    infos: dict[str, Any]  # what held when the action was chosen
    is_playing: BoolArray  # [N] whether the environment's first episode was still going on


def rollout(
    act: Act, envs: VectorEnv[Any, Any, Any], seed: int, options: dict[str, Any] | None = None
) -> Iterator[Step]:
    """Plays one episode in each environment and yields every step, until the last of them has ended.

    Args:
        act: The policy.
        envs: The environments, N of them.
        seed: Environment i starts from ``seed + i`` (Gymnasium's own rule for a vector environment).
        options: For ``reset``.
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
    """The actions that are allowed, [N, A] bool, as Gymnasium and PettingZoo say it: ``info["action_mask"]``."""
    mask = infos.get("action_mask")
    if mask is None:
        return None
    if mask.dtype == object:  # a vector environment keeps arrays in an array of objects
        mask = np.stack(list(mask))
    return np.asarray(mask, np.bool_)
