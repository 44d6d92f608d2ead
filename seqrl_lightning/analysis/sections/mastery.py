"""The section on episodes to criterion and savings."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from seqrl_lightning.analysis import canvas, figures
from seqrl_lightning.analysis.chance import Chance
from seqrl_lightning.analysis.definitions import SAVINGS, episodes_to_criterion
from seqrl_lightning.analysis.measures import criterion_by_block
from seqrl_lightning.analysis.outcomes import savings_in
from seqrl_lightning.analysis.report import Section
from seqrl_lightning.analysis.runs import Run
from seqrl_lightning.analysis.sections.agreement import mastery_in_words, number_of_seeds
from seqrl_lightning.analysis.survival import kaplan_meier

_LONGER_THAN_TRAINING = 1_000_000  # episodes, beyond which their number says no more


def criterion(runs: Sequence[Run], chances: Mapping[str, Chance]) -> Section:
    """Episodes to criterion, and savings."""
    facts = runs[0].facts
    if facts.mastery_return is None:
        why = (
            "The task does not state when it is mastered: it has neither an attribute optimal_return nor a "
            "reward_threshold in its registration."
        )
        return Section("criterion", "Episodes to criterion", why)
    of_seed = {run.seed: criterion_by_block(run.episodes, facts) for run in runs}
    data = pd.concat(of_seed, names=["seed"]).reset_index()
    by_block = {f"block {block}": rows.set_index("seed") for block, rows in data.groupby("block")}
    table = _table(by_block, of_seed, facts.num_blocks)
    figure, (axes,) = canvas.new_figure(canvas.COLUMN, figures.height_of_points(len(by_block)))
    points = {name: rows["episodes"].to_numpy(float) for name, rows in by_block.items()}
    met = {name: rows["is_met"].to_numpy() for name, rows in by_block.items()}
    figures.draw_points(axes, points, "episodes to criterion", met)
    text = (
        f"{episodes_to_criterion(mastery_in_words({'': runs}))} Each seed, and as a line their Kaplan-Meier median; "
        f"{number_of_seeds({'': runs})}. A hollow triangle, and > in the table, is a block that ended without the "
        f"criterion; it counts as slower than that. {SAVINGS} There are none if a block did not meet the criterion, or "
        "the first met it at once. " + by_chance(chances, dict.fromkeys(chances, runs))
    )
    return Section("criterion", "Episodes to criterion", text, figure, table, data)


def _table(by_block: Mapping[str, pd.DataFrame], of_seed: Mapping[int, pd.DataFrame], num_blocks: int) -> pd.DataFrame:
    """A row for each seed, and one of medians: the episodes to criterion of each block, then the savings."""
    table = pd.DataFrame({name: rows.apply(_as_bound, axis=1) for name, rows in by_block.items()})
    for block in range(1, num_blocks):
        savings = {seed: savings_in(of_one, block) for seed, of_one in of_seed.items()}
        table[f"savings, block {block}"] = pd.Series(savings)
    medians = {name: _median(rows) for name, rows in by_block.items()}
    saved = table.filter(like="savings").median(skipna=False)  # of all seeds or none: the others learned faster
    table.loc["median"] = pd.Series(medians | saved.to_dict())
    return table


def by_chance(chances: Mapping[str, Chance], groups: Mapping[str, Sequence[Run]]) -> str:
    """State how soon random choices would meet the criterion, and where that makes it tell little about learning.

    Args:
        chances: The chance level of each condition.
        groups: The conditions' runs.
    """
    if not any(np.isfinite(chance.most) for chance in chances.values()):
        return "No random episode was mastered, so the criterion is not met by chance."
    words = [_number_by_chance(chance) for chance in chances.values()]
    by_name = "; ".join(f"{name}: {word}" for name, word in zip(chances, words, strict=True))
    named = words[0] if len(set(words)) == 1 else by_name
    text = (
        "By chance alone, with random choices, it would be met after that many episodes on average (95 % interval, "
        f"from playing the task): {named}."
    )
    lengths = {name: max(_longest_block(run) for run in runs) for name, runs in groups.items()}
    likely = [name for name, chance in chances.items() if chance.is_likely_within(lengths[name])]
    if not likely:
        return text
    where = "Here" if len(likely) == len(chances) else f"In {'; '.join(likely)}"
    return (
        f"{text} {where}, blocks are so long that random choices meet it with a probability above 5 %: it says little "
        "about learning."
    )


def _number_by_chance(chance: Chance) -> str:
    if chance.fewest > _LONGER_THAN_TRAINING:
        return f"more than {_LONGER_THAN_TRAINING:,}" if np.isfinite(chance.most) else "never"
    return f"{chance.fewest:,.0f} to {chance.most:,.0f}"


def _longest_block(run: Run) -> int:
    """Return the number of episodes of a run's longest block."""
    return int(run.episodes.groupby("block").size().max())


def _as_bound(row: pd.Series) -> str:
    return f"{'' if row['is_met'] else '> '}{row['episodes']}"


def _median(rows: pd.DataFrame) -> str:
    """The Kaplan-Meier median of a block's episodes to criterion."""
    median = kaplan_meier(rows["episodes"].to_numpy(float), rows["is_met"].to_numpy()).median
    return f"{median:g}" if np.isfinite(median) else f"> {rows['episodes'].max():g}"
