"""The datamodule of trials that were logged before: nothing is played, except to evaluate."""

from pathlib import Path
from typing import Any, Self

import numpy as np

from seqrl_lightning.checkpoints.loading import load_from_checkpoint
from seqrl_lightning.data.reading import read_logged
from seqrl_lightning.data.requirements import require_learner_of_logs
from seqrl_lightning.data.shared import LearnerDataModule
from seqrl_lightning.env_ids import EnvMaker
from seqrl_lightning.replay import RingBuffer
from seqrl_lightning.replay.logged import dealt
from seqrl_lightning.saved_state import saved
from seqrl_lightning.trainer_access import is_limited
from seqrl_lightning.trust import MAX_FILE_GIB, Allowed
from seqrl_lightning.types import require


class LoggedTrials(LearnerDataModule):
    """Trials that were logged before, to learn from without an environment, and the task, if there is one, to evaluate.

    The replay memory holds the table's episodes and nothing else: there is no agent. Batches are drawn from it as from
    an agent's own.

    A table has a row for each choice: ``trials.csv``, ``predictions.csv``, or any other CSV or Parquet file with the
    columns ``episode``, ``action``, ``reward`` and ``state`` (the observation: a JSON list, in Parquet also a list)
    and, optionally, ``trial`` (the order within an episode), ``subject``, ``seed``, ``session``, ``block`` and ``env``
    (each of which may number its own episodes), ``terminated``, ``truncated``, and ``action_mask`` (a list of 0 and 1:
    the actions that were allowed). ``minari:ID`` is a Minari data set on this machine.

    An episode that didn't terminate is learned from up to its last choice but one, since the table doesn't hold what
    that choice led to. Without the columns ``terminated`` and ``truncated``, every episode counts as terminated.

    Args:
        trials: The table, or several.
        env_id: Gymnasium id of the task, to play greedy episodes in; None for no evaluation. Without a task,
            observations are what the table holds: float32, or uint8 if they are arrays of such numbers.
        n_actions: Number of actions, if there is no task; by default, as many as the table has columns ``q_0``, ``q_1``
            and so on, or else one more than its largest action.
        max_gib: Tables that are larger, or take more memory, are refused; ``seqrl`` sets it by ``--max_gib``.
        shared: The settings of :class:`LearnerDataModule`, which every datamodule has.

    Raises:
        ConfigurationError: If a table can't be used, or a setting can't work with it.
    """

    has_agent = False
    num_envs = 1

    def __init__(
        self,
        trials: str | list[str],
        env_id: str | EnvMaker | None = None,
        n_actions: int | None = None,
        max_gib: float = MAX_FILE_GIB,
        **shared: Any,
    ) -> None:
        super().__init__(env_id, **shared)
        self.trials = trials
        if self.env_id is None:
            must_be = "1 without data.env_id: the table's observations are stacks already, or are none"
            require(self.frame_stack == 1, "data.frame_stack", self.frame_stack, must_be)
            logged = read_logged(trials, n_actions=n_actions, max_gib=max_gib)
            self.obs_shape, self.obs_dtype = logged.rows.observation.shape[1:], logged.rows.observation.dtype.name
            self.obs_is_binary = bool(np.isin(logged.rows.observation, (0, 1)).all())
            self.n_actions = logged.n_actions
        else:
            must_be = f"null, or the task's {self.n_actions}"
            require(n_actions in (None, self.n_actions), "data.n_actions", n_actions, must_be)
            logged = read_logged(trials, self.obs_shape, self.obs_dtype, self.n_actions, max_gib)
        self.save_hyperparameters({"n_actions": self.n_actions}, logger=False)  # the learner's, too
        rows = dealt(logged.rows, self.num_envs)
        slots = len(rows.action) + 1  # not full: samplers take the oldest rows of a full ring for half overwritten
        memory = (slots, self.num_envs, self.obs_shape, self.obs_dtype)
        self.ring = RingBuffer(*memory, frame_stack=self.frame_stack)
        self.ring.begin_with(rows)
        self.capacity = self.ring.capacity
        self._checksum = logged.checksum

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's other arguments have no meaning here
        cls, checkpoint_path: str | Path, *, trials: str | list[str], allow: Allowed = (), **settings: Any
    ) -> Self:
        """Build a datamodule from a checkpoint's settings and a given table, as a stranger may have named another."""
        settings = {"trials": trials, "max_gib": MAX_FILE_GIB, **settings}
        return load_from_checkpoint(cls, checkpoint_path, "datamodule_hyper_parameters", allow, settings)[0]

    def setup(self, stage: str) -> None:
        """Make the environments to evaluate in, and refuse settings with which nothing can be learned from a log.

        Raises:
            ConfigurationError: If the learner can't, nothing ends the run, or there is no task to evaluate in.
        """
        if stage == "fit":
            require_learner_of_logs(self._learner, self.sampler)
            must_be = "a number, or trainer.max_epochs or trainer.max_time: nothing ends this run"
            require(self.trainer is None or is_limited(self.trainer), "trainer.max_steps", -1, must_be)
        else:
            require(self.env_id is not None, "data.env_id", None, "a task, to play episodes in")
        super().setup(stage)

    def _memory_state(self) -> dict[str, Any]:
        return {"trials": self._checksum, "sampler": self.sampler.state_dict()}

    def _load_memory(self, state: dict[str, Any]) -> None:
        if "sampler" in state:  # only a resumed run has read its sidecar
            must_be = "the tables that the checkpoint's run learned from: these have other contents"
            require(state.get("trials") == self._checksum, "data.trials", self.trials, must_be)
            self._load_sampler(saved(state["sampler"], dict, "the sampler"))
