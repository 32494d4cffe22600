"""Params of the index stage."""

from dataclasses import dataclass
from typing import Any

from stages.datasets import READERS
from stages.frame.params import choice, fill_options, options_of, param

OPTIONS = {name: reader.options for name, reader in READERS.items()}


@dataclass(frozen=True)
class IndexParams:
    """Which images there are, and what is annotated on them."""

    dataset: str = choice(
        "demo", OPTIONS, "demo, folder (your photographs), icoseg, voc or pascal_part"
    )
    options: Any = options_of("dataset")
    root: str = param("", "folder of photographs; the demo needs none")
    sets: tuple[str, ...] = param((), "these image sets only; [] for all")
    max_failed: float = param(0.05, "stop when more than this share of the files is unreadable")

    def __post_init__(self) -> None:
        fill_options(self)
        if not 0 <= self.max_failed <= 1:
            raise ValueError(f"max_failed: {self.max_failed} is not a share between 0 and 1")
