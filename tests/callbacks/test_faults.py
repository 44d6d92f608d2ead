"""Environments that break while the agent is in them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from seqrl_lightning.callbacks import AgentCallback
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.replay import PrioritizedSampler
from seqrl_lightning.types import RunError
from tests.running import fit
from tests.tasks import Diary


class Batches(Callback):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(batch)


def run(
    folder: Path,
    how: str,
    mode: str | None,
    num_envs: int,
    times: int = 1,
    data: dict[str, Any] | None = None,
    **agent: Any,
) -> tuple[ReplayDataModule, list[Any]]:
    broken = folder / "broken"
    broken.write_text("")
    settings = {
        "env_id": "tests/Breaking-v0",
        "env_kwargs": {"how": how, "broken": str(broken), "alone": num_envs == 1, "times": times},
        "num_envs": num_envs,
        "vectorization_mode": mode,
        "batch_size": 4,
        "capacity": 200,
        **(data or {}),
    }
    batches = Batches()
    always = {"warmup_env_steps": 10, "env_steps_per_update": 4, "epsilon": ConstantEpsilon(1.0)}
    _, _, datamodule = fit(folder, settings, {}, {**always, **agent}, callbacks=[batches], max_steps=20)
    return datamodule, batches.seen


CASES = [("raises", None, 1), ("raises", "sync", 3), ("raises", "async", 2), ("killed", "async", 2)]
CASES += [(how, None, 1) for how in ("NaN", "infinite", "outside", "shape", "reward")]
CASES += [("NaN", "sync", 3), ("reward", "sync", 3)]


@pytest.mark.parametrize(("how", "mode", "num_envs"), CASES)
def test_a_broken_environment_ends_the_run_and_says_which(
    how: str, mode: str | None, num_envs: int, tmp_path: Path
) -> None:
    with pytest.raises(RunError) as raised:
        run(tmp_path, how, mode, num_envs)
    message = str(raised.value)
    says = {
        "raises": "ZeroDivisionError: a bug of the task",
        "killed": "its process ended with status -9",
        "NaN": "observation[1] is nan; it must be finite",
        "infinite": "observation[1] is inf; it must be finite",
        "outside": "observation[1] is 200000.0; the space allows [-1.0, 100000.0]",
        "shape": "observation.shape is (2,); it must be (3,), as its space says",
        "reward": "the reward is nan",
    }
    assert message.startswith("tests/Breaking-v0: ")
    assert says[how] in message
    assert "\n" not in message
    if how != "shape":
        seed = int(message.split("(seed ")[1].split(")")[0])
        assert num_envs == 1 or seed % 2 == 1  # the environment that breaks
        assert "in step 3 of its episode" in message  # 4 steps, an autoreset, 2 steps


@pytest.mark.parametrize(("how", "mode", "num_envs"), CASES)
def test_the_run_goes_on_without_the_broken_episode(how: str, mode: str | None, num_envs: int, tmp_path: Path) -> None:
    datamodule, batches = run(tmp_path, how, mode, num_envs, on_env_error="restart")
    assert datamodule.progress.env_faults == 1
    for batch in batches:
        state, action, reward, next_state = (column.squeeze(0).numpy() for column in batch[:4])
        for i in range(len(state)):
            env, episode, t = state[i]
            assert next_state[i].tolist() == [env, episode, t + 1]
            assert reward[i] == Diary.reward(state[i], action[i])
    ring = datamodule.ring
    used = ring.num_full_rows
    assert ring.num_slots < 200  # nothing was overwritten
    is_dropped = ring.is_final[:used] & np.roll(ring.is_final[:used], -1, 0)
    assert is_dropped.any()
    # What was forgotten has been taken anew: as many transitions as updates ask for.
    assert (~ring.is_final[:used]).sum() >= 10 + 20 * 4


def test_bounds_that_a_task_does_not_keep_can_be_left_unchecked(tmp_path: Path) -> None:
    datamodule, _ = run(tmp_path, "outside", None, 1, check_bounds=False)
    assert datamodule.progress.env_faults == 0
    assert datamodule.ring.observation.max() == 2e5
    with pytest.raises(RunError, match=r"observation\[1\] is nan"):
        run(tmp_path, "NaN", None, 1, check_bounds=False)


def test_what_is_forgotten_is_sampled_no_more(tmp_path: Path) -> None:
    datamodule, batches = run(
        tmp_path, "raises", "sync", 3, times=3, data={"sampler": PrioritizedSampler(n_step=3)}, on_env_error="restart"
    )
    assert datamodule.progress.env_faults >= 2
    ring = datamodule.ring
    slots = np.concatenate([batch.slot_batch.numpy().reshape(-1) for batch in batches[-3:]])
    assert not ring.is_final_at(slots).any()


def test_too_many_faults_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"that was more than agent\.max_env_restarts = 2"):
        run(tmp_path, "raises", None, 1, times=100, on_env_error="restart", max_env_restarts=2)
    assert len((tmp_path / "broken").read_text()) == 3


def test_overlapping_steps_survive_a_killed_process(tmp_path: Path) -> None:
    datamodule, _ = run(tmp_path, "killed", "async", 2, on_env_error="restart", overlap=True)
    assert datamodule.progress.env_faults == 1
    assert torch.isfinite(torch.from_numpy(datamodule.ring.reward)).all()


def evaluate(folder: Path, how: str, mode: str | None = None, num_envs: int = 1, **agent: Any) -> Any:
    """Trains for two epochs, each with an evaluation whose episodes break."""
    data = {"env_id": "tests/Shaky-v0", "env_kwargs": {"how": how}, "vectorization_mode": mode, "batches_per_epoch": 5}
    data |= {"batch_size": 4, "capacity": 200, "eval_episodes": num_envs}
    return fit(folder, data, {}, {"warmup_env_steps": 10, **agent}, max_epochs=2)


EVALUATED = [("raises", None, 1), ("NaN", None, 1), ("raises", "sync", 3), ("NaN", "async", 2), ("killed", "async", 2)]


@pytest.mark.parametrize(("how", "mode", "num_envs"), EVALUATED)
def test_an_environment_that_breaks_in_an_evaluation_ends_the_run(
    how: str, mode: str | None, num_envs: int, tmp_path: Path
) -> None:
    with pytest.raises(RunError) as raised:
        evaluate(tmp_path, how, mode, num_envs)
    message = str(raised.value)
    assert message.startswith("tests/Shaky-v0, evaluated: environment ")
    assert "(seed 100000" in message
    assert "broke in step 3 of its episode" in message
    says = {"raises": "ZeroDivisionError: a bug", "NaN": "observation[0] is nan", "killed": "ended with status -9"}
    assert says[how] in message


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(("how", "mode", "num_envs"), EVALUATED)
def test_an_evaluation_goes_on_with_other_episodes(how: str, mode: str | None, num_envs: int, tmp_path: Path) -> None:
    trainer, _, datamodule = evaluate(tmp_path, how, mode, num_envs, on_env_error="restart")
    assert float(trainer.callback_metrics["val/return_mean"]) == 9.0
    assert AgentCallback.of(trainer).progress.env_faults == 2
    assert datamodule.progress.env_faults >= 1  # the last one is published with the next env steps
    with pytest.raises(RunError, match=r"more than agent\.max_env_restarts = 1"):
        evaluate(tmp_path, how, mode, num_envs, on_env_error="restart", max_env_restarts=1)
