from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqrl_lightning.replay import RingBuffer, SequenceSampler
from seqrl_lightning.types import ConfigurationError
from tests.replay.test_samplers import GOES_ON, TERMINATES, TRUNCATES, expected_n_step, play, steps_of_two_envs


def sampled(ring: RingBuffer, sampler: SequenceSampler, batch_size: int = 20) -> Any:
    return sampler(ring, batch_size, np.random.default_rng(0))


@given(steps_of_two_envs, st.integers(1, 3), st.integers(2, 6))
def test_what_is_learned_from_in_a_window_really_happened(steps: list[list[int]], n_step: int, length: int) -> None:
    ring = RingBuffer(2 * 12, 2, (1,), "float32")
    one_step = expected_n_step(play(ring, steps), 1)
    batch = sampled(ring, SequenceSampler(length, overlap=0, n_step=n_step))
    episodes_by_state = {}
    for state, (action, rewards, next_state, terminated, _) in one_step.items():
        episodes_by_state[state] = (action, rewards[0], next_state, terminated)
    assert (batch.weight_batch > 0).any()
    next_states, _ = batch.read_next_states(lambda rows, *_: (rows, None))
    for t, b in (batch.weight_batch > 0).nonzero().tolist():
        state, rewards = int(batch.state_batch[t, b]), batch.reward_batch[t, b].tolist()
        assert int(batch.action_batch[t, b]) == episodes_by_state[state][0]
        count = 1 if batch.num_steps_batch is None else int(batch.num_steps_batch[t, b])
        expected = []
        for _ in range(count):
            _, reward, state, terminated = episodes_by_state[state]
            expected.append(reward)
        assert rewards == [*expected, *[0.0] * (n_step - count)]
        assert int(batch.observation[t + count, b]) == state  # `count` rows below
        assert int(next_states[t, b]) == state
        assert bool(batch.terminated_batch[t, b]) == terminated


def test_windows_start_with_episodes_and_every_stride_within() -> None:
    ring = RingBuffer(60, 1, (1,), "float32")
    # Episodes of 10, 3 and 5 steps (a final row after each), then one that goes on.
    ends = {9: TERMINATES, 13: TRUNCATES, 19: TERMINATES}
    play(ring, [[ends.get(t, GOES_ON)] for t in range(26)])
    batch = sampled(ring, SequenceSampler(length=8, overlap=4), 500)
    starts = batch.state_batch[0, :, 0].tolist()
    assert sorted(set(starts)) == [0.0, 4.0, 8.0, 11.0, 15.0, 19.0]
    assert batch.state_batch.shape[0] == 8  # the longest episode has 10 steps
    counts = [starts.count(start) for start in sorted(set(starts))]
    assert min(counts) >= 500 // 6 - 1  # uniform


def test_windows_are_as_long_as_the_longest_episode() -> None:
    ring = RingBuffer(60, 1, (1,), "float32")
    play(ring, [[TERMINATES if t % 5 == 3 else GOES_ON] for t in range(30)])
    batch = sampled(ring, SequenceSampler(length=128))
    assert batch.state_batch.shape[0] == 4
    assert batch.weight_batch.min() == 1.0  # whole episodes, nothing else
    assert batch.is_first[0].all()
    assert not batch.is_first[1:].any()


def test_episodes_start_where_the_mask_says() -> None:
    ring = RingBuffer(60, 1, (1,), "float32")
    play(ring, [[TERMINATES if t in (2, 6) else GOES_ON] for t in range(20)])
    batch = sampled(ring, SequenceSampler(length=9, overlap=0))
    first = batch.state_batch[0, :, 0] == 0.0
    assert first.any()
    window = batch.is_first[:, first][:, 0]
    assert window.tolist() == [t in (0, 4, 8) for t in range(10)]
    weights = batch.weight_batch[:, first][:, 0]
    assert weights.tolist() == [float(t not in (3, 7)) for t in range(9)]


