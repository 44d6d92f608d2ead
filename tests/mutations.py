"""Small faults, each of which the default tests of its rooms catch: ``python -m tests.mutations [NAME ...]``.

One after the other is put into a copy of the package, and the tests are run until one fails. Exits with 1 if a fault
survives. ``--list`` prints the names.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
ALGORITHMS = tuple(f"tests/algorithms/test_{name}.py" for name in ("dqn", "windows", "pqn"))
TESTS = (("tests/functional", "tests/test_batches.py", "tests/replay", *ALGORITHMS), ("tests/test_combinations.py",))
TESTS_OF_ACTING = (("tests/collect", "tests/test_normalization.py", "tests/networks/test_normalization.py"),)
TESTS_OF_NETWORKS = (
    ("tests/networks/test_heads.py", "tests/networks/test_noisy.py", "tests/networks/test_contract.py"),
)
TESTS_OF_PARTS = (("tests/test_parts.py", "tests/envs/test_packing.py"),)
ROWS, RING, SAMPLERS, SEQUENCES, ROLLOUTS = (
    f"seqrl_lightning/replay/{name}.py" for name in ("rows", "ring", "samplers", "sequences", "rollouts")
)
DATASET, PRIORITIES = "seqrl_lightning/replay/dataset.py", "seqrl_lightning/replay/priorities.py"
BATCHES = "seqrl_lightning/batches.py"
ACTING, EVALUATION, EPSILON, SYNC = (
    f"seqrl_lightning/{name}.py"
    for name in ("algorithms/acting", "algorithms/evaluation", "exploration", "callbacks/target_sync")
)
COLLECTOR, EPISODES, POLICY, RND = (
    f"seqrl_lightning/collect/{name}.py" for name in ("collector", "episodes", "policy", "rnd")
)
NORMALIZATION, HEADS, NOISY, UNITS, RECURRENT, TRANSFORMER = (
    f"seqrl_lightning/networks/{name}.py"
    for name in ("normalization", "heads", "noisy", "hidden_units", "recurrent", "transformer")
)
SHAPES, COMPOSED = "seqrl_lightning/parts.py", "seqrl_lightning/networks/composed.py"
CHECKED, PACKING, WRAPPING = (f"seqrl_lightning/envs/{name}.py" for name in ("parts", "packing", "wrapping"))
TARGETS, RETURNS, POLICIES, LOSSES, DISTRIBUTIONAL, RESCALING = (
    f"seqrl_lightning/functional/{name}.py"
    for name in ("targets", "returns", "policies", "losses", "distributional", "rescaling")
)
LEARNER, DQN, Q_LAMBDA, C51, IQN, SARSA, SAC, PQN, UPDATES = (
    f"seqrl_lightning/algorithms/{name}.py"
    for name in ("learner", "dqn", "q_lambda", "c51", "iqn", "sarsa", "discrete_sac", "pqn", "updates")
)


KEEPS_STATE = """        if policy.remembers:
            self.sampler.keep_state(self.ring, policy.state, episodes.lengths)
"""
ACTS = """        env_steps = self.progress.env_steps * self.world_size
        shown = episodes.shown
        action = policy.act(shown.observation, shown.action_mask, episodes.is_first, env_steps)
