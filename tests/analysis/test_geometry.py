"""The geometry of states whose geometry is known."""

import numpy as np
import pytest

from seqrl_lightning.analysis.geometry import (
    dimension,
    item_subspace,
    item_variance,
    mean_angle,
    participation_ratio,
    principal_components,
    similarity,
    subspace_angles,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_principal_components_follow_the_variance(rng: np.random.Generator) -> None:
    units = rng.normal(size=(50, 4, 3)) * [0.1, 10.0, 1.0]
    found = principal_components(units)
    assert found.scores.shape == (50, 4, 2)
    np.testing.assert_allclose(np.abs(np.corrcoef(found.scores[..., 0].ravel(), units[..., 1].ravel())[0, 1]), 1, 1e-3)
    shares = units.reshape(-1, 3).var(0) / units.reshape(-1, 3).var(0).sum()
    np.testing.assert_allclose(found.explained, [shares[1], shares[2]], atol=2e-3)


def test_the_participation_ratio_counts_dimensions(rng: np.random.Generator) -> None:
    line = rng.normal(size=(40, 1)) * np.ones(6)
    even = np.vstack([np.eye(6), -np.eye(6)])
    np.testing.assert_allclose(participation_ratio(np.stack([line[:12], even])), [1.0, 6.0])
    units = np.repeat(rng.normal(size=(200, 1, 1)), 5, axis=2)  # all units do the same
    found = dimension(units, 20, rng)
    np.testing.assert_allclose(found.observed, [1.0])
    assert found.null.min() > 4.5


def test_items_that_decide_the_state_explain_all_of_its_variance(rng: np.random.Generator) -> None:
    labels = np.arange(60) % 3
    decided = rng.normal(size=(3, 8))[labels]
    halves = np.column_stack([labels == 0, np.arange(60) // 3 % 2]).astype(float)  # one unit of each kind
    units = np.stack([decided, rng.normal(size=(60, 8)), np.pad(halves, ((0, 0), (0, 6)))], axis=1)
    found = item_variance(units, labels, 50, rng)
    np.testing.assert_allclose(found.observed[0], 1.0)
    assert found.observed[1] < found.threshold
    variance = halves.var(0)
    np.testing.assert_allclose(found.observed[2], variance[0] / variance.sum())


def test_angles_of_planes_that_are_known() -> None:
    axes = np.eye(6)
    assert mean_angle(axes[:, :2], axes[:, :2]) == 0.0
    np.testing.assert_allclose(mean_angle(axes[:, :2], axes[:, 2:4]), 90.0)
    np.testing.assert_allclose(mean_angle(axes[:, :2], axes[:, 1:3]), 45.0)  # 0 and 90
    tilted = (axes[:, :1] + np.sqrt(3) * axes[:, 2:3]) / 2
    np.testing.assert_allclose(mean_angle(axes[:, :1], tilted), 60.0)
    assert np.isnan(mean_angle(axes[:, :0], axes[:, :2]))


def test_a_subspace_is_spanned_by_the_differences_of_means() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    units = np.eye(3, 5)[labels] + 7.0
    basis = item_subspace(units, labels)
    assert basis.shape == (5, 2)
    np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(basis @ basis.T @ [1, -1, 0, 0, 0], [1, -1, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(basis.T @ [0, 0, 0, 1, 1], 0.0, atol=1e-12)
    assert item_subspace(np.ones((6, 5)), labels).shape == (5, 0)


def test_items_in_dimensions_of_their_own_are_orthogonal(rng: np.random.Generator) -> None:
    items = rng.integers(3, size=(3, 400))
    codes = np.eye(3, 9), np.roll(np.eye(3, 9), 3, axis=1), np.eye(3, 9)  # the third shares those of the first
    units = sum(code[labels] for code, labels in zip(codes, items, strict=True)) + 0.01 * rng.normal(size=(400, 9))
    found = subspace_angles(units, items, 20, rng)
    np.testing.assert_allclose(found.observed, found.observed.T)
    assert np.diag(found.observed).max() < 15
    assert found.observed[0, 2] < 15
    assert found.observed[0, 1] > 75
    assert found.observed[1, 2] > 75
    assert found.null.mean() > 35  # within the few dimensions that the states have


def test_distances_are_about_the_item_that_is_held(rng: np.random.Generator) -> None:
    items = rng.integers(3, size=(2, 100))
    units = np.stack([np.eye(3)[items[0]], np.eye(3)[items[1]], rng.normal(size=(100, 3))], axis=1)
    found = similarity(units, items, 30, rng)
    np.testing.assert_allclose(found.observed[[0, 1], [0, 1]], 1.0)
    np.testing.assert_array_equal(found.is_above[:, :2], np.eye(2, dtype=bool))
    assert np.abs(found.observed[:, 2]).max() < 0.1
    np.testing.assert_allclose(found.null.mean(), 0.0, atol=0.02)
