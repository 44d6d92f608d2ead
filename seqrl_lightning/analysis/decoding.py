"""Linear decoding of labels from the states of units, cross-validated over episodes, beside shuffled labels.

The decoder is a ridge classifier: least squares on one-hot labels with an L2 penalty, and the largest output wins
(scikit-learn's ``RidgeClassifier``). It is written out here, since one factorization then serves the labels and all of
their shuffles, which makes a hundred shuffles about as cheap as ten.
"""

from typing import NamedTuple

import numpy as np

from seqrl_lightning.types import BoolArray, FloatArray, IntArray

NUM_FOLDS = 5
PENALTY = 0.01
"""The L2 penalty, as a fraction of the units' mean sum of squares."""


class Measured(NamedTuple):
    """A measure beside the same measure of shuffled labels, N times."""

    observed: FloatArray  # any shape
    null: FloatArray  # [N, *shape]

    @property
    def threshold(self) -> float:
        """The 95 % quantile over shuffles of the largest value anywhere, so that it holds for all places at once."""
        return float(np.quantile(self.null.reshape(len(self.null), -1).max(1), 0.95))

    @property
    def is_above(self) -> BoolArray:
        """Mask of the values above the threshold."""
        above: BoolArray = self.observed > self.threshold
        return above


def shuffled(labels: IntArray, num_shuffles: int, rng: np.random.Generator) -> IntArray:
    """Return the labels, ``[E]``, and below them their shuffles, ``[1 + num_shuffles, E]``."""
    shuffles = rng.permuted(np.tile(labels, (num_shuffles, 1)), axis=1)
    return np.vstack([labels, shuffles])


def ridge_outputs(train: FloatArray, targets: FloatArray, test: FloatArray) -> FloatArray:
    """Fit targets by ridge regression with an intercept, and predict those of other rows.

    Args:
        train: ``[n, U]`` float.
        targets: ``[n, C]`` float.
        test: ``[m, U]`` float.

    Returns:
        ``[m, C]`` float.
    """
    center, offset = train.mean(0), targets.mean(0)
    rows = train - center
    gram = rows.T @ rows
    gram[np.diag_indices_from(gram)] += PENALTY * np.trace(gram) / len(gram) + np.finfo(float).tiny
    weights = np.linalg.solve(gram, rows.T @ (targets - offset))
    outputs: FloatArray = (test - center) @ weights + offset
    return outputs


def decode(train: FloatArray, labels: IntArray, test: FloatArray) -> IntArray:
    """Decode several labelings at once.

    Args:
        train: ``[n, U]`` float.
        labels: ``[L, n]`` int64, L labelings of its rows; each has the same classes.
        test: ``[m, U]`` float.

    Returns:
        ``[L, m]`` int64, the labels of the rows of ``test``.
    """
    classes = np.unique(labels)
    targets = (labels.T[..., None] == classes).astype(float)  # [n, L, K]
    outputs = ridge_outputs(train, targets.reshape(len(train), -1), test)
    chosen: IntArray = classes[outputs.reshape(len(test), len(labels), len(classes)).argmax(-1).T]
    return chosen


def folds_of(num_episodes: int, rng: np.random.Generator) -> IntArray:
    """Deal episodes to folds at random, ``[E]`` int64."""
    return rng.permutation(num_episodes) % NUM_FOLDS


def decode_over_time(
    units: FloatArray, labels: IntArray, num_shuffles: int, rng: np.random.Generator, across: bool = False
) -> Measured:
    """Measure how well a label of each episode is decoded at each step.

    Args:
        units: ``[E, T, U]`` float.
        labels: ``[E]`` int64.
        num_shuffles: Number of times that the labels are shuffled over episodes.
        rng: The source of folds and shuffles.
        across: Whether a decoder that was fitted at one step is tested at all steps (cross-temporal generalization).

    Returns:
        The fraction that was right in episodes that were not fitted, ``[T]``; with ``across``, ``[T, T]``: fitted at
        the step of the row, tested at that of the column.
    """
    num_episodes, num_steps, num_units = units.shape
    labelings = shuffled(labels, num_shuffles, rng)
    fold = folds_of(num_episodes, rng)
    num_right = np.zeros((len(labelings), num_steps, num_steps if across else 1))
    for k in range(NUM_FOLDS):
        is_test = fold == k
        truth = labelings[:, is_test]
        for step in range(num_steps):
            tested = units[is_test] if across else units[is_test, step, None]  # [m, T or 1, U]
            found = decode(units[~is_test, step], labelings[:, ~is_test], tested.reshape(-1, num_units))
            is_right = found.reshape(*truth.shape, -1) == truth[..., None]
            num_right[:, step] += is_right.sum(1)
    accuracy = num_right / num_episodes
    accuracy = accuracy if across else accuracy[..., 0]
    return Measured(accuracy[0], accuracy[1:])


class Confusion(NamedTuple):
    """The accuracy and the confusion matrix of one decoder for all steps."""

    accuracy: Measured  # []
    shares: FloatArray  # [K, K], the share of each label (column) among the labels decoded for one (row)
    classes: IntArray  # [K]


def decode_steps(units: FloatArray, labels: IntArray, num_shuffles: int, rng: np.random.Generator) -> Confusion:
    """Decode a label of each step by one decoder for all steps; no episode is in both fit and test.

    Args:
        units: ``[E, T, U]`` float.
        labels: ``[E, T]`` int64.
        num_shuffles: Number of times that the labels are shuffled over all steps.
        rng: The source of folds and shuffles.
    """
    num_episodes, num_steps, num_units = units.shape
    labelings = shuffled(labels.reshape(-1), num_shuffles, rng)
    fold = np.repeat(folds_of(num_episodes, rng), num_steps)
    rows = units.reshape(-1, num_units)
    found = np.empty_like(labelings)
    for k in range(NUM_FOLDS):
        found[:, fold == k] = decode(rows[fold != k], labelings[:, fold != k], rows[fold == k])
    accuracy = (found == labelings).mean(1)
    classes = np.unique(labels)
    counts = np.array([[(found[0, labelings[0] == a] == b).mean() for b in classes] for a in classes])
    return Confusion(Measured(accuracy[0], accuracy[1:]), counts, classes)
