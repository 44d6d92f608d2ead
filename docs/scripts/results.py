"""Write the measured results into README, docs and configs: ``python -m docs.scripts.results``.

From ``benchmarks/results/learning_*.json`` (written by :mod:`benchmarks.learning`) it writes ``docs/results.md`` with a
table of all configs and one for each config, the learning curves of each task (``docs/images/curves_<task>.png``), the
rows of ``README_CONFIGS`` in ``README.md`` between its two markers, the first line of each config, and, in the other
pages of ``docs/``, the text between ``<!-- measured: NAMES -->`` and ``<!-- end of measured -->``, with the curve of
each config named there. The tables between ``<!-- benchmark: NAME -->`` and ``<!-- end of benchmark -->`` come from the
results of ``throughput``, ``replay``, ``gpu``, ``bunching``, ``plasticity``, ``startup`` and ``offline``, whose curves
are drawn, too. None of these are edited by hand.
"""

import argparse
import json
import os
import re
import shlex
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml

from benchmarks import bunching, gpu, offline, plasticity, replay, startup, throughput
from benchmarks.learning import RESULTS
from seqrl_lightning.analysis.statistics import interquartile_mean, interquartile_mean_interval
from seqrl_lightning.functional import CRITERION_EPISODES

ROOT = Path(__file__).parents[2]
MARKERS = ("<!-- results: python -m docs.scripts.results -->", "<!-- end of results -->")
MEASURED = re.compile(r"(<!-- measured: (.*?) -->\n).*?(<!-- end of measured -->)", re.DOTALL)
BENCHMARK = re.compile(r"(<!-- benchmark: (\w+) -->\n).*?(<!-- end of benchmark -->)", re.DOTALL)
BENCHMARK_TABLES: dict[str, tuple[Callable[[Any], str], str, str]] = {  # the table, and the file and key of its figures
    "throughput": (throughput.table, "throughput", "runs"),
    "throughput_ratios": (throughput.ratios_table, "throughput", "runs"),
    "replay": (replay.table, "replay", "microseconds"),
    "gpu": (gpu.table, "gpu", "updates per second"),
    "gpu_pong": (gpu.pong_table, "gpu", "Pong"),
    "gpu_losses": (gpu.losses_table, "gpu_h200", "losses"),
    "bunching_sequence_dqn": (bunching.table, "bunching_sequence_dqn", "seeds"),
    "plasticity": (plasticity.table, "plasticity", "runs"),
    "startup": (startup.table, "startup", "seconds"),
    "offline_cartpole": (offline.table, "offline", "cartpole"),
    "offline_clone": (offline.table, "offline", "delayed_recall"),
}
OFFLINE_CURVES = {  # the figures of docs/offline.md: the task's key in the file of figures, and its learners
    "curve_offline_cartpole": ("cartpole", {"cql": "cql_alpha: 1", "dqn": "cql_alpha: 0"}),
    "curve_offline_clone": ("delayed_recall", {"clone": "clone of a GRU agent"}),
}
PONG = "pong_pqn"  # trained by benchmarks.gpu
README_CONFIGS = (  # one for each kind of task, algorithm and memory, the reference's failure included
    "cartpole_dqn",
    "cartpole_pqn",
    "cartpole_rainbow",
    "lunar_lander_qr_dqn",
    "cartpole_no_vel_r2d2",
    "delayed_recall_gru",
    "delayed_recall_transformer",
    "hidden_sequence_gru",
    "recall_lstm",
    "sequence_dqn",
    "sequence_dqn_reference",
    "sequence_q_learning",
)
NOTES = """\
In `seqrl/Sequence-v0`, the order of ten objects is reversed after 150 of 300 episodes; the best return is 9. With the
settings of the reference (`sequence_dqn_reference.yaml`: learning rate 1e-4, gamma 0.99, a replay memory of 10,000),
150 episodes are not enough to relearn: the memory still holds all transitions of the old order, and they contradict the
new one. `sequence_optimistic.yaml` acts greedily from initial values above all possible returns, so it tries every
object until one is right, without any random choice. In `sequence_q_learning.yaml` (five objects and a distractor,
ABCDE for 15 episodes, then ADCBE for 100), epsilon stays at 0.1, so five perfect episodes in a row also take some luck.
On the memory tasks with a best return of 1, the best return without memory is -0.5
(MemoryChain: 0).
"""
LEGEND = "Each light blue line is one seed, and the dark blue line is the mean over seeds."
COLUMNS = 4  # panels side by side in a figure
Curve = list[list[float]]


