"""The table of trials."""

import csv
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from seqrl_lightning.callbacks import AgentCallback, EnvStepLogger, LastCheckpoint, ProbeWriter, TrialWriter
from seqrl_lightning.callbacks.trials import as_json
from seqrl_lightning.collect import Episode
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.policy import Policy
from seqrl_lightning.recipe import Recipe
from seqrl_lightning.recording import write_played
from seqrl_lightning.trust import Trust
from tests.running import fit

BLOCKS = [{"sequence": "ABCD", "episodes": 4}, {"sequence": "reversed"}]
DATA: dict[str, Any] = {
    "env_id": "seqrl/SequenceDistractor-v0",
    "env_kwargs": {"objects": "ABCD", "blocks": BLOCKS},
    "batch_size": 8,
    "capacity": 60,
    "batches_per_epoch": 10,
}


def run(folder: Path, callbacks: list[Callback], **settings: Any) -> tuple[Any, Any]:
    torch.manual_seed(3)
    settings = {"max_steps": 60, "log_every_n_steps": 7, "num_envs": 3, "logger": True, **settings}
    data = {**DATA, "num_envs": settings.pop("num_envs"), **settings.pop("data", {})}
    agent = {"warmup_env_steps": 16, "env_steps_per_update": 2}
    trainer, module, _ = fit(folder, data, {}, agent, callbacks=callbacks, **settings)
    return trainer, module


