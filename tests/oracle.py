"""The expected results of learners, as loops over single steps in plain Python.

Nothing here is shared with the package: networks, returns, targets, losses and priorities are written out for one
state, one action and one atom at a time. What is random (noise, fractions, drawn actions) is given.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Vector = list[float]
Values = list[Any]  # a number, or a list of N numbers, for each action


@dataclass
class Row:
    """One environment's entry in one row of the replay memory."""

    observation: Vector
    mask: list[bool] | None
    is_first: bool  # an episode starts
    is_final: bool = False  # the final observation of an episode: the row holds no step
    step: int = 0  # number of the step in its episode
    action: int | None = None  # None where it isn't known yet
    reward: float = 0.0
    terminates: bool = False
    truncates: bool = False


@dataclass
class Transition:
    """Up to n steps of an episode."""

    row: int
    next_row: int
    rewards: list[float]
    terminated: bool
    next_action: int | None  # None where the next row is an episode's final observation


def transition(rows: list[Row], start: int, n_step: int, end: int, needs_next_action: bool) -> Transition | None:
    """Walk from ``rows[start]`` up to ``n_step`` steps ahead, to ``rows[end]`` at most; None where no step starts."""
    rewards: list[float] = []
    at = start
    terminated = False
    while len(rewards) < n_step and at < end and not rows[at].is_final and rows[at].action is not None:
        after = rows[at + 1]
        if needs_next_action and not after.is_final and after.action is None:
            break
        rewards.append(rows[at].reward)
        terminated = rows[at].terminates
        at += 1
    if not rewards:
        return None
    return Transition(start, at, rewards, terminated, None if rows[at].is_final else rows[at].action)


# Networks, one observation at a time


def linear(weight: list[Vector], bias: Vector | None, x: Vector) -> Vector:
    return [
        sum(w * v for w, v in zip(of_unit, x, strict=True)) + (bias[i] if bias else 0.0)
        for i, of_unit in enumerate(weight)
    ]


def relu(x: Vector) -> Vector:
    return [max(0.0, v) for v in x]


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


class Net:
    """A torso (an MLP with one hidden layer, or a GRU) and a head (linear or dueling), possibly with noise.

    Args:
        parameters: The package's parameters by their names, as nested lists.
        noise: For each noisy layer by its name: the noise of its inputs and of its outputs.
        n_atoms: Numbers in an output for each action; None for one number.
    """

    def __init__(
        self, parameters: dict[str, Any], noise: dict[str, tuple[Vector, Vector]], n_actions: int, n_atoms: int | None
    ) -> None:
        self.parameters = parameters
        self.noise = noise
        self.n_actions = n_actions
        self.n_atoms = n_atoms
        self.remembers = "core.weight_ih_l0" in parameters

    def layer(self, name: str, x: Vector) -> Vector:
        weight, bias = self.parameters[f"{name}.weight"], self.parameters.get(f"{name}.bias")
        if name in self.noise:
            into, out = self.noise[name]
            weight_sigma, bias_sigma = self.parameters[f"{name}.weight_sigma"], self.parameters[f"{name}.bias_sigma"]
            weight = [
                [w + s * out[i] * into[j] for j, (w, s) in enumerate(zip(weight[i], weight_sigma[i], strict=True))]
                for i in range(len(weight))
            ]
            bias = [b + s * out[i] for i, (b, s) in enumerate(zip(bias, bias_sigma, strict=True))]
        return linear(weight, bias, x)

    def torso(self, observation: Vector, state: Vector | None, is_first: bool) -> tuple[Vector, Vector | None]:
        if not self.remembers:
            return relu(self.layer("hidden.0", observation)), None
        p = self.parameters
        size = len(p["core.weight_hh_l0"][0])
        if is_first or state is None or not any(state):
            state, starts = [0.0] * size, 1.0
        else:
            starts = 0.0
        of_input = linear(p["core.weight_ih_l0"], p["core.bias_ih_l0"], [*observation, starts])
        of_state = linear(p["core.weight_hh_l0"], p["core.bias_hh_l0"], state)
        new_state = []
        for i in range(size):
            reset = sigmoid(of_input[i] + of_state[i])
            update = sigmoid(of_input[size + i] + of_state[size + i])
            new = math.tanh(of_input[2 * size + i] + reset * of_state[2 * size + i])
            new_state.append((1.0 - update) * new + update * state[i])
        return new_state, new_state

    def head(self, features: Vector) -> Values:
        width = self.n_atoms or 1
        if "head.output.weight" in self.parameters:
            flat = self.layer("head.output", features)
        else:
            value, advantage = self.layer("head.value.0", features), self.layer("head.advantage.0", features)
            flat = []
            for action in range(self.n_actions):
                for atom in range(width):
                    mean = sum(advantage[other * width + atom] for other in range(self.n_actions)) / self.n_actions
                    flat.append(value[atom] + advantage[action * width + atom] - mean)
        if self.n_atoms is None:
            return flat
        return [flat[action * width : (action + 1) * width] for action in range(self.n_actions)]


