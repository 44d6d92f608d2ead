"""The space of a sweep: the settings that are varied, with their ranges and choices."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import CategoricalChoiceType, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from seqrl_lightning.running.parser import as_argument
from seqrl_lightning.types import ConfigurationError, one_line, require, shortened

Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
Space = dict[str, Distribution]
"""The distribution that each setting's values are drawn from, by the setting's name."""

_VALID_ENTRY = "{low: ..., high: ...}, optionally with `log: true` or `step: ...`, or {choices: [...]}"
_VALID_NAME = "a setting's name in the config, like model.init_args.learning_rate"


def read_space(path: Path) -> Space:
    """Read a space file: settings by their dotted names, each with a range or with choices.

    A range holds whole numbers if all of its numbers are whole: write ``low: 0.0`` for a setting that takes fractions.
    Choices that are lists or mappings are kept as JSON.

    Args:
        path: The YAML file.

    Raises:
        ConfigurationError: If there is no such file, or an entry is neither a range nor a list of choices.
    """
    if not path.is_file():
        raise ConfigurationError(f"--space is {str(path)!r}; it must be a YAML file that exists")
    try:
        entries = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--space {path} isn't YAML: {one_line(error)}") from error
    expected = "settings by their names, each with its range or its choices"
    require(isinstance(entries, dict) and len(entries) > 0, f"--space {path}", entries, expected)
    for name in entries:
        require(isinstance(name, str) and "." in name, f"a name in --space {path}", name, _VALID_NAME)
    return {name: _distribution(f"{name} in {path}", entry) for name, entry in entries.items()}


def boundary_values(space: Space) -> Iterator[dict[str, Any]]:
    """Yield values to check a config with: all lows, all highs, and each choice at least once."""
    columns = [
        distribution.choices
        if isinstance(distribution, CategoricalDistribution)
        else (distribution.low, distribution.high)
        for distribution in space.values()
    ]
    for row in zip_longest(*columns):
        entries = zip(space, row, columns, strict=True)
        yield {name: column[-1] if value is None else value for name, value, column in entries}


def as_arguments(values: Mapping[str, Any]) -> list[str]:
    """Return settings as arguments of ``seqrl fit``."""
    return [as_argument(name, _rounded(value)) for name, value in values.items()]


def as_text(value: object) -> str:
    """Return a value as text, to be shown."""
    return value if isinstance(value, str) else json.dumps(_rounded(value))


def _rounded(value: object) -> object:
    """Return a value for a config; fractions have twelve digits, since ten times 0.1 isn't exactly 1."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def suggest(trial: Trial, name: str, distribution: Distribution) -> CategoricalChoiceType:
    """Draw a value for a setting.

    Raises:
        ConfigurationError: If the study gives the trial a value that can't be one of the setting's.
    """
    try:
        if isinstance(distribution, CategoricalDistribution):
            return trial.suggest_categorical(name, distribution.choices)
        low, high, log = distribution.low, distribution.high, distribution.log
        if isinstance(distribution, IntDistribution):
            return trial.suggest_int(name, int(low), int(high), log=log, step=distribution.step)
        return trial.suggest_float(name, low, high, log=log, step=distribution.step)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{name} can't be drawn in trial {trial.number}: {error}") from error


def holds(distribution: Distribution, value: object) -> bool:
    """Return whether a value can have been drawn from a distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return isinstance(value, int | float) and distribution.low <= value <= distribution.high


def _distribution(name: str, entry: object) -> Distribution:
    if isinstance(entry, dict) and set(entry) == {"choices"}:
        return _choices(name, entry["choices"])
    if isinstance(entry, dict) and {"low", "high"} <= set(entry) <= {"low", "high", "log", "step"}:
        return _range(name, **entry)
    raise ConfigurationError(f"{name} is {shortened(repr(entry), 300)}; it must be {_VALID_ENTRY}")


def _choices(name: str, choices: Any) -> CategoricalDistribution:
    require(isinstance(choices, list) and len(choices) > 0, f"choices of {name}", choices, "a list of values")
    plain = [choice if isinstance(choice, bool | int | float | str) else json.dumps(choice) for choice in choices]
    require(len(set(map(repr, plain))) == len(plain), f"choices of {name}", choices, "without duplicates")
    return CategoricalDistribution(plain)


def _range(name: str, low: Any, high: Any, log: Any = False, step: Any = None) -> Distribution:
    require(isinstance(log, bool), f"log of {name}", log, "true or false")
    low, high = _number(f"low of {name}", low), _number(f"high of {name}", high)
    require(low < high, f"low of {name}", low, f"less than high = {high}")
    require(low > 0 or not log, f"low of {name}", low, "positive with `log: true`")
    if step is not None:
        require(not log, f"step of {name}", step, "left out with `log: true`")
        step = _number(f"step of {name}", step)
        require(0 < step <= high - low, f"step of {name}", step, f"positive, and at most high - low = {high - low}")
    if all(isinstance(number, int) for number in (low, high, 1 if step is None else step)):
        step = step or 1
        return IntDistribution(low, high - (high - low) % step, log=log, step=step)
    if step is not None:
        high = low + math.floor((high - low) / step + 1e-8) * step
    return FloatDistribution(low, high, log=log, step=step)


def _number(name: str, value: Any) -> int | float:
    if isinstance(value, str):  # YAML reads 1e-4 as text, since it has no decimal point
        with suppress(ValueError):  # refused below
            value = float(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    require(is_number, name, value, "a finite number")
    number: int | float = value
    return number
