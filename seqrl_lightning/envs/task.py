"""Base class of the package's tasks."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from seqrl_lightning.envs.drawing import draw_board, write_board
from seqrl_lightning.envs.rule import RIGHT, UNCOUNTED, WRONG, Rule, Script, Scripts
from seqrl_lightning.errors import require_known
from seqrl_lightning.saved_state import restore_stream
from seqrl_lightning.types import FloatArray, IntArray, Order, require

RENDER_MODES = ("ansi", "rgb_array")
Picture = str | NDArray[np.uint8]


class Board(NamedTuple):
    """The content of a picture of an environment."""

    letters: str  # one tile each
    num_done: int  # number of tiles that are filled
    pick: str | None  # the last action


class TaskEnv(gym.Env[Any, np.int64], ABC):
    """A task in which identities (objects, symbols) are to be chosen, one at each step.

    A subclass hands its rule to ``__init__``, sets ``optimal_return``, and writes :meth:`script`, :meth:`board` and
    :meth:`in_words`. What :meth:`script` needs must be set before ``__init__`` is called. The same class makes N
    environments that are stepped at once in NumPy: see :func:`seqrl_lightning.envs.vector.vectorized`.

    - Observation: what the script shows in the current state, followed by ``rule.echo`` for the last action, if the
      rule has one; ``[size] float32``, unless the task presents it in another way (:meth:`present`).
    - Info: the ``block`` (0 for a task without blocks) and the ``correct_action`` (-1 where no action counts).

    Args:
        letters: Names of the actions, one letter each.
        rule: The rule of the task.
        render_mode: ``ansi``, ``rgb_array`` or None.

    Attributes:
        next_block: The block of the episodes that start from now on. None lets the environment count: its own finished
            episodes decide. Training sets it, so that blocks last as many episodes as the learner sees, over all
            environments.
        optimal_return: Expected undiscounted return of the best policy that remembers all it has seen.
        memoryless_return: Expected undiscounted return of the best policy that sees the current observation only; None
            if it isn't known.
        num_positions: Length of the one-hot position that an observation begins with; None if it has no such part.
        num_states: Number of different observations if all of them are one-hot; None otherwise.
        draws_scripts: Whether the script is drawn at random for each episode. Otherwise each block has one.
        shown_size: Length of the part of an observation that the script shows.

    Raises:
        ConfigurationError: If there is no such ``render_mode``.
    """

    optimal_return: float
    memoryless_return: float | None = None
    num_positions: int | None = None
    num_states: int | None = None
    draws_scripts: ClassVar[bool] = True

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 4}
    # The attributes that change from step to step or from episode to episode, besides scripts and random numbers.
    _STATE = ("block", "_is_fixed", "_finished_episodes", "_state", "_toward_limit", "_outcome", "_last_pick")

    def __init__(self, letters: str, rule: Rule, render_mode: str | None) -> None:
        require_known("render_mode", render_mode, (None, *RENDER_MODES))
        self.letters = letters
        self.rule = rule
        self.render_mode = render_mode
        first_script = self.script(0, np.random.default_rng(0))
        self.shown_size = first_script.shown.shape[1]
        size = self.shown_size + rule.echo_size
        self.observation_space = gym.spaces.Box(0.0, 1.0, (size,), np.float32)
        self.action_space = gym.spaces.Discrete(len(letters))
        # Lists of Python numbers: reading one number takes a fraction of the time that it takes from an array.
        self._next_states: list[list[int]] = rule.next_states().tolist()
        self._rewards: list[float] = rule.rewards().tolist()
        self._counts: list[int] = rule.counts_toward_limit().tolist()
        self._last_state = rule.num_states - 1
        self._limit = float("inf") if rule.limit is None else rule.limit
        self._echo = None if rule.echo is None else [list(by_action) for by_action in rule.echo]
        self.scripts = self.new_scripts(1)
        self.next_block: int | None = None  # of the episodes that start from now on; None: finished ones decide
        self.block = 0
        self._is_fixed = False  # whether reset() was given the block
        self._finished_episodes = 0
        self._state = 0
        self._toward_limit = 0  # picks or errors so far
        self._outcome = UNCOUNTED  # of the last action
        self._last_pick = -1
        self._follow_script()

    @abstractmethod
    def script(self, block: int, rng: np.random.Generator) -> Script:
        """Return the script of an episode.

        Args:
            block: The block of the episode.
            rng: The source of all that is random in the episode.
        """

    @abstractmethod
    def board(self, script: Script, block: int, state: int, pick: int) -> Board:
        """Return the content of a picture of an environment.

        Args:
            script: The script of the episode.
            block: The block of the episode.
            state: The current state.
            pick: The last action; -1 at an episode's start.
        """

    def present(self, rows: FloatArray) -> Any:
        """Convert rows of a script, ``[..., size] float32``, to observations; here, unchanged."""
        return rows

    @abstractmethod
    def in_words(self, observation: Any, letters: str) -> str:
        """Describe an observation to a person who plays: all that it says, and no more.

        Args:
            observation: The observation.
            letters: Names for the actions, one letter each.
        """

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return 1

    @property
    def order_by_block(self) -> Order | None:
        """The objects in the order of each block; None if the block alone does not decide an order."""
        return None

    def block_of(self, finished_episodes: IntArray | int) -> IntArray:
        """Return the block of the episode that follows this many finished ones, elementwise."""
        return np.zeros_like(finished_episodes)

    def fixed_block(self, options: dict[str, Any] | None) -> int | None:
        """Return the block that ``options`` of ``reset()`` name, if they do.

        Raises:
            ConfigurationError: If the task has no such block.
        """
        block: int | None = (options or {}).get("block")
        is_known = block is None or 0 <= block < self.num_blocks
        require(is_known, 'options["block"]', block, f"in 0 to {self.num_blocks - 1}")
        return block

    def new_scripts(self, num_envs: int) -> Scripts:
        """Return the scripts of all blocks, or room for those of ``num_envs`` environments if they are drawn."""
        num_rows = num_envs if self.draws_scripts else self.num_blocks
        rng = np.random.default_rng(0)
        size = self.shown_size + self.rule.echo_size
        scripts = Scripts(num_rows, self.script(0, rng), self.rule.num_states, size)
        if not self.draws_scripts:
            for block in range(self.num_blocks):
                scripts.write(block, self.script(block, rng))
        return scripts

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seeds the environment, and sets it back to its first block.
            options: ``{"block": k}`` makes this an episode of block k, which doesn't count toward the blocks' lengths.

        Raises:
            ConfigurationError: If the task has no such block.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._finished_episodes = 0
        fixed_block = self.fixed_block(options)
        self._is_fixed = fixed_block is not None
        self.block = self._block_to_start() if fixed_block is None else fixed_block
        if self.draws_scripts:
            self.scripts.write(0, self.script(self.block, self.np_random))
        self._state = self._toward_limit = 0
        self._outcome, self._last_pick = UNCOUNTED, -1
        self._follow_script()
        return self._observation(), self._info()

    def _block_to_start(self) -> int:
        return int(self.block_of(self._finished_episodes)) if self.next_block is None else self.next_block

    def _follow_script(self) -> None:
        """Look up the script of the episode."""
        row = 0 if self.draws_scripts else self.block
        self._shown = self.scripts.shown[row]
        self._correct: list[int] = self.scripts.correct[row].tolist()

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Pick object or symbol ``action``."""
        self._last_pick = pick = int(action)
        correct = self._correct[self._state]
        self._outcome = outcome = UNCOUNTED if correct < 0 else RIGHT if pick == correct else WRONG
        self._state = self._next_states[self._state][outcome]
        self._toward_limit += self._counts[outcome]
        terminated = self._state == self._last_state
        truncated = not terminated and self._toward_limit >= self._limit
        if (terminated or truncated) and not self._is_fixed:
            self._finished_episodes += 1
        return self._observation(), self._rewards[outcome], terminated, truncated, self._info()

    def _observation(self) -> Any:
        observation: FloatArray = self._shown[self._state].copy()
        if self._echo is not None and self._outcome != UNCOUNTED:
            observation[self.shown_size :] = self._echo[self._outcome][self._last_pick]
        return self.present(observation)

    def _info(self) -> dict[str, Any]:
        return {"block": self.block, "correct_action": self._correct[self._state]}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the environment, as tensors and primitives."""
        state = {name: vars(self)[name] for name in self._STATE}
        scripts = self.scripts.state_dict() if self.draws_scripts else None
        return {**state, "scripts": scripts, "rng": self.np_random.bit_generator.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the environment back to a state that :meth:`state_dict` returned."""
        vars(self).update({name: state_dict[name] for name in self._STATE})
        if self.draws_scripts:
            self.scripts.load_state_dict(state_dict["scripts"])
        self._follow_script()
        restore_stream(self.np_random, state_dict.get("rng"), "the task's random stream")

    def render(self) -> Picture | None:
        """Return the episode so far and the last pick, as text (``ansi``) or ``[H, W, 3] uint8`` (``rgb_array``)."""
        if self.render_mode is None:
            gym.logger.warn("render() needs a render_mode: make the environment with 'ansi' or 'rgb_array'.")
            return None
        script = Script(self._shown, np.array(self._correct))
        return self.picture(self.board(script, self.block, self._state, self._last_pick))

    def picture(self, board: Board) -> Picture:
        """Return a board as text or as an image, by the ``render_mode``."""
        return write_board(*board) if self.render_mode == "ansi" else draw_board(*board)
