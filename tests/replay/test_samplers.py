import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqrl_lightning.replay import (
    LatestSampler,
    PrioritizedSampler,
    RingBuffer,
    RolloutSampler,
    Sampler,
    SequenceSampler,
    UniformSampler,
)
from seqrl_lightning.replay.samplers import TransitionSampler
from seqrl_lightning.saved_state import StateError
from seqrl_lightning.types import ConfigurationError, RunError

GOES_ON, TERMINATES, TRUNCATES = 0, 1, 2


def play(ring: RingBuffer, steps: list[list[int]]) -> list[list[dict[str, Any]]]:
    """Plays in environments whose observations tell env and time: env * 1000 + t. Returns each one's episodes."""
    num_envs = ring.num_envs
    observation = np.arange(num_envs) * 1000
    ring.restart(observation.astype(np.float32)[:, None])
    ended = np.zeros(num_envs, bool)
    episodes: list[list[dict[str, Any]]] = [[] for _ in range(num_envs)]
    fresh = np.ones(num_envs, bool)
    for t, codes in enumerate(steps):
        code = np.where(ended, GOES_ON, codes)
        reward, action = np.where(ended, 0.0, 10.0 ** (t % 4)), np.full(num_envs, t)
        for env in range(num_envs):
            if ended[env]:
                fresh[env] = True
                continue
            if fresh[env]:
                episodes[env].append({"states": [int(observation[env])], "rewards": [], "actions": [], "end": GOES_ON})
                fresh[env] = False
            episode = episodes[env][-1]
            episode["rewards"].append(float(reward[env]))
            episode["actions"].append(t)
            episode["states"].append(int(observation[env]) + 1)
            episode["end"] = int(code[env])
        observation = observation + 1
        ring.add(action, reward, code == TERMINATES, code == TRUNCATES, observation.astype(np.float32)[:, None])
        ended = code != GOES_ON
    return episodes


def expected_n_step(episodes: list[list[dict[str, Any]]], n_step: int) -> dict[int, tuple[Any, ...]]:
    """State -> (action, rewards, next state, terminated, steps), by walking along each episode."""
    found = {}
    for episode in (episode for of_env in episodes for episode in of_env):
        rewards, states = episode["rewards"], episode["states"]
        for t in range(len(rewards)):
            steps = min(n_step, len(rewards) - t)
            padded = [*rewards[t : t + steps], *[0.0] * (n_step - steps)]
            ends_here = t + steps == len(rewards)
            terminated = ends_here and episode["end"] == TERMINATES
            found[states[t]] = (episode["actions"][t], padded, states[t + steps], terminated, steps)
    return found


steps_of_two_envs = st.lists(
    st.lists(st.sampled_from([GOES_ON, GOES_ON, TERMINATES, TRUNCATES]), min_size=2, max_size=2),
    min_size=2,
    max_size=25,
)


@given(steps_of_two_envs, st.integers(1, 5))
def test_n_step_transitions_are_those_of_the_episodes(steps: list[list[int]], n_step: int) -> None:
    ring = RingBuffer(2 * 12, 2, (1,), "float32")  # 12 rows: long runs overwrite the oldest
    expected = expected_n_step(play(ring, steps), n_step)
    batch = UniformSampler(n_step)(ring, 40, np.random.default_rng(0))
    num_steps = torch.ones_like(batch.action_batch) if batch.num_steps_batch is None else batch.num_steps_batch
    assert batch.reward_batch.shape == (1, 40, n_step)
    for b in range(40):
        action, rewards, next_state, terminated, count = expected[int(batch.state_batch[0, b])]
        assert int(batch.action_batch[0, b]) == action
        assert batch.reward_batch[0, b].tolist() == rewards
        assert int(batch.next_state_batch[0, b]) == next_state
        assert bool(batch.terminated_batch[0, b]) == terminated
        assert int(num_steps[0, b]) == count


