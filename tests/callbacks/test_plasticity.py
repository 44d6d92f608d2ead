"""Dormant units and resets in runs: what they change, what they leave alone, and what they compose with."""

import copy
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seqrl_lightning.algorithms import C51, DQN, IQN, PQN, QRDQN, SARSA, DiscreteSAC, ExpectedSARSA
from seqrl_lightning.callbacks import DormantUnits, LastCheckpoint, PeriodicResets
from seqrl_lightning.collect import RND, CountBonus
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.networks import FFM, GRU, MLP, DuelingHead, FrameStack, NoisyLinear, Table, Transformer
from seqrl_lightning.replay import RolloutSampler, SequenceSampler
from seqrl_lightning.types import ConfigurationError
from tests.running import assert_identical, fit

DATA = {"env_id": "tests/Corridor-v0", "batch_size": 8, "capacity": 100}
SMALL = functools.partial(MLP, hidden_sizes=(16,))
NOISY = functools.partial(MLP, hidden_sizes=(16,), linear=NoisyLinear)


def run(folder: Path, callbacks: list[Callback], max_steps: int = 30, **settings: Any) -> Any:
    model = {"network": SMALL, **settings.pop("model", {})}
    data = {**DATA, **settings.pop("data", {})}
    agent = {"warmup_env_steps": 24, "epsilon": ConstantEpsilon(0.5)}
    flags = {"max_steps": max_steps, "log_every_n_steps": 5, **settings}
    torch.manual_seed(3)  # the same first weights
    trainer, _, _ = fit(folder, data, model, agent, {"tau": 0.1}, callbacks, **flags)
    return trainer


def weights_of(trainer: Any) -> dict[str, Any]:
    return {name: value.clone() for name, value in trainer.lightning_module.state_dict().items()}


class Snapshots(Callback):
    """Copies the weights at the end of each training step; before or behind other callbacks, by its place."""

    def __init__(self) -> None:
        self.weights: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.weights.append(weights_of(trainer))


class Other(Snapshots):
    pass


@pytest.mark.parametrize("network", [SMALL, NOISY])
def test_measuring_changes_nothing(tmp_path: Path, network: Any) -> None:
    plain = run(tmp_path / "plain", [], model={"network": network})
    measured = run(tmp_path / "measured", [DormantUnits()], model={"network": network}, logger=True)
    assert_identical(weights_of(plain), weights_of(measured))
    events = EventAccumulator(measured.log_dir).Reload()
    for name in ("plasticity/dormant", "plasticity/dormant/hidden.0"):
        assert len(events.Scalars(name)) == 6
        assert all(event.value * 16 == round(event.value * 16) for event in events.Scalars(name))


def test_they_act_when_it_is_time_on_the_policy_network_alone(tmp_path: Path) -> None:
    before, after = Snapshots(), Other()
    trainer = run(tmp_path, [before, DormantUnits(0.99, recycle_every_updates=10), PeriodicResets(15), after])
    for step, (old, new) in enumerate(zip(before.weights, after.weights, strict=True), start=1):
        changed = {name for name in old if not torch.equal(old[name], new[name])}
        recycled = {f"policy_net.{name}" for name in ("hidden.0.weight", "hidden.0.bias", "head.output.weight")}
        is_reset = step % 15 == 0
        expected = recycled if step % 10 == 0 else set()
        assert changed == expected | (
            {"policy_net.head.output.weight", "policy_net.head.output.bias"} if is_reset else set()
        )
    observation = np.eye(6, dtype=np.float32)
    module = trainer.lightning_module
    values, _ = module.act_values(observation)  # in NumPy, which holds the weights' memory
    with torch.no_grad():
        expected_values = module.policy_net(torch.from_numpy(observation)[None])[0][0]
    torch.testing.assert_close(torch.from_numpy(values), expected_values)


@pytest.mark.parametrize("updates_per_step", [1, 4])
def test_the_optimizer_begins_anew_however_updates_are_made(tmp_path: Path, updates_per_step: int) -> None:
    trainer = run(tmp_path, [PeriodicResets(20, None)], max_steps=24, model={"updates_per_step": updates_per_step})
    assert {int(state["step"]) for state in trainer.optimizers[0].state.values()} == {4}


def test_resets_are_counted_where_a_training_step_makes_more_updates_than_lie_between_two(tmp_path: Path) -> None:
    before, after = Snapshots(), Other()
    run(tmp_path, [before, PeriodicResets(3, max_resets=2), after], model={"updates_per_step": 10})
    pairs = zip(before.weights, after.weights, strict=True)
    changed = [not torch.equal(*(weights["policy_net.head.output.weight"] for weights in pair)) for pair in pairs]
    assert changed == [True, True, False]  # after 10, 20 and 30 updates


