import gymnasium as gym
import numpy as np
import pytest

from seqrl_lightning.envs.context_sequence import ContextSequenceEnv
from tests.envs.playing import History, mean_return

ENV_ID = "seqrl/ContextSequence-v0"


def test_the_context_decides() -> None:
    env = gym.make(ENV_ID, objects="ABC", contexts=["ABC", "reversed", "swap_1_2"])
    orders = {0: [0, 1, 2], 1: [2, 1, 0], 2: [1, 2, 0]}
    seen = set()
    env.reset(seed=0)
    for _ in range(20):
        observation, info = env.reset()
        context = int(observation[4:].argmax())
        seen.add(context)
        assert info == {"block": 0, "correct_action": orders[context][0]}
        for position, action in enumerate(orders[context]):
            assert observation.tolist() == [k in (position, 4 + context) for k in range(7)]
            observation, reward, terminated, _, _ = env.step(np.int64(action))
            assert reward == 1
            assert terminated == (position == 2)
    assert seen == {0, 1, 2}


def test_it_is_one_task_without_blocks() -> None:
    assert gym.make(ENV_ID).unwrapped.num_blocks == 1  # type: ignore[attr-defined]
    assert gym.make_vec(ENV_ID).num_blocks == 1  # type: ignore[attr-defined]


def test_blind_to_the_context_half_the_episodes_fail() -> None:
    orders = np.array([[0, 1, 2, 3, 4, 5], [0, 3, 2, 1, 4, 5]])  # ABCDE, ADCBE; 5 is the distractor

    def policy(history: History, contexts: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return np.asarray(orders[contexts, history[-1][:, :6].argmax(1)])

    assert mean_return(ENV_ID, lambda history: policy(history, history[-1][:, 6:].argmax(1)), num_envs=100) == 5
    # In the other context: A, an error, A, an error, ... until 10 errors: 1 - 1 + 1 - 1 ... = 0.
    blind = mean_return(ENV_ID, lambda history: policy(history, np.zeros(len(history[-1]), int)))
    assert blind == pytest.approx(2.5, abs=0.2)


def test_no_subclass_changes_the_scripts_of_later_episodes() -> None:
    script = ContextSequenceEnv().script(0, np.random.default_rng(0))
    for array in script:
        with pytest.raises(ValueError, match="read-only"):
            array += 1
