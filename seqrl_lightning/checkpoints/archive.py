"""Read a file that torch wrote as if a stranger had written it.

``torch.load(..., weights_only=True)`` runs no code, but it still takes whatever memory the file claims to need. Here a
file takes little more memory than it has bytes: its records aren't compressed, a tensor claims no more
elements than its record holds, nothing in it expands to more objects than its pickled text spells out, and that text,
each byte of which may become an object, is short. The file's layout is that of torch's own files
(:mod:`seqrl_lightning.checkpoints.records`), so that torch reads the records that were checked.
"""

import functools
import math
import pickle
import pickletools
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from seqrl_lightning.checkpoints.records import Record, UnusableFileError, read_records
from seqrl_lightning.files import write_file
from seqrl_lightning.reading import values_in
from seqrl_lightning.types import ConfigurationError, RunError, one_line

MAX_GIB = 64.0
"""The largest file that is read, in GiB, unless the caller gives another limit."""

_STORAGES = {  # the bytes of an element by the name that torch writes; torch warns when the class itself is looked up
    **{f"{name}Storage": 1 for name in ("Bool", "Byte", "Char", "Untyped")},
    **{f"{name}Storage": 2 for name in ("Short", "Half", "BFloat16")},
    **{f"{name}Storage": 4 for name in ("Int", "Float")},
    **{f"{name}Storage": 8 for name in ("Long", "Double", "ComplexFloat")},
    "ComplexDoubleStorage": 16,
}
_PICKLED = re.compile(  # the classes and functions named in a checkpoint of tensors and plain values
    r"collections (OrderedDict|Counter)"
    r"|torch._utils _rebuild_(tensor_v2|tensor_v3|parameter)"
    rf"|torch ({'|'.join(_STORAGES)}|Size|(b?float|u?int|complex|bool)\w*)"
    r"|torch.storage UntypedStorage"
)

MAX_PLAIN = 2**22
"""The most bytes that a file may hold besides its tensors: read, they take up to 100 times as much memory.

Real checkpoints have less than 31 KiB of them.
"""

_MAX_PLAIN_PER_RECORD = 512  # more, for each tensor's name, shape and place in the file

_NAMING = ("GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4")
_MARKED = (pickletools.markobject, pickletools.stackslice)


def read_archive(path: Path, max_gib: float = MAX_GIB, mmap: bool = True) -> Any:  # which the caller checks
    """Read a file written by ``torch.save``: tensors, numbers, texts and collections of them.

    Args:
        path: The file.
        max_gib: Larger files are refused.
        mmap: Whether tensors are read from the disk when they are used; the file must stay as it is then.

    Returns:
        Its contents, on the CPU.

    Raises:
        UnusableFileError: If it is missing, damaged or too large, or holds anything else.
    """
    if not path.is_file():
        raise UnusableFileError("it is missing")
    size = path.stat().st_size
    if size > max_gib * 2**30:
        raise UnusableFileError(f"it has {size / 2**30:.3g} GiB, and the limit max_gib is {max_gib:g}")
    try:
        num_opcodes = _check_records(path, size)
        contents = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except UnusableFileError:
        raise
    except pickle.UnpicklingError as error:  # its text advises reading the file unsafely
        raise UnusableFileError(
            "it is damaged, or holds an object that is neither a tensor nor a plain value"
        ) from error
    except Exception as error:  # any error that a damaged file causes
        raise UnusableFileError(f"it is damaged ({one_line(error) or type(error).__name__})") from error
    _check_contents(contents, num_opcodes, size)
    return contents


def write_archive(path: Path, contents: object) -> None:
    """Write a file whole that :func:`read_archive` reads.

    Raises:
        RunError: If it can't be written, or would be refused.
    """
    write_file(path, lambda file: torch.save(contents, file))
    try:
        with path.open("rb") as file:
            _pickled_in(read_records(file, path.stat().st_size))
    except UnusableFileError as error:
        path.unlink()
        advice = "the state_dict() of a task or a callback may hold long lists: tensors take their place"
        raise RunError(f"{path} can't be written: {error} ({advice})") from error


def _check_records(path: Path, size: int) -> int:
    """Check every byte against its checksum, and the names in the pickled record. Return that record's length."""
    with path.open("rb") as file:
        records = read_records(file, size)
        # torch finds a record whatever the case of its name.
        if sum(record.size for record in records) > size or len({r.name.lower() for r in records}) < len(records):
            raise UnusableFileError("its records claim more than the file holds")
        for record in records:
            if _checksum(file, record) != record.crc:
                raise UnusableFileError(f"it is damaged ({record.name} has another checksum)")
        pickled = _pickled_in(records)
        file.seek(pickled.start)
        program = file.read(pickled.size)
    return _check_program(program, {record.name.partition("/")[2]: record.size for record in records})


def _pickled_in(records: Sequence[Record]) -> Record:
    """Return the pickled record, which holds everything but the tensors' elements, unless it is too long."""
    pickled = [record for record in records if record.name.lower().endswith("data.pkl")]
    if len(pickled) != 1:
        raise UnusableFileError("it is damaged (it holds no data.pkl)")
    most = MAX_PLAIN + _MAX_PLAIN_PER_RECORD * len(records)
    if pickled[0].size > most:
        raise UnusableFileError(
            f"it holds {pickled[0].size / 2**20:.3g} MiB of numbers, texts and collections; it must hold at most "
            f"{most / 2**20:.3g} MiB besides its tensors"
        )
    return pickled[0]


def _checksum(file: BinaryIO, record: Record) -> int:
    file.seek(record.start)
    found, left = 0, record.size
    while left and (chunk := file.read(min(left, 2**20))):
        found, left = zlib.crc32(chunk, found), left - len(chunk)
    return found


