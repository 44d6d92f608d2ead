"""Write the greedy policy of a checkpoint into a file for other programs, and check it.

onnx and torch_export hold the whole function: from observation (and state, zeros at an episode's start, where the
network remembers) to q_values, action (and next_state), for any number of observations at once. safetensors holds the
weights and the settings from which seqrl_lightning.load_policy rebuilds the policy. The file is read back and compared
with the network on random inputs.
"""

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from seqrl_lightning.checkpoints.last import newest_checkpoint
from seqrl_lightning.export import SUFFIXES, export_policy, signature
from seqrl_lightning.policy import load_policy
from seqrl_lightning.running.file_options import add_allow, add_max_gib
from seqrl_lightning.types import printable


def add_arguments(parser: ArgumentParser) -> None:
    """Add the checkpoint, the format and the file."""
    parser.add_argument("--ckpt_path", required=True, help="a checkpoint, or 'last': the newest run's")
    parser.add_argument("--format", required=True, choices=list(SUFFIXES))
    parser.add_argument("--output", type=Path, help="the file; by default beside the checkpoint, under its name")
    parser.add_argument(
        "--default_root_dir", type=Path, default=Path(), help="the folder of the runs among which 'last' is found"
    )
    add_allow(parser)
    add_max_gib(parser)


def run(arguments: Namespace) -> None:
    """Export the policy and print the file's inputs and outputs."""
    is_last = arguments.ckpt_path == "last"
    checkpoint = (
        newest_checkpoint(arguments.default_root_dir, False, arguments.max_gib)
        if is_last
        else Path(arguments.ckpt_path)
    )
    policy = load_policy(checkpoint, allow=arguments.allow, max_gib=arguments.max_gib)
    output = arguments.output or checkpoint.with_suffix(SUFFIXES[arguments.format])
    difference = export_policy(policy, arguments.format, output)
    inputs, outputs = signature(policy)
    shapes = ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in inputs.items())
    about = f"{shapes} -> {', '.join(outputs)}; differs from the network by at most {difference:.1e} on random inputs"
    print(printable(f"{output}: {about}"))
