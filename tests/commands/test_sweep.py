"""``seqrl sweep`` on real runs."""

import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from seqrl_lightning.analysis.runs import find_runs
from seqrl_lightning.commands import sweep, sweep_study
from seqrl_lightning.commands.sweep_database import require_own_database
from seqrl_lightning.types import ConfigurationError
from tests.running import seqrl

CONFIG = """
seed_everything: 5
data:
  env_id: CartPole-v1
  batch_size: 8
  capacity: 60
  batches_per_epoch: 10
  eval_episodes: 2
model:
  class_path: DQN
  init_args: {network: {class_path: MLP, init_args: {hidden_sizes: [8]}}}
agent: {warmup_env_steps: 16, env_steps_per_update: 2}
"""
SPACE = """
model.init_args.learning_rate: {low: 1e-4, high: 1e-2, log: true}
data.batch_size: {low: 4, high: 16}
"""


def write(folder: Path) -> list[str]:
    """Arguments of a sweep whose files are in ``folder``."""
    (folder / "tiny.yaml").write_text(CONFIG)
    (folder / "space.yaml").write_text(SPACE)
    files = [f"--config={folder}/tiny.yaml", f"--space={folder}/space.yaml", f"--output={folder}/swept"]
    return [*files, "--trainer.max_steps", "40", "--trainer.log_every_n_steps=10"]


def open_study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name=None, storage=sweep_study.open_storage(f"sqlite:///{folder}/swept/study.db"))


def states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.get_trials()]


