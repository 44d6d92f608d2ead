"""Exploration bonuses: what they are worth, where they are added, and that they resume."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqrl_lightning.callbacks import AgentCallback
from seqrl_lightning.callbacks.requirements import require_one_process
from seqrl_lightning.collect import RND, CountBonus, ExplorationBonus
from seqrl_lightning.networks import GRU, MLP
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.saved_state import StateError
from seqrl_lightning.types import Array, ConfigurationError, FloatArray
from tests.collect.collecting import make_collector
from tests.running import fit

STATES = np.eye(4, dtype=np.float32)


def begun(bonus: ExplorationBonus, obs_shape: Any = (4,), obs_dtype: str = "float32") -> Any:
    bonus.begin(obs_shape, obs_dtype, np.random.default_rng(3))
    return bonus


def test_a_count_is_of_all_environments_and_of_steps_only() -> None:
    bonus = begun(CountBonus(scale=2.0))
    always = np.ones(3, np.bool_)
    assert bonus(STATES[[0, 1, 1]], always) == pytest.approx([2.0, 2.0 / 2**0.5, 2.0 / 2**0.5])
    assert bonus(STATES[[1, 2, 3]], np.array([True, False, True])) == pytest.approx([2.0 / 3**0.5, 0.0, 2.0])
    assert bonus(STATES[[2, 3, 0]], always) == pytest.approx([2.0, 2.0 / 2**0.5, 2.0 / 2**0.5])


def test_every_different_state_has_a_count_of_its_own() -> None:
    """Of a thousand gridworlds' pictures; a float that is zero is zero, whatever its sign."""
    pictures = np.random.default_rng(0).integers(3, size=(1000, 5, 5)).astype(np.uint8)
    bonus = begun(CountBonus(), (5, 5), "uint8")
    assert (bonus.novelty(pictures) == 1.0).mean() > 0.998  # two of them share a place by chance
    assert bonus.novelty(pictures) == pytest.approx(2**-0.5, abs=0.2)
    bonus = begun(CountBonus())
    bonus.novelty(np.zeros((1, 4), np.float32))
    assert bonus.novelty(np.full((1, 4), -0.0, np.float32)) == pytest.approx([2**-0.5])


@pytest.mark.parametrize("parts", [False, True])
def test_what_is_not_whole_is_not_counted(parts: bool) -> None:
    shape = PackedShape({"numbers": ("float32", (2,)), "picture": ("uint8", (2, 2))})
    numbers = np.array([[1.0, 0.5]], np.float32)
    rows = shape.pack({"numbers": numbers, "picture": np.zeros((1, 2, 2), np.uint8)}) if parts else numbers
    bonus = begun(CountBonus(), *((shape, "uint8") if parts else ((2,), "float32")))
    line = r"agent\.exploration_bonus is 'CountBonus'; it must be RND: the observations aren't made of whole numbers"
    with pytest.raises(ConfigurationError, match=f"^{line}"):
        bonus.novelty(rows)


def test_what_random_networks_know_is_worth_less_than_what_is_new() -> None:
    bonus = begun(RND(learning_rate=1e-3, batch_size=8))
    for _ in range(400):
        bonus.novelty(STATES[[0, 1]] * 1000.0)  # of any scale
    known, new = bonus.novelty(np.stack([STATES[0], STATES[3]]) * 1000.0)
    assert new > 10 * known
    assert known >= 0


@pytest.mark.parametrize("make", [CountBonus, functools.partial(RND, batch_size=4)])
def test_it_goes_on_as_if_it_had_never_stopped(make: Any) -> None:
    bonus, other = begun(make()), begun(make())
    rng = np.random.default_rng(0)
    for _ in range(9):
        bonus.novelty(STATES[rng.integers(4, size=3)])
    other.load_state_dict(bonus.state_dict())
    for _ in range(9):
        states = STATES[rng.integers(4, size=3)]
        np.testing.assert_array_equal(bonus.novelty(states), other.novelty(states))


