from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from seqrl_lightning.replay import LatestSampler, RingBuffer, UniformSampler
from seqrl_lightning.saved_state import StateError
from seqrl_lightning.types import ConfigurationError

Transition = tuple[int, int, float, int, bool]  # state, action, reward, next state, terminated


class PlainReplay:
    """The ring's expected contents, as a slow list: every slot that was ever stored, the newest ones kept."""

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows
        self.rows: list[list[Transition | None]] = []  # None: a final observation

    def add(self, row: list[Transition | None]) -> None:
        self.rows = [*self.rows, row][-self.num_rows :]

    def transitions(self) -> list[Transition]:
        return [slot for row in self.rows for slot in row if slot is not None]


def fill(ring: RingBuffer, plain: PlainReplay, steps: list[list[int]]) -> None:
    """Plays ``steps`` (0: goes on, 1: terminates, 2: truncates) in environments whose observations count up."""
    num_envs = ring.num_envs
    counter = np.arange(num_envs) * 1000
    ring.restart(counter.astype(np.float32)[:, None])
    ended = np.zeros(num_envs, bool)
    for t, codes in enumerate(steps):
        code = np.where(ended, 0, codes)  # the step after an end only resets
        action, reward = np.full(num_envs, t % 7), np.where(ended, 0.0, t + 0.5)
        state, counter = counter, counter + 1
        ring.add(action, reward, code == 1, code == 2, counter.astype(np.float32)[:, None])
        plain.add(
            [
                None if ended[e] else (int(state[e]), t % 7, t + 0.5, int(counter[e]), bool(code[e] == 1))
                for e in range(num_envs)
            ]
        )
        ended = code != 0


def listed(batch: Any) -> list[Transition]:
    columns = (column.squeeze(0).reshape(-1).tolist() for column in batch[:5])
    return [(int(s), a, r, int(s2), term) for s, a, r, s2, term in zip(*columns, strict=True)]


@st.composite
def episodes(draw: st.DrawFn) -> tuple[int, int, list[list[int]]]:
    num_envs = draw(st.integers(1, 3))
    num_rows = draw(st.integers(2, 6))
    codes = st.sampled_from([0, 0, 1, 2])
    steps = draw(st.lists(st.lists(codes, min_size=num_envs, max_size=num_envs), min_size=2, max_size=20))
    return num_envs, num_rows, steps


@given(episodes())
def test_the_ring_holds_what_a_plain_list_would(case: tuple[int, int, list[list[int]]]) -> None:
    num_envs, num_rows, steps = case
    ring, plain = RingBuffer(num_rows * num_envs, num_envs, (1,), "float32"), PlainReplay(num_rows)
    fill(ring, plain, steps)

    slots = ring.slots(np.arange(1, ring.num_slots + 1))
    held = listed(ring.transitions(slots[ring.is_transition(slots)]))
    assert sorted(held) == sorted(plain.transitions())

    drawn = listed(ring.transitions(UniformSampler().slots(ring, 50, np.random.default_rng(0))))
    assert set(drawn) <= set(plain.transitions())

    wanted = min(3, len(plain.transitions()))
    latest = listed(ring.transitions(LatestSampler().slots(ring, wanted, np.random.default_rng(0))))
    assert latest == plain.transitions()[-wanted:]


@given(episodes())
def test_a_ring_survives_its_state_dict(case: tuple[int, int, list[list[int]]]) -> None:
    num_envs, num_rows, steps = case
    ring, copy = (RingBuffer(num_rows * num_envs, num_envs, (1,), "float32") for _ in range(2))
    fill(ring, PlainReplay(num_rows), steps)
    copy.load_state_dict(ring.state_dict(), 4)
    slots = ring.slots(np.arange(1, ring.num_slots + 1))
    assert listed(copy.transitions(slots)) == listed(ring.transitions(slots))
    assert copy.is_transition(slots).tolist() == ring.is_transition(slots).tolist()


def test_uniform_means_uniform_over_transitions() -> None:
    ring = RingBuffer(12, 1, (1,), "float32")
    fill(ring, plain := PlainReplay(12), [[0], [1], [0], [0], [0], [2], [0], [0], [0], [0]])
    drawn = listed(ring.transitions(UniformSampler().slots(ring, 80_000, np.random.default_rng(0))))
    assert len(plain.transitions()) == 8
    for transition in plain.transitions():
        assert drawn.count(transition) == pytest.approx(10_000, rel=0.05)


def test_restart_crosses_no_episode() -> None:
    ring = RingBuffer(10, 1, (1,), "float32")
    fill(ring, PlainReplay(10), [[0], [0]])
    ring.restart(np.array([[500.0]], np.float32))
    ring.add(np.array([1]), np.array([9.0]), np.array([False]), np.array([False]), np.array([[501.0]], np.float32))
    slots = ring.slots(np.arange(1, ring.num_slots + 1))
    held = listed(ring.transitions(slots[ring.is_transition(slots)]))
    assert held == [(500, 1, 9.0, 501, False), (1, 1, 1.5, 2, False), (0, 0, 0.5, 1, False)]


