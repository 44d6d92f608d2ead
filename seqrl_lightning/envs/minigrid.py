"""Minigrid's observations as parts that networks read."""

import itertools
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

from seqrl_lightning.envs.stateless import Stateless
from seqrl_lightning.types import ConfigurationError

_SCALES = np.array([25, 51, 85], np.uint8)  # of the 11 codes of objects, 6 of colors and 4 of states: up to 255
_MAX_MISSIONS = 4096


class MinigridParts(Stateless, gym.ObservationWrapper[Any, Any, Any]):
    """Convert Minigrid's observations for networks that read pictures and numbers.

    - ``image``, ``[7, 7, 3] uint8``: the codes of object, color and state of each cell, spread over 0 to 255.
    - ``direction``: Minigrid's, one of four.
    - ``mission``: the number of the text among all that the task's mission can be; only where there are several.

    Args:
        env: A Minigrid environment, with its own observations.

    Raises:
        ConfigurationError: If observations have no image, direction and mission, or the missions can't be listed.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, Dict) or not {"image", "direction", "mission"} <= set(space.spaces):
            raise ConfigurationError(f"MinigridParts needs Minigrid's image, direction and mission; {env} has {space}")
        image = space["image"]
        assert isinstance(image, Box)
        self._missions = {text: number for number, text in enumerate(_missions_of(space["mission"], str(env)))}
        parts = {"image": Box(0, 255, image.shape, np.uint8), "direction": space["direction"]}
        if len(self._missions) > 1:
            parts["mission"] = Discrete(len(self._missions))
        self.observation_space = Dict(parts)

    def observation(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parts."""
        parts = {"image": observation["image"] * _SCALES, "direction": observation["direction"]}
        if len(self._missions) > 1:
            parts["mission"] = self._missions[observation["mission"]]
        return parts


def _missions_of(space: Any, env: str) -> list[str]:  # the package isn't needed here
    """Return all texts of a ``minigrid.core.mission.MissionSpace``, in the order of its placeholders."""
    try:
        combinations = list(itertools.islice(itertools.product(*space.ordered_placeholders or ()), _MAX_MISSIONS + 1))
        missions = list(dict.fromkeys(space.mission_func(*words) for words in combinations))
    except (AttributeError, TypeError) as error:  # BabyAI's, which are sentences
        raise ConfigurationError(f"MinigridParts can't list the missions of {env}") from error
    if len(combinations) > _MAX_MISSIONS:
        raise ConfigurationError(f"MinigridParts numbers at most {_MAX_MISSIONS:,} missions; {env} has more")
    return missions
