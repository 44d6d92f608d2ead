"""The commands of ``seqrl``, each with a line on it. All but Lightning's have a module of their own.

A command's module has ``add_arguments(parser)`` and ``run(arguments)``; its docstring is the text of ``--help``. It is
imported only when the command is called. The commands in ``PASS_ARGUMENTS_TO_FIT`` find in ``arguments.fit_arguments``
all arguments that they don't define themselves.
"""

GROUPS = {
    "Train": {
        "fit": "train with one seed",
        "fit-seeds": "run `fit` once per seed, in parallel processes (the same as `fit --seeds N`)",
        "experiment": "run every condition of a design with every seed, in parallel processes",
        "sweep": "search for good values of settings, in one or many processes (Optuna)",
    },
    "Evaluate": {
        "test": "evaluate the greedy policy of a checkpoint",
        "validate": "the same, with the names of a run's own evaluations (val/*)",
        "predict": "play greedy episodes of a checkpoint, and write each choice to a table",
        "export": "write a checkpoint's greedy policy to an ONNX, torch.export or safetensors file",
    },
    "Analyze": {
        "analyse": "write a report on runs that differ in their seed: figures, tables, statistics",
        "compare": "compare conditions on one task: figures, tables, statistics",
        "represent": "write the hidden states of networks, and a report on what they hold",
        "fit-behaviour": "fit models of learning to the choices of agents, animals or people",
    },
    "Look up": {
        "configs": "list the configs that come with the package, with their results",
        "algorithms": "list the learners and networks with their settings and defaults",
        "envs": "list the tasks with their rules, spaces and best possible returns",
        "play": "play a task yourself, in the terminal",
    },
}

LIGHTNINGS = ("fit", "validate", "test", "predict")
"""The commands of Lightning's CLI."""

COMMANDS = {name: line for group in GROUPS.values() for name, line in group.items() if name not in LIGHTNINGS}
"""The others. A hyphen in a command's name is an underscore in its module's."""

PASS_ARGUMENTS_TO_FIT = ("fit-seeds", "sweep")
"""Commands that pass the arguments that they don't define to ``seqrl fit``."""
