"""The folder of a run may be a stranger's: reading it takes little more than it holds, and never waits."""

import os
import re
import struct
from pathlib import Path

import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from seqrl_lightning.analysis.runs import Run
from seqrl_lightning.reading import read_config
from seqrl_lightning.types import ConfigurationError
from tests.running import seqrl

CONFIG = "seed_everything: 1\ndata: {env_id: CartPole-v1, env_kwargs: {}}\n"
EPISODES = "env_steps,env,block,episode_return,episode_length,terminated\n9,0,0,9.0,9,True\n"
ALIASES = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
MERGES = "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "episodes.csv").write_text(EPISODES)
    return folder


def analyse(folder: Path, *more: str) -> tuple[int, str]:
    status, _, err = seqrl("analyse", str(folder), f"--output={folder.parent / 'report'}", *more)
    return status, err


def test_a_config_with_aliases_is_read(folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text("seed_everything: 1\ndata: {env_id: A, env_kwargs: {blocks: [&b {x: 1}, *b]}}\n")
    assert read_config(path)["data"]["env_kwargs"] == {"blocks": [{"x": 1}, {"x": 1}]}
    assert analyse(folder)[0] == 2
    path.write_text(CONFIG)
    assert analyse(folder) == (0, "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"a0: &a0 [x, x]\n{ALIASES}{CONFIG}", "claim more than the file holds"),
        (f"a0: &a0 {{x: 1, y: 1}}\n{MERGES}{CONFIG}", "could not determine a constructor for the tag.*merge"),
        (f"a: {'[' * 10_000}", "recursion"),
        (f"{CONFIG}# {'x' * 2**20}", "it must have at most max_gib"),
        ("data: 3", "is not the config of a run; it must have seed_everything, data.env_id"),
        ("seed_everything: x\ndata: {env_id: A}", "is not the config of a run"),
        ("seed_everything: 1\ndata: {env_id: A, env_kwargs: 3}", "is not the config of a run"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        *(
            (f"{CONFIG}{group}: {value}\n", "is not the config of a run; it must have .* its model, agent and trainer")
            for group in ("model", "agent", "trainer")
            for value in ("x", "[1]", "null", "3")
        ),
        *(
            (f"{CONFIG}x: {value}\n", "can't be used: it holds .*, which no setting is")
            for value in ("2020-01-01", "2020-01-01 10:00:00", "!!set {a, b}", "!!binary aGVsbG8=", "9" * 400)
        ),
        (CONFIG.replace("1", "9" * 400), "can't be used: it holds 9+.*, which no setting is"),
    ],
)
def test_a_config_that_stands_for_too_much_is_refused(folder: Path, text: str, reason: str) -> None:
    (folder / "config.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=reason) as refusal:
        read_config(folder / "config.yaml")
    assert "\n" not in str(refusal.value)


def test_a_task_takes_no_more_memory_than_the_limit(folder: Path) -> None:
    config = CONFIG.replace("CartPole-v1", "seqrl/MemoryChain-v0").replace("{}", "{memory_length: 10_000_000_000}")
    (folder / "config.yaml").write_text(config)
    status, err = analyse(folder, "--max_gib=1")
    assert (status, err.count("\n")) == (2, 1)
    assert "config.yaml can't be used: data.env_id is 'seqrl/MemoryChain-v0'" in err
    assert "which can't be made: Unable to allocate" in err


@pytest.mark.parametrize("name", ["trials.csv", "episodes.csv", "events.out.tfevents.1", "config.yaml"])
def test_a_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    for command in (["analyse", str(folder)], ["compare", f"--runs=a={folder},b={folder}"]):
        status, _, err = seqrl(*command, f"--output={folder.parent / 'report'}")
        assert (status, err.count("\n")) == (2, 1)
        assert f"{name} is a pipe, a socket or a device; it must be a file" in err


def test_what_is_no_table_or_too_large_is_refused(folder: Path) -> None:
    assert "episodes.csv has 7.26e-08 GiB; it must have at most max_gib = 1e-08" in analyse(folder, "--max_gib=1e-8")[1]
    (folder / "trials.csv").mkdir()
    assert "trials.csv is not a regular file; it must be a file" in analyse(folder)[1]


EPISODE = "9,0,0,9.0,9,True"
HEAD = EPISODES.splitlines()[0]


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", "episodes.csv can't be used: No columns"),
        (b"a,b\n1,2\n", r"the columns of .*episodes.csv is \['a', 'b'\]; it must be a table with rows and env"),
        (HEAD.encode(), "episodes.csv has no rows; the run must have got"),
        (f"{HEAD}\n{EPISODE.replace('9.0', 'x')}".encode(), r"episode_return in .*episodes.csv is \['x'\]"),
        (f"{HEAD}\n{EPISODE.replace('9.0', 'inf')}".encode(), r"episode_return in .*episodes.csv is \[inf\]"),
        (f"{HEAD}\n{EPISODE}\n,,,,,".encode(), r"env_steps in .*episodes.csv is \[nan\]"),
        (
            f"{HEAD}\n{','.join(['1e300'] * 6)}".encode(),
            r"env_steps in .*episodes.csv is \[1e\+300\]; it must be a whole",
        ),
        (f"{HEAD}\n{EPISODE.replace('9.0', '1e200')}".encode(), r"episode_return in .*episodes.csv is \[1e\+200\]"),
        *(
            (
                f"{HEAD}\n9,{env},{block},9.0,9,True".encode(),
                rf"{name} in .*episodes.csv is \[{value}\]; it must be a whole",
            )
            for name, env, block, value in (("env", -1, 0, -1), ("block", 0, 0.5, 0.5), ("block", 0, 1e17, r"1e\+17"))
        ),
        (f'{HEAD}\n"'.encode(), "episodes.csv can't be used: .*EOF inside string"),
        (HEAD.encode() + b"\n\xff", "episodes.csv can't be used: .*utf-8"),
    ],
)
def test_a_table_of_episodes_that_is_none_is_refused(folder: Path, contents: bytes, reason: str) -> None:
    (folder / "episodes.csv").write_bytes(contents)
    status, err = analyse(folder)
    assert (status, err.count("\n")) == (2, 1), err
    assert re.search(reason, err)


