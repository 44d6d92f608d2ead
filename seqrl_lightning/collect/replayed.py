"""The replay of rounds: environments and a policy by which a collector stores rows as if it had acted itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from seqrl_lightning.collect.rounds import Rounds, shown_in
from seqrl_lightning.envs import EnvFault, Outcome, Shown
from seqrl_lightning.saved_state import saved
from seqrl_lightning.types import Array, BoolArray, IntArray, Progress, State


class ReplayedEnvs:
    """The environments of all actors, as a collector steps them; see :class:`CollectorEnvs`.

    Args:
        rounds: The rounds that are replayed.
        policy: What replays the actions.
    """

    def __init__(self, rounds: Rounds, policy: "ReplayedPolicy") -> None:
        self.num_envs = rounds.num_envs
        self._rounds = rounds
        self._policy = policy

    def start_episodes(self, progress: Progress, rank: int) -> tuple[int, Shown]:
        """Start episodes in the environments of all actors."""
        return self._rounds.begin(self._policy.states, True, progress.env_steps, progress.env_faults)

    def step(self, action: IntArray) -> Outcome:
        """Return what the actors' step led to."""
        row = self._rounds.take_row()
        return Outcome._make(shown_in(row) if name == "shown" else row[name] for name in Outcome._fields)

    def follow_block(self, block: int) -> None:
        """Note the block; the actors follow it from the next round on."""
        self._rounds.block = block

    def state_dict(self) -> dict[str, Any] | None:
        """Return nothing: the policy saves the actors. None if the state of an environment is unknown."""
        states = self._policy.read_states()
        return None if any(state["collector"]["envs"] is None for state in states) else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the episodes of all actors."""
        self._rounds.begin(self._policy.states, False, 0)

    def remember(self, shown: Shown, has_ended: BoolArray) -> None:
        """Do nothing: each actor's environments remember by themselves."""

    def start_step(self, action: IntArray) -> None:
        """Do nothing: the actors have taken the step, or are taking it."""

    def finish_step(self) -> Outcome:
        """Return what the step led to."""
        return self.step(np.empty(0, np.int64))

    def replace(self, fault: EnvFault, seed: int, lengths: IntArray, progress: Progress) -> Sequence[int]:
        """Restart the actors that broke, and return the numbers of their environments."""
        progress.env_faults += 1
        self._policy.states = self._rounds.states()
        broken = self._rounds.replace_broken()
        self._rounds.warn(f"{fault.reason}; restarted: all begin new episodes, and those of the actor are dropped")
        share = self.num_envs // self._rounds.num_actors
        return [env for rank in broken for env in range(rank * share, (rank + 1) * share)]


class ReplayedPolicy:
    """The policy of all actors, as a collector asks it; see :class:`Explorer`.

    Args:
        rounds: The rounds that are replayed.

    Attributes:
        epsilon: The probability by which the last actions were random, on average over the environments.
        explores: Which of the last actions were random, [N] bool; None before the first.
        values: What the last actions were picked by, [N, A], NaN where an actor's network wasn't asked; None where none
            was.
        states: The states of all actors that were loaded; None at a run's start.
    """

    def __init__(self, rounds: Rounds) -> None:
        self.epsilon = 0.0
        self.explores: BoolArray | None = None
        self.values: Array | None = None
        self.states: list[Any] | None = None
        self._rounds = rounds

    @property
    def remembers(self) -> bool:
        """Whether the network carries a state."""
        return self._rounds.remembers

    @property
    def state(self) -> State:
        """The network's state before the step that is replayed next, [S, N, ...]; None if there is none."""
        state = self._rounds.row["state"]
        return None if state is None else torch.from_numpy(state.swapaxes(0, 1))

    def reset(self) -> None:
        """Do nothing: actors forget what they saw when they start episodes."""

    def find_memory(self, observation: Array) -> None:
        """Do nothing: the actors have found out."""

    def act(
        self,
        observation: Array,
        action_mask: BoolArray | None = None,
        is_first: BoolArray | None = None,
        env_steps: int = 0,
    ) -> IntArray:
        """Return the actions of the actors' step, [N]; they saw what is shown here."""
        row = self._rounds.row
        action, explores, epsilon, values = (row[name] for name in ("action", "explores", "epsilon", "q_values"))
        assert action is not None
        assert epsilon is not None
        self.explores, self.epsilon = explores, float(epsilon.mean())
        self.values = None if values is None or np.isnan(values).all() else values
        return action

    def read_states(self) -> list[Any]:
        """Return the states of all actors."""
        return self._rounds.states()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all actors, as tensors and primitives."""
        return {"actors": self.read_states()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states for the actors, which begin with the environments."""
        self.states = saved(state_dict.get("actors"), list, "the actors")
