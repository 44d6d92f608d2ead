"""Runs of environments that are written for Gymnasium, not for this package."""

import csv
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from seqrl_lightning.algorithms import C51, DQN, DiscreteSAC
from seqrl_lightning.callbacks import EnvStepLogger, LastCheckpoint
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.networks import Table
from seqrl_lightning.policy import load_policy
from seqrl_lightning.types import ConfigurationError
from tests.envs import lights  # noqa: F401  (registers its tasks)
from tests.running import fit, seqrl

TINY = ("--data.batch_size=8", "--data.eval_episodes=1", "--agent.warmup_env_steps=20", "--model.network=Table")


class Handover(gym.Env[Any, Any]):
    """In A action 1 is forbidden and all else leads to B, where the episode is cut off; other episodes start in B,
    where action 1 earns 10. No mask comes with an episode's last observation: there nothing is forbidden.
    """

    observation_space = gym.spaces.Discrete(2)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.is_in_a = bool(self.np_random.integers(2))
        return int(not self.is_in_a), {"action_mask": [1, 0, 1] if self.is_in_a else [1, 1, 1]}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert not (self.is_in_a and action == 1)
        return (1, 0.0, False, True, {}) if self.is_in_a else (1, 10.0 * (action == 1), True, False, {})


gym.register("tests/Handover-v0", Handover)


@pytest.mark.slow
@pytest.mark.parametrize("num_envs", [1, 2])
def test_values_bootstrap_under_the_mask_of_the_state_they_are_of(tmp_path: Path, num_envs: int) -> None:
    data = {"env_id": "tests/Handover-v0", "num_envs": num_envs, "capacity": 200, "batch_size": 32}
    model = {"network": Table, "gamma": 0.5, "learning_rate": 0.03}
    agent = {"warmup_env_steps": 100, "epsilon": ConstantEpsilon(0.5)}
    _, module, _ = fit(tmp_path, data, model, agent, {"tau": 0.1}, max_steps=700)
    values, _ = module.act_values(np.eye(2, dtype=np.float32))  # type: ignore[operator]
    np.testing.assert_allclose([values[0, 0], values[0, 2], values[1, 1]], [5, 5, 10], atol=0.5)


