"""evaluate: maps + ground truth -> scores, tables and plots; see `stages.evaluate.stage`."""