@pytest.fixture(scope="module")
def sweep_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep over two trials, which no test writes into."""
    folder = tmp_path_factory.mktemp("sweep")
    status, out, err = seqrl("sweep", *write(folder), "--trials=2")
    assert status == 0, err
    assert "2 of 2 trials, 0 of them pruned" in out
    return folder


@pytest.fixture
def swept(sweep_of_two: Path, tmp_path: Path) -> Path:
    """A copy of that sweep of the test's own, in ``tmp_path``."""
    shutil.copytree(sweep_of_two, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.mark.slow
def test_the_best_config_is_taken_by_fit_as_it_is_and_reaches_the_same(swept: Path) -> None:
    best = open_study(swept).best_trial
    path = swept / "swept" / "best.yaml"
    assert path.read_text().startswith(f"# val/return_mean {best.value:g} in trial {best.number} of the sweep tiny\n")
    status, _, err = seqrl("fit", f"--config={path}", f"--trainer.default_root_dir={swept}/again")
    assert status == 0, err
    (again,), (trial,) = find_runs([f"{swept}/again"]), find_runs([f"{swept}/swept/trial_{best.number:04}"])
    assert again.config["data"]["batch_size"] == best.params["data.batch_size"]
    assert again.config["trainer"]["max_steps"] == 40
    assert again.config["data"]["save_replay"]
    assert len(again.curve("val/return_mean")) == 4
    assert again.curve("val/return_mean").equals(trial.curve("val/return_mean"))
    assert again.curve("val/return_mean").iloc[-1] == pytest.approx(best.value)


@pytest.mark.slow
@pytest.mark.alone
def test_a_sweep_goes_on_to_its_total(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = open_study(swept)
    template = study.best_trial
    for _ in range(5):  # far better, so that what comes after them is pruned
        values = {step: 1000.0 + step for step in range(4)}
        study.add_trial(
            create_trial(
                value=1.0, params=template.params, distributions=template.distributions, intermediate_values=values
            )
        )
    for is_known_alive in (True, False):  # killed in the middle of a trial, and at its very beginning
        lost = study.ask()
        if is_known_alive:
            study._storage.record_heartbeat(lost._trial_id)
    study.enqueue_trial({**template.params, "data.batch_size": 17})
    monkeypatch.setattr(sweep_study, "GRACE_SECONDS", 1)
    time.sleep(2.1)

    status, out, err = seqrl("sweep", *write(swept), "--trials=9")
    assert status == 0, err
    assert "9 of 9 trials, 2 of them pruned" in out
    lost, rest = [TrialState.FAIL] * 2, [TrialState.PRUNED] * 2
    assert states(open_study(swept)) == [TrialState.COMPLETE] * 7 + lost + rest
    refused, pruned = open_study(swept).get_trials()[-2:]
    assert "has data.batch_size = 17, which --space doesn't hold" in refused.user_attrs["reason"]
    assert sorted(pruned.intermediate_values) == [0, 1, 2]


def test_of_two_processes_at_the_last_trial_one_stands_back(tmp_path: Path) -> None:
    study = optuna.create_study()
    own = sweep.Sweep(study, {}, "val/return_mean", 1, [], tmp_path)
    first, second = study.ask(), study.ask()
    assert (own.is_surplus(first), own.is_surplus(second)) == (False, True)
    study.tell(first.number, state=TrialState.FAIL)
    assert not own.is_surplus(second)


class Clock:
    """A machine's own clock, which a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("seqrl_lightning.commands.sweep_storage.time.monotonic", lambda: self.now)

    def states_after(self, seconds: float, study: optuna.Study) -> list[TrialState]:
        self.now += seconds
        optuna.storages.fail_stale_trials(study)
        return states(study)


@pytest.mark.parametrize(
    ("begun", "report"),
    [
        ("2020-01-01 00:00:00", None),
        ("9999-01-01 00:00:00", None),
        (None, None),
        ("2020-01-01 00:00:00", "2020-01-01 00:00:00"),
        ("2020-01-01 00:00:00", "9999-01-01 00:00:00"),
    ],
)
def test_a_running_trial_that_nobody_trains_is_lost(
    begun: str | None, report: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep doesn't wait for trials in somebody else's database, no matter what times it holds."""
    clock, url = Clock(monkeypatch), f"sqlite:///{tmp_path}/study.db"
    study = sweep_study.open_study("it", url, tmp_path, no_pruning=True)
    study.ask().suggest_float("x", 0, 1)
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        database.execute("update trials set datetime_start = ?", (begun,))
        if report is not None:
            database.execute("insert into trial_heartbeats (trial_id, heartbeat) values (1, ?)", (report,))
        database.commit()
    require_own_database(url, 1.0)
    sweep_study.require_readable(study)
    assert clock.states_after(0, study) == [TrialState.RUNNING]
    assert clock.states_after(sweep_study.GRACE_SECONDS, study) == [TrialState.RUNNING]
    assert clock.states_after(0.1, study) == [TrialState.FAIL]


def test_a_trial_whose_process_reports_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if that process is on a machine whose clock is wrong, and this one was busy for hours meanwhile."""
    clock = Clock(monkeypatch)
    study = sweep_study.open_study("it", f"sqlite:///{tmp_path}/study.db", tmp_path, no_pruning=True)
    study.ask()
    assert clock.states_after(0, study) == [TrialState.RUNNING]
    for hour in range(1, 4):
        with closing(sqlite3.connect(tmp_path / "study.db")) as database:
            report = "insert or replace into trial_heartbeats (trial_id, heartbeat) values (1, ?)"
            database.execute(report, (f"2020-01-01 {hour:02}:00:00",))
            database.commit()
        assert clock.states_after(3600, study) == [TrialState.RUNNING]
    assert clock.states_after(sweep_study.GRACE_SECONDS + 1, study) == [TrialState.FAIL]


@pytest.mark.slow
@pytest.mark.alone
def test_a_sweep_ends_beside_trials_that_claim_to_run(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = open_study(swept)
    for _ in range(3):
        study.ask(sweep.read_space(swept / "space.yaml"))
    monkeypatch.setattr(sweep_study, "GRACE_SECONDS", 1)
    status, out, err = seqrl("sweep", *write(swept), "--trials=3")
    assert status == 0, err
    assert "3 of 3 trials" in out
    assert states(study) == [TrialState.COMPLETE] * 2 + [TrialState.FAIL] * 3 + [TrialState.COMPLETE]


HOSTILE = {
    "unknown setting": ("model.init_args.gama: {low: 0, high: 1}", "model.gama is not a setting"),
    "wrong value": ("model.init_args.gamma: {low: 0.5, high: 1.5}", "model.gamma is 1.5; it must be in [0, 1] (with "),
    "misfit": ("agent.warmup_env_steps: {low: 4, high: 8}", "agent.warmup_env_steps is 4; it must be at least data.b"),
}


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("case", HOSTILE)
def test_values_that_cannot_work_are_refused_before_the_first_trial(case: str, tmp_path: Path) -> None:
    space, message = HOSTILE[case]
    arguments = write(tmp_path)
    (tmp_path / "space.yaml").write_text(space)
    status, _, err = seqrl("sweep", *arguments)
    assert status == 2
    assert err.startswith("seqrl: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "swept").exists()


def test_a_study_is_about_one_thing(tmp_path: Path) -> None:
    def begin(**facts: Any) -> None:
        sweep_study.require_same_subject(
            sweep_study.open_study("it", f"sqlite:///{tmp_path}/study.db", tmp_path, True), facts
        )

    begin(metric="a", space="b")
    begin(metric="a", space="b")
    with pytest.raises(ConfigurationError, match="space is 'c', but the study 'it' was started with 'b'; give another"):
        begin(metric="a", space="c")
    with pytest.raises(ConfigurationError, match="space is None, but the study 'it' was started with 'b'"):
        begin(metric="a")


def test_a_database_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--storage is 'nosuch:///', which can't be opened: "):
        sweep_study.open_study("it", "nosuch:///", tmp_path, True)


@pytest.mark.slow
def test_a_metric_that_is_none(tmp_path: Path) -> None:
    status, _, err = seqrl("sweep", *write(tmp_path), "--metric=val/x")
    assert status == 1
    assert err.startswith(
        "seqrl: error: --metric is 'val/x'; it must be one of val/episode_length_mean, val/return_mean"
    )
    assert err.count("\n") == 1


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "seqrl_lightning.commands.sweep")
    status, _, err = seqrl("sweep", "--config=sequence_dqn", "--space=y.yaml")
    assert status == 2
    assert err.startswith("seqrl: error: this needs optuna, which the extra `sweep` installs: pip install ")


def start(program: list[str], folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, *program, "sweep", *write(folder), "--data.batches_per_epoch=50", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
@pytest.mark.alone
def test_two_processes_of_which_one_is_killed_share_a_study(tmp_path: Path) -> None:
    quick = "from seqrl_lightning.commands import sweep_study as s; s.HEARTBEAT_SECONDS, s.GRACE_SECONDS = 1, 10; "
    program = ["-c", quick + "from seqrl_lightning.__main__ import main; main()"]
    more = ("--trials=5", "--trainer.max_steps=200")
    one, other = start(program, tmp_path, *more), start(program, tmp_path, *more)
    while not (tmp_path / "swept" / "best.yaml").exists() or states(open_study(tmp_path))[-1] is not TrialState.RUNNING:
        assert one.poll() is None, one.communicate()[0]
        time.sleep(0.05)
    one.kill()
    assert one.wait() == -signal.SIGKILL
    again = start(program, tmp_path, *more)
    for process in (other, again):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        assert "5 of 5 trials" in output
    found = states(open_study(tmp_path))
    assert found.count(TrialState.COMPLETE) + found.count(TrialState.PRUNED) == 5
    assert found.count(TrialState.FAIL) == len(found) - 5  # killed, or stood back at the last one


@pytest.mark.slow
@pytest.mark.alone
def test_jobs_train_the_trials_side_by_side(tmp_path: Path) -> None:
    status, out, err = seqrl("sweep", *write(tmp_path), "--trials=4", "--jobs=2")
    assert status == 0, err
    assert "] process 1: trials " in out
    assert "4 of 4 trials, 0 of them pruned" in out
    assert states(open_study(tmp_path)) == [TrialState.COMPLETE] * 4
    assert not list((tmp_path / "swept").glob("*.progress"))
    status, _, err = seqrl("sweep", *write(tmp_path), "--trials=6", "--jobs=2", "--metric=val/x")
    assert status == 2  # the study is about another metric, which this process sees before it starts others
    assert "--metric is 'val/x'" in err


@pytest.mark.slow
@pytest.mark.alone
def test_ctrl_c_leaves_no_trial_behind(tmp_path: Path) -> None:
    process = start(["-m", "seqrl_lightning"], tmp_path, "--trials=2", "--trainer.max_steps=100000")
    while not list(tmp_path.glob("swept/trial_0000/lightning_logs/version_0/checkpoints/last.ckpt")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.endswith("seqrl: interrupted; the same command continues\n")
    assert "Traceback" not in output
    assert states(open_study(tmp_path)) == [TrialState.FAIL]


@pytest.mark.slow
@pytest.mark.parametrize(
    "params",
    [
        {"model.init_args.network": '{"class_path": "subprocess.Popen", "init_args": {"args": "true"}}'},
        {"data.batch_size": 4000},
    ],
)
def test_a_trial_that_somebody_else_put_into_the_study_is_no_setting(params: dict[str, Any], swept: Path) -> None:
    """A shared database is data: only values from one's own space become settings."""
    ((name, value),) = params.items()
    distributions = optuna.distributions
    drawn = distributions.IntDistribution(1, 4000) if value == 4000 else distributions.CategoricalDistribution([value])
    open_study(swept).add_trial(create_trial(params=params, distributions={name: drawn}, value=1e9))
    status, _, err = seqrl("sweep", *write(swept), "--trials=3")
    assert (status, err.count("\n")) == (2, 1), err
    assert f"has {name} = " in err
    assert "which --space doesn't hold" in err


@pytest.mark.parametrize(
    "planted",
    [
        "update study_user_attributes set value_json = '3' where key = 'about'",
        "update trial_params set distribution_json = '[]'",
        """update trial_params set distribution_json = '{"name": "os.system", "attributes": {}}'""",
        "update trial_params set param_value = 'abc'",
        "update study_directions set direction = 'MINIMIZE'",
        "insert into study_directions (direction, study_id, objective) values ('MAXIMIZE', 1, 1)",
        "delete from trial_values",
        "update trial_values set value = 'abc'",
        "update trials set state = 'FOO'",
        "update trials set number = null",
        "update trials set datetime_start = 'foo'",
    ],
)
def test_a_study_that_no_sweep_wrote_is_refused_in_a_line(planted: str, swept: Path) -> None:
    database = sqlite3.connect(swept / "swept" / "study.db")
    database.execute(planted)
    database.commit()
    database.close()
    study = sweep_study.open_study("tiny", f"sqlite:///{swept}/swept/study.db", swept / "swept", no_pruning=True)
    with pytest.raises(
        ConfigurationError, match="the study 'tiny' isn't one of a sweep; give another --study: "
    ) as told:
        sweep_study.require_readable(study)
    assert "\n" not in str(told.value)


def test_a_study_of_no_direction_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep.time, "sleep", lambda seconds: None)
    url = f"sqlite:///{tmp_path}/study.db"
    sweep_study.open_study("tiny", url, tmp_path, no_pruning=True)
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        database.execute("update study_directions set direction = 'x'")
        database.commit()
    with pytest.raises(ConfigurationError, match="can't be opened: 'x' is not among the defined enum values"):
        sweep_study.open_study("tiny", url, tmp_path, no_pruning=True)


def test_a_readable_study_is_read(swept: Path) -> None:
    sweep_study.require_readable(open_study(swept))


@pytest.mark.slow
def test_a_fixed_value_that_is_no_number_is_no_setting(swept: Path) -> None:
    open_study(swept).enqueue_trial({"data.batch_size": {"a": "\x1b[2J"}})
    status, _, err = seqrl("sweep", *write(swept), "--trials=3")
    assert status == 0, err
    refused = open_study(swept).get_trials()[-1]
    assert refused.state is TrialState.PRUNED
    assert "data.batch_size can't be drawn in trial 2: " in refused.user_attrs["reason"]


@pytest.mark.slow
def test_a_fixed_value_out_of_the_space_is_no_setting(swept: Path) -> None:
    open_study(swept).enqueue_trial({"data.batch_size": 4000})
    status, _, err = seqrl("sweep", *write(swept), "--trials=3")
    assert status == 0, err
    refused = open_study(swept).get_trials()[-1]
    assert refused.state is TrialState.PRUNED
    assert "has data.batch_size = 4000, which --space doesn't hold" in refused.user_attrs["reason"]


def test_a_sweep_in_a_folder_with_links_out_of_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "swept").mkdir()
    (tmp_path / "swept" / "trial_0000").symlink_to("/")
    status, _, err = seqrl("sweep", *write(tmp_path), "--trials=1")
    assert status == 2
    assert "trial_0000 is a symbolic link out of" in err


