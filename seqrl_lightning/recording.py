"""Record the units of a policy's network, step by step, in episodes that it plays or in those of a table."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seqrl_lightning import collect
from seqrl_lightning.analysis.decoding import Measured
from seqrl_lightning.analysis.logged import as_observation
from seqrl_lightning.analysis.representations import Representation, represent
from seqrl_lightning.analysis.states import Observations, States, aligned, labels_of, ordered
from seqrl_lightning.analysis.trials import has_ended, read_trials, shows_position
from seqrl_lightning.callbacks.trials import header, played_rows
from seqrl_lightning.collect import rollout
from seqrl_lightning.envs import EnvFault
from seqrl_lightning.envs.bare import bare_task
from seqrl_lightning.errors import refused_in_a_line
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.files import add_rows, start_table
from seqrl_lightning.metrics import TaskFacts
from seqrl_lightning.networks import Network
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.policy import Policy
from seqrl_lightning.trust import task_kwargs, task_mode
from seqrl_lightning.types import Array, ConfigurationError, FloatArray, IntArray, RunError, require

UNITS = ("features", "state")
"""The kinds of units: the features that the network's head reads, or the state carried from step to step."""

_MAX_STEPS = 1000  # of an episode that is played


class Recorded(NamedTuple):
    """The features and states that a network computed in M steps."""

    features: FloatArray  # [M, F] float32, what its head reads
    carried: FloatArray | None  # [M, S, ...] float32, its state after the step; None if it has no memory

    def units(self, kind: str) -> FloatArray:
        """Return the units of one of :data:`UNITS`, ``[M, U]``.

        Raises:
            ConfigurationError: If the network carries no state.
        """
        if kind == "features":
            return self.features
        require(self.carried is not None, "--units", kind, "features: the network carries no state")
        assert self.carried is not None
        return self.carried.reshape(len(self.carried), -1)


def write_played(policy: Policy, path: Path, num_episodes: int, seed: int = 0, epsilon: float = 0.0) -> None:
    """Play episodes side by side, and write their trials into a table, like ``predictions.csv``.

    Args:
        policy: The policy.
        path: The table.
        num_episodes: Number of episodes.
        seed: Episode i starts from ``seed + i``. It is given up after 1000 steps.
        epsilon: The probability of a random action, in [0, 1]; without one, the policy is greedy.

    Raises:
        RunError: If an environment breaks.
    """
    envs = policy.make_envs(num_episodes)
    n_actions, rng = policy.module.n_actions, np.random.default_rng(seed)
    acting = collect.ExploringPolicy(policy.module.act_values, ConstantEpsilon(epsilon), n_actions, rng)
    acting.remembers = True  # the table has the values of all actions, also of random ones
    try:
        played = [(step, acting.values, acting.explores) for step in rollout(acting.act, envs, seed, None, _MAX_STEPS)]
    except EnvFault as fault:
        raise RunError(f"environment {fault.env} broke: {fault.reason}") from fault
    finally:
        envs.discard()
    path.parent.mkdir(parents=True, exist_ok=True)
    start_table(path, header(n_actions))
    steps = [(step, values) for step, values, _ in played]
    explores = [explored for *_, explored in played if explored is not None]
    episodes = range(seed, seed + num_episodes)
    add_rows(path, played_rows(steps, policy.module.obs_shape, episodes, explores=explores))


def facts_of(policy: Policy, table: Path) -> TaskFacts:
    """Return the facts that the policy's task states, as far as they hold for a table of trials.

    Raises:
        ConfigurationError: If the task can't be made, or the table can't be read.
    """
    data = policy.recipe.data
    with policy.trust.task(data.get("env_id"), "the checkpoint"), refused_in_a_line("the checkpoint"):
        facts = TaskFacts.of(bare_task(str(data["env_id"]), task_kwargs(data), task_mode(data) is not None))
    with refused_in_a_line(str(table)):
        return facts if shows_position(table) else facts._replace(num_positions=None)


def observations_in(trials: pd.DataFrame, policy: Policy, source: Path) -> Observations:
    """Lay the observations of a table side by side.

    Args:
        trials: A table that is ordered (:func:`seqrl_lightning.analysis.states.ordered`), with their JSON as ``state``.
        policy: The policy that is to see them.
        source: The table's file, for errors.

    Raises:
        ConfigurationError: If they aren't such observations as the policy was trained on.
    """
    shape = policy.module.obs_shape
    if "state" not in trials:
        raise ConfigurationError(f"{source} has no column state; it must hold the observations, as trials.csv does")
    shown = [
        as_observation(json.loads(text), shape, policy.recipe.obs_dtype) for text in trials["state"].cat.categories
    ]
    for observation in shown:
        require(observation.shape == tuple(shape), f"an observation's shape in {source}", observation.shape, str(shape))
    step = trials["trial"].to_numpy()
    episode = pd.factorize(trials["number"])[0]
    size = (int(step.max()) + 1, int(episode.max()) + 1)
    observation = np.zeros((*size, *shape), np.uint8 if isinstance(shape, PackedShape) else policy.recipe.obs_dtype)
    observation[step, episode] = np.stack(shown)[trials["state"].cat.codes]
    is_playing = np.zeros(size, np.bool_)
    is_playing[step, episode] = True
    return Observations(observation, is_playing)


