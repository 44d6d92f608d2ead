"""A task that exists vectorized only, as a single environment."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.core import RenderFrame
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, iterate

from seqrl_lightning.envs.faults import EnvValueError, short
from seqrl_lightning.envs.infos import ACTION_MASK, BLOCK, CORRECT_ACTION, masks_per_env, own_infos, values_per_env
from seqrl_lightning.envs.state import arrays, env_state, plain, set_env_state
from seqrl_lightning.envs.values import as_flag
from seqrl_lightning.saved_state import require_saved, saved

_Start = tuple[Any, dict[str, Any]]


class UnvectorizedEnv(gym.Env[Any, Any]):
    """A vector environment of one environment, as a single environment.

    With same-step or disabled autoreset, N environments are N of these. A single vector environment would step all of
    its environments at once: one whose episode has ended would be stepped while the others continue, and have to be
    reset once more. A task whose episodes follow from its resets (levels, a curriculum) would show only some of them.

    Of the infos only the package's labels are kept.

    Args:
        envs: A vector environment of one environment.
        mode: When it resets itself.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any], mode: AutoresetMode) -> None:
        self.envs = envs
        self.spec, self.metadata, self.render_mode = envs.spec, envs.metadata or {}, envs.render_mode
        self.observation_space, self.action_space = envs.single_observation_space, envs.single_action_space
        self._batched_space = batch_space(self.observation_space, 1)
        self._resets_in_step = mode is AutoresetMode.SAME_STEP
        self._start: _Start | None = None  # of the episode that has begun in the last one's last step

    @property
    def unwrapped(self) -> Any:  # no Env, as Gymnasium has it
        """The task: the vector environment without its wrappers."""
        return self.envs.unwrapped

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> _Start:
        """Start an episode, or continue the one that autoreset has started.

        Raises:
            EnvValueError: If the observations aren't those of one environment.
        """
        start, self._start = self._start, None
        if start is not None and seed is None and not options:
            return start
        return self._shown(*self.envs.reset(seed=seed, options=options))

    def step(self, action: object) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step. Raise as :meth:`reset` does."""
        observation, reward, terminated, truncated, infos = self.envs.step(np.array([action]))
        has_terminated, was_truncated = as_flag(terminated, "terminated"), as_flag(truncated, "truncated")
        shown = self._shown(observation, infos)
        if self._resets_in_step and (has_terminated or was_truncated):
            self._start = copy.deepcopy(shown)  # it may write into the same arrays again
            shown = _final(infos)
        return shown[0], reward, has_terminated, was_truncated, shown[1]

    def _shown(self, observation: object, infos: object) -> _Start:
        try:
            (one,) = iterate(self._batched_space, observation)
        except (KeyError, TypeError, ValueError) as error:
            raise EnvValueError(f"the observations are {short(observation)}; they must be one, in a batch") from error
        return one, _labels(own_infos(infos))

    def state_dict(self) -> dict[str, Any] | None:
        """Return the state of the vector environment, and how the next episode starts; None if it is unknown."""
        state = env_state(self.envs)
        return None if state is None else {"envs": state, "start": plain(self._start)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        set_env_state(self.envs, saved(state_dict.get("envs"), dict, "the state of the vector environment"))
        start = arrays(state_dict.get("start"))
        is_start = start is None or (isinstance(start, list) and len(start) == 2 and isinstance(start[1], dict))
        require_saved(is_start, "the start of the next episode", start, "an observation and its infos, or null")
        self._start = None if start is None else (start[0], start[1])

    def render(self) -> RenderFrame | None:
        """Return the environment's picture."""
        pictures = self.envs.render()
        return pictures if pictures is None else pictures[0]

    def close(self) -> None:
        """Close the environment."""
        self.envs.close()


def _final(infos: dict[str, Any]) -> _Start:
    """Return what an episode ended with, instead of the next one's start."""
    try:
        final = infos["final_obs"][0]
    except (KeyError, IndexError, TypeError) as error:
        value = short(infos.get("final_obs"))
        must_be = "the observation with which an episode has ended, which same-step autoreset has to tell"
        raise EnvValueError(f"info['final_obs'] is {value}; it must hold {must_be}") from error
    final_infos = infos.get("final_info")
    return final, _labels({} if final_infos is None else own_infos(final_infos))


def _labels(infos: dict[str, Any]) -> dict[str, Any]:
    """Return the labels that a vector environment of one states.

    Raises:
        EnvValueError: If its masks aren't one in a batch.
    """
    stated = {key: values_per_env(infos, key, 1) for key in (BLOCK, CORRECT_ACTION)}
    stated[ACTION_MASK] = masks_per_env(infos, 1)
    return {key: one[0][0] for key, one in stated.items() if one is not None and one[1][0]}
