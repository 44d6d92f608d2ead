"""The environments of a collector, as it needs them."""

from collections.abc import Sequence
from typing import Any, Protocol

from seqrl_lightning.envs import EnvFault, Outcome, Shown
from seqrl_lightning.types import BoolArray, IntArray, Progress


class CollectorEnvs(Protocol):
    """The environments of a collector; see :class:`~seqrl_lightning.collect.GuardedEnvs` for each method."""

    num_envs: int

    def start_episodes(self, progress: Progress, rank: int) -> tuple[int, Shown]:
        """Start an episode in every environment, and return their seed and what they show."""

    def step(self, action: IntArray) -> Outcome:
        """Take a step in every environment."""

    def start_step(self, action: IntArray) -> None:
        """Start a step without waiting for it."""

    def finish_step(self) -> Outcome:
        """Wait for the step that was started."""

    def remember(self, shown: Shown, has_ended: BoolArray) -> None:
        """Continue from a step that showed ``shown``."""

    def follow_block(self, block: int) -> None:
        """Set the block of the episodes that start from now on."""

    def replace(self, fault: EnvFault, seed: int, lengths: IntArray, progress: Progress) -> Sequence[int]:
        """Recreate the environments, and return the numbers of those that may be the broken one."""

    def state_dict(self) -> dict[str, Any] | None:
        """Return the environments' own state; None if it is unknown."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the environments back to where ``state_dict`` was taken."""
