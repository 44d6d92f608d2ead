"""Wrappers of rewards, for N environments at once."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import gymnasium as gym

from seqrl_lightning.envs.wrappers import ScaleReward
from seqrl_lightning.envs.wrapping import Wrapper
from seqrl_lightning.types import FloatArray, require

RewardFunction = Callable[[FloatArray], FloatArray]
"""Changes the rewards of N environments, [N]."""

_OF_REWARDS = (gym.wrappers.ClipReward, ScaleReward)  # their `reward` takes arrays as well as numbers


def reward_functions(wrappers: Sequence[Wrapper]) -> list[RewardFunction]:
    """Return the functions by which wrappers of single environments change rewards, for N environments at once.

    Args:
        wrappers: ``ClipReward`` or ``ScaleReward``, with their settings.

    Raises:
        ConfigurationError: If there is any other wrapper, which has to wrap each environment by itself.
    """
    return [_reward_function(wrapper, f"data.wrappers[{k}]") for k, wrapper in enumerate(wrappers)]


def _reward_function(wrapper: Wrapper, setting: str) -> RewardFunction:
    try:
        wrapped: object = wrapper(gym.Env[Any, Any]())
    except Exception:  # it asks for more than an environment without spaces
        wrapped = None
    must_be = f"{' or '.join(kind.__name__ for kind in _OF_REWARDS)} with data.vectorization_mode vector_entry_point"
    require(type(wrapped) in _OF_REWARDS, setting, wrapper if wrapped is None else type(wrapped).__name__, must_be)
    assert isinstance(wrapped, _OF_REWARDS)
    return cast(RewardFunction, wrapped.reward)  # Gymnasium annotates it for a single reward
