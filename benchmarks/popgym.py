"""Train on POPGym's tasks: ``python -m benchmarks.popgym CountRecallEasy HigherLowerHard --seeds 3``.

Every cell of the table (a task at one of three levels) is trained with ``configs/popgym/base.yaml`` and the changes in
``changes.yaml``, and its final greedy policy is evaluated over 200 episodes. Each has a file in
``benchmarks/results/popgym/``; seeds that are in there are skipped, so that the same command continues after a kill.
``python -m docs.scripts.popgym`` writes ``docs/popgym.md``.
"""

import argparse
import json
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from benchmarks.learning import RESULTS, run_seed

CONFIGS = Path(__file__).parents[1] / "configs" / "popgym"
FOLDER = RESULTS / "popgym"
LEVELS = ("Easy", "Medium", "Hard")
TASKS = (
    *("RepeatFirst", "RepeatPrevious", "CountRecall", "Autoencode"),
    *("HigherLower", "Concentration", "MultiarmedBandit", "PositionOnlyCartPole"),
)
CELLS = [task + level for task in TASKS for level in LEVELS]
EPISODES = {"HigherLower": 5000}  # to evaluate; 200 for the others
_ENV_STEPS_PER_UPDATE = "agent.env_steps_per_update"


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", default=CELLS, metavar="CELL", help="like CountRecallEasy; by default all")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/popgym"))
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for seed in range(1, arguments.seeds + 1):
        for cell in arguments.cells:
            train(cell, seed, arguments.runs)


def train(cell: str, seed: int, runs: Path) -> None:
    """Train one seed of a cell, unless it is done, and add it to the cell's file."""
    path = FOLDER / f"{cell}.json"
    settings = settings_of(cell)
    report = json.loads(path.read_text()) if path.exists() else {"cell": cell, "settings": settings, "seeds": []}
    if report["settings"] != settings:
        raise SystemExit(f"{path} holds results with other settings; delete it to train the cell again")
    if any(result["seed"] == seed for result in report["seeds"]):
        return
    task = task_of(cell)
    run = argparse.Namespace(
        runs=runs, name=cell, config=CONFIGS / "base.yaml", eval_episodes=EPISODES.get(task, 200), criterion=None
    )
    overrides = [
        f"--data.env_id=popgym:popgym-{cell}-v0",
        *(f"--{name}={option(value)}" for name, value in settings.items()),
    ]
    report["seeds"].append({**run_seed(run, overrides, seed), "date": date.today().isoformat()})
    report["versions"] = {name: version(name) for name in ("torch", "popgym", "seqrl-lightning")}
    report["machine"] = {"cpu": platform.machine(), "python": platform.python_version()}
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(cell, {key: value for key, value in report["seeds"][-1].items() if key != "curve"}, flush=True)


def settings_of(cell: str) -> dict[str, Any]:
    """Return the settings of a cell that are not those of ``base.yaml``."""
    changes = yaml.safe_load((CONFIGS / "changes.yaml").read_text())
    settings = {**changes.get(task_of(cell), {}), **changes.get(cell, {})}
    env_steps = settings.pop("env_steps")
    base = yaml.safe_load((CONFIGS / "base.yaml").read_text())
    env_steps_per_update = settings.get(_ENV_STEPS_PER_UPDATE, base["agent"]["env_steps_per_update"])
    return {
        **settings,
        "agent.max_env_steps": env_steps,
        "agent.epsilon.decay_env_steps": env_steps * 2 // 3,
        "model.lr_scheduler.total_iters": env_steps // env_steps_per_update,
    }


def option(value: Any) -> str:
    """Return a setting's value as the command line reads it."""
    return value if isinstance(value, str) else json.dumps(value)


def task_of(cell: str) -> str:
    """Return the task of a cell, without its level."""
    (task,) = (cell.removesuffix(level) for level in LEVELS if cell.endswith(level))
    return task


if __name__ == "__main__":
    main()
