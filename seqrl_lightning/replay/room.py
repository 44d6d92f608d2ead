"""Whether a replay memory fits into the machine's memory."""

import os
from pathlib import Path

from seqrl_lightning.types import require

_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def require_room(capacity: int, slot_bytes: int) -> None:
    """Refuse a replay memory that can't fit: the system would allocate it, but kill the run when it fills up.

    Args:
        capacity: Slots.
        slot_bytes: Bytes of the observation in a slot.

    Raises:
        ConfigurationError: If the observations take more than the machine's memory.
    """
    most, needed = memory_bytes(), capacity * slot_bytes
    must_be = (
        f"at most {most // max(slot_bytes, 1):,}: its observations would take {needed / 2**30:,.1f} GiB, and the "
        f"machine has {most / 2**30:,.1f} GiB (data.mmap_dir keeps them in a file)"
    )
    require(needed <= most, "data.capacity", capacity, must_be)


def memory_bytes() -> int:
    """Return the memory of the machine, or of the container that this process is in, in bytes."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _CONTAINER_LIMIT.read_text().strip() if _CONTAINER_LIMIT.exists() else ""
    return min(physical, int(limit)) if limit.isdigit() else physical
