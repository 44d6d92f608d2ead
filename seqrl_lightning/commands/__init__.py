"""What ``seqrl`` does besides ``fit``, ``validate``, ``test`` and ``predict``: one command a file.

A command's module has a docstring that says what it does, ``add_arguments(parser)`` and ``run(arguments)``. It is only
imported when it is asked for. One that calls ``seqrl fit`` finds in ``arguments.fit_arguments`` all that it didn't ask
for itself (``HANDS_ON``).
"""

COMMANDS = {
    "fit-seeds": "or `fit --seeds N`: one run for each seed, in parallel processes",
    "sweep": "search for good values of settings, in one or many processes (Optuna)",
    "analyse": "a report on runs that differ by their seed: figures, tables, statistics",
    "compare": "groups of runs of one task against each other",
    "fit-behaviour": "tabular learners' parameters, fitted to an agent's, animal's or person's choices",
    "export": "a checkpoint's greedy policy as an ONNX, torch.export or safetensors file",
    "algorithms": "list the learners and networks: what they do, their settings and defaults",
    "play": "play a task yourself, in the terminal",
    "envs": "list the tasks: their rules, spaces and best possible returns",
}
"""Name of the module (a hyphen of the command is an underscore there): what the command does, in a line."""

HANDS_ON = ("fit-seeds", "sweep")
"""Commands that hand the arguments which they don't know on to ``seqrl fit``."""