class Told(Handover):
    """The same with its masks in the observation."""

    observation_space: gym.Space[Any] = gym.spaces.Dict(place=gym.spaces.Discrete(2), allowed=gym.spaces.MultiBinary(3))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        place, info = super().reset(seed=seed)
        return {"place": place, "allowed": np.array(info["action_mask"], np.int8)}, {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        place, *outcome, info = super().step(action)
        return ({"place": place, "allowed": np.zeros(3, np.int8)}, *outcome, info)  # type: ignore[return-value]


gym.register("tests/Told-v0", Told)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("num_envs", [1, 2])
def test_masks_inside_observations_are_kept_to(tmp_path: Path, num_envs: int) -> None:
    wrapper = '--data.wrappers=[{"class_path": "MaskInObservation", "init_args": {"key": "allowed"}}]'
    words = ("--data.env_id=tests/Told-v0", wrapper, f"--data.num_envs={num_envs}", "--trainer.max_steps=60", *TINY)
    status, _, err = seqrl("fit", *words, f"--trainer.default_root_dir={tmp_path}")
    assert status == 0, err  # it raises when a forbidden action is taken


class Rude(gym.Env[Any, Any]):
    """An environment whose optional attributes raise, or end the program."""

    observation_space = gym.spaces.Discrete(2)
    action_space = gym.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return 0, {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self.t % 2, 1.0, self.t == 4, False, {}

    def render(self) -> Any:
        raise SystemExit(0)

    def close(self) -> None:
        raise SystemExit(0)


gym.register("tests/Rude-v0", Rude)


def test_optional_parts_of_the_api_never_change_a_training_that_is_done(tmp_path: Path) -> None:
    status, _, err = seqrl(
        "fit", "--data.env_id=tests/Rude-v0", *TINY, f"--trainer.default_root_dir={tmp_path}", "--trainer.max_steps=20"
    )
    assert status == 0, err
    policy = load_policy(next(tmp_path.rglob("last.ckpt")))
    assert policy.act([1, 0]) in (0, 1)


class Quits(Rude):
    """Ends the program in the middle."""

    num_steps = 0

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.num_steps += 1
        if self.num_steps == 30:
            raise SystemExit(0)
        return super().step(action)


gym.register("tests/Quits-v0", Quits)


def test_an_environment_that_ends_the_program_is_no_success(tmp_path: Path) -> None:
    status, _, err = seqrl(
        "fit", "--data.env_id=tests/Quits-v0", *TINY, f"--trainer.default_root_dir={tmp_path}", "--trainer.max_steps=20"
    )
    assert status == 1
    assert "tests/Quits-v0: environment 0" in err
    assert "it called sys.exit(0)" in err


def test_a_prediction_that_is_broken_off_leaves_no_table(tmp_path: Path) -> None:
    words = ("--data.env_id=tests/Quits-v0", "--data.eval_episodes=50", "--data.eval_num_envs=1")
    status, _, err = seqrl("predict", "--ckpt_path=untrained", *words, f"--trainer.default_root_dir={tmp_path}")
    assert status == 1, err
    assert not list(tmp_path.rglob("predictions.csv*"))


@pytest.mark.parametrize("learner", [DQN, DiscreteSAC])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCar-v0"])
def test_a_table_of_states_reads_no_numbers(tmp_path: Path, env_id: str, learner: type[DQN]) -> None:
    must_be = "one that reads numbers, like MLP: the observations are no one-hot states"
    line = f"model.network is 'Table'; it must be {must_be}"
    with pytest.raises(ConfigurationError, match=f"^{line}$"):
        fit(tmp_path, {"env_id": env_id}, {"network": Table}, {}, module_class=learner, max_steps=20)


def test_a_table_reads_the_one_hot_states_of_a_box(tmp_path: Path) -> None:
    data = {"env_id": "seqrl/Sequence-v0", "batch_size": 8, "eval_episodes": 1}
    trainer, *_ = fit(tmp_path, data, {"network": Table}, {"warmup_env_steps": 20}, max_steps=3)
    assert trainer.global_step == 3


def test_an_evaluation_has_an_end(tmp_path: Path) -> None:
    """A greedy policy that walks against a wall never ends its episode in CliffWalking."""
    data = {"env_id": "CliffWalking-v1", "batch_size": 8, "batches_per_epoch": 20, "eval_max_steps": 50}
    with pytest.warns(UserWarning, match="1 of 1 evaluation episodes hadn't ended after data.eval_max_steps = 50"):
        trainer, *_ = fit(tmp_path, data, {"network": Table}, {"warmup_env_steps": 20}, max_steps=20)
    assert float(trainer.callback_metrics["val/episodes_cut"]) == 1
    assert float(trainer.callback_metrics["val/episode_length_mean"]) == 50
    words = ("--data.env_id=CliffWalking-v1", "--data.eval_max_steps=5", "--data.eval_episodes=2")
    with pytest.warns(UserWarning, match="2 of 2 evaluation episodes hadn't ended after data.eval_max_steps = 5"):
        assert seqrl("predict", "--ckpt_path=untrained", *words, f"--trainer.default_root_dir={tmp_path}")[0] == 0


class Numbers(gym.Env[Any, Any]):
    """Numbers and bools as NumPy's comparisons and random generators return them, in its state, too."""

    observation_space = gym.spaces.Box(0, 9, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = np.int64(0)
        self.goal = self.np_random.integers(2, 6)
        return np.array([self.t], np.float32), {}

    def step(self, action: int) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.t += 1
        return np.array([self.t], np.float32), np.float32(1), self.t == self.goal, np.bool_(False), {}

    def state_dict(self) -> dict[str, Any]:
        return {"t": self.t, "goal": self.goal}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.t, self.goal = np.int64(state["t"]), np.int64(state["goal"])


gym.register("tests/Numbers-v0", Numbers)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("tests/Numbers-v0", {}),
        *(("tests/VectorLights-v0", {"mode": mode}) for mode in ("NextStep", "SameStep", "Disabled")),
    ],
)
def test_runs_of_ones_own_tasks_resume_bit_for_bit(
    env_id: str, kwargs: dict[str, Any], num_envs: int, tmp_path: Path
) -> None:
    def run(folder: Path, steps: int, ckpt_path: Path | None = None) -> Any:
        torch.manual_seed(1)
        data = {"env_id": env_id, "env_kwargs": kwargs, "batch_size": 8, "capacity": 100, "num_envs": num_envs}
        path = None if ckpt_path is None else str(ckpt_path)
        agent = {"warmup_env_steps": 20}
        _, module, _ = fit(folder, data, {}, agent, callbacks=[LastCheckpoint()], max_steps=steps, ckpt_path=path)
        return module.state_dict()

    whole = run(tmp_path / "whole", 30)
    for half in (15, 17):
        run(tmp_path / f"half{half}", half)
        resumed = run(tmp_path / f"rest{half}", 30, tmp_path / f"half{half}" / "checkpoints" / "last.ckpt")
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)


