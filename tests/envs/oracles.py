"""The tasks as plain Python, one step and one environment at a time: slow oracles for the package's tables.

They share no rule with the package, only the parsing of blocks, the grammars of SerialReaction and the picture in text.
"""

from abc import abstractmethod
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np

from seqrl_lightning.envs.blocks import BlockSchedule, order_of
from seqrl_lightning.envs.drawing import write_board
from seqrl_lightning.envs.serial_reaction import alternating, n_gram


class Oracle(gym.Env[Any, np.int64]):
    """One environment. Subclasses count what an episode needs in attributes of their own."""

    metadata = {"render_modes": ["ansi"]}
    render_mode = "ansi"
    low_reward = 0.0  # the least value of an observation

    def __init__(self, num_actions: int, size: int) -> None:
        low = np.zeros(size, np.float32)
        low[-1] = self.low_reward
        self.observation_space = gym.spaces.Box(low, np.ones(size, np.float32))
        self.action_space = gym.spaces.Discrete(num_actions)
        self.block = 0
        self.last_pick = -1

    @abstractmethod
    def begin(self) -> None: ...

    @abstractmethod
    def act(self, action: int) -> tuple[float, bool, bool]: ...

    @abstractmethod
    def observe(self) -> list[float]: ...

    @abstractmethod
    def correct_action(self) -> int: ...

    @abstractmethod
    def board(self) -> tuple[str, int]: ...

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.last_pick = -1
        self.begin()
        return self._result()

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.last_pick = int(action)
        reward, terminated, truncated = self.act(self.last_pick)
        observation, info = self._result()
        return observation, reward, terminated, truncated, info

    def _result(self) -> tuple[Any, dict[str, Any]]:
        return np.array(self.observe(), np.float32), {"block": self.block, "correct_action": self.correct_action()}

    def render(self) -> Any:
        return write_board(*self.board(), None if self.last_pick < 0 else self.letters[self.last_pick])

    @property
    def letters(self) -> str:
        return "ABCDEFGHIJ"


class Ordered(Oracle):
    def __init__(self, objects: str, distractors: str, blocks: Any, num_given: int, size: int) -> None:
        super().__init__(len(objects + distractors), size)
        self.objects = objects
        self.distractors = distractors
        self.num_given = num_given
        self.schedule = BlockSchedule(blocks, objects)
        self.finished_episodes = 0
        self.fixed_block: int | None = None
        self.position = 0

    @property
    def letters(self) -> str:
        return self.objects + self.distractors

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.finished_episodes = 0
        self.fixed_block = (options or {}).get("block")
        return super().reset(seed=seed)

    def begin(self) -> None:
        clock = int(self.schedule.block_of(self.finished_episodes))
        self.block = clock if self.fixed_block is None else self.fixed_block
        self.position = 0

    @abstractmethod
    def pick(self, is_right: bool) -> tuple[float, bool, bool]: ...

    def act(self, action: int) -> tuple[float, bool, bool]:
        reward, terminated, truncated = self.pick(action == self.correct_action())
        if (terminated or truncated) and self.fixed_block is None:
            self.finished_episodes += 1
        return reward, terminated, truncated

    def order(self) -> str:
        return self.schedule.names[self.block]

    def is_complete(self) -> bool:
        return self.num_given + self.position == len(self.objects)

    def correct_action(self) -> int:
        return -1 if self.is_complete() else self.objects.index(self.order()[self.num_given + self.position])

    def observe(self) -> list[float]:
        num_positions = len(self.objects) - self.num_given + 1
        return [float(k == self.position) for k in range(num_positions)]

    def board(self) -> tuple[str, int]:
        return self.order(), self.num_given + self.position


class Sequence(Ordered):
    def __init__(self, objects: str = "ABCDEFGHIJ", blocks: Any = None, max_trials: int = 20) -> None:
        super().__init__(objects, "", blocks, 1, len(objects))
        self.max_trials = max_trials
        self.trials = 0

    def begin(self) -> None:
        super().begin()
        self.trials = 0

    def pick(self, is_right: bool) -> tuple[float, bool, bool]:
        self.trials += 1
        self.position += is_right
        terminated = self.is_complete()
        return float(is_right), terminated, not terminated and self.trials >= self.max_trials


