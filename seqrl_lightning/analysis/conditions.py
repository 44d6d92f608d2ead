"""Conditions: runs that differ in their seed alone, distinguished by the settings in their ``config.yaml``."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from seqrl_lightning.analysis.levels import Levels
from seqrl_lightning.analysis.runs import Run
from seqrl_lightning.analysis.trials import with_observation_columns
from seqrl_lightning.types import ConfigurationError

Groups = Mapping[str, Sequence[Run]]
"""The runs of each condition, by the condition's name."""

_NOT_PART_OF_A_CONDITION = (
    *("seed_everything", "ckpt_path", "weights_only", "allow", "max_gib", "torch_threads", "checkpoint"),
    *("data.mmap_dir", "data.save_replay", "trainer.default_root_dir", "trainer.logger", "trainer.log_every_n_steps"),
    *("trainer.enable_checkpointing", "trainer.enable_model_summary", "trainer.enable_progress_bar"),
    *("trainer.profiler", "trainer.num_sanity_val_steps"),
)
"""Settings of a run's paths, output and display, which don't affect learning."""


def settings_of(run: Run) -> dict[str, str]:
    """Return the settings that make a run's condition, as texts by dotted names without ``init_args``."""
    flat = _flat(run.config)
    return {
        name: value
        for name, value in flat.items()
        if not any(name == left_out or name.startswith(f"{left_out}.") for left_out in _NOT_PART_OF_A_CONDITION)
    }


def conditions_of(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Group runs by their settings, and name each condition after the settings that distinguish it.

    Args:
        runs: Runs of any conditions.

    Returns:
        The runs of each condition, ascending by seed, by names like ``delay=4``. Those of an experiment are named after
        the levels of its factors, in the order of its design, and a single condition is named ``all runs``. Other
        conditions that differ in one number are ascending by it, and the rest are in the order of their first runs.

    Raises:
        ConfigurationError: If two runs have the same settings and the same seed.
    """
    groups: dict[str, list[Run]] = {}
    settings: dict[str, dict[str, str]] = {}
    for run in runs:
        key = json.dumps(settings_of(run), sort_keys=True)
        groups.setdefault(key, []).append(run)
        settings[key] = settings_of(run)
    for group in groups.values():
        _require_different_seeds(group)
    names = _level_names([group[0].levels for group in groups.values()])
    order = _by_place if names else _by_number
    named = zip(names or _names([settings[key] for key in groups]), groups.values(), strict=True)
    return {name: sorted(group, key=lambda run: run.seed) for name, group in sorted(named, key=order)}


def one_condition(runs: Sequence[Run], of_what: str = "the runs") -> list[Run]:
    """Return the runs, ascending by seed, if they are of one condition.

    Args:
        runs: At least one run.
        of_what: The subject of the error, such as the runs of a table.

    Raises:
        ConfigurationError: If their settings differ in more than the seed, or two have the same seed.
    """
    conditions = conditions_of(runs)
    if len(conditions) > 1:
        raise ConfigurationError(
            f"{of_what} are of {len(conditions)} conditions ({'; '.join(conditions)}); they must differ in their seed "
            "alone (`seqrl compare` takes several conditions)"
        )
    return next(iter(conditions.values()))


def has_trials(groups: Groups) -> bool:
    """Whether a run has a table of trials."""
    return any(run.trials is not None for runs in groups.values() for run in runs)


def all_trials(groups: Groups) -> Iterator[pd.DataFrame]:
    """Yield the tables of trials of all runs that have one.

    Yields:
        A run's table, with the columns ``condition`` and ``seed`` in addition and, for observations that are vectors,
        a column for each of their numbers in place of ``state``.
    """
    for name, runs in groups.items():
        for run in runs:
            if run.trials is not None:
                condition = pd.Categorical.from_codes(np.zeros(len(run.trials), np.int8), [name])
                yield with_observation_columns(run.trials, run.facts).assign(condition=condition, seed=run.seed)


def _require_different_seeds(runs: Sequence[Run]) -> None:
    seed, count = Counter(run.seed for run in runs).most_common(1)[0]
    if count > 1:
        twins = " and ".join(str(run.folder) for run in runs if run.seed == seed)
        raise ConfigurationError(
            f"{twins} have the same settings and seed {seed}; each seed of a condition must be one run"
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in settings.items():
        path = prefix if name in ("init_args", "class_path") else f"{prefix}.{name}".removeprefix(".")
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, path)
        else:
            is_class = name == "class_path"
            flat[path] = (
                str(value).rpartition(".")[2] if is_class else value if isinstance(value, str) else json.dumps(value)
            )
    return flat


def _level_names(levels: Sequence[Levels]) -> list[str]:
    """Name each condition after the levels of its factors; none if these don't tell all conditions apart."""
    names = [", ".join(f"{factor}={level}" for factor, level in of_one.level_of.items()) for of_one in levels]
    return names if len(names) > 1 and all(names) and len(set(names)) == len(names) else []


def _names(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Name each condition after the settings that are not the same in all of them."""
    names = list(dict.fromkeys(name for of_one in settings for name in of_one))
    differing = [name for name in names if len({of_one.get(name) for of_one in settings}) > 1]
    without_parts = [name for name in differing if not any(name.startswith(f"{other}.") for other in differing)]
    found = _labels(settings, without_parts)  # network=GRU; it stands for the settings of a GRU, too
    return found if len(set(found)) == len(found) else _labels(settings, differing)


def _labels(settings: Sequence[Mapping[str, str]], names: Sequence[str]) -> list[str]:
    short = _shortened(names)
    return [
        ", ".join(f"{short[name]}={of_one[name]}" for name in names if name in of_one)
        or ("the others" if names else "all runs")
        for of_one in settings
    ]


def _shortened(names: Sequence[str]) -> dict[str, str]:
    """Shorten dotted names to as many of their last parts as tell them apart."""
    short = {}
    for name in names:
        parts = name.split(".")
        tails = [".".join(parts[-k:]) for k in range(1, len(parts) + 1)]
        short[name] = next(tail for tail in tails if sum(f".{other}".endswith(f".{tail}") for other in names) == 1)
    return short


def _by_place(named: tuple[str, Sequence[Run]]) -> float:
    return named[1][0].levels.place


def _by_number(named: tuple[str, Sequence[Run]]) -> float:
    """Sort conditions like ``delay=16`` by their number, and leave others in their order."""
    try:
        return float(named[0].partition("=")[2])
    except ValueError:
        return 0.0
