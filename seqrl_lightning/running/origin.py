"""The origin of a run: random weights, or a checkpoint, from which it inherits the learner and its settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from seqrl_lightning.algorithms.acting import ActingModule
from seqrl_lightning.checkpoints.changes import Change, overruled, require_resumable
from seqrl_lightning.checkpoints.format import read_checkpoint
from seqrl_lightning.checkpoints.last import best_checkpoint, newest_run, run_of, usable_checkpoint
from seqrl_lightning.checkpoints.records import UnusableFileError
from seqrl_lightning.data import LearnerDataModule
from seqrl_lightning.data_class import DATA_CLASSES
from seqrl_lightning.errors import refused_in_a_line
from seqrl_lightning.files import require_own_files
from seqrl_lightning.parts import ObsShape, plain_shape, shape_of_observation
from seqrl_lightning.reading import read_config
from seqrl_lightning.recipe import Recipe, check_learner, policy_in
from seqrl_lightning.running.folder import RunClaim
from seqrl_lightning.running.messages import note
from seqrl_lightning.saved_state import saved
from seqrl_lightning.trust import Trust, names_in, settings_of
from seqrl_lightning.types import ConfigurationError, Progress, require

_UNTRAINED = "untrained"  # instead of a checkpoint


class Origin:
    """The weights and counts from which a run starts.

    Attributes:
        checkpoint: The checkpoint; None for random weights.
        resumed_run: The folder of the resumed run, in which it continues; None for a new run.
        resumed_updates: Updates of the network that the run has made, if it is resumed; else None.
        env_steps: Env steps that it has taken.
        claim: The run's claim to its folder.
        clone: The checkpoint whose network a run with an agent begins with; None for none.
        notes: Lines that tell which settings are used instead of others, to be printed once nothing refuses the run.
    """

    def __init__(self) -> None:
        self.checkpoint: str | None = None
        self.resumed_run: Path | None = None
        self.resumed_updates: int | None = None
        self.env_steps = 0
        self.claim = RunClaim()
        self.clone: Path | None = None
        self.notes: list[str] = []
        self._trained_on: dict[str, Any] | None = None  # the checkpoint's settings of the learner

    def find_checkpoint(self, given: str | None, root: Path, resumes: bool, max_gib: float) -> str | None:
        """Find the checkpoint that ``ckpt_path`` stands for.

        Args:
            given: A file, ``last``, ``best``, ``untrained`` or None.
            root: The runs' ``trainer.default_root_dir``.
            resumes: Whether a run resumes from it, for which its folder is claimed; otherwise it is evaluated.
            max_gib: Larger files are refused.

        Returns:
            The file; None for random weights.

        Raises:
            ConfigurationError: If there is none, or it can't be used.
        """
        if given == _UNTRAINED and not resumes:
            return None
        if given is None:
            if not resumes:
                meant = f"a checkpoint file, 'last' or 'best', or {_UNTRAINED!r} for random weights"
                raise ConfigurationError(f"--ckpt_path: missing; name {meant}")
            return None
        self.checkpoint = self._find_in_run(given, root, resumes, max_gib) if given in ("last", "best") else given
        if not Path(self.checkpoint).is_file():
            must_be = "a checkpoint file, 'last' or 'best'"
            raise ConfigurationError(f"ckpt_path is {self.checkpoint!r}; it must be {must_be}")
        return self.checkpoint

    def _find_in_run(self, given: str, root: Path, resumes: bool, max_gib: float) -> str:
        run = newest_run(root)
        if resumes:
            self.resumed_run = run
            self.claim.take(run)
        last = usable_checkpoint(run, resumes, max_gib)
        return str(last if given == "last" else best_checkpoint(last, max_gib))

    def begins_with_clone(self, path: Path, data_class: type[LearnerDataModule], max_gib: float) -> bool:
        """Return whether a run with an agent begins with the network of one that learned from a log, and note it.

        Raises:
            ConfigurationError: If it is the other way round, or the checkpoint can't be used.
        """
        try:
            checkpoint = read_checkpoint(path, max_gib=max_gib)
        except UnusableFileError as error:
            raise ConfigurationError(f"{path} can't be used: {error}") from error
        theirs = next((name for name in DATA_CLASSES if name in checkpoint), data_class.__name__)
        begins = data_class.has_agent and not DATA_CLASSES[theirs].has_agent
        must_be = f"the checkpoint's {theirs}"
        require(begins or theirs == data_class.__name__, "data_class", data_class.__name__, must_be)
        if begins:  # it is a new run, wherever the clone's is
            self.clone, self.checkpoint, self.resumed_run, self.claim = path, None, None, RunClaim()
        return begins

    def learner_in(
        self, path: Path, config: Namespace, plain: Mapping[str, Any], resumes: bool, max_gib: float
    ) -> dict[str, Any]:
        """Return the learner that a checkpoint's weights belong to, as a config's ``model``.

        A class that the checkpoint names is imported if files may name it, or the config that was given names it too.

        Args:
            path: The checkpoint.
            config: The config that was given.
            plain: The same as plain values.
            resumes: Whether a run is resumed from it.
            max_gib: Larger files are refused.

        Raises:
            ConfigurationError: If the checkpoint can't be used, or is of another task.
        """
        given = config.model.as_dict()
        trust = Trust(config.allow, names_in([given, config.data.as_dict(), plain["model"], plain["data"]]))
        try:
            checkpoint = read_checkpoint(path, trust, max_gib)
        except UnusableFileError as error:
            raise ConfigurationError(f"{path} can't be used: {error}") from error
        recipe, weights = policy_in(checkpoint, path)
        task = recipe.data.get("env_id")  # with a log, there may be none
        is_task = None in (task, config.data.env_id) or config.data.env_id == task
        require(is_task, "data.env_id", config.data.env_id, f"the checkpoint's {task!r}")
        settings = settings_of(recipe.model)
        network = {"network": given["init_args"].get("network")}  # where the checkpoint names none: it came from Python
        checked = {**network, **settings, "compile": False}
        cls = check_learner(recipe.algorithm, checked, weights, trust, str(path), is_parsed=True)
        self._trained_on = dict(settings)
        self._keep_compile(settings, given["init_args"])
        if resumes:
            self._take_over_counts(config.data_class, checkpoint, path)
        return _as_model(recipe, settings, cls, trust, path)

    def _take_over_counts(self, data_class: str, checkpoint: Mapping[str, Any], path: Path) -> None:
        with refused_in_a_line(str(path)):
            self.resumed_updates = checkpoint["global_step"]
            data = saved(checkpoint.get(data_class), dict, data_class)
            self.env_steps = saved(data["progress"], Progress, "the progress").env_steps

    def _keep_compile(self, settings: dict[str, Any], given: Mapping[str, Any]) -> None:
        """Keep the setting ``compile`` that was given: it starts a compiler here, and changes no result."""
        if "compile" in settings:
            theirs, ours = settings["compile"], given.get("compile", False)
            settings["compile"] = ours
            if theirs != ours:
                self.notes.append(f"model.compile: {ours!r} is used, not the checkpoint's {theirs!r}")

    def compare(self, used: dict[str, Any], given: dict[str, Any], plain: Mapping[str, Any], resumes: bool) -> None:
        """Note which settings differ from those of the run that the checkpoint is from.

        Args:
            used: The learner of this run, as a config's ``model``.
            given: The one that was given.
            plain: The config of this run, as plain values.
            resumes: Whether it is resumed.

        Raises:
            ConfigurationError: If the run can't be resumed with one of them.
        """
        found = _overruled(used, given, resumes)
        self.notes += [f"{name}: the checkpoint's {theirs!r} is used, not {ours!r}" for name, theirs, ours in found]
        if resumes and self.checkpoint is not None:
            self.notes += map(str, _changes(Path(self.checkpoint), plain))

    def print_notes(self) -> None:
        """Print the notes, once."""
        while self.notes:
            note(self.notes.pop(0))

    def obs_shape(self, shape: tuple[int, ...]) -> ObsShape:
        """Return the task's shape, by which the network is built; refuse one that doesn't fit the weights.

        Raises:
            ConfigurationError: If it differs from the checkpoint's.
        """
        trained = shape if self._trained_on is None else shape_of_observation(self._trained_on["obs_shape"])
        if plain_shape(trained) != plain_shape(shape):
            given = f"the observations' shape in data.env_id is {shape}"
            raise ConfigurationError(f"{given}; it must be the checkpoint's {trained}")
        return plain_shape(shape)

    def n_actions(self, n_actions: int) -> int:
        """Return the task's number of actions, like :meth:`obs_shape`."""
        trained = n_actions if self._trained_on is None else self._trained_on["n_actions"]
        require(trained == n_actions, "the number of actions in data.env_id", n_actions, f"the checkpoint's {trained}")
        return n_actions


