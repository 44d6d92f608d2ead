"""Packed observations: what goes in comes out, whatever the parts, and nothing else does."""

import copy
import functools
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrl_lightning.algorithms import DQN
from seqrl_lightning.batches import Transitions, Windows
from seqrl_lightning.networks import GRU, LSTM, MLP, Composed, NatureCNN, SmallCNN
from seqrl_lightning.parts import PackedShape, blank_observations, plain_shape, shape_of_observation
from seqrl_lightning.replay import RingBuffer
from seqrl_lightning.types import ConfigurationError

DTYPES = ("uint8", "int8", "int16", "int32", "int64", "float32")
shapes = st.dictionaries(
    st.text(min_size=1, max_size=4),
    st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(1, 3), max_size=3).map(tuple)),
    min_size=1,
    max_size=5,
)


def random_parts(shape: PackedShape, lead: tuple[int, ...], rng: Any) -> dict[str, Any]:
    return {name: rng.integers(0, 100, (*lead, *part.shape)).astype(part.dtype) for name, part in shape.parts.items()}


@settings(max_examples=60, deadline=None)
@given(
    parts=shapes, num_frames=st.integers(1, 3), lead=st.lists(st.integers(1, 3), max_size=2), seed=st.integers(0, 99)
)
def test_parts_come_out_as_they_went_in(parts: Any, num_frames: int, lead: list[int], seed: int) -> None:
    shape = PackedShape(parts, num_frames)
    frames = () if num_frames == 1 else (num_frames,)
    given_parts = random_parts(shape, (*lead, *frames), np.random.default_rng(0))
    rows = shape.pack(given_parts)
    assert rows.shape == (*lead, *shape)
    assert rows.dtype == np.uint8
    for found in (shape.unpack(rows), shape.unpack_tensor(torch.from_numpy(rows))):
        assert list(found) == list(parts)
        for name, array in found.items():
            assert array.shape == (*lead, *shape.shape_of(name))
            assert np.asarray(array).dtype == given_parts[name].dtype
            np.testing.assert_array_equal(np.asarray(array), given_parts[name])
    places = sorted((part.start, part.end) for part in shape.parts.values())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))


@settings(max_examples=20, deadline=None)
@given(parts=shapes, num_frames=st.integers(1, 3))
def test_a_shape_is_copied_pickled_and_written_as_plain_values(parts: Any, num_frames: int) -> None:
    shape = PackedShape(parts, num_frames)
    for again in (copy.deepcopy(shape), pickle.loads(pickle.dumps(shape)), shape_of_observation(plain_shape(shape))):
        assert isinstance(again, PackedShape)
        assert (tuple(again), again.parts, again.num_frames) == (tuple(shape), shape.parts, num_frames)
    assert shape_of_observation([4, 2]) == plain_shape((4, 2)) == (4, 2)  # type: ignore[arg-type]


PICTURE = PackedShape({"picture": ("uint8", (5, 4)), "numbers": ("float32", (2,)), "count": ("int64", (1,))})


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("num_frames", [1, 3])
def test_the_replay_memory_gives_every_part_back(tmp_path: Any, mmap: bool, num_frames: int) -> None:
    """Each frame of each part is stored once; stacks and windows are put together from them."""
    shape, rng = (
        PackedShape({name: part[:2] for name, part in PICTURE.parts.items()}, num_frames),
        np.random.default_rng(0),
    )
    ring = RingBuffer(40, 2, shape, "uint8", str(tmp_path) if mmap else None, num_frames)
    assert ring.observation.nbytes == ring.num_rows * 2 * PICTURE[0]  # type: ignore[union-attr]
    frames = [random_parts(PICTURE, (2,), rng) for _ in range(12)]

    def stacked(t: int) -> dict[str, Any]:
        window = [frames[max(t - k, 0)] for k in reversed(range(num_frames))]
        return frames[t] if num_frames == 1 else {name: np.stack([f[name] for f in window], 1) for name in frames[t]}

    ring.restart(shape.pack(stacked(0)))
    no = np.zeros(2, np.bool_)
    for t in range(1, 12):
        ring.add(np.zeros(2, np.int64), np.zeros(2), no, no, shape.pack(stacked(t)))
    batch: Transitions = ring.transitions(np.array([2 * 3 + 1, 2 * 8]))
    windows: Windows = ring.windows(np.array([2 * 4, 2 * 5 + 1]), 3)
    for rows, places in [
        (batch.state_batch, [[(3, 1), (8, 0)]]),
        (batch.next_state_batch, [[(4, 1), (9, 0)]]),
        (windows.state_batch, [[(4 + t, 0), (5 + t, 1)] for t in range(3)]),
    ]:
        for name, part in shape.unpack_tensor(rows).items():
            expected = [[stacked(t)[name][env] for t, env in row] for row in places]
            np.testing.assert_array_equal(part.numpy(), np.array(expected))


def test_a_network_is_given_each_part_by_its_name() -> None:
    seen: dict[str, Any] = {}

    def spy(name: str) -> Any:
        class Spy(MLP):
            def torso(self, observation: Any, state: Any = None, is_first: Any = None) -> Any:
                seen[name] = observation.clone()
                return super().torso(observation, state, is_first)

            forward = MLP.forward

        return lambda obs_shape, out_shape: Spy(obs_shape, out_shape, hidden_sizes=())

    net = Composed(PICTURE, (3,), {name: spy(name) for name in PICTURE.parts})
    parts = random_parts(PICTURE, (4, 7), np.random.default_rng(0))
    rows = torch.from_numpy(PICTURE.pack(parts))
    outputs, state = net(rows)
    assert (outputs.shape, state) == ((4, 7, 3), None)
    for name, part in parts.items():
        np.testing.assert_array_equal(seen[name].numpy(), part)
    features = torch.cat([torch.from_numpy(part).flatten(2).float() for part in parts.values()], -1)
    torch.testing.assert_close(net.encode(rows), features)
    torch.testing.assert_close(outputs, net.head(net.core.torso(features)[0]))
    named = {name: torch.from_numpy(part) for name, part in parts.items()}
    torch.testing.assert_close(net(named)[0], outputs)


