"""Reading photographs and heat maps for a GPU in threads or processes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.refine.layer import LayerTasks


def read_into(
    tasks: LayerTasks,
    entries: Sequence[int],
    images: NDArray[np.uint8],
    levels: NDArray[Any],
) -> None:
    """Read some entries of one size.

    Parameters
    ----------
    images : uint8 [n, h, w, 3]
        Filled with the photographs at the maps' size.
    levels : uint8 or uint16 [n, h * w, columns]
        Filled with the heat maps as they are stored.

    Raises
    ------
    StageError
        As `LayerTasks.image`.
    """
    for at, entry in enumerate(entries):
        images[at] = tasks.image(entry)
        heat, _ = tasks.heat(entry)
        levels[at] = heat.reshape(-1, heat.shape[2])
