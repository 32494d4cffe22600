"""What annotated image collections look like on disk: one small reader each, one protocol."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stages.datasets.dataset import Box, Dataset, DatasetError, FoundImage, GroundTruth
from stages.datasets.folder import IMAGE_SUFFIXES, FolderDataset, icoseg
from stages.datasets.pascal_part import PascalPartDataset
from stages.datasets.voc import VocDataset

READERS: Mapping[str, Callable[..., Dataset]] = {
    "folder": FolderDataset,
    "icoseg": icoseg,
    "voc": VocDataset,
    "pascal_part": PascalPartDataset,
}

__all__ = [
    "IMAGE_SUFFIXES",
    "READERS",
    "Box",
    "Dataset",
    "DatasetError",
    "FolderDataset",
    "FoundImage",
    "GroundTruth",
    "open_dataset",
]


def open_dataset(reader: str, root: Path, options: Mapping[str, Any]) -> Dataset:
    """Open the collection at `root` with the reader of that name."""
    return READERS[reader](root, **options)
