"""Vector environments that reset within the step that ends an episode, or don't reset by themselves."""

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from seqrl_lightning.envs.admitted import ACTION_MASK, BLOCK, CORRECT_ACTION, EnvValueError
from seqrl_lightning.types import Array, BoolArray, IntArray

_LABELS = (ACTION_MASK, BLOCK, CORRECT_ACTION)


class PartialResets(VectorWrapper[Any, Any, Any, Any, Any]):
    """Turn same-step and disabled autoreset into next-step autoreset, by resets of single environments.

    A vector environment steps all its environments at once. So an environment whose episode has ended is stepped while
    the others go on, and what that step shows is thrown away by a reset (Gymnasium's ``options["reset_mask"]``): every
    episode that the agent sees begins with a reset and is whole.

    Args:
        envs: The environments, which take ``reset_mask``.
        mode: When they reset themselves.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any], mode: AutoresetMode) -> None:
        super().__init__(envs)
        self.metadata = {**(envs.metadata or {}), "autoreset_mode": AutoresetMode.NEXT_STEP}
        self._mode = mode
        self._ended: BoolArray = np.zeros(envs.num_envs, np.bool_)
        self._start_infos: dict[str, Any] = {}  # of the episodes that have begun unseen

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every environment."""
        self._ended = np.zeros(self.num_envs, np.bool_)
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: IntArray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Act in each environment. One whose episode has ended starts the next episode instead.

        Raises:
            EnvValueError: If the environments don't take ``reset_mask``.
        """
        restarting = self._ended
        if restarting.any():
            if self._mode is AutoresetMode.DISABLED:  # stepping it after its end isn't allowed
                _, self._start_infos = self.env.reset(options={"reset_mask": restarting.copy()})
            actions = _with_allowed_actions(actions, self._start_infos, restarting)
        observation, reward, terminated, truncated, infos = self.env.step(actions)
        observation, reward, terminated, truncated = (
            np.array(column) for column in (observation, reward, terminated, truncated)
        )
        infos = self._start_infos = dict(infos)
        ended = (terminated | truncated) & ~restarting
        if self._mode is AutoresetMode.SAME_STEP and ended.any():
            infos = dict(infos)
            self._show_final(observation, infos, ended)
        if restarting.any():
            self._restart(observation, infos, restarting, ended)
            reward[restarting], terminated[restarting], truncated[restarting] = 0.0, False, False
        self._ended = ended
        return observation, reward, terminated, truncated, infos

    def _show_final(self, observation: Array, infos: dict[str, Any], ended: BoolArray) -> None:
        """Show what the episodes ended with, instead of the next ones' first observations."""
        final = infos.get("final_obs")
        if final is None:
            raise EnvValueError("an episode ended without info['final_obs'], which same-step autoreset has to tell")
        for env in np.flatnonzero(ended).tolist():
            observation[env] = final[env]
        _merge(infos, infos.get("final_info", {}), ended)

    def _restart(self, observation: Array, infos: dict[str, Any], restarting: BoolArray, ended: BoolArray) -> None:
        """Reset some environments, and show how their episodes start."""
        first, first_infos = self.env.reset(options={"reset_mask": restarting.copy()})
        first, goes_on = np.asarray(first), ~(restarting | ended)
        if not np.array_equal(first[goes_on], observation[goes_on]):
            raise EnvValueError(
                "reset(options={'reset_mask': ...}) has reset other environments, too; without it, only next-step "
                "autoreset can be used (AutoresetMode.NEXT_STEP)"
            )
        observation[restarting] = first[restarting]
        _merge(infos, first_infos, restarting)


def _with_allowed_actions(actions: IntArray, infos: dict[str, Any], envs: BoolArray) -> IntArray:
    """Return actions of which those of some environments are the first that they allow."""
    actions = np.array(actions)
    masks, has_told = infos.get(ACTION_MASK), infos.get(f"_{ACTION_MASK}", envs)
    for env in np.flatnonzero(envs).tolist():
        actions[env] = 0 if masks is None or not has_told[env] else np.argmax(np.asarray(masks[env]) != 0)
    return actions


def _merge(infos: dict[str, Any], others: dict[str, Any], envs: BoolArray) -> None:
    """Replace the labels of some environments by those of ``others``."""
    for key in _LABELS:
        if key not in infos and key not in others:
            continue
        template = np.asarray(infos.get(key, others.get(key)))
        values = np.array(infos[key]) if key in infos else np.zeros_like(template)
        told = np.array(infos.get(f"_{key}", np.full(len(envs), key in infos)), np.bool_)
        if key in others:
            values[envs] = np.asarray(others[key])[envs]
            told[envs] = np.asarray(others.get(f"_{key}", np.ones(len(envs), np.bool_)))[envs]
        else:
            told[envs] = False
        infos[key], infos[f"_{key}"] = values, told
