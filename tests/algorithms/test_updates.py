"""Several updates in one training step are the same updates."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.testing import assert_close

from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.types import ConfigurationError
from tests.running import fit


def run(
    tmp_path: Path,
    updates_per_step: int,
    *callbacks: Callback,
    max_steps: int = 20,
    compile: bool = False,
    **flags: Any,
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
        **flags,
    )
    weights = [*module.policy_net.parameters(), *module.target_net.parameters()]  # type: ignore[union-attr]
    return trainer, module, torch.cat([p.detach().flatten() for p in weights])


def test_five_updates_a_step_are_five_updates(tmp_path: Path) -> None:
    torch.manual_seed(3)
    _, _, one_by_one = run(tmp_path, 1)
    torch.manual_seed(3)
    trainer, _, bunched = run(tmp_path, 5)
    assert trainer.global_step == 20
    assert trainer.fit_loop.epoch_loop.total_batch_idx == 3  # four training steps
    assert_close(bunched, one_by_one, rtol=1e-4, atol=1e-6)


def test_in_half_precision_each_update_is_from_the_weights_after_the_last(tmp_path: Path) -> None:
    """Autocast would keep its copies of the weights for a whole training step."""
    torch.manual_seed(3)
    _, _, one_by_one = run(tmp_path, 1, precision="bf16-mixed")
    torch.manual_seed(3)
    _, _, bunched = run(tmp_path, 5, precision="bf16-mixed")
    assert_close(bunched, one_by_one, rtol=1e-4, atol=1e-6)


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
