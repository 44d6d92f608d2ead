"""The folders of runs, with and without a logger: what goes on in them, and what must not."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from seqrl_lightning import Agent, versions
from seqrl_lightning.checkpoints.format import read_checkpoint
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_an_agent_learns_on_without_a_logger(tmp_path: Path) -> None:
    settings = {"batch_size": 8, "warmup_env_steps": 8, "enable_progress_bar": False}
    agent = Agent("CartPole-v1", folder=tmp_path, logger=False, **settings).learn(40).learn(20)  # type: ignore[arg-type]
    assert agent.data.progress.env_steps == 60


@pytest.mark.slow
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


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("where", [[], ["--trainer.default_root_dir=./runs//mine/"], ["--checkpoint.dirpath=best"]])
def test_a_resumed_run_remembers_its_best_checkpoint_wherever_it_is(
    where: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each evaluation has the same result here, as nothing is learned: the first one stays the best."""
    monkeypatch.chdir(tmp_path)
    settings = ["--data.env_id=seqrl/Sequence-v0", "--model.learning_rate=1e-30", "--data.batches_per_epoch=4"]
    settings += ["--data.batch_size=8", "--agent.warmup_env_steps=8", "--trainer.enable_progress_bar=false", *where]
    states = []
    for more in (["--trainer.max_steps=4"], ["--trainer.max_steps=8", "--ckpt_path=last"]):
        status, _, err = seqrl("fit", *settings, *more)
        assert status == 0, err
        (last,) = tmp_path.rglob("last.ckpt")
        (state,) = (state for key, state in read_checkpoint(last)["callbacks"].items() if "ModelCheckpoint" in key)
        states.append({key: str(value) for key, value in state.items()})
    assert states[0] == states[1]
    (best,) = tmp_path.rglob("epoch=*.ckpt")
    assert best.name == "epoch=0-step=4.ckpt"
    assert best.samefile(states[1]["best_model_path"])


@pytest.mark.slow
def test_an_agent_that_learns_again_remembers_its_best_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"batch_size": 8, "batches_per_epoch": 4, "warmup_env_steps": 8, "learning_rate": 1e-30}
    agent = Agent("seqrl/Sequence-v0", enable_progress_bar=False, **settings)  # type: ignore[arg-type]
    agent.learn(32).learn(40)
    (best,) = (path.name for path in tmp_path.rglob("epoch=*.ckpt"))
    assert best == "epoch=0-step=4.ckpt"


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """SciPy comes with the extra ``analysis``; a run without it starts with the other packages' versions."""

    def version(name: str) -> str:
        if name == "scipy":
            raise PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(versions, "version", version)
    names = ("seqrl-lightning", "torch", "lightning", "gymnasium", "numpy")
    assert versions.versions() == [f"{name} 1.2.3" for name in names]