TRIALS = "episode,trial,action,correct_action,state\n"
PARTS = '"{""picture"": [[1, 2]], ""numbers"": [0.5]}"'


@pytest.mark.slow_after(6)
@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ("", "trials.csv can't be used: No columns"),
        ("a\n1\n", r"the columns of .*trials.csv is \['a'\]"),
        (f"{TRIALS}0,0,x,1,[1]\n", r"action in .*trials.csv is \['x'\]"),
        (f"{TRIALS}inf,0,1,1,[1]\n", r"episode in .*trials.csv is \[inf\]"),
        (f"{TRIALS}0,0,1,1,{'[' * 5000}\n", "trials.csv can't be used: .*recursion"),
        (f"{TRIALS}0,0,1,1,{{\n", "trials.csv can't be used: Expecting property name"),
        (f"{TRIALS}0,0,1,1,[{'9' * 5000}]\n", "trials.csv can't be used: Exceeds the limit"),
        (f"{TRIALS}0,0,1000,1,[1.0]\n", "action in .*trials.csv is 1000; it must be below 1000"),
        (f"{TRIALS}0,0,1,9999999999,[1.0]\n", "correct_action in .*trials.csv is 9999999999; it must be below"),
        (f"{TRIALS}0,0,-5,-7,[1.0]\n", ""),
        (f"{TRIALS}0,0,1,1,{PARTS}\n", ""),
        (f"{TRIALS}0,0,1,1,{PARTS}\n0,1,1,1,{PARTS.replace('[1, 2]', '[1]')}\n", "of the same shape in all"),
        (f"{TRIALS}0,0,1,1,{PARTS.replace('[1, 2]', 'null')}\n", "of the same shape in all"),
        *(
            (f"{TRIALS}0,0,0,0,[1.0]\n0,1,0,0,{state}\n", f"trials.csv can't be used: .*{reason}")
            for state, reason in (
                ("[", "Expecting value"),
                ('"[1.0, 2.0]"', "of the same shape in all"),
                ('"[1.0, [2.0]]"', "inhomogeneous"),
                ('"[""x""]"', "of the same shape in all"),
                ("", "(Cannot convert float NaN|an observation in every row)"),
                ("[null]", "of the same shape in all"),
            )
        ),
    ],
)
@pytest.mark.parametrize("name", ["trials.csv", "probes.csv"])
def test_a_table_of_trials_that_is_none_is_refused(folder: Path, name: str, contents: str, reason: str) -> None:
    """One in which nothing can be counted is no fault."""
    (folder / "config.yaml").write_text(CONFIG.replace("CartPole-v1", "seqrl/Sequence-v0"))
    (folder / name).write_text(contents)
    run = Run(folder)
    if not reason:
        assert len(run.trials if name == "trials.csv" else run.probes) == 1
        return
    with pytest.raises(ConfigurationError, match=reason.replace("trials.csv", name)) as refusal:
        _ = run.trials if name == "trials.csv" else run.probes
    assert "\n" not in str(refusal.value)
    if name == "trials.csv":
        status, err = analyse(folder)
        assert (status, err.count("\n")) == (2, 1), err
        assert re.search(reason, err)


def test_a_budget_that_is_no_number_is_refused(folder: Path) -> None:
    (folder / "config.yaml").write_text(f"{CONFIG}trainer: {{max_steps: [1]}}\n")
    status, err = analyse(folder)
    assert (status, err.count("\n")) == (2, 1), err
    assert re.search(r"trainer.max_steps in .*config.yaml is \[1\]; it must be a number", err)


def record(data: bytes, length: int | None = None) -> bytes:
    """An entry of a TensorBoard file, which may claim another length."""
    head = struct.pack("<Q", len(data) if length is None else length)
    return b"".join([head, struct.pack("<I", masked_crc32c(head)), data, struct.pack("<I", masked_crc32c(data))])


VERSION = record(Event(file_version="brain.Event:2").SerializeToString())


@pytest.mark.slow_after(2)
@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (VERSION + record(b"x", length=2**62), "for TensorBoard can't be used: it takes more memory"),
        (VERSION + record(b"x", length=2**36), "for TensorBoard can't be used: it takes more memory"),
        (VERSION + record(b"\xff" * 9), "for TensorBoard can't be used: Error parsing message"),
        (b"\xff" * 10_000, "a record of .*tfevents.1 is 'damaged, 9988 bytes before the end'"),
        ((2**62).to_bytes(8, "little") + b"\0" * 100, "a record of .*tfevents.1 is 'damaged"),
        (VERSION + record(b"x")[:-1] + b"\0" + VERSION, "a record of .*tfevents.1 is 'damaged"),
        (VERSION + record(b"x")[:5], ""),
        (VERSION + record(b"x")[:-1], ""),  # as a run that was killed leaves it
    ],
)
def test_a_file_for_tensorboard_takes_no_more_than_it_holds(folder: Path, contents: bytes, reason: str) -> None:
    (folder / "events.out.tfevents.1").write_bytes(contents)
    status, err = analyse(folder, "--max_gib=2")
    assert (status, err.count("\n")) == ((2, 1) if reason else (0, 0)), err
    assert re.search(reason, err)
