"""Types shared by all rooms: arrays, the protocols by which rooms meet, and errors."""

import unicodedata
import warnings
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec
    from torch import Tensor

Array = NDArray[Any]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.int64]

State: TypeAlias = "Tensor | None"
"""The state that a network carries between steps, ``[S, B, ...]`` float32; None at first.

Feed-forward networks return it unchanged.
"""

CompileMode = bool | Literal["cuda_graphs", "compiled_cuda_graphs"]
"""``model.compile``: whether, and how, updates are compiled; see ``TrainingModule``."""


class Order(NamedTuple):
    """The orders in which a task's objects are right."""

    sequences: IntArray  # [blocks, n], the objects of each block in their order
    num_given: int  # how many of them an episode starts with
    letters: str  # the objects' names, then the distractors'

    @property
    def num_objects(self) -> int:
        """Number of objects in a sequence; higher actions are distractors."""
        return int(self.sequences.shape[1])

    @property
    def num_picks(self) -> int:
        """Number of objects to pick."""
        return self.num_objects - self.num_given


class Choices(NamedTuple):
    """Choices that were right or wrong, M of them: whole episodes, each in a row and in its order."""

    env: "Tensor"  # [M] int64, of this process
    episode: "Tensor"  # [M] int64, numbered from 0 in their order here
    block: "Tensor"  # [M] int64, whose rule held; 0 for tasks without blocks
    position: "Tensor"  # [M] int64, how much of the sequence stood, or how many answers the episode had seen
    action: "Tensor"  # [M] int64, the object or symbol that was chosen
    correct_action: "Tensor"  # [M] int64, the one that was right


@dataclass
class Progress:
    """Progress of a run, over all environments and processes. The agent writes it; everyone else reads it.

    Attributes:
        env_steps: Real steps of single environments.
        episodes: Finished episodes.
        block: The lowest block that any environment is in; 0 for tasks without blocks.
        epsilon: The probability of a random action, as of the newest one.
        env_faults: Number of times that environments broke.
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
    def is_on_policy(self) -> bool:
        """Whether it learns about the policy that acts, so that it can't learn from a log of another one's steps."""

    def required_cadence(self) -> Cadence | None:
        """Return the one cadence that works; None if the user may choose it.

        It is no property: ``isinstance`` reads a protocol's properties (Python 3.11), and this may raise.

        Raises:
            ConfigurationError: If the data's settings allow none.
        """

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


class Text(str):
    """A text in a task's settings that was one where it was written.

    In a setting of any type, jsonargparse reads every text again, and makes a number of ``"2"`` and True of ``"yes"``.
    A subclass of ``str`` it leaves alone.
    """


def without_marks(settings: Any) -> Any:
    """Return a task's settings with ordinary texts, as the task takes them."""
    if isinstance(settings, dict):
        return {key: without_marks(value) for key, value in settings.items()}
    if type(settings) is list:
        return [without_marks(value) for value in settings]
    return str(settings) if type(settings) is Text else settings


def keep_plain(hparams: MutableMapping[str, Any]) -> None:
    """Remove what isn't a number, a text or a collection from saved hyperparameters.

    A checkpoint holds plain values only, so that loading it runs no code. A class that the CLI built is there as text
    (its ``class_path``); one that was handed in from Python is not saved.
    """
    for name in [name for name, value in hparams.items() if not _is_plain(value)]:
        del hparams[name]


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        is_own_class = type(value) not in (list, tuple)  # which would have to be imported to be read
        return not is_own_class and all(map(_is_plain, value))
    return isinstance(value, type(None) | bool | int | float | str)


def one_line(text: object) -> str:
    """Return an error, or another text, as one line."""
    return " ".join(str(text).split())


def shortened(message: str, most: int = 1500) -> str:
    """Return a message without the middle of what is too long to be read: names and values in a file may be."""
    end = most // 3
    return message if len(message) <= most else f"{message[: most - end]} [...] {message[-end:]}"


def printable(text: str, kept: str = "\n") -> str:
    """Return a text that may quote a file without control characters: a terminal obeys them, and XML has none.

    Args:
        text: The text; spaces of any width stay.
        kept: Those that stay as they are; by default lines do.
    """
    return "".join(
        letter if letter.isprintable() or letter in kept or unicodedata.category(letter) == "Zs" else repr(letter)[1:-1]
        for letter in text
    )


class ConfigurationError(Exception):
    """A setting that can't work. The message is one line: the setting, its value, and what would work instead."""

    def __str__(self) -> str:
        """Return the message as one line that a terminal shows as text, whatever is quoted in it, shortened."""
        return printable(shortened(" ".join(super().__str__().splitlines())))


class RunError(RuntimeError):
    """An error that ends a running run, like a full disk or a damaged checkpoint. Its message is one line."""

    def __str__(self) -> str:
        """Return the message as one line that a terminal shows as text, whatever is quoted in it, shortened."""
        return printable(shortened(" ".join(super().__str__().splitlines())))


class DivergedError(RunError):
    """The learner's numbers are no longer finite: with these settings it can't continue."""


class Task(Protocol):
    """An environment without its wrappers, or a vector environment. What else it states is asked by :func:`stated`."""

    @property
    def spec(self) -> "EnvSpec | None":
        """Its entry in Gymnasium's registry; None if it isn't registered."""


def stated(task: Task, name: str) -> object:
    """Return what a task states about itself by an attribute; None if it has no such attribute, or it raises.

    An attribute that raises may be one of the task's own with another meaning; a warning names it.
    """
    try:
        value: object = getattr(task, name)
        return value
    except (Exception, SystemExit) as error:  # a property may raise anything
        if isinstance(error, SystemExit) and type(error) is not SystemExit:  # a signal
            raise
        if isinstance(error, AttributeError) and name not in dir(type(task)):
            return None
        named = type(task).__name__ if task.spec is None else task.spec.id
        reason = one_line(f"{type(error).__name__}: {error}")
        warnings.warn(f"{name} of {named} is ignored, as it raises {reason}", stacklevel=2)
        return None


def require(condition: bool, setting: str, given: object, must_be: str) -> None:
    """Refuse a setting that can't work, by its name in the config.

    Args:
        condition: Whether the setting can work.
        setting: Its name in the config, like ``data.batch_size``.
        given: The value that was given.
        must_be: What would work instead, as the end of "...; it must be".

    Raises:
        ConfigurationError: If ``condition`` is false.
    """
    if not condition:
        raise ConfigurationError(f"{setting} is {shortened(repr(given), 300)}; it must be {must_be}")
