from typing import Any

import numpy as np
import pytest

from seqrl_lightning.envs.blocks import BlockSchedule
from seqrl_lightning.types import ConfigurationError


def test_words_change_the_block_before() -> None:
    schedule = BlockSchedule(
        [
            {"sequence": "ABCDE", "episodes": 2},
            {"sequence": "swap_2_4", "episodes": 1},
            {"sequence": "reversed", "episodes": 3},
            {"sequence": "reversed"},
        ],
        "ABCDE",
    )
    assert schedule.names == ("ABCDE", "ADCBE", "EBCDA", "ADCBE")
    assert schedule.sequences[1].tolist() == [0, 3, 2, 1, 4]  # objects keep their actions, only their order changes
    assert schedule.block_of(np.arange(9)).tolist() == [0, 0, 1, 2, 2, 2, 3, 3, 3]


def test_without_blocks_the_objects_order_holds_for_ever() -> None:
    schedule = BlockSchedule(None, "BAC")
    assert schedule.sequences.tolist() == [[0, 1, 2]]
    assert schedule.names == ("BAC",)
    assert schedule.block_of(np.array([0, 10**6])).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([{"sequence": "ABD", "episodes": 1}], r"blocks\[0\].sequence is 'ABD', but D is not among the objects ABC"),
        ([{"sequence": "AB", "episodes": 1}], r"blocks\[0\].sequence is 'AB'; it must be an order of ABC"),
        ([{"sequence": "ABA", "episodes": 1}], r"blocks\[0\].sequence is 'ABA'; it must be an order of ABC"),
        ([{"sequence": "ABC"}, {"sequence": "CBA"}], r"blocks\[0\] is .*; it must be given by episodes and sequence"),
        ([{"sequence": "ABC", "episodes": 0}, {"sequence": "CBA"}], r"blocks\[0\].episodes is 0"),
        ([{"sequence": "ABC", "trials": 3}], r"blocks\[0\] is .*'trials'"),
        ([{"sequence": "ABC", "episodes": 1}, {"sequence": "swap_1_4"}], r"blocks\[1\].sequence is 'swap_1_4'"),
        ([{"sequence": "swap_2_2"}], r"blocks\[0\].sequence is 'swap_2_2'; it must be two different positions"),
        ([], r"blocks is \[\]; it must be a list of at least one block"),
    ],
)
def test_bad_blocks_are_named(blocks: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        BlockSchedule(blocks, "ABC")


@pytest.mark.parametrize("objects", ["A", "ABA", ""])
def test_bad_objects_are_named(objects: str) -> None:
    with pytest.raises(ConfigurationError, match=r"data.env_kwargs.objects is "):
        BlockSchedule(None, objects)
