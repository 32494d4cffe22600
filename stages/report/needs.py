"""How much memory the report stage holds, counted before it begins."""

from dataclasses import replace

from stages.artifacts.outline import Outline, most_pixels
from stages.drawing.memory import picture_needs
from stages.frame.memory import Needs
from stages.frame.resources import Resources
from stages.frame.stage import Inputs
from stages.report.params import ReportParams

# Images whose coefficients the page to explore loads together; and bytes of one of these while they
# are packed: as read, as shares, in whole numbers and as text.
PART = 64
PACKED_BYTES = 4 + 3 * 8 + 4


def report_needs(
    params: ReportParams, photograph: int, maps: int, columns: int, cells: int
) -> Needs:
    """What writing the report takes; pixels as `picture_needs` has them, cells of a grid."""
    needs = picture_needs(photograph, maps, params.long_side**2, columns)
    part = PART * cells * columns * PACKED_BYTES
    each = {
        **needs.each,
        "coefficients that the page to explore loads together": part,
        "larger photographs": 2 * 3 * params.large_side**2,
    }
    return replace(needs, each=each)


def foretell(
    params: ReportParams, outline: Outline, inputs: Inputs, resources: Resources
) -> tuple[Outline, Needs]:
    """See `stages.frame.stage.Stage.foretell`."""
    grids = [layer.finest.grids.reshape(-1, 2) for layer in outline.layers.values()]
    cells = max(map(most_pixels, grids), default=1)
    sizes = outline.largest_photograph, outline.largest_map
    needs = report_needs(params, *sizes, outline.columns, cells)
    return outline, replace(needs, images=outline.images, reads=outline.file_bytes)
