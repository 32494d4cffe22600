"""densecrf: the dense CRF of Kraehenbuehl and Koltun by pydensecrf, one process per worker."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from stages.algorithms import refinement_defaults as usual
from stages.frame.parallel import Kind
from stages.frame.params import param
from stages.refine.refiners.refiner import Size, Task

# Per pixel, a lattice of pydensecrf's; and what a process takes.
LATTICE_BYTES = 500
PROCESS = 150 * 2**20


@dataclass(frozen=True)
class DenseCrf:
    """Mean field in a dense CRF under pydensecrf's own parameters' names."""

    kind: ClassVar[Kind] = "processes"
    remedy: ClassVar[str] = ""

    iterations: int = param(usual.CRF_ITERATIONS, "mean-field updates")
    gaussian_sxy: float = param(usual.GAUSSIAN_SXY, "position term, pixels")
    gaussian_compat: float = param(usual.GAUSSIAN_COMPAT, "its weight")
    bilateral_sxy: float = param(usual.BILATERAL_SXY, "colour term, pixels")
    bilateral_srgb: float = param(usual.BILATERAL_SRGB, "colour term, colour steps")
    bilateral_compat: float = param(usual.BILATERAL_COMPAT, "its weight")

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise ValueError(f"iterations: {self.iterations} must be at least 0")
        for name in ("gaussian_sxy", "bilateral_sxy", "bilateral_srgb"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)} must be above 0")

    def refine(self, task: Task) -> NDArray[np.float32]:
        """See `Refiner.refine`."""
        from stages.algorithms.dense_crf import dense_crf

        return dense_crf(task.image, task.probability, **dataclasses.asdict(self))

    def bytes_per_image(self, size: Size, columns: int) -> int:
        """See `Refiner.bytes_per_image`."""
        return LATTICE_BYTES * size[0] * size[1] + PROCESS