def _as_model(
    recipe: Recipe, settings: dict[str, Any], cls: type[ActingModule], trust: Trust, path: Path
) -> dict[str, Any]:
    named = recipe.model.get("_class_path")
    if named is None:  # it comes from Python
        return settings
    is_same = trust.find(named, str(path)) is cls
    require(is_same, f"_class_path in {path}", named, f"its algorithm, {recipe.algorithm}")
    return {"class_path": named, "dict_kwargs": settings}


_DEFAULT_CLASSES = ("seqrl_lightning.algorithms.DQN", "seqrl_lightning.networks.MLP")


def _overruled(used: dict[str, Any], given: dict[str, Any], resumes: bool) -> list[Change]:
    """Return which of the given settings of the learner are not used, because a checkpoint's are.

    Args:
        used: The learner of the run, as a config's ``model``.
        given: The one that was given.
        resumes: Whether a run is resumed. Its settings of data and agent start from defaults that follow from the
            classes of learner and network, so that other classes are refused. The classes that stand where none was
            given are not: the checkpoint's are used.

    Raises:
        ConfigurationError: If other classes were given.
    """
    of_task = ("obs_shape", "n_actions")  # not known yet
    arguments = {name: value for name, value in given["init_args"].items() if name not in of_task}
    found = overruled({"model": used}, {"model": {**given, "init_args": arguments}})
    for name, theirs, ours in found if resumes else ():
        is_of_kind = name == "model" or name.endswith(".network")
        require(
            not is_of_kind or ours in _DEFAULT_CLASSES,
            name,
            ours,
            f"the checkpoint's {theirs!r}, or the run a new one, without ckpt_path",
        )
    return found


def _changes(checkpoint: Path, now: Mapping[str, Any]) -> list[Change]:
    """Return what changed since the config of a checkpoint's run was written; refuse what would mix two experiments.

    Args:
        checkpoint: A checkpoint, in the folder of a run or elsewhere.
        now: The config that it is resumed with, as plain values.

    Raises:
        ConfigurationError: If there is such a change, or a symbolic link leads out of the run's folder.
    """
    run = run_of(checkpoint)
    if run is None:
        return []
    require_own_files(run)
    before, now = (
        {name: group for name, group in config.items() if name != "model"}  # the checkpoint's is used
        for config in (read_config(run / "config.yaml"), now)
    )
    return require_resumable(before, now, run / "config.yaml")