def test_a_memory_reads_the_features_step_by_step_as_at_once() -> None:
    net = Composed(PICTURE, (3,), network=GRU)
    rows = torch.from_numpy(PICTURE.pack(random_parts(PICTURE, (6, 2), np.random.default_rng(0))))
    is_first = torch.zeros(6, 2, dtype=torch.bool)
    is_first[3, 1] = True
    outputs, last = net(rows, None, is_first)
    torch.testing.assert_close(outputs, net.head(net.core.torso(net.encode(rows), None, is_first)[0]))
    assert not torch.allclose(outputs[3:, 1], net(rows)[0][3:, 1])  # the memory is reset where the episode starts
    state, steps = None, []
    for t in range(6):
        step, state = net(rows[t : t + 1], state, is_first[t : t + 1])
        steps.append(step)
    torch.testing.assert_close(torch.cat(steps), outputs)
    torch.testing.assert_close(state, last)


def test_an_array_is_one_part() -> None:
    """R2D2's network: each picture's features by the Nature network, then an LSTM."""
    net = Composed((36, 36), (3,), {"observation": NatureCNN}, functools.partial(LSTM, hidden_size=8))
    pictures = torch.randint(0, 256, (5, 2, 36, 36), dtype=torch.uint8)
    cnn, lstm = net.encoders[0], net.core
    features = torch.stack([cnn.convolutions(row.unsqueeze(1) / 255.0).flatten(1) for row in pictures])
    expected, _ = lstm.torso(cnn.hidden(features))
    torch.testing.assert_close(net(pictures)[0], net.head(expected))
    assert net.remembers
    assert [type(Composed(shape, (3,)).encoders[0]) for shape in [(36, 36), (4, 84, 84), (8, 8, 3), (2, 8, 8, 3)]] == [
        NatureCNN,
        NatureCNN,
        SmallCNN,
        SmallCNN,
    ]
    assert type(Composed((4,), (3,)).encoders[0]) is MLP


def test_every_parameter_of_a_composed_network_learns() -> None:
    """None is left over, of heads that nothing reads: DDP would wait for its gradient."""
    net = Composed(PICTURE, (3,), network=GRU)
    rows = torch.from_numpy(PICTURE.pack(random_parts(PICTURE, (3, 2), np.random.default_rng(0))))
    net(rows)[0].sum().backward()  # type: ignore[no-untyped-call]
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []
    assert copy.deepcopy(net).double()(rows)[0].dtype == torch.float64


def test_what_cant_read_parts_is_refused_in_a_line() -> None:
    must_be = r"it must be Composed, or data\.flatten_observations true: .*\(picture uint8\(5, 4\), numbers"
    for network in (MLP, GRU):
        with pytest.raises(ConfigurationError, match=f"model.network is '{network.__name__}'; {must_be}"):
            DQN(PICTURE, 2, network)
    with pytest.raises(ConfigurationError, match=r"torsos is \['sound'\]; it must be of .*: picture, numbers, count"):
        Composed(PICTURE, (2,), {"sound": MLP})
    with pytest.raises(ConfigurationError, match=r"torsos is \['picture'\]; it must be of .*: observation"):
        Composed((8, 8), (2,), {"picture": MLP})
    with pytest.raises(ConfigurationError, match=r"torsos\.numbers is 'GRU'; .* without memory"):
        Composed(PICTURE, (2,), {"numbers": GRU})


def test_a_checkpoint_holds_the_shape_as_plain_values() -> None:
    learner = DQN(PICTURE, 2, Composed)
    assert learner.hparams["obs_shape"] == {
        "parts": {"picture": ["uint8", 5, 4], "numbers": ["float32", 2], "count": ["int64", 1]},
        "num_frames": 1,
    }
    again = DQN(learner.hparams["obs_shape"], 2, Composed)
    assert isinstance(again.obs_shape, PackedShape)
    assert again.obs_shape.parts == PICTURE.parts
    assert "args" not in Positional(PICTURE, 2, network=Composed).hparams  # where it would be a class of the package's


class Positional(DQN):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"parts": {}, "num_frames": 1},
        {"parts": "text", "num_frames": 1},
        {"parts": {"x": ["float32", 2]}},
        {"parts": {"x": ["float32", 2]}, "num_frames": 0},
        {"parts": {"x": []}, "num_frames": 1},
        {"parts": {"x": [3, 2]}, "num_frames": 1},
        {"parts": {"x": ["object", 2]}, "num_frames": 1},
        {"parts": {"x": ["float32", -2]}, "num_frames": 1},
        {"parts": {"x": ["float32", "2"]}, "num_frames": 1},
    ],
    ids=str,
)
def test_a_shape_that_is_none_is_refused(shape: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"the observations' shape is .*; it must be parts by their names"):
        shape_of_observation(shape)


def test_blank_observations_are_of_the_stored_dtype() -> None:
    assert blank_observations((2, 3), 4, 5).shape == (4, 5, 2, 3)
    assert blank_observations(PICTURE).dtype == torch.uint8
