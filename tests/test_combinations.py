"""Combinations of options give the values of loops over single steps, or are refused in one line.

Small random episodes go through the real replay memory and samplers; the learner's targets, losses and priorities are
compared with those of ``tests/oracle.py``. By default some hundred combinations are walked, in which any three values
that can occur together do; ``-m slow`` walks the whole product, and all pairs through the command line.
"""

import dataclasses
import functools
import itertools
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

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
from seqrl_lightning.algorithms.updates import last_of
from seqrl_lightning.batches import Batch, Update, Windows
from seqrl_lightning.cli import SeqRLCLI
from seqrl_lightning.networks import GRU, MLP, Composed, DuelingHead, LinearHead, NoisyLinear
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.replay import (
    LatestSampler,
    PrioritizedSampler,
    ReplayDataset,
    RingBuffer,
    RolloutSampler,
    Sampler,
    SequenceSampler,
    UniformSampler,
    write_priorities,
)
from seqrl_lightning.types import ConfigurationError, Progress
from tests import oracle
from tests.oracle import Outlook, Result, Row, Settings, Transition
from tests.running import seqrl

OBS, ACTIONS, HIDDEN = 2, 3, 3
GAMMA, EPSILON, RESCALING = 0.9, 0.3, 0.05
MUNCHAUSEN = {"munchausen_alpha": 0.9, "munchausen_temperature": 0.7, "munchausen_clip": -0.6}
ATOMS = {"n_atoms": 5, "v_min": -2.0, "v_max": 3.0}
FRACTIONS = {"n_fractions": 2, "n_target_fractions": 3, "n_acting_fractions": 4, "n_cosines": 4, "cvar": 0.8}
LEARNERS: dict[str, tuple[type[LearnerModule], dict[str, Any]]] = {
    "DQN": (DQN, {}),
    "double": (DQN, {"double": True}),
    "Munchausen": (DQN, MUNCHAUSEN),
    "Q(lambda)": (QLambda, {"lambda_": 0.7}),
    "double Q(lambda)": (QLambda, {"double": True, "lambda_": 0.4}),
    "SARSA": (SARSA, {}),
    "Expected SARSA": (ExpectedSARSA, {}),
    "C51": (C51, ATOMS),
    "double C51": (C51, {"double": True, **ATOMS}),
    "QR-DQN": (QRDQN, {"n_quantiles": 3}),
    "double QR-DQN": (QRDQN, {"double": True, "n_quantiles": 3}),
    "Munchausen QR-DQN": (QRDQN, {"n_quantiles": 3, **MUNCHAUSEN}),
    "IQN": (IQN, FRACTIONS),
    "double IQN": (IQN, {"double": True, **FRACTIONS}),
    "Munchausen IQN": (IQN, {**FRACTIONS, **MUNCHAUSEN}),
    "CQL": (DQN, {"cql_alpha": 0.7}),
    "CQL QR-DQN": (QRDQN, {"cql_alpha": 0.7, "double": True, "n_quantiles": 3}),
    "CQL IQN": (IQN, {"cql_alpha": 0.7, **FRACTIONS}),
    "BehaviorCloning": (BehaviorCloning, {}),
    "PQN": (PQN, {"lambda_": 0.7}),
    "DiscreteSAC": (DiscreteSAC, {"initial_temperature": 1.7}),  # above 1: what is forbidden must not overflow
}
LENGTH, OVERLAP, BURN_IN = 6, 2, 2
SEQUENCES = {"length": LENGTH, "overlap": OVERLAP, "alpha": 0.7, "beta": 0.4, "eta": 0.8}


class Combination(NamedTuple):
    learner: str
    sampler: str
    network: str
    n_step: int
    masks: bool
    rescaling: bool
    burn_in: bool
    stored_state: bool
    noisy: bool
    dueling: bool
    updates_per_step: int
    num_envs: int
    parts: bool  # observations are packed parts, one for each number
    normalized: bool  # observations and rewards

    def __str__(self) -> str:
        return "-".join(f"{name}={value}" for name, value in self._asdict().items())


VALUES: dict[str, tuple[Any, ...]] = {
    "learner": tuple(LEARNERS),
    "sampler": ("uniform", "latest", "prioritized", "windows", "prioritized windows", "rollout"),
    "network": ("MLP", "GRU"),
    "n_step": (1, 3),
    **dict.fromkeys(("masks", "rescaling", "burn_in", "stored_state", "noisy", "dueling"), (False, True)),
    "updates_per_step": (1, 2),
    "num_envs": (1, 3),
    "parts": (False, True),
    "normalized": (False, True),
}
PARTS = PackedShape({"first": ("float32", (1,)), "second": ("float32", (1,))})


