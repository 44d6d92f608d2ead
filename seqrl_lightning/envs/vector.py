"""N environments of a task, stepped at once in NumPy."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from seqrl_lightning.envs.derived import own_attributes, set_own_attributes
from seqrl_lightning.envs.rule import UNCOUNTED, Script
from seqrl_lightning.envs.state import arrays, plain
from seqrl_lightning.envs.task import Board, Picture, TaskEnv
from seqrl_lightning.saved_state import restore_stream
from seqrl_lightning.types import Array, BoolArray, FloatArray, IntArray


class TaskVectorEnv(VectorEnv[Any, IntArray, Array]):
    """N environments of a task, stepped at once in NumPy, with next-step autoreset.

    They look up the tables of one :class:`~seqrl_lightning.envs.task.TaskEnv`, and play the same episodes as N of them
    with the same seeds.

    Args:
        task_class: The task.
        num_envs: Number of environments, N.
        task_kwargs: Arguments of the task.

    Attributes:
        task: The environment whose tables are looked up.
        block: ``[N] int64``, the block of each environment.
        next_block: The block of the episodes that start from now on; see :class:`TaskEnv`.
    """

    metadata = {**TaskEnv.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
    _STATE = (*TaskEnv._STATE, "_ended")

    def __init__(self, task_class: type[TaskEnv], num_envs: int = 1, **task_kwargs: Any) -> None:
        self.task = task = task_class(**task_kwargs)
        self.num_envs = num_envs
        self.render_mode = task.render_mode
        self.single_observation_space = task.observation_space
        self.single_action_space = task.action_space
        self.observation_space = batch_space(task.observation_space, num_envs)
        self.action_space = batch_space(task.action_space, num_envs)
        self._rule = task.rule
        self._next_states = task.rule.next_states()
        self._is_last = np.arange(task.rule.num_states) == task.rule.num_states - 1
        self._rewards = task.rule.rewards()
        self._counts = task.rule.counts_toward_limit()
        # All scripts in one long array: one index for each environment is looked up several times as fast as two.
        self.scripts = task.new_scripts(num_envs)
        self._shown = self.scripts.shown.reshape(-1, self.scripts.shown.shape[2])
        self._correct = self.scripts.correct.reshape(-1)
        self._generators = Generators(num_envs)
        self._envs = np.arange(num_envs)
        self._always = np.ones(num_envs, np.bool_)
        self._ended = np.zeros(num_envs, np.bool_)
        self.next_block: int | None = None
        self.block = np.zeros(num_envs, np.int64)
        self._is_fixed = np.zeros(num_envs, np.bool_)
        self._finished_episodes = np.zeros(num_envs, np.int64)
        self._state = np.zeros(num_envs, np.int64)
        self._toward_limit = np.zeros(num_envs, np.int64)
        self._outcome = np.full(num_envs, UNCOUNTED)
        self._last_pick = np.full(num_envs, -1)
        self._find_scripts()
        self._look_up()

    @property
    def optimal_return(self) -> float:
        """Expected undiscounted return of the best policy that remembers all it has seen."""
        return self.task.optimal_return

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return self.task.num_blocks

    def block_of(self, finished_episodes: IntArray | int) -> IntArray:
        """Return the block of the episode that follows this many finished ones, elementwise."""
        return self.task.block_of(finished_episodes)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every environment.

        Args:
            seed: Environment i is seeded with ``seed + i``, or with item i of a sequence. All environments are set back
                to their first block.
            options: See :meth:`seqrl_lightning.envs.task.TaskEnv.reset`.

        Raises:
            ConfigurationError: If the task has no such block.
        """
        self._generators.seed(seed)
        self._count_finished()
        if seed is not None:
            self._finished_episodes[:] = 0
        self._start(self._always, self.task.fixed_block(options))
        self._look_up()
        return self._observations(), self._infos()

    def step(self, actions: IntArray) -> tuple[Any, Array, BoolArray, BoolArray, dict[str, Any]]:
        """Act in each environment. One whose episode has ended starts the next episode instead."""
        restarting = self._ended
        self._last_pick = np.array(actions)
        is_right, is_counted = self._last_pick == self._correct_action, self._correct_action >= 0
        self._outcome = outcome = np.add(is_right, is_counted, dtype=np.int64)
        self._state = self._next_states[self._state, outcome]
        reward = self._rewards[outcome]
        terminated = self._is_last[self._state]
        truncated = self._truncated(outcome, terminated)
        if np.count_nonzero(restarting):  # several times as fast as any()
            reward[restarting] = 0.0
            terminated &= ~restarting
            truncated &= ~restarting
            self._count_finished()
            self._start(restarting)
        self._ended = terminated | truncated
        self._look_up()
        return self._observations(), reward, terminated, truncated, self._infos()

    def _truncated(self, outcome: IntArray, terminated: BoolArray) -> BoolArray:
        """Count picks or errors, and return which episodes have reached the limit."""
        if self._rule.limit is None:
            return np.zeros_like(terminated)
        self._toward_limit += self._counts[outcome]
        truncated: BoolArray = (self._toward_limit >= self._rule.limit) & ~terminated
        return truncated

    def _count_finished(self) -> None:
        """Count the episodes that have ended, for the blocks."""
        self._finished_episodes += self._ended & ~self._is_fixed

    def _start(self, envs: BoolArray, fixed_block: int | None = None) -> None:
        """Start an episode where ``envs`` is true."""
        self._is_fixed[envs] = fixed_block is not None
        block = self.next_block if fixed_block is None else fixed_block
        self.block[envs] = self.task.block_of(self._finished_episodes[envs]) if block is None else block
        if self.task.draws_scripts:
            for env, block in zip(np.flatnonzero(envs).tolist(), self.block[envs].tolist(), strict=True):
                self.scripts.write(env, self.task.script(block, self._generators[env]))
        self._find_scripts()
        self._state[envs] = 0
        self._toward_limit[envs] = 0
        self._outcome[envs] = UNCOUNTED
        self._last_pick[envs] = -1
        self._ended = self._ended & ~envs

    def _find_scripts(self) -> None:
        """Look up where the script of each environment's episode begins."""
        self._row = self._envs if self.task.draws_scripts else self.block.copy()
        self._first_cell = self._row * self._rule.num_states

    def _look_up(self) -> None:
        """Look up the current state of each environment in its script."""
        self._cell = self._first_cell + self._state
        self._correct_action = self._correct[self._cell]

    def _observations(self) -> Any:
        observations: FloatArray = self._shown.take(self._cell, axis=0)
        if self._rule.echo is not None:
            observations[:, self.task.shown_size :] = self._rule.echo[self._outcome, self._last_pick]
        return self.task.present(observations)

    def _infos(self) -> dict[str, Any]:
        return {
            "block": self.block.copy(),
            "_block": self._always,
            "correct_action": self._correct_action.copy(),
            "_correct_action": self._always,
        }

    def state_dict(self) -> dict[str, Any] | None:
        """Return the state of the environments, as tensors and primitives; None if a user's own task hides some."""
        task = own_attributes(self.task)
        if task is None:
            return None
        state = {name: plain(vars(self)[name]) for name in self._STATE}
        scripts = self.scripts.state_dict() if self.task.draws_scripts else None
        return {**state, "scripts": scripts, "rng": self._generators.state_dict(), "task": task}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the environments back to a state that :meth:`state_dict` returned."""
        vars(self).update({name: arrays(state_dict[name]) for name in self._STATE})
        set_own_attributes(self.task, state_dict.get("task", {}))
        if self.task.draws_scripts:
            self.scripts.load_state_dict(state_dict["scripts"])
        self._find_scripts()
        self._look_up()
        self._generators.load_state_dict(state_dict["rng"])

    def render(self) -> tuple[Picture, ...] | None:
        """Return a text or picture of each environment, as the single environment makes it."""
        if self.render_mode is None:
            return None
        return tuple(self.task.picture(self._board(env)) for env in range(self.num_envs))

    def _board(self, env: int) -> Board:
        row = self._row[env]
        script = Script(self.scripts.shown[row], self.scripts.correct[row])
        return self.task.board(script, int(self.block[env]), int(self._state[env]), int(self._last_pick[env]))


def vectorized(task_class: type[TaskEnv]) -> Callable[..., TaskVectorEnv]:
    """Return a function that makes a :class:`TaskVectorEnv` of a task.

    Args:
        task_class: The task.

    Returns:
        A function of ``num_envs`` and the arguments of the task, to register as ``vector_entry_point``.
    """
    return functools.partial(TaskVectorEnv, task_class)


class Generators:
    """Random generators, one for each environment of a vector environment, seeded as Gymnasium seeds single ones.

    Args:
        num_envs: Number of environments.
    """

    def __init__(self, num_envs: int) -> None:
        # None until it is used: making a generator takes longer than a step of the environment.
        self._generators: list[np.random.Generator | None] = [None] * num_envs

    def __getitem__(self, env: int) -> np.random.Generator:
        generator = self._generators[env]
        if generator is None:
            generator = self._generators[env] = seeding.np_random()[0]
        return generator

    def seed(self, seed: int | Sequence[int | None] | None) -> None:
        """Seed environment i with ``seed + i``, or with item i of a sequence; None leaves a generator as it is."""
        if seed is None:
            return
        seeds = seed if isinstance(seed, Sequence) else [seed + i for i in range(len(self._generators))]
        for env, env_seed in enumerate(seeds):
            if env_seed is not None:
                self._generators[env] = seeding.np_random(env_seed)[0]

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the state of each generator."""
        return [dict(self[env].bit_generator.state) for env in range(len(self._generators))]

    def load_state_dict(self, state_dict: list[dict[str, Any]]) -> None:
        """Set the generators back to states that :meth:`state_dict` returned."""
        for env, state in enumerate(state_dict):
            restore_stream(self[env], state, f"the random stream of environment {env}")
