"""Overviews that are printed at once, misspelled names, and packaged configs."""

import json
import re
import subprocess
import sys
from argparse import ArgumentError
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveFloat, PositiveInt

from docs.scripts import overview
from seqrl_lightning.cli import SeqRLCLI
from seqrl_lightning.commands import COMMANDS, LIGHTNINGS
from seqrl_lightning.commands.packaged import configs, with_paths
from seqrl_lightning.commands.quick import OVERVIEW, answer
from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.data_class import data_class_of
from seqrl_lightning.errors import OneLineErrors, extra_in, shorten_message
from seqrl_lightning.types import ConfigurationError
from tests.running import seqrl

QUICK = (
    ["--help"],
    ["help"],
    [],
    ["--version"],
    ["algorithms"],
    ["envs"],
    ["configs"],
    ["fit", "--help"],
    ["test", "-h"],
)


def test_the_overview_is_that_of_the_classes() -> None:
    assert OVERVIEW.read_text() == overview.text(), "run python -m docs.scripts.overview"


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_lists_import_no_torch(arguments: list[str]) -> None:
    status, out, imported = quickly(arguments)
    assert status == 0
    assert out.strip()
    assert not {"torch", "lightning", "gymnasium", "numpy"} & imported


@pytest.mark.parametrize("arguments", [["fti"], ["-v"], ["fit", "--config", "sequence_dqnn"]], ids=" ".join)
def test_misspelled_commands_and_configs_import_no_torch(arguments: list[str]) -> None:
    status, _, imported = quickly(arguments)
    assert status == 2
    assert not {"torch", "lightning", "gymnasium"} & imported


def quickly(arguments: list[str]) -> tuple[int, str, set[str]]:
    """Return the exit status of ``seqrl`` in a new process, its output, and the modules that it imported."""
    code = (
        "import sys; sys.argv = ['seqrl']\n"  # as it is when `seqrl` is started: the package looks at it
        "from seqrl_lightning.__main__ import main\n"
        f"sys.argv += {arguments}\n"
        "try:\n    main()\nfinally:\n    sys.stderr.write('imported ' + ' '.join(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return run.returncode, run.stdout, set(run.stderr.rpartition("imported ")[2].split())


def test_help_lists_all_commands() -> None:
    listed = re.findall(r"^  ([\w-]+) ", seqrl("--help")[1], re.MULTILINE)
    assert sorted(listed) == sorted((*LIGHTNINGS, *COMMANDS))


def test_help_has_two_lengths_and_whole_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    short, full = seqrl("fit", "--help")[1], seqrl("fit", "--help", "all")[1]
    assert len(short.splitlines()) < 100 < len(full.splitlines())
    elsewhere = ("model.", "seeds", "help", "print_config", "SETTING")
    named = [name for name in re.findall(r"--([\w.]+)", short) if not name.startswith(elsewhere)]
    assert len(named) > 20
    assert all(f"--{name}" in full for name in named)
    settings = json.loads(OVERVIEW.read_text())["settings"]
    entries = [line for groups in settings.values() for group in groups.values() for line in group.values()]
    assert all(line.endswith(".") for line in entries)


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_the_help_of_an_evaluation_lists_what_changes_one(command: str) -> None:
    named = set(re.findall(r"^  --([\w.]+)", answer(command, ["--help"]) or "", re.MULTILINE))
    assert {"config", "ckpt_path", "allow", "data.env_kwargs", "data.eval_episodes", "data.eval_seed"} <= named
    assert not [name for name in named if name.startswith(("agent", "model", "target_sync", "trainer.max", "seed"))]


def test_the_help_of_a_command_names_no_python_class() -> None:
    parser = OneLineErrors(prog="seqrl")
    parser.add_argument("--output", type=Path, help="the folder; by default `runs`")
    parser.add_argument("--submitit", type=dict, help="settings")
    text = " ".join(parser.format_help().split())
    assert "the folder; by default `runs` (type: path)" in text
    assert "settings (type: mapping, default: null)" in text


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["fti"], "fit"),
        (["envs", "seqrl/Sequnce-v0"], "seqrl/Sequence-v0"),
        (["algorithms", "DQNN"], "DQN"),
        (["fit", "--config", "sequence_dqnn"], "sequence_dqn"),
        (["fit", "--data.env_id=CartPole-v1", "--model", "DQNN"], "DQN"),
        (["fit", "--data.env_id=CartPole-v1", "--model.gama", "1"], "model.gamma"),
        (["fit", "--data.env_id=CartPole-v1", "--data.batchsize", "1"], "data.batch_size"),
        (["fit", "--data.env_id=CartPole-v1", "--model.network", "GRUU"], "GRU"),
        (["fit", "--data.env_id=CartPole-v1", "--agent.on_env_error", "rais"], "raise"),
    ],
)
def test_a_misspelled_name_is_answered_with_the_nearest(arguments: list[str], near: str) -> None:
    status, _, errors = seqrl(*arguments)
    assert status == 2
    assert f"did you mean {near!r}?" in errors
    assert len(errors.splitlines()) == 1


