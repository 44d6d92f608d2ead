"""``seqrl experiment``."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqrl_lightning.analysis.levels import Levels, read_levels
from seqrl_lightning.commands.experiment import (
    Design,
    allowing,
    check,
    conditions_of,
    read_design,
    with_defaults_of_base,
)
from seqrl_lightning.launch import LocalProcesses, job
from seqrl_lightning.types import ConfigurationError
from tests.running import seqrl

CONFIG = """
data: {env_id: CartPole-v1, batch_size: 8, capacity: 60, batches_per_epoch: 50, eval_episodes: 1}
model: {class_path: DQN, init_args: {network: {class_path: MLP, init_args: {hidden_sizes: [8]}}}}
agent: {warmup_env_steps: 16}
trainer: {max_steps: 10}
"""
GAMMA = {level: {"model.init_args.gamma": value} for level, value in {"low": 0.5, "high": 0.9}.items()}

STAND_IN = """
import pathlib, sys
arguments = dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
folder = pathlib.Path(arguments["--trainer.default_root_dir"])
with (folder.parent.parent / "events").open("a") as file:
    print(folder.parent.name, arguments["--model.init_args.gamma"], arguments["--seed_everything"], file=file)
if {fails} == float(arguments["--model.init_args.gamma"]):
    sys.exit("seqrl: error: the disk is full")
checkpoints = folder / "lightning_logs" / "version_0" / "checkpoints"
checkpoints.mkdir(parents=True)
(checkpoints / "last.ckpt").touch()
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs an experiment in which a small program takes the place of ``seqrl fit``. Returns status, output, errors."""
    (tmp_path / "tiny.yaml").write_text(CONFIG)

    def run(*arguments: str, fails: float = -1.0, **entries: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(job, "SEQRL", (sys.executable, "-c", STAND_IN.replace("{fails}", str(fails))))
        design = {"config": str(tmp_path / "tiny.yaml"), "seeds": 2, "factors": {"gamma": GAMMA}, **entries}
        (tmp_path / "design.yaml").write_text(yaml.safe_dump(design, sort_keys=False))
        return seqrl("experiment", str(tmp_path / "design.yaml"), f"--output={tmp_path}/runs", *arguments)

    return run


def events(folder: Path) -> list[str]:
    return sorted((folder / "runs" / "events").read_text().splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(Path("configs/experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_condition_of_the_experiments_here_can_be_run(path: Path) -> None:
    design = read_design(path)
    conditions = conditions_of(design)
    assert len(conditions) > 1
    for condition in conditions:
        check(condition, design)


@pytest.mark.slow
@pytest.mark.alone
def test_every_condition_is_run_with_every_seed_once(start: Any, tmp_path: Path) -> None:
    status, out, err = start()
    assert status == 0, err
    both = ["gamma_high 0.9 1", "gamma_high 0.9 2", "gamma_low 0.5 1", "gamma_low 0.5 2"]
    assert events(tmp_path) == both
    assert out.splitlines()[-1] == f"seqrl compare {tmp_path}/runs --output {tmp_path}/runs/report"
    assert start()[0] == 0
    assert events(tmp_path) == both  # all of them were over
    assert start("--seeds=3")[0] == 0
    assert set(events(tmp_path)) - set(both) == {"gamma_high 0.9 3", "gamma_low 0.5 3"}
    assert start(factors={"gamma": {"zero": {"model.init_args.gamma": 0.0}, **GAMMA}})[0] == 0
    assert len(events(tmp_path)) == 8
    assert {"gamma_zero 0.0 1", "gamma_zero 0.0 2"} < set(events(tmp_path))
    run = tmp_path / "runs" / "gamma_low" / "seed_1" / "lightning_logs" / "version_0"
    command = f"seqrl experiment {tmp_path}/design.yaml --output={tmp_path}/runs"  # the last one
    assert read_levels(run) == Levels(1, {"gamma": "low"}, command)


@pytest.mark.slow
@pytest.mark.alone
def test_a_condition_that_fails_does_not_stop_the_others_and_is_run_again(start: Any, tmp_path: Path) -> None:
    status, _, err = start(fails=0.5)
    assert status == 1
    assert "1 of 2 conditions have failed runs (gamma_low)" in err
    assert start()[0] == 0
    assert events(tmp_path) == [
        "gamma_high 0.9 1",
        "gamma_high 0.9 2",
        *sorted(["gamma_low 0.5 1", "gamma_low 0.5 2"] * 2),
    ]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"seeds": 0}, "seeds is 0; it must be at least 1"),
        ({"factor": {}}, "it must be a mapping with the keys config and factors"),
        ({"factors": {"gamma": [0.5, 0.9]}}, "factor gamma is [0.5, 0.9]; it must be factors by their names"),
        ({"factors": {"gamma": {"low": 0.5}}}, "level low of gamma is 0.5; it must be settings by their names"),
        ({"factors": {"a/b": GAMMA}}, "factor is 'a/b'; it must be letters, digits and"),
        ({"factors": {"gamma": GAMMA, "other": GAMMA}}, "gamma and other both set model.init_args.gamma"),
        ({"factors": {"gamma": {"odd": {"model.init_args.gamma": 7.0}}}}, "condition gamma_odd: "),
        ({"config": 3}, "config is 3; it must be a file, or a list"),
    ],
)
def test_a_design_that_cannot_work_gets_one_line(
    start: Any, tmp_path: Path, entries: dict[str, Any], message: str
) -> None:
    status, _, err = start(**entries)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.alone
def test_the_printed_command_allows_own_tasks(start: Any, tmp_path: Path) -> None:
    """Those of the design, whatever a folder of runs from somebody else names."""
    assert allowing(["CartPole-v1", "CartPole-v1"]) == ""
    assert allowing(["b:B-v0", "CartPole-v1", "a:A-v0", "b:C-v0"]) == " --allow a --allow b"
    assert start()[0] == 0
    theirs = tmp_path / "runs/gamma_low/seed_1/lightning_logs/version_0/config.yaml"
    theirs.write_text("data: {env_id: 'subprocess; rm:Id'}\n")
    status, out, err = start()
    assert status == 0, err
    assert out.splitlines()[-1].endswith("/runs/report")


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("target", ["condition", "seed"])
def test_runs_from_somebody_else_with_links_out_of_them_are_refused(start: Any, target: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere/seed_1").mkdir(parents=True)
    (tmp_path / "elsewhere/seed_1/config.yaml").write_text("mine")
    (tmp_path / "runs").mkdir()
    if target == "condition":
        (tmp_path / "runs/gamma_low").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "runs/gamma_low").mkdir()
        (tmp_path / "runs/gamma_low/seed_1").symlink_to(tmp_path / "elsewhere/seed_1")
    status, _, err = start()
    assert (status, err.count("\n")) == (2, 1)
    assert "is a symbolic link out of" in err
    assert [path.name for path in (tmp_path / "elsewhere").rglob("*")] == ["seed_1", "config.yaml"]


@pytest.mark.slow
def test_a_signal_ends_it_with_what_to_do_next(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalProcesses, "run", lambda launcher, jobs: 2)
    status, _, err = start()
    assert status == 130
    assert "the same `seqrl experiment` resumes what was saved and runs what is left" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "values"),
    [("MLP", (128, None, 0.9)), ("GRU", (32, 32, 1.0))],
    ids=["a base without memory", "with memory"],
)
def test_a_network_is_compared_with_another_under_the_same_settings(
    base: str, values: tuple[object, ...], tmp_path: Path
) -> None:
    """GRU and MLP have other defaults: those of the base config hold for both, and what a level names."""
    (tmp_path / "base.yaml").write_text(
        f"""
