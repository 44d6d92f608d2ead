"""The agent: it acts in the environments and fills the replay memory."""

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from seqrl_lightning.data import ReplayDataModule
from seqrl_lightning.envs import StepCheck, action_mask_of, fault_of, set_state, state_of
from seqrl_lightning.exploration import EpsilonSchedule, ExponentialEpsilon, explore, greedy
from seqrl_lightning.random_streams import random_stream
from seqrl_lightning.trainer_access import attributes_of
from seqrl_lightning.types import Array, BoolArray, ConfigurationError, IntArray, RunError, State, require

_MAX_WAITING_EPISODES = 100_000  # finished episodes that nobody asked for; only a run without EnvStepLogger has them


class Episode(NamedTuple):
    """A finished episode."""

    env_steps: int  # taken in all environments until its end (with several processes: as if all were equally far)
    env: int  # which of the environments, over all processes
    block: int  # whose rule held; 0 for tasks without blocks
    episode_return: float  # undiscounted
    episode_length: int  # env steps
    terminated: bool  # rather than truncated


class TrialStep(NamedTuple):
    """One step of all environments, N of them, as the agent took it."""

    observation: Array  # [N, *obs], what it saw
    told: dict[str, Any]  # what the task told of it: block and correct_action, [N] each
    action: IntArray  # [N]
    explores: BoolArray  # [N], whether the action was random
    q_values: Array | None  # [N, A]; None where all explored and nobody asked for them
    reward: Array  # [N]
    terminated: BoolArray  # [N]
    truncated: BoolArray  # [N]
    trial: IntArray  # [N], env steps before it in the episode
    is_trial: BoolArray  # [N], false where the step only reset the environment