def test_batches_are_copies() -> None:
    ring = RingBuffer(10, 1, (1,), "float32")
    fill(ring, PlainReplay(10), [[0], [0]])
    batch = ring.transitions(ring.slots(np.array([1])))
    batch.state_batch.zero_()
    assert ring.observation[1, 0, 0] == 1.0


def test_batches_have_their_shapes_and_dtypes() -> None:
    ring = RingBuffer(10, 2, (4, 3), "uint8")
    ring.restart(np.ones((2, 4, 3), np.uint8))
    ring.add(np.array([1, 0]), np.ones(2), np.zeros(2, bool), np.zeros(2, bool), np.ones((2, 4, 3), np.uint8))
    batch = ring.transitions(np.array([0, 1, 0]))
    shapes = [(str(column.dtype).removeprefix("torch."), tuple(column.shape)) for column in batch[:5]]
    image = ("uint8", (1, 3, 4, 3))
    assert shapes == [image, ("int64", (1, 3)), ("float32", (1, 3, 1)), image, ("bool", (1, 3))]


def test_observations_are_stored_once() -> None:
    ring = RingBuffer(1000, 1, (84, 84), "uint8")
    assert ring.observation.nbytes == 1001 * 84 * 84


def test_a_memory_mapped_ring_is_the_same_ring_and_leaves_no_file(tmp_path: Path) -> None:
    ring, mapped = RingBuffer(6, 1, (1,), "float32"), RingBuffer(6, 1, (1,), "float32", str(tmp_path / "new"))
    assert isinstance(mapped.observation, np.memmap)
    for one in (ring, mapped):
        fill(one, PlainReplay(6), [[0], [1], [0], [0], [2], [0], [0], [0]])
    slots = np.arange(7)
    assert listed(mapped.transitions(slots)) == listed(ring.transitions(slots))
    assert list((tmp_path / "new").iterdir()) == []  # not even while it is in use


def test_a_folder_without_room_for_the_ring_is_refused(tmp_path: Path, file_sizes: Callable[[int], None]) -> None:
    file_sizes(1000)
    with pytest.raises(ConfigurationError, match=r"data\.mmap_dir is .*; it must be a folder with room for .* GiB"):
        RingBuffer(1000, 1, (1,), "float32", str(tmp_path))


@pytest.mark.parametrize("stack", [1, 3])
def test_observations_on_a_device_make_the_same_batches(stack: int) -> None:
    """The CPU stands for the device: the way through tensors is the same."""
    rng = np.random.default_rng(0)
    rings = [RingBuffer(2 * 12, 2, (stack, 2), "float32", frame_stack=stack) for _ in range(2)]
    for _ in range(2):  # a second run finds them there
        rings[1].move_observations(torch.device("cpu"))
    for ring in rings:
        ring.restart(np.zeros((2, stack, 2), np.float32))
    for step in range(30):
        observation, ends = rng.random((2, stack, 2)).astype(np.float32), np.full(2, step % 7 == 6)
        for ring in rings:
            ring.add(np.zeros(2, int), np.ones(2), ends, ends & False, observation)
    assert isinstance(rings[1].observation, torch.Tensor)
    slots = np.arange(24)
    for one, other in zip(rings[0].transitions(slots, 2), rings[1].transitions(slots, 2), strict=True):
        assert_close(one, other, rtol=0.0, atol=0.0)
    for one, other in zip(rings[0].windows(slots, 5, burn_in=2), rings[1].windows(slots, 5, burn_in=2), strict=True):
        assert_close(one, other, rtol=0.0, atol=0.0)
    resumed = RingBuffer(2 * 12, 2, (stack, 2), "float32", frame_stack=stack)
    resumed.move_observations(torch.device("cpu"))
    resumed.load_state_dict(rings[0].state_dict(), 4)
    assert_close(resumed.observation, rings[1].observation, rtol=0.0, atol=0.0)
    for name, column in rings[1].state_dict().items():
        assert_close(column, rings[0].state_dict()[name], rtol=0.0, atol=0.0)


def test_a_device_holds_observations_and_nothing_else() -> None:
    ring = RingBuffer(10, 1, (3,), "float32")
    ring.move_observations(torch.device("meta"))  # which has shapes only
    ring.restart(np.zeros((1, 3), np.float32))
    for _ in range(12):
        ring.add(np.array([1]), np.ones(1), np.array([False]), np.array([False]), np.zeros((1, 3), np.float32))
    batch = ring.transitions(np.array([2, 3]))
    assert (batch.state_batch.device.type, batch.state_batch.shape) == ("meta", (1, 2, 3))
    assert batch.next_state_batch.device.type == "meta"
    assert batch.reward_batch.tolist() == [[[1.0], [1.0]]]


