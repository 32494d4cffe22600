"""evaluate: maps + ground truth -> scores, tables and plots; see `stages.evaluate.stage`."""

from stages.evaluate.stage import EVALUATE, EvaluateParams

__all__ = ["EVALUATE", "EvaluateParams"]
