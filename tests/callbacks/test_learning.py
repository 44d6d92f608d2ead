"""The curves of what the agent's choices show, compared with the table of trials and the report on it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks import learning
from seqrl_lightning.analysis import sections
from seqrl_lightning.analysis.measures import error_shares, measure_episodes, swap_inference
from seqrl_lightning.analysis.runs import Run
from seqrl_lightning.analysis.trials import counted_trials
from seqrl_lightning.callbacks import AgentCallback, EnvStepLogger, LastCheckpoint, LearningMetrics, TrialWriter
from seqrl_lightning.exploration import ConstantEpsilon
from seqrl_lightning.functional import ERROR_KINDS
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

LEARNS: dict[str, Any] = {  # both orders, within a second
    "agent": {"env_steps_per_update": 12, "epsilon": ConstantEpsilon(0.1)},
    "data": {"env_kwargs": {**DATA["env_kwargs"], "blocks": [{**BLOCKS[0], "episodes": 120}, BLOCKS[1]]}},
    "max_steps": 300,
}


def run(folder: Path, callbacks: list[Callback], **settings: Any) -> tuple[Any, Any]:
    torch.manual_seed(3)
    settings = {"max_steps": 120, "log_every_n_steps": 7, "logger": True, **settings}
    data = {**DATA, **settings.pop("data", {})}
    agent = {"warmup_env_steps": 30, "env_steps_per_update": 6, **settings.pop("agent", {})}
    trainer, module, _ = fit(folder, data, {"learning_rate": 0.01}, agent, callbacks=callbacks, **settings)
    return trainer, module


def curves(trainer: Any) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(trainer.log_dir), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("learning/")]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def run_of(trainer: Any) -> Run:
    """The run's folder as ``seqrl analyse`` reads it."""
    folder = Path(trainer.log_dir)
    data = trainer.datamodule
    settings = {"seed_everything": 3, "data": {"env_id": data.env_id, "env_kwargs": data.factory.env_kwargs}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return Run(folder)


@pytest.mark.slow
def test_tensorboard_and_the_report_have_the_same_numbers(tmp_path: Path) -> None:
    callbacks = [TrialWriter(), LearningMetrics(), EnvStepLogger()]
    trainer, _ = run(tmp_path, callbacks, **LEARNS, log_every_n_steps=10_000)  # written once, at the end
    found = {tag: points[-1][1] for tag, points in curves(trainer).items()}
    report = run_of(trainer)
    assert report.trials is not None

    section = sections.criterion([report], {})
    assert section.table is not None
    assert section.data is not None
    for block, in_report in section.data.set_index("block")["episodes"].items():
        assert found[f"learning/episodes_to_criterion/block_{block}"] == in_report > 0
    assert found["learning/savings/block_1"] == pytest.approx(section.table["savings, block 1"].iloc[0])

    episodes = measure_episodes(report.trials, report.facts)
    assert found["learning/completion"] == pytest.approx(episodes["completion"].mean())
    shares = error_shares(episodes.sum().to_frame().T).iloc[0]
    for kind in (*ERROR_KINDS, "previous_order"):
        assert found[f"learning/errors/{kind}"] == pytest.approx(shares[kind])
        assert shares[kind] > 0
    counted = counted_trials(report.trials)
    for position, accuracy in counted.groupby("position")["is_right"].mean().items():
        assert found[f"learning/position_{position + 1}/accuracy"] == pytest.approx(accuracy)
    anticipated, inferred = swap_inference(report.trials, trainer.datamodule.task.order_by_block, 1)
    assert found["learning/errors/anticipated_swap"] == pytest.approx(anticipated)
    assert found["learning/errors/ordinal_inference"] == pytest.approx(inferred)


@pytest.mark.slow
def test_the_readme_counts_the_criterion_like_tensorboard(tmp_path: Path) -> None:
    trainer, _ = run(tmp_path, [EnvStepLogger()], **LEARNS)
    found = curves(trainer)
    result = learning.episodes_to_criterion_by_block(Path(trainer.log_dir) / "episodes.csv", 3.0)
    for block in (0, 1):
        points = found[f"learning/episodes_to_criterion/block_{block}"]
        assert {value for _, value in points} == {result[f"block_{block}/episodes_to_criterion"]}


def test_a_task_of_answers_has_accuracy_and_no_kinds_of_errors(tmp_path: Path) -> None:
    data = {"env_id": "seqrl/NBack-v0", "env_kwargs": {"n": 1, "trials": 3}, "num_envs": 1}
    trainer, _ = run(tmp_path, [LearningMetrics()], data=data, max_steps=30)
    found = curves(trainer)
    assert {f"learning/position_{k}/accuracy" for k in (1, 2, 3)} < found.keys()
    assert not any(tag.startswith("learning/errors/") or tag.startswith("learning/position_4") for tag in found)
    points = zip(*(found[f"learning/position_{k}/accuracy"] for k in (1, 2, 3)), strict=True)
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


@pytest.mark.slow
@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_run_that_goes_on_writes_the_same(tmp_path: Path, num_envs: int) -> None:
    def go(folder: str, max_steps: int, **settings: Any) -> Any:
        callbacks: list[Callback] = [LearningMetrics(), EnvStepLogger(), LastCheckpoint()]
        settings |= {"agent": LEARNS["agent"], "data": {**LEARNS["data"], "num_envs": num_envs}}
        return run(tmp_path / folder, callbacks, max_steps=max_steps, **settings)[0]

    whole, half = go("whole", 300), go("half", 60)
    last = str(Path(half.log_dir) / "checkpoints" / "last.ckpt")
    same_folder = TensorBoardLogger(tmp_path / "half", version=1, default_hp_metric=False)
    rest = go("half", 300, ckpt_path=last, logger=same_folder)
    first, second, expected = curves(half), curves(rest), curves(whole)
    assert "learning/episodes_to_criterion/block_0" in expected
    reached = first["learning/completion"][-2][0]  # the last point is of what was left at the first half's end
    for tag, points in expected.items():
        before = [point for point in first.get(tag, []) if point[0] <= reached]
        assert before + second.get(tag, []) == points
