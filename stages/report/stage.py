"""report: everything -> ``report/index.html`` and its pictures.

One page per image set when there are several, else all on the first. Nothing on a page is loaded
from anywhere but the report's own folder, and file names hold numbers only: names of sets and
images come from the user's disk and appear as escaped text alone.
"""

from dataclasses import dataclass
from pathlib import Path

from stages.stage import Inputs, Resources, Stage, param
from store import Staging

PAPER_TABLES = ("table1", "table2", "agnostic", "table3", "table4")


@dataclass(frozen=True)
class ReportParams:
    """What the page shows."""

    images: int = param(12, "images shown per set and k, spread evenly over the set")
    top: int = param(6, "images per factor in which it is strongest")
    long_side: int = param(320, "pixels of the pictures' long side")
    paper: tuple[str, ...] = param(
        (), "shown beside ours: table1, table2, table3, table4, agnostic"
    )

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"images: {self.images} must be at least 1")
        if self.top < 0:
            raise ValueError(f"top: {self.top} must be at least 0")
        for name in self.paper:
            if name not in PAPER_TABLES:
                raise ValueError(f"paper: {name!r} is unknown, choose {', '.join(PAPER_TABLES)}")
        if not 32 <= self.long_side <= 4096:
            raise ValueError(f"long_side: {self.long_side} is not between 32 and 4096 pixels")


def run(params: ReportParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.stage.Stage.run`."""
    from stages.report.write import write_report

    write_report(params, inputs, work, resources.workers)


REPORT: Stage[ReportParams] = Stage(
    name="report",
    version=2,
    params=ReportParams,
    reads={
        "index": Path("artifacts/index"),
        "extract": Path("artifacts/activations.zarr"),
        "factorize": Path("artifacts/factors.zarr"),
        "heatmaps": Path("artifacts/heatmaps.zarr"),
        "refine": Path("artifacts/refined.zarr"),
        "evaluate": Path("artifacts/evaluation"),
    },
    writes=Path("artifacts/report"),
    run=run,
    summary="Write the report, a page that opens from disk.",
    code=(
        "stages/report",
        "stages/concept_maps.py",
        "stages/images.py",
        "stages/algorithms/heatmap.py",
        "stages/algorithms/masks.py",
        "store",
    ),
)