class SequenceDistractor(Ordered):
    def __init__(
        self,
        objects: str = "ABCDE",
        distractors: str = "Z",
        blocks: Any = None,
        max_errors: int = 10,
        backtrack: str = "every",
        num_contexts: int = 0,
    ) -> None:
        size = len(objects) + 1 + (2 if backtrack == "first" else 0) + num_contexts
        super().__init__(objects, distractors, blocks, 0, size)
        self.max_errors = max_errors
        self.backtrack = backtrack
        self.errors = 0
        self.has_erred = False

    def begin(self) -> None:
        super().begin()
        self.errors = 0
        self.has_erred = False

    def pick(self, is_right: bool) -> tuple[float, bool, bool]:
        had_erred, self.has_erred = self.has_erred, not is_right
        if is_right:
            self.position += 1
            return 1.0, self.is_complete(), False
        self.errors += 1
        if self.backtrack == "every" or (self.backtrack == "first" and not had_erred):
            self.position = max(self.position - 1, 0)
        return -1.0, False, self.errors >= self.max_errors

    def observe(self) -> list[float]:
        if self.backtrack != "first":
            return super().observe()
        has_picked = self.last_pick >= 0
        return [*super().observe(), float(has_picked and not self.has_erred), float(has_picked and self.has_erred)]


class BlockSwitch(SequenceDistractor):
    def __init__(
        self,
        objects: str = "ABCDE",
        distractors: str = "Z",
        switch: str = "swap_2_4",
        episodes_per_block: int = 15,
        num_blocks: int = 4,
        max_errors: int = 10,
        backtrack: str = "first",
    ) -> None:
        blocks = [{"sequence": switch if k else objects, "episodes": episodes_per_block} for k in range(num_blocks)]
        super().__init__(objects, distractors, blocks, max_errors, backtrack)


class ContextSequence(SequenceDistractor):
    def __init__(
        self,
        objects: str = "ABCDE",
        distractors: str = "Z",
        contexts: Any = ("ABCDE", "ADCBE"),
        max_errors: int = 10,
        backtrack: str = "every",
    ) -> None:
        super().__init__(objects, distractors, None, max_errors, backtrack, len(contexts))
        self.orders = [objects]
        for sequence in contexts:
            self.orders.append(order_of(sequence, self.orders[-1], objects, "contexts"))
        del self.orders[0]
        self.context = 0

    def begin(self) -> None:
        super().begin()
        self.context = int(self.np_random.integers(len(self.orders)))

    def order(self) -> str:
        return self.orders[self.context]

    def observe(self) -> list[float]:
        return [*super().observe(), *(float(k == self.context) for k in range(len(self.orders)))]


class HiddenSequence(Oracle):
    def __init__(self, objects: str = "ABCDE", trials: int = 8, max_picks: int | None = None) -> None:
        super().__init__(len(objects), len(objects) + 2)
        self.objects = objects
        self.trials = trials
        most_errors = sum(range(len(objects)))  # of the best policy
        self.max_picks = max_picks or max(2 * trials * len(objects), trials * len(objects) + most_errors)

    def begin(self) -> None:
        self.order = self.np_random.permutation(len(self.objects)).tolist()
        self.position = self.trial = self.picks = 0
        self.was_right = False

    def act(self, action: int) -> tuple[float, bool, bool]:
        self.was_right = action == self.correct_action()
        self.picks += 1
        self.position += self.was_right
        if self.position == len(self.order):
            self.position = 0
            self.trial += 1
        terminated = self.trial == self.trials
        return 1.0 if self.was_right else -1.0, terminated, not terminated and self.picks >= self.max_picks

    def correct_action(self) -> int:
        return -1 if self.trial == self.trials else self.order[self.position]

    def observe(self) -> list[float]:
        pick = [float(k == self.last_pick) for k in range(len(self.order))]
        if self.last_pick < 0:
            return [*pick, 0.0, 0.0]
        return [*pick, float(self.was_right), float(not self.was_right)]

    def board(self) -> tuple[str, int]:
        return "".join(self.objects[k] for k in self.order), self.position


class Symbols(Oracle):
    """``draw`` returns a row for each step: what is shown and the right action."""

    reward_right, reward_wrong = 1.0, -1.0

    def __init__(self, num_symbols: int, size: int, previous_action_reward: bool) -> None:
        self.num_symbols = num_symbols
        self.size = size
        self.previous_action_reward = previous_action_reward
        self.low_reward = -1.0 if previous_action_reward else 0.0
        super().__init__(num_symbols, size + (num_symbols + 1 if previous_action_reward else 0))

    @abstractmethod
    def draw(self) -> list[tuple[list[float], int]]: ...

    def begin(self) -> None:
        self.rows = self.draw()
        self.t = 0
        self.reward = 0.0

    def act(self, action: int) -> tuple[float, bool, bool]:
        correct = self.correct_action()
        self.reward = 0.0 if correct < 0 else self.reward_right if action == correct else self.reward_wrong
        self.t += 1
        return self.reward, self.t == len(self.rows), False

    def correct_action(self) -> int:
        return self.rows[self.t][1] if self.t < len(self.rows) else -1

    def observe(self) -> list[float]:
        shown = self.rows[self.t][0] if self.t < len(self.rows) else [0.0] * self.size
        if not self.previous_action_reward:
            return shown
        counted = self.t > 0 and self.rows[self.t - 1][1] >= 0
        action = [float(counted and k == self.last_pick) for k in range(self.num_symbols)]
        return [*shown, *action, self.reward if counted else 0.0]

    def board(self) -> tuple[str, int]:
        symbols = [row[: self.num_symbols] for row, _ in self.rows[max(self.t - 15, 0) : self.t + 1]]
        letters = "".join(self.letters[symbol.index(max(symbol))] if any(symbol) else "." for symbol in symbols)
        return letters, min(self.t, len(letters) - 1)

    def one_hot(self, symbol: int) -> list[float]:
        return [float(k == symbol) for k in range(self.num_symbols)]

    def random_symbols(self, length: int) -> list[int]:
        return [int(uniform * self.num_symbols) for uniform in self.np_random.random(length)]


