"""Run an experiment: every condition of a design with every seed, in parallel processes.

The file has a base config, factors with their levels, and the number of seeds. Finished runs are skipped
and interrupted ones are resumed, so the same command continues after a kill, and adds new seeds or levels.
"""

import itertools
import json
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jsonargparse import ArgumentParser, Namespace

from seqrl_lightning.analysis.levels import Levels, write_levels
from seqrl_lightning.commands.fitting import DryFit
from seqrl_lightning.files import FolderLock, require_own_files
from seqrl_lightning.launch import FitRun, add_launcher, launcher_of
from seqrl_lightning.launch.fit_run import resume
from seqrl_lightning.lightning_messages import quiet
from seqrl_lightning.running.defaults import OF_NETWORK
from seqrl_lightning.running.messages import allowing, program, typed_command
from seqrl_lightning.running.parser import as_argument
from seqrl_lightning.types import ConfigurationError, RunError, one_line, require

_NAME = re.compile(r"[\w.+-]+")
_FACTORS = "factors by their names, each with its levels by their names, each with its settings, as in the docs"


class Design(NamedTuple):
    """An experiment as its file describes it."""

    configs: list[str]  # files of settings that all conditions have in common
    seeds: int
    factors: dict[str, dict[str, dict[str, Any]]]  # settings by factor and level


class Condition(NamedTuple):
    """One combination of levels."""

    levels: Levels
    settings: dict[str, Any]  # by their dotted names

    @property
    def name(self) -> str:
        """The condition's name, and that of its folder."""
        return "-".join(f"{factor}_{level}" for factor, level in self.levels.level_of.items())


def add_arguments(parser: ArgumentParser) -> None:
    """Add the experiment's file, and how much of it runs."""
    parser.add_argument("experiment", type=Path, help="a YAML file with config, seeds and factors")
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds 1 to N, in place of the file's number")
    parser.add_argument("--jobs", type=int, help="runs at a time; by default one for each CPU or, on a cluster, all")
    add_launcher(parser)
    parser.add_argument("--output", type=Path, help="the runs' folder; by default `runs` and the file's name")


def run(arguments: Namespace) -> None:
    """Run all conditions, and print how to compare them.

    Raises:
        RunError: If a run failed.
    """
    launcher = launcher_of(arguments)
    design = read_design(arguments.experiment)
    seeds = design.seeds if arguments.seeds is None else arguments.seeds
    require(seeds > 0, "--seeds", seeds, "at least 1")
    root = arguments.output or Path("runs") / arguments.experiment.stem
    conditions = with_defaults_of_base(conditions_of(design), design)
    configs = [check(condition, design) for condition in conditions]
    pairs = zip(conditions, configs, strict=True)
    runs = [runs_of(condition, config, design, root, seeds) for condition, config in pairs]
    tasks = [str(config["data"]["env_id"]) for config in configs]
    require_own_files(root)
    with FolderLock(root):
        left = resume(run for of_seed in zip(*runs, strict=True) for run in of_seed)
        for condition in conditions:  # all of them: a new level moves the places of the others
            write_levels(condition.levels._replace(command=typed_command()), root / condition.name)
        received = launcher.run(left)
    if received:
        sys.stderr.write(
            "seqrl: interrupted; the same `seqrl experiment` resumes what was saved and runs what is left\n"
        )
        sys.exit(128 + received)
    failed = [
        condition.name for condition, of_one in zip(conditions, runs, strict=True) if any(r.status for r in of_one)
    ]
    if failed:
        raise RunError(f"{len(failed)} of {len(runs)} conditions have failed runs ({', '.join(failed)}): see {root}")
    print(f"\n{root}: {len(runs)} conditions with {seeds} seed{'s' * (seeds > 1)} each")
    command = "compare" if len(runs) > 1 else "analyse"
    folder, report = (shlex.quote(str(path)) for path in (root, root / "report"))
    print(f"{program()} {command} {folder} --output {report}{allowing(tasks)}")


def read_design(path: Path) -> Design:
    """Read an experiment's file.

    Args:
        path: A YAML file.

    Raises:
        ConfigurationError: If it isn't one, or an entry has another form.
    """
    if not path.is_file():
        raise ConfigurationError(f"the experiment is {str(path)!r}; it must be a YAML file that exists")
    try:
        entries = _with_names_as_written(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} isn't YAML: {one_line(error)}") from error
    known = {"config", "seeds", "factors"}
    is_known = isinstance(entries, dict) and {"config", "factors"} <= set(entries) <= known
    require(is_known, str(path), entries, "a mapping with the keys config and factors, and optionally seeds")
    config, seeds = entries["config"], entries.get("seeds", 5)
    configs = config if isinstance(config, list) else [config]
    require(bool(configs) and all(isinstance(file, str) for file in configs), "config", config, "a file, or a list")
    require(isinstance(seeds, int) and not isinstance(seeds, bool) and seeds > 0, "seeds", seeds, "at least 1")
    require(isinstance(entries["factors"], dict) and bool(entries["factors"]), "factors", entries["factors"], _FACTORS)
    return Design(configs, seeds, {str(name): _levels(str(name), entry) for name, entry in entries["factors"].items()})


