"""Reports of small collections, made by every stage."""

from pathlib import Path
from typing import Any

import yaml

from stages.evaluate.params import EvaluateParams
from stages.evaluate.stage import EVALUATE
from stages.explain.params import ExplainParams
from stages.explain.stage import EXPLAIN
from stages.extract.params import ExtractParams
from stages.extract.stage import EXTRACT
from stages.factorize.params import FactorizeParams
from stages.factorize.stage import FACTORIZE
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.heatmaps.params import HeatmapsParams
from stages.heatmaps.stage import HEATMAPS
from stages.index.params import IndexParams
from stages.index.stage import INDEX
from stages.refine.params import RefineParams
from stages.refine.refiners.guided import Guided
from stages.refine.stage import REFINE
from stages.report.params import ReportParams
from stages.report.stage import REPORT

QUICK: dict[str, Any] = {"init": "random", "max_passes": 3, "stability_runs": 2}
PARAMS = ReportParams(images=3, top=2, long_side=64)


def run_stages(
    root: Path,
    project: Path,
    layers: tuple[str, ...],
    k: tuple[int, ...],
    seeds: tuple[int, ...],
    labels: dict[str, Any] | None = None,
    within: tuple[str, ...] = (),
    size: int | tuple[int, ...] = 64,
) -> Path:
    """Every stage on a collection of small images; returns the report's folder.

    `labels` are what labels.yaml has of the sets, `within` the factors that are divided further.
    """
    project.mkdir(exist_ok=True)
    if labels is not None:
        text = yaml.safe_dump({"sets": labels}, allow_unicode=True)
        (project / "labels.yaml").write_text(text, encoding="utf-8")
    stages = [
        (INDEX, IndexParams(dataset="folder", root=str(root), max_failed=0.5)),
        (EXTRACT, ExtractParams("squeezenet1_1", "random:0", layers, size=size)),
        (FACTORIZE, FactorizeParams(k, seeds, **QUICK, within=within)),
        (HEATMAPS, HeatmapsParams(long_side=32)),
        (REFINE, RefineParams(options=Guided(iterations=1))),
        (EVALUATE, EvaluateParams()),
        (EXPLAIN, ExplainParams()),
        (REPORT, PARAMS),
    ]
    for stage, params in stages:
        execute(stage, params, project, Resources(workers=2))
    return project / REPORT.writes
