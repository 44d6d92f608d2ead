"""Every measure of one network's states, and the sections of the report that show them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seqrl_lightning.analysis import state_figures as figures
from seqrl_lightning.analysis.decoding import Confusion, Measured, decode_over_time, decode_steps
from seqrl_lightning.analysis.geometry import (
    Components,
    dimension,
    item_variance,
    principal_components,
    similarity,
    subspace_angles,
)
from seqrl_lightning.analysis.report import Section
from seqrl_lightning.analysis.states import Aligned
from seqrl_lightning.types import ConfigurationError, FloatArray

_ABOVE = (
    "A dot marks what is above the 95 % quantile of the largest value anywhere in each shuffle, so that chance alone "
    "puts a dot somewhere in one map of twenty."
)


class Representation(NamedTuple):
    """The measures of one network, of P positions at which items are shown and T steps."""

    name: str
    aligned: Aligned
    items: Measured  # [P, T] accuracy of the item at each position, decoded at each step
    transfer: dict[int, Measured]  # [T, T] of the first positions, by their steps
    steps: Confusion  # of the serial position, or of the step
    variance: Measured  # [P, T] share of the variance that lies between items
    similarity: Measured  # [P, T]
    angles: Measured  # [P, P] degrees, at the reference step
    dimension: Measured  # [T]
    components: Components
    contributions: Measured | None = None  # [T, T], see seqrl_lightning.recording.contributions
    run: str = ""  # the run that the network is of
    env_steps: int | None = None  # env steps of its training; None if unknown

    @property
    def item_steps(self) -> list[int]:
        """The steps at which items are shown, P of them."""
        return self.aligned.item_steps

    @property
    def held(self) -> FloatArray:
        """The accuracy of each position's item at the reference step, ``[P]``."""
        return self.items.observed[:, self.aligned.reference_step]

    @property
    def chance(self) -> float:
        """The mean accuracy of shuffled items."""
        return float(self.items.null.mean())


def represent(name: str, aligned: Aligned, num_shuffles: int, seed: int) -> Representation:
    """Compute the measures of a network's states.

    Args:
        name: The network's name.
        aligned: Its states.
        num_shuffles: Number of times that labels are shuffled, for each measure.
        seed: Of folds and shuffles; the same for networks that are compared.

    Raises:
        ConfigurationError: If no step has items that differ from episode to episode.
    """
    rng = np.random.default_rng(seed)
    units, item_steps = aligned.units, aligned.item_steps
    if not item_steps:
        raise ConfigurationError(
            "the items (of a task without symbols, the actions) are the same in all episodes, or too rare; there must "
            "be a step at which they differ, each of them in at least ten episodes"
        )
    items = aligned.item[:, item_steps].T  # [P, E]
    return Representation(
        name,
        aligned,
        items=_by_position([decode_over_time(units, labels, num_shuffles, rng) for labels in items]),
        transfer={
            at: decode_over_time(units, labels, num_shuffles, rng, across=True)
            for at, labels in list(zip(item_steps, items, strict=True))[: figures.MOST_PANELS]
        },
        steps=decode_steps(units, aligned.position, num_shuffles, rng),
        variance=_by_position([item_variance(units, labels, num_shuffles, rng) for labels in items]),
        similarity=similarity(units, items, num_shuffles, rng),
        angles=subspace_angles(units[:, aligned.reference_step], items, num_shuffles, rng),
        dimension=dimension(units, num_shuffles, rng),
        components=principal_components(units),
    )


def _by_position(measures: Sequence[Measured]) -> Measured:
    return Measured(np.stack([one.observed for one in measures]), np.stack([one.null for one in measures], axis=1))


def sections_on(found: Representation, prefix: str = "") -> list[Section]:
    """All sections on one network.

    Args:
        found: Its measures.
        prefix: The beginning of file names, if there are several networks.
    """
    sections = [
        trajectories(found),
        decoding(found),
        transfer(found),
        serial_position(found),
        representational_similarity(found),
        subspaces(found),
        dimensions(found),
        saliency(found),
    ]
    of = f", {found.name}" if prefix else ""
    return [
        section._replace(name=f"{prefix}{section.name}", title=f"{section.title}{of}", text=section.text)
        for section in sections
    ]