class DelayedRecall(Symbols):
    def __init__(self, num_symbols: int = 4, delay: int = 10, previous_action_reward: bool = True) -> None:
        super().__init__(num_symbols, num_symbols + 1, previous_action_reward)
        self.delay = delay

    def draw(self) -> list[tuple[list[float], int]]:
        symbols = self.random_symbols(self.delay + 1)
        rows = [([*self.one_hot(symbol), 0.0], -1) for symbol in symbols]
        return [*rows, ([*self.one_hot(-1), 1.0], symbols[0])]


class MemoryChain(Symbols):
    def __init__(self, memory_length: int = 30, num_symbols: int = 2, previous_action_reward: bool = True) -> None:
        super().__init__(num_symbols, num_symbols + 1, previous_action_reward)
        self.memory_length = memory_length

    def draw(self) -> list[tuple[list[float], int]]:
        context = int(self.np_random.integers(self.num_symbols))
        rows = []
        for t, time in enumerate(np.linspace(0.0, 1.0, self.memory_length + 1).tolist()):
            shown = [*self.one_hot(context if t == 0 else -1), time]
            rows.append((shown, context if t == self.memory_length else -1))
        return rows


class NBack(Symbols):
    def __init__(self, n: int = 2, num_symbols: int = 4, trials: int = 20, previous_action_reward: bool = True) -> None:
        super().__init__(num_symbols, num_symbols, previous_action_reward)
        self.n = n
        self.trials = trials
        self.reward_right, self.reward_wrong = 1.0 / trials, -1.0 / trials

    def draw(self) -> list[tuple[list[float], int]]:
        symbols = self.random_symbols(self.n + self.trials)
        return [(self.one_hot(symbol), symbols[t - self.n] if t >= self.n else -1) for t, symbol in enumerate(symbols)]


class Recall(Symbols):
    def __init__(
        self, length: int = 4, order: str = "copy", num_symbols: int = 4, previous_action_reward: bool = True
    ) -> None:
        super().__init__(num_symbols, num_symbols + 1, previous_action_reward)
        self.length = length
        self.order = order
        self.reward_right, self.reward_wrong = 1.0 / length, -1.0 / length

    def draw(self) -> list[tuple[list[float], int]]:
        symbols = self.random_symbols(self.length)
        watched = [([*self.one_hot(symbol), 0.0], -1) for symbol in symbols]
        answers = symbols if self.order == "copy" else symbols[::-1]
        return [*watched, *(([*self.one_hot(-1), 1.0], symbol) for symbol in answers)]


class PictureCue(Symbols):
    def __init__(self, num_choices: int = 4, size: int = 8, trials: int = 8) -> None:
        super().__init__(num_choices, size * size + num_choices, previous_action_reward=False)
        self.width = size
        self.trials = trials
        self.reward_right, self.reward_wrong = 1.0 / trials, -1.0 / trials
        picture = gym.spaces.Box(0, 255, (size, size), np.uint8)
        numbers = gym.spaces.Box(-1.0, 1.0, (num_choices,), np.float32)
        self.observation_space = gym.spaces.Dict(numbers=numbers, picture=picture)

    def draw(self) -> list[tuple[list[float], int]]:
        noise = self.np_random.random((self.trials, self.width, self.width)).tolist()
        self.is_vertical = [uniform < 0.5 for uniform in self.np_random.random(self.trials).tolist()]
        lines, firsts = self.np_random.random((2, self.trials)).tolist()
        numbers = self.np_random.random((self.trials, self.num_symbols)).tolist()
        rows = []
        for t, is_vertical in enumerate(self.is_vertical):
            picture = [[float(int(100 * uniform)) for uniform in row] for row in noise[t]]
            line, first = int(lines[t] * self.width), int(firsts[t] * (self.width - 3))
            for k in range(4):
                row, column = (first + k, line) if is_vertical else (line, first + k)
                picture[row][column] = 255.0
            shown = [float(np.float32(2.0 * uniform - 1.0)) for uniform in numbers[t]]
            rows.append(
                (
                    [*(pixel for row in picture for pixel in row), *shown],
                    shown.index(min(shown) if is_vertical else max(shown)),
                )
            )
        return rows

    def _result(self) -> tuple[Any, dict[str, Any]]:
        observation, info = super()._result()
        picture = observation[: self.width**2].astype(np.uint8).reshape(self.width, self.width)
        return {"numbers": observation[self.width**2 :], "picture": picture}, info

    def board(self) -> tuple[str, int]:
        bars = "".join("|" if is_vertical else "-" for is_vertical in self.is_vertical[: self.t + 1])
        return bars, min(self.t, len(bars) - 1)


