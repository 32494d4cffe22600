"""none: probabilities as they are, so that refined masks are the raw ones."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from stages.frame.parallel import Kind
from stages.refine.refiners.refiner import Size, Task


@dataclass(frozen=True)
class Unrefined:
    """Leaves maps as they are."""

    kind: ClassVar[Kind] = "threads"
    remedy: ClassVar[str] = ""
    libraries: ClassVar[tuple[str, ...]] = ("numba",)

    def refine(self, task: Task) -> NDArray[np.float32]:
        """See `Refiner.refine`."""
        return task.probability

    def bytes_per_image(self, size: Size, columns: int) -> int:
        """See `Refiner.bytes_per_image`."""
        return 0
