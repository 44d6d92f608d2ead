"""PQN with networks that remember."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from torch.testing import assert_close

from seqrl_lightning.algorithms import PQN
from seqrl_lightning.batches import Minibatch, Update
from seqrl_lightning.callbacks import LastCheckpoint
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.networks import GRU, LSTM, MLP, MinGRU, Table
from seqrl_lightning.replay import RingBuffer, RolloutSampler
from tests.running import fit

NUM_ENVS, LENGTH = 4, 12
DATA: dict[str, Any] = {
    "env_id": "seqrl/SequenceDistractor-v0",
    "env_kwargs": {"objects": "ABC", "max_errors": 3},  # short episodes of all lengths
    "num_envs": NUM_ENVS,
    "capacity": 400,
    "batch_size": 2 * LENGTH,
}
AGENT: dict[str, Any] = {
    "warmup_env_steps": 48,
    "updates_per_collect": 2,
    "env_steps_per_update": 24.0,
    "epsilon": ConstantEpsilon(0.5),
}


def small(network: Any) -> Any:
    size = {"hidden_sizes": (8,)} if network is MLP else {"hidden_size": 8}
    return lambda *shapes: network(*shapes, **size)


class Diary(Callback):
    """Compare the network's values of each row, when the agent acted, with those when its rollout is learned from."""

    def __init__(self) -> None:
        self.of_rows: dict[int, torch.Tensor] = {}
        self.compared = 0

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        act_values = pl_module.act_values

        def remembering(*args: Any) -> Any:
            q_values, state = act_values(*args)
            self.of_rows[trainer.datamodule.ring.num_added] = torch.from_numpy(q_values)
            return q_values, state

        pl_module.act_values = remembering

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        assert batch.network_state is None or not batch.network_state.is_inference()
        newest = trainer.datamodule.ring.num_added
        rows = torch.stack([self.of_rows[row] for row in range(newest - len(batch.action_batch), newest)])
        with torch.no_grad():
            q_values, _ = pl_module.policy_net(batch.state_batch, batch.network_state, batch.is_first[:-1])
        assert_close(q_values, rows, atol=1e-5, rtol=1e-4)
        self.compared += 1


@pytest.mark.parametrize("network", [GRU, LSTM, MinGRU])
def test_a_rollout_is_read_as_the_agent_read_it_step_by_step(tmp_path: Path, network: Any) -> None:
    torch.manual_seed(0)
    diary = Diary()
    data = {**DATA, "sampler": RolloutSampler(LENGTH)}
    # A learning rate of next to nothing: the weights are those that the agent acted by since the run's start.
    model = {"network": small(network), "epochs": 1, "learning_rate": 1e-12}
    fit(tmp_path, data, model, AGENT, module_class=PQN, callbacks=[diary], max_steps=20)
    assert diary.compared == 10


class Learned(Callback):
    """Counts the env steps that are learned from."""

    env_steps = 0

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        fix_targets = pl_module.fix_targets

        def counting(batch: Any) -> Any:
            self.env_steps += int((batch.weight_batch > 0).sum())
            assert self.env_steps == trainer.datamodule.progress.env_steps
            return fix_targets(batch)

        pl_module.fix_targets = counting


@pytest.mark.parametrize("length", [1, 3, 10])
def test_every_env_step_is_learned_from(tmp_path: Path, length: int) -> None:
    data = {
        "env_id": "tests/Short-v0",
        "env_kwargs": {"length": length},
        "num_envs": 4,
        "batch_size": 32,
        "capacity": 300,
        "sampler": RolloutSampler(32),
    }
    learned = Learned()
    _, _, datamodule = fit(tmp_path, data, {"epochs": 2}, {}, module_class=PQN, callbacks=[learned], max_steps=160)
    assert datamodule.progress.env_steps == learned.env_steps >= 20 * 128


class StopsByItself(Callback):
    """Ends the run at the end of its second epoch, as EarlyStopping does."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.should_stop = trainer.current_epoch == 1


class TimeIsUp(Callback):
    """Ends the run after a batch."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        trainer.should_stop = trainer.global_step >= 30


