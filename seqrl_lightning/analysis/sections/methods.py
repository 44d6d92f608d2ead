"""The methods of a report: a paragraph for a paper, and the settings."""

import shlex

import pandas as pd

from seqrl_lightning.analysis.conditions import Groups, settings_of
from seqrl_lightning.analysis.curves import Axis
from seqrl_lightning.analysis.report import Section, written_by
from seqrl_lightning.analysis.runs import Run, one_task
from seqrl_lightning.analysis.sections.agreement import by_value, named_runs, stated
from seqrl_lightning.analysis.statistics import MIN_SEEDS

_STATED = {
    "model.network": "network",
    "model.optimizer": "optimizer",
    "model.learning_rate": "learning rate",
    "model.gamma": "discount factor",
    "data.sampler": "sampler",
    "data.batch_size": "batch size",
    "data.capacity": "replay capacity",
    "data.num_envs": "number of environments",
    "agent.epsilon": "exploration",
    "agent.warmup_env_steps": "env steps before the first update",
    "agent.env_steps_per_update": "env steps per update",
    "target_sync.sync_every_updates": "updates per sync of the target",
    "target_sync.tau": "tau",
    "agent.max_episodes": "training episodes",
    "agent.max_env_steps": "env steps in all",
    "trainer.max_steps": "updates in all",
    "data.eval_episodes": "episodes per evaluation",
}
"""The settings that a paper states, in its words; a class with the settings that it was given."""
_NOTHING = ("null", "-1", "false", "{}")
_MOST_STATED = 4  # settings or conditions, beyond which the table alone has the values


def methods(groups: Groups, axis: Axis, command: str, program: str = "seqrl") -> Section:
    """A paragraph for a paper, and the settings of each condition, the differing ones first.

    Args:
        groups: Runs by condition.
        axis: The x axis of curves.
        command: The command that wrote the report.
        program: The beginning of a command that trains.
    """
    env_id = one_task([run for runs in groups.values() for run in runs])
    learners = by_value({name: _learner(runs[0]) for name, runs in groups.items()})
    verb = "was" if len(learners) == 1 else "were"
    table = pd.DataFrame([settings_of(runs[0]) for runs in groups.values()], index=list(groups)).T
    is_same = table.nunique(axis=1, dropna=False) == 1
    shared = table.loc[is_same].iloc[:, 0]
    sentences = [
        f"{_subject(learners)} {verb} trained on {env_id}{_of_task(shared)} with {_in_words(shared)}.",
        *_differing(table[~is_same]),
        "All settings are in the table below, under their names in the runs' config.yaml.",
        _seeds_and_versions(groups),
        _commands(groups, program),
        f"The seed was the unit of analysis. Learning curves are over {axis.label} ({axis.reason}).",
        *_tests(groups),
        written_by(command),
    ]
    is_trainers = table.index.str.startswith("trainer.")
    parts = [table[~is_same], table[is_same & ~is_trainers], table[is_same & is_trainers]]
    return Section("methods", "Methods", " ".join(sentences), None, pd.concat(parts).rename_axis("setting"))


def _learner(run: Run) -> str:
    return str(run.config.get("model", {}).get("class_path", "DQN")).rpartition(".")[2]


def _subject(learners: dict[str, list[str]]) -> str:
    several = len(learners) > 1
    return " and ".join(f"{name} ({'; '.join(of_one)})" if several else name for name, of_one in learners.items())


def _of_task(settings: "pd.Series[str]") -> str:
    """State the settings of the task that all conditions have in common, in brackets; empty without any."""
    prefix = "data.env_kwargs."
    given = settings[settings.index.str.startswith(prefix) & ~settings.isin(_NOTHING)]
    named = ", ".join(f"{name.removeprefix(prefix)} {value}" for name, value in given.items())
    return f" ({named})" if named else ""


def _in_words(settings: "pd.Series[str]") -> str:
    """State the settings that a paper states, as far as all conditions have them in common."""
    found = []
    for name, words in _STATED.items():
        if (value := settings.get(name, "null")) in _NOTHING:
            continue
        of_class = settings[[part for part in settings.index if part.rpartition(".")[0] == name]]
        given = [f"{part.rpartition('.')[2]} {of_one}" for part, of_one in of_class.items() if of_one not in _NOTHING]
        is_stated = given and name != "model.optimizer"
        found.append(f"{words} {value} ({', '.join(given)})" if is_stated else f"{words} {value}")
    return ", ".join(found) or "the settings below"


def _differing(table: pd.DataFrame) -> list[str]:
    """State the settings in which conditions differ: with their values where these are few."""
    if table.empty:
        return []
    if len(table) > _MOST_STATED or table.shape[1] > _MOST_STATED:
        more = f" and {len(table) - _MOST_STATED} others" if len(table) > _MOST_STATED else ""
        return [f"Conditions differed in {', '.join(table.index[:_MOST_STATED])}{more}; the table begins with them."]
    named = [f"{setting}, {stated(row.to_dict(), ' or ')}" for setting, row in table.iterrows()]
    return [f"Conditions differed in {', and in '.join(named)}."]


def _seeds_and_versions(groups: Groups) -> str:
    seeds = stated({name: ", ".join(str(run.seed) for run in runs) for name, runs in groups.items()})
    versions = stated({name: run.versions for name, run in named_runs(groups) if run.versions})
    return f"The seeds were {seeds}.{f' Runs were trained with {versions}.' if versions else ''}"


def _commands(groups: Groups, program: str) -> str:
    """State the command that trained the runs of an experiment, or one that repeats a run from its config."""
    commands = {runs[0].levels.command for runs in groups.values()}
    if len(commands) == 1 and "" not in commands:
        return f"The runs were trained by `{commands.pop()}`."
    configs = {name: shlex.quote(str(runs[0].folder / "config.yaml")) for name, runs in groups.items()}
    repeat = f"A run is repeated in a folder of its own by `{program} fit --config {{}} --seed_everything SEED "
    repeat += "--trainer.default_root_dir FOLDER`"
    if len(configs) == 1:
        return f"{repeat.format(*configs.values())}."
    named = "; ".join(f"{path} ({name})" for name, path in configs.items())
    return f"{repeat.format('CONFIG')}, where CONFIG is {named}."


def _tests(groups: Groups) -> list[str]:
    """State the tests of a comparison."""
    if len(groups) == 1:
        return []
    if any(len(runs) < MIN_SEEDS for runs in groups.values()):
        return [f"Conditions with fewer than {MIN_SEEDS} seeds were not tested."]
    return [
        "Conditions were compared pair by pair by two-sided permutation tests of their means or, for times to "
        "criterion, of their log-rank scores, with Holm's correction for the number of pairs."
    ]
