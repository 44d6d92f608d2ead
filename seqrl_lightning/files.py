"""Files that are written whole or not at all."""

import csv
import errno
import hashlib
import io
import os
import socket
import sys
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from seqrl_lightning.types import ConfigurationError, RunError

if sys.platform != "win32":
    import fcntl

UNFINISHED = ".unfinished"
"""The suffix of a file that is being written, or was when the program was killed."""

_MAX_LINE = 2**20  # characters of a table's line

LOCK = "run.lock"
"""The name of the file by which a process claims a folder."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line which file the system refuses to write.

    Raises:
        RunError: If it does (no space left, no permission).
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        refusal = _refusal_behind(error)
        if refusal is None:
            raise
        raise RunError(f"{path} can't be written: {refusal.strerror or refusal}") from error


def _refusal_behind(error: BaseException | None) -> OSError | None:
    """Return the system's refusal that an error comes from: torch's own one hides it."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under another name and rename it once all of it is on the disk: a crash leaves the old one.

    Args:
        path: The file; its folder is made if it doesn't exist.
        write: Writes the contents.

    Raises:
        RunError: If the system refuses (no space left, no permission); what was there before is untouched.
    """
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
            sync_folder(path.parent)
        finally:
            unfinished.unlink(missing_ok=True)


def delete_unfinished(folder: Path) -> None:
    """Delete what a program that was killed while it wrote left in a folder."""
    for path in folder.glob(f"*{UNFINISHED}"):
        path.unlink(missing_ok=True)


def write_bytes(path: Path, contents: bytes) -> None:
    """Write a file whole, like :func:`write_file`; a symbolic link is replaced, not followed."""
    write_file(path, lambda file: file.write(contents))


def start_table(path: Path, fields: Iterable[object], num_rows: int = 0) -> int:
    """Cut a CSV file down to its head and its first rows, which are read one at a time.

    Returns:
        How many rows there are.

    Raises:
        ConfigurationError: If it isn't a table that a run wrote.
        RunError: If the system refuses to write it.
    """
    num_kept = 0

    def write(file: BinaryIO) -> None:
        nonlocal num_kept
        file.write(_as_csv([fields]))
        for row in _rows_of(path, num_rows):
            file.write(_as_csv([row]))
            num_kept += 1

    write_file(path, write)
    return num_kept


def _rows_of(path: Path, num_rows: int) -> Iterator[list[str]]:
    """Yield the first rows of a CSV file, without its head."""
    if num_rows == 0 or not path.exists():
        return
    with path.open(newline="") as file:
        lines = iter(lambda: file.readline(_MAX_LINE), "")
        try:
            for num_read, row in enumerate(csv.reader(_whole(lines))):
                if num_read > 0:
                    yield row
                if num_read == num_rows:
                    return
        except (csv.Error, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path} isn't a table as a run writes it: {error}") from error


def _whole(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if len(line) == _MAX_LINE:
            raise csv.Error(f"a line has more than {_MAX_LINE} characters")
        yield line


def add_rows(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Add rows to a CSV file.

    Raises:
        RunError: If the system refuses.
    """
    with writing(path), path.open("ab") as file:
        file.write(_as_csv(rows))


def _as_csv(rows: Iterable[Iterable[object]]) -> bytes:
    table = io.StringIO(newline="")
    csv.writer(table).writerows(rows)
    return table.getvalue().encode()


class FolderLock:
    """A process's claim to a folder, which the operating system ends with the process or this object.

    Args:
        folder: It is made if it doesn't exist.

    Raises:
        ConfigurationError: If another process has claimed it.
        RunError: If the system refuses to write into it.
    """

    def __init__(self, folder: Path) -> None:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        self._release = weakref.finalize(self, os.close, lock)
        if not _claims(lock):
            owner = os.read(lock, 1000).decode(errors="replace")
            raise ConfigurationError(f"{folder} is in use by {owner or 'another process'}; it must be ended first")
        with writing(folder):
            os.ftruncate(lock, 0)
            os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())

    def __enter__(self) -> Self:
        """Return the lock, which ends with the context."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the claim."""
        self._release()


def is_in_use(folder: Path) -> bool:
    """Return whether another process has claimed a folder by a :class:`FolderLock`."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR)
    except OSError:  # there is none
        return False
    try:
        return not _claims(lock)
    finally:
        os.close(lock)


def _claims(lock: int) -> bool:
    if sys.platform == "win32":
        return True
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock, which a forked process would inherit
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):  # a file system without locks
            raise
    return True


def require_own_files(folder: Path) -> None:
    """Refuse a folder with a symbolic link that leads out of it, or with a pipe, a socket or a device.

    A run's files are read and rewritten by their names, and whoever opens a pipe may wait for ever.

    Raises:
        ConfigurationError: If there is one.
    """
    inside = folder.resolve()
    for parent, folders, names in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *names)):
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                raise ConfigurationError(f"{path} is a symbolic link out of {folder}; it must be a file of its own")
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise ConfigurationError(f"{path} is a pipe, a socket or a device; it must be a file")


def require_file(path: Path, max_gib: float) -> None:
    """Refuse what can't be read as a whole file.

    Raises:
        ConfigurationError: If it is missing, no regular file, or larger than the limit.
    """
    if not path.is_file():
        raise ConfigurationError(f"{path} is {'not a regular file' if path.exists() else 'missing'}; it must be a file")
    gib = path.stat().st_size / 2**30
    if gib > max_gib:
        raise ConfigurationError(f"{path} has {gib:.3g} GiB; it must have at most max_gib = {max_gib:.3g}")


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries (new, renamed, deleted ones) to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(path: Path) -> str:
    """Return the file's SHA-256, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
