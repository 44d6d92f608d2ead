"""seqrl/HiddenSequence-v0: a new order in each episode, to be found by trial and error and then remembered."""

import numpy as np

from seqrl_lightning.envs.rule import Rule, Script, echo_table
from seqrl_lightning.envs.task import Board, TaskEnv
from seqrl_lightning.envs.vector import vectorized
from seqrl_lightning.types import FloatArray, require


class HiddenSequenceEnv(TaskEnv):
    """Find the hidden order of n objects by trial and error, then repeat it; each episode has a new order.

    - Observation: the last pick, one-hot ``[n] float32``, and its outcome (right, wrong), which makes ``[n + 2]``; all
      zeros at an episode's start. The position is not observed and has to be remembered.
    - Actions: ``Discrete(n)``. Action k picks object k.
    - Rewards: 1 for the next object of the order, -1 for any other object.
    - Transitions: the next object advances the position by one; after any other object the position stays. After the
      last object the next trial starts, in the same order.
    - Starting state: all orders are equally likely.
    - Episode end: the episode terminates after ``trials`` trials. It is truncated after ``max_picks`` picks.
    - Optimal return: trials * n less the errors of the first trial. The object at position i is one of the m = n - i
      that remain, all equally likely, and takes (m - 1) / 2 errors to find: n (n - 1) / 4 in all, which is 5 for 5
      objects. (The errors at one position say nothing about the next, once the right object is found.)
    - Chance: max_picks * (2 / n - 1), apart from the rare episode that completes its trials. Trying the objects in
      turn, without memory, earns -13.2 for 5 objects and 8 trials.

    Args:
        objects: The n objects, one letter each, in the order of their actions.
        trials: Number of times that the sequence has to be completed.
        max_picks: Number of picks after which an episode is truncated, at least as many as the best policy can need; by
            default twice the right ones, 2 * trials * n.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: If the objects aren't different letters, or a number is too small.
    """

    def __init__(
        self,
        objects: str = "ABCDE",
        trials: int = 8,
        max_picks: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        n = len(objects)
        allowed = "at least two letters, each of them once"
        require(n > 1 and len(set(objects)) == n, "data.env_kwargs.objects", objects, allowed)
        require(trials > 0, "data.env_kwargs.trials", trials, "at least 1")
        at_least = trials * n + n * (n - 1) // 2
        self.max_picks = max(2 * trials * n, at_least) if max_picks is None else max_picks
        allowed = f"at least {at_least}, which may be needed"
        require(self.max_picks >= at_least, "data.env_kwargs.max_picks", max_picks, allowed)
        self.objects = objects
        self.trials = trials
        self.optimal_return = trials * n - n * (n - 1) / 4
        num_right = np.arange(trials * n)  # the state is the number of right picks
        self._position = num_right % n
        self._nothing_shown = np.zeros((trials * n, 0), np.float32)
        rule = Rule(
            after_wrong=num_right,
            after_right=num_right + 1,
            reward_wrong=-1.0,
            reward_right=1.0,
            limit=self.max_picks,
            echo=echo_table(n, wrong=(0, 1), right=(1, 0), shows_action=True),
        )
        super().__init__(objects, rule, render_mode)

    def script(self, block: int, rng: np.random.Generator) -> Script:
        """Draw an order."""
        return Script(self._nothing_shown, rng.permutation(len(self.objects))[self._position])

    def in_words(self, observation: FloatArray, letters: str) -> str:
        """Describe the last pick and its outcome."""
        if not observation.any():
            return "nothing picked yet"
        return f"{letters[int(observation[:-2].argmax())]} was {'right' if observation[-2] else 'wrong'}"

    def board(self, script: Script, block: int, state: int, pick: int) -> Board:
        """Return the objects in their order, filled up to the position."""
        letters = "".join(self.objects[k] for k in script.correct[: len(self.objects)])
        return Board(letters, state % len(self.objects), None if pick < 0 else self.objects[pick])


HiddenSequenceVectorEnv = vectorized(HiddenSequenceEnv)
