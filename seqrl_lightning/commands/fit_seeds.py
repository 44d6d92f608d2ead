"""Run `seqrl fit` once for each seed, 1 to N, in parallel processes: `seqrl fit --seeds 5 --config X`.

Each has a folder of its own, seed_1, seed_2 and so on, below --trainer.default_root_dir (runs/CONFIG if it isn't
given), with the process's output in fit.log; `seqrl analyse` reads them all as one condition. Ctrl-C saves and ends
all runs, and the same command with --ckpt_path last resumes those that hadn't finished. All further arguments are those
of `seqrl fit`.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from seqrl_lightning.commands.fitting import DryFit, name_of
from seqrl_lightning.files import FolderLock, require_own_files
from seqrl_lightning.launch import FitRun, add_launcher, launcher_of
from seqrl_lightning.launch.fit_run import resume
from seqrl_lightning.lightning_messages import quiet
from seqrl_lightning.running.messages import allowing, program
from seqrl_lightning.types import ConfigurationError, RunError, require


def add_arguments(parser: ArgumentParser) -> None:
    """Add the number of seeds, and how many run at a time."""
    parser.add_argument("--seeds", type=int, required=True, metavar="N", help="runs, with seed_everything 1 to N")
    parser.add_argument("--jobs", type=int, help="runs at a time; by default one for each CPU or, on a cluster, all")
    add_launcher(parser)
    parser.add_argument("--ckpt_path", help="`last` resumes each seed from its last checkpoint; a file is used by all")


def run(arguments: Namespace) -> None:
    """Run all seeds, and print how to look at them.

    Raises:
        RunError: If one of them failed.
    """
    launcher = launcher_of(arguments)
    require(arguments.seeds > 0, "--seeds", arguments.seeds, "at least 1")
    if any(argument.startswith("--seed_everything") for argument in arguments.fit_arguments):
        raise ConfigurationError("--seed_everything is given; with --seeds N, which means 1 to N, it must be left out")
    with quiet():
        fit = DryFit(arguments.fit_arguments)
    settings, config = fit.settings, fit.as_plain()
    root = Path(settings.trainer.default_root_dir or Path("runs") / name_of(settings.config or ["fit"]))
    numbers = range(1, arguments.seeds + 1)
    seeds = [FitRun(f"seed {seed}", seed, root, arguments.fit_arguments, config) for seed in numbers]
    require_room(seeds, root, arguments.ckpt_path)
    with FolderLock(root):
        received = launcher.run(starting_from(arguments.ckpt_path, seeds))
    if received:
        saved = any(seed.has_saved for seed in seeds)
        what_next = "the same command with --ckpt_path last resumes them" if saved else "nothing was saved yet"
        sys.stderr.write(f"seqrl: interrupted; {what_next}\n")
        sys.exit(128 + received)
    if failed := [str(seed.seed) for seed in seeds if seed.status]:
        raise RunError(f"{len(failed)} of {len(seeds)} seeds failed ({', '.join(failed)}): see {root}/seed_*/fit.log")
    allow = allowing([config["data"].get("env_id") or ""])
    print(f"{root}: seeds 1 to {len(seeds)}\n{program()} analyse {shlex.quote(str(root))}{allow}")


def require_room(seeds: Sequence[FitRun], root: Path, ckpt_path: str | None) -> None:
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


def starting_from(ckpt_path: str | None, seeds: Sequence[FitRun]) -> list[FitRun]:
    """Tell each seed from where it starts. Returns those that aren't over yet."""
    if ckpt_path == "last":
        return resume(seeds)
    for seed in seeds:
        seed.start_from(ckpt_path)
    return list(seeds)
