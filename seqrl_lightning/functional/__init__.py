"""Pure tensor functions: each learning rule's maths, what choices say about learning, and nothing else."""

from seqrl_lightning.functional.choices import (
    CRITERION_WINDOW,
    ERROR_KINDS,
    choice_counts,
    completion,
    error_kinds,
    savings,
    swap_counts,
    trials_to_criterion,
)
from seqrl_lightning.functional.distributional import (
    categorical_projection,
    quantile_huber_losses,
    quantile_midpoints,
)
from seqrl_lightning.functional.losses import huber_losses, weighted_mean
from seqrl_lightning.functional.policies import epsilon_greedy_policy, mask_actions, soft_policy, softmax_policy
from seqrl_lightning.functional.rescaling import rescale_values, unscale_values
from seqrl_lightning.functional.targets import (
    bellman_target,
    bootstrap_discounts,
    double_q_target,
    expected_sarsa_target,
    expected_value,
    lambda_returns,
    munchausen_target,
    n_step_returns,
    q_target,
    sarsa_target,
    soft_q_target,
    value_of,
)

__all__ = [
    "CRITERION_WINDOW",
    "ERROR_KINDS",
    "bellman_target",
    "bootstrap_discounts",
    "categorical_projection",
    "choice_counts",
    "completion",
    "double_q_target",
    "epsilon_greedy_policy",
    "error_kinds",
    "expected_sarsa_target",
    "expected_value",
    "huber_losses",
    "lambda_returns",
    "mask_actions",
    "munchausen_target",
    "n_step_returns",
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
    "trials_to_criterion",
    "unscale_values",
    "value_of",
    "weighted_mean",
]