def conditions_of(design: Design) -> list[Condition]:
    """Cross the levels of all factors.

    Raises:
        ConfigurationError: If two factors set the same setting.
    """
    setters = [(setting, name) for name, levels in design.factors.items() for setting in set().union(*levels.values())]
    for (setting, name), (other_setting, other) in itertools.combinations(setters, 2):
        if other_setting == setting and name != other:
            raise ConfigurationError(f"the factors {name} and {other} both set {setting}; one of them must do it")
    crossed = itertools.product(*(levels.items() for levels in design.factors.values()))
    return [
        Condition(
            Levels(place, dict(zip(design.factors, (level for level, _ in of_one), strict=True))),
            {setting: value for _, settings in of_one for setting, value in settings.items()},
        )
        for place, of_one in enumerate(crossed)
    ]


def with_defaults_of_base(conditions: Iterable[Condition], design: Design) -> list[Condition]:
    """Hold the defaults that depend on the network at those of the base config.

    A network that remembers starts from other defaults than one that doesn't: another batch size, for example. Between
    conditions, these would vary together with the network, and their effect would pass for that of the network. They
    are left alone where the levels name another learner, which may need its own, and where the base config is no run
    by itself.
    """
    bases: dict[str, dict[str, Any]] = {}  # by the settings other than the network's
    held = []
    for condition in conditions:
        short = {name: name.replace(".init_args", "").removesuffix(".class_path") for name in condition.settings}
        others = {name: condition.settings[name] for name in short if not _is_part_of(short[name], "model.network")}
        if len(others) < len(short) and "model" not in short.values():
            key = json.dumps(others, sort_keys=True, default=str)
            if key not in bases:
                with suppress(ConfigurationError):
                    bases[key] = check(condition._replace(settings=others), design)
            if key in bases:
                named = set(short.values())
                unnamed = (name for name in OF_NETWORK if name.replace(".init_args", "") not in named)
                condition = condition._replace(settings={**_part_of(bases[key], unnamed), **condition.settings})
        held.append(condition)
    return held


def fit_arguments(condition: Condition, design: Design) -> list[str]:
    """Return the arguments of ``seqrl fit`` that make a condition."""
    configs = [f"--config={config}" for config in design.configs]
    return [*configs, *(as_argument(name, value) for name, value in condition.settings.items())]


def check(condition: Condition, design: Design) -> dict[str, Any]:
    """Check a condition's settings without training.

    Returns:
        All settings, as plain values.

    Raises:
        ConfigurationError: If they can't work.
    """
    command, sys.argv = sys.argv[1:], sys.argv[:1]  # the CLI is called with arguments of its own
    try:
        with quiet():
            return DryFit(fit_arguments(condition, design)).as_plain()
    except ConfigurationError as error:
        raise ConfigurationError(f"condition {condition.name}: {error}") from error
    finally:
        sys.argv[1:] = command


def runs_of(condition: Condition, config: dict[str, Any], design: Design, root: Path, seeds: int) -> list[FitRun]:
    """Return the runs of a condition with these settings, one for each seed."""
    folder = root / condition.name
    arguments = [*fit_arguments(condition, design), f"--trainer.default_root_dir={folder}"]
    return [FitRun(f"{condition.name}, seed {seed}", seed, folder, arguments, config) for seed in range(1, seeds + 1)]


def _part_of(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the settings of these dotted names, without those that the learner or the datamodule doesn't have."""
    found = {}
    for name in names:
        value: Any = config
        with suppress(KeyError):
            for part in name.split("."):
                value = value[part]
            found[name] = value
    return found


def _is_part_of(name: str, whole: str) -> bool:
    return f"{name}.".startswith(f"{whole}.")


def _with_names_as_written(text: str) -> Any:
    """Parse YAML, except for the names of factors and levels: `no` would be False there, and 0.10 the number 0.1."""
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        for factors in _values(root, "factors"):
            for levels in [factors, *_values(factors)]:
                for name, _ in levels.value if isinstance(levels, yaml.MappingNode) else ():
                    if isinstance(name, yaml.ScalarNode) and name.tag != "tag:yaml.org,2002:merge":
                        name.tag = "tag:yaml.org,2002:str"
        return None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()


def _values(node: Any, key: str | None = None) -> list[Any]:
    """Return the values of a mapping's node, or those of one key; none if it is no mapping."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return [value for name, value in pairs if key is None or name.value == key]


def _levels(factor: str, levels: Any) -> dict[str, dict[str, Any]]:
    """Check the levels of a factor."""
    _require_name("factor", factor)
    require(isinstance(levels, dict) and bool(levels), f"factor {factor}", levels, _FACTORS)
    for level, settings in levels.items():
        _require_name(f"a level of {factor}", str(level))
        are_settings = isinstance(settings, Mapping) and all("." in str(name) for name in settings)
        require(are_settings, f"level {level} of {factor}", settings, "settings by their names, like model.gamma: 0.9")
    return {str(level): {str(name): value for name, value in settings.items()} for level, settings in levels.items()}


def _require_name(what: str, name: str) -> None:
    require(_NAME.fullmatch(name) is not None, what, name, "letters, digits and . + - _, as it names a folder")
