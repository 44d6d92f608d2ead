"""Check a sweep's database before Optuna reads it: SQLite obeys what a file says, and the file may be a stranger's."""

import functools
import re
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

import optuna
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from seqrl_lightning.files import require_file
from seqrl_lightning.types import ConfigurationError

_COMPANIONS = ("-journal", "-wal", "-shm")  # files beside a database that SQLite reads, writes and deletes
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_WORD = re.compile(r"[^\W\d]\w*")
# In what Optuna 0.9 to 3.1 made; `optuna storage upgrade` keeps some of them.
_OLDER_WORDS = (
    "CONSTRAINT IN NOT_SET MINIMIZE MAXIMIZE RUNNING COMPLETE PRUNED FAIL WAITING FINITE INF_POS INF_NEG NAN "
    "studydirection trialstate trialvaluetype trialintermediatevaluetype trials_study_id_key"
)


def require_own_database(url: str, max_gib: float) -> None:
    """Refuse an SQLite database that isn't one as Optuna makes it.

    Views, triggers and computed columns run when a table is read; a journal may name another file to delete.

    Args:
        url: SQLAlchemy's URL of the database; other databases than SQLite's, and new ones, aren't checked.
        max_gib: Larger files are refused.

    Raises:
        ConfigurationError: If it isn't.
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
                if not _words(sql) <= _optunas_words():
                    raise ConfigurationError(
                        f"{path} holds the {kind} {name!r}, which Optuna doesn't make; give another --storage"
                    )
            if "trial_heartbeats" in {name for _, name, _ in found}:
                _require_dated_heartbeats(database, path)
    except (sqlite3.Error, OverflowError) as error:
        raise ConfigurationError(f"{path} can't be opened: {error}") from error


def _require_dated_heartbeats(database: sqlite3.Connection, path: Path) -> None:
    """Refuse processes' reports without a time, which Optuna would fail at in the middle of a sweep."""
    for (heartbeat,) in database.execute("SELECT heartbeat FROM trial_heartbeats"):
        try:
            datetime.fromisoformat(heartbeat)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{path} holds a heartbeat at {heartbeat!r}; give another --storage") from error


@functools.cache
def _optunas_words() -> frozenset[str]:
    """Return the words by which Optuna defines its tables and indices.

    Definitions differ between versions and after upgrades, but in no other words. There are none among them by which
    SQLite would run anything: no view, trigger or computed column, no default and no function.
    """
    with optuna.storages.RDBStorage("sqlite://").engine.connect() as connection:
        definitions = connection.exec_driver_sql("SELECT sql FROM sqlite_master").scalars()
        return frozenset(_words(_OLDER_WORDS).union(*map(_words, definitions)))


def _words(definition: object) -> set[str]:
    """Return the words of a definition; an index that belongs to a table has none of its own."""
    return set() if definition is None else set(_WORD.findall(str(definition)))