@pytest.mark.parametrize(
    ("planted", "kind"),
    [
        ("create view studies_seen as select * from studies", "the view 'studies_seen'"),
        ("create trigger t after update on studies begin delete from trials; end", "the trigger 't'"),
        ("create table more (a, b as (hex(zeroblob(1000000000))))", "the table 'more'"),
        ("create index i on trials (hex(zeroblob(state)))", "the index 'i'"),
        ("alter table studies add column b as (hex(zeroblob(1000000000)))", "the table 'studies'"),
        ("create table state (value TEXT default (hex(zeroblob(1000000000))))", "the table 'state'"),
        ("create table state (value TEXT CHECK (value = hex(value)))", "the table 'state'"),
        ("CREATE VIEW trials_seen AS SELECT * FROM trials", "the view 'trials_seen'"),
        ("insert into trial_heartbeats (trial_id, heartbeat) values (99, 'soon')", "a heartbeat at 'soon'"),
        ("insert into trial_heartbeats (trial_id, heartbeat) values (99, 5)", "a heartbeat at 5"),
    ],
)
def test_a_database_is_as_optuna_makes_it(planted: str, kind: str, swept: Path) -> None:
    """Views and triggers in a database run when it is read."""
    path = swept / "swept" / "study.db"
    require_own_database(f"sqlite:///{path}", 1.0)
    with closing(sqlite3.connect(path)) as database:
        database.execute(planted)
        database.commit()
    with pytest.raises(ConfigurationError, match=kind):
        require_own_database(f"sqlite:///{path}", 1.0)
    with pytest.raises(ConfigurationError, match="at most max_gib"):
        require_own_database(f"sqlite:///{path}", 1e-9)