class Constant(ExplorationBonus):
    """The same everywhere."""

    def begin(self, obs_shape: tuple[int, ...], obs_dtype: str, rng: np.random.Generator) -> None:
        pass

    def novelty(self, observation: Array) -> FloatArray:
        return np.ones(len(observation))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"places": torch.tensor([2**20])}, "a place that the bonus counts in the checkpoint is "),
        ({"places": torch.tensor([-1])}, "a place that the bonus counts in the checkpoint is "),
        ({"counts": torch.zeros(5, dtype=torch.int64)}, "the bonus's counts in the checkpoint is "),
        ({"places": "text"}, "the places that the bonus counts in the checkpoint is 'text'"),
    ],
)
def test_counts_that_are_none_are_refused(changed: dict[str, Any], line: str) -> None:
    bonus = begun(CountBonus())
    bonus(STATES[:1], np.array([True]))
    with pytest.raises(StateError, match=line):
        bonus.load_state_dict({**bonus.state_dict(), **changed})


def test_a_prediction_whose_optimizer_would_write_elsewhere_is_refused() -> None:
    bonus = begun(RND(batch_size=1))
    bonus(STATES[:1], np.array([True]))
    state = bonus.state_dict()
    state["optimizer"]["param_groups"][0].update(fused=True, foreach=False)
    state["optimizer"]["state"][0]["exp_avg"] = torch.zeros(0)
    with pytest.raises(StateError, match="the bonus's optimizer"):
        bonus.load_state_dict(state)


def test_it_is_added_to_what_is_learned_from_and_to_no_return(tmp_path: Path) -> None:
    data = {"env_id": "tests/Short-v0", "env_kwargs": {"length": 5}, "num_envs": 2, "batch_size": 4, "capacity": 100}
    agent = {"warmup_env_steps": 30, "exploration_bonus": Constant(scale=0.25)}
    trainer, _, datamodule = fit(tmp_path, data, {}, agent, max_steps=10)
    ring = datamodule.ring
    stored = ring.reward[: ring.num_added]
    np.testing.assert_array_equal(stored, np.where(ring.is_final[: ring.num_added], 0.0, 1.25))
    assert set(AgentCallback.of(trainer).episode_log.recent_returns) == {5.0}


@pytest.mark.parametrize(
    ("bonus", "line"),
    [
        (CountBonus(), "agent.exploration_bonus is 'CountBonus'; it must be RND"),
        (RND(network=GRU), "agent.exploration_bonus.network is 'GRU'; it must be a network without memory"),
        (RND(network=functools.partial(MLP, hidden_sizes="x")), "agent.exploration_bonus.network doesn't fit"),
    ],
)
def test_what_cant_work_is_refused_before_training(tmp_path: Path, bonus: Any, line: str) -> None:
    data = {"env_id": "CartPole-v1", "batch_size": 4, "capacity": 100}
    with pytest.raises(ConfigurationError, match=f"^{line}"):
        fit(tmp_path, data, {}, {"warmup_env_steps": 30, "exploration_bonus": bonus}, max_steps=10)


def test_settings_out_of_range_are_refused() -> None:
    for make, line in (
        (lambda: CountBonus(scale=0), r"agent\.exploration_bonus\.scale is 0; it must be positive"),
        (lambda: RND(batch_size=0), r"agent\.exploration_bonus\.batch_size is 0; it must be at least 1"),
        (lambda: RND(learning_rate=-1.0), r"agent\.exploration_bonus\.learning_rate is -1.0; it must be positive"),
    ):
        with pytest.raises(ConfigurationError, match=f"^{line}"):
            make()


def test_several_processes_are_refused() -> None:
    line = r"agent\.exploration_bonus is 'CountBonus'; it must be null with 2 processes"
    with pytest.raises(ConfigurationError, match=f"^{line}"):
        require_one_process(CountBonus(), num_processes=2)


def test_a_checkpoint_of_another_bonus_is_refused() -> None:
    collector = make_collector()
    collector.bonus = begun(CountBonus(), (3,))
    for state in (None, begun(RND()).state_dict()):
        with pytest.raises(ConfigurationError, match=r"^agent\.exploration_bonus is 'CountBonus'; it must be the one"):
            collector._load_bonus(state)
