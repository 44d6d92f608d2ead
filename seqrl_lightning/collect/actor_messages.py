"""The settings that actors get, and their answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from seqrl_lightning.envs import Border
from seqrl_lightning.exploration import EpsilonSchedule
from seqrl_lightning.types import Array, BoolArray, State

Columns = dict[str, Array | None]
"""The steps of a round by name, ``[R, N, ...]`` of R rows and N environments; None for what no step has."""

Weights = dict[str, Tensor]
"""The parameters and buffers that actors act by, on the CPU."""

# What stands for a value that only some rows or some actors have.
_BLANKS = {"action_mask": True, "correct_action": -1, "block": 0, "q_values": np.nan, "state": 0}


class ActingCopy(Protocol):
    """A copy of the learner, which acts by the weights that it is given."""

    def act_values(
        self, observation: Array, state: State = None, is_first: BoolArray | None = None
    ) -> tuple[Array, State]:
        """See :meth:`seqrl_lightning.types.Learner.act_values`."""

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> object:
        """Take over weights."""


@dataclass(frozen=True)
class ActorSettings:
    """The settings that all actors of a run have in common; they are sent to other processes.

    Attributes:
        env_id: The task, as errors name it.
        make_envs: Makes the environments of one actor.
        learner: Is copied with the settings.
        epsilon: The probability of a random action, as a function of the env steps taken so far.
        n_actions: Number of actions.
        obs_shape: Shape of one observation.
        obs_dtype: Its dtype.
        num_actors: Number of actors of one learner.
        check_bounds: Whether an observation outside its space's bounds is a fault.
        seed: The run's seed, as the environment variable has it; None if there is none.
        learner_rank: Number of the process that learns from these actors.
        num_learners: Number of such processes, each with as many actors.
    """

    env_id: str
    make_envs: Callable[[], Border]
    learner: ActingCopy
    epsilon: EpsilonSchedule
    n_actions: int
    obs_shape: tuple[int, ...]
    obs_dtype: str
    num_actors: int
    check_bounds: bool
    seed: str | None
    learner_rank: int = 0
    num_learners: int = 1


class Beginning(NamedTuple):
    """The answer of an actor that has begun."""

    seed: int  # of its environments
    shown: Columns  # by them, [1, N, ...]
    remembers: bool  # whether the network carries a state


class Taken(NamedTuple):
    """The answer of an actor that has taken a round."""

    columns: Columns  # [R, N, ...]
    state: dict[str, Any] | None  # of the actor, after the round


class Broken(NamedTuple):
    """The placeholder for the answer of an actor that gave none."""

    reason: str  # in one line
    is_lost: bool  # its process is gone; otherwise an environment broke


def side_by_side(parts: Sequence[Columns]) -> Columns:
    """Return the rows of all actors, ``[R, N, ...]``, as those of all environments, in the actors' order."""
    return joined(parts, lambda columns: np.concatenate(columns, axis=1))


def joined(parts: Sequence[Columns], join: Callable[[list[Array]], Array]) -> Columns:
    """Join columns; where only some parts have one, blanks stand for it in the others."""
    joined: Columns = {}
    for name in parts[0]:
        known = next((part[name] for part in parts if part[name] is not None), None)
        if known is None:
            joined[name] = None
            continue
        blank = np.full_like(known, _BLANKS[name]) if name in _BLANKS else known
        joined[name] = join([blank if (column := part[name]) is None else column for part in parts])
    return joined
