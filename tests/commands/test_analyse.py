"""``seqrl analyse`` and ``seqrl compare`` on real runs."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seqrl_lightning.functional import ERROR_KINDS
from tests.running import seqrl

CONFIG = """
data:
  env_id: {env_id}
  env_kwargs: {env_kwargs}
  batch_size: 8
  capacity: 60
  batches_per_epoch: 20
  eval_episodes: 1
model:
  class_path: DQN
  init_args: {{network: {{class_path: MLP, init_args: {{hidden_sizes: [8]}}}}}}
agent: {{warmup_env_steps: 16, env_steps_per_update: 2}}
trainer: {{max_steps: 60, log_every_n_steps: 7, enable_progress_bar: false}}
"""
TASKS = {
    "sequence": (
        "seqrl/SequenceDistractor-v0",
        "{objects: ABC, max_errors: 4, blocks: [{sequence: ABC, episodes: 8}, {sequence: swap_1_2}]}",
    ),
    "memory": ("seqrl/DelayedRecall-v0", "{delay: 3}"),
    "cartpole": ("CartPole-v1", "{}"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for name, (env_id, env_kwargs) in TASKS.items():
        config = root / f"{name}.yaml"
        config.write_text(CONFIG.format(env_id=env_id, env_kwargs=env_kwargs))
        for seed in ("1", "2") if name == "sequence" else ("1",):
            folder = root / name / seed
            status, _, err = seqrl(
                "fit", f"--config={config}", f"--trainer.default_root_dir={folder}", f"--seed_everything={seed}"
            )
            assert status == 0, err
    return root


def sections(report: Path) -> dict[str, str]:
    """Return the sections of the report by their titles."""
    parts = re.split(r"<h2>(.*?)</h2>", report.read_text())[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.slow
def test_the_report_on_a_task_with_an_order_has_everything(
    runs: Path, tmp_path: Path, all_formats: tuple[str, ...]
) -> None:
    status, out, err = seqrl("analyse", str(runs / "sequence"), f"--output={tmp_path}")
    assert status == 0, err
    report = Path(out.strip())
    assert report == tmp_path / "report.html"
    found = sections(report)
    assert len(found) == 11
    assert "DQN was trained on seqrl/SequenceDistractor-v0" in found["Methods"]
    assert "left-out" not in report.read_text().split("</style>")[1]
    assert found["Objects chosen"].count("data:image/png") == 1
    assert not re.search(r'(src|href)="(?!data:)', report.read_text())  # opens without a network
    names = {"learning", "episodes", "criterion", "positions", "confusion", "errors", "distractors"}
    for ending in all_formats:
        assert {path.stem for path in tmp_path.glob(f"*.{ending}")} == names

    errors = pd.read_csv(tmp_path / "probed_errors_data.csv")
    assert set(errors["seed"]) == {1, 2}
    np.testing.assert_allclose(errors[["right", *ERROR_KINDS]].sum(axis=1), 1.0)
    trials = pd.read_csv(tmp_path / "trials.csv")
    assert "state" not in trials
    assert (trials[[f"at_position_{k}" for k in range(1, 5)]].to_numpy().argmax(1) == trials["position"]).all()
    assert set(trials["seed"]) == {1, 2}
    assert set(trials["outcome"]) <= {"right", "uncounted", *ERROR_KINDS}
    counted = trials[trials["outcome"] != "uncounted"]
    assert ((counted["outcome"] == "right") == (counted["reward"] > 0)).all()
    written = sum(len(pd.read_csv(path)) for path in (runs / "sequence").glob("**/version_0/trials.csv"))
    assert len(trials) == written


def test_the_report_says_what_a_task_has_none_of(runs: Path, tmp_path: Path) -> None:
    for name, left_out in (("memory", "Errors"), ("cartpole", "Trials")):
        status, _, err = seqrl("analyse", str(runs / name), f"--output={tmp_path / name}")
        assert status == 0, err
        assert "class=left-out" in sections(tmp_path / name / "report.html")[left_out]


@pytest.mark.slow
def test_conditions_are_compared(runs: Path, tmp_path: Path) -> None:
    other = tmp_path / "gamma"
    arguments = (f"--config={runs}/sequence.yaml", f"--trainer.default_root_dir={other}", "--seed_everything=1")
    assert seqrl("fit", *arguments, "--model.gamma=0.5")[0] == 0
    status, _, err = seqrl("compare", f"{runs}/sequence", str(other), f"--output={tmp_path}/report")
    assert status == 0, err
    returns = pd.read_csv(tmp_path / "report" / "returns.csv", index_col=0)
    assert list(returns.index) == ["gamma=0.5", "gamma=0.99"]
    assert (tmp_path / "report" / "outcomes.png").exists()
    tests = pd.read_csv(tmp_path / "report" / "tests.csv")
    assert tests["P(A > B)"].between(0, 1).all()
    assert tests["p"].isna().all()
    outcomes = pd.read_csv(tmp_path / "report" / "outcomes_data.csv")
    final = outcomes[outcomes["outcome"] == "final return"].set_index(["condition", "seed"])["value"]
    assert list(final.index) == [("gamma=0.5", 1), ("gamma=0.99", 1), ("gamma=0.99", 2)]
    assert {"savings in block 1"} <= set(outcomes["outcome"])  # also without a number in some run
    trials = pd.read_csv(tmp_path / "report" / "trials.csv")
    assert set(trials["condition"]) == {"gamma=0.5", "gamma=0.99"}
    named = f"--runs=one={other},two={runs}/sequence"
    status, _, err = seqrl("compare", named, f"--output={tmp_path}/named", "--axis=updates")
    assert status == 0, err
    assert "over updates (as asked for)" in (tmp_path / "named" / "report.html").read_text()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["analyse", "{runs}/nowhere"], "holds no run; it must be a folder that `seqrl fit` wrote"),
        (["analyse", "{runs}"], "the runs are of CartPole-v1 and seqrl/DelayedRecall-v0 and seqrl/SequenceDistractor"),
        (["compare", "--runs=a={runs}/memory"], "it must name at least two groups"),
        (["compare", "--runs=a,b"], "it must be NAME=FOLDERS"),
    ],
)
def test_bad_input_gets_one_line(runs: Path, command: list[str], message: str) -> None:
    status, _, err = seqrl(*(word.format(runs=runs) for word in command))
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