def test_a_ring_of_another_size_is_refused() -> None:
    ring = RingBuffer(10, 1, (1,), "float32")
    with pytest.raises(ConfigurationError, match=r"data.capacity is 20; it must be the checkpoint's 10"):
        RingBuffer(20, 1, (1,), "float32").load_state_dict(ring.state_dict(), 4)
    with pytest.raises(ConfigurationError, match=r"data.num_envs is 2; it must be the checkpoint's 1"):
        RingBuffer(20, 2, (1,), "float32").load_state_dict(ring.state_dict(), 4)


def test_too_small_a_ring_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"data.capacity is 7; it must be at least 2 \* data.num_envs = 8"):
        RingBuffer(7, 4, (1,), "float32")


@given(st.integers(2, 4), st.integers(5, 60), st.integers(1, 3))
def test_a_stack_of_frames_is_put_together_as_gymnasium_does(stack: int, steps: int, num_envs: int) -> None:
    """Against the stacks that the environments' own wrapper would have shown, on a ring overwritten many times."""
    ring = RingBuffer(8 * num_envs, num_envs, (stack, 2), "float32", frame_stack=stack)
    rng = np.random.default_rng(steps)
    frames = rng.random((num_envs, 2)).astype(np.float32)
    shown = np.repeat(frames[:, None], stack, axis=1)  # the first frame, repeated
    ring.restart(shown)
    history, is_transition, ended = [shown], [], np.zeros(num_envs, bool)
    for _ in range(steps):
        end = (rng.random(num_envs) < 0.2) & ~ended
        frames = rng.random((num_envs, 2)).astype(np.float32)
        going_on = np.concatenate([shown[:, 1:], frames[:, None]], axis=1)
        shown = np.where(ended[:, None, None], np.repeat(frames[:, None], stack, axis=1), going_on)
        ring.add(np.zeros(num_envs, int), np.zeros(num_envs), end, end & False, shown)
        history.append(shown)
        is_transition.append(~ended)
        ended = end
    held = min(8, steps)
    for age in range(1, held + 1):
        slots = ring.slots(np.arange(age * num_envs, (age - 1) * num_envs, -1))
        np.testing.assert_array_equal(ring.is_transition(slots), is_transition[-age])
        batch = ring.transitions(slots)
        np.testing.assert_array_equal(batch.state_batch[0].numpy(), history[-age - 1])
        for env in np.flatnonzero(is_transition[-age]):
            np.testing.assert_array_equal(batch.next_state_batch[0, env].numpy(), history[-age][env])


def test_stacked_frames_are_stored_once() -> None:
    ring = RingBuffer(1000, 1, (4, 84, 84), "uint8", frame_stack=4)
    assert ring.observation.nbytes == 1004 * 84 * 84


@pytest.mark.parametrize(
    "more",
    [
        {"action_mask": torch.zeros((4, 2, 200_000), dtype=torch.bool)},
        {"action_mask": torch.zeros((4, 2, 0), dtype=torch.uint8)},
        {"observation": torch.zeros((4, 2, 0))},
        {"observation": torch.zeros((4, 2, 3), dtype=torch.float64)},
        {"reward": torch.zeros((0, 2))},
        {"reward": [[0.0, 0.0]] * 4},
        {"is_final": None},
        {"head": 2},
        {"head": "3"},
        {"num_full_rows": 10**12},
        {"num_added": -1},
        {"num_added": 10**12},
        {"num_rows": True},
        {"action": torch.zeros((2, 150_000_000, 0), dtype=torch.int64)},
    ],
    ids=str,
)
def test_a_state_that_no_such_ring_has_is_refused(more: dict[str, Any]) -> None:
    """Before anything is changed; only the ring decides about the sizes of its columns."""
    ring, copy = (RingBuffer(20, 2, (3,), "float32") for _ in range(2))
    observation, no = np.zeros((2, 3), np.float32), np.zeros(2, bool)
    ring.restart(observation, np.ones((2, 4), bool))
    for _ in range(3):
        ring.add(np.zeros(2, int), np.zeros(2), no, no, observation)
    copy.load_state_dict(ring.state_dict(), 4)
    assert copy.action_mask.shape == (11, 2, 4)
    other = RingBuffer(20, 2, (3,), "float32")
    with pytest.raises(StateError, match=r"the replay memory's \w+ in the checkpoint is"):
        other.load_state_dict({**ring.state_dict(), **more}, 4)
    assert (other.num_added, other.action_mask.shape) == (0, (11, 2, 0))


def test_a_step_without_a_mask_allows_all_actions_in_a_row_that_had_one() -> None:
    ring = RingBuffer(4, 1, (1,), "float32")
    first, no, observation = np.array([0]), np.array([False]), np.zeros((1, 1), np.float32)
    ring.restart(observation, np.array([[True, False]]))
    for mask in [np.array([[True, False]])] * 5 + [None] * 5:
        ring.add(first, np.zeros(1), no, no, observation, mask)
    masks = ring.transitions(ring.slots(np.arange(1, 5))).action_mask_batch
    assert masks is not None
    assert masks.all()
