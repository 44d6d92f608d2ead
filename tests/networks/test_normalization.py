"""Running statistics of observations and rewards, compared with those of NumPy over everything that was seen."""

import numpy as np
import pytest
import torch

from seqrl_lightning.batches import Transitions
from seqrl_lightning.networks.normalization import Normalization, RunningNorm
from seqrl_lightning.parts import PackedShape
from seqrl_lightning.saved_state import StateError
from seqrl_lightning.types import ConfigurationError

ROWS = np.random.default_rng(0).normal([0.0, 3000.0, 0.001], [1.0, 50.0, 0.01], (40, 3)).astype(np.float32)


def test_pieces_give_the_statistics_of_the_whole() -> None:
    norm = RunningNorm((3,))
    for piece in np.split(ROWS, [1, 1, 4, 30]):  # one of them empty
        norm.add(torch.from_numpy(piece))
        norm.share()
    assert norm.num_rows == 40
    np.testing.assert_allclose(norm.mean, ROWS.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(norm.moments.variance, ROWS.astype(np.float64).var(0), rtol=1e-9)
    deviation = (ROWS.astype(np.float64) - ROWS.astype(np.float64).mean(0)) / ROWS.astype(np.float64).std(0)
    np.testing.assert_allclose(norm(torch.from_numpy(ROWS)), deviation, rtol=1e-3, atol=1e-4)


def test_nothing_changes_between_two_calls_of_share() -> None:
    norm = RunningNorm((3,))
    values = torch.tensor([[1.0, -2.0, 300.0]])
    assert norm(values).tolist() == [[1.0, -2.0, 10.0]]  # clipped, otherwise as they are
    norm.add(torch.from_numpy(ROWS))
    assert norm(values).tolist() == [[1.0, -2.0, 10.0]]
    norm.share()
    before = norm(values)
    assert before.tolist() != [[1.0, -2.0, 10.0]]
    norm.share()
    assert torch.equal(norm(values), before)


def test_an_element_that_never_changes_is_zero() -> None:
    norm = RunningNorm((1,))
    norm.add(torch.full((7, 1), 1234.5))
    norm.share()
    assert norm(torch.full((2, 1), 1234.5)).tolist() == [[0.0], [0.0]]


def test_processes_share_what_each_of_them_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    norms = [RunningNorm((3,)) for _ in range(3)]
    for norm, piece in zip(norms, np.split(ROWS, [5, 5]), strict=True):  # the second process saw nothing
        if len(piece):
            norm.add(torch.from_numpy(piece))
    sent: list[torch.Tensor] = []
    monkeypatch.setattr(torch.distributed, "all_gather", lambda _, mine: sent.append(mine.clone()))
    for norm in norms:
        norm.share(world_size=3)

    def gather(received: list[torch.Tensor], mine: torch.Tensor) -> None:
        for tensor, other in zip(received, sent, strict=True):
            tensor.copy_(other)

    monkeypatch.setattr(torch.distributed, "all_gather", gather)
    shared = RunningNorm((3,))
    shared.share(world_size=3)
    np.testing.assert_allclose(shared.mean, ROWS.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(shared.moments.variance, ROWS.astype(np.float64).var(0), rtol=1e-9)


def test_statistics_keep_their_dtype_whatever_the_weights() -> None:
    norm = RunningNorm((3,))
    norm.num_rows.fill_(1e9 + 1)
    assert norm.half().num_rows == norm.to(torch.bfloat16).num_rows == 1e9 + 1


PARTS = PackedShape({"picture": ("uint8", (2, 2)), "numbers": ("float32", (2,)), "size": ("float32", ())}, num_frames=2)


def test_of_parts_only_floats_are_normalized() -> None:
    rng = np.random.default_rng(1)
    parts = {
        "picture": rng.integers(256, size=(9, 2, 2, 2)).astype(np.uint8),
        "numbers": rng.normal(500.0, 20.0, (9, 2, 2)).astype(np.float32),
        "size": rng.normal(-3.0, 0.5, (9, 2)).astype(np.float32),
    }
    normalization = Normalization(PARTS, observations=True, rewards=False, gamma=0.9)
    rows = PARTS.pack(parts)
    normalization.start(rows)
    normalization.share()
    shown = PARTS.unpack(normalization.array(rows))
    by_name = normalization.observation({name: torch.from_numpy(part) for name, part in parts.items()})
    np.testing.assert_array_equal(rows, PARTS.pack(parts))  # they stay as they are
    for name, part in parts.items():
        expected = part if name == "picture" else (part - part.mean(0)) / part.std(0)
        np.testing.assert_allclose(shown[name], expected, atol=1e-4)
        np.testing.assert_array_equal(by_name[name], shown[name])


def test_rewards_are_divided_by_the_deviation_of_discounted_returns() -> None:
    """Two environments; the second one's episode ends with the second step, so that the third only resets it."""
    normalization = Normalization((1,), observations=False, rewards=True, gamma=0.5)
    normalization.start(np.zeros((2, 1), np.float32))
    nothing = np.zeros((2, 1), np.float32)
    for reward, ended, is_step in (
        ([1.0, 10.0], [False, False], [True, True]),  # returns 1, 10
        ([2.0, 20.0], [False, True], [True, True]),  # 2.5, 25
        ([4.0, 0.0], [False, False], [True, False]),  # 5.25
        ([8.0, 3.0], [False, False], [True, True]),  # 10.625, 3
    ):
        normalization.add(nothing, np.array(reward), np.array(ended), np.array(is_step))
    normalization.share()
    deviation = np.std([1, 10, 2.5, 25, 5.25, 10.625, 3])
    batch = Transitions(*(torch.ones(1, 3) for _ in Transitions._fields))._replace(reward_batch=torch.ones(1, 3, 2))
    assert normalization.batch(batch).reward_batch.numpy() == pytest.approx(np.full((1, 3, 2), 1 / deviation))

    other = Normalization((1,), observations=False, rewards=True, gamma=0.5)
    other.load_running_state(normalization.running_state(), num_envs=2)
    assert other.rewards is not None
    assert other.rewards.returns == pytest.approx([10.625, 3.0])
    with pytest.raises(StateError, match=r"the returns of running episodes .* shape \(2,\)"):
        other.load_running_state(normalization.running_state(), num_envs=3)


def test_parts_without_floats_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"model\.normalize_observations is True; it must be false: no part"):
        Normalization(PackedShape({"picture": ("uint8", (2, 2))}), observations=True, rewards=False, gamma=0.9)
