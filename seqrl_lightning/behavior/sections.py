"""The sections of a report on models of behavior."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from seqrl_lightning.analysis.canvas import PAGE, add_legend, as_text, new_figure, new_grid, title_panel
from seqrl_lightning.analysis.looks import COLORS
from seqrl_lightning.analysis.report import Section, written_by
from seqrl_lightning.behavior.checks import MEASURES, check, score_name
from seqrl_lightning.behavior.comparison import (
    chance_log_likelihood,
    compare_groups,
    criteria,
    random_effects_selection,
)
from seqrl_lightning.behavior.fits import Fit
from seqrl_lightning.behavior.histories import Histories
from seqrl_lightning.behavior.models import QLearning, Sarsa
from seqrl_lightning.behavior.recovery import (
    LEAST_CORRELATION,
    evidence,
    inversion,
    recover_models,
    recover_parameters,
    summarize_recovery,
)
from seqrl_lightning.types import FloatArray, shortened

_WORSE = 1.01  # times the log-likelihood of chance: no fit that succeeded falls below it
_METHOD_NAMES = {
    "hierarchical": "by expectation-maximization with Laplace's approximation (Huys et al. 2011)",
    "map": "by maximum a posteriori",
    "ml": "by maximum likelihood",
}


@dataclass(frozen=True)
class Comparison:
    """Models that were fitted to the same choices."""

    histories: Histories
    fits: Mapping[str, Fit]  # by the model's name
    selected_by: Mapping[str, Fit]  # fits whose evidence doesn't rest on the other subjects' choices
    held_out: Mapping[str, FloatArray]  # [N] float64: log-likelihood of choices that were left out; empty without any

    @property
    def best(self) -> str:
        """The name of the model to rely on: with the best sum over subjects of what :attr:`criterion` names."""
        if self.held_out:
            return max(self.fits, key=lambda name: self.held_out[name].sum())
        if self.is_hierarchical:
            return min(self.fits, key=lambda name: self.fits[name].integrated_bic)
        return min(self.fits, key=lambda name: self.fits[name].bic.sum())

    @property
    def criterion(self) -> str:
        """Name the criterion that the best model is chosen by."""
        if self.held_out:
            return "the highest held-out log-likelihood"
        return "the lowest integrated BIC" if self.is_hierarchical else "the lowest BIC"

    @property
    def is_hierarchical(self) -> bool:
        """Whether the fits are hierarchical."""
        return next(iter(self.fits.values())).method == "hierarchical"


def sections_on_models(compared: Comparison, command: str, recovers: bool, seed: int) -> list[Section]:
    """All sections of the report.

    Args:
        compared: The models.
        command: The command that writes the report.
        recovers: Whether parameters and models are recovered, too.
        seed: Seed of the simulations.
    """
    best = compared.fits[compared.best]
    sections = [models(compared, seed), parameters(compared)]
    if len(compared.histories.groups) > 1 and best.group_level is not None:
        sections.append(groups(best))
    sections.append(checks(best, compared.histories, seed))
    if recovers:
        sections += [recovered_parameters(best, compared.histories, seed), recovered_models(compared, seed)]
    else:
        why = "Left out: --recover simulates subjects with known models and parameters, and fits them again."
        sections.append(Section("recovery", "Recovery", why))
    return [*sections, methods(compared, command)]


def cautions(compared: Comparison) -> list[str]:
    """Describe, in a sentence each, likely mistakes in the table and the fits."""
    histories, said = compared.histories, []
    if histories.left_out:
        said.append(f"These subjects made no choice, and are left out: {', '.join(histories.left_out)}.")
    taken = np.bincount(histories.action[histories.is_choice], minlength=histories.num_actions)
    if histories.allowed.all() and not taken.all():
        never = ", ".join(map(str, np.flatnonzero(taken == 0)))
        said.append(f"Nobody took action {never}; if it was not there to choose, say so in the column allowed.")
    if (histories.allowed.sum(-1) < 2)[histories.is_choice].all():
        said.append("There was one action to choose from: the choices say nothing about any model.")
    rewards = np.unique(histories.reward[histories.is_choice])
    if len(rewards) == 1:
        said.append(f"All rewards are {rewards[0]:g}: the choices say little about how subjects learn from rewards.")
    chance = chance_log_likelihood(histories).sum()
    for name, found in compared.fits.items():
        if found.log_likelihood.sum() < _WORSE * chance:
            said.append(f"{name} fits worse than chance: its fit failed. Rewards of up to 1 may help.")
        looks_ahead = isinstance(found.model, QLearning | Sarsa) and "gamma" in found.model.free
        if looks_ahead and histories.num_positions == 1:
            said.append(f"{name} has nothing to look ahead to: the table has no episodes of several choices.")
        unknown = found.standard_errors.isna()
        if found.method == "ml" and unknown.any(axis=None):
            which = ", ".join(map(str, unknown.columns[unknown.any()]))
            who = shortened(", ".join(map(str, unknown.index[unknown.any(axis=1)])))
            said.append(f"The choices of {who} don't determine {which} of {name}; give --method map.")
    return said


def models(compared: Comparison, seed: int) -> Section:
    """The comparison of the models."""
    table = model_table(compared, seed)
    names = list(compared.fits)
    criterion = "iBIC" if compared.is_hierarchical else "BIC"
    figure, (left, right) = new_figure(PAGE, 1.0 + 0.22 * len(names), 2)
    left.barh(names, (table[criterion] - table[criterion].min())[names], color=COLORS[0])
    left.set(xlabel=f"{criterion}, less the lowest")
    right.barh(names, table["protected_exceedance"][names], color=COLORS[1])
    right.set(xlabel="protected exceedance probability", xlim=(0, 1), yticks=[])
    left.invert_yaxis()
    right.invert_yaxis()
    text = (
        f"{compared.best} has {compared.criterion}. log_likelihood, AIC and BIC are sums over subjects; pseudo_r2 is "
        "the mean of McFadden's, which is 0 at chance; is_best counts the subjects for whom the model has the lowest "
        "BIC. frequency is the model's expected share of the population and protected_exceedance the probability that "
        "it is the most frequent one, by random-effects selection (Stephan et al. 2009; Rigoux et al. 2014) from "
        "Laplace's approximation of the evidence under the models' own priors, or from BIC for maximum likelihood."
    )
    if compared.held_out:
        text += " held_out is the mean log-likelihood of a choice in a session or block that was left out of the fit."
    if len(compared.held_out) > len(compared.fits):
        text += " GRU(n) is a recurrent network of n units, which predicts choices without a theory of them."
    text = " ".join([text, *(f"WARNING: {caution}" for caution in cautions(compared))])
    data = criteria(compared.fits, compared.histories).reset_index()
    return Section("models", "Models", text, figure, table, data)


def model_table(compared: Comparison, seed: int) -> pd.DataFrame:
    """The comparison of the models, a row for each."""
    of_subjects = criteria(compared.fits, compared.histories).groupby("model", sort=False)
    table = of_subjects[["log_likelihood", "AIC", "BIC", "is_best"]].sum()
    table.insert(0, "parameters", [found.num_parameters for found in compared.fits.values()])
    table["pseudo_r2"] = of_subjects["pseudo_r2"].mean()
    if compared.is_hierarchical:
        table["iBIC"] = [found.integrated_bic for found in compared.fits.values()]
    selection = random_effects_selection(np.stack([evidence(one) for one in compared.selected_by.values()], 1), seed)
    table["frequency"], table["protected_exceedance"] = selection.frequency, selection.protected
    if compared.held_out:
        num_choices = compared.histories.num_choices.sum()
        of_choice = pd.Series({name: values.sum() / num_choices for name, values in compared.held_out.items()})
        table = table.reindex(of_choice.index.rename("model")).assign(held_out=of_choice)
    return table


def parameters(compared: Comparison) -> Section:
    """The parameters of the best model; those of all models as data."""
    best = compared.fits[compared.best]
    data = pd.concat([_parameters_of(found).assign(model=name) for name, found in compared.fits.items()])
    if not best.model.free:
        return Section("parameters", "Parameters", f"{compared.best} has no parameters.", None, None, data)
    names = list(best.model.free)
    figure, panels = new_grid(len(names), 2.2)
    group = compared.histories.group
    for axes, name in zip(panels, names, strict=True):
        for g in range(len(compared.histories.groups)):
            values = best.parameters[name].to_numpy()[group == g]
            spread = g + np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else [g]
            axes.scatter(spread, values, s=12, alpha=0.7, color=COLORS[g % len(COLORS)], linewidths=0)
            axes.hlines(np.median(values), g - 0.3, g + 0.3, color=COLORS[g % len(COLORS)], linewidth=2)
        title_panel(axes, name)
        axes.set(xticks=range(len(compared.histories.groups)), xlim=(-0.6, len(compared.histories.groups) - 0.4))
        axes.set_xticklabels([as_text(label) for label in compared.histories.groups])
    text = f"Parameters of {compared.best}, a point for each subject, and the median. "
    if best.group_level is None:
        return Section("parameters", "Parameters", text, figure, best.parameters.describe().T, data)
    text += (
        "The table has the groups' distributions: the median with its 95 % interval, by t on the scale without bounds, "
        "and mean and standard deviation on that scale. Subjects' estimates are shrunk toward their group's."
    )
    return Section("parameters", "Parameters", text, figure, group_table(best), data)


def group_table(found: Fit) -> pd.DataFrame:
    """The distributions of a hierarchical fit, a row for each group and parameter."""
    level = found.group_level
    assert level is not None
    rows = {}
    for g, group in enumerate(level.names):
        for i, (name, spec) in enumerate(found.model.free.items()):
            mean, error = level.mean[g, i], level.mean_error[g, i]
            reach = stats.t.ppf(0.975, level.num_subjects[g] - 1) * error
            median, lower, upper = spec.bounded(mean + reach * np.array([0.0, -1.0, 1.0]))
            rows[group, name] = median, lower, upper, mean, error, level.sd[g, i]
    columns = ["median", "lower", "upper", "mean", "mean_error", "sd"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    table.index = pd.MultiIndex.from_tuples(rows, names=["group", "parameter"])
    return table


def groups(best: Fit) -> Section:
    """The comparison of groups."""
    text = (
        f"Differences between groups in the parameters of {best.model.name}: Welch's t-tests of the groups' means, on "
        "the scale without bounds. The tests are not corrected for their number."
    )
    return Section("groups", "Groups", text, None, compare_groups(best))


def checks(best: Fit, histories: Histories, seed: int) -> Section:
    """The posterior predictive checks of the best model."""
    table = check(best, histories, seed=seed)
    shown = list(dict.fromkeys(table["measure"]))
    figure, panels = new_grid(len(shown), 2.4)
    for axes, name in zip(panels, shown, strict=True):
        of_one = table[table["measure"] == name]
        axes.fill_between(of_one["x"], of_one["lower"], of_one["upper"], color=COLORS[1], alpha=0.25, linewidth=0)
        axes.plot(of_one["x"], of_one["simulated"], color=COLORS[1], label="simulated")
        axes.plot(of_one["x"], of_one["value"], color=COLORS[0], marker="o", markersize=3, label="subjects")
        axes.set(xlabel=MEASURES[name], ylabel="fraction repeated" if name == "repeats" else score_name(histories))
        if name == "repeats":
            axes.set(xticks=[0, 1])
            axes.set_xticklabels(["no", "yes"])
    add_legend(figure, panels)
    outside = (table["value"] < table["lower"]) | (table["value"] > table["upper"])
    text = (
        f"The choices, and those of each subject as fitted by {best.model.name} and simulated 20 times in the table's "
        "task: states and outcomes are copied from the subject's own rows. Bands hold 95 % of the simulations; "
        f"{int(outside.sum())} of {len(table)} points lie outside."
    )
    return Section("checks", "Posterior predictive checks", text, figure, None, table)


def recovered_parameters(best: Fit, histories: Histories, seed: int) -> Section:
    """The recovery of the best model's parameters."""
    title = "Recovery of parameters"
    if not best.model.free:
        return Section("recovery", title, f"{best.model.name} has no parameters.")
    recovered = recover_parameters(best, histories, seed)
    table = summarize_recovery(recovered)
    figure, panels = new_grid(len(table), 2.2)
    for axes, (name, of_one) in zip(panels, recovered.groupby("parameter", sort=False), strict=True):
        axes.scatter(of_one["true"], of_one["found"], s=12, alpha=0.7, color=COLORS[0], linewidths=0)
        ends = of_one[["true", "found"]].to_numpy()
        axes.plot([ends.min(), ends.max()], [ends.min(), ends.max()], color="0.4", linestyle=":", linewidth=1)
        title_panel(axes, name)
        axes.set(xlabel="true", ylabel="found")
    text = (
        f"As many subjects as in the table were simulated by {best.model.name}, in the table's task, with parameters "
        "from the distribution that was fitted, and fitted again. Correlations and the mean error are on the "
        "scale without bounds."
    )
    is_computed = table["correlation"].notna()
    if unknown := list(table.index[~is_computed]):
        text += (
            f" No correlation can be computed for {', '.join(unknown)}, as its values do not differ between subjects: "
            "whether they are recovered is not known."
        )
    if lost := list(table.index[is_computed & ~table["is_recovered"]]):
        text += (
            f" WARNING: with this design, {', '.join(lost)} can't be recovered (correlation below "
            f"{LEAST_CORRELATION}): don't interpret differences between subjects in it."
        )
    return Section("recovery", title, text, figure, table, recovered)


