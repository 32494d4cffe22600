"""Params of the evaluate stage."""

from dataclasses import dataclass

from stages.frame.params import param


@dataclass(frozen=True)
class EvaluateParams:
    """How factors are compared with annotated parts."""

    coverage: float = param(0.5, "a part belongs to a factor that covers more than this of it")
    least_area: float = param(0.005, "boxes leave out specks below this share of the image")
    labels: str = param("labels.yaml", "file of factors' names, used instead of coverage")

    def __post_init__(self) -> None:
        if not 0 <= self.coverage < 1:
            raise ValueError(f"coverage: {self.coverage} is not a share from 0 to below 1")
        if not 0 <= self.least_area <= 1:
            raise ValueError(f"least_area: {self.least_area} is not a share between 0 and 1")
        if not self.labels:
            raise ValueError("labels: must name a file, which need not be there")
