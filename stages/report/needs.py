"""How much memory the report stage holds, counted before it begins."""

from dataclasses import replace

from stages.artifacts.outline import Outline
from stages.drawing.memory import picture_needs
from stages.frame.memory import Needs
from stages.frame.resources import Resources
from stages.frame.stage import Inputs
from stages.report.params import ReportParams


def report_needs(params: ReportParams, photograph: int, maps: int, columns: int) -> Needs:
    """What writing the report takes; pixels as `picture_needs` has them."""
    return picture_needs(photograph, maps, params.long_side**2, columns)


def foretell(
    params: ReportParams, outline: Outline, inputs: Inputs, resources: Resources
) -> tuple[Outline, Needs]:
    """See `stages.frame.stage.Stage.foretell`."""
    needs = report_needs(params, outline.largest_photograph, outline.largest_map, outline.columns)
    shown = sum(min(params.images, len(ids)) for ids in outline.sets.values())
    share = shown / max(1, outline.images)
    return outline, replace(needs, images=shown, reads=round(share * outline.file_bytes))
