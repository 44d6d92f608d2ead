"""Recurrent PPO on cells of POPGym's table: ``python -m benchmarks.recurrent_ppo RepeatFirstEasy CountRecallEasy``.

Trains sb3-contrib's ``RecurrentPPO`` with its defaults, 16 environments and the discount of our cell, and evaluates its
greedy policy over 200 episodes twice: after the env steps of our run of seed 1, and after its CPU seconds, in which
evaluations aren't counted. Where our cell observes the previous action, so does PPO. The results go to
``benchmarks/results/recurrent_ppo.json``; ``python -m docs.scripts.popgym`` shows them beside our returns.
"""

import argparse
import functools
import json
import time
from datetime import date
from importlib.metadata import version
from typing import Any

import gymnasium as gym
import popgym  # noqa: F401  # registers its tasks
import torch
import yaml
from popgym.wrappers import PreviousAction
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.learning import RESULTS
from benchmarks.popgym import CONFIGS, FOLDER

PATH = RESULTS / "recurrent_ppo.json"
NUM_ENVS = 16
EPISODES = 200
SEED = 1


def main() -> None:
    """Train and evaluate the cells that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="+", metavar="CELL", help="like CountRecallEasy; ours must have been run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = ("torch", "popgym", "stable-baselines3", "sb3-contrib")
    report: dict[str, Any] = json.loads(PATH.read_text()) if PATH.exists() else {"cells": {}}
    for cell in arguments.cells:
        if cell not in report["cells"]:
            report["cells"][cell] = {**run_cell(cell), "date": date.today().isoformat()}
            report["versions"] = {name: version(name) for name in names}
            PATH.write_text(json.dumps(report, indent=1) + "\n")
            print(cell, report["cells"][cell], flush=True)


def run_cell(cell: str) -> dict[str, Any]:
    """Train one seed of a cell for our env steps or our CPU seconds, whichever takes longer."""
    ours = json.loads((FOLDER / f"{cell}.json").read_text())
    seed = next(result for result in ours["seeds"] if result["seed"] == SEED)
    observes_action = "PreviousActionReward" in json.dumps(ours["settings"])
    base_gamma = yaml.safe_load((CONFIGS / "base.yaml").read_text())["model"]["init_args"]["gamma"]
    make = functools.partial(make_env, cell, observes_action)
    envs, eval_envs = (DummyVecEnv([make] * NUM_ENVS) for _ in range(2))
    gamma = ours["settings"].get("model.gamma", base_gamma)
    model = RecurrentPPO("MlpLstmPolicy", envs, gamma=gamma, seed=SEED, device="cpu")
    stops = TwoStops(eval_envs, seed["env_steps"], seed["fit_cpu_seconds"])
    model.learn(10**9, callback=stops)
    return {"gamma": gamma, "observes_previous_action": observes_action, **stops.results}


def make_env(cell: str, observes_action: bool) -> gym.Env[Any, Any]:
    """Make a task of POPGym whose observations are vectors."""
    env: gym.Env[Any, Any] = gym.make(f"popgym:popgym-{cell}-v0")
    return Monitor(gym.wrappers.FlattenObservation(PreviousAction(env.unwrapped) if observes_action else env))


class TwoStops(BaseCallback):
    """Evaluate a policy after a number of env steps and after a time, and end its training when both are over.

    Args:
        eval_envs: The environments to evaluate in.
        env_steps: Env steps of training.
        cpu_seconds: CPU seconds of training.
    """

    def __init__(self, eval_envs: DummyVecEnv, env_steps: int, cpu_seconds: float) -> None:
        super().__init__()
        self.eval_envs = eval_envs
        self.env_steps = env_steps
        self.cpu_seconds = cpu_seconds
        self.results: dict[str, dict[str, float]] = {}
        self._start = time.process_time()

    def _on_step(self) -> bool:
        seconds = time.process_time() - self._start
        if self.num_timesteps >= self.env_steps and "same_env_steps" not in self.results:
            self._evaluate("same_env_steps", seconds)
        elif seconds >= self.cpu_seconds and "same_cpu_time" not in self.results:
            self._evaluate("same_cpu_time", seconds)
        return len(self.results) < 2

    def _evaluate(self, name: str, seconds: float) -> None:
        before = time.process_time()
        self.eval_envs.seed(10_000 + SEED)
        mean, _ = evaluate_policy(self.model, self.eval_envs, EPISODES, deterministic=True)
        self.results[name] = {
            "return_mean": round(float(mean), 3),
            "env_steps": self.num_timesteps,
            "cpu_seconds": round(seconds, 1),
        }
        self._start += time.process_time() - before


if __name__ == "__main__":
    main()
