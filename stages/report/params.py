"""Params of the report stage."""

from dataclasses import dataclass

from stages.frame.params import param

PAPER_TABLES = ("table1", "table2", "agnostic", "table3", "table4")


@dataclass(frozen=True)
class ReportParams:
    """What the page shows."""

    images: int = param(12, "images shown per set and k, from all over the set")
    top: int = param(6, "images per factor in which it is strongest")
    long_side: int = param(320, "pixels of the pictures' long side")
    large_side: int = param(960, "pixels of the larger photographs that open on a click; 0: none")
    large_most: int = param(
        1000, "larger photographs only of collections of at most so many images"
    )
    most: int = param(20000, "images in the page to explore; of more, the strongest and others")
    paper: tuple[str, ...] = param(
        (), "shown beside ours: table1, table2, table3, table4, agnostic"
    )

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"images: {self.images} must be at least 1")
        if self.top < 0:
            raise ValueError(f"top: {self.top} must be at least 0")
        if self.large_side and not self.long_side < self.large_side <= 16384:
            raise ValueError(
                f"large_side: {self.large_side} is neither 0 nor between long_side and 16384 pixels"
            )
        if self.large_most < 0:
            raise ValueError(f"large_most: {self.large_most} must be at least 0")
        if self.most < 1:
            raise ValueError(f"most: {self.most} must be at least 1")
        for name in self.paper:
            if name not in PAPER_TABLES:
                raise ValueError(f"paper: {name!r} is unknown, choose {', '.join(PAPER_TABLES)}")
        if not 32 <= self.long_side <= 4096:
            raise ValueError(f"long_side: {self.long_side} is not between 32 and 4096 pixels")
