"""Learning from tables of trials: contents of the replay memory, refusals, and runs."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import torch

import seqrl_lightning
from seqrl_lightning.algorithms import DQN, BehaviorCloning
from seqrl_lightning.data import LoggedTrials, ReplayDataModule
from seqrl_lightning.replay import PrioritizedSampler, SequenceSampler
from seqrl_lightning.replay.logged import LoggedRows, dealt
from seqrl_lightning.types import ConfigurationError
from tests.running import seqrl

STEP = {"episode": 0, "trial": 0, "action": 1, "reward": 0.0, "terminated": 0, "truncated": 0, "state": "[0.0, 1.0]"}


def table(path: Path, *rows: dict[str, Any], without: tuple[str, ...] = ()) -> Path:
    """Writes a table of rows that differ from STEP in what is given."""
    frame = pd.DataFrame([{**STEP, **row} for row in rows]).drop(columns=list(without))
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    return path


def episode(number: int, length: int, terminated: int, env: int = 0) -> list[dict[str, Any]]:
    """An episode whose observations are (number, step), and whose rewards are 10 * number + step."""
    return [
        {
            "episode": number,
            "env": env,
            "trial": t,
            "action": (number + t) % 3,
            "reward": 10.0 * number + t,
            "state": json.dumps([float(number), float(t)]),
            "terminated": terminated * (t == length - 1),
            "truncated": (1 - terminated) * (t == length - 1),
        }
        for t in range(length)
    ]


def transitions_in(data: LoggedTrials | ReplayDataModule) -> set[tuple[Any, ...]]:
    """State, action, reward, next state (None where it terminated) of every transition in the replay memory."""
    ring = data.ring
    slots = ring.slots(np.arange(1, ring.num_slots + 1))
    batch = ring.transitions(slots[ring.is_transition(slots)])
    columns = batch.state_batch[0], batch.action_batch[0], batch.reward_batch[0], batch.next_state_batch[0]
    rows = zip(*(column.tolist() for column in columns), batch.terminated_batch[0].tolist(), strict=True)
    return {(tuple(s), a, r[0], None if over else tuple(then)) for s, a, r, then, over in rows}


def expected_transitions(*episodes: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    """The same from the rows of a table, one at a time."""
    found = set()
    for rows in episodes:
        for row, after in zip(rows, [*rows[1:], None], strict=True):
            if after is None and not row["terminated"]:
                continue  # nobody knows what it led to
            state, then = (None if each is None else tuple(json.loads(each["state"])) for each in (row, after))
            found.add((state, row["action"], row["reward"], then))
    return found


# What the replay memory holds


def test_the_replay_memory_holds_the_tables_transitions_and_no_others(tmp_path: Path) -> None:
    episodes = [episode(0, 4, 1), episode(1, 3, 0), episode(2, 1, 1), episode(3, 1, 0)]
    rows = [row for each in episodes for row in each]
    order = np.random.default_rng(0).permutation(len(rows))  # environments side by side mix their episodes
    data = LoggedTrials(str(table(tmp_path / "trials.csv", *(rows[i] for i in order))))
    assert transitions_in(data) == expected_transitions(*episodes)
    assert (data.obs_shape, data.obs_dtype, data.n_actions) == ((2,), "float32", 3)


def test_episodes_are_numbered_anew_for_each_environment_subject_and_table(tmp_path: Path) -> None:
    one, other = episode(0, 3, 1), episode(0, 2, 1, env=1)
    paths = [table(tmp_path / "a.csv", *one, *other), table(tmp_path / "b.csv", *episode(0, 4, 0))]
    data = LoggedTrials([str(path) for path in paths])
    assert transitions_in(data) == expected_transitions(one, other, episode(0, 4, 0))
    is_final = data.ring.is_final[: data.ring.num_full_rows, 0]
    assert is_final.tolist() == [False] * 3 + [True] + [False] * 2 + [True] + [False] * 3 + [True]


def test_without_ends_in_the_table_every_episode_terminated(tmp_path: Path) -> None:
    rows = episode(0, 3, 1)
    path = table(tmp_path / "t.csv", *rows, without=("terminated", "truncated"))
    assert transitions_in(LoggedTrials(str(path))) == expected_transitions(rows)


@pytest.mark.parametrize("num_envs", [1, 2, 3])
def test_an_agents_memory_may_begin_with_a_table(tmp_path: Path, num_envs: int) -> None:
    episodes = [episode(number, number % 4 + 1, number % 2) for number in range(7)]
    frame = [row for each in episodes for row in each]
    for row in frame:
        row["state"] = json.dumps([*json.loads(row["state"]), 0.0])
    data = ReplayDataModule("tests/Diary-v0", num_envs, trials=str(table(tmp_path / "t.csv", *frame)))
    assert transitions_in(data) == expected_transitions(*episodes)
    data.ring.restart(np.zeros((num_envs, 3), np.float32))
    data.ring.add(*(np.zeros(num_envs, dtype) for dtype in (np.int64, float, bool, bool)), np.ones((num_envs, 3)))
    played = {((0.0, 0.0, 0.0), 0, 0.0, (1.0, 1.0, 1.0))}
    assert transitions_in(data) == expected_transitions(*episodes) | played


def test_windows_hold_whole_episodes(tmp_path: Path) -> None:
    episodes = [episode(number, 3, 1) for number in range(5)]
    data = LoggedTrials(str(table(tmp_path / "t.csv", *(row for each in episodes for row in each))))
    batch = SequenceSampler(length=8, stored_state=False)(data.ring, 20, np.random.default_rng(0))
    assert set(batch.observation[0, :, 0].tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert batch.is_first[0].all()
    assert (batch.observation[0, :, 1] == 0).all()


def test_masks_are_read_and_kept(tmp_path: Path) -> None:
    rows = episode(0, 3, 1)
    for row in rows:
        row["action_mask"] = json.dumps([int(a == row["action"]) for a in range(3)])
    data = LoggedTrials(str(table(tmp_path / "t.csv", *rows)))
    batch = data.ring.transitions(np.arange(3))
    assert batch.action_mask_batch is not None
    assert batch.action_mask_batch[0].int().argmax(-1).tolist() == [row["action"] for row in rows]


def test_pictures_are_bytes_and_values_tell_the_number_of_actions(tmp_path: Path) -> None:
    picture = json.dumps([[[0, 255], [7, 9]]])
    rows = [{**row, "state": picture, "q_0": 0.0, "q_1": 0.0, "q_2": 0.0, "q_3": 0.0} for row in episode(0, 2, 1)]
    data = LoggedTrials(str(table(tmp_path / "t.csv", *rows)))
    assert (data.obs_shape, data.obs_dtype, data.n_actions) == ((1, 2, 2), "uint8", 4)
    assert LoggedTrials(str(tmp_path / "t.csv"), n_actions=6).n_actions == 6


def test_episodes_are_dealt_to_the_environment_with_the_fewest_rows() -> None:
    lengths = [4, 1, 2, 2]
    number = np.repeat(np.arange(4), lengths)
    is_final = np.append(np.diff(number) > 0, True)
    rows = LoggedRows(number[:, None], number, number.astype(np.float32), is_final & False, is_final)
    laid = dealt(rows, 2)
    assert laid.action.T.tolist() == [[0, 0, 0, 0, 0], [1, 2, 2, 3, 3]]
    assert laid.is_final.T.astype(int).tolist() == [[0, 0, 0, 1, 1], [1, 0, 1, 0, 1]]


def test_parquet_holds_lists_or_their_json(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    rows = episode(0, 4, 1)
    for name, states in (("text", [row["state"] for row in rows]), ("lists", [json.loads(r["state"]) for r in rows])):
        frame = pd.DataFrame([{**STEP, **row} for row in rows]).assign(state=states)
        frame.to_parquet(tmp_path / f"{name}.parquet")
        assert transitions_in(LoggedTrials(str(tmp_path / f"{name}.parquet"))) == expected_transitions(rows)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_state_holds_at_least_one_number(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"table{suffix}"
    frame = pd.DataFrame([{**STEP, "trial": t, "state": "[]" if suffix == ".csv" else []} for t in range(3)])
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    with pytest.raises(ConfigurationError, match=r"state in .* is '?\[\]'?; it must be a list of finite numbers"):
        LoggedTrials(str(path))


def test_minari_data_sets_hold_final_observations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    pytest.importorskip("h5py")
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = gym.make("CartPole-v1", max_episode_steps=5)
    expected, episodes = set(), []
    for seed in range(3):
        shown = [env.reset(seed=seed)[0]]
        actions, rewards, ends = [0, 1, 1, 0, 1], [], []
        for action in actions:
            seen, reward, terminated, truncated, _ = env.step(action)
            then = None if terminated else tuple(seen.tolist())
            expected.add((tuple(shown[-1].tolist()), action, float(reward), then))
            shown.append(seen)
            rewards.append(reward)
            ends.append((terminated, truncated))
        terminations, truncations = (list(column) for column in zip(*ends, strict=True))
        columns = {"observations": shown, "actions": actions, "rewards": rewards, "infos": {}}
        episodes.append(EpisodeBuffer(id=seed, terminations=terminations, truncations=truncations, **columns))
    about = {"action_space": env.action_space, "observation_space": env.observation_space}
    minari.create_dataset_from_buffers("test/cartpole-v0", episodes, algorithm_name="fixed", **about)
    data = LoggedTrials("minari:test/cartpole-v0", env_id="CartPole-v1")
    assert transitions_in(data) == expected
    assert data.n_actions == 2


# Refused in a line

BOMB = "[" * 100_000


@pytest.mark.parametrize(
    ("rows", "without", "line"),
    [
        ([{}, {}], ("state",), "the columns of .* it must be a table with state"),
        ([{}, {}], ("reward",), "the columns of .* it must be a table with rows and episode, action, reward"),
        ([{"action": 1.5}, {}], (), r"action in .* is \[1.5\]; it must be a whole number from 0 to"),
        ([{"action": -1}, {}], (), "action in .* must be a whole number"),
        ([{"action": 10**12}, {}], (), "action in .* must be a whole number from 0 to 999"),
        ([{"reward": "a lot"}, {}], (), r"reward in .* is \['a lot'\]; it must be a number in every row"),
        ([{"reward": np.inf}, {}], (), "reward in .* must be a number in every row"),
        ([{}, {"state": "[1.0]"}], (), r"the shape of state in .* is \(1,\); it must be \(2,\) in every row"),
        ([{}, {"state": "[1.0, [2.0]]"}], (), "state in .* must be a list of finite numbers"),
        ([{}, {"state": "[1.0, NaN]"}], (), "state in .* must be a list of finite numbers"),
        ([{}, {"state": '["1", "2"]'}], (), "state in .* must be a list of finite numbers"),
        ([{}, {"state": '{"a": [1]}'}], (), "state in .* must be a list of finite numbers"),
        ([{}, {"state": "__import__('os')"}], (), "state in .* must be a list of finite numbers"),
        ([{}, {"state": BOMB}], (), "state in .* must be a list of finite numbers"),
        ([{}, {"state": "[1, 1e99]"}], (), "state in .* must be numbers that float32 can hold"),
        ([{}, {"state": None}], (), "state in .* must be a list"),
        ([{"terminated": 1}, {}], (), "terminated or truncated in .* must be 1 in an episode's last row alone"),
        ([{"terminated": "yes"}, {}], (), "terminated in .* must be a number in every row"),
        ([{"action_mask": "[1, 0]"}, {"action_mask": "[1, 1]"}], (), "action in .* must be one that action_mask"),
        ([{}], (), "the number of steps in .* must be at least 1 whose next observation is known"),
    ],
)
def test_a_bad_table_is_refused_in_a_line(
    tmp_path: Path, rows: list[dict[str, Any]], without: tuple[str, ...], line: str
) -> None:
    path = table(tmp_path / "t.csv", *rows, without=without)
    with pytest.raises(ConfigurationError, match=line) as error:
        LoggedTrials(str(path))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("contents", [b"", b"\x00\xff\xfe", b"PAR1" + b"\xff" * 50, b"episode,action\n"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_no_table_is_refused_in_a_line(tmp_path: Path, contents: bytes, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(contents)
    with pytest.raises(ConfigurationError) as error:
        LoggedTrials(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.slow_after(1)
@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("PLAIN", r"the bytes that .* unfolds to is 64\d{6}; it must be at most"),  # pages of zeros, compressed
        ("RLE_DICTIONARY", "it takes more memory than there is, or than the limit max_gib"),  # one text, many times
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux")
def test_parquet_unfolds_to_no_more_than_the_limit(encoding: str, line: str, tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    num_rows = 2_000_000
    zeros = pa.array(np.zeros(num_rows))
    state = pa.DictionaryArray.from_arrays(pa.array(np.zeros(num_rows, np.int32)), pa.array([json.dumps([0] * 100)]))
    rows = pa.table({"episode": zeros, "action": zeros, "reward": zeros, "more": zeros, "state": state})
    path = tmp_path / "bomb.parquet"
    is_plain = encoding == "PLAIN"
    more = {"use_dictionary": False} if is_plain else {}
    parquet.write_table(
        rows.drop_columns("state") if is_plain else rows, path, compression="zstd", store_schema=False, **more
    )
    assert path.stat().st_size < 2**20
    assert encoding in parquet.ParquetFile(path).metadata.row_group(0).column(0).encodings
    with pytest.raises(ConfigurationError, match=line):
        LoggedTrials(str(path), max_gib=2**-5)


def test_the_table_must_be_of_the_task(tmp_path: Path) -> None:
    path = str(table(tmp_path / "t.csv", *episode(0, 3, 1)))
    with pytest.raises(ConfigurationError, match=r"the shape of state in .* it must be \(4,\)"):
        LoggedTrials(path, env_id="CartPole-v1")
    values = {f"q_{action}": 0.0 for action in range(3)}  # three actions, of which the task has two
    path = str(
        table(tmp_path / "values.csv", *({**row, **values, "state": "[0, 0, 0, 0]"} for row in episode(0, 3, 1)))
    )
    with pytest.raises(ConfigurationError, match=r"the number of actions in .* is 3; it must be 2, as in the task"):
        LoggedTrials(path, env_id="CartPole-v1")
    with pytest.raises(ConfigurationError, match=r"t2\.csv is missing"):
        LoggedTrials(str(tmp_path / "t2.csv"))
    with pytest.raises(ConfigurationError, match=r"data\.capacity is 2; it must be at least"):
        ReplayDataModule("tests/Diary-v0", capacity=2, batch_size=1, trials=_of_diary(tmp_path))


def _of_diary(folder: Path) -> str:
    rows = [{**row, "state": json.dumps([0.0, *json.loads(row["state"])])} for row in episode(0, 5, 1)]
    return str(table(folder / "diary.csv", *rows))


# Runs


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of the right action in each of six states: rows of the Corridor's task."""
    rows = []
    for number in range(20):
        for t in range(5):
            state = json.dumps(np.eye(6)[t].tolist())
            rows.append({"episode": number, "trial": t, "action": 1, "reward": float(t == 4), "state": state})
            rows[-1]["terminated"] = int(t == 4)
        rows.append(
            {"episode": 100 + number, "trial": 0, "action": 0, "state": json.dumps(np.eye(6)[number % 5].tolist())}
        )
        rows.append({"episode": 100 + number, "trial": 1, "action": 0, "state": json.dumps(np.eye(6)[0].tolist())})
    return table(tmp_path_factory.mktemp("log") / "log.csv", *rows)


