"""What stages of maps hold in memory: heatmaps, refine and transform count it alike."""

import numpy as np

from stages.artifacts.outline import Shapes, most_pixels
from stages.frame.memory import Needs, resident

# Half of the store's usual shard: refining what fits takes seconds, and a crash costs a shard.
SHARD_BYTES = 32 * 2**20
# What one value needs while it is written: float32, its whole number, the mask as bytes, and the
# float64 and int32 of one column while components are found.
FINISH_BYTES = 4 + 2 + 1 + 4
# On disk, at most: a whole number of two bytes, and a bit of the mask.
WRITTEN_BYTES = 2 + 1 / 8


def map_needs(
    sizes: Shapes,
    columns: int,
    value_bytes: int,
    image_bytes: int = 0,
    remedy: str = "",
    libraries: tuple[str, ...] = ("numba",),
) -> Needs:
    """What making and writing maps takes; a worker is an image in work.

    Parameters
    ----------
    sizes : int array [entries, 2]
        (height, width) of the maps.
    columns : int
    value_bytes : int
        What one value of one map needs at the worst moment, temporaries included, besides what
        writing takes.
    image_bytes : int
        What one image needs besides.
    remedy : str
        What a person may change where the image, not its maps, takes the memory.
    libraries : tuple of str
        What computes them.
    """
    sizes = np.asarray(sizes, np.int64).reshape(-1, 2)
    # `ordered_map` has up to two results per worker under way, and those that wait to be written
    # are two more; the writer holds a shard twice.
    maps = most_pixels(sizes) * columns * (value_bytes + 2 * FINISH_BYTES)
    smaller = "make the largest photographs smaller"
    return Needs(
        fixed={
            "libraries": resident(*libraries),
            "shards": 2 * SHARD_BYTES,
        },
        each={
            "the maps of the largest image": maps,
            "its pixels and what is computed from them": image_bytes,
        },
        images=len(sizes),
        writes=round(int(sizes.prod(axis=1).sum()) * columns * WRITTEN_BYTES),
        remedy="lower heatmaps.long_side, ask for fewer k and seeds"
        if maps >= image_bytes
        else f"{smaller}, {remedy}"
        if remedy
        else smaller,
    )