def read(net: Net, rows: Sequence[Row], state: Vector | None) -> tuple[list[Vector], Vector | None]:
    """The features of rows that are read in order, and the state after them."""
    features = []
    for row in rows:
        of_row, state = net.torso(row.observation, state, row.is_first)
        features.append(of_row)
    return features, state


# Values and policies, one state at a time


def squash(x: float, epsilon: float | None) -> float:
    if epsilon is None:
        return x
    return math.copysign(1.0, x) * (math.sqrt(abs(x) + 1.0) - 1.0) + epsilon * x


def unsquash(y: float, epsilon: float | None) -> float:
    if epsilon is None:
        return y
    root = math.sqrt(1.0 + 4.0 * epsilon * (abs(y) + 1.0 + epsilon))
    return math.copysign(1.0, y) * (((root - 1.0) / (2.0 * epsilon)) ** 2 - 1.0)


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def allowed(mask: list[bool] | None, n_actions: int) -> list[int]:
    """The actions that may be taken; at a terminal state that allows none it doesn't matter: all."""
    if mask is None or not any(mask):
        return list(range(n_actions))
    return [action for action in range(n_actions) if mask[action]]


def best(q_values: Sequence[float], mask: list[bool] | None) -> int:
    return max(allowed(mask, len(q_values)), key=lambda action: q_values[action])


def softmax(logits: Vector, mask: list[bool] | None) -> dict[int, float]:
    actions = allowed(mask, len(logits))
    largest = max(logits[action] for action in actions)
    weights = {action: math.exp(logits[action] - largest) for action in actions}
    total = sum(weights.values())
    return {action: weight / total for action, weight in weights.items()}


def epsilon_greedy(q_values: Vector, epsilon: float, mask: list[bool] | None) -> dict[int, float]:
    actions = allowed(mask, len(q_values))
    greedy = best(q_values, mask)
    return {action: epsilon / len(actions) + (1.0 - epsilon) * (action == greedy) for action in actions}


def project(probabilities: Vector, values: Vector, support: Vector) -> Vector:
    """Algorithm 1 of arXiv:1707.06887."""
    step = (support[-1] - support[0]) / (len(support) - 1)
    projected = [0.0] * len(support)
    for probability, value in zip(probabilities, values, strict=True):
        position = (min(max(value, support[0]), support[-1]) - support[0]) / step
        lower = min(int(position), len(support) - 1)
        upper = min(lower + 1, len(support) - 1)
        projected[lower] += probability * (1.0 - (position - lower))
        projected[upper] += probability * (position - lower)
    return projected


# Losses, one transition at a time


def huber(error: float, delta: float) -> float:
    return 0.5 * error**2 if abs(error) <= delta else delta * (abs(error) - 0.5 * delta)


def quantile_huber(quantiles: Vector, fractions: Vector, targets: Vector, kappa: float) -> float:
    total = 0.0
    for quantile, fraction in zip(quantiles, fractions, strict=True):
        for target in targets:
            error = target - quantile
            size = 0.5 * error**2 / kappa if abs(error) <= kappa else abs(error) - 0.5 * kappa
            total += abs(fraction - (error < 0.0)) * size / len(targets)
    return total


