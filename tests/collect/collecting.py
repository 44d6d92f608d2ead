"""A collector with all that it needs, without a Trainer."""

from typing import Any

import numpy as np

from seqrl_lightning.collect import Collector, EpisodeLog, ExploringPolicy, GuardedEnvs, TrialRecorder
from seqrl_lightning.collect.policy import ActValues
from seqrl_lightning.envs import Border, EnvFactory, FollowsBlocks
from seqrl_lightning.exploration import ConstantEpsilon, EpsilonSchedule
from seqrl_lightning.replay import RingBuffer, Sampler, UniformSampler
from seqrl_lightning.types import Array, BoolArray, Progress, State


def constant_values(n_actions: int) -> ActValues:
    """A network without memory that finds the last action best."""

    def act_values(observation: Array, state: State = None, is_first: BoolArray | None = None) -> tuple[Array, State]:
        return np.tile(np.arange(n_actions, dtype=np.float32), (len(observation), 1)), state

    return act_values


class Zeros:
    """A learner of two actions whose values are all 0."""

    def act_values(
        self, observation: Array, state: State = None, is_first: BoolArray | None = None
    ) -> tuple[Array, State]:
        return np.zeros((len(observation), 2), np.float32), state

    def load_state_dict(self, state_dict: Any, strict: bool = True) -> None:
        pass


class CountingNetwork:
    """A network whose state is the number of steps of the episode; its value of every action is the state."""

    def __init__(self, n_actions: int) -> None:
        self.n_actions = n_actions

    def __call__(
        self, observation: Array, state: State = None, is_first: BoolArray | None = None
    ) -> tuple[Array, State]:
        before = np.zeros(len(observation)) if state is None else np.array(state)
        if is_first is not None:
            before[is_first] = 0
        return np.tile(before[:, None], (1, self.n_actions)), before + 1


def make_collector(
    env_id: str = "tests/Diary-v0",
    num_envs: int = 2,
    epsilon: EpsilonSchedule = ConstantEpsilon(1.0),  # noqa: B008  (frozen)
    act_values: ActValues | None = None,
    sampler: Sampler | None = None,
    capacity: int = 2000,
    env_kwargs: dict[str, Any] | None = None,
    vectorization_mode: str | None = None,
    rank: int = 0,
    world_size: int = 1,
    **guard: Any,
) -> Collector:
    factory = EnvFactory(env_id, env_kwargs, vectorization_mode=vectorization_mode)
    facts = factory.read_facts()
    envs = factory.make_envs(num_envs)

    def remake() -> Border:
        collector.envs.envs.discard()
        return factory.make_envs(num_envs)

    collector = Collector(
        GuardedEnvs(envs, remake, env_id, **guard),
        ExploringPolicy(
            act_values or constant_values(facts.n_actions), epsilon, facts.n_actions, np.random.default_rng(0)
        ),
        RingBuffer(capacity, num_envs, facts.obs_shape, facts.obs_dtype),
        sampler or UniformSampler(),
        Progress(),
        EpisodeLog(),
        TrialRecorder(facts.tells_correct_action),
        rank,
        world_size,
        factory.task.block_of if facts.num_blocks and isinstance(factory.task, FollowsBlocks) else None,
    )
    return collector
