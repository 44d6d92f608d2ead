"""seqrl/ContextSequence-v0: a context, shown in every trial, decides which of several orders holds."""

from collections.abc import Sequence

import numpy as np
from gymnasium.vector.utils import batch_space

from seqrl_lightning.envs.blocks import order_of
from seqrl_lightning.envs.ordered import one_hot_box
from seqrl_lightning.envs.sequence_distractor import (
    Backtrack,
    SequenceDistractorEnv,
    SequenceDistractorVectorEnv,
)
from seqrl_lightning.types import BoolArray, FloatArray, IntArray, require


class ContextSequenceEnv(SequenceDistractorEnv):
    """:class:`SequenceDistractorEnv` with several orders, one for each of C contexts.

    - A context is drawn uniformly at an episode's start, and holds throughout.
    - Observation: as in :class:`SequenceDistractorEnv`, and then the context, one-hot ``[C] float32``.
    - Actions, rewards and ends: as there, by the order of the context.
    - Optimal return: n.

    Args:
        objects: The n objects, a letter each, in the order of their actions.
        distractors: The distractors, a letter each.
        contexts: Each context's order of the objects: ``ADCBE``, ``reversed``, or ``swap_2_4``; the words change the
            order of the context before (or ``objects``, for the first).
        max_errors: Wrong picks after which an episode is truncated.
        backtrack: Which errors step back.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: If a context isn't an order of the objects, there are fewer than two contexts, or as for
            :class:`SequenceDistractorEnv`.
    """

    _state_names = (*SequenceDistractorEnv._state_names, "context")

    def __init__(
        self,
        objects: str = "ABCDE",
        distractors: str = "Z",
        contexts: Sequence[str] = ("ABCDE", "ADCBE"),
        max_errors: int = 10,
        backtrack: Backtrack = "every",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(objects, distractors, None, max_errors, backtrack, render_mode)
        self._names = _orders(contexts, objects)
        self._correct = [[*(objects.index(letter) for letter in order), -1] for order in self._names]
        self.observation_space = one_hot_box(self._size + len(self._names))
        self.context = 0

    @property
    def order_by_block(self) -> None:
        """The context decides the order."""
        return None

    def _start(self) -> None:
        super()._start()
        self.context = int(self.np_random.integers(len(self._names)))

    def _row(self) -> int:
        return self.context

    def _observation(self) -> FloatArray:
        context = np.zeros(len(self._names), np.float32)
        context[self.context] = 1.0
        return np.concatenate([super()._observation(), context])

    def in_words(self, observation: FloatArray, letters: str) -> str:
        """The position and the context."""
        context = int(observation[self._size :].argmax()) + 1
        return f"{super().in_words(observation, letters)}, context {context} of {len(self._names)}"


class ContextSequenceVectorEnv(SequenceDistractorVectorEnv):
    """The vectorised twin of :class:`ContextSequenceEnv`, with the same arguments."""

    _state_names = (*SequenceDistractorVectorEnv._state_names, "context")

    def __init__(
        self,
        num_envs: int = 1,
        objects: str = "ABCDE",
        distractors: str = "Z",
        contexts: Sequence[str] = ("ABCDE", "ADCBE"),
        max_errors: int = 10,
        backtrack: Backtrack = "every",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(num_envs, objects, distractors, None, max_errors, backtrack, render_mode)
        self._names = _orders(contexts, objects)
        self._correct = np.array([[*(objects.index(letter) for letter in order), -1] for order in self._names])
        size = self._one_hot.shape[1] + len(self._names)
        self.single_observation_space = one_hot_box(size)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._context_one_hot = np.eye(len(self._names), dtype=np.float32)
        self.context = np.zeros(num_envs, np.int64)

    def _start(self, envs: BoolArray) -> None:
        super()._start(envs)
        for env in np.flatnonzero(envs).tolist():
            self.context[env] = self._generators[env].integers(len(self._names))

    def _rows(self) -> IntArray:
        return self.context

    def _observations(self) -> FloatArray:
        return np.concatenate([super()._observations(), self._context_one_hot[self.context]], axis=1)


def _orders(contexts: Sequence[str], objects: str) -> tuple[str, ...]:
    setting = "data.env_kwargs.contexts"
    require(len(contexts) > 1, setting, contexts, "a list of at least two orders")
    orders = [objects]
    for k, sequence in enumerate(contexts):
        orders.append(order_of(sequence, orders[-1], objects, f"{setting}[{k}]"))
    return tuple(orders[1:])