def read(trainer: Any, name: str = "trials") -> list[dict[str, str]]:
    with (Path(trainer.log_dir) / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


class Query(gym.Env[np.int64, np.int64]):
    """States the right action, 1, in the last of an episode's six steps only."""

    observation_space = gym.spaces.Discrete(6)
    action_space = gym.spaces.Discrete(2)
    t = 0

    def reset(self, **kwargs: Any) -> tuple[np.int64, dict[str, Any]]:
        super().reset(**kwargs)
        self.t = 0
        return np.int64(0), {}

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        reward = float(self.t == 5 and action == 1)
        self.t += 1
        return np.int64(min(self.t, 5)), reward, self.t == 6, False, self.info()

    def info(self) -> dict[str, Any]:
        return {"correct_action": 1} if self.t == 5 else {}

    def state_dict(self) -> dict[str, Any]:
        return {"t": self.t}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.t = state_dict["t"]


class LateQuery(Query):
    """States nothing in its first nine episodes."""

    num_episodes = 0

    def reset(self, **kwargs: Any) -> tuple[np.int64, dict[str, Any]]:
        self.num_episodes += 1
        return super().reset(**kwargs)

    def info(self) -> dict[str, Any]:
        return super().info() if self.num_episodes > 9 else {}

    def state_dict(self) -> dict[str, Any]:
        return {"t": self.t, "num_episodes": self.num_episodes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.num_episodes = state_dict["num_episodes"]


gym.register("tests/Query-v0", Query)
gym.register("tests/LateQuery-v0", LateQuery)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize("env_id", ["tests/Query-v0", "tests/LateQuery-v0"])
def test_rows_are_of_whole_episodes_where_the_right_action_is_stated_late(
    tmp_path: Path, env_id: str, num_envs: int
) -> None:
    settings: Any = {"num_envs": num_envs, "data": {"env_id": env_id, "env_kwargs": {}}}
    is_known = env_id == "tests/Query-v0"

    def callbacks() -> list[Callback]:
        return [EnvStepLogger(), TrialWriter(), ProbeWriter(), LastCheckpoint()]

    whole, _ = run(tmp_path / "whole", callbacks(), **settings)
    half, _ = run(tmp_path / "half", callbacks(), max_steps=30, **settings)
    last = str(Path(half.log_dir) / "checkpoints" / "last.ckpt")
    settings["logger"] = TensorBoardLogger(tmp_path / "half", version=0, default_hp_metric=False)
    resumed, _ = run(tmp_path / "half", callbacks(), ckpt_path=last, **settings)
    for trainer in (whole, resumed):
        trials, probes = read(trainer), read(trainer, "probes") if is_known else []
        unrecorded = 0 if is_known else num_envs * 10 * 6  # without the episode of the first statement
        assert len(trials) == AgentCallback.of(trainer).progress.env_steps - unrecorded
        assert len(probes) == 6 * 6 * is_known  # six evaluations of one episode
        for env in range(num_envs):
            rows = [row for row in trials if row["env"] == str(env)]
            assert [(int(row["episode"]), int(row["trial"])) for row in rows] == [
                divmod(i, 6) for i in range(len(rows))
            ]
        assert [int(row["trial"]) for row in probes] == [*range(6)] * 6 * is_known
        for row in trials + probes:
            assert row["correct_action"] == ("1" if row["trial"] == "5" else "-1")
    for name in ("trials.csv", *["probes.csv"] * is_known):
        assert (Path(whole.log_dir) / name).read_bytes() == (Path(resumed.log_dir) / name).read_bytes()


@pytest.mark.parametrize("num_envs", [1, 3])
def test_its_rows_are_the_episodes_choice_by_choice(tmp_path: Path, num_envs: int) -> None:
    trainer, _ = run(tmp_path, [EnvStepLogger(), TrialWriter()], num_envs=num_envs)
    trials, episodes = read(trainer), read(trainer, "episodes")
    assert len(episodes) > 5
    numbers = dict.fromkeys(map(str, range(num_envs)), -1)
    for episode in episodes:
        numbers[episode["env"]] += 1
        of_it = [t for t in trials if (t["env"], t["episode"]) == (episode["env"], str(numbers[episode["env"]]))]
        assert [int(trial["trial"]) for trial in of_it] == list(range(int(episode["episode_length"])))
        assert sum(float(trial["reward"]) for trial in of_it) == float(episode["episode_return"])
        assert {trial["block"] for trial in of_it} == {episode["block"]}
        assert of_it[-1]["terminated"] == str(int(episode["terminated"] == "True"))
        assert not any(int(trial["terminated"]) or int(trial["truncated"]) for trial in of_it[:-1])
    assert all((float(t["reward"]) > 0) == (t["action"] == t["correct_action"]) for t in trials)
    assert len(trials) == AgentCallback.of(trainer).progress.env_steps
    assert trials[0]["state"] == "[1.0, 0.0, 0.0, 0.0, 0.0]"


def test_greedy_choices_are_those_of_the_values_beside_them(tmp_path: Path) -> None:
    trainer, _ = run(tmp_path, [TrialWriter()])
    greedy = [trial for trial in read(trainer) if trial["explored"] == "0"]
    assert greedy
    for trial in greedy:
        values = [float(trial[f"q_{action}"]) for action in range(5)]
        assert values[int(trial["action"])] == max(values)


def test_it_changes_nothing(tmp_path: Path) -> None:
    _, module = run(tmp_path / "with", [TrialWriter()])
    _, other = run(tmp_path / "without", [])
    for one, two in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.slow
def test_a_run_that_goes_on_has_the_same_rows(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole", [TrialWriter(), LastCheckpoint()])
    half, _ = run(tmp_path / "half", [TrialWriter(), LastCheckpoint()], max_steps=30)
    with (Path(half.log_dir) / "trials.csv").open("a") as file:
        file.write("9,9,9,half a row")  # a killed run leaves more in the file than its checkpoint knows of
    last = str(Path(half.log_dir) / "checkpoints" / "last.ckpt")
    same_folder = TensorBoardLogger(tmp_path / "half", version=0, default_hp_metric=False)
    goes_on, _ = run(tmp_path / "half", [TrialWriter(), LastCheckpoint()], ckpt_path=last, logger=same_folder)
    assert read(goes_on) == read(whole)


@pytest.mark.slow
def test_a_save_in_mid_interval_changes_no_rows_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the rows of the other process are those of this one; it counts fewer env steps."""

    class Save(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            for callback in trainer.callbacks:
                if batch_idx % 3 == 0 and isinstance(callback, EnvStepLogger | TrialWriter):
                    callback.state_dict()

    def of_two(batches: list[list[Episode]]) -> list[list[list[Episode]]]:
        return [batches, [[one._replace(env_steps=one.env_steps - 9) for one in batch] for batch in batches]]

    monkeypatch.setattr("seqrl_lightning.callbacks.trials.gather", lambda items: [items, items])
    monkeypatch.setattr("seqrl_lightning.callbacks.env_step_logger.gather", of_two)
    whole, _ = run(tmp_path / "whole", [EnvStepLogger(), TrialWriter()], num_envs=8)
    saved, _ = run(tmp_path / "saved", [EnvStepLogger(), TrialWriter(), Save()], num_envs=8)
    assert len(read(whole)) == 2 * AgentCallback.of(whole).progress.env_steps
    for name in ("trials", "episodes"):
        assert read(whole, name) == read(saved, name)


def test_other_tasks_have_none(tmp_path: Path) -> None:
    torch.manual_seed(3)
    data = {"env_id": "CartPole-v1", "batch_size": 8, "capacity": 60, "batches_per_epoch": 10}
    trainer, _, _ = fit(
        tmp_path, data, {}, {"warmup_env_steps": 16}, callbacks=[TrialWriter()], logger=True, max_steps=10
    )
    assert not (Path(trainer.log_dir) / "trials.csv").exists()


def test_a_policys_table_has_no_gap_before_the_right_action_is_stated(tmp_path: Path) -> None:
    _, module = run(tmp_path, [], data={"env_id": "tests/Query-v0", "env_kwargs": {}}, max_steps=4)
    recipe = Recipe("", {}, {"env_id": "tests/Query-v0", "env_kwargs": {}, "wrappers": []}, "float32")
    write_played(Policy(module, recipe, trust=Trust([__name__])), tmp_path / "played.csv", num_episodes=2)
    with (tmp_path / "played.csv").open() as file:
        assert [row["correct_action"] for row in csv.DictReader(file)] == ["-1", "-1", "-1", "-1", "-1", "1"] * 2


def test_parts_are_written_by_their_names() -> None:
    shape = PackedShape({"picture": ("uint8", (1, 2)), "numbers": ("float32", (2,))})
    row = shape.pack({"picture": np.array([[3, 4]]), "numbers": np.array([0.5, -1.0])})
    assert json.loads(as_json(row, shape)) == {"picture": [[3, 4]], "numbers": [0.5, -1.0]}
    assert json.loads(as_json(np.array([0.5, -1.0], np.float32), (2,))) == [0.5, -1.0]


@pytest.mark.parametrize("num_envs", [1, 3])
def test_probes_are_the_evaluations_under_the_present_rule(tmp_path: Path, num_envs: int) -> None:
    trainer, _ = run(tmp_path, [EnvStepLogger(), ProbeWriter()], num_envs=num_envs)
    probes, episodes = read(trainer, "probes"), read(trainer, "episodes")
    assert len({row["episode"] for row in probes}) == 6  # one of each evaluation
    for number in range(6):
        of_it = [row for row in probes if row["episode"] == str(number)]
        (env_steps,) = {int(row["env_steps"]) for row in of_it}
        assert [int(row["trial"]) for row in of_it] == list(range(len(of_it)))
        assert int(of_it[-1]["terminated"]) + int(of_it[-1]["truncated"]) == 1
        finished = sum(int(episode["env_steps"]) <= env_steps for episode in episodes)
        assert {row["block"] for row in of_it} == {str(int(finished >= 4))}  # BLOCKS
    result = float(trainer.callback_metrics["val/return_mean"])
    assert sum(float(row["reward"]) for row in of_it) == result
    assert all((float(row["reward"]) > 0) == (row["action"] == row["correct_action"]) for row in probes)


@pytest.mark.slow
def test_probes_change_nothing_and_resume(tmp_path: Path) -> None:
    _, without = run(tmp_path / "without", [])
    whole, module = run(tmp_path / "whole", [ProbeWriter(), LastCheckpoint()])
    for one, two in zip(module.parameters(), without.parameters(), strict=True):
        assert torch.equal(one, two)
    half, _ = run(tmp_path / "half", [ProbeWriter(), LastCheckpoint()], max_steps=30)
    with (Path(half.log_dir) / "probes.csv").open("a") as file:
        file.write("9,9,9,half a row")
    last = str(Path(half.log_dir) / "checkpoints" / "last.ckpt")
    same_folder = TensorBoardLogger(tmp_path / "half", version=0, default_hp_metric=False)
    goes_on, _ = run(tmp_path / "half", [ProbeWriter(), LastCheckpoint()], ckpt_path=last, logger=same_folder)
    assert read(goes_on, "probes") == read(whole, "probes")
