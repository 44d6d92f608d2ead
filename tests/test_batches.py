"""The two kinds of batch: what they read belongs together, and they divide and move as a whole."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from seqrl_lightning.batches import Minibatch, Transitions, Windows
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.functional import weighted_mean
from seqrl_lightning.replay import RingBuffer, SequenceSampler, UniformSampler

N_ACTIONS = 8


def counting_ring(num_rows: int = 12) -> RingBuffer:
    """One endless episode of states 0, 1, 2, ...; state t allows only action t mod 8, which is taken and earns t."""
    ring = RingBuffer(20, 1, (1,), "float32")
    no = np.array([False])

    def shown(t: int) -> tuple[Any, Any]:
        return np.array([[t]], np.float32), np.arange(N_ACTIONS)[None] == t % N_ACTIONS

    ring.restart(*shown(0))
    for t in range(num_rows):
        ring.add(np.array([t % N_ACTIONS]), np.array([float(t)]), no, no, *shown(t + 1))
    return ring


class Copy:
    """A network that outputs what it reads, and notes what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Any, Any]] = []

    def __call__(self, observation: Tensor, state: Any = None, is_first: Any = None) -> tuple[Tensor, Any]:
        self.calls.append((observation, state, is_first))
        return observation, observation[-1:]


@pytest.mark.parametrize("n_step", [1, 3])
def test_values_and_masks_of_next_states_belong_together(n_step: int) -> None:
    """Also in windows: the state n rows ahead is masked by its own mask, not by that of the row below."""
    ring = counting_ring()
    window = ring.windows(np.array([4]), 6, n_step)
    singles = ring.transitions(np.arange(4, 10), n_step)
    for batch, ahead in ((window, [min(n_step, 6 - t) for t in range(6)]), (singles, [n_step] * 6)):
        values, next_values, next_mask = batch.read(Copy())
        assert next_mask is not None
        assert values.flatten().tolist() == [4, 5, 6, 7, 8, 9]
        assert next_values.flatten().tolist() == [4 + t + n for t, n in enumerate(ahead)]
        assert next_mask.view(6, N_ACTIONS).long().argmax(-1).tolist() == [(4 + t + n) % 8 for t, n in enumerate(ahead)]
        assert batch.action_mask_batch is not None
        assert batch.action_mask_batch.view(6, N_ACTIONS).long().argmax(-1).tolist() == [4, 5, 6, 7, 0, 1]
    assert window.reward_batch[0, 0].tolist() == [4.0, 5.0, 6.0][:n_step]


def test_next_actions_belong_to_the_same_states() -> None:
    ring = counting_ring(8)  # the head, row 8, has no action yet
    batch = ring.windows(np.array([2]), 6, 3, next_actions=True)
    assert batch.next_action_batch is not None
    assert batch.weight_batch.flatten().tolist() == [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]  # row 7 waits for the next action
    assert batch.num_steps_batch is not None
    assert batch.num_steps_batch.flatten().tolist()[:5] == [3, 3, 3, 2, 1]  # no further than to row 7
    assert batch.next_action_batch.flatten().tolist()[:5] == [5, 6, 7, 7, 7]


def test_a_window_has_no_next_state_to_misread() -> None:
    assert "next_state_batch" not in Windows._fields
    assert not hasattr(Windows, "next_state_batch")
    assert not hasattr(Windows, "next_action_mask_batch")


def test_next_values_have_no_gradient() -> None:
    net = torch.nn.Linear(1, 2)
    ring = counting_ring()
    for batch in (ring.transitions(np.array([3, 4])), ring.windows(np.array([3]), 2)):
        values, next_values, _ = batch.read(lambda observation, *_: (net(observation), None))
        assert values.requires_grad
        assert not next_values.requires_grad


def test_a_window_is_read_once_after_its_burn_in() -> None:
    ring, net = counting_ring(), Copy()
    batch = ring.windows(np.array([5]), 3, burn_in=2)._replace(network_state=tensor([[[7.0]]]))
    assert batch.burn_in == 2
    assert batch.read_states(net).flatten().tolist() == [5, 6, 7]
    (burn_in, state, _), (rows, state_after, _) = net.calls
    assert burn_in.flatten().tolist() == [3, 4]
    assert state.item() == 7
    assert rows.flatten().tolist() == [5, 6, 7, 8]
    assert state_after.item() == 4


def test_a_network_is_told_of_starts_where_there_are_any() -> None:
    ring = counting_ring(3)
    ring.restart(np.array([[100.0]], np.float32), np.ones((1, N_ACTIONS), bool))
    no = np.array([False])
    for t in range(3):
        ring.add(np.array([0]), np.ones(1), no, no, np.array([[101.0 + t]], np.float32), np.ones((1, N_ACTIONS), bool))
    for first, told in ((1, [False, False, False, True]), (5, None)):
        net = Copy()
        batch = ring.windows(np.array([first]), 3 if first == 1 else 1)
        batch.read_states(net)
        ((_, _, is_first),) = net.calls
        assert told == (None if is_first is None else is_first.flatten().tolist())


def batches() -> list[Any]:
    ring, rng = counting_ring(), np.random.default_rng(0)
    return [UniformSampler(3)(ring, 6, rng), SequenceSampler(4, 2, 1, prioritized=True)(ring, 6, rng)]


@pytest.mark.parametrize("batch", batches(), ids=["Transitions", "Windows"])
def test_what_steers_the_cpu_stays_there(batch: Transitions | Windows) -> None:
    data = ReplayDataModule("seqrl/Sequence-v0")
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    on_cpu = {name for name in batch._fields if getattr(moved, name) is not None and not getattr(moved, name).is_meta}
    assert on_cpu == {"slot_batch", "is_first"} & {n for n in batch._fields if getattr(batch, n) is not None}


@pytest.mark.parametrize("batch", batches(), ids=["Transitions", "Windows"])
def test_parts_are_columns_in_their_order(batch: Transitions | Windows) -> None:
    parts = list(batch.split(3))
    assert [part.action_batch.shape[1] for part in parts] == [2, 2, 2]
    for name in batch._fields:
        column = getattr(batch, name)
        of_parts = [getattr(part, name) for part in parts]
        if isinstance(column, Tensor):
            assert_close(torch.cat(of_parts, dim=1), column)
        else:
            assert of_parts == [column] * 3


@pytest.mark.parametrize("batch", batches(), ids=["Transitions", "Windows"])
def test_a_function_is_applied_to_every_column_that_is_there(batch: Transitions | Windows) -> None:
    moved = batch.map(lambda column: column.to("meta"))
    for name in batch._fields:
        column, other = getattr(batch, name), getattr(moved, name)
        if isinstance(column, Tensor):
            assert other.device.type == "meta"
        else:
            assert other == column


@pytest.mark.parametrize(("present", "expected"), [(5, 8), (8, 8), (9, 12), (12, 12), (13, 16)])
def test_minibatches_of_few_sizes_have_the_same_loss(present: int, expected: int) -> None:
    errors = torch.arange(1.0, present + 1)[None]
    minibatch = Minibatch(torch.randn(1, present, 3), torch.arange(present)[None], errors)
    filled = minibatch.filled_up(8, multiple=4)
    assert filled.states.shape == (1, expected, 3)
    assert filled.actions.shape == filled.targets.shape == (1, expected)
    assert filled.actions[0, :present].equal(minibatch.actions[0])
    assert weighted_mean(filled.targets, filled.weights) == errors.mean()
