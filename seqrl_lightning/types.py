"""Types shared by all rooms: batches, protocols, and errors."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NotRequired, Protocol, TypedDict, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

Array = NDArray[Any]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.int64]

State = Any
"""The state that a network carries between steps; ``None`` at first. Feed-forward networks return it unchanged."""

CompileMode = bool | Literal["cuda_graphs", "compiled_cuda_graphs"]
"""``model.compile``: whether, and how, updates are compiled; see ``TrainingModule``."""

Reader = Callable[..., tuple[Tensor, State]]
"""A network, or a part of one: ``(observation [T, B, *obs], state, is_first) -> ([T, B, ...], state)``."""


class Transitions(NamedTuple):
    """B single transitions in no particular order, laid out as one row ``[1, B]``, as networks read ``[T, B]``.

    With n-step returns the next state lies up to n steps ahead. A column that nobody asked for is None.
    """

    state_batch: Tensor  # [1, B, *obs], dtype of the observation space
    action_batch: Tensor  # [1, B] int64
    reward_batch: Tensor  # [1, B, n] float32: the rewards on the way to the next state, then 0
    next_state_batch: Tensor  # [1, B, *obs]: at an episode's end, its final observation
    terminated_batch: Tensor  # [1, B] bool: false where the episode was only truncated
    num_steps_batch: Tensor | None = None  # [1, B] int64 in [1, n]: steps to the next state; None: one
    action_mask_batch: Tensor | None = None  # [1, B, A] bool: the actions that the state allows
    next_action_mask_batch: Tensor | None = None  # [1, B, A] bool: the actions that the next state allows
    next_action_batch: Tensor | None = None  # [1, B] int64: taken in the next state; -1 at an episode's end
    epsilon_batch: Tensor | None = None  # [1, B] float32: the behavior policy's present epsilon
    weight_batch: Tensor | None = None  # [1, B] float32: weights in the loss; None: all 1
    slot_batch: Tensor | None = None  # [1, B] int64, on the CPU: where the replay memory keeps their priorities

    def read(self, net: Reader) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return a network's outputs for the states and for the next states, and the next states' action masks.

        Args:
            net: A network, or a part of one.

        Returns:
            [1, B, ...] of the states; [1, B, ...] of the next states, without a gradient; [1, B, A] bool, or None if
            the task allows every action.
        """
        outputs = self.read_states(net)
        with torch.no_grad():
            next_outputs, next_mask = self.read_next_states(net)
        return outputs, next_outputs, next_mask

    def read_states(self, net: Reader) -> Tensor:
        """Return a network's outputs for the states, [1, B, ...]."""
        return net(self.state_batch)[0]

    def read_next_states(self, net: Reader) -> tuple[Tensor, Tensor | None]:
        """Return a network's outputs for the next states, [1, B, ...], and their action masks, [1, B, A] or None."""
        return net(self.next_state_batch)[0], self.next_action_mask_batch

    def map(self, function: Callable[[Tensor], Tensor]) -> "Transitions":
        """Return the batch with ``function`` applied to every column that is there."""
        return Transitions._make(None if column is None else function(column) for column in self)

    def split(self, parts: int) -> Iterator["Transitions"]:
        """Divide the batch into equal parts, in its order."""
        columns = ([None] * parts if column is None else column.chunk(parts, dim=1) for column in self)
        return (Transitions(*part) for part in zip(*columns, strict=True))


