"""Other loggers than TensorBoard get pictures, tables and settings too, and a resumed run goes on in their runs."""

import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from jsonargparse import Namespace
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from PIL import Image
from typing_extensions import override

from seqrl_lightning import Agent
from seqrl_lightning.analysis.runs import find_runs
from seqrl_lightning.callbacks import BoardPages, EnvStepLogger, ProbeWriter
from seqrl_lightning.callbacks.logger_runs import prepare_loggers
from seqrl_lightning.cli import SeqRLCLI
from seqrl_lightning.trainer_access import run_folder
from seqrl_lightning.types import ConfigurationError
from tests.running import fit, seqrl

TABLES = ("episodes.csv", "trials.csv", "probes.csv")
PICTURES = {"choices by position": 3, "values of states": 3, "training episodes": 1, "accuracy by position": 1}
SMALL: tuple[str, ...] = (
    "--data.env_id=seqrl/SequenceDistractor-v0",
    '--data.env_kwargs={"objects": "ABCD", "blocks": [{"sequence": "ABCD", "episodes": 4}, {"sequence": "reversed"}]}',
    "--data.batch_size=8",
    "--data.batches_per_epoch=30",
    "--data.eval_episodes=1",
    "--agent.warmup_env_steps=16",
    "--trainer.enable_progress_bar=false",
)

RESUMED = ("--ckpt_path=last", "--data.eval_episodes=2")  # the second changes a setting that loggers hold


def run(root: Path, logger: str, *more: str, updates: int = 90) -> Path:
    words = (*SMALL, f"--trainer.default_root_dir={root}", f"--trainer.max_steps={updates}")
    status, _, err = seqrl("fit", *words, f"--trainer.logger={logger}", *more)
    assert status == 0, err
    return root / "lightning_logs" / "version_0"


@pytest.mark.slow
def test_a_csv_logger_has_it_all_beside_its_curves(tmp_path: Path) -> None:
    folder = run(tmp_path, "CSVLogger", f"--trainer.logger.save_dir={tmp_path / 'csv'}")
    own = tmp_path / "csv" / "lightning_logs" / "version_0"
    assert list(folder.glob("*tfevents*")), "a run's folder is TensorBoard's, whatever other loggers there are"
    pictures = {title: sorted((own / "watch" / title).glob("*.png")) for title in PICTURES}
    assert {title: len(found) for title, found in pictures.items()} == PICTURES
    evaluated = pd.read_csv(own / "metrics.csv").dropna(subset="val/return_mean")["step"]
    assert {int(path.stem) for path in pictures["values of states"]} == set(evaluated)
    assert np.ptp(np.asarray(Image.open(pictures["training episodes"][0]))) > 100
    assert "among distractors" in (own / "task.md").read_text()
    for name in (*TABLES, "episode.gif"):
        assert (own / name).read_bytes() == (folder / name).read_bytes()
    assert [found.folder for found in find_runs([str(tmp_path)])] == [folder], "it isn't another run"
    settings = yaml.safe_load((own / "hparams.yaml").read_text())
    assert settings.items() >= {"algorithm": "DQN", "gamma": 0.99, "batch_size": 8}.items()


def test_the_curves_of_a_csv_logger_are_on_the_disk_after_each_evaluation(tmp_path: Path) -> None:
    class Looks(BoardPages):
        seen: list[int] = []

        @override
        def on_validation_end(self, *args: Any) -> None:
            super().on_validation_end(*args)
            self.seen.append(len(pd.read_csv(tmp_path / "csv" / "version_0" / "metrics.csv")))

    data = {"env_id": "CartPole-v1", "batch_size": 8, "capacity": 200, "batches_per_epoch": 20}
    callbacks = [EnvStepLogger(), ProbeWriter(), Looks()]
    logger = CSVLogger(tmp_path, name="csv")
    fit(tmp_path, data, {}, {"warmup_env_steps": 16}, callbacks=callbacks, logger=logger, max_steps=60)
    assert Looks.seen == sorted(set(Looks.seen))
    assert Looks.seen[0] > 0


