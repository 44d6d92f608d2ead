"""All that surrounds a learner, at once, with every learner, memory and kind of batch: right, or refused in a line.

One task has pictures beside numbers of a large scale, and MultiDiscrete actions; its observations and rewards are
normalized, a bonus is added, and units and layers are reinitialized. What the replay memory holds, the bonus and the
statistics are compared with loops over single steps; ``tests/test_combinations.py`` does so for targets and losses.
"""

import copy
import functools
import itertools
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from lightning.pytorch import Callback

from seqrl_lightning import algorithms
from seqrl_lightning.algorithms import (
    C51,
    DQN,
    IQN,
    PQN,
    QRDQN,
    SARSA,
    BehaviorCloning,
    DiscreteSAC,
    ExpectedSARSA,
    LearnerModule,
    QLambda,
)
from seqrl_lightning.callbacks import AgentCallback, DormantUnits, LastCheckpoint, PeriodicResets
from seqrl_lightning.collect import RND, CountBonus
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.networks import GRU, MLP, Composed, DuelingHead, Transformer
from seqrl_lightning.replay import (
    LatestSampler,
    PrioritizedSampler,
    RolloutSampler,
    SequenceSampler,
    UniformSampler,
)
from seqrl_lightning.types import ConfigurationError
from tests.running import assert_identical, fit


class Shop(gym.Env[Any, Any]):
    """Pays 100 for the side and the column that are shown, the side as a number, the column in a picture."""

    observation_space = Dict(
        numbers=Box(-np.inf, np.inf, (2,), np.float64), picture=Box(0, 255, (6, 5), np.uint8), side=Discrete(2)
    )
    action_space = MultiDiscrete([2, 3])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._show(), {}

    def _show(self) -> dict[str, Any]:
        self.side, self.column = int(self.np_random.integers(2)), int(self.np_random.integers(3))
        picture = np.zeros((6, 5), np.uint8)
        picture[:, self.column] = 255
        return {"numbers": np.array([1000.0 * self.side, self.t]), "picture": picture, "side": np.int64(self.side)}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = 100.0 * (tuple(action) == (self.side, self.column))
        self.t += 1
        return self._show(), reward, bool(self.np_random.random() < 0.15), self.t == 6, {}

    def state_dict(self) -> dict[str, Any]:
        return {"t": self.t, "side": self.side, "column": self.column}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.t, self.side, self.column = (state_dict[name] for name in ("t", "side", "column"))


gym.register("tests/Shop-v0", Shop)

GAMMA, SCALE = 0.9, 0.5
LEARNERS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "DQN": (DQN, {"double": True}),
    "Munchausen": (DQN, {"munchausen_alpha": 0.9}),
    "CQL": (DQN, {"cql_alpha": 0.5}),
    "Q(lambda)": (QLambda, {"lambda_": 0.7}),
    "SARSA": (SARSA, {}),
    "Expected SARSA": (ExpectedSARSA, {}),
    "C51": (C51, {"v_min": -5.0, "v_max": 5.0}),
    "QR-DQN": (QRDQN, {"n_quantiles": 5}),
    "IQN": (IQN, {}),
    "PQN": (PQN, {"epochs": 1}),
    "DiscreteSAC": (DiscreteSAC, {}),
}
HEAD = functools.partial(DuelingHead, hidden_size=8)  # its streams have units that can be told apart
MEMORIES = {
    "none": functools.partial(MLP, hidden_sizes=(8,), head=HEAD),
    "GRU": functools.partial(GRU, hidden_size=8, head=HEAD),
    "Transformer": functools.partial(Transformer, hidden_size=8, num_heads=2, context_length=6, head=HEAD),
}
SINGLE = ("uniform", "prioritized", "latest")
SAMPLERS = {
    "uniform": UniformSampler(),
    "prioritized": PrioritizedSampler(n_step=3),
    "latest": LatestSampler(),
    "windows": SequenceSampler(6, 3, burn_in=2),
    "prioritized windows": SequenceSampler(6, 3, prioritized=True, stored_state=True),
    "rollouts": RolloutSampler(8),
}
BONUSES = {"no bonus": None, "count": CountBonus(SCALE), "RND": RND(SCALE, batch_size=4, network=Composed)}
CASES = list(itertools.product(LEARNERS, MEMORIES, SAMPLERS))
QUICK = {("DQN", "GRU", "prioritized windows"), ("PQN", "none", "rollouts")}


def refusal(learner: str, memory: str, sampler: str) -> str | None:
    """The beginning of the line; None for what goes together."""
    if learner == "DiscreteSAC" and memory != "none":
        return "model.network is .*; it must be one without memory"
    if learner == "PQN":
        return None if sampler == "rollouts" else "data.sampler is .*; it must be RolloutSampler"
    if memory != "none" and sampler in SINGLE:
        return "data.sampler is .*; it must be SequenceSampler"
    if learner == "Q(lambda)" and sampler in SINGLE:
        return "data.sampler is .*; it must be SequenceSampler with QLambda"
    return None


