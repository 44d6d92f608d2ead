"""seqrl/ContextSequence-v0: a context, shown at every step, decides which of several orders holds."""

import itertools
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from seqrl_lightning.envs.blocks import order_of
from seqrl_lightning.envs.rule import Script
from seqrl_lightning.envs.sequence_distractor import Backtrack, SequenceDistractorEnv
from seqrl_lightning.envs.vector import vectorized
from seqrl_lightning.types import FloatArray, require


class ContextSequenceEnv(SequenceDistractorEnv):
    """Pick objects as in :class:`SequenceDistractorEnv`, in an order that one of C contexts decides.

    - Observation: as in :class:`SequenceDistractorEnv`, followed by the context, one-hot ``[C] float32``.
    - Actions, rewards, transitions and episode end: as in :class:`SequenceDistractorEnv`, by the order of the context.
    - Starting state: a context is drawn uniformly for each episode.
    - Optimal return: n.

    Args:
        objects: The n objects, one letter each, in the order of their actions.
        distractors: The distractors, one letter each.
        contexts: The order of the objects in each context: ``ADCBE``, ``reversed`` or ``swap_2_4``. The last two change
            the order of the context before (for the first context, ``objects``).
        max_errors: Number of errors after which an episode is truncated.
        backtrack: The errors that move the position back: ``every``, ``first`` or ``none``.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: As for :class:`SequenceDistractorEnv`, or if there are fewer than two contexts or one of
            them isn't an order of the objects.
    """

    draws_scripts = True

    def __init__(
        self,
        objects: str = "ABCDE",
        distractors: str = "Z",
        contexts: Sequence[str] = ("ABCDE", "ADCBE"),
        max_errors: int = 10,
        backtrack: Backtrack = "every",
        render_mode: str | None = None,
    ) -> None:
        self.orders = _orders(contexts, objects)
        super().__init__(objects, distractors, None, max_errors, backtrack, render_mode)
        self.num_states = None

    @property
    def num_contexts(self) -> int:
        """Number of contexts; an observation ends with the current one, one-hot."""
        return len(self.orders)

    @property
    def order_by_block(self) -> None:
        """None: the context decides the order."""
        return None

    @cached_property
    def _scripts(self) -> list[Script]:
        """The script of each context."""
        objects = self.schedule.names[0]
        scripts = []
        for order, context in zip(self.orders, np.eye(len(self.orders), dtype=np.float32), strict=True):
            script = self.script_of(np.array([objects.index(letter) for letter in order]))
            contexts = np.tile(context, (len(script.shown), 1))
            scripts.append(Script(np.hstack([script.shown, contexts]), script.correct))
        for array in itertools.chain.from_iterable(scripts):
            array.flags.writeable = False  # a subclass that changed it would change all later episodes of the context
        return scripts

    def script(self, block: int, rng: np.random.Generator) -> Script:
        """Draw a context and return its script."""
        return self._scripts[rng.integers(len(self.orders))]

    def order_name(self, script: Script, block: int) -> str:
        """Return the objects in the order of the context, as letters."""
        return "".join(self.letters[k] for k in script.correct[: self.num_objects])

    def in_words(self, observation: FloatArray, letters: str) -> str:
        """Describe the position, the outcome of the last pick, if it is observed, and the context."""
        context = int(observation[-len(self.orders) :].argmax()) + 1
        return f"{super().in_words(observation, letters)}, context {context} of {len(self.orders)}"


ContextSequenceVectorEnv = vectorized(ContextSequenceEnv)


def _orders(contexts: Sequence[str], objects: str) -> tuple[str, ...]:
    """Return the order of the objects in each context, as letters."""
    setting = "data.env_kwargs.contexts"
    require(len(contexts) > 1, setting, contexts, "a list of at least two orders")
    orders = [objects]
    for k, sequence in enumerate(contexts):
        orders.append(order_of(sequence, orders[-1], objects, f"{setting}[{k}]"))
    return tuple(orders[1:])