def fit(folder: Path, log: Path, *words: str) -> tuple[int, str, str]:
    command = ["--data", "LoggedTrials", f"--data.trials={log}", f"--trainer.default_root_dir={folder}"]
    command += ["--trainer.enable_progress_bar=false", "--data.batch_size=16", "--data.batches_per_epoch=20"]
    return seqrl("fit", *command, *words)


LAST = ("lightning_logs", "version_0", "checkpoints", "last.ckpt")


@pytest.mark.filterwarnings("ignore")
def test_a_clone_chooses_as_the_log_does_and_goes_on_online(tmp_path: Path, log: Path) -> None:
    """The log of the right actions alone, without a task; then the agent's run begins with the clone's network."""
    rows = pd.read_csv(log)
    rows[rows["episode"] < 100].to_csv(tmp_path / "right.csv", index=False)
    model = ["--model=BehaviorCloning", "--model.learning_rate=0.01"]
    network = "--model.network.hidden_sizes=[8]"
    code, out, err = fit(
        tmp_path, tmp_path / "right.csv", *model, network, "--data.n_actions=2", "--trainer.max_steps=100"
    )
    assert code == 0, err
    assert "100 updates from logged trials" in out
    clone = tmp_path.joinpath(*LAST)
    policy = seqrl_lightning.load_policy(clone)
    assert policy.act(np.eye(6, dtype=np.float32)[:5]).tolist() == [1] * 5
    with pytest.raises(ConfigurationError, match="learned from a log, without a task; make the environment yourself"):
        policy.make_env()
    data = LoggedTrials.load_from_checkpoint(clone, trials=str(tmp_path / "right.csv"))
    assert (data.env_id, data.n_actions) == (None, 2)

    online = ["fit", "--data.env_id=tests/Corridor-v0", network, f"--ckpt_path={clone}", "--data.batch_size=4"]
    online += [f"--trainer.default_root_dir={tmp_path / 'online'}", "--trainer.enable_progress_bar=false"]
    online += ["--agent.warmup_env_steps=4", "--agent.max_env_steps=12", "--model.learning_rate=1e-9"]
    code, out, err = seqrl(*online)
    assert code == 0, err
    assert "a new run, which starts with the network of" in err
    learner = DQN.load_from_checkpoint(tmp_path.joinpath("online", *LAST))
    for name, weight in policy.module.policy_net.state_dict().items():
        torch.testing.assert_close(learner.policy_net.state_dict()[name], weight, atol=1e-5, rtol=0)
    code, out, err = seqrl(*online[:2], "--model.network.hidden_sizes=[9]", *online[3:])
    assert code == 2
    assert "must be a checkpoint of the same network as model.network" in err