def test_a_resumed_run_ends_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    def parts() -> list[Callback]:
        return [DormantUnits(0.5, recycle_every_updates=7), PeriodicResets(11, max_resets=2), LastCheckpoint()]

    task = {"env_id": "seqrl/Sequence-v0", "batches_per_epoch": 25}  # it can be set back
    whole = run(tmp_path / "whole", parts(), 60, logger=True, data=task)
    run(tmp_path / "half", parts(), 31, logger=True, data=task)
    half = next((tmp_path / "half").rglob("last.ckpt"))
    resumed = run(tmp_path / "rest", parts(), 60, ckpt_path=str(half), logger=True, data=task)
    assert_identical(weights_of(whole), weights_of(resumed))
    one, other = (trainer.optimizers[0].state_dict()["state"] for trainer in (whole, resumed))
    assert_identical(one, other)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: DormantUnits(tau=1.0), "DormantUnits.tau is 1.0; it must be at least 0 and less than 1"),
        (
            lambda: DormantUnits(recycle_every_updates=0),
            "DormantUnits.recycle_every_updates is 0; it must be at least 1",
        ),
        (lambda: PeriodicResets(0), "PeriodicResets.every_updates is 0; it must be at least 1"),
        (lambda: PeriodicResets(5, max_resets=0), "PeriodicResets.max_resets is 0; it must be at least 1"),
    ],
)
def test_bad_settings_are_named(make: Any, line: str) -> None:
    with pytest.raises(ConfigurationError, match=line):
        make()


def test_an_unknown_layer_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"layers is \['body'\]; it must be modules of the network, like head, hidden"
    ):
        run(tmp_path, [PeriodicResets(5, ["body"])])


WINDOWS = SequenceSampler(6, 3)
ROLLOUTS = {"num_envs": 3, "sampler": RolloutSampler(8), "batch_size": 8}
NORMALIZED = {"normalize_observations": True, "normalize_rewards": True}
LEARNERS: dict[str, tuple[type[DQN], dict[str, Any], dict[str, Any]]] = {
    "DQN": (DQN, NORMALIZED, {}),
    "CQL": (DQN, {"cql_alpha": 0.5}, {}),
    "SARSA": (SARSA, {}, {}),
    "Expected SARSA": (ExpectedSARSA, NORMALIZED, {}),
    "C51": (C51, {}, {}),
    "QR-DQN": (QRDQN, {"cql_alpha": 0.5, **NORMALIZED}, {}),
    "IQN": (IQN, NORMALIZED, {}),
    "PQN": (PQN, {"epochs": 1, **NORMALIZED}, ROLLOUTS),
    "DiscreteSAC": (DiscreteSAC, NORMALIZED, {}),
}
DUELING = functools.partial(DuelingHead, hidden_size=8)
MEMORIES: dict[str, tuple[Any, bool]] = {  # and whether there are units to tell apart
    "none": (SMALL, True),
    "frames": (functools.partial(FrameStack, length=2, hidden_sizes=(8,)), True),
    "GRU": (functools.partial(GRU, hidden_size=8), False),
    "GRU with a dueling head": (functools.partial(GRU, hidden_size=8, head=DUELING), True),
    "FFM": (functools.partial(FFM, hidden_size=8, memory_size=3, context_size=2), True),
    "Transformer": (functools.partial(Transformer, hidden_size=8, num_heads=2, context_length=6), True),
    "table": (Table, False),
}
BONUSES = {"no bonus": None, "count": CountBonus(0.1), "RND": RND(0.1, batch_size=4)}


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("learner", LEARNERS)
def test_each_learner_with_each_memory_is_right_or_refused(tmp_path: Path, learner: str, memory: str) -> None:
    """With plasticity, normalization, conservative Q-learning and, in turns, a bonus: weights renewed, and finite."""
    (module_class, model, data), (network, has_units) = LEARNERS[learner], MEMORIES[memory]
    remembers = memory not in ("none", "table")
    bonus = list(BONUSES.values())[(list(LEARNERS).index(learner) + list(MEMORIES).index(memory)) % 3]
    settings = {**DATA, **({"sampler": WINDOWS} if remembers and module_class is not PQN else {}), **data}
    warmup = {} if module_class is PQN else {"warmup_env_steps": 24}
    agent = {"exploration_bonus": copy.deepcopy(bonus), "epsilon": ConstantEpsilon(0.5), **warmup}
    model = {**model, "network": network}
    if memory == "table":
        model = {**model, "normalize_observations": False}
    before, after = Snapshots(), Other()
    callbacks = [before, DormantUnits(0.9, recycle_every_updates=3), PeriodicResets(5), after]

    def go() -> Any:
        target_sync = None if module_class is PQN else {"tau": 0.1}
        return fit(tmp_path, copy.deepcopy(settings), model, agent, target_sync, callbacks, module_class, max_steps=6)

    refusal = None if has_units else "must be one with hidden units: a layer, a ReLU and a layer that reads it"
    if remembers and module_class is DiscreteSAC:
        refusal = refusal or "it must be one without memory: DiscreteSAC learns from single steps"
    if refusal:
        with pytest.raises(ConfigurationError, match=refusal):
            go()
        return
    _, module, _ = go()
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
    changed = [
        {name for name in old if not torch.equal(old[name], new[name])}
        for old, new in zip(before.weights, after.weights, strict=True)
    ]
    assert any(".head." in name for name in set().union(*changed))
    assert not any(name.startswith("target_net") for name in set().union(*changed)) or module_class is PQN