@given(steps_of_two_envs, st.integers(1, 3))
def test_sarsa_gets_the_action_that_was_taken_next(steps: list[list[int]], n_step: int) -> None:
    ring = RingBuffer(2 * 12, 2, (1,), "float32")
    taken = {
        state: action
        for of_env in play(ring, steps)
        for episode in of_env
        for state, action in zip(episode["states"], episode["actions"], strict=False)
    }
    for sampler in (UniformSampler(n_step), LatestSampler(n_step)):
        batch = sampler(ring, 4, np.random.default_rng(0), next_actions=True)
        assert batch.next_action_batch is not None
        for next_state, next_action in zip(
            batch.next_state_batch.view(-1), batch.next_action_batch.view(-1), strict=True
        ):
            assert int(next_action) == taken.get(int(next_state), -1)


def test_the_newest_transition_waits_for_its_next_action() -> None:
    rng = np.random.default_rng(0)
    ring = RingBuffer(20, 1, (1,), "float32")
    play(ring, [[GOES_ON], [GOES_ON], [GOES_ON]])
    assert LatestSampler()(ring, 1, rng, next_actions=True).state_batch.item() == 1.0
    assert LatestSampler()(ring, 1, rng).state_batch.item() == 2.0
    ring = RingBuffer(20, 1, (1,), "float32")
    play(ring, [[GOES_ON], [GOES_ON], [TERMINATES]])
    assert LatestSampler()(ring, 1, rng, next_actions=True).state_batch.item() == 2.0


def test_new_transitions_are_drawn_like_the_most_surprising_ones() -> None:
    ring, sampler, rng = RingBuffer(20, 1, (1,), "float32"), PrioritizedSampler(alpha=1.0), np.random.default_rng(0)
    play(ring, [[GOES_ON]] * 4)
    batch = sampler(ring, 4, rng)
    assert sorted(batch.state_batch.view(-1).tolist()) == [0.0, 1.0, 2.0, 3.0]  # equal priorities: one of each part
    assert batch.slot_batch is not None
    sampler.update_priorities(np.array([0, 1, 2, 3]), np.array([0.0, 0.0, 0.0, 8.0]))
    ring.add(np.array([4]), np.ones(1), np.array([False]), np.array([False]), np.array([[5.0]], np.float32))
    states = sampler(ring, 10_000, rng).state_batch.view(-1).numpy()
    assert (states == 3.0).mean() == pytest.approx(0.5, abs=0.01)
    assert (states == 4.0).mean() == pytest.approx(0.5, abs=0.01)


def test_draws_follow_the_priorities_and_weights_undo_it() -> None:
    ring, sampler = RingBuffer(20, 1, (1,), "float32"), PrioritizedSampler(alpha=0.5, beta=1.0, beta_env_steps=None)
    play(ring, [[GOES_ON], [TERMINATES], [GOES_ON], [GOES_ON]])
    sampler(ring, 1, np.random.default_rng(0))
    sampler.update_priorities(np.array([0, 1, 3]), np.array([1.0, 4.0, 16.0]))  # slot 2 is a final observation
    batch = sampler(ring, 70_000, np.random.default_rng(0))
    assert batch.weight_batch is not None
    states, weights = batch.state_batch.view(-1).numpy(), batch.weight_batch.view(-1).numpy()
    for state, share in ((0.0, 1 / 7), (1.0, 2 / 7), (3.0, 4 / 7)):
        assert (states == state).mean() == pytest.approx(share, abs=0.005)
        assert weights[states == state][0] == pytest.approx((1 / 7) / share, rel=1e-4)
    assert weights.mean() * 7 / 3 == pytest.approx(1.0, abs=0.01)  # all count the same in the end


