"""Run `seqrl fit` once for each seed, 1 to N, in parallel processes: `seqrl fit --seeds 5 --config X`.

Each has a folder of its own, seed_1, seed_2 and so on, below --trainer.default_root_dir (runs/CONFIG if it isn't
given), with the process's output in fit.log; `seqrl analyse` reads them all as one condition. Ctrl-C saves and ends
all runs, and the same command with --ckpt_path last resumes those that weren't over. All further arguments are those
of `seqrl fit`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from types import FrameType

from jsonargparse import ArgumentParser, Namespace
from tqdm import tqdm

from seqrl_lightning.commands.fitting import DryFit, name_of, quiet
from seqrl_lightning.files import LOCK, FolderLock, is_in_use, require_own_files
from seqrl_lightning.reading import read_json
from seqrl_lightning.signals import ENDS_WITH_PARENT
from seqrl_lightning.types import ConfigurationError, RunError, require


def safe_path_option(path: Sequence[str]) -> tuple[str, ...]:
    """Return ``-P`` for ``python -m`` where modules aren't looked for in the current folder: `seqrl` doesn't either."""
    return () if {"", os.getcwd()} & set(path) else ("-P",)


SEQRL = (sys.executable, *safe_path_option(sys.path), "-m", "seqrl_lightning")
"""The command that starts a run's process, which finds the same modules as this one."""

_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_FOR_LOST = 60.0  # to save and end
_BAR = re.compile(r"(Episodes|Env steps|Updates) .*\d.*\[.*\]")  # EnvStepProgressBar's
_TAIL_BYTES = 4096
_WRITTEN_BY_RUNS = (
    *("fit.log", "over.json", "config.yaml", "hparams.yaml", "episodes.csv", "trials.csv"),
    *("events.out.tfevents.*", "*.replay", "*.unfinished", LOCK),
)
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the number of seeds, and how many run at a time."""
    parser.add_argument("--seeds", type=int, required=True, metavar="N", help="runs, with seed_everything 1 to N")
    parser.add_argument("--jobs", type=int, help="processes at a time; by default one for each CPU")
    parser.add_argument("--ckpt_path", help="`last` resumes each seed from its last checkpoint; a file is used by all")


def run(arguments: Namespace) -> None:
    """Run all seeds, and print how to look at them.

    Raises:
        RunError: If one of them failed.
    """
    jobs = _num_cpus() if arguments.jobs is None else arguments.jobs
    require(arguments.seeds > 0, "--seeds", arguments.seeds, "at least 1")
    require(jobs > 0, "--jobs", jobs, "at least 1")
    if any(argument.startswith("--seed_everything") for argument in arguments.fit_arguments):
        raise ConfigurationError("--seed_everything is given; with --seeds N, which means 1 to N, it must be left out")
    with quiet():
        settings = DryFit(arguments.fit_arguments).settings
    root = Path(settings.trainer.default_root_dir or Path("runs") / name_of(settings.config or ["fit"]))
    seeds = [SeedRun(seed, root, arguments.fit_arguments) for seed in range(1, arguments.seeds + 1)]
    require_room(seeds, root, arguments.ckpt_path)
    with FolderLock(root):
        received = run_all(prepare(seeds, arguments.ckpt_path), jobs)
    if received:
        saved = any(seed.has_saved for seed in seeds)
        what_next = "the same command with --ckpt_path last resumes them" if saved else "nothing was saved yet"
        sys.stderr.write(f"seqrl: interrupted; {what_next}\n")
        sys.exit(128 + received)
    if failed := [str(seed.seed) for seed in seeds if seed.status]:
        raise RunError(f"{len(failed)} of {len(seeds)} seeds failed ({', '.join(failed)}): see {root}/seed_*/fit.log")
    print(f"{root}: seeds 1 to {len(seeds)}\nseqrl analyse {root}")


class SeedRun:
    """A process that runs ``seqrl fit`` with one seed.

    Args:
        seed: Its ``seed_everything``.
        root: The folder that the runs' folders are in.
        fit_arguments: The arguments of ``seqrl fit`` that all seeds have in common.

    Attributes:
        ckpt_path: The checkpoint to resume from, as for ``seqrl fit``; None to start anew.
        status: The process's exit status; None before it has ended.
    """

    def __init__(self, seed: int, root: Path, fit_arguments: Sequence[str]) -> None:
        self.seed = seed
        self.folder = root / f"seed_{seed}"
        self.log = self.folder / "fit.log"
        self._over = self.folder / "over.json"
        self.arguments = [*fit_arguments, f"--seed_everything={seed}", f"--trainer.default_root_dir={self.folder}"]
        self.ckpt_path: str | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.status: int | None = None
        self._interrupted = False

    @property
    def has_saved(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return any(self.folder.glob("lightning_logs/*/checkpoints/last*.ckpt"))

    @property
    def is_running(self) -> bool:
        """Whether a process, started by another ``fit --seeds``, is still at work in the folder."""
        return any(map(is_in_use, self.folder.glob("lightning_logs/*")))

    @property
    def is_over(self) -> bool:
        """Whether it ended without an error, with exactly these arguments."""
        return self._over.exists() and read_json(self._over) == self.arguments

    def start(self) -> None:
        """Start the process, out of reach of a Ctrl-C at the terminal; it saves and ends if this process is lost."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._over.unlink(missing_ok=True)
        goes_on = [f"--ckpt_path={self.ckpt_path}"] if self.ckpt_path else []
        command = [*SEQRL, "fit", *self.arguments, *goes_on]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # never written to: it ends with this process, however that ends
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {ENDS_WITH_PARENT: "1"},
            )

    def send(self, signum: int) -> None:
        """Send the process a signal, if it is running."""
        if self.process and self.process.poll() is None:
            self._interrupted = True
            self.process.send_signal(signum)

    def look(self) -> str:
        """Describe in a line how far it is."""
        if self.process is None:
            return "waiting"
        self.status = self.process.poll()
        if self.status == 0:
            self._over.write_text(json.dumps(self.arguments))
        tail = self._tail()
        bars = [match[0] for match in map(_BAR.match, re.split(r"[\r\n]", tail)) if match]
        progress = bars[-1] if bars else "starting"
        if not self.status:
            return progress
        return f"interrupted: {progress}" if self._interrupted else f"failed: {self._reason(tail)}"

    def _tail(self) -> str:
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
            return log.read().decode(errors="replace")

    def _reason(self, tail: str) -> str:
        if self.status and self.status < 0:
            return f"killed by {signal.Signals(-self.status).name}"
        if errors := re.findall(r"seqrl: error: (.*)", tail):
            return str(errors[-1])
        lines = [line.strip() for line in re.split(r"[\r\n]", tail) if not _BAR.match(line)]
        return " | ".join([line for line in lines if line][-3:])


