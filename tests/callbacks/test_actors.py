"""Actors: here in the learner's process, the reference for those that Ray starts (tests/test_ray.py)."""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqrl_lightning.algorithms import PQN, ExpectedSARSA
from seqrl_lightning.callbacks import AgentCallback, LastCheckpoint, TrialWriter
from seqrl_lightning.cli import main
from seqrl_lightning.collect.actor_messages import ActorSettings, Broken
from seqrl_lightning.exploration import ConstantEpsilon, LadderEpsilon
from seqrl_lightning.networks import GRU, MLP, NoisyLinear
from seqrl_lightning.replay import RolloutSampler, SequenceSampler
from seqrl_lightning.types import ConfigurationError, RunError
from tests.in_process import InProcess
from tests.running import assert_identical, fit
from tests.tasks import Diary

BLOCKS = [{"sequence": "ABCD", "episodes": 4}, {"sequence": "reversed"}]
SEQUENCE = {"env_id": "seqrl/SequenceDistractor-v0", "env_kwargs": {"objects": "ABCD", "blocks": BLOCKS}}
SIZES = {"num_envs": 4, "batch_size": 8, "capacity": 80, "batches_per_epoch": 25}


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AgentCallback, "_start_actors", lambda _, settings: InProcess(settings))


def run(
    folder: Path,
    max_steps: int = 60,
    ckpt_path: Path | None = None,
    model: dict[str, Any] | None = None,
    agent: dict[str, Any] | None = None,
    **data: Any,
) -> tuple[Any, torch.Tensor]:
    torch.manual_seed(3)
    trainer, module, _ = fit(
        folder,
        {**SEQUENCE, **SIZES, **data},
        model or {},
        {"warmup_env_steps": 16, "env_steps_per_update": 8, "actors": 2, **(agent or {})},
        callbacks=[LastCheckpoint(), TrialWriter()],
        max_steps=max_steps,
        ckpt_path=None if ckpt_path is None else str(ckpt_path),
        logger=True,
    )
    return trainer, torch.cat([p.detach().flatten() for p in module.policy_net.parameters()])  # type: ignore[union-attr]


PARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "blocks and masks": ({}, {}),
    "states": ({"network": lambda *shapes: GRU(*shapes, hidden_size=8)}, {"sampler": SequenceSampler(6, 3, 2)}),
    "noise": ({"network": lambda *shapes: MLP(*shapes, hidden_sizes=[8], linear=NoisyLinear)}, {}),
    "normalization": (
        {"normalize_observations": True, "normalize_rewards": True},
        {"env_id": "CartPole-v1", "env_kwargs": None},
    ),
    "frame stack": ({}, {"env_id": "CartPole-v1", "env_kwargs": None, "frame_stack": 3}),
    "updates by hand": ({"updates_per_step": 5}, {}),
}


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("name", PARTS)
def test_a_resumed_run_ends_as_if_it_had_never_stopped(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    model, data = PARTS[name]
    agent = {"updates_per_collect": model.get("updates_per_step", 1)}

    def go(folder: str, max_steps: int, ckpt_path: Path | None = None) -> tuple[Any, torch.Tensor]:
        return run(tmp_path / folder, max_steps, ckpt_path, model, agent, **data)

    whole, expected = go("whole", 40)
    go("half", 20)
    last = next((tmp_path / "half").rglob("last.ckpt"))
    with caplog.at_level("INFO"):
        resumed, weights = go("rest", 40, last)
    assert "Not bitwise" not in caplog.text
    assert torch.equal(weights, expected)
    assert whole.datamodule.progress == resumed.datamodule.progress
    assert_identical(whole.datamodule.ring.state_dict(), resumed.datamodule.ring.state_dict())
    one, other = (AgentCallback.of(trainer).state_dict() for trainer in (whole, resumed))
    assert_identical(one["collector"], other["collector"])


def transitions_that_happened(trainer: Any) -> int:
    """Compare all stored transitions of the diary with its rules, and return their number."""
    ring = trainer.datamodule.ring
    slots = ring.slots(np.arange(1, ring.num_slots + 1))
    slots = slots[ring.is_transition(slots)]
    batch = ring.transitions(slots)
    state, next_state = (column.squeeze(0).numpy() for column in (batch.state_batch, batch.next_state_batch))
    reward, action = (column.flatten().numpy() for column in (batch.reward_batch, batch.action_batch))
    np.testing.assert_array_equal(next_state[:, :2], state[:, :2])  # the environment and the episode
    np.testing.assert_array_equal(next_state[:, 2], state[:, 2] + 1)
    for i in range(len(state)):
        assert reward[i] == Diary.reward(state[i], action[i])
    return len(slots)


DIARY = {"env_id": "tests/Diary-v0", "env_kwargs": None, "num_envs": 6, "capacity": 4000}


def test_each_transition_is_one_that_happened_and_is_counted_once(tmp_path: Path) -> None:
    trainer, _ = run(tmp_path, 50, agent={"epsilon": ConstantEpsilon(1.0), "actors": 3}, **DIARY)
    agent_callback = AgentCallback.of(trainer)
    num_transitions = transitions_that_happened(trainer)
    assert num_transitions == agent_callback.progress.env_steps > 300
    finished, lengths = agent_callback.episode_log.drain(), agent_callback.collector.episodes.lengths
    assert sum(episode.episode_length for episode in finished) + lengths.sum() == num_transitions
    assert {episode.env for episode in finished} == set(range(6))


class Losing(InProcess):
    """Loses an actor in some of the rounds, after it has taken steps that nobody gets to know."""

    lost: dict[int, int] = {}  # the actor that is lost, by the round

    def __init__(self, settings: ActorSettings) -> None:
        super().__init__(settings)
        self.num_rounds = 0

    def ask(self, method: str, *arguments: object, ranks: Sequence[int] | None = None) -> Callable[[], list[Any]]:
        answers = super().ask(method, *arguments, ranks=ranks)()
        if method == "take" and ranks is None:
            if (rank := self.lost.get(self.num_rounds)) is not None:
                answers[rank] = Broken(f"actor {rank} of {self.num_actors} is lost: it was killed", is_lost=True)
            self.num_rounds += 1
        return lambda: answers


def lose(monkeypatch: pytest.MonkeyPatch, lost: dict[int, int]) -> None:
    monkeypatch.setattr(Losing, "lost", lost)
    monkeypatch.setattr(AgentCallback, "_start_actors", lambda _, settings: Losing(settings))


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("name", ["blocks and masks", "states", "noise"])
def test_a_lost_actor_takes_its_round_again_and_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    model, data = PARTS[name]
    whole, expected = run(tmp_path / "whole", 30, None, model, **data)
    lose(monkeypatch, {0: 0, 3: 1, 20: 1})
    with pytest.warns(UserWarning, match="actor 1 of 2 is lost: .*; restarted from the round's start, so that nothing"):
        lossy, weights = run(tmp_path / "lossy", 30, None, model, {"on_env_error": "restart"}, **data)
    assert torch.equal(weights, expected)
    assert whole.datamodule.progress == lossy.datamodule.progress
    assert_identical(whole.datamodule.ring.state_dict(), lossy.datamodule.ring.state_dict())
    one, other = (AgentCallback.of(trainer).state_dict() for trainer in (whole, lossy))
    assert_identical(one["collector"], other["collector"])


def test_where_no_state_can_be_saved_the_episodes_of_a_lost_actor_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(monkeypatch, {10: 1, 30: 2})
    agent = {"epsilon": ConstantEpsilon(1.0), "actors": 3, "on_env_error": "restart"}
    with pytest.warns(UserWarning, match="actor 1 of 3 is lost: .*; restarted: all begin new episodes"):
        trainer, _ = run(tmp_path, 50, agent=agent, **DIARY)
    agent_callback = AgentCallback.of(trainer)
    assert agent_callback.progress.env_faults == 2
    dropped = agent_callback.progress.env_steps - transitions_that_happened(trainer)
    assert 0 <= dropped <= 2 * 2 * 4  # of two environments, whose episodes have at most four steps
    assert agent_callback.progress.env_steps >= 16 + 50 * 8 + dropped  # taken once more


def test_a_broken_environment_of_an_actor_is_restarted(tmp_path: Path) -> None:
    (broken := tmp_path / "broken").write_text("")
    task = {"env_id": "tests/Breaking-v0", "env_kwargs": {"how": "raises", "broken": str(broken), "alone": False}}
    agent = {"epsilon": ConstantEpsilon(1.0), "actors": 3, "on_env_error": "restart"}
    with pytest.warns(
        UserWarning, match=r"Breaking-v0 of actor \d of 3: .* broke in step .*: ZeroDivisionError.*new ep"
    ):
        trainer, _ = run(tmp_path, 50, agent=agent, **{**DIARY, **task})
    assert AgentCallback.of(trainer).progress.env_faults >= 1
    assert transitions_that_happened(trainer) > 300


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        ({}, r"^actor 1 of 2 is lost: it was killed \(agent\.on_env_error: restart continues"),
        (
            {"on_env_error": "restart", "max_env_restarts": 2},
            r"^actor 0 .*; that was more than agent\.max_env_res.* = 2",
        ),
    ],
)
def test_a_lost_actor_ends_the_run_if_the_settings_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agent: dict[str, Any], message: str
) -> None:
    lose(monkeypatch, {2: 1, 5: 1, 7: 0})
    with pytest.raises(RunError, match=message):
        run(tmp_path, agent=agent)


