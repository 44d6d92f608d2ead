"""Typed access to a Trainer's partners."""

from pathlib import Path

import pytest
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel

from seqrl_lightning.algorithms import DQN, SARSA, DiscreteSAC
from seqrl_lightning.algorithms.learner import LearnerModule
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.trainer_access import attributes_of, learner_of
from seqrl_lightning.types import ConfigurationError, Learner


def trainer_of(folder: Path, module: LightningModule) -> Trainer:
    trainer = Trainer(default_root_dir=folder, logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    return trainer


@pytest.mark.parametrize("module_class", [DQN, DiscreteSAC, SARSA])
def test_algorithms_are_learners(tmp_path: Path, module_class: type[LearnerModule]) -> None:
    module = module_class((4,), 2)
    assert isinstance(module, Learner)
    assert learner_of(trainer_of(tmp_path, module)) is module


def test_other_modules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"model is 'BoringModel'; it must be a learner"):
        learner_of(trainer_of(tmp_path, BoringModel()))


def test_other_datamodules_are_refused(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, DQN((4,), 2))
    for datamodule, name in ((BoringDataModule(), "BoringDataModule"), (None, "NoneType")):
        attributes_of(trainer).datamodule = datamodule
        with pytest.raises(ConfigurationError, match=rf"datamodule is '{name}'; it must be a ReplayDataModule"):
            ReplayDataModule.of(trainer)
