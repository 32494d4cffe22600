"""COCO: one ``instances.json`` with masks as run lengths, or polygons."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar

from stages.export.exporter import Catalogue, Concept, Picture
from stages.export.outlines import outline
from stages.export.regions import Region, packed_runs, run_lengths
from stages.frame.params import param


@dataclass
class Coco:
    """COCO's object detection format, with one ``score`` more per annotation.

    Written as it comes: no more than one image's annotations are in memory.
    """

    summary: ClassVar[str] = "instances.json with run lengths or polygons"
    stay: ClassVar[tuple[str, ...]] = ("_file",)

    semantic: bool = param(False, "one annotation per image and concept, not per component")
    polygons: bool = param(False, "polygons instead of run lengths; holes are lost")
    _file: IO[str] = field(init=False, repr=False)
    _count: int = field(default=0, init=False, repr=False)

    def open(self, folder: Path, catalogue: Catalogue) -> None:
        """See `Exporter.open`."""
        self._file = (folder / "instances.json").open("w", encoding="utf-8")
        categories = [
            {"id": number, "name": name, "supercategory": ""}
            for number, name in enumerate(catalogue.categories, start=1)
        ]
        self._file.write('{"info": {}, "licenses": [],\n"categories": ')
        self._file.write(json.dumps(categories) + ',\n"images": [')
        for photograph in catalogue.photographs:
            height, width = photograph.size
            record = {
                "id": photograph.number + 1,
                "file_name": photograph.name,
                "height": height,
                "width": width,
            }
            self._file.write((",\n" if photograph.number else "\n") + json.dumps(record))
        self._file.write('],\n"annotations": [')

    def encode(self, picture: Picture) -> list[dict[str, Any]]:
        """See `Exporter.encode`."""
        return [
            {
                "image_id": picture.photograph.number + 1,
                "category_id": concept.category + 1,
                "bbox": _left_top_width_height(region),
                "area": region.area,
                "segmentation": segmentation,
                "iscrowd": 0,
                "score": score,
            }
            for concept in picture.concepts
            for segmentation, region, score in self._segmented(concept)
        ]

    def _segmented(self, concept: Concept) -> list[tuple[Any, Region, float]]:
        regions = concept.regions(self.semantic)
        scores = concept.scores(regions)
        return [
            (segmentation, region, score)
            for region, score in zip(regions, scores, strict=True)
            if (segmentation := self._segmentation(concept, region))
        ]

    def _segmentation(self, concept: Concept, region: Region) -> Any:
        if not self.polygons:
            height, width = concept.mask.shape
            runs = packed_runs(run_lengths(region, (height, width)))
            return {"size": [height, width], "counts": runs}
        parts = concept.components if self.semantic else [region]
        lines = (outline(part, through_pixels=False) for part in parts)
        return [line.round(2).ravel().tolist() for line in lines if line is not None]

    def add(self, encoded: list[dict[str, Any]]) -> None:
        """See `Exporter.add`."""
        for annotation in encoded:
            self._file.write(",\n" if self._count else "\n")
            self._count += 1
            self._file.write(json.dumps({"id": self._count} | annotation))

    def close(self) -> None:
        """See `Exporter.close`."""
        self._file.write("]}\n")
        self._file.close()


def _left_top_width_height(region: Region) -> list[int]:
    top, left, bottom, right = region.box
    return [left, top, right - left, bottom - top]
