"""The datamodule that an agent fills: environments to learn in, and the memory of the transitions in them."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from seqrl_lightning.checkpoints.loading import load_from_checkpoint
from seqrl_lightning.data.reading import read_logged
from seqrl_lightning.data.requirements import require_learner_of_logs
from seqrl_lightning.data.shared import LearnerDataModule
from seqrl_lightning.env_ids import EnvMaker
from seqrl_lightning.envs import Border, FollowsBlocks
from seqrl_lightning.envs.faults import EnvValueError
from seqrl_lightning.envs.followed_blocks import block_after
from seqrl_lightning.replay import RingBuffer
from seqrl_lightning.replay.logged import dealt
from seqrl_lightning.replay.room import require_room
from seqrl_lightning.saved_state import saved
from seqrl_lightning.trust import MAX_FILE_GIB, Allowed
from seqrl_lightning.types import RunError, require


class ReplayDataModule(LearnerDataModule):
    """Environments to learn in, the replay memory they fill, and separate environments to evaluate in.

    Args:
        env_id: Gymnasium id of the task (``package:Id`` imports a package first), or ``my_module:Name`` of a class or a
            function that makes it; from Python, also the class or the function itself.
        num_envs: Environments that the agent steps side by side.
        capacity: Slots of the replay memory, over all environments.
        mmap_dir: A folder for the stored observations, as a memory-mapped file; None keeps them in memory.
        trials: Tables, or one, whose episodes the replay memory begins with (see :class:`LoggedTrials`): the agent then
            learns from them and from its own, without warming the memory up. None begins with an empty one.
        save_replay: Whether checkpoints hold the replay memory. Without it they are small, and a resumed run fills the
            memory again before it learns.
        max_gib: Tables that are larger, or take more memory, are refused; ``seqrl`` sets it by ``--max_gib``.
        shared: The settings of :class:`LearnerDataModule`, which every datamodule has.

    Attributes:
        envs: The environments to learn in (from ``setup("fit")`` on), made when they are first asked for.

    Raises:
        ConfigurationError: If a setting can't work with this task.
    """

    def __init__(
        self,
        env_id: str | EnvMaker,
        num_envs: int = 1,
        *,
        capacity: int = 10_000,
        mmap_dir: str | None = None,
        trials: str | list[str] | None = None,
        save_replay: bool = True,
        max_gib: float = MAX_FILE_GIB,
        **shared: Any,
    ) -> None:
        require(num_envs > 0, "data.num_envs", num_envs, "at least 1")
        super().__init__(env_id, **shared)
        must_be = f"at most data.capacity = {capacity}"
        require(self.batch_size <= capacity, "data.batch_size", self.batch_size, must_be)
        must_be = "cpu with data.mmap_dir, which is for observations that don't fit into memory"
        require(mmap_dir is None or self.buffer_device == "cpu", "data.buffer_device", self.buffer_device, must_be)
        self.num_envs = num_envs
        self.capacity = capacity
        self.trials = trials
        self.save_replay = save_replay
        if mmap_dir is None and self.buffer_device == "cpu":
            require_room(capacity, int(np.prod(self.obs_shape)) * np.dtype(self.obs_dtype).itemsize)
        self.ring = RingBuffer(capacity, num_envs, self.obs_shape, self.obs_dtype, mmap_dir, self.frame_stack)
        if trials is not None:
            logged = read_logged(trials, self.obs_shape, self.obs_dtype, self.n_actions, max_gib)
            self.ring.begin_with(dealt(logged.rows, num_envs))

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's other arguments have no meaning here
        cls, checkpoint_path: str | Path, *, allow: Allowed = (), **settings: Any
    ) -> Self:
        """Build a datamodule from a checkpoint's settings, without its replay memory; see :class:`LearnerModule`.

        The checkpoint's ``mmap_dir`` and ``trials`` aren't used, since a stranger may have chosen them; give others.
        """
        settings = {"mmap_dir": None, "trials": None, "max_gib": MAX_FILE_GIB, **settings}
        return load_from_checkpoint(cls, checkpoint_path, "datamodule_hyper_parameters", allow, settings)[0]

    def setup(self, stage: str) -> None:
        """Make the environments that ``stage`` needs."""
        if stage == "fit":
            if self.trials is not None:
                require_learner_of_logs(self._learner, self.sampler)
            vars(self).pop("envs", None)  # those of an earlier fit are closed
        super().setup(stage)

    @functools.cached_property
    def envs(self) -> Border:
        """The environments to learn in."""
        return self._open(self.num_envs)

    def remake_envs(self) -> Border:
        """Replace the environments to learn in, of which one is broken, and return the new ones."""
        self._discard(self.envs)
        self.envs = self._open(self.num_envs)
        return self.envs

    @property
    def block_of(self) -> Callable[[int], int] | None:
        """The block after a number of finished episodes; None without blocks, or if the task counts its own episodes.

        It raises a ``RunError`` where the task's own ``block_of`` raises, or returns anything but a block.
        """
        if not self.num_blocks:
            return None
        task = self.task
        return functools.partial(self._block_after, task) if isinstance(task, FollowsBlocks) else None

    def _block_after(self, task: FollowsBlocks, finished_episodes: int) -> int:
        try:
            return block_after(task, finished_episodes, self.num_blocks)
        except EnvValueError as error:
            raise RunError(f"{self.env_id}: {error}") from error

    def _memory_state(self) -> dict[str, Any]:
        return {"ring": self.ring.state_dict(), "sampler": self.sampler.state_dict()} if self.save_replay else {}

    def _load_memory(self, state: dict[str, Any]) -> None:
        if "ring" in state:
            self.ring.load_state_dict(saved(state["ring"], dict, "the replay memory"), self.n_actions)
            self._load_sampler(saved(state.get("sampler"), dict, "the sampler"))
        elif self.save_replay and self.trainer is not None and self.trainer.state.fn == "fit":  # others need none
            rank_zero_info("The checkpoint holds no replay memory; a new one is filled before the run continues.")
