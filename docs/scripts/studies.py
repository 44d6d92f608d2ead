"""Write the pages of ``docs/studies/`` from the reports of their experiments.

``python -m docs.scripts.studies runs/reversal/report`` copies what the page of that experiment needs from its report
into ``docs/studies/reversal/`` and writes the pages; without a report, it rewrites them from what was copied. No number
on a page is edited by hand.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from docs.scripts.results import ROOT, table
from seqrl_lightning.analysis.statistics import MIN_SEEDS, summarize
from seqrl_lightning.analysis.survival import kaplan_meier

STUDIES = ROOT / "docs" / "studies"
COPIED = {
    "reversal": ("outcomes_data.csv", "tests.csv", "learning.png", "criterion.png", "report.html"),
    "delay_memory": ("outcomes_data.csv", "tests.csv", "learning.png", "outcomes.png", "report.html"),
}
FIRST, LATER = "episodes to criterion in block 0", "episodes to criterion in block 1"
SAVINGS = "savings in block 1"
SPEED, FINAL, CRITERION = "mean return over env steps", "final return", "episodes to criterion"
DELAYS = ("short", "long")
MEMORIES = {
    "lstm": "LSTM",
    "gru": "GRU",
    "min_gru": "MinGRU",
    "transformer": "Transformer",
    "frames": "stacked frames",
}
INTERFERENCE = "share of errors by the previous order in the first 10 episodes of a block"


def main() -> None:
    """Copy a report, if one is given, and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", nargs="?", type=Path, help="the report's folder, like runs/reversal/report")
    report = parser.parse_args().report
    if report is not None:
        study = report.resolve().parent.name
        (STUDIES / study).mkdir(exist_ok=True)
        for name in COPIED[study]:
            shutil.copy(report / name, STUDIES / study / name)
    (STUDIES / "reversal.md").write_text(reversal_page())
    (STUDIES / "delay_memory.md").write_text(delay_memory_page())


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
R2D2 (LSTM, windows of ten steps, prioritized), also with all transitions. The two DQNs differ only in their replay
memory. The other two learners differ from them in several settings, so their results don't hold for tables and
recurrent networks in general. The settings were written down once and not tuned, but the result of seed 1 was known
before the other seeds were run. This page is written by
`python -m docs.scripts.studies` from [the report](reversal/report.html); the measures are those of
[Measures and statistics](../measures.md).

## Result

{conclusion(outcomes, tests)}

{summary(outcomes)}

Episodes to criterion are Kaplan-Meier medians; "> 146" means that fewer than half of the runs met the criterion within
the block, and "met" is the number of runs that did. Savings are the median over seeds, and are left out unless every
run met the criterion in both blocks. Interference is the share of choices in the first ten episodes after the switch
that were errors, but were right at that position in the old order. It is given as the interquartile mean over seeds,
with its 95 % bootstrap interval.

![Learning curves](reversal/learning.png)

![Fraction of runs that met the criterion](reversal/criterion.png)

## Comparisons

{comparisons(tests, LATER)}

Episodes to criterion in the reversed order: P(A > B) is the probability that a run of A takes longer than one of B,
with its 95 % score interval; p comes from a permutation test of the log-rank scores, with Holm's correction for the six
pairs.

{comparisons(tests, INTERFERENCE)}

Interference: P(A > B) is the probability that a run of A has the larger share; p comes from a permutation test of the
means.
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


def delay_memory_page() -> str:
    """Return the text of ``docs/studies/delay_memory.md``."""
    outcomes = pd.read_csv(STUDIES / "delay_memory" / "outcomes_data.csv")
    tests = pd.read_csv(STUDIES / "delay_memory" / "tests.csv")
    seeds = sorted(outcomes["seed"].unique())
    return f"""# Delay and memory

Which memory holds a cue over a short delay, and which over a long one? The cue of `seqrl/DelayedRecall-v0` must be
recalled after 10 or after 30 steps by an LSTM, a GRU, a MinGRU, a Transformer that attends to the last 64 observations,
and a stack of the last 16 observations, which is long enough for the short delay only.

```sh
seqrl experiment configs/experiments/delay_memory.yaml
seqrl compare runs/delay_memory --output runs/delay_memory/report
python -m docs.scripts.studies runs/delay_memory/report
```

The five memories and two delays make ten conditions of
[one experiment](../../configs/experiments/delay_memory.yaml), each with seeds {seeds[0]} to {seeds[-1]} and
60,000 env steps. All settings except the network and the delay are the same; they were chosen for the LSTM at the long
delay ([`delayed_recall_lstm.yaml`](../../configs/delayed_recall_lstm.yaml)) and not tuned for the others. The networks
have 64 hidden units each, but different numbers of weights: MinGRU and Transformer have two layers. This page is
written by `python -m docs.scripts.studies` from [the report](delay_memory/report.html); the measures are those of
[Measures and statistics](../measures.md).

## Result

{memory_conclusion(outcomes, tests)}

{memory_summary(outcomes)}

The table shows interquartile means over seeds, with their 95 % bootstrap intervals. An episode's return is 1 or -1; for
random choices it is -0.5 on average. The mean over training is that of the greedy policy from the first evaluation,
after about 8,000 env steps, to the end: the earlier a network learns, the higher it is.

![Learning curves](delay_memory/learning.png)

![Outcomes of each seed](delay_memory/outcomes.png)

## Comparisons

{comparisons(memory_pairs(tests), SPEED)}

Mean return over training: P(A > B) is the probability that a run of A has a higher value than a run of B, with its 95 %
score interval; p comes from a permutation test of the means, with Holm's correction for all 45 pairs of conditions.
Only pairs with the same delay or the same memory are shown.

Episodes to criterion are not informative here and are left out. An episode is one choice between four objects, so five
right choices in a row also occur by chance: {chance_hits(outcomes)}.
"""