def product() -> list[Combination]:
    """All combinations, those once that differ in a setting which means nothing to them."""
    found = []
    for learner, sampler, network in itertools.product(*(VALUES[name] for name in ("learner", "sampler", "network"))):
        means_nothing = {
            "burn_in": "windows" not in sampler,
            "stored_state": "windows" not in sampler or network == "MLP",
            "n_step": sampler == "rollout",
            "updates_per_step": learner == "PQN",
            "rescaling": learner == "BehaviorCloning",
            "normalized": learner == "BehaviorCloning",
        }
        values = {**VALUES, "learner": (learner,), "sampler": (sampler,), "network": (network,)}
        values |= {name: values[name][:1] for name, is_so in means_nothing.items() if is_so}
        for combination in map(Combination._make, itertools.product(*values.values())):
            has_more = combination.num_envs > 1 or combination.updates_per_step > 1
            is_alone = combination.parts and (has_more or combination.rescaling or combination.noisy)
            is_alone |= combination.normalized and (has_more or combination.masks or combination.noisy)
            if not is_alone:  # each goes with what no code knows of the other in a part of the product only
                found.append(combination)
    return found


def covering(combinations: list[Combination], strength: int) -> list[Combination]:
    """So many of them that each ``strength`` values that occur together at all occur together in one of these."""
    places = [{value: place for place, value in enumerate(values)} for values in VALUES.values()]
    columns = np.array(list(itertools.combinations(range(len(places)), strength)))
    base = max(map(len, places))
    values = np.array([[of[value] for of, value in zip(places, c, strict=True)] for c in combinations], np.int32)
    flags = np.arange(len(columns), dtype=np.int32)  # each group of columns has a flag for all its values
    for k in range(strength):
        flags = flags * base + values[:, columns[:, k]]
    seen = np.zeros(len(columns) * base**strength, bool)
    chosen = []
    for index in np.random.default_rng(0).permutation(len(combinations)):
        if not seen[flags[index]].all():
            seen[flags[index]] = True
            chosen.append(combinations[index])
    return chosen


PRODUCT = product()
REFUSED = {  # before training, by the words of the line
    "model.network": lambda c: c.learner == "DiscreteSAC" and c.network == "GRU",
    "data.sampler": lambda c: (
        c.sampler != "rollout"
        if c.learner == "PQN"
        else (c.network == "GRU" or "lambda" in c.learner) and c.sampler in ("uniform", "latest", "prioritized")
    ),
    "data.sampler.n_step": lambda c: "lambda" in c.learner and "windows" in c.sampler and c.n_step > 1,
    "model.updates_per_step": lambda c: c.sampler == "rollout" and c.updates_per_step > 1,
}


def is_refused(combination: Combination) -> bool:
    return any(refuses(combination) for refuses in REFUSED.values())


# The learner and the sampler, as settings make them


def build_network(combination: Combination) -> Any:
    linear = {"linear": NoisyLinear} if combination.noisy else {}
    head = functools.partial(DuelingHead if combination.dueling else LinearHead, **linear)  # type: ignore[arg-type]
    if combination.network == "GRU":
        network: Any = functools.partial(GRU, hidden_size=HIDDEN, chrono_init=None, head=head)
    else:
        network = functools.partial(MLP, hidden_sizes=(HIDDEN,), head=head, **linear)  # type: ignore[arg-type]
    as_they_are: dict[str, Any] = dict.fromkeys(PARTS.parts, functools.partial(MLP, hidden_sizes=()))
    return functools.partial(Composed, torsos=as_they_are, network=network) if combination.parts else network


def build_learner(combination: Combination) -> Any:
    learner_class, settings = LEARNERS[combination.learner]
    shared: dict[str, Any] = {"gamma": GAMMA, "value_rescaling": RESCALING if combination.rescaling else None}
    shared |= dict.fromkeys(("normalize_observations", "normalize_rewards"), combination.normalized)
    if learner_class is BehaviorCloning:
        shared = {}
    if learner_class is not PQN:
        shared["updates_per_step"] = combination.updates_per_step
    learner = learner_class(
        PARTS if combination.parts else (OBS,), ACTIONS, build_network(combination), **settings, **shared
    )
    with torch.no_grad():  # so that values differ, between the networks too
        for parameter in learner.parameters():
            if parameter.dim():
                parameter.add_(torch.randn_like(parameter), alpha=0.5)
    return learner


