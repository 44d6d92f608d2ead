"""The scripts in ``examples/``: each is run as it is (slow), and with a tiny budget."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
OWN_BEHAVIOR_MODEL = "own_behavior_model"  # no script: tests/behavior/test_command.py fits it
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem != OWN_BEHAVIOR_MODEL)
TINY = ["--data.batches_per_epoch=4", "--data.eval_episodes=2", "--trainer.max_steps=4"]
TINY += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
SAYS = {
    "own_algorithm": "return of the greedy policy: 5 of 5",
    "own_network": "return of the greedy policy: 1 of 1",
    "own_task": "return of the greedy policy: 10 of 10",
    "seed_figure": "seed_figure.png",
    "memory_models": "GRU: 1.00 of 1",
}


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "memory_models"])  # it has six runs
def test_with_a_tiny_budget(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.setattr(sys, "argv", [name, *TINY])
    importlib.import_module(name).main()
    said = capsys.readouterr().out
    assert SAYS[name].split(":")[0] in said
    assert (tmp_path / "lightning_logs/version_0/episodes.csv").exists()
    assert (tmp_path / "seed_figure.png").exists() == (name == "seed_figure")


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_as_it_is(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py"), "--trainer.enable_progress_bar=false"]
    if name != "memory_models":  # which says where its runs go
        command.append(f"--trainer.default_root_dir={tmp_path}")
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=600)
    assert found.returncode == 0, found.stderr
    assert SAYS[name] in found.stdout
    if name == "memory_models":
        returns = dict(line.split(": ") for line in found.stdout.splitlines() if " of 1" in line)
        assert all(float(returns[blind].split()[0]) < 0.0 for blind in ("MLP", "FrameStack"))


@pytest.mark.slow
def test_the_notebook_runs_from_its_beginning_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    cells = json.loads((ROOT / "examples" / "first_run.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    found: dict[str, Any] = {}
    for number, cell in enumerate(code):
        exec(compile(cell, f"cell {number}", "exec"), found)
    assert found["agent"].evaluate() == 5.0  # of 5
    assert found["terminated"]
    assert float(found["trainer"].callback_metrics["val/return_mean"]) > 50.0  # random choices: 22


@pytest.mark.parametrize("name", [OWN_BEHAVIOR_MODEL, *(name for name in EXAMPLES if name.startswith("own_"))])
def test_what_pages_show_whole_is_short(name: str) -> None:
    assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) <= 60
