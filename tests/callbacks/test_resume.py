"""Resuming a run from its checkpoint."""

import contextlib
import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from seqrl_lightning.algorithms import C51, DQN, IQN, PQN, SARSA, DiscreteSAC, ExpectedSARSA
from seqrl_lightning.callbacks import AgentCallback, EnvStepLogger, LastCheckpoint, LearningMetrics, TrialWriter
from seqrl_lightning.callbacks.run import run_callbacks
from seqrl_lightning.collect import RND, CountBonus
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.envs import PreviousActionReward
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.networks import GRU, LSTM, MLP, Composed, NoisyLinear, Transformer
from seqrl_lightning.replay import LatestSampler, PrioritizedSampler, RolloutSampler, SequenceSampler
from seqrl_lightning.types import ConfigurationError
from tests.running import assert_identical, fit

BLOCKS = [{"sequence": "ABCD", "episodes": 4}, {"sequence": "reversed"}]


def run(
    folder: Path,
    max_steps: int,
    ckpt_path: Path | None = None,
    module_class: type[DQN] = DQN,
    model: dict[str, Any] | None = None,
    agent: dict[str, Any] | None = None,
    **data: Any,
) -> tuple[Any, Tensor]:
    settings = {
        "env_id": "seqrl/SequenceDistractor-v0",
        "env_kwargs": {"objects": "ABCD", "blocks": BLOCKS},
        "batch_size": 8,
        "capacity": 60,
        "batches_per_epoch": 25,
    }
    torch.manual_seed(3)
    trainer, module, _ = fit(
        folder,
        {**settings, **data},
        model or {},
        {"warmup_env_steps": 16, "env_steps_per_update": 2, **(agent or {})},
        module_class=module_class,
        callbacks=[LastCheckpoint()],
        max_steps=max_steps,
        ckpt_path=None if ckpt_path is None else str(ckpt_path),
    )
    weights = [p.detach().flatten() for net in (module.policy_net, module.target_net) for p in net.parameters()]  # type: ignore[union-attr]
    return trainer, torch.cat(weights)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    "data",
    [
        {"num_envs": 1},
        {"num_envs": 3},
        {"wrappers": [PreviousActionReward]},
        {"env_id": "seqrl/NBack-v0", "env_kwargs": {"trials": 4}, "num_envs": 3},
    ],
)
def test_it_ends_as_if_it_had_never_stopped(tmp_path: Path, data: dict[str, Any]) -> None:
    whole, expected = run(tmp_path / "whole", 100, **data)
    run(tmp_path / "half", 50, **data)
    resumed, weights = run(tmp_path / "rest", 100, tmp_path / "half" / "checkpoints" / "last.ckpt", **data)
    assert torch.equal(weights, expected)
    assert AgentCallback.of(whole).progress == AgentCallback.of(resumed).progress == whole.datamodule.progress
    assert whole.datamodule.progress == resumed.datamodule.progress
    for name in ("observation", "action", "reward", "is_final"):
        np.testing.assert_array_equal(getattr(whole.datamodule.ring, name), getattr(resumed.datamodule.ring, name))


