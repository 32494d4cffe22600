"""report: everything -> ``report/index.html`` with its pictures, and ``report/explore.html``.

One page per image set when there are several, else all on the first. Nothing on a page is loaded
from anywhere but the report's own folder, and file names hold numbers only: names of sets and
images come from the user's disk and appear as escaped text alone.
"""

from pathlib import Path

from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from stages.report.needs import foretell
from stages.report.packed import VERSION
from stages.report.params import ReportParams
from store import Staging


def run(params: ReportParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    from stages.report.write import write_report

    write_report(params, inputs, work, resources)


REPORT: Stage[ReportParams] = Stage(
    name="report",
    version=VERSION,
    params=ReportParams,
    reads={
        "index": Path("artifacts/index"),
        "extract": Path("artifacts/activations.zarr"),
        "factorize": Path("artifacts/factors.zarr"),
        "heatmaps": Path("artifacts/heatmaps.zarr"),
        "refine": Path("artifacts/refined.zarr"),
        "evaluate": Path("artifacts/evaluation"),
        "explain": Path("artifacts/explained.zarr"),
    },
    writes=Path("artifacts/report"),
    run=run,
    foretell=foretell,
)
