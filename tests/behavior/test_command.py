"""The command ``seqrl fit-behaviour``."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from seqrl_lightning.behavior.fits import fit
from seqrl_lightning.behavior.histories import read_histories
from seqrl_lightning.behavior.model import find_model
from seqrl_lightning.behavior.sections import Comparison, cautions
from seqrl_lightning.commands.fit_behaviour import read
from tests.behavior.tables import bandit, histories_of
from tests.running import seqrl

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_behavior_model.py"


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 40


def grouped(path: Path, num_subjects: int, num_trials: int) -> None:
    rows = bandit(num_subjects, num_trials, beta=(4.0, 6.0))
    rows.assign(group=rows["subject"].map(lambda name: "ab"[int(name[1:]) % 2])).to_csv(path, index=False)


@pytest.mark.slow
def test_a_report_on_groups(tmp_path: Path) -> None:
    grouped(tmp_path / "choices.csv", 10, 40)
    models = f"Chance,{EXAMPLE}:Novelty"
    status, out, err = seqrl("fit-behaviour", str(tmp_path / "choices.csv"), "--models", models)
    assert status == 0, err
    assert "has the lowest integrated BIC" in out
    folder = tmp_path / "behavior"
    table = pd.read_csv(folder / "models.csv", index_col="model")
    assert list(table.index) == ["Chance", "Novelty"]
    assert table["frequency"].sum() == pytest.approx(1.0)
    groups = pd.read_csv(folder / "groups.csv", index_col="parameter")
    assert list(groups.index) == ["alpha", "beta", "bonus"]
    assert len(pd.read_csv(folder / "latents.csv")) == 10 * 40
    html = (folder / "report.html").read_text()
    for title in ("Models", "Parameters", "Groups", "Posterior predictive checks", "Recovery", "Methods"):
        assert f"<h2>{title}</h2>" in html
    subjects = pd.read_csv(folder / "parameters_data.csv")
    assert len(subjects) == 10 * 3
    assert subjects["standard_error"].notna().all()


@pytest.mark.slow
@pytest.mark.usefixtures("all_formats")
def test_all_that_can_be_asked_for(tmp_path: Path) -> None:
    grouped(tmp_path / "choices.csv", 12, 60)
    models = "Chance,QLearning,QLearning+forgetting"
    arguments = ["--models", models, "--cross_validate", "--gru", "[1]", "--recover"]
    status, out, err = seqrl("fit-behaviour", str(tmp_path / "choices.csv"), *arguments)
    assert status == 0, err
    assert "has the highest held-out log-likelihood" in out
    folder = tmp_path / "behavior"
    table = pd.read_csv(folder / "models.csv", index_col="model")
    assert table.loc["Chance", "held_out"] == pytest.approx(np.log(0.5))
    assert table["held_out"].idxmax() != "Chance"
    assert np.isfinite(table.loc["GRU(1)", "held_out"])
    confusion = pd.read_csv(folder / "model_recovery.csv", index_col="simulated")
    np.testing.assert_allclose(confusion.sum(axis=1), 1.0)
    for name in ("models", "parameters", "checks", "recovery", "model_recovery"):
        assert (folder / f"{name}.pdf").exists()


def test_one_subject_has_no_group(tmp_path: Path) -> None:
    table = tmp_path / "choices.csv"
    bandit(1, 60).to_csv(table, index=False)
    status, out, err = seqrl("fit-behaviour", str(table), "--output", str(tmp_path / "there"))
    assert status == 0, err
    assert "has the lowest BIC" in out
    html = (tmp_path / "there" / "report.html").read_text()
    assert "by maximum a posteriori" in html
    assert "Left out: --recover" in html


@pytest.mark.usefixtures("all_formats")
def test_a_runs_own_table_is_read(tmp_path: Path) -> None:
    """As TrialWriter writes it: with episodes, no blocks, and no right action in some of the trials."""
    rng = np.random.default_rng(0)
    rows = [
        (
            episode,
            0,
            trial,
            "",
            f"[{trial}.0]",
            int(rng.integers(3)),
            trial if trial < 2 else -1,
            1.0,
            0,
            0,
            0,
            0.1,
            0.2,
            0.3,
        )
        for episode in range(15)
        for trial in range(3)
    ]
    columns = "episode env trial block state action correct_action reward terminated truncated explored q_0 q_1 q_2"
    pd.DataFrame(rows, columns=columns.split()).to_csv(tmp_path / "trials.csv", index=False)
    status, out, err = seqrl("fit-behaviour", str(tmp_path / "trials.csv"))
    assert status == 0, err
    assert "Chaining" in out
    assert "Chunking" in out
    assert "serial position" in (tmp_path / "behavior" / "checks.svg").read_text()


def test_latents_are_joined_to_the_tables_rows(tmp_path: Path) -> None:
    """By the row's number, and with its own columns; names of subjects are texts."""
    rows = bandit(2, 30).assign(trial=list(range(30)) * 2, subject=["001"] * 30 + ["NA"] * 30)
    rows.loc[[3, 40], ["action", "reward"]] = np.nan
    rows = rows.sample(frac=1, random_state=0).sort_values("trial", kind="stable")  # subjects alternate
    rows.to_csv(tmp_path / "choices.csv", index=False)
    status, _, err = seqrl("fit-behaviour", str(tmp_path / "choices.csv"), "--models", "QLearning")
    assert status == 0, err
    latents = pd.read_csv(tmp_path / "behavior" / "latents.csv", dtype={"subject": str}, keep_default_na=False)
    assert latents["row"].tolist() == list(range(60))
    for name in ("subject", "block", "trial"):
        assert latents[name].tolist() == rows[name].tolist()
    is_missed = rows["action"].isna().to_numpy()
    np.testing.assert_array_equal(latents["value"] == "", is_missed)
    np.testing.assert_array_equal(latents["action"] == "", is_missed)