@pytest.mark.filterwarnings("ignore")
def test_conservative_values_prefer_what_the_log_holds(tmp_path: Path, log: Path) -> None:
    """With a task, evaluation plays in it; the run is tested and resumed by its own config, bit for bit."""
    words = ["--data.env_id=tests/Corridor-v0", "--model.cql_alpha=1", "--model.network.hidden_sizes=[8]"]
    words += ["--model.learning_rate=0.01", "--data.eval_episodes=2"]
    code, out, err = fit(tmp_path, log, *words, "--trainer.max_steps=80")
    assert code == 0, err
    assert "mean return 1," in out
    whole = torch.load(tmp_path.joinpath(*LAST), weights_only=True)["state_dict"]

    code, _, err = fit(tmp_path / "half", log, *words, "--trainer.max_steps=40")
    assert code == 0, err
    config = tmp_path.joinpath("half", *LAST[:2], "config.yaml")
    assert "data_class: LoggedTrials" in config.read_text()
    last = tmp_path.joinpath("half", *LAST)
    code, _, err = seqrl("fit", f"--config={config}", "--ckpt_path=last", "--trainer.max_steps=80")
    assert code == 0, err
    for name, weight in torch.load(last, weights_only=True)["state_dict"].items():
        assert torch.equal(weight, whole[name]), name

    code, out, err = seqrl("test", f"--config={config}", f"--ckpt_path={last}", "--trainer.enable_progress_bar=false")
    assert code == 0, err
    code, _, err = seqrl("predict", f"--config={config}", f"--ckpt_path={last}", "--trainer.enable_progress_bar=false")
    assert code == 0, err
    predictions = next(tmp_path.joinpath("half").rglob("predictions.csv"))
    assert transitions_in(LoggedTrials(str(predictions)))  # its output is a log, too

    rows = pd.read_csv(log)
    rows["reward"] += 1.0
    rows.to_csv(tmp_path / "other.csv", index=False)
    words = [f"--config={config}", f"--ckpt_path={last}", f"--data.trials={tmp_path / 'other.csv'}"]
    code, _, err = seqrl("fit", *words, "--trainer.max_steps=90")
    assert code == 2
    assert "data.trials is" in err
    assert "it must be the tables that the checkpoint's run learned from" in err


