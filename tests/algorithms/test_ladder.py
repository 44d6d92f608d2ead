"""Every algorithm learns what has to be bootstrapped, and does not when its bootstrap is taken away."""

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from seqrl_lightning.algorithms import C51, DQN, IQN, PQN, QRDQN, SARSA, DiscreteSAC, ExpectedSARSA
from seqrl_lightning.batches import Batch, Transitions, Update
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.functional import huber_losses
from seqrl_lightning.networks import GRU, MLP, DuelingHead
from seqrl_lightning.replay import LatestSampler, PrioritizedSampler, RolloutSampler, UniformSampler
from seqrl_lightning.types import ConfigurationError
from tests.running import fit, seqrl

OPTIMAL = 0.8 ** np.arange(4, -1, -1)  # of going on, in the corridor's five states


def mlp(obs_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> MLP:
    return MLP(obs_shape, out_shape, (32,))


def dueling(obs_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> MLP:
    return MLP(obs_shape, out_shape, (32,), head=DuelingHead)


def learn(
    folder: Path,
    module_class: type[DQN],
    model: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    agent: dict[str, Any] | None = None,
    max_steps: int = 400,
) -> np.ndarray[Any, Any]:
    """Q-values of the corridor's states, after learning from an agent that acts at random (if not told otherwise)."""
    _, module, _ = fit(
        folder,
        {"env_id": "tests/Corridor-v0", "batch_size": 64, "capacity": 2000, "num_envs": 4, **(data or {})},
        {"network": mlp, "learning_rate": 5e-3, "gamma": 0.8, **(model or {})},
        {"warmup_env_steps": 1000, "epsilon": ConstantEpsilon(1.0), "env_steps_per_update": 1, **(agent or {})},
        None if module_class is PQN else {"tau": 0.1},  # it has no target network
        module_class=module_class,
        max_steps=max_steps,
    )
    module.eval()
    q_values: np.ndarray[Any, Any] = module.act_values(np.eye(6, dtype=np.float32)[:5])[0]
    return q_values


ATOMS = {"v_min": -0.5, "v_max": 1.5, "n_atoms": 41, "learning_rate": 1e-2}
LADDER: dict[str, tuple[type[DQN], dict[str, Any], dict[str, Any]]] = {
    "double": (DQN, {"double": True}, {}),
    "dueling": (DQN, {"network": dueling}, {}),
    "prioritized": (DQN, {}, {"sampler": PrioritizedSampler(beta_env_steps=1000)}),
    "C51": (C51, ATOMS, {}),
    "QR-DQN": (QRDQN, {"n_quantiles": 11}, {}),
    "IQN": (IQN, {}, {}),
    "IQN, double, dueling, prioritized": (
        IQN,
        {"network": dueling, "double": True},
        {"sampler": PrioritizedSampler()},
    ),
}


class WithoutBootstrap:
    """Mixed into an algorithm: nothing follows any state."""

    def returns_and_discounts(self, batch: Any) -> tuple[Tensor, Tensor]:
        returns, discounts = super().returns_and_discounts(batch)  # type: ignore[misc]
        return returns, torch.zeros_like(discounts)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("name", LADDER)
def test_the_ladder_learns_what_has_to_be_bootstrapped(tmp_path: Path, name: str) -> None:
    module_class, model, data = LADDER[name]
    q_values = learn(tmp_path, module_class, model, data)
    assert (q_values.argmax(-1) == 1).all()
    np.testing.assert_allclose(q_values[:, 1], OPTIMAL, atol=0.12)


@pytest.mark.slow
def test_returns_over_several_steps_are_partly_those_of_the_policy_that_acts(tmp_path: Path) -> None:
    data = {"sampler": UniformSampler(n_step=5)}
    of_a_random_agent = learn(tmp_path / "1", DQN, data=data)
    assert of_a_random_agent[0, 1] < 0.5 * OPTIMAL[0]  # they are not corrected for it
    of_a_greedy_one = learn(tmp_path / "2", DQN, data=data, agent={"epsilon": ConstantEpsilon(0.1)})
    assert of_a_greedy_one[4, 1] == pytest.approx(1.0, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["C51", "QR-DQN", "IQN"])
def test_not_without_the_bootstrap(tmp_path: Path, name: str) -> None:
    module_class, model, data = LADDER[name]
    broken = type("Broken", (WithoutBootstrap, module_class), {})
    assert np.abs(learn(tmp_path, broken, model, data)[:, 1] - OPTIMAL).max() > 0.3


@pytest.mark.slow
def test_munchausen_prefers_the_same_actions(tmp_path: Path) -> None:
    for module_class in (DQN, IQN):
        q_values = learn(tmp_path / module_class.__name__, module_class, {"munchausen_alpha": 0.9}, max_steps=600)
        assert (q_values.argmax(-1) == 1).all()


def expected_sarsa_values(epsilon: float) -> np.ndarray[Any, Any]:
    """Policy evaluation and improvement to the fixed point, without regard to truncation."""
    q_values = np.zeros((6, 2))
    for _ in range(500):
        greedy = np.eye(2)[q_values.argmax(1)]
        values = ((1 - epsilon) * greedy + epsilon / 2) * q_values
        state_values = np.append(values.sum(1)[:5], 0.0)
        q_values[:5, 1] = 0.8 * state_values[1:] + (np.arange(5) == 4)
        q_values[:5, 0] = 0.8 * state_values[0]
    return q_values[:5]


@pytest.mark.slow
@pytest.mark.parametrize("module_class", [SARSA, ExpectedSARSA])
def test_on_policy_values_count_exploration_in(tmp_path: Path, module_class: type[DQN]) -> None:
    q_values = learn(
        tmp_path,
        module_class,
        {"learning_rate": 1e-2, "optimizer": lambda params, lr: torch.optim.Adam(params, lr)},
        {"sampler": UniformSampler() if module_class is ExpectedSARSA else LatestSampler(), "num_envs": 64},
        {"epsilon": ConstantEpsilon(0.5), "env_steps_per_update": 64, "warmup_env_steps": 1000},
        max_steps=800,
    )
    np.testing.assert_allclose(q_values[:, 1], expected_sarsa_values(0.5)[:, 1], atol=0.12)
    assert np.abs(q_values[:, 1] - OPTIMAL).max() > 0.2  # the greedy policy's values are others


@pytest.mark.slow
def test_discrete_sac_acts_by_its_policy(tmp_path: Path) -> None:
    model = {"target_entropy_ratio": 0.1, "initial_temperature": 0.1}
    logits = learn(tmp_path, DiscreteSAC, model, agent={"epsilon": ConstantEpsilon(0.0)}, max_steps=800)
    assert (logits.argmax(-1) == 1).all()


def test_discrete_sac_samples_in_training_only() -> None:
    sac = DiscreteSAC((6,), 2, network=mlp)
    observation = np.zeros((1000, 6), np.float32)
    logits = sac.eval().act_values(observation)[0]
    share = (sac.train().act_values(observation)[0].argmax(-1) == 1).mean()
    assert share == pytest.approx(float(torch.from_numpy(logits[0]).softmax(-1)[1]), abs=0.05)


def test_each_part_of_discrete_sac_learns_from_its_own_term() -> None:
    sac = DiscreteSAC((6,), 2, network=mlp, target_entropy_ratio=0.9, initial_temperature=0.5)
    nets, state, one = sac.policy_net, torch.rand(1, 8, 6), torch.ones(1, 8)
    batch = Transitions(state, one.long(), one.unsqueeze(-1), torch.rand(1, 8, 6), ~one.bool())
    sac.optimize_model(batch)["loss"].backward()
    gradients = {name: parameter.grad for name, parameter in nets.named_parameters()}
    sac.zero_grad()
    with torch.no_grad():
        target = sac.target(batch, torch.tensor(0.5))
        lower_values = torch.minimum(*(critic(state)[0] for critic in nets.critics))
    log_policy = nets.actor(state)[0].log_softmax(-1)
    actor = (log_policy.exp() * (0.5 * log_policy - lower_values)).sum(-1).mean()
    critics = sum(huber_losses(critic(state)[0][..., 1], target, 1.0).mean() for critic in nets.critics)
    entropy = -(log_policy.exp() * log_policy).sum(-1).mean().item()
    temperature = nets.log_temperature * (entropy - 0.9 * math.log(2))
    (actor + critics + temperature).backward()
    for name, parameter in nets.named_parameters():
        gradient = gradients[name]
        assert gradient is not None
        assert gradient.abs().sum() > 0
        torch.testing.assert_close(parameter.grad, gradient)


def test_the_entropy_that_discrete_sac_holds_is_one_that_the_allowed_actions_can_have() -> None:
    sac = DiscreteSAC((6,), 8, network=mlp, target_entropy_ratio=0.5)
    mask = torch.zeros(1, 3, 8, dtype=torch.bool)
    mask[0, 0, :2] = mask[0, 1, :4] = True  # and none in a terminal state
    torch.testing.assert_close(sac.target_entropy(mask), torch.tensor([[0.5, 1.0, 0.0]]) * math.log(2))
    assert sac.target_entropy(None) == pytest.approx(1.5 * math.log(2))


PQN_AGENT = {"warmup_env_steps": 64, "updates_per_collect": 4, "env_steps_per_update": 16.0}


def pqn_net(obs_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> MLP:
    return MLP(obs_shape, out_shape, (32,), layer_norm=True)


@pytest.mark.slow
def test_pqn_learns_without_replay_and_target(tmp_path: Path) -> None:
    q_values = learn(
        tmp_path,
        PQN,
        {"network": pqn_net, "epochs": 2},
        {"num_envs": 8, "batch_size": 32, "capacity": 200, "sampler": RolloutSampler(8)},
        PQN_AGENT,
        max_steps=1600,
    )
    assert (q_values.argmax(-1) == 1).all()
    # Returns over several steps of a random policy are lower than the greedy one's.
    assert q_values[4, 1] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("model", "data", "agent", "message"),
    [
        ({}, {"sampler": UniformSampler()}, {}, "data.sampler is 'UniformSampler'; it must be RolloutSampler"),
        ({}, {"batch_size": 48}, {}, "data.batch_size is 48; it must be a divisor of .* = 64"),
        ({}, {}, {"updates_per_collect": 1}, "agent.updates_per_collect is 1; it must be 4"),
        ({}, {}, {"warmup_env_steps": 128}, "agent.warmup_env_steps is 128; it must be 64"),
        (
            {},
            {"capacity": 160},
            {},
            "data.capacity is 160; it must be at least 168: where episodes are short, a rollout of 64 env steps takes",
        ),
    ],
)
def test_pqn_says_what_its_rollouts_need(
    tmp_path: Path, model: dict[str, Any], data: dict[str, Any], agent: dict[str, Any], message: str
) -> None:
    rollouts = {"num_envs": 8, "batch_size": 32, "capacity": 200, "sampler": RolloutSampler(8), **data}
    with pytest.raises(ConfigurationError, match=message):
        learn(tmp_path, PQN, {"epochs": 2, **model}, rollouts, {**PQN_AGENT, **agent}, max_steps=4)


@pytest.mark.parametrize(
    ("module_class", "settings", "message"),
    [
        (C51, {"n_atoms": 1}, "model.n_atoms is 1"),
        (C51, {"v_min": 1.0, "v_max": 0.0}, "model.v_min is 1.0"),
        (QRDQN, {"n_quantiles": 0}, "model.n_quantiles is 0"),
        (IQN, {"cvar": 0.0}, "model.cvar is 0.0"),
        (IQN, {"n_fractions": 0}, "model.n_fractions is 0"),
        (DiscreteSAC, {"target_entropy_ratio": 1.0}, "model.target_entropy_ratio is 1.0"),
        (DQN, {"munchausen_alpha": 0.9, "double": True}, "model.double is True"),
        (DQN, {"munchausen_alpha": 2.0}, "model.munchausen_alpha is 2.0"),
        (DQN, {"munchausen_alpha": 0.9, "munchausen_temperature": 0.0}, "model.munchausen_temperature is 0.0"),
        (PQN, {"lambda_": 1.5}, "model.lambda_ is 1.5"),
    ],
)
def test_settings_that_cannot_work(module_class: type[DQN], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        module_class((6,), 2, **settings)


@pytest.mark.parametrize(
    ("module_class", "message"),
    [
        (DQN, "data.sampler is 'UniformSampler'; it must be SequenceSampler for a network that remembers"),
        (DiscreteSAC, "model.network is 'GRU'; it must be one without memory"),
    ],
)
def test_a_network_that_remembers_needs_windows(tmp_path: Path, module_class: type[DQN], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        learn(tmp_path, module_class, {"network": GRU}, max_steps=1)


UNUSED = [
    *((SARSA, name, "DQN, QRDQN and IQN have it") for name in ("munchausen_alpha", "munchausen_clip")),
    *((ExpectedSARSA, name, "DQN, QRDQN, IQN and C51 have it") for name in ("double",)),
    (C51, "munchausen_temperature", "DQN, QRDQN and IQN have it"),
    (C51, "huber_delta", "of C51, whose loss is a cross-entropy"),
    (DiscreteSAC, "double", "DQN, QRDQN, IQN and C51 have it"),
    (PQN, "double", "DQN, QRDQN, IQN and C51 have it"),
    (PQN, "updates_per_step", "of PQN, whose updates follow from epochs and minibatches"),
]


@pytest.mark.parametrize(("module_class", "name", "message"), UNUSED)
def test_a_setting_that_would_be_ignored_is_refused(module_class: Any, name: str, message: str) -> None:
    with pytest.raises(TypeError, match=name):
        module_class((6,), 2, **{name: 1})
    status, _, err = seqrl("fit", "--data.env_id=CartPole-v1", f"--model={module_class.__name__}", f"--model.{name}=1")
    assert status == 2
    assert f"seqrl: error: model.{name} is not a setting of" in err
    assert message in err
    assert "leave it out" in err


class OwnForward(MLP):
    def forward(self, observation: Tensor, state: Any = None, is_first: Any = None) -> tuple[Tensor, Any]:
        outputs, state = super().forward(observation, state, is_first)
        return 2.0 * outputs, state


def test_iqn_takes_a_network_apart_and_refuses_one_that_is_more_than_its_parts() -> None:
    with pytest.raises(ConfigurationError, match=r"model.network is 'OwnForward'; it must be a Network that computes"):
        IQN((6,), 2, network=OwnForward)


def test_updates_in_one_step_need_batches_that_grow_with_them() -> None:
    learner = DQN((6,), 2, updates_per_step=2)
    learner.check_sampler(UniformSampler())
    with pytest.raises(ConfigurationError, match=r"model.updates_per_step is 2; it must be 1 with RolloutSampler"):
        learner.check_sampler(RolloutSampler())


@pytest.mark.parametrize("module_class", [DQN, SARSA])
def test_whole_rollouts_need_room_whoever_learns_from_them(tmp_path: Path, module_class: type[DQN]) -> None:
    """A batch has 2 * (8 + 2) rows at most, and the memory one more, of 2 environments."""
    data = {"num_envs": 2, "batch_size": 4, "sampler": RolloutSampler(8)}
    with pytest.raises(ConfigurationError, match=r"data.capacity is 41; it must be at least 42: "):
        learn(tmp_path, module_class, {}, {**data, "capacity": 41}, {"warmup_env_steps": 16}, max_steps=1)
    learn(tmp_path, module_class, {}, {**data, "capacity": 42}, {"warmup_env_steps": 16}, max_steps=1)


def test_an_algorithm_written_for_methods_that_are_gone_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"Own.follow_policy would never be called; it must be optimize_model"):
        type("Own", (DQN,), {"follow_policy": lambda self, values, q_values, batch: values})


class OnlyALoss(DQN):
    """A learner whose update leaves out what it learned from."""

    def optimize_model(self, batch: Batch) -> Update:
        return cast(Update, {"loss": super().optimize_model(batch)["loss"]})


@pytest.mark.parametrize("updates_per_step", [1, 2])
def test_an_update_without_its_values_is_refused_in_a_line(tmp_path: Path, updates_per_step: int) -> None:
    with pytest.raises(ConfigurationError, match=r"what optimize_model returns is \['loss'\]; it must be a dict with "):
        learn(tmp_path, OnlyALoss, {"updates_per_step": updates_per_step}, {}, {}, max_steps=2)