def build_sampler(combination: Combination) -> Sampler:
    n_step = combination.n_step
    if "windows" in combination.sampler:
        return SequenceSampler(
            **SEQUENCES,
            n_step=n_step,
            burn_in=BURN_IN if combination.burn_in else 0,
            stored_state=combination.stored_state,
            prioritized="prioritized" in combination.sampler,
        )
    return {
        "uniform": lambda: UniformSampler(n_step),
        "latest": lambda: LatestSampler(n_step),
        "prioritized": lambda: PrioritizedSampler(n_step, alpha=0.7, beta=0.4, beta_env_steps=100),
        "rollout": lambda: RolloutSampler(LENGTH),
    }[combination.sampler]()


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Each noisy layer draws the same noise over and over; fractions and drawn actions are kept."""
    kept: dict[str, Any] = {"noise": {}, "vectors": {}, "calls": {}, "fractions": [], "policies": [], "actions": []}

    def fixed(layer: NoisyLinear, size: int) -> Tensor:
        key = id(layer)
        if key not in kept["vectors"]:
            kept["vectors"][key] = torch.randn(layer.in_features), torch.randn(layer.out_features)
            kept["noise"][key] = tuple(vector.tolist() for vector in kept["vectors"][key])
        kept["calls"][key] = kept["calls"].get(key, -1) + 1
        noise: Tensor = kept["vectors"][key][kept["calls"][key] % 2]  # first the inputs', then the outputs'
        return noise

    rand, multinomial = torch.rand, torch.multinomial

    def keep_fractions(*args: Any, **kwargs: Any) -> Tensor:
        kept["fractions"].append(rand(*args, **kwargs))
        return kept["fractions"][-1]

    def keep_actions(policy: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        kept["policies"].append(policy)
        kept["actions"].append(multinomial(policy, *args, **kwargs))
        return kept["actions"][-1]

    monkeypatch.setattr(NoisyLinear, "_noise", fixed)
    monkeypatch.setattr(torch, "rand", keep_fractions)
    monkeypatch.setattr(torch, "multinomial", keep_actions)
    return kept


# What happened


class World:
    """Environments that show random observations, played by a random agent into a replay memory and a plain list.

    Args:
        combination: How many environments there are, and whether they allow some actions only.
        seed: Of what happens.
    """

    def __init__(self, combination: Combination, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.num_envs = combination.num_envs
        self.masks = combination.masks
        self.parts = combination.parts
        shape, dtype = (PARTS, "uint8") if self.parts else ((OBS,), "float32")
        self.ring = RingBuffer(14 * self.num_envs, self.num_envs, shape, dtype)
        self.rows: list[list[Row]] = [[] for _ in range(self.num_envs)]
        self.where: dict[tuple[float, ...], tuple[int, int]] = {}  # observation -> env, row
        self.state: Any = None
        observations = self._observe(np.ones(self.num_envs, bool), np.zeros(self.num_envs, bool))
        self.ring.restart(*observations)

    def _observe(self, is_first: Any, terminated: Any) -> tuple[Any, Any]:
        """New rows: the first ones of episodes, or those that follow."""
        observation = self.rng.normal(size=(self.num_envs, OBS)).astype(np.float32)
        mask = self.rng.random((self.num_envs, ACTIONS)) < 0.6
        mask[np.arange(self.num_envs), self.rng.integers(ACTIONS, size=self.num_envs)] = True
        mask[terminated & (self.rng.random(self.num_envs) < 0.5)] = False  # at its end a task may allow nothing
        for env, rows in enumerate(self.rows):
            row = Row(observation[env].tolist(), mask[env].tolist() if self.masks else None, bool(is_first[env]))
            row.is_final = bool(rows) and (rows[-1].terminates or rows[-1].truncates) and not rows[-1].is_final
            row.step = 0 if is_first[env] or row.is_final else rows[-1].step + 1
            self.where[tuple(row.observation)] = env, len(rows)
            rows.append(row)
        return self._packed(observation), mask if self.masks else None

    def _packed(self, observation: Any) -> Any:
        return PARTS.pack({"first": observation[:, :1], "second": observation[:, 1:]}) if self.parts else observation

    def play(self, learner: LearnerModule, sampler: Sampler, num_rows: int) -> None:
        """Acts at random, the learner's network looking on as an agent's does."""
        for _ in range(num_rows):
            heads = [rows[-1] for rows in self.rows]
            observation = np.array([row.observation for row in heads], np.float32)
            sampler.keep_state(self.ring, self.state, np.array([row.step for row in heads]))
            is_first = np.array([row.is_first for row in heads])
            _, self.state = learner.act_values(self._packed(observation), self.state, is_first)
            is_final = np.array([row.is_final for row in heads])
            action = np.array([self.rng.choice(oracle.allowed(row.mask, ACTIONS)) for row in heads])
            reward = np.where(is_final, 0.0, self.rng.normal(size=self.num_envs)).astype(np.float32)
            end = self.rng.random(self.num_envs)
            terminated, truncated = (end < 0.09) & ~is_final, (end > 0.91) & ~is_final
            for row, *step in zip(heads, action, reward, terminated, truncated, strict=True):
                row.action, row.reward, row.terminates, row.truncates = (value.item() for value in step)
            next_observation, next_mask = self._observe(is_final, terminated)
            self.ring.add(action, reward, terminated, truncated, next_observation, next_mask)

    def scale(self, learner: LearnerModule) -> None:
        """Gives a learner that normalizes the statistics of other observations and rewards, from then on fixed."""
        rng = np.random.default_rng(0)
        self.scaled_by = rng.normal(0.5, 2.0, (7, OBS)).astype(np.float32), rng.normal(0.5, 2.0, 7)
        no = np.zeros(7, np.bool_)
        learner.normalization.add(self._packed(self.scaled_by[0]), self.scaled_by[1], no, ~no)
        learner.normalization.share()

    def steps(self) -> set[tuple[int, int]]:
        """Environment and row of all steps."""
        return {(e, row) for e, rows in enumerate(self.rows) for row in range(len(rows) - 1) if not rows[row].is_final}

    def windows(self) -> set[tuple[int, int]]:
        """Those of steps from which on a whole window, or the rest of their episode, lies before the newest row."""
        return {
            (env, first)
            for env, first in self.steps()
            if first + LENGTH < len(self.rows[env]) - 1
            or any(row.is_final for row in self.rows[env][first : len(self.rows[env]) - 1])
        }


# What the oracle makes of it


def _deviation(column: list[float]) -> float:
    return float((statistics.pvariance(column) + 1e-8) ** 0.5)


def _clipped(x: float) -> float:
    return max(-10.0, min(10.0, x))


def numbers(observation: Tensor) -> Tensor:
    """Observations as numbers, also those of packed parts."""
    return observation.view(torch.float32) if observation.dtype == torch.uint8 else observation


def pieces(net: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The modules behind the outputs, by the beginning of their names; of a Composed one, those that read features."""
    return {"": net.core, "head.": net.head} if isinstance(net, Composed) else {"": net}


