"""The command line, as a person meets it."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import seqrl_lightning
from seqrl_lightning import callbacks
from seqrl_lightning.cli import SeqRLCLI, main
from seqrl_lightning.errors import suggestion
from seqrl_lightning.lightning_messages import silence_misleading_messages
from seqrl_lightning.running.parser import explain
from tests import running

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
NEEDS = {
    "breakout": ("ale_py", "atari"),
    "lunar_lander": ("Box2D", "box2d"),
    "minigrid": ("minigrid", "minigrid"),
    "neurogym": ("neurogym", "neurogym"),
    "pong": ("ale_py", "atari"),
    "popgym": ("popgym", "popgym"),
}
Q_LEARNING = str(ROOT / "configs" / "sequence_q_learning.yaml")
SEQUENCE = str(ROOT / "configs" / "sequence_dqn.yaml")


def seqrl(*args: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "seqrl_lightning.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def episodes(run: Path) -> list[dict[str, str]]:
    with (run / "episodes.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_config_instantiates(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (package, extra) in NEEDS.items():
        if config.stem.startswith(name):
            pytest.importorskip(package, reason=f"needs the extra {extra}")
    monkeypatch.setattr(SeqRLCLI, "_run_subcommand", lambda self, subcommand: None)
    monkeypatch.setattr(sys, "argv", ["seqrl"])
    cli = SeqRLCLI(["fit", "--config", str(config), f"--trainer.default_root_dir={tmp_path}"])
    names = {type(callback).__name__ for callback in cli.trainer.callbacks}  # type: ignore[attr-defined]
    assert {"AgentCallback", "TargetSync", "EnvStepLogger", "LastCheckpoint", "ModelCheckpoint"} <= names
    assert config.read_text().startswith("# ")  # the result that it reaches


def test_wrappers_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SeqRLCLI, "_run_subcommand", lambda self, subcommand: None)
    monkeypatch.setattr(sys, "argv", ["seqrl"])
    limit = {"class_path": "TimeLimit", "init_args": {"max_episode_steps": 5}}
    scale = {"class_path": "gymnasium.wrappers.RescaleObservation", "init_args": {"min_obs": -1.0, "max_obs": 9.0}}
    wrappers = [limit, scale, "PreviousActionReward", "gymnasium.wrappers.RecordEpisodeStatistics"]
    cli = SeqRLCLI(
        [
            "fit",
            "--config",
            SEQUENCE,
            f"--data.wrappers={json.dumps(wrappers)}",
            "--trainer.default_root_dir",
            str(tmp_path),
        ]
    )
    assert cli.datamodule.obs_shape == (10 + 10 + 1,)
    assert cli.datamodule.hparams["wrappers"][0]["init_args"] == {"max_episode_steps": 5}  # as text
    assert type(cli.datamodule.hparams["wrappers"][1]["init_args"]["min_obs"]) is float  # which a checkpoint can hold
    assert cli.datamodule.factory.make_env().reset(seed=0)[0].tolist()[:2] == [9.0, -1.0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of tabular Q-learning."""
    root = tmp_path_factory.mktemp("runs")
    result = seqrl("fit", "--config", Q_LEARNING, "--trainer.default_root_dir", root, "--agent.max_episodes", 60)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^\d+ s: episodes 60/60, env steps \d+, return .*$", result.stdout, re.MULTILINE)
    assert "\r" not in result.stdout + result.stderr
    assert "UserWarning" not in result.stderr
    return root / "lightning_logs" / "version_0"


def test_a_run_leaves_what_it_should(run: Path) -> None:
    assert (run / "config.yaml").exists()
    assert (run / "checkpoints" / "last.ckpt").exists()
    rows = episodes(run)
    assert len(rows) == 60
    assert [row["block"] for row in rows] == ["0"] * 15 + ["1"] * 45
    assert [float(row["episode_return"]) for row in rows[4:15]].count(5.0) >= 9  # mastered


