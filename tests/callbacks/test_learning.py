"""The curves of what the agent's choices say, held against the table of trials."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from seqrl_lightning.analysis.metrics import attempts, choices_of, criterion_by_block
from seqrl_lightning.analysis.trials import read_trials
from seqrl_lightning.callbacks import AgentCallback, LastCheckpoint, LearningMetrics, TrialWriter
from seqrl_lightning.functional import ERROR_KINDS, error_kinds, swap_counts
from tests.running import fit

BLOCKS = [{"sequence": "ABC", "episodes": 10}, {"sequence": "swap_1_2"}]
DATA: dict[str, Any] = {
    "env_id": "seqrl/SequenceDistractor-v0",
    "env_kwargs": {"objects": "ABC", "blocks": BLOCKS, "max_errors": 6},
    "num_envs": 3,
    "batch_size": 8,
    "capacity": 90,
    "batches_per_epoch": 20,
}


def run(folder: Path, callbacks: list[Callback], **settings: Any) -> tuple[Any, Any]:
    torch.manual_seed(3)
    settings = {"max_steps": 120, "log_every_n_steps": 7, "logger": True, **settings}
    data = {**DATA, **settings.pop("data", {})}
    agent = {"warmup_env_steps": 30, "env_steps_per_update": 6}
    trainer, module, _ = fit(folder, data, {"learning_rate": 0.01}, agent, callbacks=callbacks, **settings)
    return trainer, module


def curves(trainer: Any) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(trainer.log_dir), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith(("learning/", "errors/"))]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def test_they_say_what_the_table_of_trials_says(tmp_path: Path) -> None:
    trainer, _ = run(tmp_path, [TrialWriter(), LearningMetrics()], log_every_n_steps=10_000)  # only at the end
    found = {tag: points[-1][1] for tag, points in curves(trainer).items()}
    task = trainer.datamodule.task
    trials = read_trials(Path(trainer.log_dir) / "trials.csv", task.order_by_block)
    ended = trials.groupby(["env", "episode"])[["terminated", "truncated"]].transform("max").any(axis=1)
    trials = trials[ended]
    assert found["learning/completion"] == pytest.approx(attempts(trials, task.order_by_block)["completion"].mean())
    accuracy = trials.groupby("position")["is_right"].mean()
    for position in range(3):
        assert found[f"learning/accuracy/position_{position + 1}"] == pytest.approx(accuracy[position])
    choices = choices_of(trials)
    kinds = error_kinds(choices, 3)
    for number, kind in enumerate(ERROR_KINDS):
        assert found[f"errors/{kind}"] == pytest.approx(float((kinds == number).float().mean()))
        assert found[f"errors/{kind}"] > 0
    came, at_once, _, _ = swap_counts(choices, task.order_by_block).sum(1)
    assert found["errors/anticipated_swap"] == pytest.approx(float(at_once / came))
    by_env = [criterion_by_block(attempts(rows, task.order_by_block)) for _, rows in trials.groupby("env")]
    for block in (0, 1):
        expected = np.nanmean([criterion[block] for criterion in by_env])
        assert found[f"learning/trials_to_criterion/block_{block}"] == pytest.approx(expected)


def test_a_task_of_answers_has_accuracy_and_no_kinds_of_errors(tmp_path: Path) -> None:
    data = {"env_id": "seqrl/NBack-v0", "env_kwargs": {"n": 1, "trials": 3}, "num_envs": 1}
    trainer, _ = run(tmp_path, [LearningMetrics()], data=data, max_steps=30)
    found = curves(trainer)
    assert {f"learning/accuracy/position_{k}" for k in (1, 2, 3)} < found.keys()
    assert not any(tag.startswith("errors/") or tag.endswith("position_4") for tag in found)
    points = zip(*(found[f"learning/accuracy/position_{k}"] for k in (1, 2, 3)), strict=True)
    means = [np.mean([value for _, value in of_positions]) for of_positions in points]  # each answers all three
    np.testing.assert_allclose(means, [value for _, value in found["learning/completion"]], rtol=1e-6)


def test_a_further_run_leaves_no_list_behind_that_nobody_empties(tmp_path: Path) -> None:
    trainer, module = run(tmp_path, [LearningMetrics(), TrialWriter()], max_steps=5)
    agent = AgentCallback.of(trainer)
    lists: list[list[Any]] = []
    subscribe = agent.recorder.subscribe
    agent.recorder.subscribe = lambda: lists.append(subscribe()) or lists[-1]  # type: ignore[func-returns-value,method-assign]
    for max_steps in (10, 15):
        trainer.fit_loop.epoch_loop.max_steps = max_steps
        trainer.fit(module, datamodule=trainer.datamodule)
    assert trainer.global_step == 15
    assert len(lists) == 4
    assert not any(lists)


def test_other_tasks_have_none(tmp_path: Path) -> None:
    trainer, _ = run(tmp_path, [LearningMetrics()], data={"env_id": "CartPole-v1", "env_kwargs": {}}, max_steps=14)
    assert curves(trainer) == {}


def test_it_changes_nothing(tmp_path: Path) -> None:
    _, module = run(tmp_path / "with", [LearningMetrics()], max_steps=40)
    _, other = run(tmp_path / "without", [], max_steps=40)
    for one, two in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_run_that_goes_on_writes_the_same(tmp_path: Path, num_envs: int) -> None:
    def go(folder: str, max_steps: int, **settings: Any) -> Any:
        callbacks: list[Callback] = [LearningMetrics(), LastCheckpoint()]
        return run(tmp_path / folder, callbacks, data={"num_envs": num_envs}, max_steps=max_steps, **settings)[0]

    whole, half = go("whole", 120), go("half", 60)
    last = str(Path(half.log_dir) / "checkpoints" / "last.ckpt")
    same_folder = TensorBoardLogger(tmp_path / "half", version=1, default_hp_metric=False)
    rest = go("half", 120, ckpt_path=last, logger=same_folder)
    first, second, expected = curves(half), curves(rest), curves(whole)
    reached = first["learning/completion"][-2][0]  # the last point is of what was left at the first half's end
    for tag, points in expected.items():
        before = [point for point in first.get(tag, []) if point[0] <= reached]
        assert before + second.get(tag, []) == points
