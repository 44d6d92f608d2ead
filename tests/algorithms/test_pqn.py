"""PQN with networks that remember."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch.testing import assert_close

from seqrl_lightning.algorithms import PQN
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.networks import GRU, LSTM, MinGRU
from seqrl_lightning.replay import RolloutSampler
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
    return lambda *shapes: network(*shapes, hidden_size=8)


class Diary(Callback):
    """What the agent's network made of each row, and what it makes of the rollouts when they are learned from."""

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
        rows = torch.stack([self.of_rows[row] for row in range(newest - LENGTH, newest)])
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