def test_the_settings_of_one_command_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    add = SeqRLCLI.add_arguments_to_parser
    monkeypatch.setattr(SeqRLCLI, "add_arguments_to_parser", lambda cli, parser: built.append(add(cli, parser)))
    status, out, err = seqrl("validate", "--data.env_id=CartPole-v1", "--print_config")
    assert status == 0, err
    assert "env_id: CartPole-v1" in out
    assert len(built) == 1


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ("data: {env_id: CartPole-v1", r"which is no YAML: while parsing a flow mapping .* line 1, column 7"),
        ("- data", "it must be a YAML file of settings, each as name: value"),
        (None, "which is a folder; it must be a file"),
    ],
)
def test_a_config_that_holds_no_settings_is_named(contents: str | None, reason: str, tmp_path: Path) -> None:
    config = tmp_path if contents is None else tmp_path / "mine.yaml"
    if contents is not None:
        config.write_text(contents)
    with pytest.raises(ConfigurationError, match=f"--config is '{config}'[,;] {reason}") as refusal:
        data_class_of(with_paths(["--config", str(config)]))
    assert "\n" not in str(refusal.value)


def test_an_empty_config_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("# nothing yet\n")
    assert data_class_of(["--config", str(tmp_path / "mine.yaml")]) is ReplayDataModule


@pytest.mark.parametrize(
    ("kind", "value", "must_be"),
    [
        (PositiveInt, "0", "a whole number above 0"),
        (PositiveInt, "x", "a whole number above 0"),
        (list[PositiveInt], "[0]", "a whole number above 0"),
        (PositiveFloat | None, "-1", "a number above 0"),
        (int | None, "1e5", "a whole number or null"),
    ],
)
def test_what_a_number_must_be_is_said_in_words(kind: Any, value: str, must_be: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--n", type=kind)
    with pytest.raises(ArgumentError) as error:
        parser.parse_args([f"--n={value}"])
    shown = {"1e5": "100000.0"}.get(value, value.strip("[]"))
    assert shorten_message(str(error.value)) == f"n is {shown!r}; it must be {must_be}"


def test_an_argument_is_missed_by_the_name_in_the_help() -> None:
    status, _, err = seqrl("analyse")
    assert (status, err) == (2, "seqrl: error: RUN: missing; `seqrl analyse --help` describes the arguments\n")
    status, _, err = seqrl("export", "last.ckpt", "--format=onnx")
    assert "'last.ckpt' follows no setting; settings begin with --, as in --ckpt_path last.ckpt" in err


def test_an_unknown_key_of_a_file_is_a_setting_too() -> None:
    message = "Subcommand 'fit' does not accept option 'data.batchsize'"
    told = shorten_message(message, ["data.batch_size"])
    assert told == "data.batchsize is not a setting; did you mean 'data.batch_size'?"


def test_an_import_that_fails_in_an_own_module_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_an_earlier_version.py").write_text("from seqrl_lightning.types import TransitionBatch")
    monkeypatch.syspath_prepend(tmp_path)
    status, _, errors = seqrl("fit", "--data.env_id=CartPole-v1", "--model=of_an_earlier_version.Mine")
    assert status == 2
    assert errors.startswith("seqrl: error: model: cannot import name 'TransitionBatch' from 'seqrl_lightning.types'")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("message", "extra"),
    [
        ("Namespace ALE not found. Have you installed the proper package for ALE?", "atari"),
        ("Box2D is not installed, you can install it by run `pip install swig`", "box2d"),
        ("No module named 'popgym'", "popgym"),
        ("No module named 'mine'", None),
    ],
)
def test_a_missing_package_is_named_by_its_extra(message: str, extra: str | None) -> None:
    told = f'it needs the extra `{extra}`: pip install "seqrl-lightning[{extra}]"' if extra else ""
    assert extra_in(message) == told


def test_a_packaged_config_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(configs()["sequence_dqn"])
    assert Path(path).is_file()
    assert with_paths(["--config", "sequence_dqn", "-c", "sequence_dqn", "--config=sequence_dqn", "sequence_dqn"]) == [
        *("--config", path, "-c", path, f"--config={path}", "sequence_dqn")
    ]
    Path("sequence_dqn").write_text("mine")
    assert with_paths(["--config", "sequence_dqn"]) == ["--config", "sequence_dqn"]
    Path("mine.yaml").write_text("mine")
    assert with_paths(["--config", "mine.yaml"]) == ["--config", "mine.yaml"]
    for wrong, hint in (
        ("sequence_dq", "did you mean 'sequence_dqn'"),
        ("nothing_near.yml", "^--config is 'nothing_near.yml'; there is no such file$"),
        ("mime.yaml", "there is no such file; did you mean 'mine.yaml'"),
        ("configs/sequence_dqn.yaml", "did you mean 'sequence_dqn', which comes with the package"),
    ):
        with pytest.raises(ConfigurationError, match=hint):
            with_paths(["--config", wrong])
    for line in seqrl("configs")[1].splitlines()[:-2]:
        assert configs()[line.split()[0]].read_text().startswith(f"# {line.split(maxsplit=1)[1]}")
