"""Read a file that torch wrote as if a stranger had written it.

``torch.load(..., weights_only=True)`` runs no code, but it still takes whatever memory the file claims to need. Here a
file takes no more memory than it has bytes: its records are stored as they are, a tensor claims no more elements than
its record holds, and nothing in it stands for more objects than its own text spells out.
"""

import pickletools
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqrl_lightning.trust import values_in
from seqrl_lightning.types import ConfigurationError, RunError

MAX_GIB = 64.0
"""The largest file that is read, in GiB, unless the caller gives another limit."""

_PICKLED = re.compile(  # the classes and functions that a checkpoint of tensors and plain values is written with
    r"collections (OrderedDict|Counter)"
    r"|torch._utils _rebuild_(tensor_v2|tensor_v3|parameter)"
    r"|torch (\w+Storage|Size|(b?float|u?int|complex|bool)\w*)"
    r"|torch.storage UntypedStorage"
)


_MARKED = (pickletools.markobject, pickletools.stackslice)


class UnusableFileError(RunError):
    """A file can't be used. The message says why, as the end of "FILE can't be used: "."""


def read_archive(path: Path, max_gib: float = MAX_GIB, mmap: bool = True) -> Any:
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
    except Exception as error:  # whatever a damaged file leads to
        raise UnusableFileError(f"it is damaged ({' '.join(str(error).split()) or type(error).__name__})") from error
    _check_contents(contents, num_opcodes, size)
    return contents


def _check_records(path: Path, size: int) -> int:
    """Check every byte against its checksum, and what the pickled record names. Returns how long that record is."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            raise UnusableFileError("it is damaged (it is no archive of torch's)")
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise UnusableFileError("its records are compressed, which torch's never are")
        if sum(record.file_size for record in records) > size or len({r.filename.lower() for r in records}) < len(
            records
        ):
            raise UnusableFileError("its records claim more than the file holds")
        if (damaged := archive.testzip()) is not None:
            raise UnusableFileError(f"it is damaged ({damaged} has another checksum)")
        # torch finds a record whatever the case of its name.
        pickled = [record for record in records if record.filename.lower().endswith("data.pkl")]
        if len(pickled) != 1:
            raise UnusableFileError("it is damaged (it holds no data.pkl)")
        program = archive.read(pickled[0])
    opcodes = [(opcode, argument) for opcode, argument, _ in pickletools.genops(program)]
    for opcode, argument in opcodes:
        is_name = opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4")
        if is_name and not (opcode.name == "GLOBAL" and _PICKLED.fullmatch(str(argument))):
            name = str(argument).replace(" ", ".")
            raise UnusableFileError(f"it names {name}, which is neither a tensor nor a plain value")
    _check_tuples(opcodes)
    return len(opcodes)


def _check_tuples(opcodes: Sequence[tuple[pickletools.OpcodeInfo, Any]]) -> None:
    """Refuse tuples that repeat themselves: as a mapping's key, one would be hashed value by value, however often.

    The pickle's stack is followed, with the number of values that each entry's tuples stand for in its place. Other
    collections count as 1, since they can't be hashed.
    """
    stack: list[int] = []
    marks: list[int] = []  # how many entries lay on the stack
    memo: dict[int, int] = {}
    num_repeated = 0
    for opcode, argument in opcodes:
        if opcode.name in ("GET", "BINGET", "LONG_BINGET", "DUP"):
            stack.append(stack[-1] if opcode.name == "DUP" else memo[argument])
            num_repeated += stack[-1]
            if num_repeated > 4 * len(opcodes):
                raise UnusableFileError("its collections claim more than the file holds")
        elif opcode.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif opcode.name == "MARK":
            marks.append(len(stack))
        else:
            takes_marked = pickletools.markobject in opcode.stack_before
            num_before = sum(kind not in _MARKED for kind in opcode.stack_before)
            start = (marks.pop() if takes_marked else len(stack)) - num_before
            size = 1 + sum(stack[start:]) if "TUPLE" in opcode.name else 1
            stack[start:] = [size] * len(opcode.stack_after)


def _check_contents(contents: Any, num_opcodes: int, size: int) -> None:
    """Refuse tensors without their data, and collections that repeat themselves: they unfold when they are copied."""
    num_bytes = 0  # that all tensors claim together
    try:
        for value in values_in(contents, 4 * num_opcodes):
            if not isinstance(value, Tensor):
                continue
            claimed = value.numel() * value.element_size()
            num_bytes += claimed
            # A few may share their data, like the networks of PQN.
            if claimed > value.untyped_storage().nbytes() or num_bytes > 4 * size + 2**20:
                raise UnusableFileError(f"a tensor of shape {tuple(value.shape)} claims more than the file holds")
    except ValueError as error:
        raise UnusableFileError(str(error)) from error


@contextmanager
def limited_memory(gib: float) -> Iterator[None]:
    """Let this process take so much more memory and no more, in GiB, where the system can be told so (Linux).

    An allocation beyond it raises ``MemoryError``, or torch's ``RuntimeError``.

    Raises:
        ConfigurationError: If the ``MemoryError`` isn't caught.
    """
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):  # Windows, macOS
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    wanted = used + int(gib * 2**30)
    limits = [limit for limit in (wanted, *before) if limit != resource.RLIM_INFINITY]
    with suppress(ValueError):  # a system without such limits
        resource.setrlimit(resource.RLIMIT_AS, (min(limits), before[1]))
    try:
        yield
    except MemoryError as error:
        raise ConfigurationError(f"this takes more memory than the limit max_gib = {gib:g}") from error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
