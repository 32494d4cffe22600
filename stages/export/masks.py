"""Masks as PNG files, one per image and concept, as `dataset: folder` reads too."""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from stages.export.exporter import Catalogue, Picture
from stages.export.names import distinct, file_name
from stages.export.png import write_png
from stages.frame.params import param


@dataclass
class Masks:
    """``parts/<image>/<concept>.png``, 0 and 255; ``masks.csv`` says which is whose.

    What a file name cannot have is percent-encoded in the concept's, ``/`` as ``%2F``.
    """

    summary: ClassVar[str] = "one PNG per image and concept; dataset: folder reads them"
    stay: ClassVar[tuple[str, ...]] = ("_file", "_rows")

    heat: bool = param(False, "the heat maps, too, as 16-bit PNG files")
    _folder: Path = field(init=False, repr=False)
    _files: list[str] = field(init=False, repr=False)
    _file: IO[str] = field(init=False, repr=False)
    _rows: Any = field(init=False, repr=False)

    def open(self, folder: Path, catalogue: Catalogue) -> None:
        """See `Exporter.open`."""
        self._folder = folder
        self._files = distinct(file_name(name) for name in catalogue.categories)
        (folder / "parts").mkdir()
        self._file = (folder / "masks.csv").open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(["image", "concept", "mask", *(["heat"] if self.heat else [])])

    def encode(self, picture: Picture) -> list[list[str]]:
        """See `Exporter.encode`."""
        photograph = picture.photograph
        if picture.concepts:
            for top in ("parts", *(["heat"] if self.heat else [])):
                (self._folder / top / photograph.path).mkdir(parents=True, exist_ok=True)
        rows = []
        for concept in picture.concepts:
            below = f"{photograph.path}/{self._files[concept.category]}.png"
            row = [photograph.name, concept.name, f"parts/{below}"]
            mask = concept.mask.view(np.uint8) * np.uint8(255)
            write_png(self._folder / "parts" / below, mask, flat=True)
            if self.heat:
                row.append(f"heat/{below}")
                from stages.algorithms.heatmap import quantise  # here: help lists formats

                write_png(self._folder / "heat" / below, quantise(concept.heat(), np.uint16))
            rows.append(row)
        return rows

    def add(self, encoded: list[list[str]]) -> None:
        """See `Exporter.add`."""
        self._rows.writerows(encoded)

    def close(self) -> None:
        """See `Exporter.close`."""
        self._file.close()
