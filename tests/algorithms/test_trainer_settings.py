"""Settings of the Trainer with which no weights would be learned are refused, from Python and the command line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler, ModelCheckpoint
from lightning.pytorch.plugins import HalfPrecision

from seqrl_lightning.replay import PrioritizedSampler, SequenceSampler
from seqrl_lightning.types import ConfigurationError
from tests.networks.exported import NETWORKS, shape_read_by
from tests.running import fit, seqrl, skip_without_bfloat16_lstm

SMALL: dict[str, Any] = {
    "data": {"env_id": "CartPole-v1", "batch_size": 4},
    "agent": {"warmup_env_steps": 40},
    "max_steps": 2,
}
LINE = r"it must be one of 32-true, 64-true, 16-mixed, bf16-mixed: "
READING_VECTORS = [name for name in NETWORKS if shape_read_by(name) == (2, 2)]


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_weights_in_half_precision_are_refused(tmp_path: Path, precision: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^trainer.precision is '{precision}'; {LINE}"):
        fit(tmp_path, model={}, precision=precision, **SMALL)
    with pytest.raises(ConfigurationError, match=f"^trainer.precision is '{precision}'; {LINE}"):
        fit(tmp_path, model={}, plugins=[HalfPrecision(precision)], **SMALL)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_so_they_are_by_every_command(tmp_path: Path, command: str) -> None:
    flags = ["--data.env_id=CartPole-v1", "--trainer.precision=bf16-true", f"--trainer.default_root_dir={tmp_path}"]
    flags += [] if command == "fit" else ["--ckpt_path=untrained"]
    status, _, errors = seqrl(command, *flags)
    assert status == 2
    assert errors.startswith("seqrl: error: trainer.precision is 'bf16-true'; it must be one of 32-true, ")
    assert errors.count("\n") == 1


def test_small_steps_are_lost_in_half_precision() -> None:
    """The reason: a target network that follows its policy network by tau, after 1000 updates."""
    left = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        torch.manual_seed(0)
        policy = 0.1 * torch.randn(1000)
        target = (policy + 0.01 * torch.randn(1000)).to(dtype)
        before = (policy - target).abs().mean()
        for _ in range(1000):
            target.lerp_(policy.to(dtype), 0.005)
        left[dtype] = float((policy - target).abs().mean() / before)
    assert left[torch.float32] == pytest.approx(0.995**1000, rel=0.01)
    assert left[torch.bfloat16] > 0.9
    assert left[torch.float16] > 0.4


@pytest.mark.parametrize("network", READING_VECTORS)
@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed"])
def test_every_network_is_trained_with_the_others(tmp_path: Path, network: str, precision: Any) -> None:
    """With what reads a network's outputs and states back: priorities, and stored states."""
    if (network, precision) == ("LSTM", "bf16-mixed"):
        skip_without_bfloat16_lstm()
    sampler = SequenceSampler(length=4, prioritized=True)
    task = "seqrl/Sequence-v0" if network == "Table" else "CartPole-v1"
    data = {**SMALL["data"], "env_id": task, "sampler": sampler}
    trainer, module, _ = fit(
        tmp_path, data, {"network": NETWORKS[network]}, SMALL["agent"], max_steps=2, precision=precision
    )
    assert trainer.global_step == 2
    expected = torch.float64 if precision == "64-true" else torch.float32
    assert {p.dtype for p in module.parameters()} == {expected}
    assert all(p.isfinite().all() for p in module.parameters())


def test_priorities_of_single_transitions_are_too(tmp_path: Path) -> None:
    for precision in ("64-true", "bf16-mixed"):
        data = {**SMALL["data"], "sampler": PrioritizedSampler()}
        assert fit(tmp_path, data, {}, SMALL["agent"], max_steps=2, precision=precision)[0].global_step == 2


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (
            {"gradient_clip_val": 1.0},
            "trainer.gradient_clip_val is 1.0; it must be null with {}, whose updates the Trainer doesn't make: "
            "set model.clip_grad_norm instead",
        ),
        (
            {"gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"},
            "trainer.gradient_clip_val is 0.5; it must be null with {}, whose updates the Trainer doesn't make: "
            "set model.clip_grad_value instead",
        ),
        (
            {"accumulate_grad_batches": 2},
            "trainer.accumulate_grad_batches is 2; it must be 1 with {}, whose updates the Trainer doesn't make: "
            "raise data.batch_size instead",
        ),
        (
            {"callbacks": [GradientAccumulationScheduler({0: 2})]},
            "trainer.callbacks.GradientAccumulationScheduler is [{{0: 2}}]; it must be 1 with {}, "
            "whose updates the Trainer doesn't make: raise data.batch_size instead",
        ),
    ],
)
def test_the_trainer_neither_clips_nor_accumulates_by_hand_made_gradients(
    tmp_path: Path, flags: dict[str, Any], line: str
) -> None:
    with pytest.raises(ConfigurationError) as error:
        fit(tmp_path, model={"updates_per_step": 2}, **SMALL, **flags)
    assert str(error.value) == line.format("model.updates_per_step = 2")
    assert fit(tmp_path, model={}, **SMALL, **flags)[0].global_step == 2  # where the Trainer makes the updates


def test_nor_those_of_pqn(tmp_path: Path) -> None:
    flags = ["--data.env_id=CartPole-v1", "--model=PQN", f"--trainer.default_root_dir={tmp_path}"]
    status, _, errors = seqrl("fit", *flags, "--trainer.gradient_clip_val=1")
    assert status == 2
    told, refusal = errors.splitlines()
    assert told.startswith("seqrl: defaults for model PQN: ")
    assert refusal.startswith("seqrl: error: trainer.gradient_clip_val is 1; it must be null with PQN, whose updates")


@pytest.mark.parametrize(
    ("callback", "setting"),
    [(ModelCheckpoint, "checkpoint.monitor"), (EarlyStopping, "trainer.callbacks.EarlyStopping.monitor")],
)
@pytest.mark.parametrize("name", ["learning/trials_to_criterion/block_0", "learning/episodes_to_criterion/block_0"])
def test_curves_that_are_only_written_are_not_monitored(
    tmp_path: Path, callback: type[ModelCheckpoint | EarlyStopping], setting: str, name: str
) -> None:
    with pytest.raises(
        ConfigurationError, match=f"^{setting} is '{name}'; it must be a result of evaluations, like val/"
    ):
        fit(tmp_path, model={}, callbacks=[callback(monitor=name)], **SMALL)