def main() -> None:
    """Write all of them."""
    reports = read_reports()
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        path.write_text(with_first_line(path, reports))
    readme = ROOT / "README.md"
    readme.write_text(with_benchmarks(with_summary(readme.read_text(), reports)))
    (ROOT / "docs" / "results.md").write_text(page(reports))
    for path in (ROOT / "docs").rglob("*.md"):
        path.write_text(with_benchmarks(with_measured(path.read_text(), path.parent, reports)))
    for env_id, curves in curves_by_task(reports).items():
        draw(curves, ROOT / "docs" / "images" / file_name(env_id))
        for name in curves.keys() & {report["config"] for report in reports.values()}:
            draw({name: curves[name]}, ROOT / "docs" / "images" / f"curve_{name}.png")
    pong = json.loads((RESULTS / "gpu.json").read_text())["Pong"]["PQN, compile: cuda_graphs"]["curve"]
    draw({PONG: [[[at["env_steps"], at["return"]] for at in pong]]}, ROOT / "docs" / "images" / f"curve_{PONG}.png")
    found = json.loads((RESULTS / "offline.json").read_text())
    for file, (env, titles) in OFFLINE_CURVES.items():
        offline_curves = {title: [result["curve"] for result in found[env][key]] for key, title in titles.items()}
        draw(offline_curves, ROOT / "docs" / "images" / f"{file}.png", progress="updates")


def read_reports() -> dict[str, dict[str, Any]]:
    """Read all reports of ``benchmarks.learning``, by name, with the config's own settings under ``settings``."""
    reports = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("learning_*.json"))]
    return {report["name"]: {**report, "settings": read_config(report["config"])} for report in reports}


def read_config(name: str) -> dict[str, Any]:
    """Read a config's settings."""
    settings: dict[str, Any] = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    return settings


def with_first_line(config: Path, reports: dict[str, dict[str, Any]]) -> str:
    """Return the config's text with its result in the first line."""
    lines = config.read_text().splitlines(keepends=True)
    lines = lines[1 if lines[0].startswith("# Result: ") else 0 :]
    return "".join([f"# Result: {result_of(config.stem, reports)}.\n", *lines])


def result_of(config: str, reports: dict[str, dict[str, Any]]) -> str:
    """Return a config's result in one line."""
    if config in reports:
        return sentence(reports[config])
    if config == PONG:
        found = json.loads((RESULTS / "gpu.json").read_text())
        return gpu.pong_sentence(found["Pong"]["PQN, compile: cuda_graphs"], found["device"])
    return f"not run yet (python -m benchmarks.learning configs/{config}.yaml)"


def with_summary(readme: str, reports: dict[str, dict[str, Any]]) -> str:
    """Return the README's text with the present summary of ``README_CONFIGS`` between its markers."""
    before, rest = readme.split(MARKERS[0])
    after = rest.split(MARKERS[1])[1]
    shown = {name: reports[name] for name in README_CONFIGS}
    return f"{before}{MARKERS[0]}\n{summary(shown, ROOT)}\n{MARKERS[1]}{after}"


def with_measured(text: str, folder: Path, reports: dict[str, dict[str, Any]]) -> str:
    """Return a page's text with the measured results between its markers.

    Args:
        text: The page's text.
        folder: The page's folder, for relative links.
        reports: All reports.
    """
    return MEASURED.sub(lambda found: f"{found[1]}{measured(found[2], folder, reports)}\n{found[3]}", text)


def with_benchmarks(text: str) -> str:
    """Return a page's text with the benchmarks' tables between their markers."""

    def table(name: str) -> str:
        make, file, key = BENCHMARK_TABLES[name]
        return make(json.loads((RESULTS / f"{file}.json").read_text())[key])

    return BENCHMARK.sub(lambda found: f"{found[1]}{table(found[2])}\n{found[3]}", text)