"""


class Mutation(NamedTuple):
    """A text in a file, what takes its place, and the tests that catch it, the fastest first."""

    path: str
    old: str
    new: str
    tests: tuple[tuple[str, ...], ...] = TESTS


def of_parts(path: str, old: str, new: str) -> Mutation:
    """A fault in how observations with parts are packed and unpacked."""
    return Mutation(path, old, new, TESTS_OF_PARTS)


def of_acting(path: str, old: str, new: str) -> Mutation:
    """A fault in how actions are chosen, counted and stored, or in what they are normalized by."""
    return Mutation(path, old, new, TESTS_OF_ACTING)


def of_networks(path: str, old: str, new: str) -> Mutation:
    """A fault in a network."""
    return Mutation(path, old, new, TESTS_OF_NETWORKS)


def of(path: str, old: str, new: str, test: str) -> Mutation:
    """A fault that one file of tests catches."""
    return Mutation(path, old, new, ((test,),))


MUTATIONS = {
    # Acting, storing and counting
    "an episode starts where one has ended": of_acting(
        EPISODES,
        "self.is_first, self.is_restarting = self.is_restarting, ended",
        "self.is_first, self.is_restarting = ended, ended",
    ),
    "an episode's return counts on": of_acting(EPISODES, "        self.returns[self.is_restarting] = 0.0\n", ""),
    "an episode's length counts on": of_acting(EPISODES, "        self.lengths[self.is_restarting] = 0\n", ""),
    "epsilon follows this process's env steps": of_acting(
        COLLECTOR,
        "env_steps = self.progress.env_steps * self.world_size\n        shown",
        "env_steps = self.progress.env_steps\n        shown",
    ),
    "a reset earns a bonus": of_acting(
        COLLECTOR,
        "self.bonus(shown.observation, ~episodes.is_restarting)",
        "self.bonus(shown.observation, episodes.lengths >= 0)",
    ),
    "rewards are scaled without their bonus": of_acting(
        COLLECTOR,
        "self.normalization.add(shown.observation, reward, ended,",
        "self.normalization.add(shown.observation, outcome.reward, ended,",
    ),
    "the state is kept after the network has read the row": of_acting(
        COLLECTOR,
        KEEPS_STATE + ACTS,
        ACTS + KEEPS_STATE,
    ),
    "greedy actions are forbidden ones": of_acting(
        POLICY, "action, self.rule(self.values, action_mask))", "action, self.rule(self.values))"
    ),
    "the explorer remembers the episode before": of_acting(
        POLICY,
        "self.act_values(observation, self.state, is_first)\n        return np.where",
        "self.act_values(observation, self.state)\n        return np.where",
    ),
    "the network remembers the episode before": of_acting(
        ACTING, "self.policy_net(observation_batch, state, is_first_batch)", "self.policy_net(observation_batch, state)"
    ),
    "with forbidden actions all but epsilon are random": of_acting(
        EPSILON, "return uniform[0] < epsilon, (action_mask", "return uniform[0] > epsilon, (action_mask"
    ),
    "random actions are the next allowed ones": of_acting(
        EPSILON, "(action_mask.cumsum(1) > rank[:, None])", "(action_mask.cumsum(1) >= rank[:, None])"
    ),
    "a restart forgets another environment's episode": of_acting(
        COLLECTOR, "self.ring.drop(env, int(lengths[env]))", "self.ring.drop(0, int(lengths[env]))"
    ),
    "the novelty's mean is subtracted": of_acting(RND, "self._error_norm.rescale(errors)", "self._error_norm(errors)"),
    "an evaluated return counts on": of_acting(
        EVALUATION, "step.outcome.task_reward * step.is_playing", "step.outcome.task_reward"
    ),
    # Normalization
    "torch acts on raw observations": of_acting(
        ACTING, "            observation_batch = self.normalization.observation(observation_batch)\n", ""
    ),
    "NumPy acts on raw observations": of_acting(ACTING, "self.normalization.array(observation)", "observation"),
    "next states are raw": of_acting(
        NORMALIZATION,
        "map(self.observation, (batch.state_batch, batch.next_state_batch))",
        "self.observation(batch.state_batch), batch.next_state_batch",
    ),
    "first observations are left out of the statistics": of_acting(
        NORMALIZATION,
        "            self.observations.add(torch.from_numpy(observation))\n        if self.rewards is not None:\n"
        "            self.rewards.returns = None",
        "            pass\n        if self.rewards is not None:\n            self.rewards.returns = None",
    ),
    "rewards lose their mean": of_acting(NORMALIZATION, "self.norm.rescale(reward)", "self.norm(reward)"),
    "scaled returns cross an episode's end": of_acting(NORMALIZATION, "np.where(ended, 0.0, returns)", "returns"),
    "scaled returns count resets": of_acting(NORMALIZATION, "returns[is_step]", "returns"),
    # Networks
    "advantages lose their mean over atoms": of_networks(
        HEADS, "advantage.mean(-len(self.out_shape), keepdim=True)", "advantage.mean(-1, keepdim=True)"
    ),
    "noise has no sign": of_networks(NOISY, "noise.sign() * noise.abs().sqrt()", "noise.abs().sqrt()"),
    "a recurrent network remembers the episode before": of_networks(
        RECURRENT, "state = state.masked_fill(starts[0].unsqueeze(-1), 0.0)\n        if", "pass\n        if"
    ),
    "attention crosses an episode's start": of_networks(
        TRANSFORMER, "(is_near & is_same)", "(is_near & torch.ones_like(is_same))"
    ),
    "keys of the episode before are kept": of_networks(
        TRANSFORMER, "F.pad(memory[-reach:] * is_kept, padding)", "F.pad(memory[-reach:], padding)"
    ),
    "recycled units are still read": of(
        UNITS,
        "_replace(parameter, torch.zeros_like(parameter), mask, optimizer)",
        "_replace(parameter, parameter.clone(), mask, optimizer)",
        "tests/networks/test_hidden_units.py",
    ),
    "recycled units keep their moments": of(
        UNITS, "            value.masked_fill_(mask, 0.0)", "            pass", "tests/networks/test_hidden_units.py"
    ),
    "the target network syncs an update early": of(
        SYNC,
        "if self.updates % self.sync_every_updates == 0:",
        "if (self.updates - 1) % self.sync_every_updates == 0:",
        "tests/callbacks/test_target_sync.py",
    ),
    "the target network keeps its buffers": of(
        SYNC, "target_buffer.copy_(policy_buffer)", "pass", "tests/callbacks/test_target_sync.py"
    ),
    "the target network takes large steps": of(
        SYNC,
        "get_ema_multi_avg_fn(1.0 - self.tau)",
        "get_ema_multi_avg_fn(self.tau)",
        "tests/callbacks/test_target_sync.py",
    ),
    # Gradients of discrete SAC
    "the temperature learns from the actor's loss": of(
        SAC, "nets.log_temperature.exp().detach()", "nets.log_temperature.exp()", "tests/algorithms/test_ladder.py"
    ),
    "the actor learns from the temperature's loss": of(
        SAC,
        "-expected_value(log_policy, policy).detach()",
        "-expected_value(log_policy, policy)",
        "tests/algorithms/test_ladder.py",
    ),
    # The ring
    "the next slot is two rows on": Mutation(
        RING, "(last_slots + self.num_envs) %", "(last_slots + 2 * self.num_envs) %"
    ),
    "n-step returns cross an episode's end": Mutation(
        RING, "stops = self._by_slot.is_final[path] | (path ==", "stops = (path =="
    ),
    "n-step returns run past the head": Mutation(
        RING,
        "stops = self._by_slot.is_final[path] | (path == self._open_slots(next_actions)[slots % self.num_envs])",
        "stops = self._by_slot.is_final[path]",
    ),
    "rewards after the end count": Mutation(
        RING, "self._by_slot.reward.take(path) * counts", "self._by_slot.reward.take(path)"
    ),
    "terminated is the first step's": Mutation(
        RING, "torch.from_numpy(terminated.take(last_slots)[None])", "torch.from_numpy(terminated.take(slots)[None])"
    ),
    "a mask of the state for the next state": Mutation(
        RING, "for which in (slots, next_slots))", "for which in (slots, slots))"
    ),
    "a next action at an episode's end": Mutation(
        RING, "np.where(self._by_slot.is_final[next_slots], -1, action.take(next_slots))", "action.take(next_slots)"
    ),
    "the newest transition doesn't wait for its next action": Mutation(
        ROWS,
        "        if next_actions:\n            is_transition &=",
        "        if False:\n            is_transition &=",
    ),
    "a row without a mask keeps an older one": Mutation(ROWS, "self.action_mask[self.head] = True", "pass"),
    "a final observation isn't marked": Mutation(
        ROWS,
        "np.logical_or(terminated, truncated, out=self.is_final[self.head])",
        "self.is_final[self.head] = terminated",
    ),
    "restart leaves no final observation": Mutation(ROWS, "            self.is_final[self.head] = True\n", ""),
    "a stack reaches into the episode before": Mutation(
        RING, "np.where(self._by_slot.is_final[before], stack[-1], before)", "before"
    ),
    # Windows
    "starts are a row late": Mutation(
        RING, "is_first, learned = is_final[:-1], slice", "is_first, learned = is_final[1:], slice"
    ),
    "no row starts an episode": Mutation(
        RING, "is_first, learned = is_final[:-1], slice", "is_first, learned = is_final[:-1] & False, slice"
    ),
    "final observations have a weight": Mutation(
        RING, "is_transition = is_complete & ~is_final[learned]", "is_transition = is_complete | is_final[learned]"
    ),
    "rows after the head have a weight": Mutation(
        RING, "is_transition = is_complete & ~is_final[learned]", "is_transition = ~is_final[learned]"
    ),
    "in a window returns cross an episode's end": Mutation(
        RING, "        goes_on[: length - k] &= is_transition[k:]\n", ""
    ),
    "in a window terminated is the first step's": Mutation(
        RING, "np.take_along_axis(terminated, last_row, 0)", "terminated"
    ),
    "in a window the next action is a row early": Mutation(
        RING,
        "next_row = np.arange(burn_in + 1, burn_in + 1 + length)",
        "next_row = np.arange(burn_in, burn_in + length)",
    ),
    "in a window masks are a row late": Mutation(
        RING,
        "mask = self._by_slot.action_mask.take(path[burn_in + 1 :]",
        "mask = self._by_slot.action_mask.take(path[burn_in + 1 :] + self.num_envs",
    ),
    "the previous action is the row's own": Mutation(
        RING, "np.where(is_first, -1, action[:-1])", "np.where(is_first, -1, action[1:])"
    ),
    "starts in some windows are ignored": Mutation(BATCHES, "or is_first.any() else", "or is_first.all() else"),
    "next values are those of the row below": Mutation(
        BATCHES,
        "torch.arange(len(rows) - 1, device=rows.device)[:, None] + self.num_steps_batch",
        "torch.arange(len(rows) - 1, device=rows.device)[:, None] + torch.ones_like(self.num_steps_batch)",
    ),
    "the next mask is that of the row below": Mutation(
        BATCHES,
        "return None if self.action_mask is None else self._of_next_states(self.action_mask)",
        "return None if self.action_mask is None else self.action_mask[1:]",
    ),
    "a window's mask is the next row's": Mutation(BATCHES, "else self.action_mask[:-1]", "else self.action_mask[1:]"),
    "what the network carries in is ignored": Mutation(
        BATCHES,
        "network_state, burn_in = self.network_state, self.burn_in",
        "network_state, burn_in = None, self.burn_in",
    ),
    "the burn-in is ignored": Mutation(
        BATCHES,
        "        if burn_in:\n            with torch.no_grad():",
        "        if False:\n            with torch.no_grad():",
    ),
    "starts are those of the burn-in": Mutation(
        BATCHES, "is_first = self.is_first[first:end]", "is_first = self.is_first[: end - first]"
    ),
    "parts in the opposite order": Mutation(
        BATCHES,
        "return (Transitions(*part) for part in zip(*columns, strict=True))",
        "return (Transitions(*part) for part in [*zip(*columns, strict=True)][::-1])",
    ),
    # Samplers
    "final observations are drawn": Mutation(
        SAMPLERS,
        "redraw = np.flatnonzero(~ring.is_transition(slots, next_actions))",
        "redraw = np.flatnonzero(slots < 0)",
    ),
    "the newest slot is never drawn": Mutation(
        SAMPLERS, "ring.slots(age.astype(np.int64) + 1)", "ring.slots(age.astype(np.int64) + 2)"
    ),
    "importance weights the other way round": Mutation(
        SAMPLERS, "(weight / weight.min()) ** -beta", "(weight / weight.min()) ** beta"
    ),
    "beta stays as it is": Mutation(SAMPLERS, "min(1.0, env_steps / self.beta_env_steps)", "0.0"),
    "new transitions have no priority": Mutation(
        SAMPLERS,
        "np.where(ring.is_final_at(slots), 0.0, self._max_weight)",
        "np.where(ring.is_final_at(slots), 0.0, 1.0)",
    ),
    "overwritten transitions keep their priority": Mutation(
        SAMPLERS, "            self._tree.update(lost, np.zeros(lost.size))\n", ""
    ),
    "priorities without their exponent": Mutation(
        SAMPLERS,
        "as_weights(errors.reshape(-1).astype(np.float64) + self.min_priority, self.alpha)",
        "as_weights(errors.reshape(-1).astype(np.float64) + self.min_priority, 1.0)",
    ),
    "a rollout's state is a row late": Mutation(ROLLOUTS, "if row == first_row)", "if row == first_row + 1)"),
    "windows start a step late": Mutation(
        SEQUENCES,
        "is_start = (step % self.stride == 0) & ~is_final",
        "is_start = (step % self.stride == 1) & ~is_final",
    ),
    "stored states are those of other windows": Mutation(
        SEQUENCES, "first_slots = (slots - self.burn_in * ring.num_envs) % self._tree.size", "first_slots = slots"
    ),
    "a window's priority is its mean error": Mutation(
        SEQUENCES,
        "self.eta * np.nanmax(errors, axis=0) + (1.0 - self.eta) *",
        "0.0 * np.nanmax(errors, axis=0) + 1.0 *",
    ),
    "overwritten windows are completed": Mutation(
        SEQUENCES, "        self._forget_incomplete_windows(ring, ring.num_added - ring.num_full_rows + margin)\n", ""
    ),
    "a window's weights leave final observations in": Mutation(
        SEQUENCES,
        "weight_batch=batch.weight_batch * torch.from_numpy(weight)",
        "weight_batch=torch.ones_like(batch.weight_batch) * torch.from_numpy(weight)",
    ),
    "errors that aren't finite count": Mutation(PRIORITIES, " & errors.isfinite()", ""),
    "errors of rows without a weight count": Mutation(PRIORITIES, "errors.masked_fill(~is_known, torch.nan)", "errors"),
    "epsilon is zero": Mutation(
        DATASET,
        "torch.full_like(batch.action_batch, self.progress.epsilon,",
        "torch.full_like(batch.action_batch, 0.0,",
    ),
    # Targets
    "terminated states are bootstrapped from": Mutation(
        RETURNS, "return (~terminated) * gamma", "return torch.ones_like(terminated) * gamma"
    ),
    "terminated states are bootstrapped from after n steps": Mutation(
        RETURNS, "(gamma**num_steps).masked_fill_(terminated, 0.0)", "gamma**num_steps"
    ),
    "gamma instead of gamma^n": Mutation(
        RETURNS,
        "(gamma**num_steps).masked_fill_(terminated, 0.0)",
        "(gamma + 0.0 * num_steps).masked_fill_(terminated, 0.0)",
    ),
    "rewards aren't discounted": Mutation(
        RETURNS, "return gamma ** torch.arange(count", "return 1.0 ** torch.arange(count"
    ),
    "the max is over forbidden actions": Mutation(
        TARGETS, "mask_actions(next_values, next_mask).amax(-1)", "next_values.amax(-1)"
    ),
    "double selects forbidden actions": Mutation(
        TARGETS, "mask_actions(next_selector_values, next_mask).argmax(-1)", "next_selector_values.argmax(-1)"
    ),
    "the Munchausen bonus isn't clipped": Mutation(
        TARGETS, "value_of(scaled_log_policy, action).clamp(clip, 0.0)", "value_of(scaled_log_policy, action)"
    ),
    "the entropy is subtracted": Mutation(
        TARGETS,
        "entropy = -expected_value(next_scaled_log_policy, next_policy)",
        "entropy = expected_value(next_scaled_log_policy, next_policy)",
    ),
    "lambda-returns cross an episode's end": Mutation(
        RETURNS, "returns[t] += further.masked_fill(is_last[t], 0.0)", "returns[t] += further"
    ),
    "lambda-returns bootstrap from terminal states": Mutation(
        RETURNS, "next_state_values.masked_fill(terminated, 0.0)", "next_state_values"
    ),
    "lambda-returns count episodes inside a window as one": Mutation(
        BATCHES, "is_last[:-1] = self.weight_batch[1:] == 0", "is_last[:-1] = False"
    ),
    "lambda-returns don't bootstrap at a window's end": Mutation(
        RETURNS, "    returns = one_step.clone()\n", "    returns = one_step.clone()\n    returns[-1] = reward[-1]\n"
    ),
    "Q(lambda) bootstraps from forbidden actions": Mutation(
        TARGETS, "mask_actions(selector_values, next_mask).argmax(-1)\n", "selector_values.argmax(-1)\n"
    ),
    "Q(lambda) ignores the selector": Mutation(
        TARGETS, "next_values if next_selector_values is None else next_selector_values", "next_values"
    ),
    "Q(lambda) is learned from n-step returns too": Mutation(
        Q_LAMBDA, 'require(sampler.n_step == 1, "data.sampler.n_step"', 'require(True, "data.sampler.n_step"'
    ),
    "epsilon is shared among forbidden actions": Mutation(
        POLICIES, "allowed = action_mask.to(q_values.dtype)", "allowed = torch.ones_like(q_values)"
    ),
    "forbidden actions have a log-probability": Mutation(
        POLICIES,
        "return policy, log_policy if action_mask is None else log_policy.masked_fill(~action_mask, 0.0)",
        "return policy, log_policy",
    ),
    "the loss is divided by all entries": Mutation(
        LOSSES, "torch.count_nonzero(weight).clamp(min=1)", "losses.numel()"
    ),
    "quantile errors the other way round": Mutation(DISTRIBUTIONAL, "(error.detach() < 0)", "(error.detach() > 0)"),
    "mass beyond the support is lost": Mutation(
        DISTRIBUTIONAL, "values.clamp(support[0], support[-1]).unsqueeze(-2)", "values.unsqueeze(-2)"
    ),
    "the inverse of h without its linear term": Mutation(RESCALING, "slope = 1.0 + 2.0 * epsilon", "slope = 1.0"),
    # Observations with parts
    "parts lie over each other": of_parts(SHAPES, "places[name] = start, end", "places[name] = 0, end - start"),
    "parts lie where their numbers can't be read in place": of_parts(
        SHAPES, "sorted(parts, key=lambda name: -sizes[name])", "sorted(parts, key=lambda name: sizes[name])"
    ),
    "rows are as long as their parts": of_parts(SHAPES, "num_bytes = -(-end // largest) * largest", "num_bytes = end"),
    "a part's shape leaves the frames out": of_parts(
        SHAPES, "frames = () if self.num_frames == 1 else (self.num_frames,)", "frames = ()"
    ),
    "a stack's space is that of one frame": of_parts(
        WRAPPING, "env.observation_space = space.stacked(frame_stack)", "env.observation_space = space"
    ),
    "a choice's first value is 0": of_parts(PACKING, "[value - leaf.start]", "[value]"),
    "environments change places": of_parts(
        PACKING,
        "return pack(observations, self.parts, self.packed_space, (self.num_envs,))",
        "return pack(observations, self.parts, self.packed_space, (self.num_envs,))[::-1]",
    ),
    "parts are packed in another order than they are named": of_parts(
        PACKING,
        "        for key, part in space.items():\n            yield",
        "        for key, part in reversed(space.items()):\n            yield",
    ),
    "parts keep dtypes that aren't stored": of_parts(
        PACKING,
        "    if isinstance(leaf, Box):\n        return stored_space(leaf)",
        "    if isinstance(leaf, Box):\n        return leaf",
    ),
    "two parts share a name": of_parts(PACKING, "        if name in parts:", "        if False:"),
    "integers outside their space are packed": of_parts(
        CHECKED, "    require_inside(array, (array >= low) & (array <= high), low, high, name)\n", ""
    ),
    "further parts are ignored": of_parts(
        CHECKED, "or set(value) != set(space.spaces)", "or not set(value) >= set(space.spaces)"
    ),
    "every torso reads the first part": of_parts(
        COMPOSED, "encoder(parts[name])[0] for name", "encoder(next(iter(parts.values())))[0] for name"
    ),
    "the memory forgets where episodes start": of_parts(
        COMPOSED,
        "self.core.run_torso(self.encode(observation), state, is_first)",
        "self.core.run_torso(self.encode(observation), state)",
    ),
    # Learners
    "the policy network values its own selection": Mutation(
        DQN,
        "next_outputs, next_mask = batch.read_next_states(self.target_net)",
        "next_outputs, next_mask = batch.read_next_states(self.policy_net)",
    ),
    "targets aren't rescaled": Mutation(
        DQN,
        "        return self.to_outputs(target)\n        next_outputs",
        "        return target\n        next_outputs",
    ),
    "C51's atoms aren't unscaled": Mutation(
        C51, "next_atoms = self.to_values(self.support)", "next_atoms = self.support"
    ),
    "C51's priorities are TD errors": Mutation(
        C51, "target_probabilities @ self.support, priority=losses)", "target_probabilities @ self.support)"
    ),
    "IQN acts on other fractions than it selects by": Mutation(
        IQN,
        "return self.q_values(net.quantiles(features, net.acting_fractions))",
        "return self.q_values(net.quantiles(features, net.acting_fractions[:1]))",
    ),
    "SARSA draws every next action": Mutation(
        SARSA, "torch.where(batch.next_action_batch < 0, drawn, batch.next_action_batch)", "drawn"
    ),
    "SAC's higher critic": Mutation(
        SAC,
        "lower_values = torch.minimum(*(self.to_values(outputs) for outputs in next_outputs))",
        "lower_values = torch.maximum(*(self.to_values(outputs) for outputs in next_outputs))",
    ),
    "PQN learns in order": Mutation(PQN, "torch.randperm(num_columns)", "torch.arange(num_columns)"),
    "PQN ignores value_rescaling": Mutation(PQN, "self.to_outputs(returns))", "returns)"),
    "only the last part's priorities are written": Mutation(
        UPDATES, 'torch.cat([update["priority_batch"] for update in updates], dim=1)', 'last["priority_batch"]'
    ),
}


def survives(name: str, folder: Path) -> bool:
    """Put a fault into the copy in ``folder``, and return whether all tests pass."""
    mutation = MUTATIONS[name]
    path = folder / mutation.path
    original = path.read_text()
    assert original.count(mutation.old) == 1, f"{name}: {mutation.old!r} is not in {mutation.path} once"
    path.write_text(original.replace(mutation.old, mutation.new))
    try:
        return all(passes(tests, folder) for tests in mutation.tests)
    finally:
        path.write_text(original)


def passes(tests: tuple[str, ...], folder: Path) -> bool:
    """Run tests until one fails."""
    options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--hypothesis-profile=first_failure"]
    env = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", *options, *tests]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=env)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    return result.returncode == 0


def copy_package(folder: Path) -> None:
    """Copy what the tests need."""
    for name in ("seqrl_lightning", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def main() -> None:
    """Try all faults, or those that are named."""
    names = sys.argv[1:] or list(MUTATIONS)
    if names == ["--list"]:
        print("\n".join(MUTATIONS))
        return
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        copy_package(folder)
        survivors = []
        for name in names:
            start = time.monotonic()
            is_survivor = survives(name, folder)
            print(f"{'SURVIVES' if is_survivor else 'caught':8} {time.monotonic() - start:5.0f} s  {name}", flush=True)
            survivors += [name] if is_survivor else []
    print(f"{len(names) - len(survivors)} of {len(names)} were caught")
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
