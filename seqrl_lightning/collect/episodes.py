"""Episodes: the state of the ones under way, and a log of finished ones."""

from collections import deque
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch

from seqrl_lightning.envs import Outcome, Shown
from seqrl_lightning.envs.state import arrays, plain
from seqrl_lightning.saved_state import require_saved, saved, saved_count, saved_tensor
from seqrl_lightning.types import BoolArray, FloatArray, IntArray

_MAX_WAITING_EPISODES = 100_000  # reached only in a run that never drains the log


class Episode(NamedTuple):
    """A finished episode."""

    env_steps: int  # taken in all environments until its end (with several processes: as if all were equally far)
    env: int  # number of its environment, over all processes
    block: int  # whose rule held; 0 for tasks without blocks
    episode_return: float  # undiscounted
    episode_length: int  # env steps
    terminated: bool  # rather than truncated


@dataclass
class RunningEpisodes:
    """The state of the episode under way in each of N environments.

    Attributes:
        seed: The seed of the last reset of all environments; environment i had ``seed + i``.
        shown: What the environments show now.
        returns: [N] float64, sums of the task's own rewards so far.
        lengths: [N] int64, env steps so far.
        is_first: [N] bool, whether the observation is the first of an episode.
        is_restarting: [N] bool, whether the episode has ended, so that the next step only resets the environment.
    """

    seed: int
    shown: Shown
    returns: FloatArray
    lengths: IntArray
    is_first: BoolArray
    is_restarting: BoolArray

    @classmethod
    def after_reset(cls, seed: int, shown: Shown) -> "RunningEpisodes":
        """Return the state right after a reset of all environments."""
        num_envs = len(shown.observation)
        return cls(
            seed=seed,
            shown=shown,
            returns=np.zeros(num_envs),
            lengths=np.zeros(num_envs, np.int64),
            is_first=np.ones(num_envs, np.bool_),
            is_restarting=np.zeros(num_envs, np.bool_),
        )

    def advance(self, outcome: Outcome, ended: BoolArray) -> int:
        """Count one step of all environments. Return in how many of them it was only a reset.

        Args:
            outcome: The outcome of the step.
            ended: [N] bool, where it ended the episode.
        """
        self.shown = outcome.shown
        self.returns += outcome.task_reward
        num_restarted = int(np.count_nonzero(self.is_restarting))  # several times as fast as any()
        self.lengths += ~self.is_restarting if num_restarted else 1
        self.is_first, self.is_restarting = self.is_restarting, ended  # a reset shows an episode's first observation
        return num_restarted

    def take_ended(self, terminated: BoolArray, env_steps: int, first_env: int) -> list[Episode]:
        """Return the episodes that the last step ended, and set their returns and lengths to 0.

        Args:
            terminated: [N] bool, where the episode ended by termination.
            env_steps: Env steps taken so far, in all environments of all processes.
            first_env: Number of the first environment, over all processes.
        """
        blocks = np.zeros(len(terminated), np.int64) if self.shown.block is None else self.shown.block
        episodes = [
            Episode(
                env_steps=env_steps,
                env=first_env + env,
                block=int(blocks[env]),
                episode_return=float(self.returns[env]),
                episode_length=int(self.lengths[env]),
                terminated=bool(terminated[env]),
            )
            for env in np.flatnonzero(self.is_restarting).tolist()
        ]
        self.returns[self.is_restarting] = 0.0
        self.lengths[self.is_restarting] = 0
        return episodes

    def state_dict(self) -> dict[str, Any]:
        """Return all fields, as tensors and primitives."""
        own = {field.name: plain(getattr(self, field.name)) for field in fields(self)}
        return {**own, "shown": plain(self.shown._asdict())}

    @classmethod
    def from_state_dict(cls, state: object, num_envs: int) -> "RunningEpisodes":
        """Return the episodes that ``state_dict`` saved.

        Raises:
            StateError: If they aren't those of ``num_envs`` environments.
        """
        state_dict = saved(state, dict, "the episodes")
        seed = saved_count(state_dict.get("seed"), "the episodes' seed")
        own = cls.after_reset(seed, _saved_shown(state_dict, num_envs))
        for name, fresh in vars(own).items():
            if isinstance(fresh, np.ndarray):
                dtype, what = torch.from_numpy(fresh).dtype, f"the episodes' {name}"
                setattr(own, name, arrays(saved_tensor(state_dict.get(name), fresh.shape, dtype, what)))
        return own


def _saved_shown(state_dict: dict[str, Any], num_envs: int) -> Shown:
    """Return what the environments show: a row of each array for each of them."""
    shown = arrays(saved(state_dict.get("shown"), dict, "the episodes' shown"))
    is_whole = shown.keys() == set(Shown._fields)
    require_saved(is_whole, "the episodes' shown", f"one of {sorted(map(str, shown))}", f"one of {Shown._fields}")
    for name, array in shown.items():
        is_one = isinstance(array, np.ndarray) and array.ndim > 0 and len(array) == num_envs
        is_one = is_one or (array is None and name != "observation")
        require_saved(
            is_one, f"the episodes' {name}", array, f"an array with a row for each of {num_envs} environments"
        )
    return Shown(**shown)


class EpisodeLog:
    """Finished episodes, kept until they are asked for.

    Attributes:
        recent_returns: The returns of the last 10 episodes.
    """

    def __init__(self) -> None:
        self.recent_returns: deque[float] = deque(maxlen=10)
        self._waiting: deque[Episode] = deque(maxlen=_MAX_WAITING_EPISODES)

    def add(self, episode: Episode) -> None:
        """Add a finished episode."""
        self._waiting.append(episode)
        self.recent_returns.append(episode.episode_return)

    def drain(self) -> list[Episode]:
        """Return the episodes that were added since the last call, in their order."""
        episodes = list(self._waiting)
        self._waiting.clear()
        return episodes
