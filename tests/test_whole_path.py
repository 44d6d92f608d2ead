"""From the environment to the loss, through the command line: batches hold the steps that the task itself noted.

A task notes each of its steps. The command line trains with settings that lie between a task and a learner (wrappers,
stacks, parts, masks, normalization, bonuses, environments that break, logged trials), and each batch, target, priority
and loss is compared with loops over these notes. ``tests/test_combinations.py`` does so for all rules, from the replay
memory on.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from seqrl_lightning.algorithms import DQN, PQN, QLambda
from seqrl_lightning.batches import Batch, Transitions, Windows
from seqrl_lightning.collect import ExplorationBonus
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.types import Array, FloatArray
from tests import oracle
from tests.oracle import Row
from tests.running import seqrl

ACTIONS, GAMMA, RESCALING = 3, 0.9, 0.05
NOTES: dict[int, list[Row]] = {}  # by the number of the episode: its rows, the newest last; without broken episodes


class Noted(gym.Env[Any, Any]):
    """Random episodes of 1 to 6 steps, each observation of which has the numbers of its episode and step."""

    def __init__(self, masks: bool = False, parts: bool = False, breaks: bool = False) -> None:
        self.masks, self.parts, self.breaks = masks, parts, breaks
        numbers = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        picture = gym.spaces.Box(0, 255, (4, 4, 1), np.uint8)
        self.observation_space = gym.spaces.Dict(picture=picture, numbers=numbers) if parts else numbers
        self.action_space = gym.spaces.Discrete(ACTIONS)
        self.episode = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode = max(NOTES, default=0) + 1
        self.last_step = int(self.np_random.integers(6))
        self.rows = NOTES[self.episode] = []
        return self.show()

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.breaks and self.np_random.random() < 0.04:
            NOTES[self.episode] = []  # none of its rows may be learned from
            raise RuntimeError("broken")
        row, is_last = self.rows[-1], len(self.rows) - 1 == self.last_step
        row.action, row.reward = int(action), float(np.float32(self.np_random.normal()))
        row.terminates = is_last and bool(self.np_random.random() < 0.5)
        row.truncates = is_last and not row.terminates
        observation, info = self.show(is_last)
        return observation, row.reward, row.terminates, row.truncates, info

    def show(self, is_final: bool = False) -> tuple[Any, dict[str, Any]]:
        step = len(self.rows)
        numbers = np.array([self.episode, step, self.np_random.normal()], np.float32)
        allowed = self.np_random.random(ACTIONS) < 0.5
        allowed[self.np_random.integers(ACTIONS)] = True
        self.rows.append(Row(numbers.tolist(), allowed.tolist() if self.masks else None, step == 0, is_final, step))
        picture = np.full((4, 4, 1), step, np.uint8)
        info = {"action_mask": allowed} if self.masks else {}
        return {"picture": picture, "numbers": numbers} if self.parts else numbers, info


class BonusOfStep(ExplorationBonus):
    """A bonus that is known from the observation: a tenth of the number of the step."""

    def __init__(self) -> None:
        super().__init__(0.1)

    def begin(self, obs_shape: tuple[int, ...], obs_dtype: str, rng: np.random.Generator) -> None:
        pass

    def novelty(self, observation: Array) -> FloatArray:
        return observation[:, 1].astype(np.float64)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


class Found(NamedTuple):
    """A transition of a batch, and the rows of the notes that it has to have come from."""

    t: int
    b: int
    rows: list[Row]  # from its state to its next state, n + 1 of them
    weight: float


class Case(NamedTuple):
    """Settings of a run, and what an oracle has to know of them."""

    config: dict[str, Any]
    n_step: int = 1
    frame_stack: int = 1
    has_bonus: bool = False
    breaks: bool = False
    is_logged: bool = False


class Truth:
    """Compares the batches of a learner in training with the notes."""

    def __init__(self, case: Case, learner: Any) -> None:
        self.case, self.learner = case, learner
        self.num_compared = 0
        self.columns: dict[tuple[Any, int], list[list[float]]] = {}  # outputs of a network for a window's rows
        norm = learner.normalization
        self.mean, self.std, self.reward_std = np.zeros(3), np.ones(3), 1.0
        if norm.observations is not None:
            moments = norm.observations.norm.moments
            self.mean, self.std = moments.mean.numpy(), (moments.variance + 1e-8).sqrt().numpy()
        if norm.rewards is not None:
            self.reward_std = float((norm.rewards.norm.moments.variance + 1e-8).sqrt())

    def near(self, found: Tensor | float, expected: float, what: str) -> None:
        self.num_compared += 1
        assert float(found) == pytest.approx(expected, rel=2e-3, abs=2e-3), what

    def frames(self, observation: Tensor) -> list[tuple[int, int]]:
        """The numbers of episode and step of each frame, and that the parts are of one step."""
        shape = self.learner.obs_shape
        parts = shape.unpack(observation.numpy()) if isinstance(shape, PackedShape) else {"numbers": observation}
        numbers = np.asarray(parts["numbers"], np.float64).reshape(-1, 3) * self.std + self.mean
        found = [(round(episode), round(step)) for episode, step, _ in numbers.tolist()]
        if "picture" in parts:
            pictures = parts["picture"].reshape(len(found), -1)
            assert [set(picture.tolist()) for picture in pictures] == [{step} for _, step in found]
        return found

    def state(self, observation: Tensor) -> tuple[int, int]:
        """The numbers of episode and step of the newest frame; those before it are its predecessors."""
        *before, (episode, step) = self.frames(observation)
        assert before == [(episode, max(0, step - k)) for k in range(len(before), 0, -1)]
        return episode, step

    def reward(self, rows: list[Row], k: int) -> float:
        return (rows[k].reward + (0.1 * rows[k + 1].step if self.case.has_bonus else 0.0)) / self.reward_std

    def transitions(self, batch: Batch) -> Iterator[Found]:
        """All transitions with a weight, each compared with the notes."""
        length, num = batch.action_batch.shape
        for t, b in np.ndindex(length, num):
            weight = 1.0 if batch.weight_batch is None else float(batch.weight_batch[t, b])
            if weight == 0.0:
                continue
            episode, step = self.state(batch.state_batch[t, b])
            notes, n = NOTES[episode], 1 if batch.num_steps_batch is None else int(batch.num_steps_batch[t, b])
            most = length - t if isinstance(batch, Windows) else self.case.n_step
            known = sum(row.action is not None for row in notes[step:])
            assert n == min(self.case.n_step, most, known) or (self.case.breaks and n < known)
            rows = notes[step : step + n + 1]
            assert int(batch.action_batch[t, b]) == rows[0].action
            assert bool(batch.terminated_batch[t, b]) == rows[-2].terminates
            for k in range(batch.reward_batch.shape[-1]):
                self.near(batch.reward_batch[t, b, k], self.reward(rows, k) if k < n else 0.0, "reward")
            mask, next_mask, next_state = self.next_of(batch, t, b, n)
            assert (mask is None) == (rows[0].mask is None)
            assert mask is None or mask.tolist() == rows[0].mask
            if not rows[-2].terminates:  # otherwise they don't matter
                assert self.state(next_state) == (episode, step + n)
                assert next_mask is None or next_mask.tolist() == rows[-1].mask
            yield Found(t, b, rows, weight)

    def next_of(self, batch: Batch, t: int, b: int, n: int) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """The mask of a transition's state, that of its next state, and its next state."""
        if isinstance(batch, Transitions):
            masks = batch.action_mask_batch, batch.next_action_mask_batch
            mask, next_mask = (None if found is None else found[t, b] for found in masks)
            return mask, next_mask, batch.next_state_batch[t, b]
        next_state = batch.observation[batch.burn_in + t + n, b]
        if batch.action_mask is None:
            return None, None, next_state
        return batch.action_mask[t, b], batch.action_mask[t + n, b], next_state

    def outputs(self, net: Any, batch: Batch, found: Found) -> tuple[list[float], list[float]]:
        """The network's outputs for a transition's state and its next state."""
        t, b, n = found.t, found.b, len(found.rows) - 1
        if isinstance(batch, Transitions):
            return self.output(net, batch.state_batch[t, b]), self.output(net, batch.next_state_batch[t, b])
        if (net, b) not in self.columns:
            self.columns[net, b] = self.column(net, batch, b)
        return self.columns[net, b][batch.burn_in + t], self.columns[net, b][batch.burn_in + t + n]

    def output(self, net: Any, observation: Tensor) -> list[float]:
        outputs: list[float] = net(observation[None, None])[0][0, 0].tolist()
        return outputs

    def column(self, net: Any, batch: Windows, b: int) -> list[list[float]]:
        """The network's outputs for the rows of a window, read one at a time, up to its last transition."""
        state = None if batch.network_state is None else batch.network_state[:, b : b + 1]
        num_rows = batch.burn_in + int(batch.weight_batch[:, b].nonzero().max()) + 2
        outputs = []
        for observation in batch.observation[:num_rows, b]:
            state = None if self.frames(observation)[-1][1] == 0 else state
            output, state = net(observation[None, None], state)
            outputs.append(output[0, 0].tolist())
        return outputs

    def values(self, outputs: list[float]) -> list[float]:
        return [oracle.unsquash(output, self.learner.value_rescaling) for output in outputs]

    def targets(self, batch: Batch, lambda_: float | None, double: bool) -> dict[tuple[int, int], tuple[float, ...]]:
        """For each transition: the outputs of its state, and the target that Q-learning or Q(lambda) has."""
        results: dict[tuple[int, int], tuple[float, ...]] = {}
        returns: dict[tuple[int, int], float] = {}
        for found in sorted(self.transitions(batch), reverse=True, key=lambda found: found.t):
            rows, n = found.rows, len(found.rows) - 1
            outputs, own_next = self.outputs(self.learner.policy_net, batch, found)
            next_values = self.values(self.outputs(self.learner.target_net, batch, found)[1])
            best = oracle.best(self.values(own_next) if double else next_values, rows[-1].mask)
            follows = 0.0 if rows[-2].terminates else next_values[best]
            if lambda_ is not None and not (rows[0].terminates or rows[0].truncates):
                follows += lambda_ * (returns.get((found.t + 1, found.b), follows) - follows)
            target = sum(GAMMA**k * self.reward(rows, k) for k in range(n)) + GAMMA**n * follows
            returns[found.t, found.b] = target
            results[found.t, found.b] = *outputs, oracle.squash(target, self.learner.value_rescaling)
        return results

    def compare_update(self, batch: Batch, update: Any) -> None:
        """The targets, priorities and loss of one update of a DQN."""
        learner, losses, weights = self.learner, [], []
        for (t, b), (*outputs, target) in self.targets(
            batch, learner.lambda_ if isinstance(learner, QLambda) else None, learner.use_double_q
        ).items():
            action = int(batch.action_batch[t, b])
            error = target - outputs[action]
            self.near(update["state_action_values"][t, b], outputs[action], "predicted")
            self.near(update["expected_state_action_values"][t, b], target, "target")
            if batch.slot_batch is not None:
                self.near(update["priority_batch"][t, b], abs(error), "priority")
            masks = batch.action_mask_batch
            mask = None if masks is None else masks[t, b].tolist()
            of_choice = oracle.choice_loss(self.values(outputs), action, mask) if learner.cql_alpha else 0.0
            losses.append(oracle.huber(error, 1.0) + learner.cql_alpha * of_choice)
            weights.append(1.0 if batch.weight_batch is None else float(batch.weight_batch[t, b]))
        self.near(update["loss"].detach(), oracle.weighted_mean(losses, weights), "loss")


