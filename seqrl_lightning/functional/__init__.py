"""Pure tensor functions: the mathematics of each learning rule and of each measure of learning."""

from seqrl_lightning.functional.choices import (
    ERROR_KINDS,
    choice_counts,
    completion,
    error_kinds,
    follows_previous_order,
    swap_counts,
)
from seqrl_lightning.functional.criterion import (
    CRITERION_EPISODES,
    episodes_to_criterion,
    episodes_to_criterion_by_chance,
    episodes_without_criterion,
    is_mastered,
    savings,
)
from seqrl_lightning.functional.distributional import (
    categorical_projection,
    quantile_huber_losses,
    quantile_midpoints,
)
from seqrl_lightning.functional.losses import choice_losses, huber_losses, weighted_mean
from seqrl_lightning.functional.moments import Moments, merge_moments, moments_of
from seqrl_lightning.functional.policies import epsilon_greedy_policy, mask_actions, soft_policy, softmax_policy
from seqrl_lightning.functional.rescaling import rescale_values, unscale_values
from seqrl_lightning.functional.returns import bootstrap_discounts, lambda_returns, n_step_returns
from seqrl_lightning.functional.targets import (
    bellman_target,
    double_q_target,
    expected_sarsa_target,
    expected_value,
    munchausen_target,
    q_lambda_target,
    q_target,
    sarsa_target,
    soft_q_target,
    value_of,
)

__all__ = [
    "CRITERION_EPISODES",
    "ERROR_KINDS",
    "Moments",
    "bellman_target",
    "bootstrap_discounts",
    "categorical_projection",
    "choice_counts",
    "choice_losses",
    "completion",
    "double_q_target",
    "episodes_to_criterion",
    "episodes_to_criterion_by_chance",
    "episodes_without_criterion",
    "epsilon_greedy_policy",
    "error_kinds",
    "expected_sarsa_target",
    "expected_value",
    "follows_previous_order",
    "huber_losses",
    "is_mastered",
    "lambda_returns",
    "mask_actions",
    "merge_moments",
    "moments_of",
    "munchausen_target",
    "n_step_returns",
    "q_lambda_target",
    "q_target",
    "quantile_huber_losses",
    "quantile_midpoints",
    "rescale_values",
    "sarsa_target",
    "savings",
    "soft_policy",
    "soft_q_target",
    "softmax_policy",
    "swap_counts",
    "unscale_values",
    "value_of",
    "weighted_mean",
]
