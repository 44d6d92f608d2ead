"""The folders of runs, with and without a logger: what goes on in them, and what must not."""

from pathlib import Path

import pytest

from seqrl_lightning import Agent
from seqrl_lightning.types import ConfigurationError
from tests.running import seqrl

SMALL = ["--data.env_id=CartPole-v1", "--data.batch_size=8", "--data.batches_per_epoch=10"]
SMALL += ["--agent.warmup_env_steps=8", "--trainer.logger=false", "--trainer.enable_progress_bar=false"]


def fit(folder: Path, *more: str) -> tuple[int, str, str]:
    return seqrl("fit", *SMALL, f"--trainer.default_root_dir={folder}", *more)


def test_it_resumes_and_no_other_run_mixes_with_it(tmp_path: Path) -> None:
    status, _, err = fit(tmp_path, "--agent.max_env_steps=40")
    assert status == 0, err
    config = (tmp_path / "config.yaml").read_text()
    status, _, err = fit(tmp_path, "--agent.max_env_steps=40", "--seed_everything=2")
    assert (status, f"trainer.default_root_dir is '{tmp_path}'; it must be a folder without a run" in err) == (2, True)
    assert (tmp_path / "config.yaml").read_text() == config
    status, out, err = fit(tmp_path, "--agent.max_env_steps=60", "--ckpt_path=last")
    assert status == 0, err
    assert "after 60 env steps" in out
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_run_that_ended_before_its_first_evaluation_resumes(tmp_path: Path) -> None:
    status, _, err = fit(tmp_path, "--trainer.max_steps=4")
    assert status == 0, err
    status, out, err = fit(tmp_path, "--trainer.max_steps=24", "--ckpt_path=last")
    assert status == 0, err
    assert "after 32 env steps" in out


def test_a_trial_run_names_no_folder(tmp_path: Path) -> None:
    status, out, err = fit(tmp_path, "--trainer.fast_dev_run=true")
    assert status == 0, err
    assert "Run folder" not in out
    assert not list(tmp_path.iterdir())


def test_an_agent_learns_on_without_a_logger(tmp_path: Path) -> None:
    settings = {"batch_size": 8, "warmup_env_steps": 8, "enable_progress_bar": False}
    agent = Agent("CartPole-v1", folder=tmp_path, logger=False, **settings).learn(40).learn(20)  # type: ignore[arg-type]
    assert agent.data.progress.env_steps == 60


def test_an_agent_that_was_refused_learns_what_it_is_told_next(tmp_path: Path) -> None:
    settings = {"batch_size": 8, "warmup_env_steps": 100, "enable_progress_bar": False}
    agent = Agent("CartPole-v1", folder=tmp_path, **settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"agent\.max_env_steps is 50"):
        agent.learn(50)
    assert agent.learn(120).data.progress.env_steps == 120


def test_an_agent_without_checkpoints_learns_once(tmp_path: Path) -> None:
    settings = {"batch_size": 8, "warmup_env_steps": 8, "enable_progress_bar": False, "enable_checkpointing": False}
    agent = Agent("CartPole-v1", folder=tmp_path, **settings).learn(40)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="enable_checkpointing is False; it must be true"):
        agent.learn(20)
