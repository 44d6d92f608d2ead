"""Write the pages of ``docs/studies/`` from the reports of their experiments.

``python -m docs.scripts.studies runs/reversal/report`` copies what the page needs from the report into
``docs/studies/reversal/`` and writes ``docs/studies/reversal.md``; without a report, it rewrites the page from what
was copied. No number on the page is edited by hand.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from docs.scripts.results import ROOT, table
from seqrl_lightning.analysis.statistics import MIN_SEEDS, kaplan_meier, summarize

STUDIES = ROOT / "docs" / "studies"
COPIED = ("outcomes_data.csv", "tests.csv", "learning.png", "criterion.png", "report.html")
FIRST, LATER = "episodes to criterion in block 0", "episodes to criterion in block 1"
SAVINGS = "savings in block 1"
INTERFERENCE = "share of errors by the previous order in the first 10 episodes of a block"


def main() -> None:
    """Copy a report, if one is given, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", nargs="?", type=Path, help="the report's folder")
    report = parser.parse_args().report
    if report is not None:
        for name in COPIED:
            shutil.copy(report / name, STUDIES / "reversal" / name)
    (STUDIES / "reversal.md").write_text(reversal_page())


def reversal_page() -> str:
    """Return the text of ``docs/studies/reversal.md``."""
    outcomes = pd.read_csv(STUDIES / "reversal" / "outcomes_data.csv")
    tests = pd.read_csv(STUDIES / "reversal" / "tests.csv")
    outcomes["condition"] = outcomes["condition"].map(learner_name)
    tests[["A", "B"]] = tests[["A", "B"]].map(learner_name)
    seeds = sorted(outcomes["seed"].unique())
    named = f"{len(seeds)} seeds ({seeds[0]} to {seeds[-1]})"
    return f"""# Reversal: savings and interference by learner

An order of ten objects is learned for 150 episodes and then reversed for another 150 (`seqrl/Sequence-v0`). Is the
reversed order learned faster than the first one (savings), or does the first one get in the way (interference)?

```sh
seqrl experiment configs/experiments/reversal.yaml
seqrl compare runs/reversal --output runs/reversal/report
python -m docs.scripts.studies runs/reversal/report
```

The study compares four learners in [one experiment](../../configs/experiments/reversal.yaml), on {named}:
one-step Q-learning with a table; DQN with the last 256 transitions in its replay memory; DQN with all transitions; and
R2D2 (LSTM, windows of ten steps, prioritized), also with all of them. The two DQNs differ in their replay memory alone;
the others differ from them in several settings, so they stand for themselves and not for all tables and all recurrent
networks. The settings were written down once and not tuned: seed 1 was looked at before the others were run. This page
is written by `python -m docs.scripts.studies` from [the report](reversal/report.html); the measures are those of
[Measures and statistics](../measures.md).

## Result

{conclusion(outcomes, tests)}

{summary(outcomes)}

Episodes to criterion are Kaplan-Meier medians; "> 146" means that fewer than half of the runs met the criterion within
the block, and "met" is the number of runs that did. Savings are the median over seeds, and are left out unless every
run met the criterion in both blocks. Interference is the share of choices in the first ten episodes after the switch
that were errors but were right at that position in the old order: the interquartile mean over seeds, with its 95 %
bootstrap interval.

![Learning curves](reversal/learning.png)

![Fraction of runs that met the criterion](reversal/criterion.png)

## Comparisons

{comparisons(tests, LATER)}

Episodes to criterion in the reversed order: P(A > B) is the probability that a run of A takes longer than one of B,
with its 95 % bootstrap interval; p is of a permutation test of the log-rank scores, with Holm's correction for the six
pairs.

{comparisons(tests, INTERFERENCE)}

Interference: P(A > B) is the probability that a run of A has the larger share; p is of a permutation test of the means.
"""


def learner_name(condition: str) -> str:
    """Return the name of a condition on the page."""
    names = {"dqn_small_memory": "DQN (small memory)", "dqn_large_memory": "DQN (large memory)", "r2d2": "R2D2"}
    level = condition.removeprefix("learner=")
    return names.get(level, level)


