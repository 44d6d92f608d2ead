"""Find the checkpoint that ``--ckpt_path last`` stands for."""

import sys
from pathlib import Path

from seqrl_lightning.checkpoints.archive import MAX_GIB
from seqrl_lightning.checkpoints.format import fault_in
from seqrl_lightning.checkpoints.sidecars import fault_in_run, predecessor_of
from seqrl_lightning.errors import printable
from seqrl_lightning.files import require_own_files
from seqrl_lightning.types import ConfigurationError


def newest_checkpoint(root: Path, resumes: bool = True, max_gib: float = MAX_GIB) -> Path:
    """Return the newest run's ``last.ckpt`` below ``root``; the one before it, with a note, if it is damaged.

    Args:
        root: The runs' ``trainer.default_root_dir``.
        resumes: Whether the run is to be resumed, for which the sidecars are needed too.
        max_gib: Larger files are refused.

    Raises:
        ConfigurationError: If there is none that can be used, or a file of its run is a link out of the run's folder.
    """
    fault = fault_in_run if resumes else fault_in
    runs = {path.parent for path in root.glob("lightning_logs/*/checkpoints/last*.ckpt")}
    found = [last for run in runs for last in (run / "last.ckpt", predecessor_of(run / "last.ckpt")) if last.exists()]
    if not found:
        raise ConfigurationError(
            f"ckpt_path is 'last', but there is no lightning_logs/*/checkpoints/last.ckpt in {root.resolve()}; "
            "give the file, or the run's --trainer.default_root_dir"
        )
    last = max(found, key=lambda path: path.stat().st_mtime).parent / "last.ckpt"
    run = last.parent.parent
    for folder in (run.parent, run):
        if folder.is_symlink():
            raise ConfigurationError(f"{folder} is a symbolic link; it must be a folder of its own")
    require_own_files(run)
    if (reason := fault(last, max_gib)) is None:
        return last
    previous = predecessor_of(last)
    if (why := fault(previous, max_gib)) is not None:
        raise ConfigurationError(f"{last} can't be used: {reason}; nor can the one before it, {previous.name}: {why}")
    note = f"{last} can't be used: {reason}; resuming from the one before it, {previous.name}"
    sys.stderr.write(f"seqrl: {printable(note)}\n")
    if last.exists() and resumes:  # so that it never takes the place of the one before it
        last.replace(last.with_name("last.damaged"))
    return previous