def require_room(seeds: Sequence[SeedRun], root: Path, ckpt_path: str | None) -> None:
    """Make sure that each seed's folder will hold one run.

    Raises:
        ConfigurationError: If there are runs already, or none that can be resumed.
    """
    if ckpt_path != "last" and any(seed.folder.exists() for seed in seeds):
        must_be = "delete it, or give another --trainer.default_root_dir; --ckpt_path last resumes them"
        raise ConfigurationError(f"{root} holds seeds already; {must_be}")
    if ckpt_path == "last" and not any(seed.has_saved for seed in seeds):
        raise ConfigurationError(f"ckpt_path is 'last', but no seed has saved anything in {root}; leave it out")
    require_own_files(root)


def prepare(seeds: Sequence[SeedRun], ckpt_path: str | None) -> list[SeedRun]:
    """Tell each seed from where it starts. Returns those that aren't over yet.

    Raises:
        ConfigurationError: If one is still running, or would have to be deleted and holds what a user may want.
    """
    if ckpt_path != "last":
        for seed in seeds:
            seed.ckpt_path = ckpt_path
        return list(seeds)
    wait_for_lost(seeds)
    left = [seed for seed in seeds if not seed.is_over]
    for seed in left:
        if seed.has_saved:
            seed.ckpt_path = ckpt_path
        elif seed.folder.exists():  # it ended before it saved anything, so it starts anew
            require_nothing_to_keep(seed.folder)
            rmtree(seed.folder)
    return left


def wait_for_lost(seeds: Sequence[SeedRun]) -> None:
    """Wait for the processes of a ``fit --seeds`` that was killed: they save and end.

    Raises:
        ConfigurationError: If one of them doesn't.
    """
    deadline = time.monotonic() + _SECONDS_FOR_LOST
    while running := [seed.folder for seed in seeds if seed.is_running]:
        if time.monotonic() > deadline:
            raise ConfigurationError(f"{running[0]} is in use by another process; it must be ended first")
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def require_nothing_to_keep(folder: Path) -> None:
    """Refuse to delete a folder that holds more than the beginnings of a run.

    Raises:
        ConfigurationError: If it holds a checkpoint, or a file that no run writes.
    """
    for path in folder.rglob("*"):
        if not path.is_dir() and not any(path.match(pattern) for pattern in _WRITTEN_BY_RUNS):
            raise ConfigurationError(
                f"{folder} has no last.ckpt to resume from, but holds {path.name}; move the folder away to start the "
                "seed anew, or put last.ckpt back"
            )


def run_all(seeds: Sequence[SeedRun], jobs: int) -> int:
    """Run all seeds, ``jobs`` at a time, and show how far they are. Returns the signal that ended them, or 0."""
    waiting, running = list(seeds), list[SeedRun]()
    with _lines(seeds) as lines, _forwarding_signals(seeds) as received:
        while running or (waiting and not received):
            while waiting and len(running) < jobs and not received:
                running.append(waiting.pop(0))
                running[-1].start()
                if received:  # a signal that came before the process was known
                    running[-1].send(received[-1])
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            for seed in running:
                lines[seed.seed].set_description_str(f"seed {seed.seed}: {seed.look()}")
            for seed in [seed for seed in running if seed.status is not None]:
                running.remove(seed)
                if not sys.stdout.isatty():
                    print(f"seed {seed.seed}: {seed.look()}", flush=True)
    return received[0] if received else 0


def _num_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _lines(seeds: Sequence[SeedRun]) -> "Iterator[dict[int, tqdm[None]]]":
    """Yield a line of the terminal for each seed, which can be rewritten."""
    bars = {
        seed.seed: tqdm(
            desc=f"seed {seed.seed}: waiting", bar_format="{desc}", position=line, file=sys.stdout, disable=None
        )
        for line, seed in enumerate(seeds)
    }
    try:
        yield bars
    finally:
        for bar in bars.values():
            bar.close()


@contextmanager
def _forwarding_signals(seeds: Sequence[SeedRun]) -> Iterator[list[int]]:
    """Forward signals to all processes: the first Ctrl-C lets them save, the second ends them at once.

    Yields:
        The signals received so far.
    """
    received: list[int] = []

    def forward(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        for seed in seeds:
            seed.send(signal.SIGTERM if signum == signal.SIGHUP else signum)

    before = {signum: signal.signal(signum, forward) for signum in _ENDING_SIGNALS}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
