"""Pages of TensorBoard besides the curves."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from seqrl_lightning.callbacks import BoardPages, EnvStepLogger, ProbeWriter
from seqrl_lightning.callbacks.board import plain_settings
from tests.running import fit

BLOCKS = [{"sequence": "ABCD", "episodes": 4}, {"sequence": "reversed"}]
DATA: dict[str, Any] = {
    "env_id": "seqrl/SequenceDistractor-v0",
    "env_kwargs": {"objects": "ABCD", "blocks": BLOCKS},
    "batch_size": 8,
    "capacity": 200,
    "batches_per_epoch": 30,
}


def run(folder: Path, board: bool = True, **data: Any) -> tuple[Path, Any]:
    torch.manual_seed(3)
    callbacks = [EnvStepLogger(), ProbeWriter(), *([BoardPages()] if board else [])]
    settings = {**DATA, **data}
    trainer, module, _ = fit(
        folder, settings, {}, {"warmup_env_steps": 16}, callbacks=callbacks, logger=True, max_steps=90
    )
    return Path(trainer.log_dir), module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("board"))[0]


@pytest.fixture(scope="module")
def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()


def test_pictures_of_each_evaluation_and_of_the_end(events: EventAccumulator) -> None:
    counts = {tag: len(events.Images(tag)) for tag in events.Tags()["images"]}
    assert counts == {
        "watch/choices by position": 3,
        "watch/values of states": 3,
        "watch/accuracy by position": 1,
        "watch/training episodes": 1,
        "watch/greedy episode": 1,
    }


def test_the_greedy_episode_moves(folder: Path) -> None:
    with Image.open(folder / "episode.gif") as gif:
        assert gif.n_frames > 1  # type: ignore[attr-defined]


def test_the_rule_is_told(events: EventAccumulator) -> None:
    (text,) = events.Tensors("task/text_summary")
    told = text.tensor_proto.string_val[0].decode()
    assert "SequenceDistractor" in told
    assert "among distractors that are never right" in told


def test_hparams_hold_the_settings_and_name_the_result(events: EventAccumulator) -> None:
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    data = plugin_data_pb2.HParamsPluginData.FromString(content)
    assert data.session_start_info.hparams["gamma"].number_value == 0.99
    assert data.session_start_info.hparams["env_id"].string_value == "seqrl/SequenceDistractor-v0"
    content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    (metric,) = plugin_data_pb2.HParamsPluginData.FromString(content).experiment.metric_infos
    assert metric.name.tag == "val/return_mean"


def test_the_settings_that_matter_come_first(events: EventAccumulator) -> None:
    content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    infos = plugin_data_pb2.HParamsPluginData.FromString(content).experiment.hparam_infos
    names = [info.name for info in infos]
    first = {info.name for info in infos if info.differs}  # TensorBoard puts these before the others
    assert first == {"env_id", "gamma", "learning_rate"}  # a module from Python notes neither algorithm nor network
    assert len(names) == len(set(names)) > 20


def test_settings_become_flat_and_plain() -> None:
    network = {"class_path": "MLP", "init_args": {"hidden_sizes": [8, 8]}}
    settings = {
        "_class_path": "seqrl_lightning.algorithms.DQN",
        "network": network,
        "gamma": 0.9,
        "_instantiator": "x",
        "obs_shape": (3,),
    }
    assert plain_settings(settings) == {
        "algorithm": "DQN",
        "network": "MLP",
        "network.hidden_sizes": "[8, 8]",
        "gamma": 0.9,
    }


@pytest.mark.slow
def test_it_changes_nothing(tmp_path: Path) -> None:
    _, module = run(tmp_path / "with")
    _, other = run(tmp_path / "without", board=False)
    for one, two in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_task_without_states_blocks_or_pictures_gets_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pygame", None)  # what CartPole draws with
    folder, _ = run(tmp_path, env_id="CartPole-v1", env_kwargs={})
    assert EventAccumulator(str(folder)).Reload().Tags()["images"] == []