class Counter:
    """Plays a network whose state is what it has read in this episode: the sum of the observations, [1, N, 1]."""

    def __init__(self, num_envs: int) -> None:
        self.state: torch.Tensor | None = None

    def read(self, observation: np.ndarray[Any, Any], is_first: np.ndarray[Any, Any]) -> None:
        before = torch.zeros(1, len(observation), 1) if self.state is None else self.state
        before = before.masked_fill(torch.from_numpy(is_first)[None, :, None], 0.0)
        self.state = before + torch.from_numpy(observation)[None]


@pytest.mark.parametrize("burn_in", [0, 2])
def test_the_kept_state_is_the_one_that_the_network_had_there(burn_in: int) -> None:
    ring, sampler, network = RingBuffer(2 * 40, 2, (1,), "float32"), SequenceSampler(6, 2, burn_in), Counter(2)
    rng = np.random.default_rng(0)
    observation = rng.random((2, 1)).astype(np.float32)
    ring.restart(observation)
    step, is_first, ended = np.zeros(2, np.int64), np.ones(2, bool), np.zeros(2, bool)
    before: dict[float, float] = {}  # observation -> what was read before it in its episode
    for t in range(150):
        sampler.keep_state(ring, network.state, step)
        for env in range(2):
            fresh = is_first[env] or network.state is None
            before[float(observation[env, 0])] = 0.0 if fresh else float(network.state[0, env, 0])  # type: ignore[index]
        network.read(observation, is_first)
        end = (rng.random(2) < 0.08) & ~ended
        observation = rng.random((2, 1)).astype(np.float32)
        ring.add(np.zeros(2, int), np.zeros(2), end, end & False, observation)
        step = np.where(end | ended, 0, step + 1)
        is_first, ended = ended, end
        if t % 10 == 9:
            batch = sampler(ring, 16, rng)
            assert batch.burn_in == burn_in
            rows, firsts = batch.observation[:-1], batch.is_first[:-1]
            for b in range(16):
                if not firsts[: burn_in + 1, b].any():  # else the state is forgotten there anyway
                    assert batch.network_state is not None
                    kept = float(batch.network_state[0, b, 0])
                    assert kept == pytest.approx(before[float(rows[0, b, 0])], abs=1e-5)


def test_priorities_mix_the_largest_and_the_mean_error() -> None:
    ring, sampler = (
        RingBuffer(60, 1, (1,), "float32"),
        SequenceSampler(4, overlap=0, prioritized=True, alpha=1.0, eta=0.75),
    )
    play(ring, [[TERMINATES if t % 5 == 3 else GOES_ON] for t in range(20)])
    batch = sampled(ring, sampler, 4)
    slots = sorted(batch.slot_batch.view(-1).tolist())
    assert slots == [0, 5, 10, 15]
    errors = np.array([[1.0, 0.0, 0.0, 4.0], [3.0, 0.0, 0.0, np.nan]], np.float32)
    sampler.update_priorities(np.array(slots), errors)
    expected = [0.75 * 3.0 + 0.25 * 2.0, 0.0, 0.0, 4.0]
    np.testing.assert_allclose(sampler._tree.weights[slots], expected, atol=1e-5)
    drawn = sampled(ring, sampler, 1000).slot_batch.view(-1)
    assert set(drawn.tolist()) == {0, 15}


def test_before_a_window_is_complete_those_under_way_are_drawn() -> None:
    ring, sampler = RingBuffer(60, 1, (1,), "float32"), SequenceSampler(20, prioritized=True)
    play(ring, [[GOES_ON]] * 5)
    batch = sampled(ring, sampler, 4)
    assert batch.slot_batch.view(-1).tolist() == [0, 0, 0, 0]
    assert batch.weight_batch.tolist() == [[1.0] * 4] * 4  # the longest episode so far has 4 steps behind it