data: {{env_id: seqrl/DelayedRecall-v0, sampler: SequenceSampler}}
model: {{class_path: DQN, init_args: {{network: {base}}}}}
trainer: {{max_steps: 10}}
"""
    )
    levels = {
        "gru": {"model.init_args.network": "GRU"},
        "mlp": {"model.network": {"class_path": "MLP", "init_args": {"hidden_sizes": [8]}}},
        "double": {"model.network": "LSTM", "model.double": True, "agent.epsilon.end": 0.5},
    }
    design = Design([str(tmp_path / "base.yaml")], 1, {"network": levels})
    gru, mlp, double = (check(of_one, design) for of_one in with_defaults_of_base(conditions_of(design), design))
    for config in (gru, mlp, double):
        agent = config["agent"]
        epsilon = agent["epsilon"]["init_args"]
        assert (config["data"]["batch_size"], agent["env_steps_per_update"], epsilon["start"]) == values
    assert double["model"]["init_args"]["double"] is True
    assert double["agent"]["epsilon"]["init_args"]["end"] == 0.5
    networks = [config["model"]["init_args"].pop("network")["class_path"] for config in (gru, mlp)]
    assert [name.rpartition(".")[2] for name in networks] == ["GRU", "MLP"]
    assert gru == mlp


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["PQN", "SARSA"])
def test_a_learner_without_some_of_these_settings_is_no_obstacle(learner: str, tmp_path: Path) -> None:
    """`double` is a setting of DQN alone."""
    (tmp_path / "base.yaml").write_text(
        f"data: {{env_id: seqrl/Sequence-v0}}\nmodel: {learner}\ntrainer: {{max_steps: 9}}\n"
    )
    levels = {"narrow": {"model.network": "MLP"}, "table": {"model.network": "Table"}}
    design = Design([str(tmp_path / "base.yaml")], 1, {"network": levels})
    narrow, table = (check(of_one, design) for of_one in with_defaults_of_base(conditions_of(design), design))
    assert narrow["model"]["init_args"].pop("network") != table["model"]["init_args"].pop("network")
    assert narrow == table


def test_another_learner_keeps_its_own_defaults(tmp_path: Path) -> None:
    """PQN couldn't learn from a replay memory's batches."""
    (tmp_path / "base.yaml").write_text("data: {env_id: CartPole-v1}\nmodel: DQN\n")
    levels = {"dqn": {"model.network": "GRU"}, "pqn": {"model.class_path": "PQN", "model.network": "MLP"}}
    design = Design([str(tmp_path / "base.yaml")], 1, {"learner": levels})
    _, pqn = with_defaults_of_base(conditions_of(design), design)
    assert pqn.settings == levels["pqn"]


def test_levels_are_named_as_written(tmp_path: Path) -> None:
    path = tmp_path / "design.yaml"
    names = ["no", "Yes", "off", "on", "0.10", "010", "1e3", "null", "2024-01-01", "plain"]
    lines = "".join(f"    {name}: {{data.env_kwargs: {{1: off}}}}\n" for name in names)
    path.write_text(f"config: a.yaml\nfactors:\n  on:\n{lines}")
    design = read_design(path)
    assert list(design.factors) == ["on"]
    assert list(design.factors["on"]) == names
    assert design.factors["on"]["no"] == {"data.env_kwargs": {1: False}}  # settings are YAML as ever
    path.write_text("config: a.yaml\nfactors: [no]\n")
    with pytest.raises(ConfigurationError, match="factors"):
        read_design(path)