PQN_SETTINGS: tuple[dict[str, Any], dict[str, Any]] = (
    {"warmup_env_steps": 24, "updates_per_collect": 6, "env_steps_per_update": 4.0},
    {"num_envs": 3, "sampler": RolloutSampler(8), "batch_size": 8, "capacity": 63, "batches_per_epoch": 5},
)
ALGORITHMS: dict[str, tuple[type[DQN], dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "prioritized n-step": (DQN, {"munchausen_alpha": 0.9}, {}, {"sampler": PrioritizedSampler(n_step=3)}),
    "R2D2": (
        DQN,
        {"network": GRU, "double": True, "value_rescaling": 1e-3},
        {},
        {"num_envs": 2, "sampler": SequenceSampler(8, 4, 2, prioritized=True)},
    ),
    "PQN": (PQN, {"epochs": 2}, *PQN_SETTINGS),
    "SARSA": (SARSA, {}, {}, {"sampler": LatestSampler()}),
    "Expected SARSA": (ExpectedSARSA, {}, {}, {}),
    "C51": (C51, {}, {}, {}),
    "IQN": (IQN, {"double": True}, {}, {"sampler": PrioritizedSampler()}),
    "parts": (
        DQN,
        {"network": Composed},
        {},
        {"env_id": "seqrl/PictureCue-v0", "env_kwargs": {"size": 5}, "num_envs": 2, "frame_stack": 2},
    ),
    "pictures in a memory": (
        DQN,
        {"network": functools.partial(Composed, network=functools.partial(LSTM, hidden_size=8)), "double": True},
        {},
        {
            "env_id": "seqrl/PictureRecall-v0",
            "env_kwargs": {"size": 5, "delay": 3},
            "num_envs": 2,
            "sampler": SequenceSampler(6, 3, 2, prioritized=True),
        },
    ),
    "parts in a memory": (
        DQN,
        {"network": functools.partial(Composed, network=GRU)},
        {},
        {
            "env_id": "seqrl/PictureCue-v0",
            "env_kwargs": {"size": 5},
            "wrappers": [PreviousActionReward],
            "sampler": SequenceSampler(6, 3, 2, prioritized=True),
        },
    ),
    "normalized": (
        DQN,
        {"normalize_observations": True, "normalize_rewards": True, "value_rescaling": 1e-3},
        {},
        {"num_envs": 3, "sampler": PrioritizedSampler(n_step=3)},
    ),
    "normalized parts": (
        DQN,
        {"network": Composed, "normalize_observations": True, "normalize_rewards": True},
        {},
        {"env_id": "seqrl/PictureCue-v0", "env_kwargs": {"size": 5}, "num_envs": 2, "frame_stack": 2},
    ),
    "count bonus": (DQN, {"normalize_rewards": True}, {"exploration_bonus": CountBonus()}, {"num_envs": 3}),
    "RND": (DQN, {"network": GRU}, {"exploration_bonus": RND(batch_size=4)}, {"sampler": SequenceSampler(8, 4)}),
    "discrete SAC": (DiscreteSAC, {}, {"epsilon": ConstantEpsilon(0.0)}, {}),
    "normalized PQN": (PQN, {"epochs": 2, "normalize_observations": True, "normalize_rewards": True}, *PQN_SETTINGS),
    "recurrent PQN": (PQN, {"epochs": 2, "network": GRU}, *PQN_SETTINGS),
}


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_ends_as_if_it_had_never_stopped(tmp_path: Path, name: str) -> None:
    module_class, model, agent, data = ALGORITHMS[name]

    def go(folder: str, max_steps: int, ckpt_path: Path | None = None) -> tuple[Any, Tensor]:
        fresh = {**data, **({"sampler": copy.deepcopy(data["sampler"])} if "sampler" in data else {})}
        return run(tmp_path / folder, max_steps, ckpt_path, module_class, model, agent, **fresh)

    whole, expected = go("whole", 60)
    go("half", 30)
    torch.rand(17)  # whatever else draws from torch's stream
    resumed, weights = go("rest", 60, tmp_path / "half" / "checkpoints" / "last.ckpt")
    assert torch.equal(weights, expected)
    assert_identical(dict(whole.model.normalization.named_buffers()), dict(resumed.model.normalization.named_buffers()))
    assert whole.datamodule.progress == resumed.datamodule.progress
    states = [trainer.datamodule.sampler.state_dict() for trainer in (whole, resumed)]
    torch.testing.assert_close(states[0], states[1], rtol=0.0, atol=0.0)


def test_without_the_replay_memory_it_warms_up_anew(tmp_path: Path) -> None:
    run(tmp_path / "half", 50, save_replay=False)
    checkpoint = tmp_path / "half" / "checkpoints" / "last.ckpt"
    sidecars = [torch.load(path, weights_only=True) for path in checkpoint.parent.glob("*.replay")]
    assert sidecars
    assert not any("ring" in sidecar["ReplayDataModule"] for sidecar in sidecars)
    resumed, _ = run(tmp_path / "rest", 60, checkpoint, save_replay=False)
    assert resumed.global_step == 60
    assert AgentCallback.of(resumed).progress.env_steps == pytest.approx(16 + 2 * 60 + 16, abs=2)


def test_an_environment_that_cant_be_set_back_starts_anew_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = {"env_id": "tests/Diary-v0", "env_kwargs": {}}
    run(tmp_path / "half", 50, **unknown)
    with caplog.at_level("INFO"):
        resumed, _ = run(tmp_path / "rest", 60, tmp_path / "half" / "checkpoints" / "last.ckpt", **unknown)
    assert "Not bitwise: tests/Diary-v0 can't be set back" in caplog.text
    assert resumed.global_step == 60


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run from Python."""
    folder = tmp_path_factory.mktemp("half")
    run(folder, 20, sampler=PrioritizedSampler(n_step=3))
    return folder / "checkpoints" / "last.ckpt"


def test_only_a_run_that_continues_speaks_of_its_replay_memory(
    tmp_path: Path, half: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = ReplayDataModule("seqrl/SequenceDistractor-v0", env_kwargs={"objects": "ABCD", "blocks": BLOCKS})
    module = DQN(data.obs_shape, data.n_actions)
    trainer = Trainer(default_root_dir=tmp_path, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with caplog.at_level("INFO"):
        trainer.test(module, data, ckpt_path=str(half), verbose=False)
    assert "Loaded model weights" in caplog.text
    assert "replay memory" not in caplog.text


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"num_envs": 2}, "data.num_envs is 2; it must be the checkpoint's 1"),
        ({"capacity": 70}, "data.capacity is 70; it must be the checkpoint's 60"),
        ({"env_kwargs": {"objects": "ABCE"}}, "data.env_kwargs.* is .*; it must be the checkpoint's"),
        ({"frame_stack": 2}, "data.frame_stack is 2; it must be the checkpoint's 1"),
        ({"vectorization_mode": "sync"}, "data.vectorization_mode is 'sync'; it must be the checkpoint's None"),
        ({"sampler": PrioritizedSampler(n_step=2)}, "data.sampler.n_step is 2; it must be the checkpoint's 3"),
        ({"sampler": LatestSampler()}, "data.sampler is 'seqrl_lightning.replay.samplers.LatestSampler'; it must be"),
    ],
)
def test_a_run_from_python_refuses_what_would_mix_two_experiments(
    tmp_path: Path, half: Path, data: dict[str, Any], line: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{line}"):
        run(tmp_path, 30, half, **{"sampler": PrioritizedSampler(n_step=3), **data})


@pytest.mark.parametrize(
    ("model", "agent", "line"),
    [
        ({"normalize_rewards": True}, {}, "model.normalize_rewards is True; it must be the checkpoint's False"),
        ({}, {"exploration_bonus": CountBonus()}, "agent.exploration_bonus is 'CountBonus'; it must be the one that"),
    ],
)
def test_a_run_refuses_other_statistics_and_another_bonus(
    tmp_path: Path, half: Path, model: dict[str, Any], agent: dict[str, Any], line: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{line}"):
        run(tmp_path, 30, half, DQN, model, agent, sampler=PrioritizedSampler(n_step=3))


def test_a_run_from_python_tells_what_changed(tmp_path: Path, half: Path, caplog: pytest.LogCaptureFixture) -> None:
    same = {"sampler": PrioritizedSampler(n_step=3)}
    with caplog.at_level("INFO"):
        run(tmp_path / "same", 25, half, **same)
    assert "is used" not in caplog.text
    model = {"gamma": 0.5, "learning_rate": 0.1}
    agent = {"epsilon": ConstantEpsilon(0.2), "max_episodes": 900}
    with caplog.at_level("INFO"):
        trainer, _ = run(tmp_path / "other", 25, half, DQN, model, agent, batch_size=4, **same)
    for line in (
        "data.batch_size: 4 is used from here on, not 8 as before",
        "model.gamma: 0.5 is used from here on, not 0.99 as before",
        "model.learning_rate: the checkpoint's 0.001 is used, not 0.1",
        "agent.max_episodes: 900 is used from here on, not None as before",
        "agent.epsilon: 'seqrl_lightning.exploration.ConstantEpsilon' is used from here on, not 'seqrl",
        "agent.epsilon.epsilon: 0.2 is used from here on, not None as before",
    ):
        assert line in caplog.text
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.001


class RowsAtCheckpoint(Callback):
    """The number of episodes, and of rows in the file, right after each epoch's checkpoint."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        rows = (Path(trainer.log_dir) / "episodes.csv").read_text().splitlines()[1:]
        self.seen.append((AgentCallback.of(trainer).progress.episodes, len(rows)))


def test_the_file_of_episodes_is_complete_at_every_checkpoint(tmp_path: Path) -> None:
    seen = RowsAtCheckpoint()
    data = {"env_id": "tests/Diary-v0", "batch_size": 8, "capacity": 60, "batches_per_epoch": 10}
    callbacks: list[Callback] = [EnvStepLogger(), seen, LastCheckpoint()]
    agent = {"warmup_env_steps": 16}
    fit(tmp_path, data, {}, agent, callbacks=callbacks, logger=True, max_steps=40, log_every_n_steps=1000)
    assert len(seen.seen) == 4
    assert seen.seen[-1][0] > seen.seen[1][0] > 0
    assert all(rows == episodes for episodes, rows in seen.seen[1:])


class Killed(BaseException):
    """The program ends here."""


class Kill(Callback):
    """Ends the program right after its last checkpoint."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        raise Killed


class EndAfter(Callback):
    """Ends the run in mid-epoch."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        trainer.should_stop |= trainer.global_step == 13


ENDING: dict[str, Callable[[], Callback]] = {
    "early stopping": functools.partial(EarlyStopping, "val/return_mean", mode="max", stopping_threshold=-1.0),
    "a callback": EndAfter,
}
BUDGETS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "updates": ({}, {"max_steps": 13}),
    "episodes": ({"max_episodes": 9}, {}),
    "env steps": ({"max_env_steps": 60}, {}),
    "epochs": ({}, {"max_epochs": 2}),
    "time": ({}, {"max_time": {"milliseconds": 1}}),
    "early stopping": ({}, {"max_steps": 100}),
    "a callback": ({}, {"max_steps": 100}),
}


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("save_replay", [True, False])
@pytest.mark.parametrize("budget", BUDGETS)
def test_a_run_that_is_over_stays_as_it_is(tmp_path: Path, budget: str, save_replay: bool) -> None:
    agent, flags = BUDGETS[budget]
    data = {"env_id": "seqrl/Sequence-v0", "batch_size": 8, "capacity": 60, "batches_per_epoch": 10}

    def go(name: str, kill: bool = False) -> Any:
        logger = TensorBoardLogger(tmp_path, name, version=0, default_hp_metric=False)
        folder = Path(logger.log_dir)
        last = folder / "checkpoints" / "last.ckpt"
        callbacks: list[Callback] = [EnvStepLogger(), TrialWriter(), LearningMetrics()]
        ckpt_path = str(last) if last.exists() else None
        torch.manual_seed(3)
        settings = {**agent, "warmup_env_steps": 16}
        callbacks += [ENDING[budget]()] if budget in ENDING else []
        callbacks += [Kill()] if kill else []
        with contextlib.suppress(Killed):
            fit(
                tmp_path, {**data, "save_replay": save_replay}, {}, settings, logger=logger, ckpt_path=ckpt_path,
                callbacks=[*callbacks, LastCheckpoint()], log_every_n_steps=4, **flags
            )  # fmt: skip
        events = EventAccumulator(str(folder)).Reload()
        tags = [tag for tag in events.Tags()["scalars"] if save_replay or not tag.endswith("buffer_fill")]
        curves = {(tag, event.step): event.value for tag in tags for event in events.Scalars(tag)}
        tables = [path.read_text() for path in sorted(folder.glob("*.csv"))]
        return torch.load(last, weights_only=True)["state_dict"], curves, tables

    whole = go("whole")
    assert_identical(go("whole"), whole)
    assert_identical(go("whole"), whole)
    if budget != "time":
        go("killed", kill=True)
        for _, curves, _ in (killed := go("killed"), whole):
            for point in [point for point in curves if point[0].endswith("_per_second")]:
                del curves[point]  # which are measured
        assert_identical(killed, whole)


