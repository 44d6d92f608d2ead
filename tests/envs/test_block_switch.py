import gymnasium as gym
import numpy as np
import pytest


@pytest.mark.parametrize(("switch", "orders"), [("swap_2_4", "ABCDE ADCBE"), ("reversed", "ABCDE EDCBA")])
def test_the_order_switches_to_and_fro(switch: str, orders: str) -> None:
    env = gym.make("seqrl/BlockSwitch-v0", switch=switch, episodes_per_block=3, num_blocks=3)
    played = []
    for _ in range(10):
        (observation, info), picks, ended = env.reset(), "", False
        assert observation.tolist() == [1, *[0] * 7]  # nothing tells which block it is
        while not ended:
            picks += "ABCDEZ"[info["correct_action"]]
            _, _, ended, _, info = env.step(np.int64(info["correct_action"]))
        played.append((info["block"], picks))
    first, second = orders.split()
    # The last block holds for ever.
    assert played == [*[(0, first)] * 3, *[(1, second)] * 3, *[(2, first)] * 4]


def test_the_default_is_the_laboratory_task() -> None:
    task = gym.make("seqrl/BlockSwitch-v0").unwrapped
    assert task.schedule.block_of(np.array([14, 15])).tolist() == [0, 1]  # type: ignore[attr-defined]
    assert task.schedule.names[:2] == ("ABCDE", "ADCBE")  # type: ignore[attr-defined]
    assert task.backtrack == "first"  # type: ignore[attr-defined]
    assert task.action_space == gym.spaces.Discrete(6)
