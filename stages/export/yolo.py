"""YOLO's segmentation format: one text file of normalised polygons per image."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import yaml

from stages.export.exporter import Catalogue, Picture
from stages.export.names import flat_names
from stages.export.outlines import outline
from stages.export.photographs import check_images, place
from stages.frame.params import param


@dataclass
class Yolo:
    """``labels/*.txt``, ``images/*`` and ``data.yaml``; a line is a class and a polygon's corners.

    Names of files are flat: YOLO finds labels by replacing a folder's name in the path. An image
    without concepts has an empty file. Holes are lost; the format has no union of polygons.
    """

    summary: ClassVar[str] = "normalised polygons, one text file per image, and data.yaml"

    images: str = param("link", "link the photographs, copy them, or none")
    _folder: Path = field(init=False, repr=False)
    _names: list[str] = field(init=False, repr=False)

    def open(self, folder: Path, catalogue: Catalogue) -> None:
        """See `Exporter.open`."""
        check_images(self.images)
        self._folder = folder
        self._names = flat_names(one.path for one in catalogue.photographs)
        (folder / "labels").mkdir()
        (folder / "images").mkdir()
        lines = [
            "# No split was made: images for validation are yours to choose.",
            "train: images",
            "val: images",
            "names:",
            *(f"  {i}: {_quoted(name)}" for i, name in enumerate(catalogue.categories)),
        ]
        (folder / "data.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def encode(self, picture: Picture) -> None:
        """See `Exporter.encode`."""
        photograph = picture.photograph
        name = self._names[photograph.number]
        # normalised by (width, height); a corner is the centre of a pixel
        scale = np.array(photograph.size[::-1], dtype=np.float64)
        lines = [
            " ".join([str(concept.category), *(f"{v:.6f}" for v in ((line + 0.5) / scale).ravel())])
            for concept in picture.concepts
            for region in concept.components
            if (line := outline(region, through_pixels=True)) is not None
        ]
        text = "".join(f"{line}\n" for line in lines)
        (self._folder / "labels" / f"{name}.txt").write_text(text)
        suffix = photograph.file.suffix.lower()
        place(photograph.file, self._folder / "images" / f"{name}{suffix}", self.images)

    def add(self, encoded: None) -> None:
        """See `Exporter.add`."""

    def close(self) -> None:
        """See `Exporter.close`."""


def _quoted(name: str) -> str:
    """A name as YAML text that no reader takes for a number or a truth value."""
    dumped: str = yaml.safe_dump(name, default_style='"', allow_unicode=True, width=10**9)
    return dumped.rstrip("\n")