def test_tensorboard_has_the_promised_tags_over_env_steps(run: Path) -> None:
    events = EventAccumulator(str(run))
    events.Reload()
    promised = {
        "train/loss",
        "train/episode_return",
        "train/episode_length",
        "train/epsilon",
        "train/q_value_mean",
        "workload/env_steps_per_second",
        "workload/updates_per_second",
        "workload/buffer_fill",
        "val/return_mean",
        "val/block_0/return_mean",
        "val/block_1/return_mean",
    }
    assert promised <= set(events.Tags()["scalars"])
    last_step = int(episodes(run)[-1]["env_steps"])
    updates = events.Scalars("workload/updates")[-1]
    assert updates.step == last_step  # env steps
    assert updates.value == last_step - 1  # one update for each but the first
    assert events.Scalars("val/return_mean")[-1].step == last_step


def test_the_checkpoint_loads_without_running_code(run: Path) -> None:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["callbacks"]["AgentCallback"]["progress"]["episodes"] == 60
    assert checkpoint["hyper_parameters"]["network"]["class_path"] == "seqrl_lightning.networks.Table"


def test_a_checkpoint_alone_rebuilds_its_learner(run: Path) -> None:
    from seqrl_lightning.algorithms import DQN

    path = run / "checkpoints" / "last.ckpt"
    dqn = DQN.load_from_checkpoint(path, weights_only=True)
    saved = torch.load(path, weights_only=True)["state_dict"]["policy_net.head.output.weight"]
    assert torch.equal(dqn.policy_net.table.weight, saved)  # type: ignore[union-attr, arg-type]
    assert dqn.optimization.learning_rate == 0.1


def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: Any) -> tuple[int, str, str]:
    """Runs the CLI in this process: (exit status, standard output, the last line of the error output)."""
    monkeypatch.setattr(sys, "argv", ["seqrl", *map(str, args)])
    status = 0
    try:
        main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, (captured.err.strip().splitlines() or [""])[-1]


