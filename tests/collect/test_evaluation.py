"""The episodes that an evaluation plays."""

import numpy as np

from seqrl_lightning.algorithms import evaluation
from seqrl_lightning.collect import EvaluationTasks, rollout
from seqrl_lightning.envs import EnvFactory
from seqrl_lightning.types import EvaluationTask, Progress


def test_rounds_follow_each_other_in_their_seeds() -> None:
    tasks = EvaluationTasks(100, 3, 2, 0, Progress())
    assert list(tasks) == [EvaluationTask(seed, None, ("",)) for seed in (100, 102, 104)]
    assert len(tasks) == 3


def test_each_block_is_played_and_the_present_one_counts_twice() -> None:
    progress = Progress(block=1)
    tasks = EvaluationTasks(7, 2, 1, 2, progress)
    assert len(tasks) == 4
    assert [(task.seed, task.options, task.names) for task in tasks] == [
        (7, {"block": 0}, ("block_0/",)),
        (7, {"block": 1}, ("block_1/", "")),
        (8, {"block": 0}, ("block_0/",)),
        (8, {"block": 1}, ("block_1/", "")),
    ]
    progress.block = 0  # the tasks follow it
    assert [task.names for task in tasks][:2] == [("block_0/", ""), ("block_1/",)]


def test_a_return_is_that_of_the_first_episode_though_its_environment_is_played_on() -> None:
    envs = EnvFactory("seqrl/Sequence-v0", {"objects": "ABC", "max_trials": 5}).make_envs(2)
    actions = iter(np.array([[1, 0], [2, 0], [0, 0], [1, 0], [2, 0]]))  # the first one ends twice, after two steps
    played = list(rollout(lambda observation, mask: next(actions), envs, seed=0))
    assert sum(step.outcome.task_reward[0] for step in played) == 4.0
    _, returns, lengths, is_cut = evaluation._summary(iter(played), keeps_steps=False)
    assert (returns.tolist(), lengths.tolist(), is_cut.tolist()) == ([2.0, 0.0], [2, 5], [False, False])