@pytest.mark.parametrize("stops", [False, True])
def test_a_raised_budget_goes_on_unless_a_callback_ended_the_run(tmp_path: Path, stops: bool) -> None:
    """The callback's present settings don't matter. Here it ends the run in the epoch that uses up the budget."""
    data = {"env_id": "seqrl/Sequence-v0", "batch_size": 8, "capacity": 60, "batches_per_epoch": 100}
    last = tmp_path / "checkpoints" / "last.ckpt"
    updates = []
    for max_env_steps, threshold in ((40, -1.0 if stops else None), (60, None), (80, 99.0)):
        stopping = EarlyStopping("val/return_mean", mode="max", patience=99, stopping_threshold=threshold)
        trainer, _, _ = fit(
            tmp_path, data, {}, {"warmup_env_steps": 16, "max_env_steps": max_env_steps},
            callbacks=[stopping, LastCheckpoint()], ckpt_path=str(last) if last.exists() else None,
        )  # fmt: skip
        updates.append(trainer.global_step)
    assert updates == ([24, 24, 24] if stops else [24, 44, 64])


def test_fewer_epochs_than_are_finished_are_refused(tmp_path: Path) -> None:
    """Lightning would refuse them too late: after the files are written."""
    data = {"env_id": "seqrl/Sequence-v0", "batch_size": 8, "capacity": 60, "batches_per_epoch": 4}
    settings: dict[str, Any] = {"callbacks": [LastCheckpoint()]}
    fit(tmp_path, data, {}, {"warmup_env_steps": 16}, max_epochs=2, **settings)
    last = str(tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(ConfigurationError, match=r"^trainer\.max_epochs is 1; it must be at least 2"):
        fit(tmp_path, data, {}, {"warmup_env_steps": 16}, max_epochs=1, ckpt_path=last, **settings)


STACKS: dict[str, Any] = {"env_id": "CartPole-v1", "env_kwargs": None, "frame_stack": 3}
MORE: dict[str, tuple[type[DQN], dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "IQN with priorities and noise": (
        IQN,
        {"network": functools.partial(MLP, hidden_sizes=[8], linear=NoisyLinear)},
        {},
        {"sampler": PrioritizedSampler(n_step=2)},
    ),
    "Transformer": (
        DQN,
        {"network": functools.partial(Transformer, hidden_size=8, num_layers=1, num_heads=2, context_length=8)},
        {},
        {"num_envs": 2, "sampler": SequenceSampler(8, 4, 2)},
    ),
    "frame stack": (DQN, {}, {}, {"env_id": "CartPole-v1", "env_kwargs": None, "frame_stack": 3}),
    "frame stacks side by side": (
        DQN,
        {},
        {},
        {"env_id": "CartPole-v1", "env_kwargs": None, "frame_stack": 3, "num_envs": 2},
    ),
    "memory-mapped": (DQN, {}, {}, {"mmap_dir": "memory"}),
    "overlap": (DQN, {}, {"overlap": True}, {"num_envs": 2, "vectorization_mode": "async"}),
    "scheduler": (DQN, {"lr_scheduler": functools.partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9)}, {}, {}),
    "compile": (DQN, {"compile": True}, {}, {}),
    "updates by hand": (DQN, {"updates_per_step": 5}, {"updates_per_collect": 5}, {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_every_part_ends_as_if_it_had_never_stopped(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    module_class, model, agent, data = MORE[name]
    data = {**data, **({"mmap_dir": str(tmp_path)} if "mmap_dir" in data else {})}

    def go(folder: str, max_steps: int, ckpt_path: Path | None = None) -> tuple[Any, Tensor]:
        return run(tmp_path / folder, max_steps, ckpt_path, module_class, model, agent, **copy.deepcopy(data))

    whole, expected = go("whole", 60)
    go("half", 30)
    with caplog.at_level("INFO"):
        resumed, weights = go("rest", 60, tmp_path / "half" / "checkpoints" / "last.ckpt")
    assert "Not bitwise" not in caplog.text
    assert torch.equal(weights, expected)
    assert whole.datamodule.progress == resumed.datamodule.progress
    assert_identical(whole.datamodule.ring.state_dict(), resumed.datamodule.ring.state_dict())
    assert_identical(whole.optimizers[0].state_dict(), resumed.optimizers[0].state_dict())


def test_an_evaluation_from_a_checkpoint_leaves_nothing_to_restore(tmp_path: Path) -> None:
    """A learner that was tested with another run's checkpoint is then trained with its own optimizer."""
    data = {"env_id": "CartPole-v1", "batch_size": 8, "capacity": 100}
    trainer, _, _ = fit(tmp_path, data, {}, {"warmup_env_steps": 16}, max_steps=2)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    datamodule = ReplayDataModule(**data, eval_episodes=1, batches_per_epoch=10)
    optimizer = functools.partial(torch.optim.AdamW, weight_decay=0.1)
    learner = DQN(datamodule.obs_shape, datamodule.n_actions, optimizer=optimizer)
    flags: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    Trainer(**flags).test(learner, datamodule, ckpt_path=tmp_path / "run.ckpt", weights_only=True, verbose=False)
    agent = AgentCallback(warmup_env_steps=16)
    trainer = Trainer(callbacks=run_callbacks(agent, progress_bar=False, checkpointing=False), max_steps=2, **flags)
    trainer.fit(learner, datamodule)
    assert trainer.optimizers[0].param_groups[0]["weight_decay"] == 0.1
    assert trainer.global_step == 2
