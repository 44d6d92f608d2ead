"""The models of behavior that come with the package. docs/behavior.md has their equations."""

import numpy as np

from seqrl_lightning.behavior.histories import NO_ACTION, Trial
from seqrl_lightning.behavior.model import (
    INVERSE_TEMPERATURE,
    RATE,
    SMALL_RATE,
    Latents,
    Memory,
    Model,
    Parameter,
    Parameters,
    Size,
    softmax,
)
from seqrl_lightning.types import FloatArray, IntArray, require

MAX_CHUNKED = 26
"""The most actions for :class:`Chunking`: its memory grows with the third power of their number."""


class Chance(Model):
    """Choose among all actions with equal probability."""

    def probabilities(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        """Return 1 / A for each action."""
        return np.ones(trial.allowed.shape)


class WinStayLoseShift(Model):
    """Repeat the last action in a state after a reward above 0, and choose another one after any other reward."""

    parameters = {"stay": RATE, "shift": RATE}

    def begin(self, size: Size) -> Memory:
        """Begin without an earlier action."""
        return {
            "last": np.full((size.subjects, size.states), -1),
            "won": np.zeros((size.subjects, size.states), bool),
        }

    def probabilities(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        """Return the probability of staying for the last action, and share the rest among the others."""
        last = memory["last"][trial.row, trial.state]
        stay = np.where(memory["won"][trial.row, trial.state], p["stay"], 1 - p["shift"])
        is_last = np.arange(trial.allowed.shape[1]) == last[:, None]
        others = (trial.allowed & ~is_last).sum(1)
        chosen = np.where(is_last, stay[:, None], ((1 - stay) / np.maximum(others, 1))[:, None])
        return np.where(last[:, None] < 0, 1.0, chosen)

    def update(self, memory: Memory, p: Parameters, trial: Trial) -> Latents:
        """Remember the action and whether it won."""
        memory["last"][trial.row, trial.state] = trial.action
        memory["won"][trial.row, trial.state] = trial.reward > 0
        return {}


class QLearning(Model):
    """Q-learning with a softmax: tabular, by default without looking ahead.

    Options: ``alpha_worse``, the learning rate where an outcome is worse than expected (``alpha`` is then that for
    better ones); ``gamma``, the discount of what follows in the episode; ``lambda``, the decay of eligibility traces,
    with ``gamma``; ``forgetting``, the decay of the values of the actions that were not chosen in the state.
    """

    parameters = {"alpha": RATE, "beta": INVERSE_TEMPERATURE}
    options = {"alpha_worse": RATE, "gamma": RATE, "lambda": RATE, "forgetting": SMALL_RATE}

    def __init__(self, *optional: str) -> None:
        super().__init__(*optional)
        require("gamma" in optional or "lambda" not in optional, "the model", self.name, "QLearning+gamma+lambda")

    def begin(self, size: Size) -> Memory:
        """Begin with values of 0."""
        memory: Memory = {"q": np.zeros(size.values)}
        if "lambda" in self.free:
            memory["trace"] = np.zeros(size.values)
        return memory

    def probabilities(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        """Return the softmax of the state's values."""
        return softmax(p["beta"][:, None] * memory["q"][trial.row, trial.state], trial.allowed)

    def update(self, memory: Memory, p: Parameters, trial: Trial) -> Latents:
        """Move the chosen action's value toward its target."""
        q = memory["q"]
        value = q[trial.chosen]
        target = trial.reward
        if "gamma" in p:
            target = target + p["gamma"] * np.where(trial.is_last, 0.0, q[trial.row, trial.next_state].max(1))
        error = target - value
        rate = np.where(error < 0, p["alpha_worse"], p["alpha"]) if "alpha_worse" in p else p["alpha"]
        if "forgetting" in p:
            q[trial.row, trial.state] *= (1 - p["forgetting"])[:, None]
            q[trial.chosen] = value
        if "lambda" in p:
            trace = _traced(memory["trace"], p, trial)
            q += (rate * error)[:, None, None] * trace
        else:
            q[trial.chosen] += rate * error
        return {"value": value, "prediction_error": error}


class Sarsa(Model):
    """SARSA(lambda) with a softmax: the value of a choice moves once the next one in the episode is made.

    Options: ``gamma``, the discount, else 1; ``lambda``, the decay of eligibility traces, else 0.
    """

    parameters = {"alpha": RATE, "beta": INVERSE_TEMPERATURE}
    options = {"gamma": RATE, "lambda": RATE}

    def begin(self, size: Size) -> Memory:
        """Begin with values of 0, and no choice whose value waits for the next one."""
        return {
            "q": np.zeros(size.values),
            "trace": np.zeros(size.values),
            "reward": np.zeros(size.subjects),
            "value": np.zeros(size.subjects),
        }

    def probabilities(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        """Return the softmax of the state's values."""
        return softmax(p["beta"][:, None] * memory["q"][trial.row, trial.state], trial.allowed)

    def update(self, memory: Memory, p: Parameters, trial: Trial) -> Latents:
        """Update the values for the choice before, which this one completes, and for this one if the episode ends."""
        q, trace = memory["q"], memory["trace"]
        gamma = p.get("gamma", np.ones(1))
        waiting = memory["reward"] + gamma * q[trial.chosen] - memory["value"]
        q += (p["alpha"] * np.where(trial.follows_choice, waiting, 0.0))[:, None, None] * trace
        _traced(trace, {"gamma": gamma, "lambda": np.zeros(1), **p}, trial)
        memory["reward"], memory["value"] = trial.reward, q[trial.chosen]
        error = trial.reward - memory["value"]
        q += (p["alpha"] * np.where(trial.is_last, error, 0.0))[:, None, None] * trace
        return {"value": memory["value"], "prediction_error": np.where(trial.is_last, error, waiting)}


class WorkingMemoryRL(Model):
    """Working memory beside reinforcement learning (Collins and Frank 2012, 10.1111/j.1460-9568.2011.07980.x).

    Working memory keeps the last outcome of each state and action, and decays. It is relied on less the more states a
    block has: with the weight rho * min(1, capacity / set size).
    """

    parameters = {
        "alpha": RATE,
        "beta": INVERSE_TEMPERATURE,
        "decay": SMALL_RATE,
        "rho": Parameter(0.0, 1.0, mean=1.0),
        "capacity": Parameter(1.0, 7.0),
    }

    def begin(self, size: Size) -> Memory:
        """Begin with values of 1 / A in both."""
        return {"q": np.full(size.values, 1 / size.actions), "wm": np.full(size.values, 1 / size.actions)}

    def probabilities(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        """Return the mixture of both softmaxes."""
        learned, kept = (
            softmax(p["beta"][:, None] * memory[name][trial.row, trial.state], trial.allowed) for name in ("q", "wm")
        )
        weight = (p["rho"] * np.minimum(1.0, p["capacity"] / trial.set_size))[:, None]
        return weight * kept + (1 - weight) * learned

    def update(self, memory: Memory, p: Parameters, trial: Trial) -> Latents:
        """Let working memory decay, then learn in both: slowly, and at once."""
        q, kept = memory["q"], memory["wm"]
        kept += p["decay"][:, None, None] * (1 / kept.shape[2] - kept)
        value = q[trial.chosen]
        error = trial.reward - value
        q[trial.chosen] += p["alpha"] * error
        kept[trial.chosen] = trial.reward
        return {"value": value, "prediction_error": error}


class TwoStep(Model):
    """Model-based and model-free values, mixed in the first choice of an episode (Daw et al. 2011).

    10.1016/j.neuron.2011.02.027. An episode is two choices: the first one in one state, the second one in the state
    that the first led to. ``weight`` is that of the model-based values, ``lambda`` the share of the second prediction
    error that the first choice's value takes part in. The transition probabilities are those counted so far; in the
    paper, they are one of two pairs that the subject knew of.

    Options: ``alpha_second``, a learning rate of its own for second choices.
    """

    parameters = {
        "alpha": RATE,
        "beta_first": INVERSE_TEMPERATURE,
        "beta_second": INVERSE_TEMPERATURE,
        "lambda": RATE,
        "weight": RATE,
    }
    options = {"alpha_second": RATE}

    def begin(self, size: Size) -> Memory:
        """Begin with values of 0 and no transition."""
        return {
            "q": np.zeros(size.values),
            "count": np.zeros((size.subjects, size.actions, size.states)),
            "state": np.zeros(size.subjects, np.int64),
            "action": np.zeros(size.subjects, np.int64),
        }

    def probabilities(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        """Return the softmax of the mixed values of a first choice, of the model-free values of a second one."""
        q, count = memory["q"], memory["count"]
        planned = np.einsum("bas,bs->ba", count, q.max(2)) / np.maximum(count.sum(2), 1)
        weight = np.where(trial.is_first, p["weight"], 0.0)[:, None]
        beta = np.where(trial.is_first, p["beta_first"], p["beta_second"])[:, None]
        return softmax(beta * (weight * planned + (1 - weight) * q[trial.row, trial.state]), trial.allowed)

    def update(self, memory: Memory, p: Parameters, trial: Trial) -> Latents:
        """Count the transition of a first choice; after a second one, update the values of both."""
        q, is_first = memory["q"], trial.is_first
        memory["count"][trial.row, trial.action, trial.next_state] += is_first & ~trial.is_last
        memory["state"] = np.where(is_first, trial.state, memory["state"])
        memory["action"] = np.where(is_first, trial.action, memory["action"])
        first = trial.row, memory["state"], memory["action"]
        value = q[trial.chosen]
        error = np.where(is_first, 0.0, trial.reward - value)
        q[first] += p["alpha"] * np.where(trial.follows_choice, value - q[first] + p["lambda"] * error, 0.0)
        q[trial.chosen] += p.get("alpha_second", p["alpha"]) * error
        return {"value": value, "prediction_error": np.where(is_first, np.nan, error)}


class PositionCode(Model):
    """Associate each item with its serial position in the episode; nearby positions are confused.

    The strength of an item at a position is the sum of what was learned at all positions, weighted by exp(-distance /
    ``width``), as in serial recall by positional markers.
    """

    parameters = {"alpha": RATE, "beta": INVERSE_TEMPERATURE, "width": Parameter(0.0, mean=-1.0, sd=1.0)}

    def begin(self, size: Size) -> Memory:
        """Begin without associations."""
        return {"strength": np.zeros((size.subjects, size.positions, size.actions))}

    def probabilities(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        """Return the softmax of the items' strengths at the position."""
        strength = memory["strength"]
        distance = np.abs(np.arange(strength.shape[1]) - trial.position[:, None])
        weight = np.exp(-distance / p["width"][:, None])
        return softmax(p["beta"][:, None] * np.einsum("bk,bka->ba", weight, strength), trial.allowed)

    def update(self, memory: Memory, p: Parameters, trial: Trial) -> Latents:
        """Move the strength of the item at the position toward the reward."""
        return _associate(memory["strength"], trial.position, p, trial)


class Chaining(Model):
    """Associate each item with the one chosen before it in the episode, as in serial recall by chaining.

    The start of an episode and a missed trial are cues of their own.
    """

    parameters = {"alpha": RATE, "beta": INVERSE_TEMPERATURE}

    def begin(self, size: Size) -> Memory:
        """Begin without associations; the last two rows are those of an episode's start and of a missed trial."""
        return {
            "strength": np.zeros((size.subjects, size.actions + 2, size.actions)),
            "before": np.zeros(size.subjects, np.int64),
        }

    def probabilities(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        """Return the softmax of the items' associations with the item before."""
        cue = self._cue(memory, trial)
        return softmax(p["beta"][:, None] * memory["strength"][trial.row, cue], trial.allowed)

    def update(self, memory: Memory, p: Parameters, trial: Trial) -> Latents:
        """Move the association of the item with the one before toward the reward."""
        cue = self._cue(memory, trial)
        memory["before"] = trial.action
        return _associate(memory["strength"], cue, p, trial)

    def _cue(self, memory: Memory, trial: Trial) -> IntArray:
        size = trial.allowed.shape[1]
        return np.where(trial.follows_choice, memory["before"], np.where(trial.is_first, size, size + 1))


class Chunking(Chaining):
    """Bind two items that are chosen in a row into a chunk, which takes over as the cue of the next item.

    As in competitive chunking (Servan-Schreiber and Anderson 1990, 10.1037/0278-7393.16.4.592), a chunk grows stronger
    each time it is used and weaker when another one that begins alike is used, and strong chunks are used more. What
    follows two items is learned as what follows one is, so that chunks have up to three items. With a ``binding`` of 0,
    this is :class:`Chaining`.

    Raises:
        ConfigurationError: If there are more than 26 actions.
    """

    parameters = {**Chaining.parameters, "binding": RATE}

    def begin(self, size: Size) -> Memory:
        """Begin without associations and without chunks."""
        few_enough = f"at most {MAX_CHUNKED} for Chunking"
        require(size.actions <= MAX_CHUNKED, "the number of actions", size.actions, few_enough)
        pairs = size.subjects, size.actions, size.actions
        return {
            **super().begin(size),
            "bound": np.zeros(pairs),
            "after_chunk": np.zeros((*pairs, size.actions)),
            "earlier": np.full(size.subjects, NO_ACTION),
        }

    def probabilities(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        """Return the softmax of the items' associations with the item before and with the chunk that it ends."""
        return softmax(p["beta"][:, None] * self._strengths(memory, p, trial), trial.allowed)

    def update(self, memory: Memory, p: Parameters, trial: Trial) -> Latents:
        """Move the item's associations with both cues toward the reward, and bind it to the item before."""
        value, weight = self._strengths(memory, p, trial)[trial.row, trial.action], self._weight(memory, p, trial)
        before, bound, after_chunk = (memory[name] for name in ("before", "bound", "after_chunk"))
        learned = trial.row, memory["earlier"], before, trial.action
        after_chunk[learned] += p["alpha"] * np.where(weight > 0, trial.reward - after_chunk[learned], 0.0)
        rate = np.where(trial.follows_choice, p["alpha"], 0.0)
        bound[trial.row, before] *= (1 - rate)[:, None]
        bound[trial.row, before, trial.action] += rate
        memory["earlier"] = np.where(trial.follows_choice, before, NO_ACTION)
        super().update(memory, p, trial)
        return {"value": value, "prediction_error": trial.reward - value, "chunk": weight}

    def _strengths(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        chained = memory["strength"][trial.row, self._cue(memory, trial)]
        chunked = memory["after_chunk"][trial.row, memory["earlier"], memory["before"]]
        return np.asarray(chained + self._weight(memory, p, trial)[:, None] * (chunked - chained))

    def _weight(self, memory: Memory, p: Parameters, trial: Trial) -> FloatArray:
        """Return how far the last two items are a chunk, [B]; 0 where there are no two."""
        earlier, before = memory["earlier"], memory["before"]
        is_pair = trial.follows_choice & (earlier != NO_ACTION)
        return np.where(is_pair, p["binding"] * memory["bound"][trial.row, earlier, before], 0.0)


def _traced(trace: FloatArray, p: Parameters, trial: Trial) -> FloatArray:
    """Let the eligibility traces [B, S, A] decay, and set that of the choice to 1, in place."""
    kept = np.where(trial.follows_choice, p.get("gamma", np.ones(1)) * p["lambda"], 0.0)
    trace *= kept[:, None, None]
    trace[trial.chosen] = 1.0
    return trace


def _associate(strength: FloatArray, cue: IntArray, p: Parameters, trial: Trial) -> Latents:
    """Move the strength [B, cues, A] of the chosen item's association with a cue toward the reward, in place."""
    value = strength[trial.row, cue, trial.action]
    error = trial.reward - value
    strength[trial.row, cue, trial.action] += p["alpha"] * error
    return {"value": value, "prediction_error": error}


def default_models(num_positions: int, num_actions: int) -> list[str]:
    """Return the names of the models that are compared if none is named.

    Args:
        num_positions: The most choices of an episode. Models of serial order need at least two, chunks three.
        num_actions: Number of actions.
    """
    names = ["Chance", "WinStayLoseShift", "QLearning", "QLearning+alpha_worse", "QLearning+forgetting"]
    names += ["QLearning+perseveration", "QLearning+forgetting+perseveration"]
    if num_positions > 1:
        names += ["PositionCode", "Chaining"]
    if num_positions > 2 and num_actions <= MAX_CHUNKED:
        names.append("Chunking")
    return names
