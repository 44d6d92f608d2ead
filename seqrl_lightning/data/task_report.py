"""Notices about the task: changes of its spaces, and limitations of what can be done with it."""

from collections.abc import Sequence

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from seqrl_lightning.envs.facts import EnvFacts
from seqrl_lightning.parts import PackedShape


def report_facts(env_id: str, facts: EnvFacts) -> None:
    """Report how the task's spaces are changed, and warn if evaluations of it can't be repeated."""
    if facts.flattened_space is not None:
        rank_zero_info(
            f"The observations of {env_id}, {facts.flattened_space}, are flattened to {facts.obs_shape}; "
            "Discrete parts become one-hot."
        )
    if isinstance(facts.obs_shape, PackedShape):
        rank_zero_info(f"The observations of {env_id} have parts: {facts.obs_shape}.")
    if facts.flattened_actions is not None:
        rank_zero_info(
            f"The actions of {env_id}, {facts.flattened_actions}, are flattened to {facts.n_actions}: one for each "
            "combination."
        )
    if facts.unrepeated is not None:
        rank_zero_warn(
            f"{facts.unrepeated} gives different observations or rewards when it is reset with the same seed, so "
            "evaluations can't be repeated. If it learns a scale while it is used, then evaluation, a resumed run and "
            "load_policy start without this scale, and the network gets inputs that it wasn't trained on. Use a fixed "
            "scale, like that of gymnasium.wrappers.RescaleObservation or TransformReward."
        )


def report_changed_returns(env_id: str, flags: Sequence[str]) -> None:
    """Warn if returns are not the task's own, because of the task's own settings with these names."""
    if flags:
        names = " and ".join(f"data.env_kwargs.{flag}" for flag in flags)
        rank_zero_warn(
            f"Returns of {env_id}, in evaluations too, are not the task's own, but follow from {names}, which must be "
            "false for that (gymnasium.wrappers.ClipReward clips only the rewards that are learned from)."
        )
