"""Limits of learners' settings."""

from seqrl_lightning.types import require

MAX_COUNT = 1024
"""The most updates of one training step, epochs of one rollout, and fractions of one quantile function."""


def require_positive(**settings: float | None) -> None:
    """Refuse settings of the learner that are given but not positive.

    Raises:
        ConfigurationError: If one isn't.
    """
    for name, value in settings.items():
        require(value is None or value > 0, f"model.{name}", value, "positive, or null for none")


def require_count(**settings: int) -> None:
    """Refuse numbers of updates, fractions and the like that no run can pay for.

    A checkpoint's settings are those of its resumed run, and no weight's shape depends on some of them: without a
    limit, a file from somebody else could take all memory and time with a single number.

    Raises:
        ConfigurationError: If one isn't in [1, MAX_COUNT].
    """
    for name, count in settings.items():
        require(1 <= count <= MAX_COUNT, f"model.{name}", count, f"at least 1, and at most {MAX_COUNT}")
