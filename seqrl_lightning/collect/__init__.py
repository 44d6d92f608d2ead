"""Acting in environments, in plain Python without Lightning."""

from seqrl_lightning.collect.evaluation import EvaluationTasks

__all__ = ["EvaluationTasks"]
