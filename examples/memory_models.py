"""Six networks on DelayedRecall: which of them bridge the delay (`python examples/memory_models.py`).

A cue, eight distractors, then the question which symbol the cue was. Each network is trained on the same budget; then
`seqrl compare` writes its report. `FrameStack` sees four steps, too few to see the cue; `MLP` sees one.
"""

import argparse
import sys
from pathlib import Path

from seqrl_lightning.__main__ import run_command
from seqrl_lightning.cli import SeqRLCLI

NETWORKS = ("GRU", "LSTM", "MinGRU", "Transformer", "FrameStack", "MLP")
SETTINGS = """
--data.env_id seqrl/DelayedRecall-v0 --data.env_kwargs.delay 8 --data.num_envs 16 --data.eval_episodes 100
--data.batch_size 32 --data.batches_per_epoch 50 --data.sampler SequenceSampler --data.sampler.stored_state false
--model DQN --model.double true --model.clip_grad_norm 10 --model.learning_rate 3e-3
--agent.warmup_env_steps 1000 --agent.env_steps_per_update 32 --agent.max_env_steps 16000
--agent.epsilon LinearEpsilon --agent.epsilon.decay_env_steps 8000
--target_sync.sync_every_updates 1 --target_sync.tau 0.02
--trainer.enable_progress_bar false --trainer.enable_model_summary false
"""


def main() -> None:
    """Trains each network, and compares them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/memory_models"))
    arguments, overrides = parser.parse_known_args()
    sys.argv[1:] = []  # the rest is for seqrl
    for network in NETWORKS:
        root = arguments.runs / network
        settings = [*SETTINGS.split(), "--model.network", network, "--trainer.default_root_dir", str(root)]
        trainer = SeqRLCLI(["fit", *settings, *overrides]).trainer
        print(f"{network}: {trainer.callback_metrics['val/return_mean']:.2f} of 1", flush=True)
    groups = ",".join(f"{network}={arguments.runs / network}" for network in NETWORKS)
    run_command("compare", ["--runs", groups, "--output", str(arguments.runs / "comparison")])


if __name__ == "__main__":
    main()
