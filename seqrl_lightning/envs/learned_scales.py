"""Wrappers that learn a scale while they are used."""

import gymnasium as gym
from gymnasium.wrappers.utils import RunningMeanStd

from seqrl_lightning.envs.state import Layered, layers
from seqrl_lightning.types import ConfigurationError

_REWARD_SCALES = (gym.wrappers.NormalizeReward, gym.wrappers.vector.NormalizeReward, gym.RewardWrapper)
_OF_REWARDS = "the same reward would be stored with another scale each time", "TransformReward", "rewards"
_OF_OBSERVATIONS = "evaluation would show other observations than training", "RescaleObservation", "observations"


def require_no_statistics(env: Layered, env_id: str, place: str) -> None:
    """Refuse wrappers that learn a scale while they are used, each in its own environment.

    Args:
        env: The environment.
        env_id: Its id.
        place: Where its outer wrappers come from, as an error begins.

    Raises:
        ConfigurationError: If there is such a wrapper.
    """
    for layer in layers(env)[:-1]:
        keeps_statistics = any(isinstance(value, RunningMeanStd) for value in vars(layer).values())
        if keeps_statistics or hasattr(type(layer), "update_running_mean"):  # as Gymnasium's wrappers have it
            scales_rewards = isinstance(layer, _REWARD_SCALES)
            reason, fixed, kind = _OF_REWARDS if scales_rewards else _OF_OBSERVATIONS
            raise ConfigurationError(
                f"{place} {type(layer).__name__} around {env_id}, which learns its scale in each environment by "
                f"itself: {reason}. Use model.normalize_{kind}, or a fixed scale, like gymnasium.wrappers.{fixed}"
            )