class AgentCallback(Callback):
    """Steps the environments with an epsilon-greedy policy, and keeps env steps and updates in the ratio asked for.

    An env step is one real step of one environment. The extra step by which a vector environment resets itself after
    an episode (next-step autoreset) is no env step, earns nothing, and is never sampled.

    It warms the replay memory up before the first update. Then, after every ``updates_per_collect`` updates, it takes
    ``updates_per_collect * env_steps_per_update`` env steps. With N environments, steps come N at a time: what is
    taken too much is taken less the next time. With several processes each has environments, a replay memory and
    random streams of its own and keeps to this by itself; epsilon follows the env steps of all of them.

    Args:
        warmup_env_steps: Env steps before the first update.
        env_steps_per_update: Env steps for each update of the network.
        updates_per_collect: Updates between two visits to the environments.
        epsilon: The probability of a random action, as a function of the env steps taken so far.
        max_env_steps: Env steps, over all environments and processes, after which the run ends; None for no limit.
        max_episodes: Episodes, over all environments and processes, after which the run ends; None for no limit.
        overlap: Whether the environments take a step while the network is updated, in their own processes
            (``data.vectorization_mode: async``). That step's actions come from the weights before the update. It pays
            for slow environments: an iteration takes as long as the slower of the two, not as both.
        on_env_error: What happens when an environment raises, loses its process, or shows a value that isn't finite or
            outside its space. ``raise`` ends the run. ``restart`` makes all environments anew, forgets what the replay
            memory holds of the broken episode, and goes on with new episodes.
        max_env_restarts: Restarts, in this process, after which the run ends all the same.
        check_bounds: Whether an observation outside its space's bounds is such an error. False for tasks whose bounds
            are not kept (Gymnasium's LunarLander); what isn't finite stays one.

    Attributes:
        env_steps: Env steps that this process has taken so far.
        episodes: Episodes that this process has finished so far.
        env_faults: How often environments broke in this process.
        recent_returns: The returns of the last 10 episodes.

    Raises:
        ConfigurationError: If a setting can't work.
    """

    def __init__(
        self,
        warmup_env_steps: int = 1000,
        env_steps_per_update: float = 1.0,
        updates_per_collect: int = 1,
        epsilon: EpsilonSchedule = ExponentialEpsilon(),  # noqa: B008  (frozen)
        max_env_steps: int | None = None,
        max_episodes: int | None = None,
        overlap: bool = False,
        on_env_error: Literal["raise", "restart"] = "raise",
        max_env_restarts: int = 10,
        check_bounds: bool = True,
    ) -> None:
        require(warmup_env_steps > 0, "agent.warmup_env_steps", warmup_env_steps, "at least 1")
        would_do = "positive and finite"
        require(0 < env_steps_per_update < math.inf, "agent.env_steps_per_update", env_steps_per_update, would_do)
        require(updates_per_collect > 0, "agent.updates_per_collect", updates_per_collect, "at least 1")
        require(
            max_env_steps is None or max_env_steps > warmup_env_steps,
            "agent.max_env_steps",
            max_env_steps,
            f"more than agent.warmup_env_steps = {warmup_env_steps}",
        )
        require(max_episodes is None or max_episodes > 0, "agent.max_episodes", max_episodes, "at least 1")
        would_do = "'raise' or 'restart'"
        require(on_env_error in ("raise", "restart"), "agent.on_env_error", on_env_error, would_do)
        require(max_env_restarts >= 0, "agent.max_env_restarts", max_env_restarts, "at least 0")
        self.warmup_env_steps = warmup_env_steps
        self.env_steps_per_update = env_steps_per_update
        self.updates_per_collect = updates_per_collect
        self.epsilon = epsilon
        self.max_env_steps = max_env_steps
        self.max_episodes = max_episodes
        self.overlap = overlap
        self.on_env_error = on_env_error
        self.max_env_restarts = max_env_restarts
        self.check_bounds = check_bounds
        self._in_flight: IntArray | None = None  # the actions of a step that the environments are taking
        self.env_steps = self.episodes = self.env_faults = 0
        self._epsilon = 0.0
        self._rank, self._world_size = 0, 1
        self._block = 0  # the lowest of this process
        self.recent_returns: deque[float] = deque(maxlen=10)
        self._finished: deque[Episode] = deque(maxlen=_MAX_WAITING_EPISODES)
        self._kept_trials: list[list[TrialStep]] = []
        self._told: dict[str, Any] | None = None  # of the present observation; None where nobody wants to know
        self._warmup_total = 0  # env steps that were taken for no update
        self._resumed: dict[str, Any] | None = None

    @staticmethod
    def of(trainer: Trainer) -> "AgentCallback":
        """Return the Trainer's agent.

        Raises:
            ConfigurationError: If it has none.
        """
        for callback in attributes_of(trainer).callbacks:
            if isinstance(callback, AgentCallback):
                return callback
        raise ConfigurationError("trainer.callbacks has no AgentCallback; it must have one to train")

    def drain_episodes(self) -> list[Episode]:
        """The episodes that finished since this was last called."""
        episodes = list(self._finished)
        self._finished.clear()
        return episodes

    def keep_trials(self) -> list[TrialStep]:
        """A list of the caller's own, to which every step is added from now on in tasks that tell the right action.

        Who asks for it empties it.
        """
        self._kept_trials.append([])
        return self._kept_trials[-1]

    # Lightning's hooks

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses settings that can't work with the data or would never end."""
        if stage != "fit":
            return
        data = ReplayDataModule.of(trainer)
        would_do = f"at least data.batch_size = {data.batch_size}"
        require(
            self.warmup_env_steps >= data.batch_size,
            "agent.warmup_env_steps",
            self.warmup_env_steps,
            would_do,
        )
        would_do = f"at most data.capacity = {data.capacity}"
        require(self.warmup_env_steps <= data.capacity, "agent.warmup_env_steps", self.warmup_env_steps, would_do)
        would_do = "false, or data.vectorization_mode 'async' (and Box observations)"
        require(not self.overlap or isinstance(data.envs, AsyncVectorEnv), "agent.overlap", self.overlap, would_do)
        budgets = (self.max_env_steps, self.max_episodes)
        ends = (
            any(budget is not None for budget in budgets)
            or trainer.max_steps != -1
            or trainer.max_epochs not in (-1, None)
            or any(isinstance(callback, Timer) for callback in attributes_of(trainer).callbacks)
            or attributes_of(trainer).fast_dev_run
        )
        would_do = "a number, or one of agent.max_episodes, trainer.max_steps, trainer.max_epochs and trainer.max_time"
        require(bool(ends), "agent.max_env_steps", None, f"{would_do}: nothing ends this run")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets those go who asked for choices: in a further run they ask again."""
        self._kept_trials.clear()

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Starts the environments, or goes on in them, and warms the replay memory up."""
        self._data = ReplayDataModule.of(trainer)
        self._progress = self._data.progress
        self._epsilon = self._progress.epsilon
        self._rank, self._world_size = trainer.global_rank, trainer.world_size
        self._check = StepCheck(self._data.envs, self.check_bounds)
        self._rng = random_stream("agent", trainer.global_rank)
        self._state: State = None
        if self._resumed is None:
            self._start_episodes()
        else:
            self._resume(self._resumed)
        self._carries_state = pl_module.act_values(self._observation)[1] is not None
        if not self._data.ring.num_slots:
            self._warmup_total += self.warmup_env_steps
            self._collect(trainer, pl_module, self.env_steps + self.warmup_env_steps)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """With ``overlap``: sends the environments on their way, if the coming updates ask for a step."""
        if self.overlap and self.env_steps < self._due(trainer.global_step + pl_module.updates_per_step):
            assert isinstance(self._data.envs, AsyncVectorEnv)
            self._in_flight = self._choose_action(pl_module)
            try:
                self._data.envs.step_async(self._in_flight)
            except Exception as error:  # a process of theirs is dead
                self._in_flight = None
                self._restart(error)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Takes the env steps that the updates so far ask for; none is in flight after it."""
        if self._in_flight is not None:
            assert isinstance(self._data.envs, AsyncVectorEnv)
            self._step(self._in_flight, lambda _: self._data.envs.step_wait())  # type: ignore[attr-defined]
            self._in_flight = None
        self._collect(trainer, pl_module, self._due(trainer.global_step))

    def _due(self, updates: int) -> float:
        """The env steps that there should be after so many updates."""
        collected_after = updates // self.updates_per_collect * self.updates_per_collect
        return self._warmup_total + collected_after * self.env_steps_per_update

    def state_dict(self) -> dict[str, Any]:
        """Counters, random stream and episodes under way; the environments' own state, where they can tell it."""
        tensors = {name: torch.from_numpy(np.array(getattr(self, name))) for name in _EPISODE_STATE}
        return {
            **tensors,
            "env_steps": self.env_steps,
            "episodes": self.episodes,
            "block": self._block,
            "seed": self._seed,
            "env_faults": self.env_faults,
            "warmup_total": self._warmup_total,
            "recent_returns": list(self.recent_returns),
            "rng": self._rng.bit_generator.state,
            "envs": state_of(self._data.envs),
            "told": self._told and {key: torch.from_numpy(np.array(values)) for key, values in self._told.items()},
            "action_mask": None if self._action_mask is None else torch.from_numpy(self._action_mask.copy()),
            "network_state": self._state,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the counters over; the environments follow when fitting starts."""
        self.env_steps = state_dict["env_steps"]
        self.episodes = state_dict["episodes"]
        self.env_faults = state_dict["env_faults"]
        self._warmup_total = state_dict["warmup_total"]
        self.recent_returns = deque(state_dict["recent_returns"], maxlen=10)
        self._resumed = state_dict

    # Episodes

    def _start_episodes(self) -> None:
        """Starts an episode in every environment, from seeds that no earlier part of the run has used."""
        self._episode_length = np.zeros(self._data.num_envs, np.int64)
        while True:
            role = f"environments from env step {self.env_steps}" + f", fault {self.env_faults}" * (self.env_faults > 0)
            self._seed = int(random_stream(role, self._rank).integers(2**31))
            try:
                self._observation, infos = self._data.envs.reset(seed=self._seed)
                self._check.observation(self._observation)
                break
            except Exception as error:  # whatever a task raises
                self._count_fault(error)
        self._action_mask = self._mask_of(infos)
        self._told = self._tell(infos)
        self._data.ring.restart(self._observation, self._action_mask)
        self._block = _lowest_block(infos)
        self._episode_return = np.zeros(self._data.num_envs)
        self._is_restarting = np.zeros(self._data.num_envs, np.bool_)
        self._is_first = np.ones(self._data.num_envs, np.bool_)

    def _resume(self, state_dict: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state_dict["rng"]
        if state_dict["envs"] is None:
            rank_zero_info(
                f"Not bitwise: {self._data.env_id} can't be set back to where it was; it goes on with new episodes."
            )
            self._start_episodes()
            return
        self._data.envs.reset()
        set_state(self._data.envs, state_dict["envs"])
        for name in _EPISODE_STATE:
            setattr(self, name, state_dict[name].numpy().copy())
        self._block, self._seed = state_dict["block"], state_dict["seed"]
        self._action_mask = None if state_dict["action_mask"] is None else state_dict["action_mask"].numpy().copy()
        self._state = state_dict["network_state"]
        self._told = state_dict["told"] and {key: values.numpy() for key, values in state_dict["told"].items()}
        if not self._data.ring.num_slots:  # the checkpoint left the replay memory out
            self._data.ring.restart(self._observation, self._action_mask)

    def _collect(self, trainer: Trainer, pl_module: LightningModule, until_env_steps: float) -> None:
        """Steps the environments until so many env steps were taken, or the run is over."""
        max_env_steps = (self.max_env_steps or math.inf) / trainer.world_size
        max_episodes = self.max_episodes or math.inf
        while self.env_steps < min(until_env_steps, max_env_steps) and self.episodes < max_episodes:
            action = self._choose_action(pl_module)
            until_env_steps += self._step(action, self._data.envs.step)
        self._count_all(trainer, pl_module)
        budget = self.max_env_steps or math.inf
        if self._progress.env_steps >= budget or self._progress.episodes >= max_episodes:
            trainer.should_stop = True

    def _count_all(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts over all processes, so that they log the same, evaluate the same block and stop together."""
        counts = [self.env_steps, self.episodes, self.env_faults, self._block]
        if self._world_size > 1:
            mine = torch.tensor(counts, device=pl_module.device)
            of_all = [torch.empty_like(mine) for _ in range(self._world_size)]
            torch.distributed.all_gather(of_all, mine)
            counts = [*torch.stack(of_all)[:, :-1].sum(0).tolist(), min(int(row[-1]) for row in of_all)]
        progress = self._progress
        progress.env_steps, progress.episodes, progress.env_faults, progress.block = counts
        progress.epsilon = self._epsilon

    def _step(self, action: IntArray, step: Callable[[IntArray], Any]) -> int:
        """Takes a step. Returns how many env steps were lost by it and have to be taken anew: 0 if all went well."""
        try:
            taken = step(action)
            self._check.observation(taken[0])
            self._check.reward(taken[1])
        except Exception as error:  # whatever a task raises
            return self._restart(error)
        self._take_in(action, taken)
        return 0

    def _restart(self, error: Exception) -> int:
        """Begins anew in all environments, as one of them broke. Returns how many env steps were forgotten."""
        env = self._count_fault(error)
        broken = range(self._data.num_envs) if env is None else [env]
        forgotten: int = sum(self._data.ring.drop(env, int(self._episode_length[env])) for env in broken)
        self._warmup_total += forgotten
        self._start_episodes()
        return forgotten

    def _count_fault(self, error: Exception) -> int | None:
        """Makes the environments anew, or ends the run. Returns which of them was broken, if that is known.

        Raises:
            RunError: If the run ends.
        """
        fault = fault_of(self._data.envs, error)
        self.env_faults += 1
        which = "one of the environments" if fault.env is None else f"environment {fault.env}"
        step = "" if fault.env is None else f" in step {self._episode_length[fault.env] + 1} of its episode"
        seed = self._seed + (fault.env or 0)
        message = (
            f"{self._data.env_id}: {which} (seed {seed}) broke{step}, after {self.env_steps} env steps: {fault.reason}"
        )
        if self.on_env_error == "raise":
            raise RunError(f"{message} (agent.on_env_error: restart goes on without its episode)") from error
        if self.env_faults > self.max_env_restarts:
            raise RunError(f"{message}; that was more than agent.max_env_restarts = {self.max_env_restarts}") from error
        rank_zero_warn(f"{message}; restarted")
        self._data.remake_envs()
        return fault.env

    def _mask_of(self, infos: dict[str, Any]) -> BoolArray | None:
        return action_mask_of(infos) if self._data.has_action_masks else None

    def _tell(self, infos: dict[str, Any]) -> dict[str, Any] | None:
        if not self._kept_trials or "correct_action" not in infos:
            return None
        return {key: infos[key] for key in ("block", "correct_action") if key in infos}

    def _choose_action(self, pl_module: Any) -> IntArray:
        data, mask = self._data, self._action_mask
        self._epsilon = self.epsilon(self.env_steps * self._world_size)
        explores, action = explore(data.num_envs, data.n_actions, self._epsilon, self._rng, mask)
        q_values = None
        if self._carries_state or np.count_nonzero(explores) < data.num_envs:  # else nobody needs the values
            data.sampler.keep_state(data.ring, self._state, self._episode_length)
            q_values, self._state = pl_module.act_values(self._observation, self._state, self._is_first)
            action = np.where(explores, action, greedy(q_values, mask))
        self._decision = explores, q_values
        return action

    def _take_in(self, action: IntArray, step: tuple[Array, Array, BoolArray, BoolArray, dict[str, Any]]) -> None:
        """Stores what came of a step, and counts."""
        data = self._data
        seen, (self._observation, reward, terminated, truncated, infos) = self._observation, step
        if self._told is not None:
            outcome = reward, terminated, truncated, self._episode_length.copy(), ~self._is_restarting
            trial_step = TrialStep(seen, self._told, action, *self._decision, *outcome)  # type: ignore[arg-type]
            for kept in self._kept_trials:
                kept.append(trial_step)
            self._told = self._tell(infos)
        self._action_mask = self._mask_of(infos)
        data.ring.add(action, reward, terminated, truncated, self._observation, self._action_mask)

        self._episode_return += reward
        self._episode_length += ~self._is_restarting
        self.env_steps += data.num_envs
        if restarted := int(np.count_nonzero(self._is_restarting)):  # several times as fast as any()
            self.env_steps -= restarted
            self._block = _lowest_block(infos)
        self._is_first = self._is_restarting  # the step that reset an environment showed its first observation
        self._is_restarting = terminated | truncated
        if np.count_nonzero(self._is_restarting):
            self._finish_episodes(terminated, infos)

    def _finish_episodes(self, terminated: BoolArray, infos: dict[str, Any]) -> None:
        blocks = infos.get("block", np.zeros(self._data.num_envs, np.int64))
        for env in np.flatnonzero(self._is_restarting):
            episode = Episode(
                self.env_steps * self._world_size,
                self._rank * self._data.num_envs + int(env),
                int(blocks[env]),
                float(self._episode_return[env]),
                int(self._episode_length[env]),
                bool(terminated[env]),
            )
            self._finished.append(episode)
            self.recent_returns.append(episode.episode_return)
            self.episodes += 1
        self._episode_return[self._is_restarting] = 0.0
        self._episode_length[self._is_restarting] = 0


_EPISODE_STATE = ("_observation", "_episode_return", "_episode_length", "_is_restarting", "_is_first")


def _lowest_block(infos: dict[str, Any]) -> int:
    return int(infos["block"].min()) if "block" in infos else 0
