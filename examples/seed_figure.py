"""The seed's figure: return and length of each episode, a dashed line where the rule changes.

`python examples/seed_figure.py`. Ten objects are to be picked in their order; after 150 episodes the order is reversed,
without notice. `seqrl fit` writes the same figure as `episodes.png` into the folder of any run whose task has blocks.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from seqrl_lightning.analysis.canvas import save
from seqrl_lightning.analysis.figures import draw_episodes
from seqrl_lightning.cli import SeqRLCLI

CONFIG = Path(__file__).parent.parent / "configs" / "sequence_dqn.yaml"


def main() -> None:
    """Trains, and draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("seed_figure.png"))
    arguments, overrides = parser.parse_known_args()
    sys.argv[1:] = []  # the rest is for seqrl
    cli = SeqRLCLI(["fit", "--config", str(CONFIG), *overrides])
    blocks = cli.config["fit"]["data"]["env_kwargs"]["blocks"]
    episodes = pd.read_csv(Path(str(cli.trainer.log_dir)) / "episodes.csv")
    save(draw_episodes(episodes, [block["sequence"] for block in blocks]), arguments.output)
    print(arguments.output)


if __name__ == "__main__":
    main()