@given(steps_of_two_envs, st.integers(0, 10))
def test_no_priority_outlives_its_transition(steps: list[list[int]], calls: int) -> None:
    ring, sampler, rng = RingBuffer(2 * 6, 2, (1,), "float32"), PrioritizedSampler(), np.random.default_rng(0)
    play(ring, steps)
    for call in range(calls):
        batch = sampler(ring, 8, rng)
        assert batch.slot_batch is not None
        slots = batch.slot_batch.numpy().reshape(-1)
        assert ring.is_transition(slots).all()
        assert (slots // 2 != ring.head).all()
        sampler.update_priorities(slots, np.full(8, float(call)))
        ends = np.array([call % 3 == 0, False]) & ~ring.is_final[ring.head]
        ring.add(np.zeros(2, int), np.zeros(2), ends, ~ends & False, np.zeros((2, 1), np.float32))


def test_a_broken_episode_is_looked_past() -> None:
    ring = RingBuffer(40, 1, (1,), "float32")
    play(ring, [[GOES_ON]] * 6 + [[TERMINATES]] + [[GOES_ON]] * 20)
    ring.drop(0, 19)
    batch = LatestSampler()(ring, 4, np.random.default_rng(0))
    assert batch.state_batch.view(-1).tolist() == [3.0, 4.0, 5.0, 6.0]


@pytest.mark.parametrize("sampler", [PrioritizedSampler(), SequenceSampler(3, 0, prioritized=True)])
def test_a_stack_whose_frames_are_overwritten_is_never_drawn(sampler: Any) -> None:
    stack, steps, rng = 3, 40, np.random.default_rng(0)
    ring = RingBuffer(10, 1, (stack, 1), "float32", frame_stack=stack)
    frames = np.zeros((1, stack, 1), np.float32)
    ring.restart(frames)
    no = np.array([False])
    for t in range(1, steps):
        ends = np.array([t % 7 == 6])
        frames = np.arange(t - stack + 1, t + 1, dtype=np.float32).clip(0)[None, :, None]
        ring.add(np.array([0]), np.ones(1), ends, no, frames)
        if t > 10:
            batch = sampler(ring, 16, rng)
            sampler.update_priorities(batch.slot_batch[0].numpy(), np.ones((1, 16)))
            oldest = t - 10  # of the ten that are kept
            assert batch.state_batch[0, :, -1, 0].min() >= oldest
            increments = batch.state_batch[0, :, 1:, 0] - batch.state_batch[0, :, :-1, 0]
            assert ((increments == 0) | (increments == 1)).all()  # consecutive frames, or the first one repeated


def test_beta_goes_to_one() -> None:
    sampler = PrioritizedSampler(beta=0.4, beta_env_steps=100)
    assert [sampler.beta_after(steps) for steps in (0, 50, 100, 1000)] == pytest.approx([0.4, 0.7, 1.0, 1.0])


def test_a_prioritized_sampler_survives_its_state_dict() -> None:
    ring, sampler, copy = RingBuffer(20, 1, (1,), "float32"), PrioritizedSampler(), PrioritizedSampler()
    play(ring, [[GOES_ON]] * 15)
    sampler(ring, 4, np.random.default_rng(0))
    sampler.update_priorities(np.arange(15), np.arange(15.0))
    copy.load_state_dict(sampler.state_dict(), ring)
    one, other = (s(ring, 50, np.random.default_rng(1)) for s in (sampler, copy))
    assert one.slot_batch is not None
    assert other.slot_batch is not None
    assert torch.equal(one.slot_batch, other.slot_batch)


def test_rollouts_are_the_newest_rows_as_they_came() -> None:
    ring = RingBuffer(2 * 8, 2, (1,), "float32")
    play(ring, [[GOES_ON, GOES_ON], [TERMINATES, GOES_ON], [GOES_ON, TRUNCATES], [GOES_ON, GOES_ON]])
    sampler = RolloutSampler(3)
    assert len(sampler(ring, 1, np.random.default_rng(0)).action_batch) == 4  # all that there are, at the first time
    batch = sampler(ring, 1, np.random.default_rng(0))
    rows = [[1.0, 1001.0], [2.0, 1002.0], [3.0, 1003.0], [4.0, 1004.0]]
    assert batch.observation.squeeze(-1).tolist() == rows
    assert batch.state_batch.squeeze(-1).tolist() == rows[:3]
    assert batch.burn_in == 0
    assert batch.terminated_batch.tolist() == [[True, False], [False, False], [False, False]]
    assert batch.is_first.tolist() == [[False, False], [False, False], [True, False], [False, True]]
    assert batch.previous_action.tolist() == [[0, 0], [1, 1], [-1, 2], [3, -1]]
    assert batch.previous_reward.tolist() == [[1.0, 1.0], [10.0, 10.0], [0.0, 100.0], [1000.0, 0.0]]
    assert batch.weight_batch.tolist() == [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]  # 0: final observations


def test_every_row_is_in_one_rollout() -> None:
    ring, sampler = RingBuffer(2 * 30, 2, (1,), "float32"), RolloutSampler(3)
    ring.restart(np.zeros((2, 1), np.float32))
    num_rows, states = 0, []
    for new_rows in (3, 5, 3, 10, 4):
        for _ in range(new_rows):
            sampler.keep_state(ring, torch.full((1, 2), float(ring.num_added)), np.zeros(2, np.int64))
            ends = np.zeros(2, bool)
            ring.add(np.zeros(2, np.int64), np.zeros(2), ends, ends, np.full((2, 1), ring.num_added + 1, np.float32))
        batch = sampler(ring, 1, np.random.default_rng(0))
        assert batch.state_batch[:, 0, 0].tolist() == list(range(num_rows, num_rows + new_rows))
        assert batch.network_state is not None
        states.append(float(batch.network_state[0, 0]))
        num_rows += new_rows
        copy = RolloutSampler(3)
        copy.load_state_dict(sampler.state_dict(), ring)
        sampler = copy
    assert states == [0, 3, 8, 11, 21]


def test_masks_come_with_the_states_they_belong_to() -> None:
    ring = RingBuffer(10, 1, (1,), "float32")
    no = np.array([False])
    ring.restart(np.zeros((1, 1), np.float32), np.array([[True, False]]))
    ring.add(np.array([0]), np.ones(1), no, no, np.ones((1, 1), np.float32), np.array([[False, True]]))
    ring.add(np.array([1]), np.ones(1), no, no, np.ones((1, 1), np.float32), np.array([[True, True]]))
    for batch in (ring.transitions(np.array([0, 1])), ring.latest_rows(2)):
        assert batch.action_mask_batch is not None
        assert batch.action_mask_batch.view(2, 2).tolist() == [[True, False], [False, True]]
        _, next_mask = batch.read_next_states(lambda *args: (args[0], None))
        assert next_mask is not None
        assert next_mask.view(2, 2).tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize("settings", [{"n_step": 0}, {"alpha": -1.0}, {"beta": 1.5}, {"beta_env_steps": 0}])
def test_settings_that_cannot_work(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"data.sampler.{next(iter(settings))}"):
        PrioritizedSampler(**settings)


def hopeless_ring() -> RingBuffer:
    """A ring in which every episode broke."""
    ring = RingBuffer(40, 2, (1,), "float32")
    play(ring, [[GOES_ON, GOES_ON]] * 15)
    for env in (0, 1):
        ring.drop(env, 15)
    return ring


@pytest.mark.parametrize("kind", [UniformSampler, PrioritizedSampler])
def test_drawing_ends_where_there_is_nothing_to_draw(kind: type[TransitionSampler]) -> None:
    with pytest.raises(RunError, match="holds no transition that could be drawn"):
        kind()(hopeless_ring(), 4, np.random.default_rng(0))


def test_drawing_ends_where_there_is_next_to_nothing_to_draw() -> None:
    """And finds it, in proportion to the weights."""
    ring = RingBuffer(40_000, 1, (1,), "float32")
    play(ring, [[GOES_ON]] * 20_000)
    ring.is_final[2:20_000] = True
    assert set(UniformSampler().slots(ring, 50, np.random.default_rng(0))) == {0, 1}
    sampler = PrioritizedSampler(alpha=1.0, min_priority=1e-9)
    sampler.slots(ring, 1, np.random.default_rng(0))
    sampler.update_priorities(np.array([0, 1]), np.array([[3.0, 1.0]]))
    drawn = sampler.slots(ring, 2000, np.random.default_rng(0))
    assert set(drawn) == {0, 1}
    assert abs(np.mean(drawn == 0) - 0.75) < 0.04


@pytest.mark.parametrize("sampler", [PrioritizedSampler(alpha=2.0), SequenceSampler(4, prioritized=True, alpha=2.0)])
def test_infinite_priorities_are_drawn_like_the_largest(sampler: Sampler) -> None:
    ring = RingBuffer(40, 2, (1,), "float32")
    play(ring, [[GOES_ON, TERMINATES]] * 15)
    slots = sampler(ring, 4, np.random.default_rng(0)).slot_batch
    assert slots is not None
    sampler.update_priorities(slots[0].numpy(), np.full((1, 4), 1e300))
    assert sampler.state_dict()["max_weight"] == 1e100
    again = sampler(ring, 4, np.random.default_rng(0))
    assert torch.isfinite(again.weight_batch).all()
    assert set(again.slot_batch[0].tolist()) <= set(slots[0].tolist())


def test_a_saved_ring_without_a_transition_is_refused() -> None:
    ring = hopeless_ring()
    with pytest.raises(StateError, match="the replay memory's is_final in the checkpoint is True; it must be false in"):
        RingBuffer(40, 2, (1,), "float32").load_state_dict(ring.state_dict(), 2)
    empty = RingBuffer(40, 2, (1,), "float32")
    RingBuffer(40, 2, (1,), "float32").load_state_dict(empty.state_dict(), 2)


BY_WEIGHT = (PrioritizedSampler, SequenceSampler)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (PrioritizedSampler, {"weights": torch.zeros((150_000_000, 0), dtype=torch.float64)}),
        (PrioritizedSampler, {"weights": torch.ones(1000, dtype=torch.float64)}),
        (PrioritizedSampler, {"weights": torch.full((42,), torch.nan, dtype=torch.float64)}),
        (PrioritizedSampler, {"weights": -torch.ones(42, dtype=torch.float64)}),
        (PrioritizedSampler, {"weights": [1.0] * 42}),
        (PrioritizedSampler, {"rows_seen": 10**9}),
        (PrioritizedSampler, {"rows_seen": 0}),
        (PrioritizedSampler, {"max_weight": "1.0"}),
        *((kind, {"max_weight": value}) for kind in BY_WEIGHT for value in (0.0, 0.5, -1.0, 1e200, math.inf, math.nan)),
        *((kind, {"weights": torch.full((42,), 1e308, dtype=torch.float64)}) for kind in BY_WEIGHT),
        *((kind, {"weights": torch.full((42,), 1.5, dtype=torch.float64)}) for kind in BY_WEIGHT),
        (PrioritizedSampler, {"weights": torch.zeros(42, dtype=torch.float64)}),
        (PrioritizedSampler, {"weights": torch.eye(42, dtype=torch.float64)[-1]}),  # where none is stored yet
        (RolloutSampler, {"num_drawn": -1}),
        (RolloutSampler, {"rows": [10], "states": torch.zeros(1, 1, 3)}),
        (RolloutSampler, {"rows": ["10"], "states": torch.zeros(1, 1, 2)}),
        (SequenceSampler, {"step": torch.zeros((0,), dtype=torch.int64)}),
        (SequenceSampler, {"waiting": [[0]]}),
        (SequenceSampler, {"waiting": [[0], [10**9]]}),
        (SequenceSampler, {"state_slots": torch.tensor([-1]), "states": torch.zeros(1, 1)}),
        (SequenceSampler, {"state_slots": torch.tensor([1]), "states": torch.zeros(2, 1)}),
        (SequenceSampler, {"longest": 0}),
        (SequenceSampler, {"weights": torch.zeros((0,), dtype=torch.float64)}),
    ],
    ids=str,
)
def test_a_state_that_no_such_sampler_has_is_refused(kind: type[Sampler], more: dict[str, Any]) -> None:
    ring, sampler = RingBuffer(40, 2, (1,), "float32"), kind()
    kind().load_state_dict(sampler.state_dict(), ring)  # of a run that hasn't drawn yet
    play(ring, [[GOES_ON, GOES_ON]] * 15)
    sampler(ring, 4, np.random.default_rng(0))
    kind().load_state_dict(sampler.state_dict(), ring)
    with pytest.raises(StateError, match=r"the sampler('s [\w\[\]]+)? in the checkpoint is"):
        kind().load_state_dict({**sampler.state_dict(), **more}, ring)
