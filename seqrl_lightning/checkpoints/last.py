"""Find the checkpoint that ``--ckpt_path last`` stands for."""

import re
import sys
from pathlib import Path

from seqrl_lightning.checkpoints.archive import MAX_GIB
from seqrl_lightning.checkpoints.format import find_fault, read_checkpoint
from seqrl_lightning.checkpoints.sidecars import find_fault_in_run, predecessor_of
from seqrl_lightning.files import LOCK, require_own_files
from seqrl_lightning.types import ConfigurationError, printable, shortened


def newest_checkpoint(root: Path, resumes: bool = True, max_gib: float = MAX_GIB) -> Path:
    """Return the newest run's ``last.ckpt`` below ``root``; the one before it, with a note, if it is damaged.

    See :func:`newest_run` and :func:`usable_checkpoint`.
    """
    return usable_checkpoint(newest_run(root), resumes, max_gib)


def newest_run(root: Path) -> Path:
    """Return the folder of the newest run that has saved a ``last.ckpt``.

    Args:
        root: The runs' ``trainer.default_root_dir``, which is itself the folder of a run without a logger.

    Raises:
        ConfigurationError: If there is none, or a file of it is a link out of its folder.
    """
    patterns = ("lightning_logs/*/checkpoints/last*.ckpt", "checkpoints/last*.ckpt")
    runs = {path.parent.parent for pattern in patterns for path in root.glob(pattern)}
    found = [run for run in runs if any(last.exists() for last in _lasts(run))]
    if not found:
        raise ConfigurationError(
            f"ckpt_path is 'last', but there is no lightning_logs/*/checkpoints/last.ckpt in {root.resolve()}; "
            "give the file, or the run's --trainer.default_root_dir"
        )
    run = max(found, key=_age)
    for folder in (run.parent, run):
        if folder.is_symlink():
            last = next(path for path in _lasts(run) if path.exists()).resolve()
            raise ConfigurationError(
                f"{folder} is a symbolic link; it must be a real folder, in which the run continues: give the "
                f"--trainer.default_root_dir that it leads to, or start a new run from --ckpt_path {last}"
            )
    require_own_files(run)
    return run


def run_of(checkpoint: Path) -> Path | None:
    """Return the folder of the run that a checkpoint lies in; None if it lies elsewhere.

    A ``config.yaml`` beside a folder of checkpoints may come from any program; only a run leaves its lock there.
    """
    folder = checkpoint.absolute().parent
    run = folder.parent
    is_run = folder.name == "checkpoints" and all((run / name).is_file() for name in ("config.yaml", LOCK))
    return run if is_run else None


def best_checkpoint(last: Path, max_gib: float = MAX_GIB) -> Path:
    """Return the best checkpoint of a run, by the measure that its ``ModelCheckpoint`` watches.

    Args:
        last: A checkpoint of the run, which notes the best one so far.
        max_gib: Larger files are refused.

    Raises:
        ConfigurationError: If there is none.
    """
    callbacks = read_checkpoint(last, max_gib=max_gib).get("callbacks", {})
    states = [state for state in callbacks.values() if isinstance(state, dict) and state.get("best_model_path")]
    saved = [str(state["best_model_path"]) for state in states]
    found = [last.parent / Path(name).name for name in saved]
    found = [path for path in found if path.suffix == ".ckpt" and path.is_file()]
    if not found:
        # A file that lies elsewhere (ModelCheckpoint's dirpath) is opened only if the user names it.
        elsewhere = f"the run saved it as {shortened(printable(saved[0], kept=''))}: give that file" if saved else ""
        hint = elsewhere or f"'last' is {last}"
        raise ConfigurationError(f"ckpt_path is 'best', but {last.parent} has no best checkpoint; {hint}")
    return found[0]


def _lasts(run: Path) -> tuple[Path, Path]:
    last = run / "checkpoints" / "last.ckpt"
    return last, predecessor_of(last)


def _age(run: Path) -> tuple[int, float]:
    """Return a sort key that puts later runs last: the number that Lightning gives them, then the time."""
    version = re.fullmatch(r"version_(\d+)", run.name)
    return (int(version[1]) if version else -1, max(last.stat().st_mtime for last in _lasts(run) if last.exists()))


def usable_checkpoint(run: Path, resumes: bool = True, max_gib: float = MAX_GIB) -> Path:
    """Return a run's ``last.ckpt``; the one before it, with a note, if it is damaged.

    Args:
        run: The run's folder.
        resumes: Whether the run is to be resumed, for which the sidecars are needed too.
        max_gib: Larger files are refused.

    Raises:
        ConfigurationError: If neither can be used.
    """
    fault = find_fault_in_run if resumes else find_fault
    last, previous = _lasts(run)
    if (reason := fault(last, max_gib)) is None:
        return last
    if (why := fault(previous, max_gib)) is not None:
        raise ConfigurationError(f"{last} can't be used: {reason}; nor can the one before it, {previous.name}: {why}")
    note = f"{last} can't be used: {reason}; resuming from the one before it, {previous.name}"
    sys.stderr.write(f"seqrl: {printable(shortened(note))}\n")
    if last.exists() and resumes:  # so that it never replaces the one before it
        last.replace(last.with_name("last.damaged"))
    return previous