def run(folder: Path, case: tuple[str, str, str], bonus: Any, max_steps: int, **flags: Any) -> Any:
    """Trains with everything on, in two environments."""
    (module_class, model), network, sampler = LEARNERS[case[0]], MEMORIES[case[1]], SAMPLERS[case[2]]
    is_pqn = module_class is PQN
    data = {
        "env_id": "tests/Shop-v0",
        "num_envs": 2,
        "batch_size": 8 if is_pqn else 2,
        "capacity": 1_000,
        "sampler": copy.deepcopy(sampler),
        "batches_per_epoch": 4,
    }
    model = {
        "network": functools.partial(Composed, network=network),
        "normalize_observations": True,
        "normalize_rewards": True,
        "gamma": GAMMA,
        **model,
    }
    agent = {"exploration_bonus": copy.deepcopy(bonus), "epsilon": ConstantEpsilon(0.5)}
    agent |= {} if is_pqn else {"warmup_env_steps": 24}
    callbacks: list[Callback] = [DormantUnits(0.5, recycle_every_updates=3), PeriodicResets(4), LastCheckpoint()]
    torch.manual_seed(3)  # the same first weights
    target_sync = None if is_pqn else {"tau": 0.1}
    return fit(folder, data, model, agent, target_sync, callbacks, module_class, max_steps=max_steps, **flags)


def check_statistics(trainer: Any, module: Any, data: Any, bonus: Any) -> None:
    """Rewards, bonuses and statistics are those of a loop over the rows of the replay memory, and so are returns."""
    ring = data.ring
    num_rows = ring.num_added + 1  # nothing was overwritten so far; the last one holds an observation only
    rows = ring.observations(np.arange(num_rows * ring.num_envs))
    shown = {name: part.tolist() for name, part in module.obs_shape.unpack_tensor(rows).items()}
    seen = list(zip(shown["numbers"], shown["picture"], shown["side"], strict=True))
    counts: Counter[str] = Counter()
    returns, all_returns = [0.0] * ring.num_envs, []
    for t, env in itertools.product(range(num_rows - 1), range(ring.num_envs)):
        if env == 0:  # environments that reach the same observation side by side share the later count
            counts.update(str(seen[(t + 1) * ring.num_envs + e]) for e in np.flatnonzero(~ring.is_final[t]))
        numbers, picture, side = seen[t * ring.num_envs + env]
        if ring.is_final[t, env]:
            assert ring.reward[t, env] == 0.0
            continue
        own = 100.0 * (divmod(int(ring.action[t, env]), 3) == (side.index(1), picture[0].index(255)))
        assert side.index(1) == numbers[0] / 1000.0
        following = str(seen[(t + 1) * ring.num_envs + env])
        added = float(ring.reward[t, env]) - own
        if isinstance(bonus, RND):
            assert 0.0 <= added <= 10.0 * SCALE
        else:
            assert added == pytest.approx(SCALE * counts[following] ** -0.5 if bonus else 0.0, abs=1e-4)
        returns[env] = GAMMA * returns[env] + own + added
        all_returns.append(returns[env])
        if ring.is_final[t + 1, env]:
            returns[env] = 0.0
    moments = module.normalization.observations.norm.moments
    for place, column in enumerate(zip(*shown["numbers"], strict=True)):
        assert float(moments.mean[place]) == pytest.approx(statistics.fmean(column))
        assert float(moments.variance[place]) == pytest.approx(statistics.pvariance(column))
    scale = float(module.normalization.rewards.norm.moments.variance)
    assert scale == pytest.approx(statistics.pvariance(all_returns), rel=1e-4)
    assert {value % 100.0 for value in AgentCallback.of(trainer).episode_log.recent_returns} == {0.0}


def test_every_learner_that_has_an_agent_is_there() -> None:
    exported = {getattr(algorithms, name) for name in algorithms.__all__} - {LearnerModule, BehaviorCloning}
    assert {learner_class for learner_class, _ in LEARNERS.values()} == exported, "name it in LEARNERS"


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in QUICK else pytest.mark.slow, id="-".join(case)) for case in CASES]
)
def test_everything_at_once_is_right_or_refused_in_a_line(tmp_path: Path, case: tuple[str, str, str]) -> None:
    bonus = list(BONUSES.values())[1 if case in QUICK else CASES.index(case) // len(SAMPLERS) % 3]
    if expected := refusal(*case):
        with pytest.raises(ConfigurationError, match=f"^{expected}") as error:
            run(tmp_path, case, bonus, 6)
        assert "\n" not in str(error.value)
        return
    trainer, module, data = run(tmp_path, case, bonus, 6)
    check_statistics(trainer, module, data, bonus)
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("bonus", BONUSES)
@pytest.mark.parametrize(
    "case", [("DQN", "none", "prioritized"), ("IQN", "GRU", "prioritized windows"), ("PQN", "Transformer", "rollouts")]
)
def test_everything_at_once_resumes_bit_for_bit(tmp_path: Path, case: tuple[str, str, str], bonus: str) -> None:
    _, whole, _ = run(tmp_path / "whole", case, BONUSES[bonus], 12, logger=True)
    run(tmp_path / "half", case, BONUSES[bonus], 6, logger=True)
    half = str(next((tmp_path / "half").rglob("last.ckpt")))
    _, resumed, _ = run(tmp_path / "rest", case, BONUSES[bonus], 12, logger=True, ckpt_path=half)
    assert_identical(dict(whole.state_dict()), dict(resumed.state_dict()))
