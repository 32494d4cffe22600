"""Params of the explain stage."""

from dataclasses import dataclass

from stages.frame.params import param


@dataclass(frozen=True)
class ExplainParams:
    """What concepts mean to the network's own classes, where it has some."""

    images: int = param(12, "images of each set that are tried, spread evenly over it; 0: none")
    classes: int = param(2, "classes per set: those that the network sees on most of its images")
    design: int = param(32, "ways in which an image's concepts are weakened, a power of 2")
    class_names: str = param("", "file with a name a line; empty: those of the weights")

    def __post_init__(self) -> None:
        if self.images < 0:
            raise ValueError(f"images: {self.images} must be at least 0")
        if not 1 <= self.classes <= 20:
            raise ValueError(f"classes: {self.classes} is not between 1 and 20")
        if not 8 <= self.design <= 4096 or self.design & (self.design - 1):
            raise ValueError(f"design: {self.design} is no power of 2 between 8 and 4096")
