import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqrl_lightning.replay.sum_tree import SumTree


@given(
    st.lists(st.floats(0.0, 100.0), min_size=1, max_size=600),
    st.lists(st.tuples(st.integers(0, 10_000), st.floats(0.0, 100.0)), max_size=20),
)
def test_the_tree_finds_what_cumulated_sums_find(weights: list[float], changes: list[tuple[int, float]]) -> None:
    tree, plain = SumTree(len(weights)), np.array(weights)
    tree.update(np.arange(len(weights)), plain)
    for index, weight in changes:
        plain[index % len(weights)] = weight
        tree.update(np.array([index % len(weights)]), np.array([weight]))
    assert tree.weights.tolist() == plain.tolist()
    assert tree.total == pytest.approx(plain.sum())
    if plain.sum() == 0.0:
        return
    middles = (plain.cumsum() - plain / 2)[plain > 1e-6]
    assert tree.find(middles).tolist() == np.flatnonzero(plain > 1e-6).tolist()


def test_of_equal_indices_the_last_weight_holds() -> None:
    tree = SumTree(40)
    tree.update(np.array([3, 3, 20, 3]), np.array([1.0, 2.0, 5.0, 4.0]))
    assert tree.weights[3] == 4.0
    assert tree.total == 9.0


def test_draws_are_in_proportion_to_the_weights() -> None:
    tree = SumTree(1000)
    weights = np.random.default_rng(0).random(1000)
    tree.update(np.arange(1000), weights)
    drawn = tree.find(np.random.default_rng(1).random(1_000_000) * tree.total)
    counts = np.bincount(drawn, minlength=1000)
    assert np.abs(counts / 1_000_000 - weights / weights.sum()).max() < 2e-4


@pytest.mark.parametrize("size", [3, 32, 100, 1_500])
def test_what_rounding_takes_to_the_end_is_still_found_within(size: int) -> None:
    tree = SumTree(size)
    tree.update(np.arange(size), np.ones(size))
    found = tree.find(np.array([tree.total, 1.001 * tree.total]))
    assert (found >= 0).all()
    assert (found < size).all()
