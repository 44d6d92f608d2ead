import gymnasium as gym

import seqrl_lightning.envs  # noqa: F401  (registers the tasks)
from seqrl_lightning.metrics import TaskFacts


def test_a_task_about_an_order_tells_everything() -> None:
    blocks = [{"sequence": "ABC", "episodes": 5}, {"sequence": "reversed"}]
    facts = TaskFacts.of(gym.make("seqrl/SequenceDistractor-v0", objects="ABC", blocks=blocks).unwrapped)
    assert facts.num_positions == 4
    assert facts.num_picks == facts.num_objects == 3
    assert facts.order is not None
    assert facts.order.sequences.tolist() == [[0, 1, 2], [2, 1, 0]]
    assert facts.num_blocks == 2
    assert facts.block_names == ["block 0: ABC", "block 1: CBA"]
    assert facts.mastery_return == 3.0


def test_where_the_context_decides_there_is_no_order_by_block() -> None:
    facts = TaskFacts.of(gym.make("seqrl/ContextSequence-v0").unwrapped)
    assert (facts.num_objects, facts.order, facts.num_blocks) == (5, None, 1)


def test_a_task_of_gymnasiums_is_mastered_at_its_threshold() -> None:
    assert TaskFacts.of(gym.make("CartPole-v1").unwrapped) == TaskFacts(mastery_return=475.0)


def test_a_task_that_tells_nothing() -> None:
    assert TaskFacts.of(gym.Env()) == TaskFacts()
    assert TaskFacts().num_picks is None
    assert TaskFacts().block_names == ["block 0"]