def record(policy: Policy, seen: Observations) -> Recorded:
    """Let a network see episodes from their beginnings, and record its units after each step.

    Raises:
        ConfigurationError: If its features can't be had.
    """
    steps = list(_run(policy, seen.observation))
    features = np.stack([features for features, _ in steps])
    carried = np.stack([state for _, state in steps if state is not None]) if steps[0][1] is not None else None
    return Recorded(seen.by_step(features), None if carried is None else seen.by_step(carried))


def _run(policy: Policy, observation: Array) -> Iterator[tuple[FloatArray, FloatArray | None]]:
    """Yield the features ``[N, F]`` and the state ``[N, S, ...]`` after each step, both float32."""
    network, state = _network_of(policy), None
    for row in observation:
        with torch.inference_mode():
            features, state = network.run_torso(_read(policy, row[None]), state, None)
        yield _as_numpy(features[0]), None if state is None else _as_numpy(state.swapaxes(0, 1))


def _read(policy: Policy, observation: Array) -> Tensor:
    """Return observations, ``[T, N, *obs]``, as the policy's network reads them."""
    return policy.module.normalization.observation(torch.from_numpy(observation).to(policy.module.device))


def _network_of(policy: Policy) -> Network:
    network = policy.module.acting_net
    if not isinstance(network, Network):
        raise ConfigurationError(f"model.network is {type(network).__name__}; it must be a Network, with a torso")
    return network


def _as_numpy(tensor: Tensor) -> FloatArray:
    array: FloatArray = tensor.float().cpu().numpy()
    return array


def contributions(
    policy: Policy, seen: Observations, action: IntArray, num_shuffles: int, rng: np.random.Generator
) -> Measured | None:
    """Measure how much each observation of an episode speaks for each of its choices: gradient times input.

    The advantage of the action that was chosen, its value less the mean of all values, is differentiated by the
    observations up to then, as the network reads them. The gradient times the observation, summed over its numbers
    and averaged over episodes, is the observation's contribution; in the null, it is times the observation of
    another episode.

    Args:
        policy: The policy.
        seen: Observations of N episodes of T steps, all of one length.
        action: ``[T, N]`` int64, the choices.
        num_shuffles: Number of times that the episodes are shuffled.
        rng: The source of the shuffles.

    Returns:
        ``[T, T]`` in units of value, choices in rows and observations in columns; None if observations are not floats.
    """
    if not np.issubdtype(seen.observation.dtype, np.floating):
        return None
    num_steps, num_episodes = action.shape
    observation = _read(policy, seen.observation).detach().requires_grad_()
    shown = observation.detach().flatten(2)
    orders = [
        torch.arange(num_episodes),
        *(torch.from_numpy(rng.permutation(num_episodes)) for _ in range(num_shuffles)),
    ]
    outputs, _ = policy.module.policy_net(observation, None, None)
    values = policy.module.q_values(outputs)
    chosen = torch.from_numpy(action).to(values.device)[..., None]
    advantage = (values.gather(-1, chosen)[..., 0] - values.mean(-1)).sum(1)  # [T]
    found = np.zeros((len(orders), num_steps, num_steps))
    for step in range(num_steps):
        (gradient,) = torch.autograd.grad(advantage[step], observation, retain_graph=True)
        for k, order in enumerate(orders):
            found[k, step] = (gradient.flatten(2) * shown[:, order]).sum(-1).mean(1).double().cpu().numpy()
    return Measured(found[0], found[1:])


def _whole(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the episodes that ended, or that :func:`write_played` gave up; a run's last ones did not end."""
    length = trials.groupby("number")["number"].transform("size")
    kept = trials[has_ended(trials) | (length >= _MAX_STEPS)]
    require(len(kept) > 0, "the number of episodes that ended", 0, "at least 1")
    return kept.assign(number=pd.factorize(kept["number"], sort=True)[0])


def states_in(
    policy: Policy, table: Path, name: str = "network", num_episodes: int | None = None, kind: str = "features"
) -> States:
    """Let a policy's network see the episodes of a table, and record its units.

    Args:
        policy: The policy.
        table: A table of trials, like ``trials.csv``, ``predictions.csv``, or what :func:`write_played` writes.
            Episodes that did not end are left out.
        name: The network's name.
        num_episodes: How many of the last episodes; None for all of them.
        kind: One of :data:`UNITS`.

    Raises:
        ConfigurationError: If the table isn't one of the policy's task, or the network has no such units.
    """
    facts = facts_of(policy, table)
    with refused_in_a_line(str(table)):
        trials = ordered(_whole(read_trials(table, facts, needs_right=False)), num_episodes)
        seen = observations_in(trials, policy, table)
        labels = labels_of(trials, facts)
    recorded = record(policy, seen)
    has_positions = facts.num_positions is not None
    return States(name, labels, recorded.units(kind), seen, recorded.carried, has_positions)


def measure_states(policy: Policy, states: States, num_shuffles: int = 100, seed: int = 0) -> Representation:
    """Compute what a network's states hold, and what contributes to its choices.

    Args:
        policy: The policy whose network it is.
        states: From :func:`states_in`.
        num_shuffles: Number of times that labels are shuffled, for each measure.
        seed: Of folds and shuffles; the same for networks that are compared.

    Raises:
        ConfigurationError: If there are too few episodes, or the items are the same in all of them.
    """
    lined_up = aligned(states)
    found = represent(states.name, lined_up, num_shuffles, seed)
    seen = states.seen.part(lined_up.kept, lined_up.action.shape[1])
    salient = contributions(policy, seen, lined_up.action.T, num_shuffles, np.random.default_rng(seed))
    return found._replace(contributions=salient)