class PictureRecall(Symbols):
    def __init__(self, delay: int = 10, size: int = 8) -> None:
        super().__init__(2, size * size, previous_action_reward=False)
        self.delay = delay
        self.width = size
        self.observation_space = gym.spaces.Box(0, 255, (size, size), np.uint8)

    def draw(self) -> list[tuple[list[float], int]]:
        noise = self.np_random.random((self.delay + 2, self.width, self.width)).tolist()
        pictures = [[[float(int(100 * uniform)) for uniform in row] for row in picture] for picture in noise]
        self.is_vertical = [uniform < 0.5 for uniform in self.np_random.random(self.delay + 1).tolist()]
        lines, firsts = self.np_random.random((2, self.delay + 1)).tolist()
        for t, is_vertical in enumerate(self.is_vertical):
            line, first = int(lines[t] * self.width), int(firsts[t] * (self.width - 3))
            for k in range(4):
                row, column = (first + k, line) if is_vertical else (line, first + k)
                pictures[t][row][column] = 255.0
        correct = [-1] * (self.delay + 1) + [int(self.is_vertical[0])]
        return [([pixel for row in pictures[t] for pixel in row], correct[t]) for t in range(self.delay + 2)]

    def _result(self) -> tuple[Any, dict[str, Any]]:
        observation, info = super()._result()
        return observation.astype(np.uint8).reshape(self.width, self.width), info

    def board(self) -> tuple[str, int]:
        bars = ["|" if is_vertical else "-" for is_vertical in self.is_vertical] + ["."]
        return "".join(bars[: self.t + 1]), min(self.t, len(bars) - 1)


class Chunks(Symbols):
    reward_right, reward_wrong = 1.0, 0.0

    def __init__(self, chunks: Any = ("ABC", "BAC", "CDB", "DCB"), previous_action_reward: bool = True) -> None:
        self.symbols = sorted(set("".join(chunks)))
        super().__init__(max(len(self.symbols), 2), len(chunks), previous_action_reward)
        self.chunks = chunks

    def draw(self) -> list[tuple[list[float], int]]:
        rows = []
        for chunk in self.np_random.permutation(len(self.chunks)).tolist():
            for i, letter in enumerate(self.chunks[chunk]):
                shown = [float(i == 0 and k == chunk) for k in range(len(self.chunks))]
                rows.append((shown, self.symbols.index(letter)))
        return rows


class SerialReaction(Symbols):
    reward_right, reward_wrong = 1.0, 0.0

    def __init__(
        self, pattern: str = "ACBD", grammar: Any = None, trials: int = 40, previous_action_reward: bool = True
    ) -> None:
        self.grammar = alternating(pattern) if grammar is None else n_gram(grammar)
        num_symbols = self.grammar.next_symbol.shape[1]
        super().__init__(num_symbols, num_symbols, previous_action_reward)
        self.trials = trials

    def draw(self) -> list[tuple[list[float], int]]:
        uniforms = self.np_random.random(self.trials + 1).tolist()
        state = chosen(self.grammar.start, uniforms[0])
        symbols = self.grammar.seen[state].tolist()
        first = len(symbols) - 1  # step that counts
        for uniform in uniforms[1:]:
            symbol = chosen(self.grammar.next_symbol[state], uniform)
            state = int(self.grammar.successor[state, symbol])
            symbols.append(symbol)
        steps = enumerate(pairwise(symbols))
        return [(self.one_hot(symbol), following if t >= first else -1) for t, (symbol, following) in steps]


def chosen(distribution: Any, uniform: float) -> int:
    """The item of a distribution into whose share of [0, 1) a number falls."""
    cumulative = np.cumsum(distribution)
    return next((k for k in range(len(cumulative) - 1) if uniform < cumulative[k]), len(cumulative) - 1)
