"""What annotated image collections look like on disk: one small reader each, one protocol."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.datasets.dataset import (
    Box,
    Dataset,
    DatasetError,
    FoundImage,
    GroundTruth,
    LeftOut,
    Reader,
)
from stages.datasets.demo.reader import DEMO
from stages.datasets.folder import FOLDER, ICOSEG, FolderDataset
from stages.datasets.pascal_part import PASCAL_PART
from stages.datasets.voc import VOC

READERS: Mapping[str, Reader] = {
    "demo": DEMO,
    "folder": FOLDER,
    "icoseg": ICOSEG,
    "voc": VOC,
    "pascal_part": PASCAL_PART,
}

__all__ = [
    "READERS",
    "Box",
    "Dataset",
    "DatasetError",
    "FolderDataset",
    "FoundImage",
    "GroundTruth",
    "LeftOut",
    "Reader",
    "open_dataset",
]


def open_dataset(reader: str, root: Path, options: Mapping[str, Any]) -> Dataset:
    """Open the collection at `root` with a registered reader; options not given are the usual ones.

    Raises
    ------
    TypeError
        The reader has no option of some name.
    """
    chosen = READERS[reader]
    return chosen.open(root, chosen.options(**options))