def trajectories(found: Representation) -> Section:
    """Mean paths of the states by item, in the plane of the first two principal components."""
    paths, starts = {}, {}
    for step in found.item_steps[: figures.MOST_PANELS]:
        title, items = f"item of step {step + 1}", found.aligned.item[:, step]
        paths[title] = {f"item {item}": found.components.scores[items == item].mean(0) for item in np.unique(items)}
        starts[title] = step
    figure = figures.draw_trajectories(paths, starts, found.components.explained)
    data = _cells("share of variance", found.variance, found.item_steps)
    text = (
        "Principal components of all states; each line is the mean path of the episodes with one item at the step that "
        "the panel names, from there (circle) to the last step (square), with the steps before in gray. Two components "
        "may hide what others show. The table has the share of the variance over episodes, of all units, that lies "
        "between the items' means, at the step with the largest share, beside shuffled items."
    )
    rows = {
        step + 1: (values.max(), int(values.argmax()) + 1, null.mean(0)[values.argmax()], found.variance.threshold)
        for step, values, null in zip(
            found.item_steps, found.variance.observed, found.variance.null.swapaxes(0, 1), strict=True
        )
    }
    columns = ["largest share", "at step", "shuffled (mean)", "shuffled (95 % of largest)"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("item of step")
    return Section("trajectories", "Trajectories by item", text, figure, table, data)


def decoding(found: Representation) -> Section:
    """Accuracy of linear decoders of each item at each step."""
    text = (
        "Fraction of episodes in which a linear decoder (ridge classifier, five folds of episodes) reads the item of "
        f"one step (row) from the states of another (column). Below the diagonal, items are yet to come. {_ABOVE} "
        f"{_shuffles(found.items)} The table gives it by lag, the steps since the item was shown: the mean over items."
    )
    figure = _map(found.items, found, "fraction right", (found.chance, 1.0))
    table = pd.DataFrame(
        {
            "accuracy": by_lag(found.items.observed, found.item_steps),
            "shuffled (mean)": by_lag(found.items.null.mean(0), found.item_steps),
        }
    )
    return Section(
        "decoding", "Decoding of past items", text, figure, table, _cells("accuracy", found.items, found.item_steps)
    )


def by_lag(accuracy: FloatArray, item_steps: Sequence[int]) -> pd.Series:
    """Return the mean accuracy at each lag, the steps since the item was shown.

    Args:
        accuracy: ``[P, T]``.
        item_steps: The steps at which the P items are shown.
    """
    rows = {
        lag: np.mean([row[at + lag] for at, row in zip(item_steps, accuracy, strict=True) if at + lag < len(row)])
        for lag in range(accuracy.shape[1] - item_steps[0])
    }
    return pd.Series(rows, dtype=float).rename_axis("lag")


def transfer(found: Representation) -> Section:
    """Cross-temporal generalization of the first items' decoders."""
    steps = list(range(1, found.aligned.units.shape[1] + 1))
    maps = {f"item of step {at + 1}": one for at, one in found.transfer.items()}
    figure = figures.draw_maps(
        {title: one.observed for title, one in maps.items()},
        {title: one.is_above for title, one in maps.items()},
        steps,
        ("step of the fit", "step of the test", "fraction right"),
        (found.chance, 1.0),
    )
    text = (
        "A decoder of an item that was fitted to the states of one step (row), tested on those of another step "
        "(column), in other episodes. A square of high values is a code that stays as it is; a diagonal alone is one "
        f"that changes from step to step. {_ABOVE}"
    )
    data = pd.concat(
        _cells("accuracy", one, range(len(steps)), "fitted_at", "tested_at").assign(item_step=at + 1)
        for at, one in found.transfer.items()
    )
    return Section("transfer_over_time", "Generalization over time", text, figure, None, data)


def serial_position(found: Representation) -> Section:
    """Decoding of the serial position."""
    steps = found.steps
    names = steps.classes + 1
    figure = figures.draw_maps(
        {"": steps.shares},
        {"": np.eye(len(names), dtype=bool)},
        names.tolist(),
        ("position", "position decoded", "share"),
        (0.0, 1.0),
    )
    null = steps.accuracy.null
    text = (
        "The serial position (of a task without one, the step) as one decoder for all steps reads it, in episodes that "
        f"were not fitted: {steps.accuracy.observed:.0%} are right, and {null.mean():.0%} with shuffled positions (95 "
        f"% of shuffles: at most {np.quantile(null, 0.95):.0%}). Dots are on the diagonal."
    )
    data = pd.DataFrame(steps.shares, columns=[f"decoded_{name}" for name in names]).assign(position=names)
    return Section("position", "Decoding of the serial position", text, figure, None, data)


def representational_similarity(found: Representation) -> Section:
    """Representational similarity by serial position."""
    text = (
        "Spearman's correlation, over pairs of episodes, of the distance between their states at a step (column) with "
        "whether they had different items at another (row): how much of the geometry of the states is about that item. "
        f"{_ABOVE} {_shuffles(found.similarity)}"
    )
    figure = _map(found.similarity, found, "correlation", None, diverging=True)
    data = _cells("correlation", found.similarity, found.item_steps)
    return Section("similarity", "Representational similarity", text, figure, None, data)


def subspaces(found: Representation) -> Section:
    """Angles between the items' subspaces at the reference step."""
    names = [step + 1 for step in found.item_steps]
    null = found.angles.null
    at = found.aligned.reference_step + 1
    below = float(np.quantile(null.reshape(len(null), -1).min(1), 0.05))
    text = (
        "Mean principal angle between the subspaces of the items of two steps, at the last step at which an item is "
        f"shown (step {at}). A subspace is spanned by the differences between the items' mean states, and is estimated "
        "in either half of the episodes; only different halves are compared, so that the diagonal says how well it is "
        "known. Near 90 degrees off the diagonal, items have dimensions of their own. A dot marks what is smaller than "
        f"the 5 % quantile of the smallest angle in each shuffle of items ({below:.0f} degrees; the mean of all is "
        f"{null.mean():.0f})."
    )
    figure = figures.draw_maps(
        {"": found.angles.observed},
        {"": found.angles.observed < below},
        names,
        ("item of step", "item of step", "angle (degrees)"),
        (0.0, 90.0),
    )
    places = range(len(names))
    data = _cells("angle", found.angles, places, "first", "second").replace(
        {"first": dict(enumerate(names, 1)), "second": dict(enumerate(names, 1))}
    )
    return Section("subspaces", "Angles between item subspaces", text, figure, None, data)


def dimensions(found: Representation) -> Section:
    """The participation ratio at each step."""
    null = found.dimension.null.mean(0)
    text = (
        "Participation ratio of the states over episodes at each step: the number of dimensions with about the same "
        f"variance that would give this spread, from 1 to {found.aligned.units.shape[2]} units. The other line is of "
        "units that were shuffled over episodes, each by itself."
    )
    lines = {"states": found.dimension.observed, "shuffled units (mean)": null}
    figure = figures.draw_lines(lines, {}, ("step", "participation ratio"))
    data = pd.DataFrame({"step": range(1, len(null) + 1), "participation_ratio": lines["states"], "shuffled": null})
    return Section("dimension", "Dimension", text, figure, None, data)


def saliency(found: Representation) -> Section:
    """Contributions of past observations to each choice."""
    title, measured = "Contributions to the choice", found.contributions
    if measured is None:
        why = "The observations are not vectors of floats, by which the values could be differentiated."
        return Section("saliency", title, why)
    expected = measured.null.mean(0)
    ahead = Measured(measured.observed - expected, measured.null - expected)
    steps = range(1, len(expected) + 1)
    figure = figures.draw_maps(
        {"": ahead.observed},
        {"": ahead.is_above},
        list(steps),
        ("step of the choice", "step of the observation", "contribution (value)"),
        None,
        diverging=True,
    )
    text = (
        "Gradient times input: how much the observation of a step (column) speaks for the action that was chosen at "
        "another (row), in units of value, more than the observation of another episode at that step would (the mean "
        "of the shuffles). The gradient is that of the chosen action's value less the mean value. A linear "
        f"approximation, which saturated gates mislead. {_ABOVE}"
    )
    data = _cells("contribution", ahead, range(len(expected)), "choice_step", "observation_step")
    return Section("saliency", title, text, figure, None, data)


def _map(
    measured: Measured,
    found: Representation,
    label: str,
    limits: tuple[float, float] | None,
    diverging: bool = False,
) -> Figure:
    """Draw a measure of each item (rows) at each step."""
    rows = [step + 1 for step in found.item_steps]
    labels = ("item of step", "step", label)
    return figures.draw_maps({"": measured.observed}, {"": measured.is_above}, rows, labels, limits, diverging)


def _shuffles(measured: Measured) -> str:
    return (
        f"The items were shuffled over episodes {len(measured.null)} times; that quantile is {measured.threshold:.2f}."
    )


def _cells(
    name: str, measured: Measured, rows: Sequence[int], row: str = "item_step", column: str = "step"
) -> pd.DataFrame:
    """Return a measure ``[R, C]`` as a table with a row for each cell, beside the mean of its shuffles."""
    num_columns = measured.observed.shape[1]
    return pd.DataFrame(
        {
            row: np.repeat(np.asarray(rows) + 1, num_columns),
            column: np.tile(np.arange(1, num_columns + 1), len(rows)),
            name.replace(" ", "_"): measured.observed.reshape(-1),
            "shuffled": measured.null.mean(0).reshape(-1),
            "is_above": measured.is_above.reshape(-1),
        }
    )
