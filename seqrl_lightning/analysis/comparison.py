"""The sections of a report that compares conditions."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from seqrl_lightning.analysis import figures
from seqrl_lightning.analysis.chance import Chance, chances_of
from seqrl_lightning.analysis.conditions import Groups
from seqrl_lightning.analysis.curves import Axis, note_on_lengths
from seqrl_lightning.analysis.definitions import FINAL_RETURN, GREEDY, TRIALS_TO_CRITERION, episodes_to_criterion
from seqrl_lightning.analysis.factors import Crossing, crossing_of, effects
from seqrl_lightning.analysis.outcomes import (
    Outcome,
    compare,
    different_rules,
    final_returns,
    in_block,
    is_complete,
    outcomes,
    shared_blocks,
    why_left_out,
)
from seqrl_lightning.analysis.report import Section
from seqrl_lightning.analysis.sections import by_chance, learning, positions, probed_errors, returns, warning
from seqrl_lightning.analysis.sections.agreement import (
    block_titles,
    by_value,
    mastery_in_words,
    num_runs_of,
    number_of_seeds,
)
from seqrl_lightning.analysis.statistics import (
    LEVEL,
    MIN_SEEDS,
    SPREAD,
    holm,
    performance_profile,
    seeds_needed,
    smallest_p,
)
from seqrl_lightning.analysis.survival import Survival, kaplan_meier

_SEEDS_OF_SMALLEST_P = 20  # from fewer on, more seeds make no p smaller: not all divisions are tried


def sections_on_conditions(groups: Groups, axis: Axis, effect: float | None = None) -> list[Section]:
    """All sections that compare several conditions.

    Args:
        groups: Runs of one task, by condition.
        axis: The x axis of curves.
        effect: The smallest probability of improvement that matters, for planning; None to leave that out.
    """
    every, chances = outcomes(groups, axis), chances_of(groups)
    found = [outcome for outcome in every if not why_left_out(outcome)]
    left_out = [outcome for outcome in every if why_left_out(outcome)]
    sections = [
        learning(groups, axis, chances),
        returns(groups),
        *criteria(found, groups, chances),
        seeds(every, groups, axis),
        tests(found, left_out, groups),
    ]
    if (crossing := crossing_of(groups)) is not None:
        sections.append(factorial(found, crossing))
    if effect is not None:
        sections.append(planning(effect, groups))
    if all(run.trials is not None for runs in groups.values() for run in runs):
        sections.append(positions(groups))
        if all(run.facts.num_objects is not None for runs in groups.values() for run in runs):
            sections.append(probed_errors(groups))
    return [*sections, profiles(groups)]


def criteria(found: Sequence[Outcome], groups: Groups, chances: Mapping[str, Chance]) -> list[Section]:
    """The fraction of runs that have met the criterion, over the episodes and over the trials of each block."""
    times = [outcome for outcome in found if outcome.is_met is not None]
    if not times:
        return [Section("criterion", "Learning the rule", "The task does not state when it is mastered.")]
    return [
        _criterion_over(unit, of_unit, groups, chances)
        for unit in ("episodes", "trials")
        if (of_unit := [outcome for outcome in times if outcome.name.startswith(unit)])
    ]


def _criterion_over(unit: str, times: Sequence[Outcome], groups: Groups, chances: Mapping[str, Chance]) -> Section:
    """The fraction of runs that have met the criterion, over the episodes or the trials of each block."""
    titles, num_blocks = block_titles(groups), shared_blocks(groups)
    title_of = {f"{unit} to criterion{in_block(k, num_blocks)}": titles[k] for k in range(num_blocks)}
    curves = {title_of[outcome.name]: _survival(outcome) for outcome in times}
    figure = figures.draw_survival(curves, num_runs_of(groups), f"{unit} of the block")
    text = (
        f"Fraction of runs that have met the criterion after that many {unit} of the block, by the Kaplan-Meier "
        "estimate, in which runs that never meet it count. A curve ends where the last run met it or the block ended; "
        f"{number_of_seeds(groups)}. {episodes_to_criterion(mastery_in_words(groups))}"
    )
    if unit == "trials":
        text += TRIALS_TO_CRITERION
        return Section("criterion_trials", "Learning the rule, in trials", text, figure, None, _tidy(times, groups))
    text += f" {by_chance(chances, groups)}"
    return Section("criterion", "Learning the rule", text, figure, None, _tidy(times, groups))


def _survival(outcome: Outcome) -> dict[str, Survival]:
    """The fraction of runs that have not met the criterion, by condition."""
    assert outcome.is_met is not None
    return {name: kaplan_meier(values, outcome.is_met[name]) for name, values in outcome.values.items()}


def seeds(every: Sequence[Outcome], groups: Groups, axis: Axis) -> Section:
    """Every outcome of every seed; the figure shows those by which conditions can be compared."""
    shown = [outcome for outcome in every if outcome.is_met is None and not why_left_out(outcome)]
    if not shown:
        return Section("outcomes", "Outcomes", "The runs have no outcome in common.")
    figure = figures.draw_outcomes({outcome.name: outcome.values for outcome in shown})
    text = f"Every seed, and below it {SPREAD}; {number_of_seeds(groups)}. {GREEDY}. {definitions_of(shown)}"
    if notes := [outcome.note for outcome in shown if outcome.note]:
        text += f" {' '.join(notes)}{note_on_lengths(groups, axis)}"
    return Section("outcomes", "Outcomes", text, figure, None, _tidy(every, groups))


def definitions_of(found: Sequence[Outcome]) -> str:
    """Return the definition of each outcome, once where several have the same one."""
    return " ".join(dict.fromkeys(outcome.definition for outcome in found))


def tests(found: Sequence[Outcome], left_out: Sequence[Outcome], groups: Groups) -> Section:
    """Each two conditions, compared by every outcome by which they can be."""
    omitted = _omitted(left_out)
    if not found:
        return Section("tests", "Comparisons", f"The runs have no outcome in common.{omitted}")
    table = pd.concat([compare(outcome) for outcome in found], ignore_index=True)
    text = (
        f"The outcomes are defined under {_where_defined(found)}. A's and B's middle: the interquartile mean or, for "
        "times to criterion, the Kaplan-Meier median (inf where fewer than half of the runs met it). P(A > B): the "
        "probability that a run of A has the larger number, ties counting half, with its 95 % score interval "
        "(Newcombe, 2006, method 5); Cliff's delta is 2 P - 1. p: two-sided permutation test of the means or, for "
        "times to criterion, of the log-rank scores; p (Holm): adjusted for the pairs of conditions, but not for the "
        f"number of outcomes, so choose the outcome that you test before you look.{omitted}{warning(groups)}"
    )
    if table["p"].isna().all():
        text += f" There is no test: it takes {MIN_SEEDS} seeds in each condition."
    text += too_few_for_tests(groups) + note_on_shared_seeds(groups)
    return Section("tests", "Comparisons", text, None, table.set_index(["outcome", "A", "B"]))


def _omitted(left_out: Sequence[Outcome]) -> str:
    """Name the outcomes that are left out, by the reason."""
    reasons = by_value({outcome.name: why_left_out(outcome) for outcome in left_out})
    return "".join(f" Left out, because {why}: {'; '.join(names)}." for why, names in reasons.items())


def _where_defined(found: Sequence[Outcome]) -> str:
    """Name the sections whose captions define these outcomes."""
    kinds = {outcome.is_met is None for outcome in found}
    titles = {False: "Learning the rule", True: "Outcomes"}
    return " and ".join(titles[kind] for kind in titles if kind in kinds)


def too_few_for_tests(groups: Groups) -> str:
    """Return the sentence that no two conditions can differ significantly with these seeds; empty if they can."""
    sizes = [len(runs) for runs in groups.values()]
    smallest = np.array([smallest_p(a, b) for a, b in combinations(sizes, 2) if min(a, b) >= MIN_SEEDS])
    if not len(smallest) or (reached := holm(smallest).min()) <= 1 - LEVEL:
        return ""
    fewest = [n for n in range(MIN_SEEDS, _SEEDS_OF_SMALLEST_P) if smallest_p(n, n) * len(smallest) <= 1 - LEVEL]
    remedy = f"{fewest[0]} seeds in each condition, or fewer conditions" if fewest else "fewer conditions"
    return (
        f" No pair can reach 5 %: with {len(smallest)} pairs and these seeds, the smallest p (Holm) is {reached:.2g}, "
        f"even where no two runs overlap. It takes {remedy}."
    )


def note_on_shared_seeds(groups: Groups) -> str:
    """Return the sentence on runs of one seed in several conditions; empty if no seed is in two of them."""
    seeds = [run.seed for runs in groups.values() for run in runs]
    if len(set(seeds)) == len(seeds):
        return ""
    return (
        " Conditions share seeds, and runs of one seed draw the same random numbers, so their outcomes tend to be "
        "similar. The tests compare runs as if they were independent, which makes them conservative: without an effect "
        "they reject less often than in 5 %."
    )


def factorial(found: Sequence[Outcome], crossing: Crossing) -> Section:
    """Main effects and the interaction of two factors."""
    measured = [outcome for outcome in found if is_complete(outcome)]
    if not measured:
        return Section("factors", "Two factors", "Every outcome is censored in some run.")
    text = (
        "Contrasts of the conditions' means: a main effect is the difference between a level and the first, averaged "
        "over the other factor; an interaction is the difference between such effects of the first factor at a level "
        "and at the first level of the other. Lower and upper are the 95 % studentized bootstrap interval, in which "
        f"runs are resampled within each condition; there is none with fewer than {MIN_SEEDS} seeds in one of them. "
        "Intervals are not adjusted for their number. Outcomes that are censored in some run are left out."
    )
    table = pd.concat([effects(outcome, crossing) for outcome in measured])
    return Section("factors", "Two factors", text, None, table)


def planning(effect: float, groups: Groups) -> Section:
    """Return the number of seeds needed to detect an effect of interest."""
    needed = seeds_needed(effect)
    numbers = ", ".join(f"{name} {len(runs)}" for name, runs in groups.items())
    text = (
        f"To find a probability of improvement of {effect:g} between two conditions with a power of 80 % at the level "
        f"of 5 %, each needs {needed} seeds (Noether, 1987, for the Mann-Whitney test, without correction for several "
        f"pairs). There are: {numbers}." + too_few_for_tests(groups)
    )
    table = pd.DataFrame({"seeds": [needed]}, index=pd.Index([effect], name="effect"))
    return Section("planning", "Seeds that it takes", text, None, table)


def profiles(groups: Groups) -> Section:
    """Performance profiles."""
    scores = {name: final_returns(runs) for name, runs in groups.items()}
    every = np.concatenate(list(scores.values()))
    if np.isnan(every).any():
        return Section("profiles", "Performance profiles", "A run was not evaluated in its last block.")
    if differing := different_rules(groups):
        return Section("profiles", "Performance profiles", f"The {differing}.")
    margin = 0.05 * (every.max() - every.min() or 1.0)
    thresholds = np.linspace(every.min() - margin, every.max() + margin, 201)
    drawn = {name: performance_profile(values, thresholds) for name, values in scores.items()}
    text = (
        "Fraction of runs that end with more than each return τ (Agarwal et al., 2021): higher is better; "
        f"{number_of_seeds(groups)}. {FINAL_RETURN} {GREEDY}."
    )
    data = pd.DataFrame(drawn, index=pd.Index(thresholds, name="return"))
    data = data.melt(ignore_index=False, var_name="condition", value_name="fraction").reset_index()
    figure = figures.draw_profiles(drawn, thresholds, num_runs_of(groups))
    return Section("profiles", "Performance profiles", text, figure, None, data)


def _tidy(found: Sequence[Outcome], groups: Groups) -> pd.DataFrame:
    """A row for each outcome, condition and run; without a value where the run has none."""
    rows = []
    for outcome in found:
        for name, values in outcome.values.items():
            met = np.ones(len(values), bool) if outcome.is_met is None else outcome.is_met[name]
            of_runs = zip(groups[name], values, met, strict=True)
            rows += [(outcome.name, name, run.seed, value, is_met) for run, value, is_met in of_runs]
    return pd.DataFrame(rows, columns=["outcome", "condition", "seed", "value", "is_met"])