def conclusion(outcomes: pd.DataFrame, tests: pd.DataFrame) -> str:
    """Return the sentences that a paper would have."""
    later = [f"{name} {median(rows)}" for name, rows in groups(outcomes, LATER)]
    never = [
        f"{(~rows['is_met']).sum()} of {len(rows)} runs of {name}"
        for name, rows in groups(outcomes, LATER)
        if not rows["is_met"].all()
    ]
    saved = [(name, rows["value"]) for name, rows in groups(outcomes, SAVINGS) if rows["value"].notna().all()]
    savings = ", ".join(f"{name} {values.median():.2f}" for name, values in saved)
    shares = {name: summarize(rows["value"].to_numpy()).mean for name, rows in groups(outcomes, INTERFERENCE)}
    most, least = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
    signs = {bool(values.median() > 0) for _, values in saved}
    found = {
        frozenset(): "no learner met the criterion in both blocks in every run, so there are no savings to report",
        frozenset({False}): f"none showed savings; the reversed order took longer than the first (median {savings})",
        frozenset({True}): f"the reversed order took fewer episodes than the first (median savings: {savings})",
        frozenset({False, True}): f"median savings differed in their sign ({savings})",
    }[frozenset(signs)]
    sentences = [
        f"Of the learners that met the criterion in every run, {found}." if saved else f"{found.capitalize()}.",
        f"Median episodes to criterion in the reversed order: {', '.join(later)}.",
        f"{' and '.join(never)} did not meet it within the block." if never else "All runs met it.",
        f"In the first ten episodes after the switch, {100 * shares[most]:.0f} % of the choices of {most} were errors "
        f"that followed the old order, the most of all learners, and {100 * shares[least]:.0f} % of those of {least}, "
        f"the least ({significant(tests, INTERFERENCE)}).",
        f"In episodes to criterion in the reversed order, {significant(tests, LATER)}.",
    ]
    return " ".join(sentences)


def significant(tests: pd.DataFrame, outcome: str) -> str:
    """Say which pairs of conditions differ at the level of 5 %, after Holm's correction."""
    pairs = tests[tests["outcome"] == outcome]
    if pairs["p (Holm)"].isna().any():
        return f"no test, since it takes {MIN_SEEDS} seeds in each condition"
    differing = pairs[pairs["p (Holm)"] < 0.05]
    if differing.empty:
        return "no two learners differ at the level of 5 % after Holm's correction"
    if len(differing) == len(pairs):
        return f"all {len(pairs)} pairs of learners differ at the level of 5 % after Holm's correction"
    same = [f"{a} and {b}" for a, b in pairs.drop(differing.index)[["A", "B"]].to_numpy()]
    return (
        f"{len(differing)} of {len(pairs)} pairs of learners differ at the level of 5 % after Holm's correction; no "
        f"difference was found between {', or '.join(same)}"
    )


def summary(outcomes: pd.DataFrame) -> str:
    """Return the table of conditions."""
    num_runs = outcomes["seed"].nunique()
    titles = [
        "learner",
        "first order: episodes to criterion",
        "met",
        "reversed order",
        "met",
        "savings",
        "interference",
    ]
    rows = []
    for name, first in groups(outcomes, FIRST):
        later, saved, errors = (
            of_one.set_index("condition").loc[[name]]
            for of_one in (outcomes[outcomes["outcome"] == outcome] for outcome in (LATER, SAVINGS, INTERFERENCE))
        )
        savings = saved["value"].median(skipna=False)
        middle = summarize(errors["value"].to_numpy())
        rows.append(
            [
                *(name, median(first), f"{first['is_met'].sum()} of {num_runs}"),
                *(median(later), f"{later['is_met'].sum()} of {num_runs}"),
                "-" if np.isnan(savings) else f"{savings:.2f}",
                f"{middle.mean:.2f} ({middle.lower:.2f} to {middle.upper:.2f})",
            ]
        )
    return table([titles, *rows])


def comparisons(tests: pd.DataFrame, outcome: str) -> str:
    """Return the table of pairs of conditions."""
    rows = [
        [
            *(row["A"], row["B"], f"{row['P(A > B)']:.2f} ({row['lower']:.2f} to {row['upper']:.2f})"),
            "< 0.001" if row["p (Holm)"] < 0.001 else f"{row['p (Holm)']:.3f}",
        ]
        for _, row in tests[tests["outcome"] == outcome].iterrows()
    ]
    return table([["A", "B", "P(A > B)", "p (Holm)"], *rows])


def groups(outcomes: pd.DataFrame, outcome: str) -> list[tuple[str, pd.DataFrame]]:
    """Return the rows of an outcome by condition, in the order of the experiment."""
    of_one = outcomes[outcomes["outcome"] == outcome]
    return [(str(name), rows) for name, rows in of_one.groupby("condition", sort=False)]


def median(rows: pd.DataFrame) -> str:
    """Return the Kaplan-Meier median of episodes to criterion."""
    middle = kaplan_meier(rows["value"].to_numpy(float), rows["is_met"].to_numpy(bool)).median
    return f"{middle:g}" if np.isfinite(middle) else f"> {rows['value'].max():g}"


if __name__ == "__main__":
    main()
