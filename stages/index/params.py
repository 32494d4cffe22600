"""Params of the index stage."""

from dataclasses import dataclass
from typing import Literal

from stages.datasets import READERS
from stages.datasets.pascal_part import merge_tables
from stages.frame.params import check_choices, param

ExcludeRule = Literal["difficult_or_truncated", "difficult", "none"]


@dataclass(frozen=True)
class IndexParams:
    """Which images there are, and what is annotated on them."""

    dataset: str = param("demo", "demo, folder (your photographs), icoseg, voc or pascal_part")
    root: str = param("stages/datasets/demo", "folder of photographs; for the demo: its code")
    masks: str = param("masks", "folder below root with object masks, if there are any")
    parts: str = param("parts", "folder below root with part masks or polygons, if there are any")
    whole: str = param("", "name of the part that is the whole object, if one is")
    split: str = param("trainval", "voc, pascal_part: which list of images")
    exclude: ExcludeRule = param(
        "difficult_or_truncated", "voc, pascal_part: leave out images with only such objects"
    )
    together: bool = param(False, "voc: one set of all images, whatever is on them")
    merge: str = param("sides", "pascal_part: which parts are one, sides or coarse")
    sets: tuple[str, ...] = param((), "these image sets only; [] for all")
    max_failed: float = param(0.05, "stop when more than this share of the files is unreadable")

    def __post_init__(self) -> None:
        if self.dataset not in ("demo", *READERS):
            choices = ", ".join(["demo", *READERS])
            raise ValueError(f"dataset: {self.dataset!r} is unknown, choose one of {choices}")
        check_choices(self)
        if self.merge not in merge_tables():
            choices = ", ".join(merge_tables())
            raise ValueError(f"merge: {self.merge!r} is unknown, choose {choices}")
        if not 0 <= self.max_failed <= 1:
            raise ValueError(f"max_failed: {self.max_failed} is not a share between 0 and 1")