@pytest.mark.slow_after(3)
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--trainer.max_steps=5", "--model=PQN", "--data.batch_size=6"],
            "'PQN'; it must be one that learns off-policy",
        ),
        (["--trainer.max_steps=5", "--model=SARSA"], "model is 'SARSA'; it must be one that learns off-policy"),
        ([], "trainer.max_steps is -1; it must be a number, or trainer.max_epochs"),
        (["--trainer.max_steps=5", "--data.sampler=LatestSampler"], "data.sampler is 'LatestSampler'; it must be one"),
        (["--trainer.max_steps=5", "--model.normalize_observations=true"], "must be false with LoggedTrials"),
        (["--trainer.max_steps=5", "--agent.max_env_steps=5"], "agent.max_env_steps"),
        (["--trainer.max_steps=5", "--model.cql_alpha=-1"], "model.cql_alpha is -1.0; it must be 0 or more"),
        (["--trainer.max_steps=5", "--max_gib=1e-9"], "it must have at most max_gib = 1e-09"),
        (["--trainer.max_steps=5", "--data_class=Logs"], "data_class is 'Logs'; it must be one of"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_cant_learn_from_a_log_is_refused(tmp_path: Path, log: Path, words: list[str], line: str) -> None:
    code, _, err = fit(tmp_path, log, "--trainer.logger=false", "--trainer.enable_checkpointing=false", *words)
    lines = [each for each in err.splitlines() if each.startswith("seqrl: error: ")]
    assert code == 2
    assert len(lines) == 1
    assert line in lines[0]


def test_the_limit_of_tables_is_given_and_no_checkpoints_to_set(tmp_path: Path, log: Path) -> None:
    for data in (LoggedTrials, partial(ReplayDataModule, "CartPole-v1")):
        with pytest.raises(ConfigurationError, match="at most max_gib = 1e-09"):
            data(trials=str(log), max_gib=1e-9)
    assert "max_gib" not in LoggedTrials(str(log), max_gib=2.0).hparams


@pytest.mark.filterwarnings("ignore")
def test_an_agent_has_nothing_to_clone_and_a_log_needs_a_task_to_be_evaluated(tmp_path: Path, log: Path) -> None:
    folder = f"--trainer.default_root_dir={tmp_path}"
    code, _, err = seqrl(
        "fit", "--data.env_id=tests/Corridor-v0", "--model=BehaviorCloning", "--trainer.max_steps=5", folder
    )
    assert (code, "a clone learns from --data LoggedTrials" in err) == (2, True)
    words = ["--data=LoggedTrials", f"--data.trials={log}", "--ckpt_path=untrained", folder]
    code, _, err = seqrl("validate", *words)
    assert code == 2
    assert "data.env_id is None; it must be a task" in err


def test_from_python_a_run_needs_no_agent(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it try to draw the task that it doesn't have."""
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import TensorBoardLogger

    from seqrl_lightning.callbacks import board, run_callbacks

    said: list[str] = []
    monkeypatch.setattr(board, "rank_zero_info", said.append)

    data = LoggedTrials(str(log), sampler=PrioritizedSampler(), batch_size=8, batches_per_epoch=10)
    learner = BehaviorCloning(data.obs_shape, data.n_actions, learning_rate=0.01)
    callbacks = run_callbacks(None, progress_bar=False, checkpointing=False)
    flags = {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    logger = TensorBoardLogger(tmp_path)
    trainer = Trainer(max_steps=30, logger=logger, callbacks=callbacks, default_root_dir=tmp_path, **flags)
    before = learner.policy_net(torch.eye(6)[None])[0].softmax(-1)[0, 4, 1]
    trainer.fit(learner, datamodule=data)
    assert learner.policy_net(torch.eye(6)[None])[0].softmax(-1)[0, 4, 1] > before
    assert not said
