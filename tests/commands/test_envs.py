import subprocess
import sys

import gymnasium as gym
import pytest

from tests.running import seqrl


def test_every_task_with_its_best_return() -> None:
    _, out, _ = seqrl("envs")
    for env_id in [name for name in gym.registry if name.startswith("seqrl/")]:
        line = next(line for line in out.splitlines() if line.startswith(env_id))
        best = gym.make(env_id).unwrapped.optimal_return  # type: ignore[attr-defined]
        assert line.endswith(f"Best return: {best:g}.")


def test_a_task_in_full() -> None:
    _, out, _ = seqrl("envs", "seqrl/Sequence-v0")
    assert "Discrete(10)" in out
    assert "render_mode: str | None = None" in out


@pytest.mark.slow
@pytest.mark.alone
def test_it_is_found_by_a_program_that_has_not_used_it() -> None:
    command = [sys.executable, "-m", "seqrl_lightning", "envs", "seqrl/Recall-v0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.startswith("seqrl/Recall-v0: Watch L symbols"), done.stderr


def test_an_unknown_task_is_one_line() -> None:
    status, _, err = seqrl("envs", "seqrl/Nothing-v0")
    assert status == 2
    assert err.startswith("seqrl: error: the task is 'seqrl/Nothing-v0'; ")
    assert "t must be one of seqrl/BlockSwitch-v0, " in err
    assert err.count("\n") == 1


def test_a_task_of_another_package_is_named_as_such() -> None:
    status, _, err = seqrl("envs", "CartPole-v1")
    assert status == 2
    assert err.startswith("seqrl: error: CartPole-v1 is a task of another package")


def test_the_rule_and_the_settings_of_a_memory_task() -> None:
    _, out, _ = seqrl("envs", "seqrl/Recall-v0")
    assert out.startswith("seqrl/Recall-v0: Watch L symbols, then reproduce them.\n")
    assert "    length: int = 4\n" in out
    assert "    previous_action_reward: bool = True\n" in out
