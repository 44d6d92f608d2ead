"""A sweep's database, in which trials that no process trains any more are found."""

import time
from typing import Any

import optuna
import sqlalchemy

_LAST_REPORTS = sqlalchemy.text(
    "SELECT trials.trial_id, heartbeat FROM trials LEFT JOIN trial_heartbeats USING (trial_id) "
    "WHERE study_id = :study_id AND state = 'RUNNING'"
)


class SweepStorage(optuna.storages.RDBStorage):
    """Optuna's database, with another rule for which running trials are lost.

    A process reports on its trial every ``heartbeat_interval`` seconds. A trial is lost if no report of it has come for
    ``grace_period`` seconds by this process's own clock: other machines' clocks may differ, and a study from somebody
    else may hold any times, or trials that claim to run and were never reported on.

    Args:
        url: SQLAlchemy's URL of the database.
        engine_kwargs: Arguments of SQLAlchemy's engine.
        heartbeat_interval: Seconds between the reports on a trial.
        grace_period: Seconds of silence after which a trial is lost.
    """

    def __init__(self, url: str, engine_kwargs: dict[str, Any], heartbeat_interval: int, grace_period: int) -> None:
        super().__init__(url, engine_kwargs, heartbeat_interval=heartbeat_interval)
        self._max_silence = grace_period
        self._reports: dict[int, tuple[object, float]] = {}  # the last one of each trial, and when it was first seen

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        """Return the lost trials, which Optuna marks as failed before each new trial."""
        now, before = time.monotonic(), self._reports
        with self.engine.connect() as connection:
            reports = connection.execute(_LAST_REPORTS, {"study_id": study_id}).all()
        self._reports = {
            trial: before[trial] if trial in before and before[trial][0] == report else (report, now)
            for trial, report in reports
        }
        return [trial for trial, (_, since) in self._reports.items() if now - since > self._max_silence]
