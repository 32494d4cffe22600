"""The stages, in order: the one list that the CLI, params.yaml and dvc.yaml follow."""

from typing import Any

from stages.evaluate import EVALUATE
from stages.extract import EXTRACT
from stages.factorize import FACTORIZE
from stages.heatmaps import HEATMAPS
from stages.index import INDEX
from stages.refine import REFINE
from stages.report import REPORT
from stages.stage import Stage

STAGES: tuple[Stage[Any], ...] = (
    INDEX,
    EXTRACT,
    FACTORIZE,
    HEATMAPS,
    REFINE,
    EVALUATE,
    REPORT,
)
BY_NAME: dict[str, Stage[Any]] = {stage.name: stage for stage in STAGES}
