"""The base of the learners: a rule that turns batches of the dataset into losses, and what rules have in common."""

from abc import abstractmethod
from collections.abc import Iterable

from torch import Tensor

from seqrl_lightning.algorithms.training import TrainingModule
from seqrl_lightning.batches import Batch, Update
from seqrl_lightning.functional import bootstrap_discounts, n_step_returns, weighted_mean
from seqrl_lightning.replay import RolloutSampler, Sampler
from seqrl_lightning.types import require


class LearnerModule(TrainingModule[Batch]):
    """A network that acts, and a rule by which it learns from batches.

    A subclass writes :meth:`optimize_model`, the loss of one batch. A learner never sees an environment:
    ``AgentCallback`` acts through :meth:`act_values`, and ``TargetSync`` keeps ``target_net`` in step with
    ``policy_net``. Its settings are those of :class:`TrainingModule`.

    Raises:
        ConfigurationError: If a setting can't work, or the network doesn't fit the task.
    """

    trains_memory: bool = True
    """Whether a network that remembers can be trained."""

    @abstractmethod
    def optimize_model(self, batch: Batch) -> Update:
        """Compute the loss of one batch; the optimizer then steps along its gradient.

        Args:
            batch: [T, B] transitions.

        Returns:
            See :meth:`summary`.
        """

    def returns_and_discounts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the discounted rewards up to the next state, and the discount of that state's value, [T, B] each."""
        returns = n_step_returns(batch.reward_batch, self.gamma)
        return returns, bootstrap_discounts(batch.terminated_batch, batch.num_steps_batch, self.gamma)

    def summary(
        self,
        batch: Batch,
        losses: Tensor,
        state_action_values: Tensor,
        expected_state_action_values: Tensor,
        priority: Tensor | None = None,
    ) -> Update:
        """Put together the result of :meth:`optimize_model`.

        Args:
            batch: The transitions that were learned from.
            losses: [T, B] float, of each transition.
            state_action_values: [T, B] float, as the network predicted them.
            expected_state_action_values: [T, B] float, their targets.
            priority: [T, B] float, of each transition in prioritized replay; None for the absolute TD error.

        Returns:
            ``loss``: [] float, the mean over the batch by its weights; ``state_action_values`` and
            ``expected_state_action_values``: [T, B] float, without a gradient; for prioritized replay
            ``priority_batch``: [T, B] float, without a gradient.
        """
        update: Update = {  # not Update(...), which torch.compile can't trace
            "loss": weighted_mean(losses, batch.weight_batch),
            "state_action_values": state_action_values.detach(),
            "expected_state_action_values": expected_state_action_values,
        }
        if batch.slot_batch is not None:
            error = expected_state_action_values - update["state_action_values"]
            update["priority_batch"] = (error if priority is None else priority.detach()).abs()
        return update

    def minibatches(self, batch: Batch) -> Iterable[Batch]:
        """Divide a batch into ``updates_per_step`` equal parts."""
        return (batch,) if self.updates_per_step == 1 else batch.split(self.updates_per_step)

    def check_sampler(self, sampler: Sampler) -> None:
        """Refuse a sampler of single transitions, which have no order, for a network that remembers.

        Raises:
            ConfigurationError: If the sampler doesn't fit the network or the updates, or the network the algorithm.
        """
        must_be = "1 with RolloutSampler, whose batches hold the newest rows once"
        is_divisible = self.updates_per_step == 1 or not isinstance(sampler, RolloutSampler)
        require(is_divisible, "model.updates_per_step", self.updates_per_step, must_be)
        must_be = f"one without memory: {type(self).__name__} learns from single steps"
        can_train = self.trains_memory or not self.remembers
        require(can_train, "model.network", type(self.networks[0]).__name__, must_be)
        must_be = "SequenceSampler for a network that remembers"
        fits = sampler.gives_windows or not self.remembers
        require(fits, "data.sampler", type(sampler).__name__, must_be)
