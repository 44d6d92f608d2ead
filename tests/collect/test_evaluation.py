"""The episodes that an evaluation plays."""

from seqrl_lightning.collect import EvaluationTasks
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