@pytest.mark.slow
def test_actors_of_a_run_from_the_command_line_can_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line's networks and optimizers hold on to its parser, which can't be."""
    received: list[ActorSettings] = []

    def start(_: AgentCallback, settings: ActorSettings) -> InProcess:
        received.append(pickle.loads(pickle.dumps(settings)))
        return InProcess(received[-1])

    monkeypatch.setattr(AgentCallback, "_start_actors", start)
    (tmp_path / "config.yaml").write_text(
        """
        data: {env_id: CartPole-v1, num_envs: 2, batch_size: 8, capacity: 100, eval_episodes: 1}
        model:
          class_path: DQN
          init_args:
            network: {class_path: MLP, init_args: {hidden_sizes: [8]}}
            optimizer: {class_path: torch.optim.Adam, init_args: {weight_decay: 0.1}}
        agent: {actors: 2, warmup_env_steps: 16, max_env_steps: 40}
        """
    )
    main(["fit", f"--config={tmp_path / 'config.yaml'}", f"--trainer.default_root_dir={tmp_path}"])
    assert received


def test_apex_ladder_gives_each_actor_an_epsilon_of_its_own(tmp_path: Path) -> None:
    trainer, _ = run(tmp_path, 4, agent={"epsilon": LadderEpsilon(0.5, 2.0), "actors": 2})
    assert trainer.datamodule.progress.epsilon == pytest.approx((0.5 + 0.5**3) / 2)
    ladder = [LadderEpsilon().of_actor(i, 256)(0) for i in (0, 128, 255)]
    assert ladder == pytest.approx([0.4, 0.4 ** (1 + 7 * 128 / 255), 0.4**8])
    assert LadderEpsilon().of_actor(0, 1)(0) == LadderEpsilon()(0) == pytest.approx(0.4)


def test_the_ratio_of_env_steps_and_updates_is_kept(tmp_path: Path) -> None:
    trainer, _ = run(tmp_path, 50)
    steps = AgentCallback.of(trainer).progress.env_steps
    assert abs(steps - (16 + 50 * 8)) <= 16  # what the last round's resets took, or rounding up to whole rows


def test_blocks_change_with_the_episodes_of_all_actors(tmp_path: Path) -> None:
    trainer, _ = run(tmp_path, 50)
    blocks = [episode.block for episode in AgentCallback.of(trainer).episode_log.drain()]
    assert trainer.datamodule.progress.block == 1
    assert blocks == sorted(blocks)
    # Four episodes, those that were under way in four environments, and those that a round had begun.
    assert 4 <= blocks.count(0) <= 12


def test_every_choice_of_the_actors_is_written(tmp_path: Path) -> None:
    trainer, _ = run(tmp_path, 30)
    rows = next(tmp_path.rglob("trials.csv")).read_text().splitlines()
    assert len(rows) - 1 == AgentCallback.of(trainer).progress.env_steps
    assert "nan" not in "".join(rows)


def test_one_actor_does_what_overlap_does(tmp_path: Path) -> None:
    """It acts by the weights before the update; until an episode ends, nothing tells the two runs apart."""
    data = {"env_id": "benchmarks.slow_env:benchmarks/Slow-v0", "env_kwargs": None, "num_envs": 2}
    agent = {"warmup_env_steps": 8, "env_steps_per_update": 2, "epsilon": ConstantEpsilon(0.1)}

    def go(folder: str, mode: str, **how: Any) -> tuple[Any, torch.Tensor]:
        model = {"learning_rate": 0.1}  # so that an update changes actions
        return run(tmp_path / folder, 20, None, model, {**agent, **how}, vectorization_mode=mode, **data)

    with_actor, weights = go("actor", "sync", actors=1)
    plain, expected = go("overlap", "async", actors=None, overlap=True)
    after, _ = go("after", "sync", actors=None)
    assert AgentCallback.of(plain).progress.episodes == 0
    assert torch.equal(weights, expected)
    assert_identical(with_actor.datamodule.ring.state_dict(), plain.datamodule.ring.state_dict())
    assert not np.array_equal(after.datamodule.ring.action, plain.datamodule.ring.action)  # by the weights after it


@pytest.mark.parametrize(
    ("agent", "data", "message"),
    [
        ({"actors": 0}, {}, r"agent\.actors is 0; it must be at least 1"),
        ({"actors": 3}, {}, r"agent\.actors is 3; it must be a divisor of data\.num_envs = 4"),
        (
            {"overlap": True},
            {"vectorization_mode": "async"},
            r"agent\.overlap is True; it must be false with agent",
        ),
        (
            {"env_steps_per_update": 129.0 * 4, "updates_per_collect": 1},
            {},
            r"agent\.env_steps_per_update is 516\.0; it must be at most 512 with agent\.actors",
        ),
    ],
)
def test_what_does_not_work_is_refused(
    tmp_path: Path, agent: dict[str, Any], data: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run(tmp_path, agent=agent, **data)


def test_a_learner_of_the_acting_policy_has_one_epsilon(tmp_path: Path) -> None:
    data = {"env_id": "tests/Corridor-v0", "num_envs": 4, "batch_size": 8, "capacity": 100}
    agent = {"actors": 2, "warmup_env_steps": 16}
    line = r"agent\.epsilon is 'LadderEpsilon'; it must be the same for all actors with ExpectedSARSA"
    with pytest.raises(ConfigurationError, match=line):
        fit(tmp_path, data, {}, {**agent, "epsilon": LadderEpsilon()}, module_class=ExpectedSARSA, max_steps=6)


def test_a_learner_of_whole_rollouts_has_no_actors(tmp_path: Path) -> None:
    data = {"env_id": "tests/Corridor-v0", "num_envs": 4, "batch_size": 8, "capacity": 100}
    with pytest.raises(ConfigurationError, match=r"agent\.actors is 2; it must be null: the learner learns from whole"):
        fit(tmp_path, {**data, "sampler": RolloutSampler(6)}, {}, {"actors": 2}, module_class=PQN, max_steps=6)