class Windows(NamedTuple):
    """B windows of consecutive rows, each of one environment: P rows of burn-in, T rows to learn from, and one more.

    A network reads a window from its first row to its last. Transition t leads from row P + t to the row
    ``num_steps_batch[t]`` below it, so that a window needs no column of next states. Rows may belong to several
    episodes, with a final observation between two of them; what starts there isn't a transition, and has no weight.
    """

    observation: Tensor  # [P + T + 1, B, *obs], dtype of the observation space
    is_first: Tensor  # [P + T + 1, B] bool, on the CPU except in a CUDA graph: an episode starts with the row
    previous_action: Tensor  # [P + T + 1, B] int64: the action that led to the row; -1 where an episode starts
    previous_reward: Tensor  # [P + T + 1, B] float32: the reward that came with it; 0 where an episode starts
    action_batch: Tensor  # [T, B] int64
    reward_batch: Tensor  # [T, B, n] float32: the rewards on the way to the next state, then 0
    terminated_batch: Tensor  # [T, B] bool: false where the episode was only truncated
    weight_batch: Tensor  # [T, B] float32: weights in the loss; 0 where no transition starts
    num_steps_batch: Tensor | None = None  # [T, B] int64 in [1, n]: steps to the next state; None: one
    action_mask: Tensor | None = None  # [T + 1, B, A] bool: the actions that rows P to P + T allow
    next_action_batch: Tensor | None = None  # [T, B] int64: taken in the next state; -1 at an episode's end
    epsilon_batch: Tensor | None = None  # [T, B] float32: the behavior policy's present epsilon
    slot_batch: Tensor | None = None  # [1, B] int64, on the CPU: where the replay memory keeps their priorities
    network_state: Tensor | None = None  # [S, B, ...] float32: what the network carries into the first row

    @property
    def burn_in(self) -> int:
        """P, the number of rows that only bring the network's state up to date."""
        return len(self.observation) - len(self.action_batch) - 1

    @property
    def state_batch(self) -> Tensor:
        """The states that transitions start from, [T, B, *obs]."""
        return self.observation[self.burn_in : -1]

    @property
    def action_mask_batch(self) -> Tensor | None:
        """The actions that those states allow, [T, B, A] bool, or None if the task allows every action."""
        return None if self.action_mask is None else self.action_mask[:-1]

    @property
    def is_last_batch(self) -> Tensor:
        """Rows after which no transition follows, because the episode or the window ends, [T, B] bool."""
        is_last = torch.ones_like(self.terminated_batch)
        is_last[:-1] = self.weight_batch[1:] == 0
        return is_last

    def read(self, net: Reader) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return a network's outputs for the states and for the next states, and the next states' action masks.

        The network reads each window once; the burn-in gets no gradient.

        Args:
            net: A network, or a part of one.

        Returns:
            [T, B, ...] of the states; [T, B, ...] of the next states, without a gradient; [T, B, A] bool, or None if
            the task allows every action.
        """
        network_state, burn_in = self.network_state, self.burn_in
        if burn_in:
            with torch.no_grad():
                _, network_state = net(self.observation[:burn_in], network_state, self._starts(0, burn_in))
        rows = self.observation[burn_in:]
        outputs, _ = net(rows, network_state, self._starts(burn_in, len(self.observation)))  # [T + 1, B, ...]
        return outputs[:-1], self._of_next_states(outputs.detach()), self._next_action_mask()

    def read_states(self, net: Reader) -> Tensor:
        """Return a network's outputs for the states, [T, B, ...]."""
        return self.read(net)[0]

    def read_next_states(self, net: Reader) -> tuple[Tensor, Tensor | None]:
        """Return a network's outputs for the next states, [T, B, ...], and their action masks, [T, B, A] or None."""
        return self.read(net)[1:]

    def _starts(self, first: int, end: int) -> Tensor | None:
        """Return ``is_first`` of some rows, or None if no episode starts in them: a network then has nothing to check.

        A compiled function can't branch on values, and a device would have to be waited for.
        """
        is_first = self.is_first[first:end]
        is_unseen = torch.compiler.is_compiling() or is_first.device.type != "cpu"
        return is_first if is_unseen or is_first.any() else None

    def _next_action_mask(self) -> Tensor | None:
        return None if self.action_mask is None else self._of_next_states(self.action_mask)

    def _of_next_states(self, rows: Tensor) -> Tensor:
        """Pick for each transition the row of its next state. ``[T + 1, B, ...] -> [T, B, ...]``."""
        if self.num_steps_batch is None:
            return rows[1:]
        next_row = torch.arange(len(rows) - 1, device=rows.device)[:, None] + self.num_steps_batch
        index = next_row.reshape(*next_row.shape, *[1] * (rows.dim() - 2)).expand(*next_row.shape, *rows.shape[2:])
        return rows.gather(0, index)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Windows":
        """Return the batch with ``function`` applied to every column that is there."""
        return Windows._make(None if column is None else function(column) for column in self)

    def split(self, parts: int) -> Iterator["Windows"]:
        """Divide the batch into equal parts, in its order."""
        columns = ([None] * parts if column is None else column.chunk(parts, dim=1) for column in self)
        return (Windows(*part) for part in zip(*columns, strict=True))


