"""Vector environments that reset within the step that ends an episode, or don't reset by themselves."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from seqrl_lightning.envs.admitted import ACTION_MASK, BLOCK, CORRECT_ACTION, EnvValueError
from seqrl_lightning.types import Array, BoolArray, IntArray

_LABELS = (ACTION_MASK, BLOCK, CORRECT_ACTION)


_MASK = "reset_mask"  # Gymnasium's name


class ResetOptions(dict[str, Any]):
    """Options for a reset that know whether they were read: an environment that ignores them may not show it."""

    was_read = False

    def __getattribute__(self, name: str) -> Any:
        """Return a method of the dict; all public ones read it."""
        if not name.startswith("_") and name != "was_read":
            self.was_read = True
        return super().__getattribute__(name)

    def __contains__(self, key: object) -> bool:
        """Return whether there is such an option."""
        self.was_read = True
        return super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        """Return an option."""
        self.was_read = True
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the options' names, as a copy of them does."""
        self.was_read = True
        return super().__iter__()


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
        self._shown: Array = np.empty(0)  # by the environments themselves, last
        self._start_infos: dict[str, Any] = {}  # of the episodes that have begun unseen

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every environment."""
        self._ended = np.zeros(self.num_envs, np.bool_)
        observation, infos = self.env.reset(seed=seed, options=options)
        self._shown = np.array(observation)
        return observation, infos

    def step(self, actions: IntArray) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Act in each environment. One whose episode has ended starts the next episode instead.

        Raises:
            EnvValueError: If the environments don't take ``reset_mask``.
        """
        restarting = self._ended
        if restarting.any():
            if self._mode is AutoresetMode.DISABLED:  # stepping it after its end isn't allowed
                _, self._start_infos = self._reset_some(restarting)
            actions = _with_allowed_actions(actions, self._start_infos, restarting)
        observation, reward, terminated, truncated, infos = self.env.step(actions)
        observation, reward, terminated, truncated = (
            np.array(column) for column in (observation, reward, terminated, truncated)
        )
        self._shown = observation.copy()
        infos = self._start_infos = dict(infos)
        ended = (terminated | truncated) & ~restarting
        if self._mode is AutoresetMode.SAME_STEP and ended.any():
            infos = dict(infos)
            self._show_final(observation, infos, ended)
        if restarting.any():
            first, first_infos = self._reset_some(restarting, ended)
            observation[restarting] = first[restarting]
            _merge(infos, first_infos, restarting)
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

    def _reset_some(self, restarting: BoolArray, ended: BoolArray | None = None) -> tuple[Array, dict[str, Any]]:
        """Reset some environments.

        Args:
            restarting: Which ones, [N].
            ended: Which ones' episodes have ended in this step, [N].

        Returns:
            What all show, and their infos.

        Raises:
            EnvValueError: If the others don't go on as they were.
        """
        options = ResetOptions({_MASK: restarting.copy()})
        first, infos = self.env.reset(options=options)
        self._shown, before = np.array(first), self._shown
        goes_on = ~restarting
        if ended is not None and self._mode is AutoresetMode.DISABLED:
            goes_on &= ~ended  # what is shown after an end is left to the environment
        if not options.was_read or not np.array_equal(self._shown[goes_on], before[goes_on]):
            how = "has reset other environments, too" if options.was_read else "isn't heeded"
            raise EnvValueError(
                f"reset(options={{{_MASK!r}: ...}}) {how}; without it, only next-step autoreset can be used "
                "(AutoresetMode.NEXT_STEP)"
            )
        return self._shown, infos


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