def choice_loss(preferences: Vector, action: int, mask: list[bool] | None) -> float:
    return -math.log(softmax(preferences, mask)[action])


@dataclass
class Result:
    """Of one transition."""

    predicted: float
    expected: float
    loss: float
    priority: float
    policy: dict[int, float] = field(default_factory=dict)  # that the next action was drawn by, if it had to be


@dataclass
class Outlook:
    """A state as a learner sees it: features by each of its networks, and the allowed actions."""

    features: dict[str, Vector]
    mask: list[bool] | None


@dataclass
class Settings:
    gamma: float
    rescaling: float | None
    double: bool = False
    alpha: float = 0.0
    temperature: float = 0.0
    clip: float = 0.0
    epsilon: float = 0.0
    support: Vector = field(default_factory=list)
    fractions: Vector = field(default_factory=list)
    acting_fractions: Vector = field(default_factory=list)
    target_entropy_ratio: float = 0.0
    cql_alpha: float = 0.0
    lambda_: float | None = None


def returns_of(step: Transition, gamma: float) -> tuple[float, float]:
    """The discounted rewards, and the factor of the next state's value."""
    total = sum(gamma**k * reward for k, reward in enumerate(step.rewards))
    return total, 0.0 if step.terminated else gamma ** len(step.rewards)


def munchausen(q: Vector, action: int, mask: list[bool] | None, s: Settings) -> float:
    policy = softmax([x / s.temperature for x in q], mask)
    return s.alpha * max(s.clip, s.temperature * math.log(policy[action]))


def soft_value(q: Vector, values: Callable[[int], float], mask: list[bool] | None, s: Settings) -> float:
    policy = softmax([x / s.temperature for x in q], mask)
    return sum(p * (values(action) - s.temperature * math.log(p)) for action, p in policy.items() if p > 0.0)


def greedy_value(nets: dict[str, Net], then: Outlook, s: Settings) -> float:
    """The target network's value of the action that it or, in double Q-learning, the policy network prefers."""
    q = [unsquash(x, s.rescaling) for x in nets["target"].head(then.features["target"])]
    selector = nets["policy"].head(then.features["policy"]) if s.double else q
    return q[best(selector, then.mask)]


def q_lambda(nets: dict[str, Net], action: int, now: Outlook, lambda_return: float, s: Settings) -> Result:
    """DQN with lambda-returns."""
    predicted = nets["policy"].head(now.features["policy"])[action]
    expected = squash(lambda_return, s.rescaling)
    return Result(predicted, expected, huber(expected - predicted, 1.0), abs(expected - predicted))


def q_learning(nets: dict[str, Net], step: Transition, action: int, now: Outlook, then: Outlook, s: Settings) -> Result:
    """DQN, double DQN and Munchausen DQN, conservative or not."""
    outputs = nets["policy"].head(now.features["policy"])
    predicted = outputs[action]
    target_q = [unsquash(x, s.rescaling) for x in nets["target"].head(then.features["target"])]
    total, discount = returns_of(step, s.gamma)
    if s.alpha:
        q = [unsquash(x, s.rescaling) for x in nets["target"].head(now.features["target"])]
        total += munchausen(q, action, now.mask, s)
        value = soft_value(target_q, lambda a: target_q[a], then.mask, s)
    else:
        value = greedy_value(nets, then, s)
    expected = squash(total + discount * value, s.rescaling)
    loss = huber(expected - predicted, 1.0)
    loss += s.cql_alpha * choice_loss([unsquash(x, s.rescaling) for x in outputs], action, now.mask)
    return Result(predicted, expected, loss, abs(expected - predicted))


def behavior_cloning(nets: dict[str, Net], action: int, now: Outlook) -> Result:
    logits = nets["policy"].head(now.features["policy"])
    probability = softmax(logits, now.mask)[action]
    return Result(probability, 1.0, -math.log(probability), 1.0 - probability)


