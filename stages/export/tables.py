"""Two CSV tables: components with their boxes, and how strong each concept is on each image."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

from stages.export.exporter import Catalogue, Picture
from stages.frame.params import param

COMPONENTS = ("image", "concept", "component", "top", "left", "bottom", "right", "area", "score")
STRENGTH = ("image", "concept", "mean", "largest", "mask_share", "components")


@dataclass
class Tables:
    """``components.csv`` and ``strength.csv``.

    Boxes are in 0-based pixels of the photograph, half-open. Read them with ``keep_default_na``
    off where a concept may be called ``NA``.
    """

    summary: ClassVar[str] = "tables of components, and of each concept's strength"
    stay: ClassVar[tuple[str, ...]] = ("_files", "_writers")

    semantic: bool = param(False, "one row and box per image and concept, not per component")
    _files: list[IO[str]] = field(init=False, repr=False)
    _writers: list[Any] = field(init=False, repr=False)

    def open(self, folder: Path, catalogue: Catalogue) -> None:
        """See `Exporter.open`."""
        self._files, self._writers = [], []
        for name, columns in (("components", COMPONENTS), ("strength", STRENGTH)):
            file = (folder / f"{name}.csv").open("w", encoding="utf-8", newline="")
            self._files.append(file)
            self._writers.append(csv.writer(file, lineterminator="\n"))
            self._writers[-1].writerow(columns)

    def encode(self, picture: Picture) -> tuple[list[Any], list[Any]]:
        """See `Exporter.encode`."""
        components: list[Any] = []
        strength: list[Any] = []
        for concept in picture.concepts:
            of = picture.photograph.name, concept.name
            regions = concept.regions(self.semantic)
            scores = concept.scores(regions)
            for rank, (region, score) in enumerate(zip(regions, scores, strict=True)):
                components.append([*of, rank, *region.box, region.area, score])
            numbers = [round(share, 6) for share in (*concept.strength, concept.mask.mean())]
            strength.append([*of, *numbers, len(concept.components)])
        return components, strength

    def add(self, encoded: Iterable[list[Any]]) -> None:
        """See `Exporter.add`."""
        for writer, rows in zip(self._writers, encoded, strict=True):
            writer.writerows(rows)

    def close(self) -> None:
        """See `Exporter.close`."""
        for file in self._files:
            file.close()
