"""The stages, in order: the one list that the CLI, params.yaml and dvc.yaml follow."""

from typing import Any

from stages.evaluate.stage import EVALUATE
from stages.explain.stage import EXPLAIN
from stages.extract.stage import EXTRACT
from stages.factorize.stage import FACTORIZE
from stages.frame.stage import Stage
from stages.heatmaps.stage import HEATMAPS
from stages.index.stage import INDEX
from stages.refine.stage import REFINE
from stages.report.stage import REPORT

STAGES: tuple[Stage[Any], ...] = (
    INDEX,
    EXTRACT,
    FACTORIZE,
    HEATMAPS,
    REFINE,
    EVALUATE,
    EXPLAIN,
    REPORT,
)
BY_NAME: dict[str, Stage[Any]] = {stage.name: stage for stage in STAGES}
