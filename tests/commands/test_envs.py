import sys

import gymnasium as gym
import pytest

from seqrl_lightning.__main__ import main


def seqrl(monkeypatch: pytest.MonkeyPatch, *args: str) -> None:
    monkeypatch.setattr(sys, "argv", ["seqrl", *args])
    main()


def test_every_task_with_its_best_return(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seqrl(monkeypatch, "envs")
    lines = capsys.readouterr().out.splitlines()
    for env_id in [name for name in gym.registry if name.startswith("seqrl/")]:
        line = next(line for line in lines if line.startswith(env_id))
        best = gym.make(env_id).unwrapped.optimal_return  # type: ignore[attr-defined]
        assert line.endswith(f"Best return: {best:g}.")


def test_a_task_in_full(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seqrl(monkeypatch, "envs", "seqrl/Sequence-v0")
    out = capsys.readouterr().out
    assert "Discrete(10)" in out
    assert "render_mode: str | None = None" in out


def test_an_unknown_task_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        seqrl(monkeypatch, "envs", "seqrl/Nothing-v0")
    error = capsys.readouterr().err.strip()
    assert error.startswith("seqrl: error: env_ids is 'seqrl/Nothing-v0'; it must be one of seqrl/BlockSwitch-v0")
    assert "\n" not in error
