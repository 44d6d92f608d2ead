"""A run with one wrong value in its saved state is refused with a line that names the value, or ends the same.

Every value and collection of the checkpoint and its sidecar is replaced in turn, in runs that save a lot: a recurrent
network with priorities, a scheduler, statistics, wrappers, an exploration bonus, a task's own vectorized environments.
"""

import copy
import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from seqrl_lightning.algorithms import DQN, PQN
from seqrl_lightning.callbacks import AgentCallback
from seqrl_lightning.callbacks.run import run_callbacks
from seqrl_lightning.checkpoints.archive import read_archive
from seqrl_lightning.checkpoints.format import read_checkpoint, seal
from seqrl_lightning.collect import RND
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.files import checksum
from seqrl_lightning.networks import LSTM, MLP
from seqrl_lightning.replay import RolloutSampler, SequenceSampler
from seqrl_lightning.saved_state import StateError
from seqrl_lightning.types import ConfigurationError, RunError

Place = tuple[Any, ...]

SHORT: dict[str, Any] = {"batches_per_epoch": 4, "eval_episodes": 1}
SMALL = functools.partial(MLP, hidden_sizes=[6])
CYCLE = functools.partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.01, total_steps=100)


def recurrent() -> tuple[ReplayDataModule, Any, AgentCallback]:
    sampler = SequenceSampler(6, burn_in=1, prioritized=True, stored_state=True)
    data = ReplayDataModule("CartPole-v1", 2, capacity=100, batch_size=4, sampler=sampler, **SHORT)
    network = functools.partial(LSTM, hidden_size=4)
    return data, DQN(data.obs_shape, data.n_actions, network, lr_scheduler=CYCLE), AgentCallback(40)


def of_rollouts() -> tuple[ReplayDataModule, Any, AgentCallback]:
    data = ReplayDataModule(
        "seqrl/ContextSequence-v0", 4, capacity=200, batch_size=8, sampler=RolloutSampler(4), **SHORT
    )
    scheduler = torch.optim.lr_scheduler.LinearLR
    return data, PQN(data.obs_shape, data.n_actions, SMALL, lr_scheduler=scheduler), AgentCallback()


def wrapped() -> tuple[ReplayDataModule, Any, AgentCallback]:
    wrappers = [gym.wrappers.TimeAwareObservation]
    data = ReplayDataModule("CartPole-v1", capacity=100, batch_size=8, frame_stack=2, wrappers=wrappers, **SHORT)
    learner = DQN(data.obs_shape, data.n_actions, SMALL, normalize_observations=True, normalize_rewards=True)
    bonus = RND(network=SMALL, num_features=3, batch_size=7)
    return data, learner, AgentCallback(10, exploration_bonus=bonus)


RUNS = {maker.__name__: maker for maker in (recurrent, of_rollouts, wrapped)}

VALUES: tuple[Any, ...] = (
    None,
    "theirs",
    float("nan"),
    float("inf"),
    -1,
    10**30,
    "x" * 50_000,
    1.5,
    True,
    [],
    {"a": {"b": [1]}},
    {"class_path": "os.system", "init_args": {"command": "exit"}},
    torch.zeros(3, 7),
)
DROPPED = object()

# They are checked where they are read: by all commands (tests/test_trust.py), or not at all (in the sidecar again).
ELSEWHERE = ("state_dict", "hyper_parameters", "datamodule_hyper_parameters", "policy", "sidecars", "sampler")


def may_differ(place: Place, value: Any) -> bool:
    """Whether a run may go on otherwise: where nobody can know that something is missing, or where the run says so.

    A weight without a gradient so far has no entry in an optimizer's state, any number of rows may wait, and earlier
    versions saved no normalization. Without the environments' state a run starts new episodes, and without a replay
    memory it fills a new one. A learning rate that a scheduler changes, a random stream's position and whether an
    evaluation's callback stopped the run may be anything of their kind.
    """
    if place[-1] in ("lr", "max_lr", "stopped_by_callback") or place[-2:] == ("state", "state"):
        return True
    if place[-1] == "envs":
        return value is None or value is DROPPED
    if "waiting" in place:
        return value is DROPPED or value == []
    is_entry = place[-2] == "state" and not {"optimizer", "optimizer_states"}.isdisjoint(place)
    return value is DROPPED and (is_entry or place[-1] in ("ring", "normalization"))