class Cue(gym.Env[Any, Any]):
    """Tells the right action with every observation but the last one of an episode (four steps)."""

    observation_space = gym.spaces.Discrete(2)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self.look()

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward, self.t = float(action == self.right), self.t + 1
        observation, info = self.look()
        return observation, reward, self.t == 4, False, info

    def look(self) -> tuple[Any, dict[str, Any]]:
        self.right = int(self.np_random.integers(2))
        return self.right, {"correct_action": self.right} if self.t < 4 else {}


gym.register("tests/Cue-v0", Cue)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("num_envs", [1, 2])
def test_every_choice_is_a_row(tmp_path: Path, num_envs: int) -> None:
    words = ("--data.env_id=tests/Cue-v0", f"--data.num_envs={num_envs}", "--agent.max_env_steps=120", *TINY)
    status, _, err = seqrl("fit", *words, f"--trainer.default_root_dir={tmp_path}")
    assert status == 0, err
    rows = list(csv.DictReader(next(tmp_path.rglob("trials.csv")).open()))
    assert len(rows) == 120
    assert all((row["action"] == row["correct_action"]) == (float(row["reward"]) == 1) for row in rows)
    assert all(row["block"] == "" for row in rows)


class Deep(gym.Env[Any, Any]):
    """Every episode earns -1000, in one step."""

    observation_space = gym.spaces.Discrete(2)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return 0, {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return 1, -1000.0, True, False, {}


gym.register("tests/Deep-v0", Deep)


@pytest.mark.parametrize(("v_min", "is_told"), [(-50.0, True), (-1000.0, False)])
def test_c51_tells_when_returns_leave_its_support(tmp_path: Path, v_min: float, is_told: bool) -> None:
    data = {"env_id": "tests/Deep-v0", "batch_size": 8}
    model = {"v_min": v_min, "v_max": 10.0}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fit(
            tmp_path,
            data,
            model,
            {"warmup_env_steps": 20},
            module_class=C51,  # type: ignore[arg-type]  # a learner like DQN
            callbacks=[EnvStepLogger()],
            max_steps=10,
            log_every_n_steps=5,
        )
    messages = [str(warning.message) for warning in told if "lie outside model.v_min" in str(warning.message)]
    assert len(messages) == is_told
    assert not is_told or messages[0].startswith("100% of the last update's targets")


def test_a_run_that_cannot_reach_its_last_block_says_so(tmp_path: Path) -> None:
    blocks = [{"sequence": "ABC", "episodes": 50}, {"sequence": "reversed"}]
    data = {"env_id": "seqrl/Sequence-v0", "env_kwargs": {"objects": "ABC", "blocks": blocks}, "batch_size": 8}
    agent = {"warmup_env_steps": 20}
    with pytest.warns(UserWarning, match=r"agent\.max_episodes = 50 ends the run in block 0 of 2"):
        fit(tmp_path, data, {}, {**agent, "max_episodes": 50, "epsilon": ConstantEpsilon(1.0)}, max_steps=20)
    with pytest.warns(UserWarning, match=r"The run ended in block 0 of 2, counted from 0, after \d+ episodes"):
        fit(tmp_path, data, {}, agent, max_steps=20)


class ThreeSteps(gym.Env[Any, Any]):
    """Three steps an episode, two episodes in block 0."""

    observation_space = gym.spaces.Discrete(2)
    action_space = gym.spaces.Discrete(2)
    num_blocks = 2
    next_block: int | None = None
    block = 0

    def block_of(self, finished_episodes: int) -> int:
        return int(finished_episodes >= 2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t, self.block = 0, self.next_block or 0
        return 0, {"block": self.block}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return 1, 1.0, self.t == 3, False, {"block": self.block}


gym.register("tests/ThreeSteps-v0", ThreeSteps)


@pytest.mark.parametrize(
    ("num_envs", "max_env_steps", "is_reached"),
    [(1, 6, False), (1, 7, True), (1, 9, True), (2, 6, False), (2, 8, True), (2, 12, True)],
)
@pytest.mark.filterwarnings("ignore::UserWarning:lightning")
def test_a_last_block_in_which_no_step_was_taken_was_not_reached(
    tmp_path: Path, num_envs: int, max_env_steps: int, is_reached: bool
) -> None:
    data = {"env_id": "tests/ThreeSteps-v0", "num_envs": num_envs, "batch_size": 2, "capacity": 20}
    agent = {"warmup_env_steps": 2, "max_env_steps": max_env_steps}
    lines = []
    for resumed in (False, True):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            last = str(next(tmp_path.rglob("last.ckpt"))) if resumed else None
            fit(tmp_path, data, {"network": Table}, agent, callbacks=[LastCheckpoint()], max_steps=50, ckpt_path=last)
        lines += [str(warning.message) for warning in told if "The run ended in block" in str(warning.message)]
    expected = "The run ended in block 0 of 2, counted from 0, after 2 episodes"
    assert [line.split(":")[0] for line in lines] == ([] if is_reached else [expected] * 2)


def test_a_datamodule_without_an_agent_is_an_error(tmp_path: Path) -> None:
    data = ReplayDataModule("CartPole-v1")
    trainer = Trainer(default_root_dir=tmp_path, max_steps=2, logger=False, enable_progress_bar=False, barebones=True)
    with pytest.raises(ConfigurationError, match=r"trainer\.callbacks has no AgentCallback"):
        trainer.fit(DQN(data.obs_shape, data.n_actions), datamodule=data)


def test_a_scheduler_that_needs_a_measure_is_refused(tmp_path: Path) -> None:
    model = {"lr_scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau}
    with pytest.raises(ConfigurationError, match=r"model\.lr_scheduler is 'ReduceLROnPlateau'; it must be one that"):
        fit(tmp_path, {"env_id": "CartPole-v1", "batch_size": 8}, model, {"warmup_env_steps": 20}, max_steps=2)


class Drawn(gym.Env[Any, Any]):
    """Pictures that are none, at the end of a training."""

    observation_space = gym.spaces.Discrete(2)
    action_space = gym.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}
    letters, num_positions, optimal_return = 5, "3", "high"  # words with other meanings

    def __init__(self, picture: Any = None, render_mode: str | None = None) -> None:
        self.picture, self.render_mode, self.num_pictures = picture, render_mode, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return 0, {"correct_action": 1}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self.t % 2, 1.0, self.t == 4, False, {"correct_action": 1}

    def render(self) -> Any:
        self.num_pictures += 1
        if self.picture == "late" and self.num_pictures > 1:
            raise ZeroDivisionError
        return np.zeros((8, 8, 3), np.uint8) if self.picture == "late" else self.picture

    def close(self) -> None:
        raise ZeroDivisionError


gym.register("tests/Drawn-v0", Drawn)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("picture", [None, "late", "text", [1, 2]])
def test_pictures_that_are_none_never_end_a_training_that_is_done(tmp_path: Path, picture: Any) -> None:
    words = ("--data.env_id=tests/Drawn-v0", f"--data.env_kwargs={{picture: {picture or 'null'}}}", *TINY)
    status, out, err = seqrl("fit", *words, f"--trainer.default_root_dir={tmp_path}", "--trainer.max_steps=20")
    assert status == 0, err
    assert "Run folder:" in out


class Kept(Numbers):
    """A state that no checkpoint can hold, or that ends the program."""

    def __init__(self, how: str) -> None:
        self.how = how

    def state_dict(self) -> dict[str, Any]:
        if self.how == "exits":
            raise SystemExit(0)
        return {"seen": {1, 2} if self.how == "set" else 1 / 0}


gym.register("tests/Kept-v0", Kept)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    ("how", "line"),
    [
        (
            "set",
            "tests/Kept-v0: state_dict() holds {1, 2}; it must hold tensors, arrays, numbers, texts and collections",
        ),
        ("raises", "tests/Kept-v0: state_dict() fails: ZeroDivisionError: division by zero"),
        ("exits", "tests/Kept-v0: state_dict() fails: it called sys.exit(0)"),
    ],
)
def test_a_state_that_cannot_be_saved_is_refused_before_training(tmp_path: Path, how: str, line: str) -> None:
    words = ("--data.env_id=tests/Kept-v0", f"--data.env_kwargs={{how: {how}}}", TINY[0], *TINY[1:3])
    status, _, err = seqrl("fit", *words, f"--trainer.default_root_dir={tmp_path}", "--trainer.max_steps=20")
    assert status == 1
    assert line in err


@pytest.mark.slow
def test_another_vectorization_is_refused_before_anything_is_overwritten(tmp_path: Path) -> None:
    words = ("--data.env_id=CartPole-v1", "--data.num_envs=2", "--data.batch_size=8", "--agent.warmup_env_steps=20")
    words = (*words, "--data.eval_episodes=1", f"--trainer.default_root_dir={tmp_path}", "--trainer.max_steps=10")
    assert seqrl("fit", *words)[0] == 0
    config = next(tmp_path.rglob("config.yaml"))
    before = config.read_text()
    status, _, err = seqrl("fit", *words, "--ckpt_path=last", "--data.vectorization_mode=sync")
    assert status == 2
    assert "data.vectorization_mode is 'sync'; it must be the checkpoint's None" in err
    assert config.read_text() == before