def sarsa(
    nets: dict[str, Net],
    step: Transition,
    action: int,
    now: Outlook,
    then: Outlook,
    s: Settings,
    drawn: int | None,
    is_expected: bool,
) -> Result:
    """SARSA and Expected SARSA; ``drawn`` is the action that was drawn at a truncated episode's end."""
    predicted = nets["policy"].head(now.features["policy"])[action]
    q = [unsquash(x, s.rescaling) for x in nets["target"].head(then.features["target"])]
    policy = epsilon_greedy(q, s.epsilon, then.mask)
    total, discount = returns_of(step, s.gamma)
    if is_expected:
        value = sum(p * q[a] for a, p in policy.items())
    else:
        next_action = drawn if step.next_action is None else step.next_action
        assert next_action is not None
        value = q[next_action]
    expected = squash(total + discount * value, s.rescaling)
    return Result(predicted, expected, huber(expected - predicted, 1.0), abs(expected - predicted), policy)


def c51(nets: dict[str, Net], step: Transition, action: int, now: Outlook, then: Outlook, s: Settings) -> Result:
    returns = [unsquash(z, s.rescaling) for z in s.support]

    def probabilities(net: str, outlook: Outlook) -> list[Vector]:
        of_actions = nets[net].head(outlook.features[net])
        return [list(softmax(logits, None).values()) for logits in of_actions]

    def q_values(net: str, outlook: Outlook) -> Vector:
        return [sum(p * z for p, z in zip(ps, returns, strict=True)) for ps in probabilities(net, outlook)]

    prediction = probabilities("policy", now)[action]
    next_action = best(q_values("policy" if s.double else "target", then), then.mask)
    total, discount = returns_of(step, s.gamma)
    moved = [squash(total + discount * z, s.rescaling) for z in returns]
    target = project(probabilities("target", then)[next_action], moved, s.support)
    loss = -sum(m * math.log(p) for m, p in zip(target, prediction, strict=True))
    predicted, expected = (sum(p * z for p, z in zip(ps, s.support, strict=True)) for ps in (prediction, target))
    return Result(predicted, expected, loss, abs(loss))


def quantile_learning(
    values: Callable[[str, Outlook], list[Vector]],
    acting: Callable[[str, Outlook], list[Vector]],
    predictions: list[Vector],
    step: Transition,
    action: int,
    now: Outlook,
    then: Outlook,
    s: Settings,
) -> Result:
    """QR-DQN and IQN: ``values`` are a network's quantiles for the target, ``acting`` those that it acts by."""

    def q_values(net: str, outlook: Outlook) -> Vector:
        return [mean([unsquash(x, s.rescaling) for x in quantiles]) for quantiles in acting(net, outlook)]

    next_quantiles = [[unsquash(x, s.rescaling) for x in quantiles] for quantiles in values("target", then)]
    total, discount = returns_of(step, s.gamma)
    targets = []
    if s.alpha:
        total += munchausen(q_values("target", now), action, now.mask, s)
        next_q = q_values("target", then)
        for j in range(len(next_quantiles[0])):
            value = soft_value(next_q, lambda a, j=j: next_quantiles[a][j], then.mask, s)  # type: ignore[misc]
            targets.append(squash(total + discount * value, s.rescaling))
    else:
        next_action = best(q_values("policy" if s.double else "target", then), then.mask)
        targets = [squash(total + discount * z, s.rescaling) for z in next_quantiles[next_action]]
    prediction = predictions[action]
    loss = quantile_huber(prediction, s.fractions, targets, 1.0)
    q = [mean([unsquash(x, s.rescaling) for x in quantiles]) for quantiles in predictions]
    loss += s.cql_alpha * choice_loss(q, action, now.mask)
    predicted, expected = mean(prediction), mean(targets)
    return Result(predicted, expected, loss, abs(expected - predicted))