def lists(net: torch.nn.Module) -> dict[str, Any]:
    named = ((f"{piece}{name}", p) for piece, module in pieces(net).items() for name, p in module.named_parameters())
    return {name: parameter.tolist() for name, parameter in named}


def plain_net(net: torch.nn.Module, draws: dict[str, Any], n_atoms: int | None) -> oracle.Net:
    modules = [(f"{piece}{name}", m) for piece, module in pieces(net).items() for name, m in module.named_modules()]
    noise = {name: draws["noise"][id(m)] for name, m in modules if id(m) in draws["noise"]}
    return oracle.Net(lists(net), noise, ACTIONS, n_atoms)


class Oracle:
    """Reads what happened as the settings say, one step at a time."""

    def __init__(self, combination: Combination, learner: Any, world: World, draws: dict[str, Any]) -> None:
        self.combination, self.learner, self.world, self.draws = combination, learner, world, draws
        of = combination.learner
        n_atoms = 5 if "C51" in of else 3 if "QR" in of else None
        if of == "DiscreteSAC":
            nets = learner.policy_net, learner.target_net
            modules = {"actor": nets[0].actor}
            modules |= {f"critic_{i + 1}": nets[0].critics[i] for i in range(2)}
            modules |= {f"target_{i + 1}": nets[1].critics[i] for i in range(2)}
        else:
            modules = {"policy": learner.policy_net, "target": learner.target_net}
            if "IQN" in of:
                modules = {name: module.net for name, module in modules.items()}
        self.nets = {name: plain_net(module, draws, n_atoms) for name, module in modules.items()}
        _, given = LEARNERS[of]
        self.settings = Settings(
            GAMMA,
            RESCALING if combination.rescaling else None,
            given.get("double", False),
            given.get("munchausen_alpha", 0.0),
            MUNCHAUSEN["munchausen_temperature"],
            MUNCHAUSEN["munchausen_clip"],
            EPSILON,
            support=[-2.0, -0.75, 0.5, 1.75, 3.0],
            fractions=[1 / 6, 3 / 6, 5 / 6],
            acting_fractions=[0.8 * (2 * i + 1) / 8 for i in range(4)],
            target_entropy_ratio=0.5,
            cql_alpha=given.get("cql_alpha", 0.0),
            lambda_=given.get("lambda_"),
        )

    def needs_next_action(self) -> bool:
        return self.combination.learner == "SARSA"

    @functools.cached_property
    def rows(self) -> list[list[Row]]:
        """Of each environment, as the learner reads them."""
        if not self.combination.normalized:
            return self.world.rows
        observations, rewards = self.world.scaled_by
        means, deviations = ([of(column) for column in observations.T.tolist()] for of in (oracle.mean, _deviation))
        of_rewards = _deviation(rewards.tolist())

        def scaled(row: Row) -> Row:
            numbers = zip(row.observation, means, deviations, strict=True)
            observation = [_clipped((x - mean) / deviation) for x, mean, deviation in numbers]
            return dataclasses.replace(row, observation=observation, reward=_clipped(row.reward / of_rewards))

        return [[scaled(row) for row in rows] for rows in self.world.rows]

    def locate(self, batch: Batch) -> list[tuple[int, int]]:
        """Environment and row of each column's first state."""
        return [self.world.where[tuple(state)] for state in numbers(batch.state_batch)[0].tolist()]

    def outlooks(self, env: int, first: int, end: int) -> dict[int, Outlook]:
        """The networks' view of rows ``first`` to ``end - 1``, read in order if they remember."""
        rows = self.rows[env]
        features: dict[str, list[Any]] = {}
        for name, net in self.nets.items():
            start = first
            if self.combination.burn_in and rows[first].step >= BURN_IN:  # else an episode starts after the burn-in
                start = first - BURN_IN
            features[name] = oracle.read(net, rows[start:end], self.state_at(env, start))[0][first - start :]
        return {
            row: Outlook({name: of_net[row - first] for name, of_net in features.items()}, rows[row].mask)
            for row in range(first, end)
        }

    def state_at(self, env: int, row: int) -> Any:
        """The state that the acting network carried into a row, where it is kept."""
        keeps = self.combination.stored_state or self.combination.sampler == "rollout"
        rows = self.rows[env]
        if not keeps or "policy" not in self.nets or not self.nets["policy"].remembers:
            return None
        episode = row
        while episode > 0 and not rows[episode].is_first:
            episode -= 1
        return oracle.read(self.nets["policy"], rows[episode:row], None)[1]

    def result(
        self, step: Transition, env: int, looks: dict[int, Outlook], place: tuple[int, int], drawn: Any
    ) -> Result:
        """Of one transition, at a place (row, column) of the batch."""
        rows, of, s = self.rows[env], self.combination.learner, self.settings
        action = rows[step.row].action
        assert action is not None
        now, then = looks[step.row], looks[step.next_row]
        if of == "BehaviorCloning":
            return oracle.behavior_cloning(self.nets, action, now)
        if "SARSA" in of:
            return oracle.sarsa(self.nets, step, action, now, then, s, drawn, of == "Expected SARSA")
        if "C51" in of:
            return oracle.c51(self.nets, step, action, now, then, s)
        if "QR" in of:
            return oracle.qr_dqn(self.nets, step, action, now, then, s)
        if "IQN" in of:
            s.fractions, target_fractions = (f[place].tolist() for f in self.draws["fractions"][-2:])
            nets = {"policy": self.learner.policy_net, "target": self.learner.target_net}
            layers = {name: lists(net.embedding) for name, net in nets.items()}
            embeddings = {name: (layer["weight"], layer["bias"]) for name, layer in layers.items()}
            return oracle.iqn(self.nets, embeddings, step, action, now, then, s, target_fractions)
        if of == "DiscreteSAC":
            log_temperature = float(self.learner.policy_net.log_temperature.detach())
            return oracle.soft_actor_critic(self.nets, log_temperature, step, action, now, then, s)
        return oracle.q_learning(self.nets, step, action, now, then, s)

    def lambda_returns(self, rows: list[Row], first: int, end: int, looks: dict[int, Outlook]) -> dict[int, float]:
        """Of the steps in rows ``first`` to ``end - 1``; none for a learner without them."""
        s = self.settings
        if s.lambda_ is None:
            return {}
        values = {row: oracle.greedy_value(self.nets, looks[row + 1], s) for row in range(first, end)}
        return oracle.lambda_returns(rows, first, end, values, s.gamma, s.lambda_)

    def check_rows(self, batch: Windows, column: int, rows: list[Row], first: int) -> None:
        """The contents of a window besides its transitions."""
        if "windows" in self.combination.sampler:
            assert rows[first].step % (LENGTH - OVERLAP) == 0
            assert batch.burn_in == (BURN_IN if self.combination.burn_in else 0)
        for i in range(len(batch.observation)):
            at = first - batch.burn_in + i
            if at < max(first - rows[first].step, 1) or at >= len(rows):
                continue  # before the episode with which the window begins, or not there yet
            row, before = rows[at], rows[at - 1]
            assert numbers(batch.observation)[i, column].tolist() == row.observation
            assert bool(batch.is_first[i, column]) == row.is_first
            assert batch.previous_action[i, column].item() == (-1 if row.is_first else before.action)
            assert batch.previous_reward[i, column].item() == (0.0 if row.is_first else before.reward)

    def results(self, batch: Batch) -> dict[tuple[int, int], Result]:
        """Of each place in the batch at which there is something to learn from."""
        found: dict[tuple[int, int], Result] = {}
        length = len(batch.action_batch)
        is_window = isinstance(batch, Windows)
        for column, (env, first) in enumerate(self.locate(batch)):
            rows = self.rows[env]
            if isinstance(batch, Windows):
                self.check_rows(batch, column, self.world.rows[env], first)
            end = first + length if is_window else len(rows)
            looks = self.outlooks(env, first, min(first + length + 1, len(rows))) if is_window else {}
            lambda_returns = self.lambda_returns(rows, first, min(end, len(rows) - 1), looks)
            for t in range(length):
                n_step = self.combination.n_step
                if first + t >= len(rows):
                    break
                step = oracle.transition(rows, first + t, n_step, end, self.needs_next_action())
                if step is None:
                    continue
                if step.row in lambda_returns:
                    action, lambda_return = rows[step.row].action, lambda_returns[step.row]
                    assert action is not None
                    found[t, column] = oracle.q_lambda(self.nets, action, looks[step.row], lambda_return, self.settings)
                    continue
                if not is_window:
                    looks = {row: self.outlooks(env, row, row + 1)[row] for row in (step.row, step.next_row)}
                drawn = None
                if self.needs_next_action():
                    drawn = int(self.draws["actions"][-1].view(batch.action_batch.shape)[t, column])
                found[t, column] = self.result(step, env, looks, (t, column), drawn)
        return found


