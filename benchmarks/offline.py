"""Measure what is learned from logs alone (``python -m benchmarks.offline``).

CartPole: 10,000 steps of a mediocre policy, from which conservative Q-learning and plain DQN learn, three seeds each,
and d3rlpy's DiscreteCQL beside them, in a virtual environment that is made in the runs' folder. DelayedRecall: episodes
of a trained agent, from which a recurrent network is cloned. The package logs both by itself. Results are in
``benchmarks/results/offline.json``. Learners run on one core, one after the other; their CPU time is that of the whole
command, start-up and, of this package's, evaluations during training included.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch

import seqrl_lightning
from benchmarks.learning import read_curve
from seqrl_lightning.recording import write_played

RESULTS = Path(__file__).parent / "results" / "offline.json"
ROOT = Path(__file__).parent.parent
NUM_STEPS = 10_000
NUM_UPDATES = 5_000  # of cartpole_cql.yaml
D3RLPY = "d3rlpy==2.8.1"
AGENT_SEED = 101  # of the agents that the logs are of; learners have others
SEEDS = (4, 5, 6)  # settings were chosen on seeds 1, 2, 3 and 11
LEARNERS = {
    "cql": "DQN with `cql_alpha: 1` ([`cartpole_cql.yaml`](../configs/offline/cartpole_cql.yaml))",
    "dqn": "the same with `cql_alpha: 0`",
    "d3rlpy_cql": f"d3rlpy {D3RLPY.partition('==')[2]}'s `DiscreteCQL`",
    "clone": "clone with a GRU ([`delayed_recall_clone.yaml`](../configs/offline/delayed_recall_clone.yaml))",
}
"""The learners' names in the table of docs/offline.md."""

CARTPOLE_ENV_STEPS, CARTPOLE_EPSILON = 16_000, 0.45
RECALL_ENV_STEPS, RECALL_EPISODES, RECALL_EPSILON = 60_000, 1_000, 0.1


def main() -> None:
    """Make what is missing: agents, logs, learners."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("offline_runs"), help="where runs and logs are kept")
    folder = parser.parse_args().folder.resolve()
    found = {"cartpole": cartpole(folder / "cartpole"), "delayed_recall": delayed_recall(folder / "delayed_recall")}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def cartpole(folder: Path) -> dict[str, Any]:
    """Learn CartPole from the log of a mediocre policy."""
    steps = ["--agent.max_env_steps", str(CARTPOLE_ENV_STEPS)]
    log = logged(folder, "cartpole_dqn", 200, CARTPOLE_EPSILON, steps, NUM_STEPS)
    mediocre = returns_in(log).mean()
    results: dict[str, list[dict[str, Any]]] = {"cql": [], "d3rlpy_cql": [], "dqn": []}
    for seed in SEEDS:  # taking turns
        results["cql"].append(learned(folder / "cql", "offline/cartpole_cql", log, seed))
        results["d3rlpy_cql"].append(learned_by_d3rlpy(folder / "d3rlpy_cql", log, seed))
        results["dqn"].append(learned(folder / "dqn", "offline/cartpole_cql", log, seed, ["--model.cql_alpha", "0"]))
    agent = evaluated(folder / "agent", folder / "agent_test.json")
    return {
        "env_steps": NUM_STEPS,
        "epsilon": CARTPOLE_EPSILON,
        "agent": agent,
        "log_return_mean": round(mediocre, 1),
        **results,
    }


def delayed_recall(folder: Path) -> dict[str, Any]:
    """Clone the policy of an agent with a recurrent network."""
    steps = ["--agent.max_env_steps", str(RECALL_ENV_STEPS)]
    log = logged(folder, "delayed_recall_gru", RECALL_EPISODES, RECALL_EPSILON, steps)
    agent = evaluated(folder / "agent", folder / "agent_test.json")
    clones = [learned(folder / "clone", "offline/delayed_recall_clone", log, seed) for seed in SEEDS]
    return {"episodes": RECALL_EPISODES, "epsilon": RECALL_EPSILON, "agent": agent, "clone": clones}


def table(found: dict[str, Any]) -> str:
    """Return a Markdown table of the final returns and the median CPU time of each learner of one task's log."""
    lines = ["| learner | return, seed by seed | CPU seconds (median) |", "| --- | --- | --- |"]
    for learner in (name for name in LEARNERS if name in found):
        returns = ", ".join(f"{result['return']:g}" for result in found[learner])
        seconds = median(result["cpu_seconds"] for result in found[learner])
        lines.append(f"| {LEARNERS[learner]} | {returns} | {seconds:.1f} |")
    return "\n".join(lines)


