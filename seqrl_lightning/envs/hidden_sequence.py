"""seqrl/HiddenSequence-v0: a new order every episode, to be discovered by trial and error, and then remembered."""

import gymnasium as gym
import numpy as np

from seqrl_lightning.envs.task import Board, TaskEnv, TaskVectorEnv
from seqrl_lightning.types import BoolArray, FloatArray, IntArray, require


class HiddenSequenceEnv(TaskEnv):
    """The n objects in an order drawn anew for each episode, to be picked again and again.

    - Observation: the last pick, one-hot ``[n] float32``, and its outcome (right, wrong): all zeros at an
      episode's start. The position is not observed: who wants to know it has to remember.
    - Action k picks object k (``Discrete(n)``).
    - The right next object: reward 1, one position on; after the last one the next trial starts, in the same order. Any
      other: reward -1, the position stays.
    - The episode terminates after ``trials`` trials, and is truncated after ``max_picks`` picks.
    - Optimal return: trials * n less the errors of the first trial. The object at position i is one of the m = n - i
      that remain, all equally likely, and takes (m - 1) / 2 errors to find: n (n - 1) / 4 in all, which is 5 for 5
      objects. (What was wrong at one position says nothing about the next, once the right object is found.)
    - Chance: max_picks * (2 / n - 1), but for the rare episode that completes its trials. Trying the objects in
      turn, without memory, earns -13.2 for 5 objects and 8 trials.

    Args:
        objects: The n objects, a letter each, in the order of their actions.
        trials: How often the sequence is to be completed, K.
        max_picks: Picks after which an episode is truncated, at least as many as the best policy can need; by default
            twice the right ones, 2 * trials * n.
        render_mode: ``ansi`` or ``rgb_array``.

    Raises:
        ConfigurationError: If the objects aren't different letters, or a number is too small.
    """

    _state_names = (*TaskEnv._state_names, "order", "position", "trial", "_picks", "_was_right")

    def __init__(
        self,
        objects: str = "ABCDE",
        trials: int = 8,
        max_picks: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.max_picks = _checked_max_picks(objects, trials, max_picks)
        super().__init__(_space(objects), len(objects), render_mode)
        self.objects = self.letters = objects
        self.trials = trials
        self.order: IntArray = np.arange(len(objects))
        self.position = self.trial = self._picks = 0
        self._was_right = False

    @property
    def optimal_return(self) -> float:
        """The expected return of who finds the order with as few errors as can be, and makes none after."""
        return _optimal_return(len(self.objects), self.trials)

    def _begin(self) -> None:
        self.order = self.np_random.permutation(len(self.objects))
        self.position = self.trial = self._picks = 0
        self._was_right = False

    def _act(self, action: int) -> tuple[float, bool, bool]:
        self._was_right = action == self._correct_action()
        self._picks += 1
        if self._was_right:
            self.position += 1
        if self.position == len(self.order):
            self.position = 0
            self.trial += 1
        terminated = self.trial == self.trials
        return 1.0 if self._was_right else -1.0, terminated, not terminated and self._picks >= self.max_picks

    def _correct_action(self) -> int:
        return -1 if self.trial == self.trials else int(self.order[self.position])

    def _observation(self) -> FloatArray:
        observation = np.zeros(self.observation_space.shape or (), np.float32)
        if self._last_pick >= 0:
            observation[self._last_pick] = 1.0
            observation[-2 if self._was_right else -1] = 1.0
        return observation

    def in_words(self, observation: FloatArray, letters: str) -> str:
        """The last pick and its outcome."""
        if not observation.any():
            return "nothing picked yet"
        return f"{letters[int(observation[:-2].argmax())]} was {'right' if observation[-2] else 'wrong'}"

    def _board(self) -> Board:
        return _board(self.objects, self.order, self.position, self._last_pick)


class HiddenSequenceVectorEnv(TaskVectorEnv):
    """The vectorised twin of :class:`HiddenSequenceEnv`, with the same arguments."""

    _state_names = (*TaskVectorEnv._state_names, "order", "position", "trial", "_picks", "_was_right")

    def __init__(
        self,
        num_envs: int = 1,
        objects: str = "ABCDE",
        trials: int = 8,
        max_picks: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.max_picks = _checked_max_picks(objects, trials, max_picks)
        super().__init__(num_envs, _space(objects), len(objects), render_mode)
        self.objects = objects
        self.trials = trials
        self.order = np.tile(np.arange(len(objects)), (num_envs, 1))
        self.position = np.zeros(num_envs, np.int64)
        self.trial = np.zeros(num_envs, np.int64)
        self._picks = np.zeros(num_envs, np.int64)
        self._was_right = np.zeros(num_envs, np.bool_)
        self._one_hot = np.eye(len(objects) + 1, len(objects) + 2, dtype=np.float32)  # with room for the outcome
        self._one_hot[-1] = 0.0  # nothing picked yet

    @property
    def optimal_return(self) -> float:
        """As for the single environment."""
        return _optimal_return(len(self.objects), self.trials)

    def _begin(self, envs: BoolArray) -> None:
        for env in np.flatnonzero(envs).tolist():
            self.order[env] = self._generators[env].permutation(len(self.objects))
        for counted in (self.position, self.trial, self._picks):
            counted[envs] = 0

    def _act(self, actions: IntArray) -> tuple[FloatArray, BoolArray, BoolArray]:
        self._was_right = actions == self._correct_actions()
        self._picks += 1
        self.position += self._was_right
        is_complete = self.position == len(self.objects)
        self.position[is_complete] = 0
        self.trial += is_complete
        terminated = self.trial == self.trials
        truncated = ~terminated & (self._picks >= self.max_picks)
        return np.where(self._was_right, 1.0, -1.0), terminated, truncated

    def _correct_actions(self) -> IntArray:
        return np.where(self.trial == self.trials, -1, self.order[self._envs, self.position])

    def _observations(self) -> FloatArray:
        observations: FloatArray = self._one_hot[self._last_pick]
        has_picked = self._last_pick >= 0
        observations[:, -2] = has_picked & self._was_right
        observations[:, -1] = has_picked & ~self._was_right
        return observations

    def _board(self, env: int) -> Board:
        pick = int(self._last_pick[env])
        return _board(self.objects, self.order[env], int(self.position[env]), pick)


def _checked_max_picks(objects: str, trials: int, max_picks: int | None) -> int:
    n = len(objects)
    would_do = "at least two letters, each of them once"
    require(n > 1 and len(set(objects)) == n, "data.env_kwargs.objects", objects, would_do)
    require(trials > 0, "data.env_kwargs.trials", trials, "at least 1")
    at_least = trials * n + n * (n - 1) // 2
    if max_picks is None:
        return max(2 * trials * n, at_least)
    require(max_picks >= at_least, "data.env_kwargs.max_picks", max_picks, f"at least {at_least}, which may be needed")
    return max_picks


def _optimal_return(n: int, trials: int) -> float:
    return trials * n - n * (n - 1) / 4


def _space(objects: str) -> gym.spaces.Box:
    return gym.spaces.Box(0.0, 1.0, (len(objects) + 2,), np.float32)


def _board(objects: str, order: IntArray, position: int, pick: int) -> Board:
    letters = "".join(objects[k] for k in order)
    return Board(letters, position, None if pick < 0 else objects[pick])