# The comparison


def assert_near(found: float, expected: float, what: str) -> None:
    assert abs(found - expected) <= 2e-4 * max(1.0, abs(expected)), (what, found, expected)


def compare(
    combination: Combination, batch: Batch, update: Update, truth: Oracle, weights: dict[int, float]
) -> dict[tuple[int, int], Result]:
    """Compares an update, and returns what it should have been at each place of the batch."""
    results = truth.results(batch)
    ones = torch.ones_like(batch.action_batch, dtype=torch.float32)
    weight_batch = ones if batch.weight_batch is None else batch.weight_batch
    learned = {(t, b) for t, b in (weight_batch > 0).nonzero().tolist()}
    assert learned == set(results)
    losses, of_losses = [], []
    for (t, b), result in results.items():
        assert_near(float(update["state_action_values"][t, b]), result.predicted, "predicted")
        assert_near(float(update["expected_state_action_values"][t, b]), result.expected, "expected")
        assert_near(float(weight_batch[t, b]), weights.get(b, 1.0), "importance weight")
        losses.append(result.loss)
        of_losses.append(weights.get(b, 1.0))
        if "prioritized" in combination.sampler:
            assert_near(float(update["priority_batch"][t, b]), result.priority, "priority")
        if combination.learner == "SARSA":
            policies = truth.draws["policies"][-1].view(*batch.action_batch.shape, ACTIONS)
            for action in range(ACTIONS):
                assert_near(float(policies[t, b, action]), result.policy.get(action, 0.0), "policy")
    assert ("priority_batch" in update) == ("prioritized" in combination.sampler)
    assert_near(float(update["loss"].detach()), oracle.weighted_mean(losses, of_losses), "loss")
    return results


