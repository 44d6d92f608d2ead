"""The recorder of trials: every step of all environments, for its subscribers."""

from typing import NamedTuple

from seqrl_lightning.collect.policy import Explorer
from seqrl_lightning.envs import Outcome, Shown
from seqrl_lightning.types import Array, BoolArray, IntArray


class TrialStep(NamedTuple):
    """One step of all environments, N of them, as the agent took it."""

    shown: Shown  # what it saw
    action: IntArray  # [N]
    explores: BoolArray  # [N], whether the action was random
    q_values: Array | None  # [N, A]; NaN, or None for all, where the network wasn't asked because all explored
    outcome: Outcome  # what it led to
    trial: IntArray  # [N], env steps before it in the episode
    is_trial: BoolArray  # [N], false where the step only reset the environment


class TrialRecorder:
    """Record every step of tasks that state the correct action, for its subscribers.

    Args:
        tells_correct_action: Whether the task is known to state it; otherwise recording begins when it first does.
    """

    def __init__(self, tells_correct_action: bool = False) -> None:
        self.tells_correct_action = tells_correct_action
        self._subscriptions: list[list[TrialStep]] = []

    def subscribe(self) -> list[TrialStep]:
        """Return a new list, to which every step is added from now on; the caller empties it."""
        self._subscriptions.append([])
        return self._subscriptions[-1]

    def end_subscriptions(self) -> None:
        """Forget all subscribers."""
        self._subscriptions.clear()

    def wants(self, shown: Shown) -> bool:
        """Return whether to record the step after these observations."""
        return bool(self._subscriptions) and (self.tells_correct_action or shown.correct_action is not None)

    def record(
        self,
        shown: Shown,
        action: IntArray,
        policy: Explorer,
        outcome: Outcome,
        trial: IntArray,
        is_trial: BoolArray,
    ) -> None:
        """Record a step.

        Args:
            shown: The observations before the step.
            action: [N], taken in it.
            policy: The policy that picked the actions.
            outcome: The outcome of the step.
            trial: [N], env steps before it in the episode.
            is_trial: [N], false where the step only reset the environment.
        """
        assert policy.explores is not None
        step = TrialStep(shown, action, policy.explores, policy.values, outcome, trial, is_trial)
        for subscription in self._subscriptions:
            subscription.append(step)
