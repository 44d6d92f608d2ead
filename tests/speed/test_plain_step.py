"""Updates without Lightning's hooks, and compiled ones, are the same updates."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.testing import assert_close

from seqrl_lightning import speed
from seqrl_lightning.algorithms import DQN
from seqrl_lightning.algorithms.updates import LightningStep
from seqrl_lightning.networks import GRU, LSTM, Network, Transformer
from seqrl_lightning.replay import SequenceSampler
from seqrl_lightning.speed import PlainStep
from seqrl_lightning.speed.fused_adam import FusedAdamStep
from tests.algorithms.test_updates import run
from tests.running import fit

pytestmark = pytest.mark.skipif(not speed.is_enabled(), reason="fast paths are switched off")


class Witness(Callback):
    """Keeps how updates are made."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.step = pl_module._step


class Listener(Witness):
    """Counts what Lightning tells it of every update."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_before_optimizer_step(self, *args: Any) -> None:
        self.heard.append("step")


def test_lightnings_own_way_is_taken_when_somebody_listens_and_gives_the_same(tmp_path: Path) -> None:
    torch.manual_seed(3)
    _, _, plain = run(tmp_path, 5, witness := Witness())
    assert isinstance(witness.step, PlainStep)
    assert isinstance(witness.step.step, FusedAdamStep)
    torch.manual_seed(3)
    _, _, listened = run(tmp_path, 5, listener := Listener())
    assert isinstance(listener.step, LightningStep)
    assert len(listener.heard) == 20
    assert_close(listened, plain, rtol=1e-4, atol=1e-6)


def test_switched_off_it_is_lightnings_own_way_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQRL_FAST_PATHS", "0")
    run(tmp_path, 5, witness := Witness())
    assert isinstance(witness.step, LightningStep)
    assert DQN((3,), 2)._numpy_forward() is None


class Halved(DQN):
    """Overrides a hook that the plain step leaves out."""

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        (0.5 * loss).backward()


def test_a_learner_with_a_hook_of_its_own_is_not_taken_for_one_without(tmp_path: Path) -> None:
    data = {"env_id": "seqrl/Sequence-v0", "batch_size": 8, "capacity": 100}
    witness = Witness()
    model, agent = {"updates_per_step": 2}, {"warmup_env_steps": 20}
    fit(tmp_path, data, model, agent, module_class=Halved, callbacks=[witness], max_steps=2)
    assert isinstance(witness.step, LightningStep)


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
@pytest.mark.parametrize("network", [GRU, LSTM, Transformer])
def test_a_network_that_remembers_compiles_as_far_as_it_can(tmp_path: Path, network: type[Network]) -> None:
    def weights(compile: bool) -> Tensor:
        torch.manual_seed(3)
        sampler = SequenceSampler(length=4, prioritized=True, burn_in=1)
        data = {"env_id": "seqrl/NBack-v0", "batch_size": 8, "capacity": 400, "sampler": sampler}
        model = {"network": network, "double": True, "updates_per_step": 5, "compile": compile}
        _, module, _ = fit(tmp_path, data, model, {"warmup_env_steps": 60, "updates_per_collect": 5}, max_steps=20)
        return torch.cat([p.detach().flatten() for p in module.policy_net.parameters()])  # type: ignore[union-attr]

    assert_close(weights(True), weights(False), rtol=1e-3, atol=1e-3)
