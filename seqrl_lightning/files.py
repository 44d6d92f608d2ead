"""Files that are written whole or not at all."""

import csv
import hashlib
import io
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from seqrl_lightning.types import ConfigurationError, RunError

UNFINISHED = ".unfinished"
"""The suffix of a file that is being written, or was when the program was killed."""


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under another name and rename it once all of it is on the disk: a crash leaves the old one.

    Args:
        path: The file; its folder is made if it doesn't exist.
        write: Writes the contents.

    Raises:
        RunError: If the system refuses (no space left, no permission).
    """
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    try:
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
    except OSError as error:
        raise RunError(
            f"{path} can't be written: {error.strerror or error}; what was there before is untouched"
        ) from error


def write_bytes(path: Path, contents: bytes) -> None:
    """Write a file whole, like :func:`write_file`; a symbolic link is replaced, not followed."""
    write_file(path, lambda file: file.write(contents))


def start_table(path: Path, fields: tuple[str, ...], num_rows: int) -> int:
    """Cut a CSV file down to its head and its first rows. Returns how many of these there are."""
    rows: list[list[str]] = []
    if path.exists():
        with path.open(newline="") as file:
            rows = list(csv.reader(file))[1 : num_rows + 1]
    table = io.StringIO(newline="")
    csv.writer(table).writerows([fields, *rows])
    write_bytes(path, table.getvalue().encode())
    return len(rows)


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
