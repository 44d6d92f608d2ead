"""``rollout`` plays one whole episode in each environment."""

import numpy as np

from seqrl_lightning.collect import Policy, rollout
from seqrl_lightning.envs import EnvFactory
from seqrl_lightning.types import BoolArray, IntArray
from tests.collect.collecting import CountingNetwork


def test_it_plays_one_episode_in_each_environment() -> None:
    envs = EnvFactory("seqrl/Sequence-v0", {"objects": "ABC", "max_trials": 5}).make_envs(3)
    actions = iter(np.array([[1, 0, 0], [2, 1, 0], [0, 2, 0], [0, 0, 0], [0, 0, 0]]))
    steps = list(rollout(lambda observation, mask: next(actions), envs, seed=0))
    returns = sum(step.outcome.task_reward * step.is_playing for step in steps)
    lengths = sum(step.is_playing.astype(int) for step in steps)
    assert returns.tolist() == [2.0, 2.0, 0.0]
    assert lengths.tolist() == [2, 3, 5]


def test_a_policy_carries_its_state_through_the_episode() -> None:
    envs = EnvFactory("seqrl/Sequence-v0", {"objects": "ABC", "max_trials": 5}).make_envs(2)
    policy = Policy(CountingNetwork(3))
    values = [policy.values[0, 0] for _ in rollout(policy.act, envs, seed=0) if policy.values is not None]
    assert values == [0, 1, 2, 3, 4]


def test_it_hands_on_action_masks() -> None:
    envs = EnvFactory("tests/Doors-v0").make_envs(2)

    def act(observation: object, mask: BoolArray | None) -> IntArray:
        assert mask is not None
        return np.asarray(mask.argmax(1))

    assert len(list(rollout(act, envs, seed=0))) == 5