class Masses:
    """The mass by which each slot is drawn, as prioritized replay defines it: a new one has the largest so far."""

    def __init__(self, combination: Combination, world: World) -> None:
        self.combination, self.world = combination, world
        self.is_windows = "windows" in combination.sampler
        self.of_slots: dict[int, float] = {}
        self.known: set[tuple[int, int]] = set()  # env, row
        self.largest = 1.0

    def take_in(self) -> None:
        """New steps, or windows that are complete now (also those that were learned from before they were)."""
        ring = self.world.ring
        new = self.world.windows() if self.is_windows else self.world.steps()
        for env, row in new - self.known:
            self.of_slots[row % ring.num_rows * ring.num_envs + env] = self.largest
        self.known |= new

    def weights(self, batch: Batch) -> dict[int, float]:
        """Importance weights of the columns."""
        if batch.slot_batch is None:
            return {}
        beta = 0.4 if self.is_windows else 0.4 + 0.6 * 0.4  # after 40 of 100 env steps
        masses = [self.of_slots.setdefault(slot, self.largest) for slot in batch.slot_batch[0].tolist()]
        return {column: (mass / min(masses)) ** -beta for column, mass in enumerate(masses)}

    def write(self, slots: list[int], results: list[dict[tuple[int, int], Result]]) -> None:
        """The priorities of an update's columns."""
        for column, slot in enumerate(slots):
            part, place = divmod(column, len(slots) // len(results))
            errors = [result.priority for (_, b), result in results[part].items() if b == place]
            error = 0.8 * max(errors) + 0.2 * oracle.mean(errors) if self.is_windows else errors[0]
            self.of_slots[slot] = (error + 1e-6) ** 0.7
            self.largest = max(self.largest, self.of_slots[slot])


def check(combination: Combination, draws: dict[str, Any], seed: int) -> None:
    learner, sampler = build_learner(combination), build_sampler(combination)
    world = World(combination, seed)
    if combination.normalized:
        world.scale(learner)
    if combination.learner == "PQN":
        if earlier := seed % 12:
            world.play(learner, sampler, earlier)
            sampler(world.ring, 1, np.random.default_rng(0))
        world.play(learner, sampler, LENGTH)
        check_rollout(combination, learner, sampler, world, draws)
        return
    size = combination.updates_per_step * (2 if "windows" in combination.sampler else 3)
    if combination.sampler == "latest":  # there may be one episode only, with many final observations beside it
        size = combination.updates_per_step * 2
    progress, rng = Progress(env_steps=40, epsilon=EPSILON), np.random.default_rng(seed)
    batches = iter(
        ReplayDataset(world.ring, sampler, size, 2, rng, progress, learner.needs_next_action, learner.needs_epsilon)
    )
    masses = Masses(combination, world)
    for num_rows in (11, 8):
        world.play(learner, sampler, num_rows)
        masses.take_in()
        batch = next(batches)
        weights = masses.weights(batch)
        k = combination.updates_per_step
        updates, results = [], []
        for number, part, read in zip(
            range(k), batch.split(k), learner.normalization.batch(batch).split(k), strict=True
        ):
            first = number * part.action_batch.shape[1]
            updates.append(learner.optimize_model(read))
            truth = Oracle(combination, learner, world, draws)
            of_part = {column - first: weight for column, weight in weights.items() if column >= first}
            results.append(compare(combination, part, updates[-1], truth, of_part))
        if batch.slot_batch is None:
            continue
        write_priorities(sampler, batch, last_of(updates)["priority_batch"])
        slots = batch.slot_batch[0].tolist()
        masses.write(slots, results)
        for slot in slots:
            assert_near(float(sampler._tree.weights[slot]), masses.of_slots[slot], "in the replay memory")  # type: ignore[attr-defined]


def check_rollout(
    combination: Combination, learner: Any, sampler: Sampler, world: World, draws: dict[str, Any]
) -> None:
    batch = sampler(world.ring, 1, np.random.default_rng(0))
    assert isinstance(batch, Windows)
    minibatch = learner.fix_targets(learner.normalization.batch(batch))
    update = learner.optimize_model(minibatch)
    truth = Oracle(combination, learner, world, draws)
    net, rescaling = truth.nets["policy"], truth.settings.rescaling
    expected: dict[tuple[int, int], tuple[float, float]] = {}
    for env, rows in enumerate(truth.rows):
        first, end = len(rows) - 1 - LENGTH, len(rows) - 1
        looks = truth.outlooks(env, first, end + 1)
        for row, value in truth.lambda_returns(rows, first, end, looks).items():
            predicted = net.head(looks[row].features["policy"])[rows[row].action]
            expected[row - first, env] = predicted, oracle.squash(value, rescaling)
    places = sorted(expected)  # row by row, as transitions are laid out
    if learner.remembers:
        found = [(update["state_action_values"][p].item(), minibatch.targets[p].item()) for p in places]
        assert {(t, b) for t, b in (batch.weight_batch > 0).nonzero().tolist()} == set(places)
    else:
        found = list(zip(update["state_action_values"][0].tolist(), minibatch.targets[0].tolist(), strict=True))
    assert len(found) == len(places)
    for (predicted, target), place in zip(found, places, strict=True):
        assert_near(predicted, expected[place][0], "predicted")
        assert_near(target, expected[place][1], "lambda-return")
    losses = [oracle.huber(target - predicted, 1.0) for predicted, target in expected.values()]
    assert_near(float(update["loss"].detach()), oracle.mean(losses), "loss")


def walk(combinations: list[Combination], draws: dict[str, Any]) -> None:
    for number, combination in enumerate(combinations):
        torch.manual_seed(number)
        for kept in draws.values():
            kept.clear()
        try:
            check(combination, draws, number)
        except Exception as error:
            raise AssertionError(f"{combination} (number {number})") from error


ALLOWED = [combination for combination in PRODUCT if not is_refused(combination)]


@functools.cache
def pairs() -> list[Combination]:
    return covering(ALLOWED, 2)


@functools.cache
def triples() -> list[Combination]:
    return covering(ALLOWED, 3)


def test_every_learner_is_compared() -> None:
    exported = {getattr(algorithms, name) for name in algorithms.__all__} - {LearnerModule}
    assert {learner_class for learner_class, _ in LEARNERS.values()} == exported, "name it in LEARNERS"


@pytest.mark.parametrize("learner", LEARNERS)
def test_targets_losses_and_priorities_are_those_of_single_steps(learner: str, draws: dict[str, Any]) -> None:
    of_learner = [combination for combination in pairs() if combination.learner == learner]
    assert len(of_learner) >= 3
    walk(of_learner, draws)


@pytest.mark.slow
@pytest.mark.parametrize("learner", LEARNERS)
def test_so_they_are_with_every_three_values(learner: str, draws: dict[str, Any]) -> None:
    of_learner = [combination for combination in triples() if combination.learner == learner]
    assert len(of_learner) >= 8
    walk(of_learner, draws)


@pytest.mark.slow
@pytest.mark.parametrize("learner", LEARNERS)
def test_so_they_are_in_the_whole_product(learner: str, draws: dict[str, Any]) -> None:
    walk([combination for combination in ALLOWED if combination.learner == learner], draws)


def test_the_others_are_refused_in_a_line() -> None:
    refused = covering([combination for combination in PRODUCT if is_refused(combination)], 2)
    for combination in refused:
        learner, sampler = build_learner(combination), build_sampler(combination)
        with pytest.raises(ConfigurationError) as error:
            learner.check_sampler(sampler)
        line = str(error.value)
        assert "\n" not in line
        assert "; it must be " in line
        assert any(line.startswith(f"{word} is ") and refuses(combination) for word, refuses in REFUSED.items()), line


def test_every_three_values_that_go_together_are_walked() -> None:
    def of(combinations: list[Combination]) -> set[Any]:
        return {values for c in combinations for values in itertools.combinations(enumerate(c), 3)}

    assert of(ALLOWED) == of(triples())


# All pairs through the command line


def config_of(combination: Combination, root: str) -> dict[str, Any]:
    """A config file's contents."""
    learner_class, settings = LEARNERS[combination.learner]
    k, n_step = combination.updates_per_step, combination.n_step
    noisy = {"linear": {"class_path": "NoisyLinear"}} if combination.noisy else {}
    head = {"class_path": "DuelingHead" if combination.dueling else "LinearHead", "init_args": noisy}
    layers = {"hidden_size": 3} if combination.network == "GRU" else {"hidden_sizes": [3], **noisy}
    sampler: dict[str, Any] = {"n_step": n_step}
    if "windows" in combination.sampler:
        burn_in, stored_state = BURN_IN * combination.burn_in, combination.stored_state
        sampler |= {"length": LENGTH, "overlap": OVERLAP, "burn_in": burn_in, "stored_state": stored_state}
        sampler |= {"prioritized": "prioritized" in combination.sampler}
    if combination.sampler == "rollout":
        sampler = {"length": LENGTH}
    samplers = {"uniform": "Uniform", "latest": "Latest", "prioritized": "Prioritized", "rollout": "Rollout"}
    batch_size = LENGTH if combination.learner == "PQN" else 2
    agent = {"warmup_env_steps": 24, "env_steps_per_update": 3}
    if combination.learner == "PQN":
        updates = 4 * combination.num_envs
        agent = {"warmup_env_steps": LENGTH * combination.num_envs, "updates_per_collect": updates}
        agent |= {"env_steps_per_update": LENGTH * combination.num_envs / updates}
    network: dict[str, Any] = {"class_path": combination.network, "init_args": {"head": head, **layers}}
    wrappers = [{"class_path": "tests.tasks.InParts"}] if combination.parts else []
    if combination.parts:
        network = {"class_path": "Composed", "init_args": {"network": network}}
    model = {"network": network, **settings}
    model |= {"value_rescaling": RESCALING} if combination.rescaling else {}
    model |= {} if combination.learner == "PQN" else {"updates_per_step": k}
    model |= {"normalize_observations": True, "normalize_rewards": True} if combination.normalized else {}
    return {
        "data": {
            "env_id": "tests/Doors-v0" if combination.masks else "tests/Diary-v0",
            "num_envs": combination.num_envs,
            "wrappers": wrappers,
            "flatten_observations": False,
            "batch_size": batch_size,
            "capacity": 120,
            "eval_episodes": 1,
            "sampler": {"class_path": samplers.get(combination.sampler, "Sequence") + "Sampler", "init_args": sampler},
        },
        "model": {"class_path": learner_class.__name__, "init_args": model},
        "agent": agent,
        "trainer": {
            "max_steps": 2 * k,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": root,
            "limit_val_batches": 0,
        },
    }


PAIRS = covering([combination for combination in PRODUCT if combination.learner != "BehaviorCloning"], 2)  # no agent


class Unrun(SeqRLCLI):
    """The program up to the point where it would train."""

    def _run_subcommand(self, subcommand: str) -> None:
        pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_value_is_built_by_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["seqrl"])
    parser = Unrun(["fit", "--data.env_id=CartPole-v1", "--trainer.logger=false"]).parser
    path = tmp_path / "config.yaml"
    for combination in covering(PRODUCT, 1):
        path.write_text(yaml.safe_dump(config_of(combination, str(tmp_path))))
        built = parser.instantiate_classes(parser.parse_args(["fit", f"--config={path}"])).fit
        assert type(built.model) is LEARNERS[combination.learner][0]
        if is_refused(combination):
            with pytest.raises(ConfigurationError):
                built.model.check_sampler(built.data.sampler)
        else:
            built.model.check_sampler(built.data.sampler)


@pytest.mark.slow
@pytest.mark.parametrize("combination", PAIRS, ids=str)
def test_all_pairs_train_or_are_refused_by_the_command_line(combination: Combination, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config_of(combination, str(tmp_path))))
    status, _, err = seqrl("fit", f"--config={path}")
    lines = [line for line in err.splitlines() if line.startswith("seqrl: error: ")]
    assert status == (2 if is_refused(combination) else 0), err
    assert len(lines) == is_refused(combination)
