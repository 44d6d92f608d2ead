import gymnasium as gym
import numpy as np

from seqrl_lightning.envs import rollout


def test_rollout_plays_one_episode_in_each_environment() -> None:
    envs = gym.make_vec("seqrl/Sequence-v0", num_envs=3, objects="ABC", max_trials=5)
    acts = iter(np.array([[1, 0, 0], [2, 1, 0], [0, 2, 0], [0, 0, 0], [0, 0, 0]]))
    steps = list(rollout(lambda observation, state, mask: (next(acts), state), envs, seed=0))
    returns = sum(step.reward * step.is_playing for step in steps)
    lengths = sum(step.is_playing.astype(int) for step in steps)
    assert returns.tolist() == [2.0, 2.0, 0.0]
    assert lengths.tolist() == [2, 3, 5]