def qr_dqn(nets: dict[str, Net], step: Transition, action: int, now: Outlook, then: Outlook, s: Settings) -> Result:
    def quantiles(net: str, outlook: Outlook) -> list[Vector]:
        return nets[net].head(outlook.features[net])

    return quantile_learning(quantiles, quantiles, quantiles("policy", now), step, action, now, then, s)


def iqn(
    nets: dict[str, Net],
    embeddings: dict[str, tuple[list[Vector], Vector]],
    step: Transition,
    action: int,
    now: Outlook,
    then: Outlook,
    s: Settings,
    target_fractions: Vector,
) -> Result:
    """``embeddings``: of each network, the weights and biases of its layer on cosines."""

    def quantiles(net: str, outlook: Outlook, fractions: Vector) -> list[Vector]:
        weight, bias = embeddings[net]
        of_fractions = []
        for fraction in fractions:
            cosines = [math.cos(math.pi * i * fraction) for i in range(len(weight[0]))]
            embedded = relu(linear(weight, bias, cosines))
            product = [x * e for x, e in zip(outlook.features[net], embedded, strict=True)]
            of_fractions.append(nets[net].head(product))
        return [[of_fraction[a] for of_fraction in of_fractions] for a in range(nets[net].n_actions)]

    return quantile_learning(
        lambda net, outlook: quantiles(net, outlook, target_fractions),
        lambda net, outlook: quantiles(net, outlook, s.acting_fractions),
        quantiles("policy", now, s.fractions),
        step,
        action,
        now,
        then,
        s,
    )


def soft_actor_critic(
    nets: dict[str, Net],
    log_temperature: float,
    step: Transition,
    action: int,
    now: Outlook,
    then: Outlook,
    s: Settings,
) -> Result:
    """Networks: actor, critic_1, critic_2, target_1, target_2."""
    temperature = math.exp(log_temperature)

    def lower(outlook: Outlook, first: str, second: str) -> Vector:
        both = [[unsquash(x, s.rescaling) for x in nets[n].head(outlook.features[n])] for n in (first, second)]
        return [min(x, y) for x, y in zip(*both, strict=True)]

    next_policy = softmax(nets["actor"].head(then.features["actor"]), then.mask)
    next_q = lower(then, "target_1", "target_2")
    value = sum(p * (next_q[a] - temperature * math.log(p)) for a, p in next_policy.items())
    total, discount = returns_of(step, s.gamma)
    expected = squash(total + discount * value, s.rescaling)
    predictions = [nets[n].head(now.features[n])[action] for n in ("critic_1", "critic_2")]
    policy = softmax(nets["actor"].head(now.features["actor"]), now.mask)
    q = lower(now, "critic_1", "critic_2")
    actor_loss = sum(p * (temperature * math.log(p) - q[a]) for a, p in policy.items())
    entropy = -sum(p * math.log(p) for p in policy.values())
    loss = sum(huber(expected - x, 1.0) for x in predictions) + actor_loss
    loss += log_temperature * (entropy - s.target_entropy_ratio * math.log(len(policy)))
    return Result(predictions[0], expected, loss, abs(expected - predictions[0]))


def lambda_returns(
    rows: list[Row], start: int, end: int, next_values: dict[int, float], gamma: float, lambda_: float
) -> dict[int, float]:
    """Of the steps in rows ``start`` to ``end - 1``; ``next_values``: V of the state after the step in each row."""
    returns: dict[int, float] = {}
    for at in range(end - 1, start - 1, -1):
        if rows[at].is_final:
            continue
        after = 0.0 if rows[at].terminates else next_values[at]
        goes_on = at + 1 < end and not rows[at + 1].is_final
        if goes_on:
            after = (1.0 - lambda_) * next_values[at] + lambda_ * returns[at + 1]
        returns[at] = rows[at].reward + gamma * after
    return returns


def weighted_mean(losses: Sequence[float], weights: Sequence[float]) -> float:
    """Over entries with a weight."""
    return sum(loss * weight for loss, weight in zip(losses, weights, strict=True)) / sum(w > 0 for w in weights)