def test_windows_of_a_broken_episode_are_forgotten() -> None:
    ring, sampler = RingBuffer(60, 1, (1,), "float32"), SequenceSampler(20, prioritized=True)
    play(ring, [[TERMINATES if t == 4 else GOES_ON] for t in range(12)])
    assert set(sampled(ring, sampler, 50).slot_batch.view(-1).tolist()) == {0}  # the second episode is under way
    ring.drop(0, 6)
    ring.restart(np.zeros((1, 1), np.float32))
    no = np.array([False])
    ring.add(np.array([0]), np.ones(1), no, no, np.ones((1, 1), np.float32))
    batch = sampled(ring, sampler, 50)
    assert set(batch.slot_batch.view(-1).tolist()) == {0}
    assert (batch.weight_batch > 0).any(0).all()


def test_a_window_that_is_overwritten_before_it_is_complete_is_forgotten() -> None:
    """In an episode that is longer than the replay memory, windows start where they should, and nowhere else."""
    ring, sampler = RingBuffer(9, 1, (1,), "float32"), SequenceSampler(length=8, overlap=4, burn_in=1)
    no = np.array([False])
    ring.restart(np.zeros((1, 1), np.float32))
    for t in range(60):
        sampler.keep_state(ring, torch.full((1, 1, 1), float(t)), np.array([t]))
        ring.add(np.array([0]), np.ones(1), no, no, np.array([[t + 1.0]], np.float32))
        batch = sampled(ring, sampler)
        first = batch.state_batch[0, :, 0]
        assert (first % 4 == 0).all()
        assert (first >= t - 9 + 2).all() or t < 9  # with the burn-in and the row before it
        if t >= 9:
            assert batch.network_state[0, :, 0].tolist() == (first - 1).tolist()  # kept where the burn-in starts


def test_a_replay_memory_that_holds_no_window_is_refused() -> None:
    ring, sampler = RingBuffer(6, 1, (1,), "float32"), SequenceSampler(length=16, overlap=4)
    no = np.array([False])
    ring.restart(np.zeros((1, 1), np.float32))
    for t in range(5):
        ring.add(np.array([0]), np.ones(1), no, no, np.array([[t + 1.0]], np.float32))
        sampled(ring, sampler)
    for t in range(5, 9):  # the window from step 0 on is overwritten, the next one starts with step 12
        ring.add(np.array([0]), np.ones(1), no, no, np.array([[t + 1.0]], np.float32))
    with pytest.raises(ConfigurationError, match=r"data.capacity is 6; it must be at least 14, so that no window"):
        sampled(ring, sampler)


def test_a_sequence_sampler_survives_its_state_dict() -> None:
    ring = RingBuffer(60, 2, (1,), "float32")
    sampler, copy = (SequenceSampler(6, 3, prioritized=True) for _ in range(2))
    play(ring, [[TERMINATES if t % 11 == 9 else GOES_ON, GOES_ON] for t in range(40)])
    for t in range(3):
        sampler.keep_state(ring, torch.full((1, 2, 4), float(t)), np.array([3 * t, 3 * t]))
    sampled(ring, sampler)
    copy.load_state_dict(sampler.state_dict(), ring)
    state = sampler.state_dict()
    as_before = SequenceSampler(6, 3, prioritized=True)
    as_before.load_state_dict({**state, "state_slots": state["state_slots"].tolist()}, ring)
    one, *others = (sampled(ring, each) for each in (sampler, copy, as_before))
    for other in others:
        for name, column in one._asdict().items():
            twin = getattr(other, name)
            assert torch.equal(column, twin) if isinstance(column, torch.Tensor) else column == twin, name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 0}, "data.sampler.length is 0"),
        ({"length": 4, "overlap": 4}, "data.sampler.overlap is 4"),
        ({"length": 4, "overlap": 1, "burn_in": 3}, "data.sampler.burn_in is 3"),
        ({"eta": 1.5}, "data.sampler.eta is 1.5"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SequenceSampler(**settings)