class _Entry(NamedTuple):
    """An entry of the pickle's stack."""

    size: int = 1  # the number of values in a tuple; 1 for other collections, since they can't be hashed
    value: Any = None  # of a number, a text, a name, and a tuple of them


_NOTHING = _Entry()


class _Effect(NamedTuple):
    """The effect of an opcode on the stack."""

    takes_marked: bool  # all entries from the last mark on
    num_taken: int  # besides those
    num_left: int


@functools.cache
def _effect(opcode: pickletools.OpcodeInfo) -> _Effect:
    num_taken = sum(kind not in _MARKED for kind in opcode.stack_before)
    return _Effect(pickletools.markobject in opcode.stack_before, num_taken, len(opcode.stack_after))


def _check_program(program: bytes, sizes: Mapping[str, int]) -> int:
    """Follow the pickle's stack, and refuse forbidden names, and values that take more memory than the file holds.

    Tuples must not repeat themselves: as a mapping's key, one would be hashed value by value, however often. Storages
    come from records of their size; none is made by a call.

    Args:
        program: The pickle.
        sizes: The records' bytes, by their names within the archive.

    Returns:
        The number of its opcodes.
    """
    stack: list[_Entry] = []
    marks: list[int] = []  # the number of entries on the stack
    memo: dict[int, _Entry] = {}
    num_opcodes = num_repeated = 0
    argument: Any  # of the kind that the opcode takes
    for opcode, argument, _ in pickletools.genops(program):
        num_opcodes += 1
        if opcode.name in _NAMING and not (opcode.name == "GLOBAL" and _PICKLED.fullmatch(str(argument))):
            name = str(argument).replace(" ", ".")
            raise UnusableFileError(f"it names {name}, which is neither a tensor nor a plain value")
        if opcode.name in ("GET", "BINGET", "LONG_BINGET", "DUP"):
            stack.append(stack[-1] if opcode.name == "DUP" else memo[int(argument or 0)])
            num_repeated += stack[-1].size
            if num_repeated > 4 * len(program):
                raise UnusableFileError("its collections claim more than the file holds")
        elif opcode.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[int(argument) if argument is not None else len(memo)] = stack[-1]
        elif opcode.name == "MARK":
            marks.append(len(stack))
        else:
            effect = _effect(opcode)
            start = (marks.pop() if effect.takes_marked else len(stack)) - effect.num_taken
            taken = stack[start:]
            if opcode.name == "BINPERSID":
                _require_held(taken[-1].value, sizes)
            elif opcode.name in ("REDUCE", "NEWOBJ") and "Storage" in str(taken[0].value):
                raise UnusableFileError("it makes a storage, where it must name a record")
            if "TUPLE" in opcode.name:
                made = _Entry(1 + sum(entry.size for entry in taken), tuple(entry.value for entry in taken))
            else:
                made = _NOTHING if argument is None else _Entry(value=argument)
            stack[start:] = [made] * effect.num_left
    return num_opcodes


def _require_held(storage: tuple[Any, ...], sizes: Mapping[str, int]) -> None:
    """Refuse a storage, as a pickle names it, of more bytes than its record has."""
    _, kind, key, _, num_elements = storage
    num_bytes = num_elements * _STORAGES[str(kind).rpartition(" ")[2]]
    if not 0 <= num_bytes <= sizes[f"data/{key}"]:
        raise UnusableFileError(f"data/{key} claims more than its record holds")


def _require_plain(value: object) -> None:
    if not isinstance(value, Mapping | list | tuple | str | bytes | int | float | complex | torch.dtype | None):
        raise UnusableFileError(f"it holds a {type(value).__name__}, neither a tensor nor a plain value")


def _check_contents(contents: object, num_opcodes: int, size: int) -> None:
    """Refuse tensors without their data, and collections that repeat themselves: they unfold when they are copied."""
    num_bytes = 0  # that all tensors claim together
    try:
        for value in values_in(contents, 4 * num_opcodes):
            if isinstance(value, Mapping):
                for key in values_in(list(value), 4 * num_opcodes):
                    _require_plain(key)
            if not isinstance(value, Tensor):
                _require_plain(value)
                continue
            claimed = value.numel() * value.element_size()
            # A shape without elements must not claim many empty rows, over which a caller may iterate.
            num_bytes += math.prod(max(length, 1) for length in value.shape) * value.element_size()
            # A few may share their data, like the networks of PQN.
            if claimed > value.untyped_storage().nbytes() or num_bytes > 4 * size + 2**20:
                raise UnusableFileError(f"a tensor of shape {tuple(value.shape)} claims more than the file holds")
    except ValueError as error:
        raise UnusableFileError(str(error)) from error


_PAGES_OF_DATA = 5  # the number's place in /proc/self/statm


@contextmanager
def limited_memory(gib: float) -> Iterator[None]:
    """Limit the additional memory of this process, in GiB, where the system allows it (Linux).

    Libraries that are imported meanwhile count only with the memory that they take for themselves. An allocation
    beyond the limit raises ``MemoryError``, or torch's ``RuntimeError``.

    Raises:
        ConfigurationError: If the ``MemoryError`` isn't caught.
    """
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[_PAGES_OF_DATA])
    except (ImportError, OSError):  # Windows, macOS
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = pages * resource.getpagesize() + int(gib * 2**30)
    limits = [limit for limit in (wanted, *before) if limit != resource.RLIM_INFINITY]
    with suppress(ValueError):  # a system without such limits
        resource.setrlimit(resource.RLIMIT_DATA, (min(limits), before[1]))
    try:
        yield
    except MemoryError as error:
        raise ConfigurationError(f"this takes more memory than the limit max_gib = {gib:g}") from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
