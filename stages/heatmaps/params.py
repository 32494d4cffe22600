"""Params of the heatmaps stage."""

from dataclasses import dataclass
from typing import Literal

from stages.frame.params import check_choices, param


@dataclass(frozen=True)
class HeatmapsParams:
    """How heat maps are brought to image space, and where masks begin."""

    long_side: int = param(224, "pixels of the maps' long side; 0: the image's own size")
    percentile: float = param(75.0, "masks begin at this percentile of the set's entries")
    store: Literal["none", "full"] = param(
        "none", "none: whoever reads maps draws them from the factors; full: all on disk"
    )

    def __post_init__(self) -> None:
        check_choices(self)
        if self.long_side < 0:
            raise ValueError(f"long_side: {self.long_side} must be at least 0")
        if not 0 <= self.percentile <= 100:
            raise ValueError(f"percentile: {self.percentile} is not between 0 and 100")