def test_an_older_versions_database_is_opened_once_it_is_upgraded(tmp_path: Path) -> None:
    path, url = tmp_path / "study.db", f"sqlite:///{tmp_path}/study.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(Path(__file__).with_name("optuna_2_4.sql").read_text())
    require_own_database(url, 1.0)
    with pytest.raises(ConfigurationError, match=r"can't be opened: .* execute `.* optuna storage upgrade"):
        sweep_study.open_study("tiny", url, tmp_path, no_pruning=True)

    optuna.storages.RDBStorage(url, skip_compatibility_check=True).upgrade()  # as `optuna storage upgrade` does
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("select count(*) from sqlite_master where sql like '%CHECK (state IN%'").fetchone()[0]
    require_own_database(url, 1.0)
    study = sweep_study.open_study("tiny", url, tmp_path, no_pruning=True)
    sweep_study.require_readable(study)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2
    assert study.best_value == pytest.approx(0.850560, abs=1e-6)
    assert study.ask().number == 2


def journal(database: Path, other: Path) -> bytes:
    """The journal of a transaction over several databases, in SQLite's format; it is replayed when one is opened."""
    magic, name = bytes.fromhex("d9d505f920a163d7"), str(other).encode()
    pages = database.stat().st_size // 4096
    head = (magic + struct.pack(">IIIII", 0, 0, pages, 512, 4096)).ljust(512, b"\0")
    return head + struct.pack(">I", 2**30 // 4096 + 1) + name + struct.pack(">II", len(name), sum(name)) + magic


def test_a_journal_deletes_no_other_file(swept: Path) -> None:
    victim = swept / "victim"
    database = swept / "swept" / "study.db"
    for is_checked in (True, False):
        victim.write_text("precious")
        (database.parent / "study.db-journal").write_bytes(journal(database, victim))
        if is_checked:
            status, _, err = seqrl("sweep", *write(swept), "--trials=3")
            assert (status, err.count("\n")) == (2, 1), err
            assert "study.db-journal names another file" in err
        else:  # or the journal of this test were no danger
            open_study(swept)
        assert victim.exists() == is_checked


def test_a_killed_sweeps_own_journal_is_replayed(swept: Path) -> None:
    database = swept / "swept" / "study.db"
    program = (
        f"import os, sqlite3; d = sqlite3.connect({str(database)!r}); d.execute('pragma cache_size=1'); "
        "d.execute('update trial_params set param_value = 1'); "
        "d.executemany('insert into trial_user_attributes (trial_id, key, value_json) values (1, ?, ?)', "
        "[(str(i), 'x' * 1000) for i in range(100)]); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert database.with_name("study.db-journal").stat().st_size > 0
    require_own_database(f"sqlite:///{database}", 1.0)
    assert not database.with_name("study.db-journal").exists()