def test_what_is_likely_a_mistake_is_said(tmp_path: Path) -> None:
    """Also where no state ever recurs, so that no choice repeats one."""
    rows = bandit(3, 20).assign(correct_action=2, state=range(60), reward=list(range(20)) * 3)
    rows.loc[rows["subject"] == "s1", "action"] = -1
    rows.to_csv(tmp_path / "choices.csv", index=False)
    arguments = ("--models", "Chance,QLearning+gamma", "--method", "ml")
    status, out, err = seqrl("fit-behaviour", str(tmp_path / "choices.csv"), *arguments)
    assert status == 0, err
    for said in (
        "These subjects made no choice, and are left out: s1.",
        "Nobody took action 2; if it was not there to choose, say so in the column allowed.",
        "QLearning+gamma has nothing to look ahead to: the table has no episodes of several choices.",
    ):
        assert f"WARNING: {said}" in out
        assert said in (tmp_path / "behavior" / "report.html").read_text()
    assert "The choices of s0, s2 don't determine alpha, beta, gamma of QLearning+gamma; give --method map." in out
    assert out.count("WARNING") == 4


def test_a_parquet_table_is_as_its_csv(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    table = bandit(2, 10).astype({"subject": "category", "block": "category"})
    table.to_parquet(tmp_path / "choices.parquet")
    table.to_csv(tmp_path / "choices.csv", index=False)
    read_ones = [read_histories(read(tmp_path / f"choices.{kind}", 1.0)) for kind in ("parquet", "csv")]
    for name in ("state", "action", "reward", "fold", "correct_action"):
        np.testing.assert_array_equal(*(getattr(histories, name) for histories in read_ones))
    assert read_ones[0].subjects == read_ones[1].subjects == ("s0", "s1")


def test_what_choices_say_nothing_about_is_said() -> None:
    told = histories_of([("s", 0, 1.0)] * 20)
    fits = {"QLearning": fit(find_model("QLearning"), told, "ml")}
    said = cautions(Comparison(told, fits, fits, {}))
    assert said == [
        "There was one action to choose from: the choices say nothing about any model.",
        "All rewards are 1: the choices say little about how subjects learn from rewards.",
        "The choices of all don't determine alpha, beta of QLearning; give --method map.",
    ]
    assert fits["QLearning"].standard_errors.isna().all(axis=None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--models", f"{EXAMPLE}:Novelty,{EXAMPLE.parent}/../examples/{EXAMPLE.name}:Novelty"],
            "of different names; Novelty is twice",
        ),
        (["--models", "QLearnin"], "--models is 'QLearnin'; did you mean 'QLearning'?"),
        (["--method", "bayes"], "--method is 'bayes'; it must be one of hierarchical, map, ml"),
        (["--method", "hierarchical"], "it must be map or ml for fewer than 5 subjects in a group"),
        (["--gru", "[2]"], "--gru is [2]; it must be given with --cross_validate"),
        (["--cross_validate"], "it must be at least 2 for --cross_validate"),
    ],
)
def test_what_does_not_suit_the_table_gets_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    table = tmp_path / "choices.csv"
    bandit(2, 20).drop(columns="block").to_csv(table, index=False)
    status, _, err = seqrl("fit-behaviour", str(table), *arguments)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("state;action;reward\n0;1;1\n", "has semicolons between its cells; it must have commas"),
        ("state,action\n0,1\n", "it must be state, action, reward (and subject)"),
        ("state,action,reward\n0,1,\n", "the table has empty cells in state or reward"),
        ("state,action,reward\n0,A,1\n", "an action in the table is ['A']; it must be a whole number from 0"),
        (
            "state,action,reward\n0,1000,1\n",
            "is [1000]; it must be a whole number from 0 to 999",
        ),
        ("state,action,reward\n0,1,x\n", "a reward in the table is ['x']; it must be a number"),
        ("state,action,reward\n0,1,inf\n", "a reward in the table is [inf]; it must be a number"),
        ("state,action,reward\n", "the number of choices in the table is 0; it must be at least 1"),
        ('state,action,reward\n"', "choices.csv can't be used: Error tokenizing data"),
        ("", "choices.csv can't be used: No columns"),
        (None, "it must be a CSV or Parquet file"),
        ("state,action,reward\n0,-1,\n", "the number of choices in the table is 0; it must be at least 1"),
        ("state,action,reward,subject\n0,1,1,\n0,1,1,a\n", "the table has empty cells in subject"),
        (
            "state,action,reward,allowed\n0,1,1,0 2\n",
            "an action in the table is [1]; it must be one of those in allowed",
        ),
        (
            "state,action,reward,allowed\n0,1,1,all\n",
            "an action in allowed is ['all']; it must be a whole number from 0",
        ),
        ("state,action,reward,correct_action\n0,1,1,1.5\n", "a correct_action in the table is [1.5]"),
        (
            "state,action,reward,subject,group\n0,1,1,a,x\n0,1,1,a,y\n",
            "group is 'not the same in all rows of a subject'",
        ),
    ],
)
def test_a_table_that_cannot_be_fitted_gets_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    table = tmp_path / "choices.csv"
    if text is not None:
        table.write_text(text)
    status, _, err = seqrl("fit-behaviour", str(table))
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