def network(name: str, **settings: Any) -> dict[str, Any]:
    return {"class_path": name, "init_args": settings}


def model(network: dict[str, Any], name: str = "DQN", **settings: Any) -> dict[str, Any]:
    return {"class_path": name, "init_args": {"gamma": GAMMA, "network": network, **settings}}


MLP, GRU = network("MLP", hidden_sizes=[8]), network("GRU", hidden_size=6)
PRIORITIZED = {"class_path": "PrioritizedSampler", "init_args": {"n_step": 3}}
WINDOWS = {"length": 5, "overlap": 2, "burn_in": 2, "prioritized": True}
ONE_STEP, THREE_STEPS = ({"class_path": "SequenceSampler", "init_args": {**WINDOWS, "n_step": n}} for n in (1, 3))
ROLLOUT = {"class_path": "RolloutSampler", "init_args": {"length": 6}}


def case(sampler: dict[str, Any], model: dict[str, Any], data: dict[str, Any], **known: Any) -> Case:
    """A case with these settings; ``data`` has ``agent`` beside those of the datamodule, and arguments of the task."""
    task = {name: data.pop(name) for name in ("masks", "parts", "breaks") if name in data}
    agent = {"warmup_env_steps": 40, "env_steps_per_update": 2} | data.pop("agent", {})
    size = {"batch_size": 6, "capacity": 120, "num_envs": 2, "eval_episodes": 1}
    settings = {"env_id": f"{__name__}:Noted", "env_kwargs": task, "sampler": sampler, **size, **data}
    config = {"data": settings, "agent": agent, "model": model, "target_sync": {"sync_every_updates": 1000}}
    if model["class_path"] == "PQN":
        del config["agent"], config["target_sync"]
    known = {"n_step": sampler["init_args"].get("n_step", 1), "frame_stack": data.get("frame_stack", 1), **known}
    return Case(config, **known)


