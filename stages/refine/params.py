"""Params of the refine stage."""

from dataclasses import dataclass
from typing import Any, Literal

from stages.frame.params import check_choices, choice, fill_options, options_of, param
from stages.refine.refiners import REFINERS


@dataclass(frozen=True)
class RefineParams:
    """How heat maps are aligned with the edges of their images."""

    method: str = choice(
        "guided", REFINERS, "guided (filter mean field), densecrf (pydensecrf) or none"
    )
    binarise: Literal["half", "percentile"] = param(
        "half", "masks are q >= 0.5 (half) or the percentile of q (percentile)"
    )
    percentile: float = param(75.0, "for binarise: percentile")
    masks: Literal["apart", "independent"] = param(
        "apart",
        "of one k, for binarise: half: apart (a pixel is of one factor or none) or independent",
    )
    certain: float = param(
        0.425, "boxes also go around heat of this share of the image's largest; 0: the mask alone"
    )
    # the chosen `stages.refine.refiners.refiner.Refiner`, which its options are
    options: Any = options_of("method")

    @property
    def parts_apart(self) -> bool:
        """Whether the factors of one k share out the pixels."""
        return self.masks == "apart" and self.binarise == "half"

    def __post_init__(self) -> None:
        check_choices(self)
        if not 0 <= self.percentile <= 100:
            raise ValueError(f"percentile: {self.percentile} must be between 0 and 100")
        if not 0 <= self.certain <= 1:
            raise ValueError(f"certain: {self.certain} is not a share between 0 and 1")
        fill_options(self)
