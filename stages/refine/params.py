"""Params of the refine stage."""

from dataclasses import dataclass
from typing import Literal

from stages.frame.params import check_choices, param


@dataclass(frozen=True)
class RefineParams:
    """How heat maps are aligned with the edges of their images."""

    method: Literal["guided", "densecrf", "none"] = param(
        "guided", "guided (filter mean field), densecrf (pydensecrf) or none"
    )
    iterations: int = param(10, "mean-field updates")
    binarise: Literal["half", "percentile"] = param(
        "half", "masks are q >= 0.5 (half) or the percentile of q (percentile)"
    )
    percentile: float = param(75.0, "for binarise: percentile")
    working_side: int = param(64, "guided: long side of the updates; 0: that of the maps")
    radius: float = param(0.0714, "guided: filter radius as a share of the maps' long side")
    eps: float = param(1e-4, "guided: regularisation, on RGB in [0, 1]")
    weight: float = param(5.0, "guided: strength of the guided filter's term")
    colour_weight: float = param(10.0, "guided: strength of the colour term; 0: the paper's CRF")
    colour_sigma: float = param(3.5, "guided: colours so far apart (CIE Lab) count as alike")
    colour_reach: float = param(0.15, "guided: how far it reaches, as a share of the long side")
    colour_cells: int = param(32, "guided: long side of the thumbnail whose cells have a vote")
    joint: bool = param(False, "guided: let the factors of one k compete for pixels")
    gaussian_sxy: float = param(3.0, "densecrf: position term, pixels")
    gaussian_compat: float = param(3.0, "densecrf: its weight")
    bilateral_sxy: float = param(30.0, "densecrf: colour term, pixels")
    bilateral_srgb: float = param(13.0, "densecrf: colour term, colour steps")
    bilateral_compat: float = param(10.0, "densecrf: its weight")

    def __post_init__(self) -> None:
        check_choices(self)
        if self.iterations < 0 or not 0 <= self.percentile <= 100:
            raise ValueError("iterations must be at least 0, percentile between 0 and 100")
        for name in ("gaussian_sxy", "bilateral_sxy", "bilateral_srgb"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)} must be above 0")
        # below these the numbers they divide leave the range of floating point
        for name, least in (("eps", 1e-10), ("colour_sigma", 1e-3), ("colour_reach", 1e-3)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} must be at least {least}")
        if self.weight < 0:
            raise ValueError(f"weight: {self.weight} must be at least 0")
        if not 0 < self.radius <= 1:
            raise ValueError(f"radius: {self.radius} is not a share between 0 and 1")
        if self.working_side < 0 or self.colour_weight < 0 or self.colour_cells < 1:
            raise ValueError(
                "working_side and colour_weight must be at least 0, colour_cells at least 1"
            )