SHORT: dict[str, Any] = {
    "env_id": "tests/Short-v0",
    "num_envs": 4,
    "batch_size": 16,
    "capacity": 100,
    "batches_per_epoch": 7,
}
ENDS: dict[str, tuple[dict[str, Any], dict[str, Any], list[Callback]]] = {
    "env steps": ({"max_env_steps": 640}, {}, []),
    "env steps, in mid-rollout": ({"max_env_steps": 650}, {}, []),
    "episodes": ({"max_episodes": 50}, {}, []),
    "episodes of the first rollout": ({"max_episodes": 3}, {}, []),
    "updates": ({}, {"max_steps": 34}, []),
    "updates, in mid-rollout": ({}, {"max_steps": 33}, []),
    "epochs": ({}, {"max_epochs": 2}, []),
    "early stopping": ({}, {"max_steps": 1000}, [StopsByItself()]),
    "time": ({}, {"max_steps": 1000}, [TimeIsUp()]),
}


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(("length", "network"), [(1, MLP), (10, MinGRU)])
@pytest.mark.parametrize("end", ENDS)
def test_whatever_ends_a_run_it_has_learned_from_every_env_step(
    tmp_path: Path, length: int, end: str, network: Any
) -> None:
    agent, flags, callbacks = ENDS[end]
    learned = Learned()

    def go(folder: str, ckpt_path: str | None = None, **more: Any) -> Any:
        data = {**SHORT, "env_kwargs": {"length": length}, "sampler": RolloutSampler(8)}
        model = {"epochs": 1, "network": small(network)}
        settings = {"module_class": PQN, "callbacks": [learned, LastCheckpoint(), *callbacks], "ckpt_path": ckpt_path}
        trainer, *_ = fit(tmp_path / folder, data, model, {**agent, **more}, **settings, **flags)
        assert learned.env_steps == trainer.datamodule.progress.env_steps
        return trainer

    trainer = go("run")
    assert learned.env_steps >= agent.get("max_env_steps", 1)
    path = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
    if agent or callbacks:
        again = go("again", path)
        assert again.global_step in (0, trainer.global_step)  # a run that is over stays as it is
    if callbacks:  # nothing to raise
        return
    if agent:
        more = {name: budget + 64 for name, budget in agent.items()}
    else:
        flags, more = {"max_steps": trainer.global_step + 4}, {}
    before = learned.env_steps
    longer = go("longer", path, **more)  # what was cut off is learned from once, too
    assert longer.global_step > trainer.global_step
    assert learned.env_steps >= before + 32


def test_a_rollout_that_is_cut_short_has_its_share_of_updates(tmp_path: Path) -> None:
    data = {**SHORT, "env_kwargs": {"length": 1}, "batch_size": 4, "sampler": RolloutSampler(8)}  # 8 an epoch
    model = {"epochs": 2}
    trainer, *_ = fit(tmp_path, data, model, {"max_episodes": 32 + 12}, module_class=PQN)
    assert trainer.global_step == 16 + 6


class Noting(PQN):
    """Notes the targets that it learns from."""

    learned: tuple[float, ...] = ()

    def optimize_model(self, batch: Minibatch) -> Update:
        self.learned += tuple(batch.targets[0].tolist())
        return super().optimize_model(batch)


def test_each_epoch_has_all_transitions_in_an_order_of_its_own(tmp_path: Path) -> None:
    data = {**DATA, "sampler": RolloutSampler(LENGTH)}
    _, pqn, _ = fit(tmp_path, data, {"network": small(MLP), "epochs": 2}, {}, module_class=Noting, max_steps=4)
    assert isinstance(pqn, Noting)
    half = len(pqn.learned) // 2
    one, other = pqn.learned[:half], pqn.learned[half:]
    assert sorted(one) == sorted(other)
    assert one != other


def test_a_process_that_has_no_share_in_a_rollout_changes_nothing() -> None:
    pqn = PQN((1,), 2)
    ring = RingBuffer(8, 1, (1,), "float32")
    ring.restart(np.zeros((1, 1), np.float32))
    ring.add(np.array([0]), np.ones(1), np.array([False]), np.array([False]), np.ones((1, 1), np.float32))
    batch = ring.latest_rows(1)
    minibatch = pqn.fix_targets(batch._replace(weight_batch=batch.weight_batch * 0))
    pqn.optimize_model(minibatch)["loss"].backward()
    assert all((p.grad == 0).all() for p in pqn.policy_net.parameters())


def test_rescaled_targets_by_hand() -> None:
    """With lambda = 0: h(r + gamma h^-1(max Q)), and h(r) where the episode terminates."""
    pqn = PQN((2,), 2, network=Table, gamma=0.5, lambda_=0.0, value_rescaling=0.5)
    weight: Any = pqn.policy_net.table.weight  # type: ignore[union-attr]
    weight.data.copy_(torch.tensor([[0.0, 2.5], [0.0, 1.0]]))  # in state 1 the best is worth h^-1(2.5) = 3
    ring = RingBuffer(8, 1, (2,), "float32")
    states, no = np.eye(2, dtype=np.float32), np.array([False])
    ring.restart(states[[0]])
    ring.add(np.array([0]), np.array([1.5]), no, no, states[[1]])
    ring.add(np.array([1]), np.array([-8.0]), ~no, no, states[[0]])
    minibatch = pqn.fix_targets(ring.latest_rows(2))
    assert_close(minibatch.targets, torch.tensor([[1.0 + 0.5 * 3.0, -2.0 - 0.5 * 8.0]]))  # h(1.5 + 1.5) and h(-8)


def test_updates_per_step_is_no_setting_of_it() -> None:
    with pytest.raises(TypeError, match="updates_per_step"):
        PQN((2,), 2, updates_per_step=2)  # type: ignore[call-arg]
    assert "updates_per_step" not in PQN((2,), 2).hparams