class Minibatch(NamedTuple):
    """Transitions with their targets: B sequences side by side, or B single transitions in a row (T = 1)."""

    states: Tensor  # [T, B, *obs]
    actions: Tensor  # [T, B] int64
    targets: Tensor  # [T, B] float32
    weights: Tensor | None = None  # [T, B] float32, 0 where no transition starts; None: all 1
    is_first: Tensor | None = None  # [T, B] bool
    network_state: Tensor | None = None  # [S, B, ...]

    def columns(self, indices: Tensor, device_indices: Tensor) -> "Minibatch":
        """Return some of the sequences.

        Args:
            indices: [b] int64, on the CPU.
            device_indices: The same on the device.
        """
        choices = {indices.device: indices, device_indices.device: device_indices}
        return Minibatch._make(
            None if column is None else column.index_select(1, choices[column.device]) for column in self
        )

    def filled_up(self, size: int, multiple: int) -> "Minibatch":
        """Return more single transitions with the same loss: some are repeated, without a weight.

        Minibatches then have few sizes, whatever the number of transitions in a rollout.

        Args:
            size: The smallest number of transitions.
            multiple: The number that a larger one is a multiple of.
        """
        present = self.actions.shape[1]
        missing = size - present if present <= size else -present % multiple
        weights = torch.ones_like(self.targets) if self.weights is None else self.weights
        index = torch.arange(present + missing, device=self.actions.device) % present
        states, actions, targets = (column.index_select(1, index) for column in self[:3])
        return Minibatch(states, actions, targets, torch.nn.functional.pad(weights, (0, missing)))


Batch = Transitions | Windows
"""A batch to learn from."""


class Update(TypedDict):
    """The results of one update of a learner."""

    loss: Tensor  # [] float
    state_action_values: Tensor  # [T, B] float, detached: what the network predicted
    expected_state_action_values: Tensor  # [T, B] float: what it should have predicted
    priority_batch: NotRequired[Tensor]  # [T, B] float, not negative, detached: for prioritized replay
    is_outside_support: NotRequired[Tensor]  # [T, B] bool: targets that a fixed support can't represent (C51)


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

    env: Tensor  # [M] int64, of this process
    episode: Tensor  # [M] int64, numbered from 0 in their order here
    block: Tensor  # [M] int64, whose rule held; 0 for tasks without blocks
    position: Tensor  # [M] int64, how much of the sequence stood, or how many answers the episode had seen
    action: Tensor  # [M] int64, the object or symbol that was chosen
    correct_action: Tensor  # [M] int64, the one that was right


@dataclass
class Progress:
    """Progress of a run, over all environments and processes. The agent writes it; everyone else reads it.

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


class Text(str):
    """A text in a task's settings that was one where it was written.

    In a setting of any type, jsonargparse reads every text again, and makes a number of ``"2"`` and True of ``"yes"``.
    A subclass of ``str`` it leaves alone.
    """


def without_marks(settings: Any) -> Any:
    """Return a task's settings with ordinary texts, as the task takes them."""
    if isinstance(settings, Mapping):
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


class ConfigurationError(Exception):
    """A setting that can't work. The message is one line: the setting, its value, and what would work instead."""

    def __str__(self) -> str:
        """Return the message as one line, whatever is quoted in it, shortened."""
        return shortened(" ".join(super().__str__().splitlines()))


class RunError(RuntimeError):
    """An error that ends a running run, like a full disk or a damaged checkpoint. Its message is one line."""

    def __str__(self) -> str:
        """Return the message as one line, whatever is quoted in it, shortened."""
        return shortened(" ".join(super().__str__().splitlines()))


class DivergedError(RunError):
    """The learner's numbers are no longer finite: with these settings it can't continue."""


class Task(Protocol):
    """An environment without its wrappers, or a vector environment. What else it states is asked by :func:`stated`."""

    @property
    def spec(self) -> "EnvSpec | None":
        """Its entry in Gymnasium's registry; None if it isn't registered."""


def stated(task: Task, name: str) -> Any:
    """Return what a task states about itself by an attribute; None if it has no such attribute.

    Raises:
        ConfigurationError: If the attribute is one whose computation fails.
    """
    try:
        return getattr(task, name)
    except (Exception, SystemExit) as error:  # a property may raise anything
        if isinstance(error, SystemExit) and type(error) is not SystemExit:  # a signal
            raise
        if isinstance(error, AttributeError) and name not in dir(type(task)):
            return None
        named = type(task).__name__ if task.spec is None else task.spec.id
        reason = one_line(f"{type(error).__name__}: {error}")
        raise ConfigurationError(f"{name} of {named} raises {reason}; it must have a value, or be left out") from error


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