def measured(names: str, folder: Path, reports: dict[str, dict[str, Any]]) -> str:
    """Return the results of configs, a line for each, and their curves.

    Args:
        names: Names of configs, separated by commas; the id of a task stands for all of its configs.
        folder: The folder of the page that they are for.
        reports: All reports.

    Raises:
        ValueError: If a name is not that of a config.
    """
    lines, curves = [], []
    pairs = [(name, config) for name in names.split(", ") for config in configs_of(name)]
    for name, config in pairs:
        results = [
            report
            for report in reports.values()
            if report["config"] == config and name in (config, task(report))  # a task's page shows runs on it alone
        ]
        link = f"[`{config}.yaml`]({os.path.relpath(ROOT / 'configs' / f'{config}.yaml', folder)})"
        if not results:
            result = re.sub(r"\((python .*)\)", r"(`\1`)", result_of(config, reports))  # a comment has no Markdown
            lines.append(f"- {link}: {result}.")
        for report in results:
            change = "" if report["name"] == config else ", with other settings"  # those of its command
            lines.append(f"- {link}{change}: {sentence(report)} (`{report['command']}`).")
            if report["name"] == config and report["seeds"][0].get("curve"):
                image = os.path.relpath(ROOT / "docs" / "images" / f"curve_{report['name']}.png", folder)
                curves.append(f"![The greedy policy's return during training, {report['name']}]({image})")
    legend = [LEGEND] if curves else []
    return "\n\n".join(["\n".join(lines) or "No config of this package is for this task.", *curves, *legend])


def configs_of(name: str) -> list[str]:
    """Return the config of that name, or the configs of the task with that id."""
    configs = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
    if name in configs:
        return [name]
    if "/" not in name:
        raise ValueError(f"there is no config {name!r}")
    return [config for config in configs if read_config(config)["data"]["env_id"] == name]


def sentence(report: dict[str, Any]) -> str:
    """Return the result in one line."""
    seeds = report["seeds"]
    first, last = seeds[0]["seed"], seeds[-1]["seed"]
    text = f"final return {returns(report)} on {f'seed {first}' if first == last else f'seeds {first} to {last}'}"
    return f"{text}; episodes to criterion {criterion(report)} (medians)" if criterion(report) else text


def returns(report: dict[str, Any]) -> str:
    """Return the final policy's mean return of each seed."""
    return ", ".join(f"{seed['return_mean']:.4g}" for seed in report["seeds"])


def criterion(report: dict[str, Any]) -> str:
    """Return the median of the episodes to criterion of each block; empty if they were not counted."""
    keys = [key for key in report["seeds"][0] if key.endswith("episodes_to_criterion")]
    return " and ".join(median_or_never([seed[key] for seed in report["seeds"]]) for key in keys)


def median_or_never(episodes: list[int | None]) -> str:
    """Return the median over seeds; a seed that never met the criterion counts as infinitely many episodes."""
    middle = median(float("inf") if count is None else count for count in episodes)
    return "never" if middle == float("inf") else f"{middle:g}"


def summary(reports: dict[str, dict[str, Any]], folder: Path) -> str:
    """Return a table with the result of each config as it is, with links from a page in ``folder``."""
    configs, results = (os.path.relpath(ROOT / name, folder) for name in ("configs", "docs/results.md"))
    link = "" if folder == ROOT / "docs" else results
    rows = [
        [
            f"[`{name}`]({configs}/{report['config']}.yaml)",
            task(report),
            f"{max(seed['env_steps'] for seed in report['seeds']):,}",
            returns(report),
            criterion(report),
            f"[command]({link}#{name})",
        ]
        for name, report in sorted(reports.items(), key=lambda item: (task(item[1]), item[0]))
        if name == report["config"]
    ]
    titles = ["config", "task", "env steps", "final return, seed by seed", "episodes to criterion (medians)", ""]
    return table([titles, *rows])


