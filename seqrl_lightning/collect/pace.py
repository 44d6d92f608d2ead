"""The pace of acting: how many env steps are due after a number of updates."""

import math
from typing import Any

from seqrl_lightning.types import Cadence, Learner, require

_DEFAULT = Cadence(warmup_env_steps=1000, env_steps_per_update=1.0, updates_per_collect=1)


class Pace:
    """Keep env steps and updates in the ratio that the settings or the learner ask for.

    Args:
        warmup_env_steps: Env steps before the first update; None for the default, or the learner's own number.
        env_steps_per_update: Env steps for each update; None as above.
        updates_per_collect: Updates between two visits to the environments; None as above.

    Attributes:
        given: The given ones of the three settings.
        cadence: The cadence in use: the learner's, or that of the settings.
        learns_once: Whether the learner learns from each env step once, in rollouts, and has no replay memory.
        unlearned_env_steps: Env steps that no update asked for: taken to warm up, or lost with a broken episode.

    Raises:
        ConfigurationError: If one can't work.
    """

    def __init__(
        self, warmup_env_steps: int | None, env_steps_per_update: float | None, updates_per_collect: int | None
    ) -> None:
        for name, value in (("warmup_env_steps", warmup_env_steps), ("updates_per_collect", updates_per_collect)):
            require(value is None or value > 0, f"agent.{name}", value, "at least 1")
        is_ratio = env_steps_per_update is None or 0 < env_steps_per_update < math.inf
        require(is_ratio, "agent.env_steps_per_update", env_steps_per_update, "positive and finite")
        settings = zip(Cadence._fields, (warmup_env_steps, env_steps_per_update, updates_per_collect), strict=True)
        self.given: dict[str, Any] = {name: value for name, value in settings if value is not None}
        self.cadence = _DEFAULT._replace(**self.given)  # until the learner is known
        self.learns_once = False
        self.unlearned_env_steps = 0

    def suit(self, learner: Learner) -> None:
        """Use the learner's cadence, if it works with one only.

        Raises:
            ConfigurationError: If a setting contradicts it.
        """
        needed = learner.required_cadence()
        self.learns_once = needed is not None
        self.cadence = _DEFAULT._replace(**self.given) if needed is None else needed
        for name, value in self.given.items():
            wanted = self.cadence._asdict()[name]
            must_be = f"{wanted}, or left out: {type(learner).__name__} learns with no other"
            require(value == wanted, f"agent.{name}", value, must_be)

    def due_env_steps(self, updates: int) -> float:
        """Return the number of env steps that there should be after ``updates`` updates."""
        every = self.cadence.updates_per_collect
        visits = math.ceil(updates / every) if self.learns_once else updates // every
        return self.unlearned_env_steps + visits * every * self.cadence.env_steps_per_update

    def waive(self, updates: int, env_steps: int) -> None:
        """Give up env steps that are due and won't be taken, because the run's budget is used up.

        Args:
            updates: The updates so far.
            env_steps: The env steps that were taken.
        """
        self.unlearned_env_steps -= max(0, math.ceil(self.due_env_steps(updates)) - env_steps)
