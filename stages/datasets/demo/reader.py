"""The demo as a collection: drawn into the index artifact, then read as a plain folder."""

from dataclasses import dataclass
from pathlib import Path

from stages.datasets.dataset import Reader
from stages.datasets.folder import FolderDataset
from stages.frame.params import param


@dataclass(frozen=True)
class DemoOptions:
    """How many scenes are drawn."""

    images: int = param(24, "scenes per image set")
    seed: int = param(0, "another one gives other scenes")

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"images: {self.images} must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed: {self.seed} must not be negative")


def opened(root: Path, options: DemoOptions) -> FolderDataset:
    """See `Reader.open`."""
    return FolderDataset(root)


def drawn(root: Path, options: DemoOptions) -> None:
    """See `Reader.draw`."""
    from stages.datasets.demo.scenes import write_demo  # here: other collections draw nothing

    write_demo(root, options.images, options.seed)


DEMO = Reader(DemoOptions, opened, drawn)
