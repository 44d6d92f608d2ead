"""``seqrl represent`` on real runs."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.running import seqrl

CONFIG = """
data:
  env_id: {env_id}
  env_kwargs: {env_kwargs}
  num_envs: 1
  batch_size: 2
  capacity: 200
  sampler: {sampler}
  batches_per_epoch: 5
  eval_episodes: 1
model:
  class_path: DQN
  init_args: {{network: {network}}}
agent: {{warmup_env_steps: 50, env_steps_per_update: 2}}
checkpoint: {{save_top_k: -1}}
trainer: {{max_steps: 10, enable_progress_bar: false}}
"""
GRU = "{class_path: GRU, init_args: {hidden_size: 8}}"
RUNS = {
    "gru": ("seqrl/DelayedRecall-v0", "{delay: 3}", "SequenceSampler", GRU),
    "mlp": ("seqrl/DelayedRecall-v0", "{delay: 3}", "UniformSampler", "MLP"),
    "sequence": ("seqrl/Sequence-v0", "{objects: ABC}", "UniformSampler", "MLP"),
}
SECTIONS = [
    "Trajectories by item",
    "Decoding of past items",
    "Generalization over time",
    "Decoding of the serial position",
    "Representational similarity",
    "Angles between item subspaces",
    "Dimension",
    "Contributions to the choice",
]
FEW = ("--episodes=120", "--shuffles=5")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for name, (env_id, env_kwargs, sampler, network) in RUNS.items():
        config = root / f"{name}.yaml"
        config.write_text(CONFIG.format(env_id=env_id, env_kwargs=env_kwargs, sampler=sampler, network=network))
        status, _, err = seqrl("fit", f"--config={config}", f"--trainer.default_root_dir={root / name}")
        assert status == 0, err
    return root


def represent(*arguments: Any) -> Path:
    """Runs the command. Returns the report's path."""
    status, out, err = seqrl("represent", *map(str, arguments), *FEW)
    assert status == 0, err
    return Path(out.strip())


def titles(report: Path) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", report.read_text())


@pytest.fixture(scope="module")
def played(runs: Path) -> Path:
    """The report's folder on one network, which played."""
    return represent(runs / "gru", f"--output={runs / 'played'}").parent


def test_one_network_has_states_and_every_section(played: Path) -> None:
    report = played / "report.html"
    assert titles(report) == SECTIONS
    assert "left-out" not in report.read_text().split("</style>")[1]
    assert not re.search(r'(src|href)="(?!data:)', report.read_text())  # opens without a network
    states = np.load(played / "states.npz")
    assert states["units"].shape == (120 * 5, 8)
    assert states["state"].shape == (120 * 5, 1, 8)
    trials = pd.read_csv(played / "trials.csv")
    shown = np.array([json.loads(text)[:4] for text in trials["state"]])
    np.testing.assert_array_equal(states["item"], np.where(shown.any(1), shown.argmax(1), -1))
    np.testing.assert_array_equal(states["action"], trials["action"])
    table = pd.read_csv(played / "states.csv")
    np.testing.assert_allclose(table[[f"unit_{k}" for k in range(8)]], states["units"], rtol=1e-6)
    np.testing.assert_array_equal(table["delay"], states["delay"])
    cells = pd.read_csv(played / "decoding_data.csv")
    assert len(cells) == 4 * 5
    at_once = cells[cells["item_step"] == cells["step"]]
    assert at_once["accuracy"].min() > 0.9  # what is seen right now
    assert cells[cells["item_step"] > cells["step"]]["accuracy"].max() < 0.5  # what is yet to come


@pytest.mark.slow
def test_a_table_is_seen_as_the_episodes_were(runs: Path, played: Path, tmp_path: Path) -> None:
    """The run's folder has a name that is HTML, and mathematics in figures. All that a GRU carries are its units."""
    folder = tmp_path / "<b>$x"
    folder.symlink_to(next((runs / "gru").rglob("config.yaml")).parent)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    report = represent(
        checkpoint, f"--table={played / 'trials.csv'}", "--units=state", f"--output={tmp_path / 'shown'}"
    )
    assert "<b>" not in report.read_text()
    shown = report.parent
    assert not (shown / "trials.csv").exists()
    np.testing.assert_array_equal(np.load(shown / "states.npz")["units"], np.load(played / "states.npz")["units"])
    for name in ("decoding_data.csv", "saliency_data.csv"):
        assert (shown / name).read_bytes() == (played / name).read_bytes()


@pytest.mark.slow
def test_networks_are_compared_over_training_and_with_each_other(runs: Path, tmp_path: Path) -> None:
    report = represent(runs / "gru", runs / "mlp", "--untrained", "--checkpoints=all", f"--output={tmp_path}")
    found = titles(report)
    assert found[0] == "Networks compared"
    assert len(found) == 1 + 4 * len(SECTIONS)  # of each run, untrained and last
    table = pd.read_csv(tmp_path / "comparison.csv", index_col="network")
    names = ("gru, untrained", "gru, 60 env steps", "gru, 70 env steps", "mlp, untrained", "mlp, 60 env steps")
    assert tuple(table.index) == (*names, "mlp, 70 env steps")
    assert table["env steps"].tolist() == [0, 60, 70] * 2
    without_memory = table[table.index.str.startswith("mlp")]
    assert (without_memory["items (least)"] < without_memory["items (threshold)"]).all()
    assert set(pd.read_csv(tmp_path / "states.csv")["network"]) == set(table.index)
    assert {path.name for path in tmp_path.glob("*.npz")} == {f"{number}_states.npz" for number in range(1, 7)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{runs}/gru", "{runs}/sequence"], "the runs are of seqrl/DelayedRecall-v0 and seqrl/Sequence-v0; they must"),
        (["{runs}/sequence"], "the actions) are the same in all episodes, or too rare"),
        (["{runs}/mlp", "--units=state"], "--units is 'state'; it must be features: the network carries no state"),
        (["{runs}/nothing"], "holds no run"),
        (["{runs}/gru", "--table={runs}/no.csv"], "no.csv is missing; it must be a file"),
    ],
)
def test_what_cannot_be_looked_at_is_refused_in_a_line(
    runs: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    given = [argument.format(runs=runs) for argument in arguments]
    status, _, err = seqrl("represent", *given, *FEW, f"--output={tmp_path}")
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
