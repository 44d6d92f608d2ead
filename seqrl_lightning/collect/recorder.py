"""The recorder of trials: every step of all environments, for whoever subscribes."""

from typing import Any, NamedTuple

from seqrl_lightning.collect.policy import ExploringPolicy
from seqrl_lightning.envs.state import arrays, plain
from seqrl_lightning.types import Array, BoolArray, IntArray

_LABELS = ("block", "correct_action")


class TrialStep(NamedTuple):
    """One step of all environments, N of them, as the agent took it."""

    observation: Array  # [N, *obs], what it saw
    labels: dict[str, Any]  # block and correct_action, as far as the task states them; [N] each
    action: IntArray  # [N]
    explores: BoolArray  # [N], whether the action was random
    q_values: Array | None  # [N, A]; None where all explored, so that the network wasn't asked
    reward: Array  # [N]
    terminated: BoolArray  # [N]
    truncated: BoolArray  # [N]
    trial: IntArray  # [N], env steps before it in the episode
    is_trial: BoolArray  # [N], false where the step only reset the environment


class TrialRecorder:
    """Record every step of tasks that state the correct action, for whoever subscribes.

    Attributes:
        labels: What the task states about the present observation; None where nothing is recorded.
    """

    def __init__(self) -> None:
        self.labels: dict[str, Any] | None = None
        self._subscriptions: list[list[TrialStep]] = []

    def subscribe(self) -> list[TrialStep]:
        """Return a list of the caller's own, to which every step is added from now on; the caller empties it."""
        self._subscriptions.append([])
        return self._subscriptions[-1]

    def end_subscriptions(self) -> None:
        """Forget all subscribers."""
        self._subscriptions.clear()

    def note(self, infos: dict[str, Any]) -> None:
        """Note what the task states about the present observation, after a reset or a step of all environments."""
        is_wanted = self._subscriptions and "correct_action" in infos
        self.labels = {key: infos[key] for key in _LABELS if key in infos} if is_wanted else None

    def record(
        self,
        observation: Array,
        action: IntArray,
        policy: ExploringPolicy,
        outcome: tuple[Array, BoolArray, BoolArray],
        trial: IntArray,
        is_trial: BoolArray,
        infos: dict[str, Any],
    ) -> None:
        """Record a step, while ``labels`` isn't None.

        Args:
            observation: [N, *obs], seen before the step.
            action: [N], taken in it.
            policy: The policy that picked the actions.
            outcome: Reward, terminated and truncated, [N] each.
            trial: [N], env steps before it in the episode.
            is_trial: [N], false where the step only reset the environment.
            infos: What the task states after the step.
        """
        assert self.labels is not None
        assert policy.explores is not None
        choice = action, policy.explores, policy.values
        step = TrialStep(observation, self.labels, *choice, *outcome, trial, is_trial)
        for subscription in self._subscriptions:
            subscription.append(step)
        self.note(infos)

    def state_dict(self) -> dict[str, Any]:
        """Return the labels of the present observation, as tensors and primitives."""
        return {"labels": plain(self.labels)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.labels = arrays(state_dict["labels"])
