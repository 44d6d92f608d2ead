"""Requirements of learning from logged steps."""

from seqrl_lightning.replay import LatestSampler, RolloutSampler, Sampler
from seqrl_lightning.types import Learner, require


def require_learner_of_logs(learner: Learner | None, sampler: Sampler) -> None:
    """Refuse on-policy learners and samplers of the newest steps, since logged steps come from another policy.

    Args:
        learner: The learner; None outside a Trainer, where nothing is learned.
        sampler: Draws its batches.

    Raises:
        ConfigurationError: If learner or sampler is one of these.
    """
    if learner is None:
        return
    must_be = "one that learns off-policy, like DQN or BehaviorCloning, with data.trials"
    require(not learner.is_on_policy, "model", type(learner).__name__, must_be)
    must_be = "one that draws from the whole replay memory, like UniformSampler, with data.trials"
    require(not isinstance(sampler, RolloutSampler | LatestSampler), "data.sampler", type(sampler).__name__, must_be)