def fit(run: str, folder: Path, updates: int, checkpoint: Path | None = None) -> Any:
    """The learner's weights and the run's counts, after so many updates."""
    torch.manual_seed(7)
    data, learner, agent = RUNS[run]()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    callbacks = run_callbacks(agent, progress_bar=False)
    trainer = Trainer(default_root_dir=folder, max_steps=updates, max_epochs=-1, callbacks=callbacks, **quiet)  # type: ignore[arg-type]
    trainer.fit(learner, data, ckpt_path=None if checkpoint is None else str(checkpoint))
    weights = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    return weights, data.progress, trainer.global_step, trainer.current_epoch


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """The ways to all values and collections; of long lists only the first ones."""
    if place:
        yield place
    items = (
        value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list | tuple) else ()
    )
    for key, item in items:
        yield from places(item, (*place, key))


class Saved:
    """A run's last checkpoint and its sidecar, to be changed and resumed."""

    def __init__(self, run: str, folder: Path) -> None:
        self.run, self.folder, self.clean = run, folder / "run", folder / "clean"
        fit(run, self.clean, 8)
        self.last = self.folder / "checkpoints/last.ckpt"
        contents = read_checkpoint(self.clean / "checkpoints/last.ckpt", mmap=False)
        (self.sidecar,) = contents["sidecars"]
        state = read_archive(self.clean / "checkpoints" / self.sidecar, mmap=False)
        self.parts = {"checkpoint": contents, "sidecar": state}
        again = {*ELSEWHERE, *state}  # what the sidecar holds replaces the checkpoint's
        self.places = [
            place
            for place in places(self.parts)
            if len(place) > 1 and not (place[0] == "checkpoint" and place[1] in again)
        ]
        self.result = self.resumed((), None)

    def resumed(self, place: Place, value: Any) -> Any:
        """The result of the run with another value in one place, or the line that refuses it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.clean, self.folder)
        self.last.with_name("last.previous.ckpt").unlink(missing_ok=True)
        parts = self._edited(place, value)
        torch.save(parts["sidecar"], self.last.with_name(self.sidecar))
        contents = {**parts["checkpoint"], "sidecars": {self.sidecar: checksum(self.last.with_name(self.sidecar))}}
        torch.save(seal(contents), self.last)
        try:
            return fit(self.run, self.folder, 12, self.last)
        except (ConfigurationError, RunError, StateError) as refusal:
            return str(refusal)

    def _edited(self, place: Place, value: Any) -> Any:
        """The parts with another value in one place; tuples become lists on the way there."""
        parts = copy.deepcopy(self.parts)
        if place:
            around: Any = parts
            for key in place[:-1]:
                if isinstance(around[key], tuple):
                    around[key] = list(around[key])
                around = around[key]
            if value is DROPPED:
                del around[place[-1]]
            else:
                around[place[-1]] = value
        return parts

    def check(self, place: Place, value: Any) -> None:
        found = self.resumed(place, value)
        if isinstance(found, str):
            assert "\n" not in found, (place, value, found)
            of_environment = " broke, after" in found  # an attribute that only the environment can judge
            assert of_environment or ("; it must be" in found and "Error:" not in found), (place, value, found)
        elif not may_differ(place, value):
            assert found[1:] == self.result[1:], (place, value)
            for name, tensor in self.result[0].items():
                torch.testing.assert_close(found[0][name], tensor, rtol=0.0, atol=0.0, msg=lambda _: f"{place} {value}")


@pytest.fixture(scope="module", params=RUNS)
def saved_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return Saved(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.slow_after(1)
def test_some_values_of_a_state_are_refused_in_a_line_or_change_nothing(saved_run: Saved) -> None:
    draw = np.random.default_rng(3)
    for number in draw.choice(len(saved_run.places), 4, replace=False):
        saved_run.check(saved_run.places[number], VALUES[draw.integers(len(VALUES))])


@pytest.mark.slow
def test_each_value_of_a_state_is_refused_in_a_line_or_changes_nothing(saved_run: Saved) -> None:
    """Each place has another value in its stead, in turn; each third one is left out instead."""
    for number, place in enumerate(saved_run.places):
        saved_run.check(place, DROPPED if number % 3 == 2 else VALUES[number % len(VALUES)])
