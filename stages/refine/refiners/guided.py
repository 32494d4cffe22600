"""guided: mean field by the guided filter and a colour term (`stages.algorithms.mean_field`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stages.algorithms import refinement_defaults as usual
from stages.algorithms.colour_term import ColourTerm
from stages.algorithms.inference.images import (
    Terms,
    infer_image,
    infer_levels,
    loops_suit,
    window_radius,
)
from stages.frame.parallel import Kind
from stages.frame.params import param
from stages.refine.refiners.refiner import Size, Task

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Guided:
    """The paper's inference, with votes by colour from further away."""

    kind: ClassVar[Kind] = "threads"
    remedy: ClassVar[str] = "lower refine.guided.working_side"

    iterations: int = param(usual.ITERATIONS, "mean-field updates")
    working_side: int = param(usual.WORKING_SIDE, "long side of the updates; 0: that of the maps")
    radius: float = param(usual.RADIUS, "filter radius as a share of the maps' long side")
    eps: float = param(usual.EPS, "regularisation, on RGB in [0, 1]")
    weight: float = param(usual.WEIGHT, "strength of the guided filter's term")
    colour_weight: float = param(
        usual.COLOUR_WEIGHT, "strength of the colour term; 0: the paper's CRF"
    )
    colour_sigma: float = param(usual.COLOUR_SIGMA, "colours so far apart (CIE Lab) count as alike")
    colour_reach: float = param(
        usual.COLOUR_REACH, "how far it reaches, as a share of the long side"
    )
    colour_cells: int = param(
        usual.COLOUR_CELLS, "long side of the thumbnail whose cells have a vote"
    )
    joint: bool = param(False, "let the factors of one k compete for pixels")

    def __post_init__(self) -> None:
        # below these the numbers they divide leave the range of floating point
        least = {"eps": 1e-10, "colour_sigma": 1e-3, "colour_reach": 1e-3, "colour_cells": 1}
        least |= dict.fromkeys(("iterations", "working_side", "weight", "colour_weight"), 0)
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least {smallest}")
        if not 0 < self.radius <= 1:
            raise ValueError(f"radius: {self.radius} is not a share between 0 and 1")

    def refine(self, task: Task) -> NDArray[np.float32]:
        """See `Refiner.refine`."""
        if self._loops:
            pixels = np.ascontiguousarray(task.image.transpose(2, 0, 1), np.float32)
            pixels /= np.float32(255)
            terms = self._terms((pixels.shape[1], pixels.shape[2]))
            return infer_image(pixels, task.probability, terms)

        import torch

        torch.set_num_threads(1)  # there is one for each image in work
        image = torch.from_numpy(task.image)[None].permute(0, 3, 1, 2).float() / 255
        q = self.inferred(image, torch.from_numpy(task.probability)[None], task.groups)
        return q[0].numpy()

    def refine_levels(
        self, image: NDArray[np.uint8], heat: NDArray[Any], thresholds: NDArray[np.float64]
    ) -> NDArray[np.uint8] | None:
        """See `LevelsRefiner.refine_levels`."""
        if not self._loops:
            return None
        return infer_levels(image, heat, thresholds, self._terms((heat.shape[0], heat.shape[1])))

    def refine_batch(self, images: "Tensor", p: "Tensor", groups: Sequence[slice]) -> "Tensor":
        """See `BatchRefiner.refine_batch`."""
        return self.inferred(images, p, groups, few_kernels=True)

    def inferred(
        self, images: "Tensor", p: "Tensor", groups: Sequence[slice], few_kernels: bool = False
    ) -> "Tensor":
        """Refined probabilities ``[b, columns, h, w]`` of images of one size, on their device.

        Parameters
        ----------
        images : Tensor [b, 3, h, w], floating point, RGB in [0, 1]
        p : Tensor [b, columns, h, w], floating point
        groups : sequence of slice
            Columns that compete where `joint` is set.
        few_kernels : bool
            As `stages.algorithms.mean_field.mean_field`.
        """
        import torch

        from stages.algorithms.mean_field import mean_field

        terms = self._terms((images.shape[-2], images.shape[-1]))

        def refine(part: "Tensor") -> "Tensor":
            return mean_field(
                images,
                part,
                terms.radius,
                terms.eps,
                terms.weight,
                terms.iterations,
                joint=self.joint,
                colour=terms.colour,
                working_side=terms.side,
                few_kernels=few_kernels,
            )

        # Only joint inference cares which columns belong together; apart, all go at once.
        if not self.joint:
            return refine(p)
        return torch.cat([refine(p[:, group]) for group in groups], dim=1)

    @property
    def _loops(self) -> bool:
        """Whether a CPU refines by compiled loops, which need no torch."""
        return loops_suit(self.iterations, self._colour, joint=self.joint)

    @property
    def libraries(self) -> tuple[str, ...]:
        """See `stages.refine.refiners.refiner.libraries_of`."""
        loops = "stages.algorithms.inference.loop"
        return ("numba", "stages.algorithms.nmf", loops) if self._loops else ("torch", "numba")

    @property
    def _colour(self) -> ColourTerm:
        return ColourTerm(
            self.colour_weight, self.colour_sigma, self.colour_reach, self.colour_cells
        )

    def _terms(self, size: Size) -> Terms:
        """What the mean field of an image of this size is given, by loops or by torch."""
        return Terms(
            window_radius(size, self.radius),
            self.eps,
            self.weight,
            self.iterations,
            self._colour,
            self.working_side or max(size),
        )

    def bytes_per_image(self, size: Size, columns: int) -> int:
        """See `Refiner.bytes_per_image`."""
        worked = self._worked(size)
        # kernel, exponent and features, and a dozen float64 of the guided filter
        return worked * (3 * 4 * min(self.colour_cells**2, worked) + 12 * 8)

    def batch_bytes(self, size: Size, columns: int) -> int:
        """See `BatchRefiner.batch_bytes`."""
        worked = self._worked(size)
        cells = min(self.colour_cells**2, worked) if self.colour_weight else 0
        # the kernel and its copies; float64 statistics, of the image and six of every signal
        small = worked * (16 * cells + 8 * (40 + 6 * 4 * columns))
        # per value: levels, shares, p, evidence, q, copies; per pixel: the image and full-size
        # models
        return small + size[0] * size[1] * (60 * columns + 160)

    def _worked(self, size: Size) -> int:
        """Pixels of the working resolution, at most."""
        return min(size[0] * size[1], (self.working_side or max(size)) ** 2)