@pytest.mark.slow
@pytest.mark.parametrize("is_made", [True, False])
def test_an_agent_takes_a_logger_that_was_made_or_is_to_be_made(is_made: bool, tmp_path: Path) -> None:
    maker = partial(CSVLogger, save_dir=str(tmp_path / "csv"))
    settings = {"batch_size": 8, "warmup_env_steps": 8, "enable_progress_bar": False}
    logger = maker() if is_made else maker
    Agent("CartPole-v1", folder=tmp_path, logger=logger, **settings).learn(40).learn(40)  # type: ignore[arg-type]
    folders = sorted((tmp_path / "csv" / "lightning_logs").iterdir())
    assert [folder.name for folder in folders] == (["version_0"] if is_made else ["version_0", "version_1"])
    for folder in folders:
        assert len(pd.read_csv(folder / "metrics.csv")["val/return_mean"].dropna()) >= 1
    config = yaml.safe_load((tmp_path / "lightning_logs" / "version_0" / "config.yaml").read_text())
    assert is_made or config["trainer"]["logger"]["init_args"]["save_dir"] == str(tmp_path / "csv")


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    ("named", "kinds"),
    [
        ("true", [TensorBoardLogger]),
        ("false", []),
        ('{"class_path": "CSVLogger", "init_args": {"save_dir": "csv"}}', [TensorBoardLogger, CSVLogger]),
        (
            '[{"class_path": "CSVLogger", "init_args": {"save_dir": "csv"}},'
            ' {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "mine"}}]',
            [TensorBoardLogger, CSVLogger],
        ),
    ],
)
def test_tensorboard_is_the_first_logger(
    named: str, kinds: list[type], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SeqRLCLI, "_run_subcommand", lambda self, subcommand: None)
    monkeypatch.setattr(sys, "argv", ["seqrl"])
    trainer = SeqRLCLI(["fit", "--data.env_id=CartPole-v1", f"--trainer.logger={named}"]).trainer
    assert list(map(type, trainer.loggers)) == kinds
    own = "mine" if "mine" in named else "."
    assert run_folder(trainer) == (Path(own, "lightning_logs", "version_0") if kinds else tmp_path)


class _Elsewhere(Logger):
    """Keeps what it gets, and no folder."""

    name, version = "elsewhere", "1"

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}

    @override
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        pass

    @override
    def log_hyperparams(self, params: Any) -> None:
        self.settings.update(params)


def test_an_unknown_logger_gets_the_settings_and_the_files_are_in_the_default_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    logger, data = _Elsewhere(), {"env_id": "CartPole-v1", "batch_size": 8, "capacity": 200}
    callbacks = [EnvStepLogger(), ProbeWriter(), BoardPages()]
    fit(tmp_path / "run", data, {}, {"warmup_env_steps": 16}, callbacks=callbacks, logger=logger, max_steps=10)
    assert logger.settings.items() >= {"env_id": "CartPole-v1", "gamma": 0.99}.items()
    assert (tmp_path / "run" / "episodes.csv").exists()
    assert not (tmp_path / "None").exists()


def named(name: str, **settings: object) -> Namespace:
    return Namespace(class_path=f"lightning.pytorch.loggers.{name}", init_args=Namespace(**settings))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))


@pytest.mark.usefixtures("installed")
def test_resumed_loggers_get_their_ids_in_their_order_and_the_config_keeps_none() -> None:
    mine = named("WandbLogger", id="mine")
    loggers = [named("CSVLogger", save_dir="."), named("MLFlowLogger"), mine, named("WandbLogger", id=None)]
    csv, mlflow, wandb, other = prepare_loggers(loggers, ["a", "b"])  # type: ignore[misc]  # a list
    assert csv == loggers[0]
    assert (mlflow.init_args.run_id, wandb.init_args.id, other.init_args.id) == ("a", "mine", "b")
    assert "run_id" not in loggers[1].init_args
    assert prepare_loggers(True, ["a"]) is True