def memory_conclusion(outcomes: pd.DataFrame, tests: pd.DataFrame) -> str:
    """Return the sentences that a paper would have."""
    final, speed = means(outcomes, FINAL), means(outcomes, SPEED)
    every = {
        delay: [MEMORIES[name] for name in MEMORIES if (values(outcomes, FINAL, name, delay) >= 0.99).all()]
        for delay in ("short", "long")
    }
    some = [
        f"with {name}, {(values(outcomes, FINAL, level, 'long') >= 0.99).sum()} of 10 runs do"
        for level, name in MEMORIES.items()
        if name not in every["long"]
    ]
    order = sorted(MEMORIES, key=lambda name: -speed[name, "long"])
    ranked = [f"{speed[name, 'long']:.2f} ({MEMORIES[name]})" for name in order]
    pairs = memory_pairs(tests)
    pairs = pairs[pairs["outcome"] == SPEED]
    slower = [
        MEMORIES[name] for name in MEMORIES if _p(pairs, f"{MEMORIES[name]}, short", f"{MEMORIES[name]}, long") < 0.05
    ]
    at_long = pairs[pairs["A"].str.endswith("long") & pairs["B"].str.endswith("long")]
    same = [f"{a} and {b}" for a, b in at_long.loc[at_long["p (Holm)"] >= 0.05, ["A", "B"]].to_numpy()]
    found = f"no difference was found between {', or '.join(same)}" if same else "all ten pairs differ"
    return " ".join(
        [
            f"Over the short delay, every run with {listed(every['short'])} ends with a return of 1; over the long "
            f"one, every run with {listed(every['long'])} does ({listed(some)}).",
            "The stack of frames, which can't reach the cue over the long delay, ends at "
            f"{final['frames', 'long']:.2f}, which is about the return of random choices.",
            f"The longer delay slows learning with {listed(slower)} (mean return over training, p < 0.05 after Holm's "
            "correction).",
            f"Over the long delay, the mean return over training is {', '.join(ranked)}; {found}.",
        ]
    )


def memory_summary(outcomes: pd.DataFrame) -> str:
    """Return the table of memories by delays."""
    titles = ["memory"] + [
        f"{title}, {delay} delay" for title in ("mean return over training", "final return") for delay in DELAYS
    ]
    rows = [
        [
            MEMORIES[name],
            *(interval(values(outcomes, outcome, name, delay)) for outcome in (SPEED, FINAL) for delay in DELAYS),
        ]
        for name in MEMORIES
    ]
    return table([titles, *rows])


def memory_pairs(tests: pd.DataFrame) -> pd.DataFrame:
    """Return the tests of conditions with the same memory or the same delay, by the page's names."""
    levels = {side: tests[side].str.extract(r"memory=(\w+), delay=(\w+)") for side in ("A", "B")}
    shown = (levels["A"] == levels["B"]).any(axis=1)
    named = {side: levels[side][0].map(MEMORIES) + ", " + levels[side][1] for side in ("A", "B")}
    return tests.assign(**named)[shown]


def chance_hits(outcomes: pd.DataFrame) -> str:
    """Say how often the criterion was met where nothing was learned."""
    of_one = outcomes[(outcomes["outcome"] == CRITERION) & (outcomes["condition"] == "memory=frames, delay=long")]
    return (
        "the stack of frames, which learned nothing over the long delay, met the criterion in "
        f"{of_one['is_met'].sum()} of {len(of_one)} runs"
    )


def values(outcomes: pd.DataFrame, outcome: str, memory: str, delay: str) -> "pd.Series[float]":
    """Return an outcome of each run of a condition."""
    is_one = (outcomes["outcome"] == outcome) & (outcomes["condition"] == f"memory={memory}, delay={delay}")
    return outcomes.loc[is_one, "value"]


def means(outcomes: pd.DataFrame, outcome: str) -> dict[tuple[str, str], float]:
    """Return the interquartile means of an outcome by memory and delay."""
    return {
        (name, delay): summarize(values(outcomes, outcome, name, delay).to_numpy()).mean
        for name in MEMORIES
        for delay in DELAYS
    }


def interval(found: "pd.Series[float]") -> str:
    """Return an interquartile mean with its interval."""
    middle = summarize(found.to_numpy())
    return f"{middle.mean:.2f} ({middle.lower:.2f} to {middle.upper:.2f})"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _p(pairs: pd.DataFrame, a: str, b: str) -> float:
    (p,) = pairs.loc[(pairs["A"] == a) & (pairs["B"] == b), "p (Holm)"]
    return float(p)


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
