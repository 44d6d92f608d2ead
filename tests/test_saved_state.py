"""State from a checkpoint is of the types and sizes that were saved, or is refused in one line."""

from typing import Any

import pytest
import torch

from seqrl_lightning.collect import Episode
from seqrl_lightning.saved_state import StateError, saved, saved_tensor
from seqrl_lightning.types import ConfigurationError, Progress, RunError

EPISODE = [7, 0, 1, 2.5, 9, True]


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        (int, 3, 3),
        (float, 3, 3),
        (float, 2.5, 2.5),
        (bool, False, False),
        (dict, {"a": 1}, {"a": 1}),
        (list[int], [], []),
        (list[list[int]], [[1], []], [[1], []]),
        (list[Episode], [EPISODE], [Episode(7, 0, 1, 2.5, 9, True)]),
        (Progress, {"block": 2, "env_steps": 5, "episodes": 1, "epsilon": 0, "env_faults": 0}, Progress(5, 1, 2, 0, 0)),
    ],
    ids=str,
)
def test_what_was_saved_is_restored(kind: Any, value: Any, found: Any) -> None:
    assert saved(value, kind, "it") == found
    assert type(saved(value, kind, "it")) is type(found)


@pytest.mark.parametrize(
    ("kind", "value", "line"),
    [
        (int, "3", "it in the checkpoint is '3'; it must be of type int"),
        (int, True, "it in the checkpoint is True; it must be of type int"),
        (int, 3.0, "it in the checkpoint is 3.0; it must be of type int"),
        (float, None, "it in the checkpoint is None; it must be of type float"),
        (bool, 1, "it in the checkpoint is 1; it must be of type bool"),
        (list[int], (1,), "it in the checkpoint is (1,); it must be of type list"),
        (list[int], [1, "2"], "it[1] in the checkpoint is '2'; it must be of type int"),
        (
            list[Episode],
            [EPISODE[:5]],
            "it[0] in the checkpoint is one of ['0', '1', '2', '3', '4']; it must be one of",
        ),
        (
            list[Episode],
            [[*EPISODE[:5], "yes"]],
            "it[0].terminated in the checkpoint is 'yes'; it must be of type bool",
        ),
        (
            Progress,
            {"block": 1},
            "it in the checkpoint is one of ['block']; it must be one of ['block', 'env_faults', ",
        ),
    ],
    ids=str,
)
def test_anything_else_is_refused_in_a_line(kind: Any, value: Any, line: str) -> None:
    with pytest.raises(StateError) as refusal:
        saved(value, kind, "it")
    assert str(refusal.value).startswith(line)
    assert "\n" not in str(refusal.value)


def test_a_tensor_has_the_shape_and_dtype_that_were_saved() -> None:
    tensor = torch.zeros(2, 3)
    assert saved_tensor(tensor, (2, None), torch.float32, "it") is tensor
    for shape, dtype, value in (
        ((2, 2), torch.float32, tensor),
        ((2,), torch.float32, tensor),
        ((2, 3), torch.int64, tensor),
        ((2, 3), torch.float32, tensor.tolist()),
    ):
        with pytest.raises(StateError, match=rf"it in the checkpoint is .*; it must be a tensor of {dtype} and shape"):
            saved_tensor(value, shape, dtype, "it")


@pytest.mark.parametrize("kind", [ConfigurationError, RunError])
def test_a_refusal_is_one_line_whatever_it_quotes(kind: type[Exception]) -> None:
    """Other packages' errors quote names from files as they are."""
    assert str(kind("the ID a\nb\r\nc\x85d\u2028e is malformed")) == "the ID a b c d e is malformed"
