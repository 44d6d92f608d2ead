"""A policy's units are recorded as it has them when it acts."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from seqrl_lightning import recording
from seqrl_lightning.algorithms import DQN, IQN, QRDQN, DiscreteSAC
from seqrl_lightning.analysis.states import Observations, ordered
from seqrl_lightning.analysis.trials import read_trials
from seqrl_lightning.envs import EnvFactory
from seqrl_lightning.networks import GRU, LSTM, MLP, FrameStack, Transformer
from seqrl_lightning.policy import Policy
from seqrl_lightning.recipe import Recipe
from seqrl_lightning.types import Array, ConfigurationError

TASK: dict[str, Any] = {"env_id": "seqrl/DelayedRecall-v0", "env_kwargs": {"delay": 2}, "wrappers": []}
NUM_EPISODES = 5


def policy_of(network: Any, module_class: type[Any] = DQN, **data: Any) -> Policy:
    """A policy with random weights."""
    data = {**TASK, **data}
    facts = EnvFactory(data["env_id"], data["env_kwargs"]).read_facts()
    module = module_class(facts.obs_shape, facts.n_actions, network=network)
    module.freeze()
    model = {"obs_shape": facts.obs_shape, "n_actions": facts.n_actions}
    return Policy(module, Recipe("", model, data, facts.obs_dtype), network=network)


def seen_by(policy: Policy, folder: Path) -> tuple[pd.DataFrame, Observations]:
    """Episodes that it plays."""
    path = folder / "trials.csv"
    recording.write_played(policy, path, NUM_EPISODES, seed=3)
    trials = ordered(read_trials(path, recording.facts_of(policy, path)))
    return trials, recording.observations_in(trials, policy, path)


def played_one_by_one(policy: Policy) -> tuple[list[Array | None], list[int]]:
    """The states and actions of the same episodes in a plain Gymnasium loop."""
    env, states, actions = policy.make_env(), [], []
    for seed in range(3, 3 + NUM_EPISODES):
        observation, _ = env.reset(seed=seed)
        policy.reset()
        assert policy.state is None
        ended = False
        while not ended:
            action, state = policy.act(observation, return_state=True)
            observation, _, terminated, truncated, _ = env.step(action)
            states.append(state)
            actions.append(action)
            ended = terminated or truncated
    return states, actions


def test_episodes_that_did_not_end_are_left_out(tmp_path: Path) -> None:
    policy, path = policy_of(GRU), tmp_path / "trials.csv"
    recording.write_played(policy, path, NUM_EPISODES, seed=3)
    whole = recording.states_in(policy, path)
    trials = pd.read_csv(path)
    is_cut = trials["episode"] == trials["episode"].iloc[0]
    trials.loc[is_cut, ["terminated", "truncated"]] = 0
    trials.to_csv(path, index=False)
    found = recording.states_in(policy, path)
    np.testing.assert_array_equal(found.units, whole.units[~is_cut])
    assert found.labels["episode"].unique().tolist() == list(range(NUM_EPISODES - 1))
    assert recording.states_in(policy, path, num_episodes=2).labels["episode"].nunique() == 2
    trials.assign(terminated=0, truncated=0).to_csv(path, index=False)
    with pytest.raises(ConfigurationError, match="the number of episodes that ended is 0; it must be at least 1"):
        recording.states_in(policy, path)


def test_a_task_need_not_state_the_right_action(tmp_path: Path) -> None:
    policy, path = policy_of(GRU), tmp_path / "trials.csv"
    recording.write_played(policy, path, NUM_EPISODES, seed=3)
    whole, trials = recording.states_in(policy, path), pd.read_csv(path)
    for other in (trials.drop(columns="correct_action"), trials.assign(correct_action=np.nan)):
        other.to_csv(path, index=False)
        found = recording.states_in(policy, path)
        np.testing.assert_array_equal(found.units, whole.units)
        unknown = ["correct_action", "delay", "position"]
        assert (found.labels[unknown] == -1).all(axis=None)
        pd.testing.assert_frame_equal(found.labels.drop(columns=unknown), whole.labels.drop(columns=unknown))
    trials.assign(correct_action="A").to_csv(path, index=False)
    with pytest.raises(ConfigurationError, match=r"correct_action in \S+ is \['A'\]; it must be a number"):
        recording.states_in(policy, path)


@pytest.mark.parametrize("network", [GRU, LSTM, Transformer, FrameStack])
def test_recorded_states_are_those_of_a_policy_that_acts(network: Any, tmp_path: Path) -> None:
    policy = policy_of(network)
    trials, seen = seen_by(policy, tmp_path)
    states, actions = played_one_by_one(policy)
    assert trials["action"].tolist() == actions
    recorded = recording.record(policy, seen)
    np.testing.assert_allclose(recorded.carried, np.stack(states), atol=1e-6)
    if network is GRU:
        np.testing.assert_array_equal(recorded.features, recorded.carried[:, 0])
    if network is LSTM:
        np.testing.assert_array_equal(recorded.features, recorded.carried[:, 0, : recorded.features.shape[1]])
        np.testing.assert_array_equal(recorded.units("state"), recorded.carried[:, 0])


def test_states_are_those_of_normalized_observations(tmp_path: Path) -> None:
    module_class = partial(DQN, normalize_observations=True)
    policy = policy_of(GRU, module_class)  # type: ignore[arg-type]
    norm = policy.module.normalization
    assert norm.observations is not None
    norm.observations.add(5 + 3 * torch.randn(100, *policy.module.obs_shape))
    norm.share()
    _, seen = seen_by(policy, tmp_path)
    states, _ = played_one_by_one(policy)
    recorded = recording.record(policy, seen)
    np.testing.assert_allclose(recorded.carried, np.stack(states), atol=1e-6)
    policy.module.normalization.observations = None
    assert not np.allclose(recorded.carried, recording.record(policy, seen).carried, atol=0.1)


def test_a_state_is_a_copy_for_one_environment_or_for_several() -> None:
    policy = policy_of(lambda *shapes: GRU(*shapes, hidden_size=8, num_layers=2))
    observations = np.random.default_rng(0).random((3, *policy.module.obs_shape), np.float32)
    _, several = policy.act(observations, return_state=True)
    assert several is not None
    assert several.shape == (2, 3, 8)
    assert several.dtype == np.float32
    several[:] = 0.0
    assert policy.state is not None
    assert policy.state.any()
    policy.reset()
    assert isinstance(policy.act(observations[1]), int)
    assert policy.state.shape == (2, 8)


def test_a_network_without_memory_has_features_alone(tmp_path: Path) -> None:
    policy = policy_of(MLP)
    _, seen = seen_by(policy, tmp_path)
    recorded = recording.record(policy, seen)
    assert recorded.carried is None
    assert policy.state is None
    assert recorded.units("features").shape == (NUM_EPISODES * 4, 128)
    with pytest.raises(ConfigurationError, match="--units is 'state'; it must be features: the network carries no"):
        recorded.units("state")


@pytest.mark.parametrize("module_class", [DQN, QRDQN, IQN, DiscreteSAC])
def test_the_head_turns_features_into_what_every_learner_acts_by(module_class: Any, tmp_path: Path) -> None:
    policy = policy_of(GRU, module_class)
    trials, seen = seen_by(policy, tmp_path)
    features = torch.from_numpy(recording.record(policy, seen).features)[None]
    if module_class is IQN:
        net = policy.module.policy_net
        values = policy.module.q_values(net.quantiles(features, net.acting_fractions))
    else:
        values = policy.module.q_values(policy.module.acting_net.head(features))
    written = trials[[f"q_{action}" for action in range(4)]].to_numpy()
    np.testing.assert_allclose(values[0].numpy(), written, rtol=1e-4, atol=1e-6)


def test_a_network_that_is_untrained_has_other_weights_and_the_same_for_a_seed() -> None:
    policy = policy_of(GRU)
    weights = [list(made.module.policy_net.parameters()) for made in (policy.untrained(1), policy.untrained(1), policy)]
    assert all(torch.equal(one, other) for one, other in zip(weights[0], weights[1], strict=True))
    assert not torch.equal(weights[0][0], weights[2][0])


def test_a_contribution_of_a_linear_network_is_weight_times_input() -> None:
    """Value of action 0: the sum of all inputs; of the others, 0."""
    policy = policy_of(lambda *shapes: MLP(*shapes, hidden_sizes=()), env_kwargs={"delay": 0})
    head = policy.module.policy_net.head
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        next(head.parameters())[0] = 1.0
    size = policy.module.obs_shape[0]
    observation = np.zeros((2, 3, size), np.float32)
    observation[0, :, 0] = [1.0, 2.0, 3.0]
    observation[1, :, 1] = [5.0, 5.0, 5.0]
    seen = Observations(observation, np.ones((2, 3), bool))
    found = recording.contributions(policy, seen, np.zeros((2, 3), np.int64), 10, np.random.default_rng(0))
    assert found is not None
    own_less_mean = 1 - 1 / 4
    np.testing.assert_allclose(found.observed, np.diag([2.0, 5.0]) * own_less_mean, rtol=1e-6)  # memory has none
    np.testing.assert_allclose(
        found.null, np.broadcast_to(found.observed, (10, 2, 2)), rtol=1e-6
    )  # all have one weight
    found = recording.contributions(policy, seen, np.array([[0, 1, 1]] * 2), 0, np.random.default_rng(0))
    by_hand = (1.0 * own_less_mean - (2.0 + 3.0) / 4) / 3
    np.testing.assert_allclose(found.observed[0, 0], by_hand, rtol=1e-6)


def test_a_table_of_other_observations_is_refused(tmp_path: Path) -> None:
    policy = policy_of(GRU)
    path = tmp_path / "trials.csv"
    table = pd.DataFrame({"episode": [0], "trial": [0], "action": [1], "correct_action": [-1], "state": [""]})
    for text, message in (
        ("[0.5, 1.0]", r"an observation's shape in \S+ is \(2,\); it must be \(10,\)"),
        ('[0.5, "a"]', r"trials.csv can't be used: could not convert string to float: 'a'"),
        ("[" * 100_000, "trials.csv can't be used: "),
    ):
        table.assign(state=text).to_csv(path, index=False)
        with pytest.raises(ConfigurationError, match=message):
            recording.states_in(policy, path)
    table.drop(columns="state").to_csv(path, index=False)
    with pytest.raises(ConfigurationError, match="has no column state"):
        recording.states_in(policy, path)
