"""How often the statistics of reports err, on simulated experiments: `python -m benchmarks.statistics`.

It prints how often intervals cover the true value, and how often tests and the intervals of factors' effects reject
where there is no effect. It takes about ten minutes; `--experiments 500` is faster and less exact.
"""

import argparse
from collections.abc import Mapping

import numpy as np
from scipy import stats

from seqrl_lightning.analysis.factors import Crossing, contrasts, studentized_interval
from seqrl_lightning.analysis.statistics import LEVEL, interquartile_means, permutation_test, probability_interval
from seqrl_lightning.analysis.survival import log_rank_test
from seqrl_lightning.types import FloatArray

SCORES: Mapping[str, stats.rv_continuous] = {
    "normal": stats.norm(),
    "uniform": stats.uniform(),
    "exponential": stats.expon(),
    "log-normal": stats.lognorm(1.0),
    "two modes": stats.beta(0.3, 0.3),  # most runs learn everything or nothing
}
"""Distributions of a run's score."""
DESIGNS = ((2, 2), (3, 2), (3, 3), (5, 2))
OF_EFFECTS = ("normal", "exponential", "two modes")
SEEDS = (5, 10, 20)
_AT_A_TIME = 100  # experiments, which bounds the memory of their resamples


def coverage_of_middle(scores: stats.rv_continuous, num_seeds: int, num_experiments: int) -> float:
    """Return how often the interval of the interquartile mean covers that of the distribution."""
    true = scores.ppf(np.linspace(0.25, 0.75, 100_001)).mean()
    drawn = scores.rvs((num_experiments, num_seeds), random_state=np.random.default_rng(0))
    covered = 0
    for start in range(0, num_experiments, _AT_A_TIME):
        _, lower, upper = interquartile_means(drawn[start : start + _AT_A_TIME])
        covered += int(((lower <= true) & (true <= upper)).sum())
    return covered / num_experiments


def coverage_of_improvement(
    scores: stats.rv_continuous, shift: float, num_seeds: int, num_experiments: int
) -> tuple[float, float]:
    """Return a probability of improvement, and how often its interval covers it.

    Args:
        scores: The distribution of the one condition; that of the other is the same, but shifted.
        shift: In standard deviations.
        num_seeds: Seeds of each condition.
        num_experiments: Number of simulated experiments.
    """
    rng, shift = np.random.default_rng(0), shift * scores.std()
    at = scores.ppf((np.arange(100_000) + 0.5) / 100_000)
    true = float(scores.cdf(at + shift).mean())
    ours, theirs = (scores.rvs((num_experiments, num_seeds), random_state=rng) for _ in range(2))
    wins = ((ours + shift)[:, :, None] > theirs[:, None, :]).sum((1, 2))
    ends = {won: probability_interval(won / num_seeds**2, num_seeds, num_seeds) for won in np.unique(wins)}
    return true, float(np.mean([ends[won][0] <= true <= ends[won][1] for won in wins]))


def rejections_of_means(scores: stats.rv_continuous, num_seeds: int, num_experiments: int) -> float:
    """Return how often the permutation test of means rejects without an effect."""
    drawn = scores.rvs((num_experiments, 2, num_seeds), random_state=np.random.default_rng(0))
    return float(np.mean([permutation_test(*pair) <= 1 - LEVEL for pair in drawn]))


def rejections_of_times(scores: stats.rv_continuous, num_seeds: int, num_experiments: int) -> float:
    """Return how often the test of log-rank scores rejects without an effect, with a fifth of the runs censored."""
    drawn = scores.rvs((num_experiments, 2, num_seeds), random_state=np.random.default_rng(0))
    end = scores.ppf(0.8)
    p_values = [log_rank_test(np.minimum(a, end), a < end, np.minimum(b, end), b < end) for a, b in drawn]
    return float(np.mean(np.array(p_values) <= 1 - LEVEL))


def rejections_of_effects(
    scores: stats.rv_continuous, design: tuple[int, int], num_seeds: int, num_experiments: int
) -> dict[str, float]:
    """Return how often the interval of each main effect and interaction excludes 0 without an effect.

    Args:
        scores: The distribution of all conditions.
        design: Numbers of levels of the two factors.
        num_seeds: Seeds of each condition.
        num_experiments: Number of simulated experiments.

    Returns:
        By the effect's name.
    """
    levels = tuple([str(i) for i in range(count)] for count in design)
    cells = [f"{a}{b}" for a in levels[0] for b in levels[1]]
    weights = contrasts(Crossing(("a", "b"), (levels[0], levels[1]), cells))
    drawn = scores.rvs((num_experiments, len(cells), num_seeds), random_state=np.random.default_rng(0))
    return {
        name: float(np.mean([_excludes_zero(list(of_one), found) for of_one in drawn]))
        for name, found in weights.items()
    }


def _excludes_zero(samples: list[FloatArray], weights: FloatArray) -> bool:
    lower, upper = studentized_interval(samples, weights)
    return lower > 0 or upper < 0


def main() -> None:
    """Print all rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=1000, help="simulated experiments for each number")
    count = parser.parse_args().experiments
    heads = "".join(f"{num_seeds:>10}" for num_seeds in SEEDS)
    print(f"coverage of the interquartile mean\n{'seeds':<24}{heads}")
    for name, scores in SCORES.items():
        rates = [coverage_of_middle(scores, num_seeds, count) for num_seeds in SEEDS]
        print(f"{name:<24}" + "".join(f"{rate:>10.3f}" for rate in rates), flush=True)
    print(f"\ncoverage of the probability of improvement, by its true value\n{'seeds':<24}{heads}")
    for name, scores in SCORES.items():
        for shift in (0.0, 1.0, 2.0):
            found = [coverage_of_improvement(scores, shift, num_seeds, count) for num_seeds in SEEDS]
            print(f"{f'{name}, {found[0][0]:.2f}':<24}" + "".join(f"{rate:>10.3f}" for _, rate in found), flush=True)
    print("\nrejections without an effect, five seeds: test of means, test of log-rank scores")
    for name, scores in SCORES.items():
        rates = [rejections_of_means(scores, 5, count), rejections_of_times(scores, 5, count)]
        print(f"{name:<24}" + "".join(f"{rate:>10.3f}" for rate in rates), flush=True)
    print(
        "\nintervals of effects that exclude 0 without an effect, five seeds: mean, lowest and highest of all effects"
    )
    for design in DESIGNS:
        for name in OF_EFFECTS:
            rates = list(rejections_of_effects(SCORES[name], design, 5, count).values())
            shown = "".join(f"{rate:>10.3f}" for rate in (sum(rates) / len(rates), min(rates), max(rates)))
            print(f"{f'{design[0]} x {design[1]}, {name}':<24}{shown}", flush=True)


if __name__ == "__main__":
    main()
