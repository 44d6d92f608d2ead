"""The env steps that are due are taken, and no more than the budget allows; without a Trainer."""

import pytest
import torch

from seqrl_lightning.collect.env_steps import Budget, EnvSteps
from seqrl_lightning.collect.pace import Pace
from seqrl_lightning.types import Progress
from tests.collect.collecting import make_collector


def env_steps_of(budget: Budget, overlap: bool = False, num_envs: int = 2) -> tuple[EnvSteps, Progress]:
    collector = make_collector(num_envs=num_envs, vectorization_mode="async" if overlap else None)
    pace = Pace(warmup_env_steps=10, env_steps_per_update=2.0, updates_per_collect=2)
    run = Progress()
    collector.begin()
    return EnvSteps(collector, pace, budget, run, torch.device("cpu"), overlap), run


@pytest.mark.parametrize("overlap", [False, True])
def test_after_each_visit_as_many_env_steps_are_taken_as_are_due(overlap: bool) -> None:
    env_steps, run = env_steps_of(Budget(None, None), overlap)
    env_steps.warm_up()
    assert 10 <= run.env_steps < 12
    taken = []
    for updates in range(1, 9):
        env_steps.start(updates)
        env_steps.finish(updates)
        taken.append(run.env_steps)
    # Every second update visits the environments for 4 env steps; two environments may take one more.
    for updates, count in enumerate(taken, start=1):
        assert 10 + 4 * (updates // 2) <= count < 10 + 4 * (updates // 2) + 2
    assert env_steps.collector.progress.env_steps == run.env_steps
    env_steps.collector.envs.envs.discard()


@pytest.mark.parametrize("budget", [Budget(17, None), Budget(None, 2)])
def test_the_budget_ends_it(budget: Budget) -> None:
    env_steps, run = env_steps_of(budget, num_envs=1)
    env_steps.collector.step()
    assert not budget.is_used_up(run)
    env_steps.finish(updates=1000)
    assert run.env_steps == 17 if budget.max_env_steps else run.episodes == 2
    assert budget.is_used_up(run)
    before = run.env_steps
    env_steps.finish(updates=2000)
    assert run.env_steps == before


def test_a_rollout_that_the_budget_cuts_short_is_given_up() -> None:
    env_steps, run = env_steps_of(Budget(17, None), num_envs=1)
    env_steps.warm_up()
    env_steps.take_rollout(updates=50)
    assert run.env_steps == 17
    assert env_steps._pace.due_env_steps(50) == 17  # nothing is owed, should the budget be raised