CASES = {
    "stacks, masks": case(PRIORITIZED, model(MLP, double=True), {"frame_stack": 3, "masks": True}),
    "parts, stacks, two updates a step": case(
        PRIORITIZED, model(network("Composed", network=MLP), updates_per_step=2), {"frame_stack": 2, "parts": True}
    ),
    "parts, memory, normalization": case(
        THREE_STEPS,
        model(network("Composed", network=GRU), normalize_observations=True, normalize_rewards=True),
        {"parts": True},
    ),
    "Transformer, masks, rescaling": case(
        THREE_STEPS,
        model(network("Transformer", hidden_size=8, num_heads=2, context_length=4), value_rescaling=RESCALING),
        {"masks": True},
    ),
    "FrameStack, a bonus": case(
        THREE_STEPS,
        model(network("FrameStack", length=3)),
        {"agent": {"exploration_bonus": {"class_path": f"{__name__}.BonusOfStep"}}},
        has_bonus=True,
    ),
    "broken environments": case(
        ONE_STEP,
        model(GRU, "QLambda", lambda_=0.7, double=True),
        {"masks": True, "breaks": True, "agent": {"on_env_error": "restart", "max_env_restarts": 1000}},
        breaks=True,
    ),
    "broken environments, stacks": case(
        PRIORITIZED,
        model(MLP),
        {"frame_stack": 3, "breaks": True, "agent": {"on_env_error": "restart", "max_env_restarts": 1000}},
        breaks=True,
    ),
    "PQN, LSTM, masks": case(
        ROLLOUT,
        model(network("LSTM", hidden_size=6), "PQN", lambda_=0.7, normalize_rewards=True),
        {"masks": True, "num_envs": 4, "capacity": 400},
    ),
    "PQN, parts, stacks": case(
        ROLLOUT,
        model(network("Composed", network=MLP), "PQN", lambda_=0.7),
        {"parts": True, "frame_stack": 2, "num_envs": 4, "capacity": 400},
    ),
    "logged trials, conservative": case(
        PRIORITIZED, model(MLP, cql_alpha=0.5, double=True), {"masks": True}, is_logged=True
    ),
    "logged trials, memory, conservative": case(
        THREE_STEPS, model(GRU, cql_alpha=0.5, value_rescaling=RESCALING), {"masks": True}, is_logged=True
    ),
}