def logged(
    folder: Path,
    config: str,
    num_episodes: int,
    epsilon: float,
    words: list[str] | None = None,
    most: int | None = None,
) -> Path:
    """Return the log of an agent, which is trained if it isn't there."""
    log = folder / "log.csv"
    if not log.exists():
        last = fit(folder / "agent", config, AGENT_SEED, words)
        write_played(seqrl_lightning.load_policy(last), log, num_episodes, AGENT_SEED, epsilon)
        pd.read_csv(log).head(most).to_csv(log, index=False)
    return log


def returns_in(log: Path) -> "pd.Series[float]":
    """Return the return of each whole episode in a log."""
    table = pd.read_csv(log)
    has_ended = table.groupby("episode")[["terminated", "truncated"]].max().max(axis=1) > 0
    return table.groupby("episode")["reward"].sum()[has_ended]


def learned(folder: Path, config: str, log: Path, seed: int, words: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a learner of a log reaches at the end, its curve over updates, and how much CPU time it took."""
    folder = folder / f"seed_{seed}"
    found = folder / "result.json"
    if not found.exists():
        start = children_seconds()
        last = fit(folder, config, seed, ["--data.trials", str(log), *words])
        seconds = round(children_seconds() - start, 1)
        curve = read_curve(str(last.parent.parent))
        result = {"seed": seed, "cpu_seconds": seconds, "return": evaluated_last(last), "curve": curve}
        found.write_text(json.dumps(result))
    return dict(json.loads(found.read_text()))


def learned_by_d3rlpy(folder: Path, log: Path, seed: int) -> dict[str, Any]:
    """Return the same of d3rlpy's learner."""
    found = folder / f"seed_{seed}" / "result.json"
    if not found.exists():
        settings = ["--log", str(log), "--updates", str(NUM_UPDATES), "--seed", str(seed)]
        command = [str(d3rlpy_python(folder)), "-m", "benchmarks.peers.d3rlpy_cql", *settings]
        run = subprocess.run(command, check=True, env=one_core(), stdout=subprocess.PIPE, text=True, cwd=ROOT)
        found.parent.mkdir(parents=True)
        found.write_text(json.dumps({"seed": seed, **json.loads(run.stdout.splitlines()[-1])}))
    return dict(json.loads(found.read_text()))


def d3rlpy_python(folder: Path) -> Path:
    """Return the Python of an environment with d3rlpy and this one's PyTorch, which is made if it isn't there."""
    python = folder / "environment" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "environment")], check=True)
        packages = [D3RLPY, f"torch=={torch.__version__.partition('+')[0]}", "pandas"]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def children_seconds() -> float:
    """Return the CPU time of the commands that have ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def one_core() -> dict[str, str]:
    """Return the variables of a command's environment with which it computes on one core."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def evaluated(folder: Path, found: Path) -> float:
    """Return the mean return of an agent's greedy policy."""
    if not found.exists():
        found.write_text(json.dumps(evaluated_last(*folder.glob("lightning_logs/version_0/checkpoints/last.ckpt"))))
    return float(json.loads(found.read_text()))


def evaluated_last(checkpoint: Path) -> float:
    """Return the mean return of 100 greedy episodes of a checkpoint's policy, from seeds that nothing else uses."""
    table = checkpoint.parent / "test.csv"
    write_played(seqrl_lightning.load_policy(checkpoint), table, 100, seed=2_000_000)
    return float(pd.read_csv(table).groupby("episode")["reward"].sum().mean())


def fit(folder: Path, config: str, seed: int, words: Sequence[str]) -> Path:
    """Train, and return the last checkpoint."""
    command = [sys.executable, "-m", "seqrl_lightning", "fit", "--config", str(ROOT / "configs" / f"{config}.yaml")]
    command += ["--seed_everything", str(seed), "--trainer.default_root_dir", str(folder), *words]
    subprocess.run(command, check=True, env=one_core())
    return folder / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"


if __name__ == "__main__":
    main()