@pytest.mark.parametrize(("logger", "extra"), [("WandbLogger", "wandb"), ("MLFlowLogger", "mlflow")])
def test_a_missing_package_is_named_with_the_extra_that_installs_it(
    logger: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(ConfigurationError, match=rf'pip install "seqrl-lightning\[{extra}\]"'):
        prepare_loggers(named(logger))
    words = (*SMALL, f"--trainer.default_root_dir={tmp_path}", f"--trainer.logger={logger}")
    status, _, err = seqrl("fit", *words)
    assert (status, err.count("\n")) == (2, 1), err
    assert f'pip install "seqrl-lightning[{extra}]"' in err


def test_weights_and_biases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = run(tmp_path, "WandbLogger", f"--trainer.logger.save_dir={tmp_path}", updates=60)
    wandb.finish()  # as the end of the program does
    run(tmp_path, "WandbLogger", f"--trainer.logger.save_dir={tmp_path}", *RESUMED)
    config = dict(wandb.run.config)
    wandb.finish()
    first, second = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert first.name.rpartition("-")[2] == second.name.rpartition("-")[2], "the run goes on in the same run of W&B"
    assert config.items() >= {"algorithm": "DQN", "gamma": 0.99, "eval_episodes": 2}.items()
    for path, evaluations in ((first, 2), (second, 1)):
        names = [found.name for found in (path / "files" / "media" / "images" / "watch").iterdir()]
        counts = {title: sum(name.startswith(title) for name in names) for title in PICTURES}
        assert counts == {title: evaluations if n > 1 else 1 for title, n in PICTURES.items()}
        assert list((path / "files" / "media" / "videos").rglob("*.gif"))
        assert list((path / "files" / "media" / "table").glob("task*"))
    for name in (*TABLES, "config.yaml"):
        assert (second / "files" / name).read_bytes() == (folder / name).read_bytes()
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["logger"]["init_args"]["id"] is None


def test_mlflow(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    uri, files = f"sqlite:///{tmp_path}/mlflow.db", f"--trainer.logger.artifact_location={tmp_path / 'artifacts'}"
    run(tmp_path, "MLFlowLogger", f"--trainer.logger.tracking_uri={uri}", files, updates=60)
    folder = run(tmp_path, "MLFlowLogger", f"--trainer.logger.tracking_uri={uri}", files, *RESUMED)
    words = (*SMALL, f"--trainer.default_root_dir={tmp_path}", "--ckpt_path=last", "--data.eval_episodes=2")
    logger = ("--trainer.logger=MLFlowLogger", f"--trainer.logger.tracking_uri={uri}", files)
    status, _, err = seqrl("test", *words, *logger)
    assert status == 0, err
    client = mlflow.tracking.MlflowClient(uri)
    (one,) = client.search_runs([client.get_experiment_by_name("lightning_logs").experiment_id])
    assert one.info.status == "FINISHED"
    assert one.data.params.items() >= {"algorithm": "DQN", "gamma": "0.99", "eval_episodes": "1"}.items()
    steps = [point.step for point in client.get_metric_history(one.info.run_id, "val/return_mean")]
    assert steps == [46, 76, 106]
    assert one.data.metrics["test/return_mean"] == one.data.metrics["val/return_mean"]
    artifacts = Path(one.info.artifact_uri)
    counts = {title: len(list((artifacts / "images").glob(f"watch~{title}*.png"))) for title in PICTURES}
    assert counts == {title: n if n > 1 else 2 for title, n in PICTURES.items()}  # each part of the run has an end
    assert "among distractors" in (artifacts / "task.md").read_text()
    for name in (*TABLES, "config.yaml", "episode.gif"):
        assert (artifacts / name).read_bytes() == (folder / name).read_bytes()
