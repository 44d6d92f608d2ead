"""Write what ``seqrl`` lists without importing torch: ``python -m docs.scripts.overview``.

It writes ``seqrl_lightning/commands/overview.json``: first lines of docstrings, and the settings that people set, with
their defaults. It is not edited by hand.
"""

import inspect
import json

import gymnasium as gym

from seqrl_lightning.algorithms.training import TrainingModule
from seqrl_lightning.callbacks import AgentCallback, TargetSync
from seqrl_lightning.commands.algorithms import configurable_classes
from seqrl_lightning.commands.envs import describe_in_a_line, task_ids
from seqrl_lightning.commands.quick import OVERVIEW
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.docstrings import parse_docstring, plain, summary

CLASSES = {"data": ReplayDataModule, "agent": AgentCallback, "target_sync": TargetSync, "model": TrainingModule}
_CONFIG = (
    "A YAML file with settings, or the name of a packaged one (`seqrl configs`); later ones override earlier ones, and "
    "flags override all of them."
)
_ROOT = "The folder that `lightning_logs/` is in. Default: the current one."
_HARDWARE = "Hardware to compute on, like `gpu` and 2. Default: `auto`."
TRAINING: dict[str, list[str] | dict[str, str]] = {
    "Run": {
        "--config": _CONFIG,
        "--seed_everything": "Seed of all random streams. Default: 0.",
        "--seeds": "Train with the seeds from 1 to this number, in parallel processes.",
        "--ckpt_path": "A checkpoint to resume from: a file, `last` (of the newest run), or `best`.",
    },
    "Task and replay memory": [
        *("data.env_id", "data.env_kwargs", "data.num_envs", "data.wrappers", "data.frame_stack"),
        *("data.batch_size", "data.capacity", "data.sampler", "data.batches_per_epoch", "data.eval_episodes"),
    ],
    "Learner (`seqrl algorithms` lists the names, `seqrl algorithms NAME` the settings)": [
        *("model", "model.network", "model.gamma", "model.learning_rate", "model.optimizer"),
        *("model.clip_grad_norm", "model.updates_per_step", "model.compile"),
        *("model.normalize_observations", "model.normalize_rewards"),
    ],
    "Acting": [
        *("agent.max_env_steps", "agent.max_episodes", "agent.warmup_env_steps", "agent.env_steps_per_update"),
        *("agent.epsilon", "agent.exploration_bonus"),
    ],
    "Target network": ["target_sync.sync_every_updates", "target_sync.tau"],
    "Trainer": {
        "--trainer.default_root_dir": _ROOT,
        "--trainer.max_steps": "Updates of the network after which the run ends. Default: no limit.",
        "--trainer.max_time": "Time after which the run ends, as DD:HH:MM:SS. Default: no limit.",
        "--trainer.accelerator, --trainer.devices": _HARDWARE,
    },
}
EVALUATION: dict[str, list[str] | dict[str, str]] = {
    "Policy": {
        "--config": f"{_CONFIG} The network and the learner are those of the checkpoint.",
        "--ckpt_path": "The checkpoint: a file, `last` (of the newest run), `best`, or `untrained`.",
        "--allow": "A module of your own that the checkpoint may name, like my_tasks.",
    },
    "Task": ["data.env_id", "data.env_kwargs", "data.wrappers", "data.frame_stack"],
    "Episodes": ["data.eval_episodes", "data.eval_num_envs", "data.eval_seed", "data.eval_max_steps"],
    "Trainer": {
        "--trainer.default_root_dir": _ROOT,
        "--trainer.accelerator, --trainer.devices": _HARDWARE,
    },
}
DEFAULTS = {  # of settings whose default a signature doesn't show as people write it
    "data.sampler": "UniformSampler",
    "agent.epsilon": "ExponentialEpsilon",
    "model.network": "MLP",
    "model.optimizer": "torch.optim.Adam",
}


def main() -> None:
    """Write the file."""
    OVERVIEW.write_text(text())


def text() -> str:
    """Return its text."""
    groups = configurable_classes()
    algorithms = {title: {cls.__name__: summary(cls) for cls in classes} for title, classes in groups.items()}
    envs = {env_id: describe_in_a_line(gym.make(env_id).unwrapped) for env_id in task_ids()}
    settings = {"training": described(TRAINING), "evaluation": described(EVALUATION)}
    overview = {"algorithms": algorithms, "envs": envs, "settings": settings}
    return json.dumps(overview, indent=1, ensure_ascii=False) + "\n"


def described(groups: dict[str, list[str] | dict[str, str]]) -> dict[str, dict[str, str]]:
    """Return groups of settings with the meaning of each."""
    return {
        title: names if isinstance(names, dict) else {f"--{name}": describe(name) for name in names}
        for title, names in groups.items()
    }


def describe(name: str) -> str:
    """Return the meaning of a setting, with its default."""
    if name == "model":
        return "The learner's name. Default: DQN."
    group, _, setting = name.partition(".")
    cls = next(owner for owner in CLASSES[group].__mro__ if setting in inspect.signature(owner).parameters)
    meaning = next(p.description for p in parse_docstring(cls).params if p.arg_name == setting) or ""
    default = inspect.signature(cls).parameters[setting].default
    if default is inspect.Parameter.empty:
        return f"{plain(' '.join(meaning.split()))} Required."
    shown = DEFAULTS.get(name, "none" if default is None else str(default))
    sentences = plain(" ".join(meaning.split()))
    return sentences if "by default" in sentences or "None for" in sentences else f"{sentences} Default: {shown}."


if __name__ == "__main__":
    main()
