"""The networks of a learner and their sizes, printed when a run starts."""

from lightning.pytorch.callbacks import ModelSummary


class NetworkSummary(ModelSummary):
    """Print a line for each network: its class and its number of parameters.

    Lightning's own table also counts FLOPs, which are 0 without an example input, modes and megabytes.
    """

    @staticmethod
    def summarize(summary_data: list[tuple[str, list[str]]], *_: object, **__: object) -> None:
        """Print the columns ``Name``, ``Type`` and ``Params`` of Lightning's summary."""
        columns = dict(summary_data)
        for name, network, parameters in zip(columns["Name"], columns["Type"], columns["Params"], strict=True):
            if (count := " ".join(parameters.split())) != "0":  # statistics are no network
                print(f"{name + ':':15} {network}, {count} parameters")
