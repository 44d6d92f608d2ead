"""The study of a sweep: opened or made, and refused if it isn't one of this sweep's."""

import time
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from seqrl_lightning.commands.sweep_storage import SweepStorage
from seqrl_lightning.types import ConfigurationError, one_line

HEARTBEAT_SECONDS, GRACE_SECONDS = 5, 30
"""Seconds between a process's reports on its trial, and of silence after which the trial is lost."""


def open_study(name: str, url: str, folder: Path, no_pruning: bool) -> optuna.Study:
    """Return the study, made if it doesn't exist.

    Raises:
        ConfigurationError: If its database can't be opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pruners = optuna.pruners
    for attempts_left in (2, 1, 0):
        try:
            return optuna.create_study(
                study_name=name,
                storage=open_storage(url),
                direction="maximize",
                load_if_exists=True,
                # Not seeded: processes that share a study must not draw the same values.
                sampler=optuna.samplers.TPESampler(multivariate=True, constant_liar=True),
                # Agents still explore at the first two evaluations, so these decide nothing.
                pruner=pruners.NopPruner() if no_pruning else pruners.MedianPruner(n_warmup_steps=2),
            )
        except (SQLAlchemyError, StorageInternalError, RuntimeError, ImportError, ValueError, LookupError) as error:
            if not attempts_left:
                reason = str(error).splitlines()[0]
                raise ConfigurationError(f"--storage is {_public(url)!r}, which can't be opened: {reason}") from error
            time.sleep(1)  # another process may be making it at this moment
    raise AssertionError


def _public(url: str) -> str:
    """Return a database's URL without its password, which may also be an option of the connection."""
    try:
        parts = make_url(url)
    except ArgumentError:
        return url
    hidden = parts.update_query_dict({"password": "***"}) if "password" in parts.query else parts
    return hidden.render_as_string(hide_password=True)


def open_storage(url: str) -> SweepStorage:
    """Return the database at a SQLAlchemy URL."""
    patience = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}  # while others write
    return SweepStorage(url, patience, HEARTBEAT_SECONDS, GRACE_SECONDS)


def require_readable(study: optuna.Study) -> None:
    """Read all of a study once: its database may be anybody's, and Optuna fails in the middle of a sweep otherwise.

    Raises:
        ConfigurationError: If it isn't what a sweep writes.
    """
    must_be = f"the study {study.study_name!r} isn't one of a sweep; give another --study: "
    try:
        trials = study.get_trials(deepcopy=False)
        is_maximized, about = study.direction is StudyDirection.MAXIMIZE, study.user_attrs.get("about", {})
        if any(trial.state is TrialState.COMPLETE for trial in trials):
            _ = study.best_trial
    except Exception as error:  # whatever SQLAlchemy and Optuna make of what is in there
        reason = one_line(error) or type(error).__name__
        raise ConfigurationError(f"{must_be}{reason}") from error
    are_numbered = all(isinstance(trial.number, int) for trial in trials)
    have_values = all(isinstance(value, float) for trial in trials for value in trial.values or ())
    if not (is_maximized and isinstance(about, dict) and are_numbered and have_values):
        must = "it must maximize, have numbered trials whose values are numbers, and say what it is about"
        raise ConfigurationError(f"{must_be}{must}")


def require_same_subject(study: optuna.Study, facts: dict[str, Any]) -> None:
    """Record what the study is about.

    Raises:
        ConfigurationError: If it was begun about something else.
    """
    begun_with = study.user_attrs.get("about")
    if begun_with is None:
        study.set_user_attr("about", facts)
        return
    for name in facts | begun_with:
        one, other = facts.get(name), begun_with.get(name)
        if one != other:
            begun = f"the study {study.study_name!r} was started with {other!r}; give another --study"
            raise ConfigurationError(f"{name} is {one!r}, but {begun}")