def test_validate_test_and_predict_work_from_a_checkpoint(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = run.parent.parent
    common = ("--config", Q_LEARNING, "--trainer.default_root_dir", root, "--ckpt_path", "last")
    status, out, _ = call(capsys, monkeypatch, "validate", *common)
    assert status == 0
    assert "val/return_mean" in out
    status, out, _ = call(capsys, monkeypatch, "test", *common)
    assert status == 0
    assert "test/block_1/return_mean" in out
    status, _, _ = call(capsys, monkeypatch, "predict", *common)
    assert status == 0
    (path,) = root.glob("lightning_logs/*/predict/predictions.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    by_block = {block: [row for row in rows if row["block"] == block] for block in ("0", "1")}
    assert all(row["action"] == row["correct_action"] for row in by_block["1"])  # the block that training was in
    assert [row["state"] for row in by_block["1"]][:2] == [
        "[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]",
        "[0.0, 1.0, 0.0, 0.0, 0.0, 0.0]",
    ]
    assert [float(row["reward"]) for row in by_block["1"]] == [1.0] * 5


@pytest.mark.slow
def test_a_run_ends_with_its_result_and_commands_that_work(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--config", Q_LEARNING, "--trainer.max_steps", "2000", "--trainer.enable_progress_bar", "false")
    status, out, _ = call(capsys, monkeypatch, "fit", *words)
    assert status == 0
    folder, result, *commands = out[out.index("Run folder:") :].strip().splitlines()
    assert folder.split() == ["Run", "folder:", "lightning_logs/version_0"]
    assert re.match(
        r"Greedy policy:  mean return [\d.]+, in block [01], after [\d,]+ env steps and \d+ episodes", result
    )
    for command in commands:
        program, *arguments = command.removeprefix("Next:").split()
        assert program == "seqrl"
        assert running.seqrl(*arguments)[0] == 0


@pytest.mark.slow
def test_the_commands_for_a_task_of_ones_own_allow_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--data.env_id=tests.tasks:tests/Doors-v0", "--data.batch_size=8", "--data.eval_episodes=1")
    status, out, err = running.seqrl("fit", *words, "--agent.warmup_env_steps=20", "--agent.max_env_steps=120")
    assert status == 0, err
    *_, command = out.strip().splitlines()
    assert command.split()[1:] == ["analyse", "lightning_logs/version_0", "--allow", "tests.tasks"]
    status, _, err = running.seqrl(*command.split()[1:])
    assert status == 0, err


def test_random_weights_are_evaluated_on_demand_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # without a logger, the config is written into the present folder
    words = ("--config", Q_LEARNING, "--trainer.logger", "false")
    status, _, err = call(capsys, monkeypatch, "test", *words)
    assert status == 2
    assert "--ckpt_path: missing; name a checkpoint file, 'last' or 'best', or 'untrained' for random weights" in err
    status, out, _ = call(capsys, monkeypatch, "test", *words, "--ckpt_path", "untrained")
    assert status == 0
    assert "test/return_mean" in out


def test_the_best_checkpoint_is_found(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--config", Q_LEARNING, "--trainer.default_root_dir", run.parent.parent, "--ckpt_path", "best")
    status, out, _ = call(capsys, monkeypatch, "validate", *words)
    assert status == 0
    assert "val/return_mean" in out
    assert "val/block_1: the rule of block 1: ADCBE (val/return_mean is of this one)" in out


def test_an_evaluation_writes_into_its_runs_folder(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    last = run / "checkpoints" / "last.ckpt"
    words = ("--config", Q_LEARNING, "--trainer.default_root_dir", tmp_path, "--ckpt_path", last)
    assert call(capsys, monkeypatch, "test", *words)[0] == 0
    assert list(tmp_path.iterdir()) == []
    events = EventAccumulator(str(run / "test")).Reload()
    names = events.Tags()["scalars"]
    assert {name.partition("/")[0] for name in names} == {"test"}  # neither Lightning's epoch nor its step
    assert events.Scalars("test/block")[-1].value == 1.0
    assert events.Scalars("test/return_mean")[-1].step == max(int(row["env_steps"]) for row in episodes(run))


def test_an_evaluation_does_not_follow_a_link_out_of_the_runs_folder(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy, outside = tmp_path / "run", tmp_path / "outside"
    (copy / "checkpoints").mkdir(parents=True)
    outside.mkdir()
    for name in ("config.yaml", "run.lock", "checkpoints/last.ckpt"):
        (copy / name).write_bytes((run / name).read_bytes())
    (copy / "test").symlink_to(outside)
    words = ("--config", Q_LEARNING, "--ckpt_path", copy / "checkpoints" / "last.ckpt")
    status, _, err = call(capsys, monkeypatch, "test", *words)
    assert status == 2
    assert f"{copy / 'test'} is a symbolic link out of {copy}" in err
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("model.lr", "; did you mean 'model.learning_rate'?"),
        ("model.eps", "; did you mean 'model.optimizer.eps'?"),
        ("model.hidden_size", "; did you mean 'model.network.hidden_size'?"),
        ("model.lambda", "; did you mean 'model.lambda_'?"),
        ("trainer.seed", "; did you mean 'seed_everything'?"),
        ("data.gamma", "; did you mean 'model.gamma'?"),
        ("data.env", "; did you mean 'data.env_id'?"),
        ("agent.max_steps", "; did you mean 'trainer.max_steps'?"),
        ("model.n_atoms", ""),  # of C51, and not of this learner
        ("model.foo", ""),
    ],
)
def test_a_setting_is_suggested_where_it_is(given: str, hint: str) -> None:
    prefix, _, name = given.rpartition(".")
    message = f"Parser key \"{prefix}\":\n Key '{name}' is not expected"
    assert explain(message) == f"{given} is not a setting{hint}"


def test_a_default_of_any_kind_can_be_written() -> None:
    """``Timer``'s interval is a member of an enumeration."""
    timer = ("--trainer.callbacks+=Timer", "--trainer.callbacks.duration=01:00:00:00")
    status, out, err = running.seqrl("fit", f"--config={Q_LEARNING}", *timer, "--print_config")
    assert status == 0, err
    assert yaml.safe_load(out)["trainer"]["callbacks"][0]["init_args"]["interval"] == "step"


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("model is dqn", "; did you mean 'DQN'?"),
        ("model.network is gru", "; did you mean 'GRU'?"),
        ("agent.epsilon is Linear", "; did you mean 'LinearEpsilon'?"),  # and not torch's LinearLR
        ("data.sampler is prioritized", "; did you mean 'PrioritizedSampler'?"),
        ("model.network is DQN", ""),  # a learner
    ],
)
def test_a_class_is_suggested_that_fits_the_setting(given: str, hint: str) -> None:
    key, _, name = given.partition(" is ")
    told = explain(f'Parser key "{key}":\n  Expected a dot import path string: {name}')
    assert told == f"{key} is {name!r}; it must be the name of a class, or where to import it from{hint}"


def test_a_task_is_suggested_by_a_part_of_its_id() -> None:
    assert suggestion("nback", ["seqrl/Recall-v0", "seqrl/NBack-v0"]) == "; did you mean 'seqrl/NBack-v0'?"


def test_a_warning_of_the_package_names_no_line_of_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    with warnings.catch_warnings():
        silence_misleading_messages()
        warned = warnings.formatwarning("the budget is short", UserWarning, callbacks.__file__, 3)
        assert warned == "seqrl: warning: the budget is short\n"
        assert "/x/y.py:3" in warnings.formatwarning("another's", UserWarning, "/x/y.py", 3)


def test_the_program_knows_its_version_and_its_commands() -> None:
    assert running.seqrl("--version")[1] == f"seqrl-lightning {seqrl_lightning.__version__}\n"
    for wrong, right in (("fti", "fit"), ("train", "fit"), ("analyze", "analyse")):
        status, _, err = running.seqrl(wrong)
        assert status == 2
        assert f"did you mean {right!r}?" in err


BAD = {
    "continuous actions": (["--data.env_id=Pendulum-v1", "--data.env_kwargs={}"], "must be Discrete or MultiDiscrete"),
    "unknown env": (["--data.env_id=seqrl/Sequense-v0"], "data.env_id is 'seqrl/Sequense-v0'"),
    "misfit network": (["--model.network=torch.nn.Flatten"], "model.network"),
    "batch and buffer": (["--data.batch_size=1000"], "data.batch_size is 1000; it must be at most data.capacity = 500"),
    "warm-up": (["--agent.warmup_env_steps=64"], "agent.warmup_env_steps is 64; it must be at least data.batch_size"),
    "learning rate": (["--model.learning_rate=-1"], "model.learning_rate is -1.0; it must be positive"),
    "objects": (["--data.env_kwargs={blocks: [{sequence: ABCDEFGHIK}]}"], "K is not among the objects ABCDEFGHIJ"),
    "unknown model key": (["--model.gama=0.9"], "model.gama is not a setting"),
    "unknown network key": (["--model.network.width=3"], "model.network.width is not a setting"),
    "settings without their class": (
        ["--trainer.logger.save_dir=runs"],
        "trainer.logger has settings but no class; name one first, as in --trainer.logger TensorBoardLogger",
    ),
    "a sampler's settings without its class": (
        ["--data.sampler.n_step=3"],
        "data.sampler has settings but no class; name one first, as in --data.sampler UniformSampler",
    ),
    "unknown data key": (["--data.batchsize=3"], "data.batchsize is not a setting; did you mean 'data.batch_size'?"),
    "an abbreviation": (["--data.num_env=3"], "data.num_env is not a setting; did you mean 'data.num_envs'?"),
    "seed": (["--seed_everything=-1"], "seed_everything is -1; it must be from 0 to 4294967295"),
    "time": (["--trainer.max_time=abc"], "trainer.max_time is 'abc': `Timer(duration='abc')` is not a valid"),
    "wrong type": (["--model.gamma=high"], "model.gamma is 'high'; it must be a number"),
    "optimizer": (["--model.optimizer=torch.optim.SGD", "--model.optimizer.momentum=-1"], "model.optimizer can't be"),
    "no budget": (["--agent.max_episodes=null"], "nothing ends this run"),
    "no checkpoint": (["--ckpt_path=nowhere.ckpt"], "ckpt_path is 'nowhere.ckpt'; it must be a checkpoint file"),
    "no last checkpoint": (["--ckpt_path=last"], "ckpt_path is 'last', but there is no"),
    "no config": (["--config=nowhere.yaml"], "config: File does not exist: "),
    "wrong choice": (
        ["--model.compile=cuda_grafs"],
        "model.compile is 'cuda_grafs'; it must be true or false or one of cuda_graphs, compiled_cuda_graphs; "
        "did you mean 'cuda_graphs'?",
    ),
    "wrong choice, with numbers among them": (
        ["--trainer.precision=bf16-mixd"],
        "trainer.precision is 'bf16-mixd'; it must be one of 64, 32, 16, transformer-engine, ",
    ),
    "an optimizer's name": (["--model.optimizer=Adm"], "model.optimizer is 'Adm'; it must be the name of a class, or "),
    "an optimizer's path": (["--model.optimizer=torch.optim.Adm"], "did you mean 'torch.optim.Adam'?"),
    "a wrapper's name": (["--data.wrappers=[TimeLimt]"], "did you mean 'TimeLimit'?"),
    "a logger's name": (["--trainer.logger=WandbLoger"], "did you mean 'WandbLogger'?"),
    "a datamodule's name": (["--data=LogedTrials"], "data_class is 'LogedTrials'; did you mean 'LoggedTrials'?"),
    "a task without its namespace": (["--data.env_id=Recall-v0"], "Did you mean: `seqrl/Recall-v0`?"),
    "a word without a setting": (["sequence_dqn"], "'sequence_dqn' follows no setting; settings begin with --, as in"),
    "another list of choices": (
        ["--data.vectorization_mode=syncc"],
        "data.vectorization_mode is 'syncc'; did you mean 'sync'? It must be one of async, null, sync, ",
    ),
    "a list's setting in a part": (["--model.network.hidden_sizes=a"], "hidden_sizes is 'a'; it must be a list"),
    "devices": (["--trainer.devices=-3"], "trainer.devices is '-3': `devices` selected with"),
    "no devices": (["--trainer.devices=0"], "trainer.devices is '0': `Trainer(devices='0')` value is not a valid"),
    "a fraction": (["--data.batch_size=3.5"], "data.batch_size is '3.5'; it must be a whole number"),
    "no mapping": (["--data.env_kwargs=3"], "data.env_kwargs is '3'; it must be a mapping of names to values"),
    "accelerator": (["--trainer.accelerator=gppu"], "trainer.accelerator is 'gppu': You selected an invalid"),
    "no such accelerator": (["--trainer.accelerator=mps"], "trainer.accelerator is 'mps': "),
}


@pytest.mark.slow_after(3)
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_line(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    args, message = BAD[case]
    status, _, line = call(
        capsys, monkeypatch, "fit", "--config", SEQUENCE, "--trainer.default_root_dir", tmp_path, *args
    )
    assert status == 2
    assert line.startswith("seqrl: error: ")
    assert message in line
    assert not list(tmp_path.glob("lightning_logs/*/episodes.csv"))  # nothing was trained


def test_a_checkpoint_of_another_task_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = run / "checkpoints" / "last.ckpt"
    status, _, line = call(
        capsys,
        monkeypatch,
        "fit",
        "--config",
        SEQUENCE,
        f"--trainer.default_root_dir={tmp_path}",
        f"--ckpt_path={checkpoint}",
    )
    assert status == 2
    assert "data.env_id is 'seqrl/Sequence-v0'; it must be the checkpoint's 'seqrl/SequenceDistractor-v0'" in line


@pytest.mark.slow
@pytest.mark.alone
def test_ctrl_c_saves_and_the_run_goes_on_as_if_nothing_had_happened(run: Path, tmp_path: Path) -> None:
    args = ["fit", "--config", Q_LEARNING, "--trainer.default_root_dir", str(tmp_path), "--agent.max_episodes", "60"]
    process = subprocess.Popen(
        [sys.executable, "-m", "seqrl_lightning.cli", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    folder = tmp_path / "lightning_logs" / "version_0"
    while not (folder / "episodes.csv").exists() or len(episodes(folder)) < 5:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert "Interrupted: saved" in output
    assert "Traceback" not in output
    assert len(episodes(folder)) < 60

    result = seqrl(*args, "--ckpt_path", "last")
    assert result.returncode == 0, result.stderr
    assert os.listdir(tmp_path / "lightning_logs") == ["version_0"]  # it went on in its own folder
    assert (folder / "episodes.csv").read_text() == (run / "episodes.csv").read_text()
    one, other = (torch.load(path / "checkpoints" / "last.ckpt", weights_only=True) for path in (folder, run))
    assert one["state_dict"].keys() == other["state_dict"].keys()
    assert all(torch.equal(one["state_dict"][key], other["state_dict"][key]) for key in one["state_dict"])
