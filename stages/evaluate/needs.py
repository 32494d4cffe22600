"""How much memory the evaluate stage holds, counted before it begins."""

from dataclasses import replace

from stages.artifacts.evaluation import RAW, REFINED
from stages.artifacts.outline import Outline, Shapes, most_pixels
from stages.evaluate.params import EvaluateParams
from stages.frame.memory import Needs, resident
from stages.frame.resources import Resources
from stages.frame.stage import Inputs
from stages.maps.memory import WRITTEN_BYTES

# What one pixel of one column takes at once: the mask in three sizes or forms, and the heat map
# that is drawn with it.
MASK_BYTES = 3 + 2
# What Numba takes with the first loop that is called, measured.
COMPILED_BYTES = 64 * 2**20
# And every pixel besides: its regions, a number for their combination, temporaries.
PIXEL_BYTES = 40
# Of each column's map on the pixels of parts, about a sixth of an image: its value as stored, in
# rows of pixels, and compared.
STRENGTH_BYTES = (4 + 4 + 4) // 6
# Of each mask, while the sets are counted or described: its box; two areas, peak and centroid.
BOX_BYTES = 4 * 8
AREA_BYTES = (2 + 1 + 2) * 8


def evaluate_needs(photographs: Shapes, maps: Shapes, columns: int, layers: int) -> Needs:
    """What counting and describing takes; a worker is an image.

    Parameters
    ----------
    photographs : int64 [images, 2]
        Their sizes: the ground truth's.
    maps : int64 [entries, 2]
        Sizes of the maps of one layer.
    columns, layers : int
        Of the maps.
    """
    counted = most_pixels(photographs) * ((MASK_BYTES + STRENGTH_BYTES) * columns + PIXEL_BYTES)
    of_masks = len(maps) * columns * (len((RAW, REFINED)) * layers * BOX_BYTES + AREA_BYTES)
    return Needs(
        fixed={
            "libraries": resident("stages.algorithms.nmf"),
            "compiled loops": COMPILED_BYTES,
            "boxes": of_masks,
        },
        # one waits to be added up while the next is counted
        each={"masks at the size of the largest photograph": 2 * counted},
        images=len(maps),
        remedy="make the largest photographs and their annotations smaller, ask for fewer k and "
        "seeds",
    )


def foretell(
    params: EvaluateParams, outline: Outline, inputs: Inputs, resources: Resources
) -> tuple[Outline, Needs]:
    """See `stages.frame.stage.Stage.foretell`."""
    layers = len(outline.layers)
    maps = outline.maps[outline.members]
    needs = evaluate_needs(outline.sizes, maps, outline.columns, layers)
    masks = layers * round(outline.map_values() * (WRITTEN_BYTES - 2))
    return outline, replace(needs, reads=masks + min(masks, outline.heat_bytes))
