"""Run folders written by hand, so that what a report must say is known."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from torch.utils.tensorboard import SummaryWriter

from seqrl_lightning.analysis.runs import Run

BEST = 3.0
BLOCKS = [{"sequence": "ABC", "episodes": 20}, {"sequence": "reversed"}]


def make_run(
    folder: Path,
    seed: int = 1,
    returns: Sequence[Sequence[float]] = ((0.0,) * 4 + (BEST,) * 16, (0.0,) * 9 + (BEST,) * 11),
    lengths: int = 3,
    curve: Mapping[int, float] | None = None,
    trials: Sequence[tuple[int, int, str, bool]] = (),
    probes: Sequence[tuple[int, int, str, bool]] = (),
    **settings: Any,
) -> Run:
    """Write a run of SequenceDistractor with ABC and then CBA, among one distractor.

    Args:
        folder: The run's folder.
        seed: Its seed.
        returns: The episodes' returns, by block.
        lengths: Env steps of each episode.
        curve: The greedy policy's return under the current rule, by env steps; by default, the best one all along.
        trials: (episode, block, object chosen, whether at random), each episode from the first position on.
        probes: The same of evaluations, of which each has one episode, at the env steps 10, 20 and so on.
        settings: ``data.env_kwargs`` and the like, by section, in addition.
    """
    folder.mkdir(parents=True)
    blocks = BLOCKS[: len(returns)] if len(returns) > 1 else None
    config: dict[str, Any] = {
        "seed_everything": seed,
        "trainer": {"default_root_dir": str(folder)},
        "data": {"env_id": "seqrl/SequenceDistractor-v0", "env_kwargs": {"objects": "ABC", "blocks": blocks}},
        "agent": {"max_episodes": sum(map(len, returns))},
    }
    for section, of_section in settings.items():
        config.setdefault(section, {}).update(of_section)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [(block, value) for block, of_block in enumerate(returns) for value in of_block]
    episodes = pd.DataFrame(rows, columns=["block", "episode_return"])
    episodes["env_steps"] = lengths * np.arange(1, len(rows) + 1)
    episodes = episodes.assign(env=0, episode_length=lengths, terminated=True)
    episodes.to_csv(folder / "episodes.csv", index=False)
    _write_curve(folder, curve or {int(steps): BEST for steps in episodes["env_steps"]}, num_blocks=len(returns))
    if trials:
        _trials(trials).to_csv(folder / "trials.csv", index=False)
    if probes:
        table = _trials(probes)
        table.assign(env_steps=10 * (table["episode"] + 1)).to_csv(folder / "probes.csv", index=False)
    return Run(folder)


def _write_curve(folder: Path, curve: Mapping[int, float], num_blocks: int) -> None:
    with SummaryWriter(str(folder)) as writer:
        for env_steps, value in curve.items():
            for tag in ("val/return_mean", *(f"val/block_{block}/return_mean" for block in range(num_blocks))):
                writer.add_scalar(tag, value, env_steps)


def _trials(trials: Sequence[tuple[int, int, str, bool]]) -> pd.DataFrame:
    """The task sets nobody back: a wrong choice is followed by another one at the same position."""
    rows = []
    episode, position = -1, 0
    for number, block, chosen, explored in trials:
        episode, position = (episode, position) if number == episode else (number, 0)
        right = ("ABC", "CBA")[block][position]
        state = str(np.eye(4)[position].tolist())
        rows.append((number, 0, len(rows), block, state, "ABCZ".index(chosen), "ABC".index(right), int(explored)))
        position += chosen == right
    names = ["episode", "env", "trial", "block", "state", "action", "correct_action", "explored"]
    table = pd.DataFrame(rows, columns=names).assign(reward=0.0, truncated=0, **{f"q_{k}": 0.0 for k in range(4)})
    return table.assign(terminated=(~table["episode"].duplicated(keep="last")).astype(int))