def log(path: Path) -> None:
    """Play 40 episodes, and write their trials. A truncated one loses its last choice, whose outcome isn't in a log."""
    env, rng, table = Noted(masks=True), np.random.default_rng(0), []
    for number in range(40):
        env.reset(seed=number)
        while not env.rows[-1].is_final:
            row = env.rows[-1]
            env.step(int(rng.choice(oracle.allowed(row.mask, ACTIONS))))
            lists = {"state": json.dumps(row.observation), "action_mask": json.dumps([int(a) for a in row.mask or []])}
            ends = {"terminated": int(row.terminates), "truncated": int(row.truncates)}
            table.append({"episode": number, **lists, "action": row.action, "reward": row.reward, **ends})
        if env.rows[-2].truncates:
            env.rows.pop()
            env.rows[-1].action = None
            for row in env.rows[-2:-1]:
                row.truncates = True
    with path.open("w") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)


def with_other_target(learner: Any) -> None:
    """Give the target network weights of its own."""
    with torch.no_grad():
        for parameter in learner.target_net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_batches_and_targets_are_those_of_the_tasks_own_notes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, config = CASES[name], {**CASES[name].config}
    NOTES.clear()
    if case.is_logged:
        log(tmp_path / "log.csv")
        data = {"trials": str(tmp_path / "log.csv"), "batch_size": 6, "sampler": config["data"]["sampler"]}
        config = {"data_class": "LoggedTrials", "data": data, "model": config["model"]}
        config["target_sync"] = case.config["target_sync"]
    no_files = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    config["trainer"] = {"max_steps": 64, "enable_model_summary": False, "limit_val_batches": 0, **no_files}
    config["trainer"]["default_root_dir"] = str(tmp_path)
    compared: list[int] = []

    def optimize_model(learner: Any, batch: Batch) -> Any:
        if not compared:
            with_other_target(learner)
        update = learned(learner, batch)
        if len(compared) % 16 == 0:
            truth = Truth(case, learner)
            with torch.no_grad():
                truth.compare_update(batch, update)
            compared.append(truth.num_compared)
        else:
            compared.append(0)
        return update

    def fix_targets(learner: Any, batch: Any) -> Any:
        minibatch, truth = fixed(learner, batch), Truth(case, learner)
        with torch.no_grad():
            expected = {place: target for place, (*_, target) in truth.targets(batch, 0.7, double=False).items()}
        places = sorted(expected)
        found = [minibatch.targets[place] for place in places] if learner.remembers else minibatch.targets[0]
        for target, place in zip(found, places, strict=True):
            truth.near(target, expected[place], "lambda-return")
        compared.append(truth.num_compared)
        return minibatch

    learned, fixed = DQN.optimize_model, PQN.fix_targets
    monkeypatch.setattr(DQN, "optimize_model", optimize_model)
    monkeypatch.setattr(PQN, "fix_targets", fix_targets)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    status, _, err = seqrl("fit", f"--config={path}")
    assert status == 0, err
    assert sum(compared) > 100
    assert not case.breaks or any(not rows for rows in NOTES.values())
