"""Check a sweep's database before Optuna reads it: SQLite obeys what a file says, and the file may be a stranger's."""

import functools
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import optuna
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from seqrl_lightning.files import require_file
from seqrl_lightning.types import ConfigurationError

_COMPANIONS = ("-journal", "-wal", "-shm")  # files beside a database that SQLite reads, writes and deletes
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_MAX_CLOCK_DIFFERENCE = timedelta(days=1)  # between the machines of a sweep


def require_own_database(url: str, max_gib: float) -> None:
    """Refuse an SQLite database that isn't one as Optuna makes it.

    Views, triggers and computed columns run when a table is read; a journal may name another file to delete.

    Args:
        url: SQLAlchemy's URL of the database; other databases than SQLite's, and new ones, aren't checked.
        max_gib: Larger files are refused.

    Raises:
        ConfigurationError: If it is another one.
    """
    try:
        parts = make_url(url)
    except ArgumentError:  # which Optuna says
        return
    if parts.get_backend_name() != "sqlite" or not parts.database:
        return
    if parts.database.startswith("file:"):
        raise ConfigurationError(f"--storage is {url!r}; it must name the database by its path, without `file:`")
    path = Path(parts.database)
    for companion in (path.with_name(path.name + suffix) for suffix in _COMPANIONS):
        _require_plain_companion(companion, max_gib)
    if path.exists():
        require_file(path, max_gib)
        _require_own_tables(path)


def _require_plain_companion(path: Path, max_gib: float) -> None:
    """Refuse a link, and a journal of a transaction over several databases: SQLite deletes a file that it names."""
    if path.is_symlink():
        raise ConfigurationError(f"{path} is a symbolic link; it must be a file of its own")
    if not path.exists():
        return
    require_file(path, max_gib)
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(_JOURNAL_MAGIC)))
        if file.read() == _JOURNAL_MAGIC:  # only then SQLite looks for a name before it
            raise ConfigurationError(f"{path} names another file, which a sweep's never does; delete it")


def _require_own_tables(path: Path) -> None:
    try:
        with closing(sqlite3.connect(path, timeout=60)) as database:
            found = database.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
            for kind, name, sql in found:
                if (kind, name, _normalized(sql)) not in _optunas_tables():
                    raise ConfigurationError(
                        f"{path} holds the {kind} {name!r}, which this version of Optuna doesn't make; give another "
                        "--storage"
                    )
            if "trial_heartbeats" in {name for _, name, _ in found}:
                _require_past_heartbeats(database, path)
    except (sqlite3.Error, OverflowError) as error:
        raise ConfigurationError(f"{path} can't be opened: {error}") from error


def _require_past_heartbeats(database: sqlite3.Connection, path: Path) -> None:
    """Refuse a trial that seems to run for ever: the sweep would wait for its end."""
    latest = (datetime.now() + _MAX_CLOCK_DIFFERENCE).isoformat(" ")
    query = "SELECT count(*) FROM trial_heartbeats WHERE heartbeat > ?"
    if database.execute(query, (latest,)).fetchone()[0]:
        raise ConfigurationError(f"{path} holds a trial whose process reported in the future; give another --storage")


@functools.cache
def _optunas_tables() -> frozenset[tuple[str, str, str]]:
    """Return the kinds, names and definitions of what Optuna makes in a new database."""
    with optuna.storages.RDBStorage("sqlite://").engine.connect() as connection:
        made = connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master")
        return frozenset((kind, name, _normalized(sql)) for kind, name, sql in made)


def _normalized(sql: object) -> str:
    return " ".join(str(sql).split())
