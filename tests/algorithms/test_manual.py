"""Several updates in one training step are the same updates."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.testing import assert_close

from seqrl_lightning.algorithms.manual import LightningStep, PlainStep
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.networks import GRU, Network, Transformer
from seqrl_lightning.replay import SequenceSampler
from seqrl_lightning.types import ConfigurationError
from tests.running import fit


class Listener(Callback):
    """Counts what Lightning tells it of every update."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_before_optimizer_step(self, *args: Any) -> None:
        self.heard.append("step")


def run(
    tmp_path: Path, updates_per_step: int, *callbacks: Callback, max_steps: int = 20, compile: bool = False
) -> tuple[Any, Any, Tensor]:
    trainer, module, _ = fit(
        tmp_path,
        # No episode ends in so few steps, so that both ways draw the same random numbers.
        {"env_id": "seqrl/Sequence-v0", "env_kwargs": {"max_trials": 1000}, "batch_size": 8, "capacity": 500},
        {
            "updates_per_step": updates_per_step,
            "compile": compile,
            "clip_grad_norm": 0.05,
            "lr_scheduler": lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=15),
        },
        {"warmup_env_steps": 20, "updates_per_collect": 5, "epsilon": ConstantEpsilon(1.0)},
        {"sync_every_updates": 3, "tau": 0.5},
        callbacks=list(callbacks),
        max_steps=max_steps,
    )
    weights = [*module.policy_net.parameters(), *module.target_net.parameters()]  # type: ignore[union-attr]
    return trainer, module, torch.cat([p.detach().flatten() for p in weights])


def test_five_updates_a_step_are_five_updates(tmp_path: Path) -> None:
    torch.manual_seed(3)
    _, _, one_by_one = run(tmp_path, 1)
    torch.manual_seed(3)
    trainer, module, bunched = run(tmp_path, 5)
    assert isinstance(module._step, PlainStep)
    assert trainer.global_step == 20
    assert trainer.fit_loop.epoch_loop.total_batch_idx == 3  # four training steps
    assert_close(bunched, one_by_one, rtol=1e-4, atol=1e-6)


def test_lightnings_own_way_is_taken_when_somebody_listens_and_gives_the_same(tmp_path: Path) -> None:
    torch.manual_seed(3)
    _, _, plain = run(tmp_path, 5)
    torch.manual_seed(3)
    _, module, listened = run(tmp_path, 5, listener := Listener())
    assert isinstance(module._step, LightningStep)
    assert len(listener.heard) == 20
    assert_close(listened, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.slow  # compiling takes seconds
@pytest.mark.parametrize(("updates_per_step", "callbacks"), [(1, []), (5, []), (5, [Listener()])])
def test_a_compiled_learner_learns_the_same(tmp_path: Path, updates_per_step: int, callbacks: list[Callback]) -> None:
    torch.manual_seed(3)
    _, _, expected = run(tmp_path, updates_per_step, *callbacks)
    torch._dynamo.utils.counters.clear()
    torch.manual_seed(3)
    _, _, weights = run(tmp_path, updates_per_step, *callbacks, compile=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert not torch._dynamo.utils.counters["graph_break"]
    assert_close(weights, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("network", [GRU, Transformer])
def test_a_network_that_remembers_compiles_as_far_as_it_can(tmp_path: Path, network: type[Network]) -> None:
    def weights(compile: bool) -> Tensor:
        torch.manual_seed(3)
        sampler = SequenceSampler(length=4, prioritized=True, burn_in=1)
        data = {"env_id": "seqrl/NBack-v0", "batch_size": 8, "capacity": 400, "sampler": sampler}
        model = {"network": network, "double": True, "updates_per_step": 5, "compile": compile}
        _, module, _ = fit(tmp_path, data, model, {"warmup_env_steps": 60, "updates_per_collect": 5}, max_steps=20)
        return torch.cat([p.detach().flatten() for p in module.policy_net.parameters()])  # type: ignore[union-attr]

    assert_close(weights(True), weights(False), rtol=1e-3, atol=1e-3)


def test_a_checkpoint_within_a_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"checkpoint.every_n_train_steps is 7; it must be a multiple of .* 5"):
        run(tmp_path, 5, ModelCheckpoint(tmp_path, every_n_train_steps=7))


@pytest.mark.parametrize("max_steps", [1, 7, 10])
def test_max_steps_is_exact(tmp_path: Path, max_steps: int) -> None:
    assert run(tmp_path, 5, max_steps=max_steps)[0].global_step == max_steps


def test_the_scheduler_is_stepped_with_every_update(tmp_path: Path) -> None:
    trainer, *_ = run(tmp_path, 5, max_steps=9)
    expected = 1e-3 * (1 / 3 + (1 - 1 / 3) * 9 / 15)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(expected)
