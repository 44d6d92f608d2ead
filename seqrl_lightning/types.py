"""What the rooms hand to each other: typed batches, and the one error for a setting that cannot work."""

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.int64]

State = Any
"""What a network carries from step to step; ``None`` at an episode's start. Feed-forward networks hand it through."""


class TransitionBatch(NamedTuple):
    """Transitions in the seed's terms. T is the length in time (1 for single transitions), B the batch size.

    With n-step returns the "next" state is the one up to n steps ahead. Columns that nobody asked for are None.
    """

    state_batch: Tensor  # [T, B, *obs] dtype of the observation space
    action_batch: Tensor  # [T, B] int64
    reward_batch: Tensor  # [T, B, n] float32: the rewards on the way to the next state, 0 from there on
    next_state_batch: Tensor  # [T, B, *obs] dtype of the observation space; an episode's last one is its final one
    terminated_batch: Tensor  # [T, B] bool; false where an episode was only truncated
    num_steps_batch: Tensor | None = None  # [T, B] int64, in [1, n]: steps to the next state; None: one
    weight_batch: Tensor | None = None  # [T, B] float32: what each counts in the loss; None: one
    slot_batch: Tensor | None = None  # [T, B] int64: where priorities are to be written (on the CPU)
    next_action_batch: Tensor | None = None  # [T, B] int64: taken in the next state; -1 where none was
    action_mask_batch: Tensor | None = None  # [T, B, A] bool: the actions that the state allows
    next_action_mask_batch: Tensor | None = None  # [T, B, A] bool: the actions that the next state allows
    epsilon_batch: Tensor | None = None  # [T, B] float32: the behaviour policy's epsilon at present
    # Of windows of consecutive steps only, which a network reads in order. There the next state is that of the row
    # below, `num_steps_batch` rows down.
    is_first_batch: Tensor | None = None  # [T + 1, B] bool: the state is an episode's first, the last next one too
    network_state: Tensor | None = None  # [S, B, ...] float32: what the network carries into the first row
    burn_in_state_batch: Tensor | None = None  # [P, B, *obs]: rows before, to bring the network's state up to date
    burn_in_is_first_batch: Tensor | None = None  # [P, B] bool

    def map(self, function: Callable[[Tensor], Tensor]) -> "TransitionBatch":
        """The batch with ``function`` applied to every column that is there."""
        return TransitionBatch(*(None if column is None else function(column) for column in self))  # type: ignore[arg-type]

    def split(self, parts: int) -> Iterator["TransitionBatch"]:
        """Equal parts of the batch, one after the other."""
        columns = ([None] * parts if column is None else column.chunk(parts, dim=1) for column in self)
        return (TransitionBatch(*part) for part in zip(*columns, strict=True))


class Order(NamedTuple):
    """The orders in which a task's objects are right."""

    sequences: IntArray  # [blocks, n], the objects of each block in their order
    num_given: int  # how many of them an episode starts with
    letters: str  # the objects' names, then the distractors'

    @property
    def num_objects(self) -> int:
        """How many objects are in a sequence; higher actions are distractors."""
        return int(self.sequences.shape[1])

    @property
    def num_picks(self) -> int:
        """How many objects have to be picked."""
        return self.num_objects - self.num_given


class Choices(NamedTuple):
    """Choices that were right or wrong, M of them: whole episodes, each in a row and in its order."""

    env: Tensor  # [M] int64, of this process
    episode: Tensor  # [M] int64, numbered from 0 in their order here
    block: Tensor  # [M] int64, whose rule held; 0 for tasks without blocks
    position: Tensor  # [M] int64, how much of the sequence stood, or how many answers the episode had seen
    action: Tensor  # [M] int64, the object or symbol that was chosen
    correct_action: Tensor  # [M] int64, the one that was right


@dataclass
class Progress:
    """How far a run is. The agent writes the run's, over all environments and processes; everyone else reads it.

    Attributes:
        env_steps: Real steps of single environments.
        episodes: Finished episodes.
        block: The lowest block that any environment is in; 0 for tasks without blocks.
        epsilon: The probability of a random action, as of the newest one.
        env_faults: How often environments broke.
    """

    env_steps: int = 0
    episodes: int = 0
    block: int = 0
    epsilon: float = 0.0
    env_faults: int = 0


class Cadence(NamedTuple):
    """The ratio of env steps and updates that a learner needs; see ``AgentCallback`` for each."""

    warmup_env_steps: int
    env_steps_per_update: float
    updates_per_collect: int


@runtime_checkable
class Learner(Protocol):
    """The interface of an algorithm to the data it learns from and to the agent that acts for it."""

    @property
    def updates_per_step(self) -> int:
        """Updates of the network in one training step, each from a batch of its own."""

    @property
    def needs_next_action(self) -> bool:
        """Whether a transition can be learned from only once the action in its next state is known."""

    @property
    def needs_epsilon(self) -> bool:
        """Whether batches must hold the behavior policy's epsilon."""

    @property
    def cadence(self) -> Cadence | None:
        """The one cadence that works; None if the user may choose it."""

    def act_values(
        self, observation: Array, state: State = None, is_first: BoolArray | None = None
    ) -> tuple[Array, State]:
        """Compute the value of each action.

        Args:
            observation: [N, *obs], of N environments.
            state: What the network carries from step to step; None at the start.
            is_first: [N] bool, where an episode starts, so that the state there is forgotten; None for nowhere.

        Returns:
            [N, n_actions] float32 and the next state.
        """


class EvaluationTask(NamedTuple):
    """Greedy episodes to play: one in each evaluation environment, environment i from ``seed + i``."""

    seed: int
    options: dict[str, Any] | None  # for the environments' reset()
    names: tuple[str, ...]  # what its results are called: "" for val/return_mean, "block_0/" for val/block_0/...


def keep_plain(hparams: MutableMapping[str, Any]) -> None:
    """Removes what isn't a number, a text or a collection from saved hyperparameters.

    A checkpoint holds plain values only, so that loading it runs no code. A class that the CLI built is there as text
    (its ``class_path``); one that was handed in from Python is not saved.
    """
    for name in [name for name, value in hparams.items() if not _is_plain(value)]:
        del hparams[name]


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, type(None) | bool | int | float | str)


class ConfigurationError(Exception):
    """A setting that can't work. The message is one line: the setting, its value, and what would work instead."""


class RunError(RuntimeError):
    """What ends a run that was going on: a full disk, a damaged checkpoint. Its message is one line."""


class DivergedError(RunError):
    """The learner's numbers are no longer finite: with these settings it can't go on."""


def require(condition: bool, setting: str, given: object, would_do: str) -> None:
    """Refuses a setting in the user's words.

    Args:
        condition: Whether the setting can work.
        setting: Its name in the config, like ``data.batch_size``.
        given: The value that was given.
        would_do: What would work instead, as the end of "...; it must be".

    Raises:
        ConfigurationError: If ``condition`` is false.
    """
    if not condition:
        raise ConfigurationError(f"{setting} is {given!r}; it must be {would_do}")
