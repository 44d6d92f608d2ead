"""The collector, without a Trainer."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from seqrl_lightning.collect import Collector, CountBonus
from seqrl_lightning.envs import EnvFault, Outcome
from seqrl_lightning.exploration import ConstantEpsilon, LinearEpsilon
from seqrl_lightning.networks.normalization import Normalization
from seqrl_lightning.replay import SequenceSampler
from seqrl_lightning.types import IntArray, RunError
from tests.collect.collecting import CountingNetwork, make_collector
from tests.running import assert_identical
from tests.tasks import Diary

BLOCKS = [{"sequence": "ABC", "episodes": 3}, {"sequence": "reversed"}]
SEQUENCE: dict[str, Any] = {"env_id": "seqrl/Sequence-v0", "env_kwargs": {"objects": "ABC", "blocks": BLOCKS}}


def collect(collector: Collector, steps: int, begin: bool = True) -> Collector:
    if begin:
        collector.begin()
    for _ in range(steps):
        collector.step()
    return collector


def transitions(collector: Collector) -> IntArray:
    ring = collector.ring
    slots = ring.slots(np.arange(1, ring.num_slots + 1))
    return slots[ring.is_transition(slots)]


@pytest.mark.parametrize("num_envs", [1, 3])
def test_every_stored_transition_really_happened_and_is_counted_once(num_envs: int) -> None:
    collector = collect(make_collector(num_envs=num_envs), 100)
    slots = transitions(collector)
    assert len(slots) == collector.progress.env_steps < 100 * num_envs  # resets are no env steps
    batch = collector.ring.transitions(slots)
    state, action, reward, next_state = (column.squeeze(0).numpy() for column in batch[:4])
    for i in range(len(slots)):
        env, episode, t = state[i]
        assert next_state[i].tolist() == [env, episode, t + 1]
        assert reward[i] == Diary.reward(state[i], action[i])
    finished = collector.log.drain()
    assert len(finished) == collector.progress.episodes
    lengths = sum(episode.episode_length for episode in finished) + collector.episodes.lengths.sum()
    assert lengths == collector.progress.env_steps


def test_processes_number_their_environments_and_count_for_all() -> None:
    collector = collect(make_collector(rank=1, world_size=2), 30)
    finished = collector.log.drain()
    assert {episode.env for episode in finished} == {2, 3}
    assert all(episode.env_steps % 2 == 0 for episode in finished)
    assert finished[-1].env_steps <= 2 * collector.progress.env_steps
    other = collect(make_collector(rank=0, world_size=2), 30)
    assert not np.array_equal(collector.ring.observation, other.ring.observation)  # from seeds of their own


def test_epsilon_follows_the_env_steps_of_all_processes() -> None:
    collector = collect(make_collector(epsilon=LinearEpsilon(1.0, 0.0, 80), world_size=4), 1)
    while collector.progress.env_steps < 10:  # of 40 in all
        collector.step()
    collector.step()
    assert collector.progress.epsilon == 0.5


def test_rewards_are_scaled_as_they_are_learned_from() -> None:
    collector = make_collector()
    collector.normalization = Normalization((4,), observations=False, rewards=True, gamma=0.9)
    collector.bonus = CountBonus(scale=3.0)
    collector.bonus.begin(collector.envs.envs.observation_space.shape, "float32", np.random.default_rng(0))
    collect(collector, 40)
    collector.normalization.share()
    ring, returns = collector.ring, []
    for env in range(ring.num_envs):
        total = 0.0
        for row in range(ring.num_full_rows):
            if ring.is_final[row, env]:
                total = 0.0
                continue
            total = 0.9 * total + float(ring.reward[row, env])  # with its bonus
            returns.append(total)
    assert collector.normalization.rewards is not None
    assert float(collector.normalization.rewards.norm.moments.variance) == pytest.approx(np.var(returns))


@pytest.mark.parametrize(("num_envs", "mode"), [(1, None), (3, None), (3, "sync"), (2, "async")])
def test_a_block_lasts_as_many_episodes_as_the_learner_sees(num_envs: int, mode: str | None) -> None:
    collector = make_collector(num_envs=num_envs, vectorization_mode=mode, **SEQUENCE)
    steps = collector.recorder.subscribe()
    collector.begin()
    while collector.progress.episodes < 12:
        before = collector.progress.episodes
        collector.step()
        assert collector.progress.block == int(collector.progress.episodes >= 3)
        restarted = steps[-1].trial[~steps[-1].is_trial]  # episodes that start now follow the rule of the block
        assert restarted.size == 0 or (steps[-1].outcome.shown.block[~steps[-1].is_trial] == int(before >= 3)).all()
    episodes = collector.log.drain()
    # Those that were under way when the third ended were finished by the rule that they began with.
    assert 3 <= sum(episode.block == 0 for episode in episodes) <= 3 + num_envs - 1
    collector.envs.envs.close()


def test_episodes_of_other_processes_count_toward_a_block() -> None:
    collector = make_collector(**SEQUENCE)
    collector.begin()
    collector.episodes_elsewhere = 3
    collector.follow_block()
    assert collector.progress.block == 1
    collect(collector, 30, begin=False)
    assert [episode.block for episode in collector.log.drain()][2:]
    assert collector.log.recent_returns


def test_the_same_seeds_give_the_same_steps() -> None:
    one, other = (collect(make_collector(), 60) for _ in range(2))
    assert_identical(one.ring.state_dict(), other.ring.state_dict())


@pytest.mark.parametrize("kwargs", [SEQUENCE, {"env_id": "CartPole-v1"}])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_restored_collector_goes_on_as_the_original_does(kwargs: dict[str, Any], num_envs: int) -> None:
    whole = collect(make_collector(num_envs=num_envs, **kwargs, epsilon=ConstantEpsilon(0.5)), 37)
    state, ring_state = whole.state_dict(), whole.ring.state_dict()
    copy = make_collector(num_envs=num_envs, **kwargs, epsilon=ConstantEpsilon(0.5))
    copy.ring.load_state_dict(ring_state, copy.policy.n_actions)
    vars(copy.progress).update(vars(whole.progress))  # which the agent restores
    assert copy.begin(state)
    for collector in (whole, copy):
        collect(collector, 40, begin=False)
    assert_identical(whole.ring.state_dict(), copy.ring.state_dict())
    assert_identical(whole.state_dict(), copy.state_dict())


def test_what_cant_be_set_back_starts_anew_and_says_so() -> None:
    collector = collect(make_collector(), 10)
    state = collector.state_dict()
    assert state["envs"] is None
    copy = make_collector()
    assert not copy.begin(state)
    assert copy.episodes.lengths.tolist() == [0, 0]
    assert copy.policy.rng.bit_generator.state == collector.policy.rng.bit_generator.state


def test_an_overlapped_step_is_the_same_step() -> None:
    plain = collect(make_collector(vectorization_mode="async"), 20)
    overlapped = make_collector(vectorization_mode="async")
    overlapped.begin()
    assert overlapped.finish_step() == 0  # none was started
    for _ in range(20):
        assert overlapped.start_step() == overlapped.finish_step() == 0
    assert_identical(plain.ring.state_dict(), overlapped.ring.state_dict())
    for collector in (plain, overlapped):
        collector.envs.envs.close()


class StateKeeper(SequenceSampler):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[Any, list[int]]] = []

    def keep_state(self, ring: Any, state: Any, step: Any) -> None:
        self.kept.append((None if state is None else state.tolist(), step.tolist()))


def test_the_sampler_is_told_the_state_of_a_network_that_remembers() -> None:
    sampler = StateKeeper()
    collect(make_collector(act_values=CountingNetwork(3), sampler=sampler, num_envs=1), 30)
    assert sampler.kept[0] == (None, [0])
    for state, lengths in sampler.kept[1:]:
        assert lengths[0] == 0 or state == [lengths[0]]  # at an episode's start the network forgets it
    forgetful = StateKeeper()
    collect(make_collector(sampler=forgetful, num_envs=1), 30)
    assert forgetful.kept == []


def test_masks_are_stored_and_kept_to() -> None:
    collector = collect(make_collector("tests/Doors-v0", epsilon=ConstantEpsilon(0.5)), 60)
    slots, ring = transitions(collector), collector.ring
    assert ring.action_mask.reshape(-1, 3)[slots, ring.action.reshape(-1)[slots]].all()


# Faults


def breaking(folder: Any, how: str = "raises", num_envs: int = 1, times: int = 1, **guard: Any) -> Collector:
    broken = folder / "broken"
    broken.write_text("")
    env_kwargs = {"how": how, "broken": str(broken), "alone": num_envs == 1, "times": times}
    mode = "sync" if num_envs > 1 else None
    return make_collector("tests/Breaking-v0", num_envs, env_kwargs=env_kwargs, vectorization_mode=mode, **guard)


def test_a_fault_ends_the_run_in_one_line(tmp_path: Any) -> None:
    with pytest.raises(RunError, match=r"tests/Breaking-v0: environment 0 .* broke in step 3 of its episode, after 6"):
        collect(breaking(tmp_path), 10)


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("how", ["raises", "NaN"])
def test_a_restart_forgets_the_broken_episode(tmp_path: Any, how: str, num_envs: int) -> None:
    warnings: list[str] = []
    collector = breaking(tmp_path, how, num_envs, on_error="restart", warn=warnings.append)
    collector.begin()
    lost = sum(collector.step() for _ in range(30))
    assert lost == 2 * 1  # the two steps of the episode that broke in its third
    assert collector.progress.env_faults == len(warnings) == 1
    assert "restarted" in warnings[0]
    assert len(transitions(collector)) == collector.progress.env_steps - lost


def test_a_restart_forgets_no_episode_of_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = collect(make_collector(on_error="restart", warn=lambda message: None), 20)
    while collector.episodes.lengths.min() < 2:
        collector.step()
    ring, head, (other, broken) = collector.ring, collector.ring.head, collector.episodes.lengths.tolist()

    def step(action: IntArray) -> Outcome:
        raise EnvFault(1, "it broke")

    monkeypatch.setattr(collector.envs.envs, "step", step)
    assert collector.step() == broken
    assert ring.is_final[head - broken : head + 1, 1].all()
    assert not ring.is_final[head - other : head, 0].any()


def test_too_many_restarts_end_the_run(tmp_path: Any) -> None:
    collector = breaking(tmp_path, times=100, on_error="restart", max_restarts=2, warn=lambda message: None)
    with pytest.raises(RunError, match=r"more than agent\.max_env_restarts = 2"):
        collect(collector, 100)


def test_an_environment_that_breaks_when_it_is_reset_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = make_collector(on_error="restart", warn=lambda message: None)
    broken, seeds = collector.envs.envs, []

    def reset(seed: int, options: Any) -> Any:
        seeds.append(seed)
        raise ZeroDivisionError

    monkeypatch.setattr(broken, "_reset", reset)
    collector.begin()
    assert collector.progress.env_faults == len(seeds) == 1
    assert collector.episodes.seed != seeds[0]
    assert collector.envs.envs is not broken


# Trials


def test_subscribers_get_every_step(tmp_path: Any) -> None:
    collector = make_collector(**SEQUENCE)
    mine, yours = collector.recorder.subscribe(), collector.recorder.subscribe()
    collect(collector, 25)
    assert len(mine) == len(yours) == 25
    assert mine[0].shown.correct_action.tolist() == [1, 1]
    assert sum(int(step.is_trial.sum()) for step in mine) == collector.progress.env_steps
    for step, after in itertools.pairwise(mine):
        ended = step.outcome.terminated | step.outcome.truncated
        assert (after.is_trial == ~ended).all()
        assert (after.trial[~ended] == step.trial[~ended] + step.is_trial[~ended]).all()
    collector.recorder.end_subscriptions()
    mine.clear()
    collect(collector, 5, begin=False)
    assert mine == []


def test_tasks_that_dont_state_the_correct_action_have_no_trials() -> None:
    collector = make_collector()
    steps = collector.recorder.subscribe()
    collect(collector, 10)
    assert steps == []


def test_states_are_tensors_and_primitives(tmp_path: Any) -> None:
    collector = make_collector(**SEQUENCE, num_envs=3)
    collector.recorder.subscribe()
    collect(collector, 10)
    torch.save(collector.state_dict(), tmp_path / "state.pt")
    assert_identical(torch.load(tmp_path / "state.pt", weights_only=True), collector.state_dict())
