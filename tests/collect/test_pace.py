"""Env steps that are due after so many updates."""

from types import SimpleNamespace
from typing import cast

import pytest

from seqrl_lightning.collect.pace import Pace
from seqrl_lightning.types import Cadence, ConfigurationError, Learner


def learner(cadence: Cadence | None) -> Learner:
    return cast(Learner, SimpleNamespace(required_cadence=lambda: cadence))


def test_steps_are_due_at_visits_only() -> None:
    pace = Pace(warmup_env_steps=8, env_steps_per_update=0.5, updates_per_collect=4)
    pace.suit(learner(None))
    pace.unlearned_env_steps = 8
    assert [pace.due_env_steps(updates) for updates in (0, 3, 4, 7, 8)] == [8, 8, 10, 10, 12]


def test_rollouts_are_due_before_their_updates() -> None:
    pace = Pace(None, None, None)
    pace.suit(learner(Cadence(warmup_env_steps=24, env_steps_per_update=4.0, updates_per_collect=6)))
    assert [pace.due_env_steps(updates) for updates in (0, 1, 6, 7)] == [0, 24, 24, 48]


def test_what_a_budget_cuts_off_is_not_asked_for_again() -> None:
    pace = Pace(None, None, None)
    pace.suit(learner(Cadence(24, 4.0, 6)))
    pace.waive(updates=1, env_steps=20)
    assert pace.due_env_steps(1) == 20
    pace.waive(updates=1, env_steps=22)  # more than asked for: nothing to give up
    assert pace.due_env_steps(1) == 20


def test_a_cadence_can_be_left_again() -> None:
    pace = Pace(None, None, updates_per_collect=6)
    pace.suit(learner(Cadence(24, 4.0, 6)))
    assert pace.learns_once
    pace.suit(learner(None))
    assert (pace.cadence, pace.learns_once) == (Cadence(1000, 1.0, 6), False)
    with pytest.raises(ConfigurationError, match=r"^agent\.updates_per_collect is 6; it must be 3, or left out"):
        pace.suit(learner(Cadence(24, 4.0, 3)))
