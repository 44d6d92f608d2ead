"""Batches as learners get them."""

from typing import Any

import numpy as np
import pytest
import torch

from seqrl_lightning.replay import (
    LatestSampler,
    PrioritizedSampler,
    ReplayDataset,
    RingBuffer,
    SequenceSampler,
    UniformSampler,
    write_priorities,
)
from seqrl_lightning.types import ConfigurationError, FloatArray, IntArray, Progress
from tests.replay.test_samplers import GOES_ON, play


def dataset(num_rows: int, sampler: Any, batch_size: int, progress: Progress | None = None, **needs: Any) -> Any:
    ring = RingBuffer(40, 2, (1,), "float32")
    play(ring, [[GOES_ON, GOES_ON]] * num_rows)
    return ReplayDataset(ring, sampler, batch_size, 3, np.random.default_rng(0), progress or Progress(), **needs)


def test_an_epoch_has_its_length() -> None:
    batches = dataset(5, UniformSampler(), 4)
    assert len(batches) == len(list(batches)) == 3


def test_batches_hold_what_was_asked_for() -> None:
    progress = Progress(epsilon=0.25)
    plain = next(iter(dataset(5, UniformSampler(), 4, progress)))
    assert plain.epsilon_batch is None
    assert plain.next_action_batch is None
    batches = iter(dataset(5, UniformSampler(), 4, progress, next_actions=True, epsilon=True))
    batch = next(batches)
    assert batch.epsilon_batch.tolist() == [[0.25] * 4]
    assert batch.next_action_batch.shape == (1, 4)
    progress.epsilon = 0.125  # the agent goes on
    assert next(batches).epsilon_batch.tolist() == [[0.125] * 4]


def test_importance_weights_follow_the_env_steps_of_the_whole_run() -> None:
    progress = Progress()
    sampler = PrioritizedSampler(alpha=1.0, beta=0.0, beta_env_steps=100)
    batches = iter(dataset(5, sampler, 8, progress))
    assert next(batches).weight_batch.unique().tolist() == [1.0]
    sampler.update_priorities(np.arange(10), np.arange(10.0))
    assert next(batches).weight_batch.unique().tolist() == [1.0]  # beta is still 0
    progress.env_steps = 100
    batch = next(batches)
    priorities = batch.slot_batch[0] + 1e-6
    np.testing.assert_allclose(batch.weight_batch[0], priorities.min() / priorities, rtol=1e-5)


def test_too_few_transitions_for_a_batch_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"ends with 6 transitions to learn from; it must leave .* = 8 for L"):
        next(iter(dataset(3, LatestSampler(), 8)))
    with pytest.raises(ConfigurationError, match=r"before a next action is known; it must be more than .* = 2"):
        next(iter(dataset(1, UniformSampler(), 2, next_actions=True)))


def test_an_error_that_isnt_finite_changes_no_priority() -> None:
    """Of a window's steps, those with an error count; a window without one keeps its priority."""
    written: list[Any] = []

    class Noting(SequenceSampler):
        def update_priorities(self, slots: IntArray, errors: FloatArray) -> None:
            written.append((slots.tolist(), errors.tolist()))

    ring = RingBuffer(40, 2, (1,), "float32")
    play(ring, [[GOES_ON, GOES_ON]] * 8)
    batch = ring.windows(np.array([2, 3]), 2)._replace(slot_batch=torch.tensor([[2, 3]]))
    write_priorities(Noting(), batch, torch.tensor([[torch.inf, torch.inf], [1.0, torch.nan]]))
    assert str(written) == "[([2], [[nan], [1.0]])]"
