"""Find the records of an archive that torch wrote, and refuse one of any other layout.

A ZIP file can be built so that two programs find different records in it: behind a comment, by a second directory, or
between others. Here the directory is the only one and lies directly before the file's end, and the records lie before
it, one after the other, from the first byte on.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from seqrl_lightning.types import RunError

# The structures of https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3 and 4.5.
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # "the number is in the 64-bit structure"
_EXTRA64 = 1  # the kind of an entry's extra field that holds 64-bit numbers
_HAS_DESCRIPTOR, _IS_UTF8 = 1 << 3, 1 << 11
_DESCRIPTOR_SIZES = (16, 24)
_MAX_DIRECTORY = 2**26  # bytes


class UnusableFileError(RunError):
    """A file can't be used. The message says why, as the end of "FILE can't be used: "."""


class Record(NamedTuple):
    """A stored record."""

    name: str
    crc: int  # its CRC-32
    start: int  # of its bytes in the file
    size: int  # in bytes


class _Directory(NamedTuple):
    num_entries: int
    size: int
    start: int


class _Entry(NamedTuple):
    name: bytes
    flags: int
    crc: int
    size: int
    start: int  # of its header


def read_records(file: BinaryIO, size: int) -> list[Record]:
    """Return an archive's records.

    Args:
        file: The archive.
        size: Its bytes.

    Raises:
        UnusableFileError: If it isn't laid out as torch does it, or its records are compressed.
    """
    _require(_at(file, 0, 4) == b"PK\x03\x04", "it is no archive of torch's")
    directory = _directory(file, size)
    entries = list(_entries(_at(file, directory.start, directory.size), directory.num_entries))
    records = [_record(file, entry) for entry in entries]
    _require(bool(entries) and entries[0].start == 0, "it doesn't begin with a record")
    nexts = [*(entry.start for entry in entries[1:]), directory.start]
    for entry, record, following in zip(entries, records, nexts, strict=True):
        gaps = _DESCRIPTOR_SIZES if entry.flags & _HAS_DESCRIPTOR else (0,)
        _require(following - record.start - record.size in gaps, "there is something between its records")
    return records


def _directory(file: BinaryIO, size: int) -> _Directory:
    end = size - _END.size
    magic, disk, first_disk, here, *found, comment = _END.unpack(_at(file, end, _END.size))
    is_whole = magic == b"PK\x05\x06" and disk == first_disk == comment == 0 and here == found[0]
    _require(is_whole, "it doesn't end as an archive does")
    top, directory = end, _Directory(*found)
    if _at(file, end - _LOCATOR64.size, 4) == b"PK\x06\x07":
        top = end - _LOCATOR64.size - _END64.size
        _, disk, at, num_disks = _LOCATOR64.unpack(_at(file, end - _LOCATOR64.size, _LOCATOR64.size))
        magic, _, _, _, disk64, first_disk, here, *found = _END64.unpack(_at(file, top, _END64.size))
        is_whole = magic == b"PK\x06\x06" and at == top and disk == disk64 == first_disk == 0 and here == found[0]
        _require(is_whole and num_disks == 1, "it doesn't end as an archive does")
        for short, long, full in zip(directory, found, (_FULL16, _FULL32, _FULL32), strict=True):
            _require(short in (long, full), "it has two ends")
        directory = _Directory(*found)
    _require(directory.start + directory.size == top, "its directory isn't at its end")
    _require(directory.size <= _MAX_DIRECTORY, "its directory is too large")
    return directory


def _entries(directory: bytes, num_entries: int) -> Iterator[_Entry]:
    at = 0
    for _ in range(num_entries):
        magic, _, _, flags, method, _, _, crc, packed, size, *lengths, disk, _, _, start = _ENTRY.unpack_from(
            directory, at
        )
        at += _ENTRY.size
        name_end, extra_end, end = at + lengths[0], at + sum(lengths[:2]), at + sum(lengths)
        _require(magic == b"PK\x01\x02" and disk == 0 and end <= len(directory), "its directory is none")
        if method or flags & ~(_HAS_DESCRIPTOR | _IS_UTF8):
            raise UnusableFileError("its records are compressed, which torch's never are")
        size, packed, start = _long(directory[name_end:extra_end], (size, packed, start))
        _require(size == packed, "a record has two sizes")
        yield _Entry(directory[at:name_end], flags, crc, size, start)
        at = end
    _require(at == len(directory), "its directory holds more than its records")


def _long(extra: bytes, numbers: tuple[int, ...]) -> Iterator[int]:
    """Yield an entry's numbers; those that don't fit into 32 bits are in its extra fields."""
    found, at = b"", 0
    while at < len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == _EXTRA64:
            _require(not found, "a record has two sizes")
            found = extra[at + 4 : at + 4 + length]
        at += 4 + length
    num_long = numbers.count(_FULL32)
    _require(at == len(extra) and len(found) == 8 * num_long, "a record has two sizes")
    longs = iter(struct.unpack(f"<{num_long}Q", found))
    for number in numbers:
        yield next(longs) if number == _FULL32 else number


def _record(file: BinaryIO, entry: _Entry) -> Record:
    magic, *_, name_length, extra_length = _LOCAL.unpack(_at(file, entry.start, _LOCAL.size))
    name = file.read(name_length)
    _require(magic == b"PK\x03\x04" and name == entry.name and b"\0" not in name, "a record has two names")
    start = entry.start + _LOCAL.size + name_length + extra_length
    return Record(name.decode(), entry.crc, start, entry.size)


def _at(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def _require(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise UnusableFileError(f"it is damaged ({otherwise})")