def recovered_models(compared: Comparison, seed: int) -> Section:
    """The recovery of models."""
    confusion = recover_models(compared.selected_by, compared.histories, seed)
    matrices = {"P(best | simulated)": confusion, "P(simulated | best)": inversion(confusion)}
    figure = _draw_matrices(matrices)
    text = (
        "As many subjects as in the table were simulated by each model, with parameters from the distribution that was "
        "fitted, and fitted by all models. Left: the fraction of subjects for whom each model then had the most "
        "evidence (confusion matrix). Right: how probable it is that a model was simulated if the one of the "
        "column fits best, with all models equally frequent (inversion matrix)."
    )
    data = inversion(confusion).rename_axis("simulated").reset_index()
    return Section("model_recovery", "Recovery of models", text, figure, confusion, data)


def methods(compared: Comparison, command: str) -> Section:
    """A paragraph for a paper, and the subjects."""
    histories = compared.histories
    method = next(iter(compared.fits.values())).method
    text = (
        f"{len(compared.fits)} models were fitted to {int(histories.num_choices.sum())} choices of "
        f"{histories.num_subjects} subjects, {_METHOD_NAMES[method]}. {written_by(command)}"
    )
    columns = {"group": np.array(histories.groups)[histories.group], "choices": histories.num_choices}
    table = pd.DataFrame(columns, index=pd.Index(histories.subjects, name="subject"))
    return Section("methods", "Methods", text, None, table)


