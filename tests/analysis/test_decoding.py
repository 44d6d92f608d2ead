"""Decoding of codes whose accuracy is known."""

import numpy as np
import pytest

from seqrl_lightning.analysis.decoding import NUM_FOLDS, PENALTY, Measured, decode, decode_over_time, decode_steps
from seqrl_lightning.types import FloatArray, IntArray

NUM_EPISODES, NUM_STEPS, NUM_UNITS = 120, 4, 12


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def planted(labels: IntArray, directions: FloatArray, noise: FloatArray) -> FloatArray:
    """States in which each label has a direction, ``[labels, U]`` or, of each step, ``[T, labels, U]``."""
    directions = np.broadcast_to(directions, (NUM_STEPS, *directions.shape[-2:]))
    return directions[:, labels].swapaxes(0, 1) + noise


def test_a_planted_code_is_decoded_from_its_step_on_and_noise_at_chance(rng: np.random.Generator) -> None:
    labels = rng.integers(3, size=NUM_EPISODES)
    noise = 0.1 * rng.normal(size=(NUM_EPISODES, NUM_STEPS, NUM_UNITS))
    units = planted(labels, np.eye(3, NUM_UNITS), noise)
    units[:, :2] = noise[:, :2]
    found = decode_over_time(units, labels, 50, rng)
    np.testing.assert_array_equal(found.observed[2:], 1.0)
    assert found.observed[:2].max() < found.threshold < 0.6
    np.testing.assert_array_equal(found.is_above, [False, False, True, True])
    np.testing.assert_allclose(found.null.mean(), 1 / 3, atol=0.03)
    assert found.null.shape == (50, NUM_STEPS)


def test_a_decoder_generalizes_to_other_steps_if_the_code_stays(rng: np.random.Generator) -> None:
    labels = rng.integers(2, size=NUM_EPISODES)
    noise = 0.1 * rng.normal(size=(NUM_EPISODES, NUM_STEPS, NUM_UNITS))
    stays = planted(labels, np.eye(2, NUM_UNITS), noise)
    np.testing.assert_array_equal(decode_over_time(stays, labels, 5, rng, across=True).observed, 1.0)
    moving = np.eye(NUM_UNITS).reshape(-1, 2, NUM_UNITS)[:NUM_STEPS]  # other units at each step
    moves = decode_over_time(planted(labels, moving, noise), labels, 5, rng, across=True).observed
    np.testing.assert_array_equal(np.diag(moves), 1.0)
    assert moves[~np.eye(NUM_STEPS, dtype=bool)].max() < 0.75
    reversing = decode_over_time(np.stack([stays[:, 0], -stays[:, 0]], axis=1), labels, 5, rng, across=True).observed
    np.testing.assert_array_equal(reversing, np.eye(2))  # fitted at one step, always wrong at the other


def test_all_labelings_are_decoded_as_each_by_itself(rng: np.random.Generator) -> None:
    """Against least squares on rows that stand for the penalty."""
    train, test = rng.normal(size=(30, 5)), rng.normal(size=(8, 5))
    labels = rng.integers(4, 7, size=(3, 30))
    center = train.mean(0)
    penalty = np.sqrt(PENALTY * np.mean(((train - center) ** 2).sum(0))) * np.eye(5)
    for found, own in zip(decode(train, labels, test), labels, strict=True):
        targets = (own[:, None] == [4, 5, 6]).astype(float)
        rows = np.vstack([train - center, penalty])
        weights = np.linalg.lstsq(rows, np.vstack([targets - targets.mean(0), np.zeros((5, 3))]), rcond=None)[0]
        expected = 4 + ((test - center) @ weights + targets.mean(0)).argmax(1)
        np.testing.assert_array_equal(found, expected)


def test_no_episode_is_fitted_and_tested(rng: np.random.Generator) -> None:
    """Each episode is recognized by a unit of its own, which helps only a decoder that has seen it."""
    labels = rng.integers(2, size=NUM_EPISODES)
    units = np.repeat(np.eye(NUM_EPISODES)[:, None], 2, axis=1)
    assert decode_over_time(units, labels, 1, rng).observed.max() < 0.7
    assert decode_steps(units, np.repeat(labels[:, None], 2, axis=1), 1, rng).accuracy.observed < 0.7


def test_positions_are_decoded_by_one_decoder(rng: np.random.Generator) -> None:
    step = np.tile(np.arange(NUM_STEPS), (NUM_EPISODES, 1))
    units = np.eye(NUM_STEPS, NUM_UNITS)[step] + 0.05 * rng.normal(size=(NUM_EPISODES, NUM_STEPS, NUM_UNITS))
    units[:, 3] = units[:, 2]  # the last two look the same
    found = decode_steps(units, step, 20, rng)
    np.testing.assert_array_equal(found.classes, np.arange(NUM_STEPS))
    np.testing.assert_array_equal(found.shares[:2, :2], np.eye(2))
    np.testing.assert_allclose(found.shares.sum(1), 1.0)
    np.testing.assert_allclose(found.shares[2:, 2:].sum(1), 1.0)
    np.testing.assert_allclose(found.accuracy.observed, 0.75, atol=0.05)
    assert np.quantile(found.accuracy.null, 0.95) < 0.4


def test_the_threshold_is_of_the_largest_value_of_each_shuffle() -> None:
    null = np.zeros((100, 2, 3))
    null[:, 1, 2] = np.arange(100)
    null[:, 0, 0] = np.arange(100)[::-1]
    measured = Measured(np.array([[0.0, 98.0, 90.0], [99.0, 0.0, 97.2]]), null)
    assert measured.threshold == np.quantile(np.maximum(np.arange(100), np.arange(100)[::-1]), 0.95)
    np.testing.assert_array_equal(measured.is_above, measured.observed > measured.threshold)
    assert NUM_FOLDS > 1
