"""The contract of a model of behavior: named parameters, what it remembers, and how it chooses and learns."""

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.special import expit, logit

from seqrl_lightning.behavior.histories import Trial
from seqrl_lightning.errors import require_known
from seqrl_lightning.types import Array, BoolArray, ConfigurationError, FloatArray, require

Parameters = Mapping[str, FloatArray]
"""The parameters of B subjects, by name: [B] float64 each. An optional one is there only if the model was given it."""

Memory = dict[str, Array]
"""The arrays that a model carries from trial to trial, [B, ...] each."""

Latents = dict[str, FloatArray]
"""Quantities of a trial that are reported, such as a prediction error: [B] float64 each."""


@dataclass(frozen=True)
class Parameter:
    """A parameter's bounds and prior.

    A fit moves on a scale without bounds: the logit of the place between two bounds, the logarithm of the distance
    from a single, lower one, or the value itself.

    Args:
        lower: The lower bound.
        upper: The upper bound; infinite without one.
        mean: The prior's mean, on the scale without bounds.
        sd: The prior's standard deviation, on the scale without bounds.
        per_reward: Whether it multiplies rewards. The prior is then for rewards of up to 1, and is divided by the
            largest one of a table.
    """

    lower: float = -np.inf
    upper: float = np.inf
    mean: float = 0.0
    sd: float = 1.5
    per_reward: bool = False

    def __post_init__(self) -> None:
        require(self.lower < self.upper, "a parameter's bounds", (self.lower, self.upper), "in their order")
        require(
            np.isfinite(self.lower) or np.isinf(self.upper), "a parameter's lower", self.lower, "finite, as upper is"
        )
        require(self.sd > 0, "a parameter's sd", self.sd, "above 0")
        has_scale = self.lower == 0 and np.isinf(self.upper)
        require(has_scale or not self.per_reward, "a parameter's per_reward", True, "False, unless its one bound is 0")

    def bounded(self, x: FloatArray) -> FloatArray:
        """Return the values for numbers on the scale without bounds.

        >>> Parameter(0, 10).bounded(np.array([0.0]))
        array([5.])
        """
        if np.isinf(self.lower):
            return x
        if np.isinf(self.upper):
            return np.asarray(self.lower + np.exp(x))
        return np.asarray(self.lower + (self.upper - self.lower) * expit(x))

    def unbounded(self, value: FloatArray) -> FloatArray:
        """Return the numbers on the scale without bounds for values, the inverse of :meth:`bounded`."""
        if np.isinf(self.lower):
            return value
        if np.isinf(self.upper):
            return np.asarray(np.log(value - self.lower))
        return np.asarray(logit((value - self.lower) / (self.upper - self.lower)))

    def slope(self, x: FloatArray) -> FloatArray:
        """Return the derivative of :meth:`bounded`."""
        if np.isinf(self.lower):
            return np.ones_like(x)
        if np.isinf(self.upper):
            return np.exp(x)
        return np.asarray((self.upper - self.lower) * expit(x) * expit(-x))


RATE = Parameter(0.0, 1.0)
"""A learning rate, or another number from 0 to 1: nearly uniform."""
SMALL_RATE = Parameter(0.0, 1.0, mean=-2.0)
"""A rate that is small in most subjects, such as forgetting: 0.12 in the median."""
INVERSE_TEMPERATURE = Parameter(0.0, mean=1.0, sd=1.0, per_reward=True)
"""2.7 in the median, for rewards of up to 1."""
TENDENCY = Parameter(sd=1.0)
"""A number that may be negative, such as perseveration."""


class Size(NamedTuple):
    """The sizes of what a model remembers."""

    subjects: int  # B
    states: int  # S
    actions: int  # A
    positions: int  # the most choices of an episode

    @property
    def values(self) -> tuple[int, int, int]:
        """The shape of a value for each state and action: (B, S, A)."""
        return self[:3]


class Model:
    """A model of how choices are made and learned from.

    A subclass names its parameters and defines what it remembers, how it chooses and how it learns, for B subjects at
    once. Every model can have two more parameters. With ``perseveration``, the odds of the action that was chosen
    in the same state last time are multiplied by exp(perseveration). With ``lapse``, that fraction of the choices is
    random.

    Args:
        optional: Names of optional parameters to fit too.

    Raises:
        ConfigurationError: If the model doesn't have one of them.
    """

    parameters: ClassVar[Mapping[str, Parameter]] = {}
    """The parameters that are always fitted."""
    options: ClassVar[Mapping[str, Parameter]] = {}
    """Further parameters, each of which stands for a mechanism that the model has only if the parameter is named."""

    def __init__(self, *optional: str) -> None:
        known = {**type(self).options, "perseveration": TENDENCY, "lapse": SMALL_RATE}
        for name in optional:
            require_known(f"a parameter of {type(self).__name__}", name, known)
        self.free = {**type(self).parameters, **{name: known[name] for name in optional}}
        self.name = "+".join((type(self).__name__, *optional))

    def begin(self, size: Size) -> Memory:
        """Return what is remembered before the first trial."""
        return {}

    def probabilities(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        """Return the probability of each action, [B, A] float64.

        Actions that are not allowed are left out later, and the others' probabilities divided by their sum.
        """
        raise NotImplementedError("a model has to define it")

    def update(self, memory: Memory, p: Parameters, trial: Trial) -> Latents:
        """Learn from the choice and the reward, in place.

        Returns:
            What is worth a column in the table of latents; an empty dictionary for nothing.
        """
        return {}


def softmax(logits: FloatArray, allowed: BoolArray | bool = True) -> FloatArray:
    """Return probabilities in proportion to exp(logits), among the actions that are allowed.

    Args:
        logits: [B, A] float64.
        allowed: [B, A] bool.

    Returns:
        [B, A] float64.

    >>> softmax(np.log([[1.0, 2.0, 5.0]]), np.array([[True, True, False]])).round(3)
    array([[0.333, 0.667, 0.   ]])
    """
    logits = np.where(allowed, logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def find_model(name: str) -> Model:
    """Make a model by its name: ``QLearning``, ``QLearning+forgetting+lapse``, ``my_models.Mine`` or ``mine.py:Mine``.

    A module or a file that is named is imported: name only what you trust.

    Args:
        name: A model of this package, or where to import one from, and optional parameters after a + each.

    Raises:
        ConfigurationError: If there is no such model, or no such parameter.
    """
    where, *optional = name.split("+")
    return _imported(where)(*optional)


def _imported(where: str) -> type[Model]:
    """Return the class of a name."""
    path, is_file, name = where.rpartition(":")
    if is_file:
        module = _module_of(Path(path))
    else:
        path, _, name = where.rpartition(".")
        path = path or "seqrl_lightning.behavior.models"
        try:
            module = import_module(path)
        except ModuleNotFoundError as error:
            raise ConfigurationError(f"--models names {where!r}, which can't be imported: {error}") from error
    found = {key: value for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, Model)}
    require_known("--models", name, [key for key, value in found.items() if value is not Model])
    return found[name]


def _module_of(path: Path) -> ModuleType:
    """Import a file, as a module of its name."""
    require(path.suffix == ".py" and path.is_file(), "--models", str(path), "a Python file, like my_model.py:Mine")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # where dataclasses look for the names in their annotations
    spec.loader.exec_module(module)
    return module
