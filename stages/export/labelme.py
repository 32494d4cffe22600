"""labelme: one JSON file of polygons per image, as `dataset: folder` reads too."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from stages.export.exporter import Catalogue, Picture
from stages.export.outlines import outline
from stages.frame.params import param

VERSION = "5.5.0"  # of labelme's format


@dataclass
class Labelme:
    """``parts/<image>.json``, with the way to the photograph instead of its pixels.

    Corners are centres of pixels, as labelme itself draws polygons; holes are lost.
    """

    summary: ClassVar[str] = "polygons to go on with by hand; dataset: folder reads them"

    semantic: bool = param(False, "polygons of one concept on an image get one group_id")
    _folder: Path = field(init=False, repr=False)
    _target: Path = field(init=False, repr=False)

    def open(self, folder: Path, catalogue: Catalogue) -> None:
        """See `Exporter.open`."""
        self._folder, self._target = folder / "parts", catalogue.target / "parts"
        self._folder.mkdir()

    def encode(self, picture: Picture) -> None:
        """See `Exporter.encode`."""
        photograph = picture.photograph
        path = self._folder / f"{photograph.path}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = (self._target / photograph.path).parent
        height, width = photograph.size
        content: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": self._shapes(picture),
            "imagePath": Path(os.path.relpath(photograph.file, beside)).as_posix(),
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    def _shapes(self, picture: Picture) -> list[dict[str, Any]]:
        return [
            {
                "label": concept.name,
                "points": line.tolist(),
                "group_id": concept.category if self.semantic else None,
                "description": "",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
            for concept in picture.concepts
            for region in concept.components
            if (line := outline(region, through_pixels=True)) is not None
        ]

    def add(self, encoded: None) -> None:
        """See `Exporter.add`."""

    def close(self) -> None:
        """See `Exporter.close`."""