def task(report: dict[str, Any]) -> str:
    """Return the id of the task: the config's, or the one that the command names instead."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--data.env_id", dest="env_id", default=report["settings"]["data"]["env_id"])
    return str(parser.parse_known_args(shlex.split(report["command"]))[0].env_id)


def page(reports: dict[str, dict[str, Any]]) -> str:
    """Return the text of ``docs/results.md``."""
    curves = curves_by_task(reports)
    text = ["# Results\n"]
    text.append(
        "All returns are those of the *final* policy, played greedily, not of the best one during training. "
        f'"Episodes to criterion" is the number of the first of {CRITERION_EPISODES} mastered training episodes in a '
        "row, counted from the start of the block; an episode is mastered if its return is at least the command's "
        "`--criterion`, so errors due to exploration count. Medians, interquartile means and their intervals are "
        "those of [arXiv:2108.13264](https://arxiv.org/abs/2108.13264). This page is written by "
        "`python -m docs.scripts.results` from the results of the commands below in `benchmarks/results/`.\n"
    )
    text.append(f"{summary(reports, ROOT / 'docs')}\n\n{NOTES}\nIn the figures, {LEGEND[0].lower()}{LEGEND[1:]}\n")
    by_task = defaultdict(list)
    for report in reports.values():
        by_task[task(report)].append(report)
    for env_id, task_reports in sorted(by_task.items()):
        text.append(f"## {env_id}\n")
        if env_id in curves:
            text.append(f"![Learning curves on {env_id}](images/{file_name(env_id)})\n")
        text += [section(report) for report in sorted(task_reports, key=lambda report: str(report["name"]))]
    return "\n".join(text)


def section(report: dict[str, Any]) -> str:
    """Return the command and the table of one config."""
    seeds = report["seeds"]
    columns = [key for key in seeds[0] if key != "curve"]
    titles = [key.replace("_", " ").replace("/", ", ") for key in columns]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    rows = [["never" if seed[column] is None else f"{seed[column]:,}" for column in columns] for seed in seeds]
    return (
        f"### {report['name']}\n\n    {report['command']}\n\n{table([titles, *rows])}\n\n{over_seeds(report)}\n\n"
        f"{report['date']}, {report['machine']['cpu']}, {versions}.\n"
    )


def over_seeds(report: dict[str, Any]) -> str:
    """Return the median and the interquartile mean of the final return, with its 95 % bootstrap interval over seeds."""
    scores = np.array([seed["return_mean"] for seed in report["seeds"]])
    lower, upper = interquartile_mean_interval(scores)
    return (
        f"Final return over seeds: median {median(scores):.4g}, interquartile mean {interquartile_mean(scores):.4g} "
        f"(95 % bootstrap interval [{lower:.4g}, {upper:.4g}])."
    )


def table(rows: list[list[str]]) -> str:
    """Return a Markdown table; the first row holds the titles."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def curves_by_task(reports: dict[str, dict[str, Any]]) -> dict[str, dict[str, list[Curve]]]:
    """Return the curves of each seed, by task and config; a curve is a list of (env steps, return)."""
    curves: dict[str, dict[str, list[Curve]]] = defaultdict(dict)
    for name, report in sorted(reports.items()):
        if report["seeds"][0].get("curve"):
            curves[task(report)][name] = [seed["curve"] for seed in report["seeds"]]
    return curves


def file_name(env_id: str) -> str:
    """Return the name of the file with a task's curves, without colons, which Windows refuses."""
    return f"curves_{re.split('[/:]', env_id)[-1].lower()}.png"


def draw(curves: dict[str, list[Curve]], path: Path, progress: str = "environment steps") -> None:
    """Draw a figure with a panel for each config, over ``progress``."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows, columns = -(-len(curves) // COLUMNS), min(len(curves), COLUMNS)
    size = {"figsize": (max(3 * columns, 5), max(2.4 * rows, 3)), "layout": "constrained"}
    figure, panels = plt.subplots(rows, columns, sharey=True, squeeze=False, **size)
    for axes, (name, seeds) in zip(panels.flat, curves.items(), strict=False):
        draw_panel(axes, name, seeds)
    for axes in panels.flat[len(curves) :]:
        axes.remove()
    figure.supxlabel(progress, fontsize="medium")
    figure.supylabel("return of the greedy policy", fontsize="medium")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_panel(axes: Any, name: str, seeds: list[Curve]) -> None:
    """Draw the curve of each seed of one config, and their mean."""
    from matplotlib.ticker import EngFormatter

    points = list(zip(*seeds, strict=False))  # as far as all seeds go
    marker = "o" if len(points) == 1 else None  # a single evaluation makes no line
    for curve in seeds:
        axes.plot(
            *zip(*curve, strict=True), color="tab:blue", alpha=0.3, linewidth=0.8, marker=marker, clip_on=not marker
        )
    means = [sum(value for _, value in row) / len(seeds) for row in points]
    axes.plot([row[0][0] for row in points], means, color="tab:blue", linewidth=2, marker=marker, clip_on=not marker)
    axes.set_title(name, fontsize="small")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