def _parameters_of(found: Fit) -> pd.DataFrame:
    """Return a row for each subject and parameter, with the estimate and its standard error."""
    names = ["subject", "parameter"]
    columns = {"value": found.parameters, "standard_error": found.standard_errors}
    return pd.DataFrame(
        {name: table.rename_axis(columns=names[1]).stack() for name, table in columns.items()}
    ).reset_index()


def _draw_matrices(matrices: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw matrices of probabilities, with their numbers."""
    figure, panels = new_figure(PAGE, 3.6, len(matrices))
    digits = min(8.0, 44 / max(len(matrix) for matrix in matrices.values()))  # that fit into a cell
    for axes, (title, matrix) in zip(panels, matrices.items(), strict=True):
        axes.imshow(matrix.to_numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.grid(visible=False)
        for row, column in np.ndindex(matrix.shape):
            value = matrix.iloc[row, column]
            color = "white" if value > 0.6 else "black"
            axes.text(
                column,
                row,
                "" if np.isnan(value) else f"{value:.2f}",
                ha="center",
                va="center",
                color=color,
                size=digits,
            )
        title_panel(axes, title)
        axes.set(xlabel="best", ylabel="simulated")
        axes.set(xticks=range(matrix.shape[1]), yticks=range(len(matrix)))
        axes.set_xticklabels(matrix.columns, rotation=40, ha="right")
        axes.set_yticklabels(matrix.index if axes is panels[0] else [""] * len(matrix))
    return figure
