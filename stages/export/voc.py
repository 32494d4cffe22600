"""PASCAL VOC's devkit: palette masks of classes and objects, boxes, lists."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, ClassVar
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.export.exporter import Catalogue, Concept, Picture
from stages.export.names import flat_names
from stages.export.photographs import check_images, place
from stages.export.regions import Region
from stages.frame.errors import StageError
from stages.frame.params import param

VOID = 255  # pixels that do not count
SPLIT = "trainval"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Stored = NDArray[np.uint8]


@dataclass
class Voc:
    """The folders ``Segmentation*``, ``Annotations``, ``ImageSets`` and ``JPEGImages``.

    A pixel has one class: where masks overlap, that of the map with the larger share. Objects are
    components, the largest 254 of an image; pixels of smaller ones are void (255) among objects.
    Image ids are flat names. ``classes.json`` names the values of the masks.
    """

    summary: ClassVar[str] = "palette masks, boxes and lists in VOC's devkit layout"
    stay: ClassVar[tuple[str, ...]] = ("_lists",)

    semantic: bool = param(False, "an object is all of a concept on an image, not a component")
    images: str = param("link", "link the photographs, copy them, or none")
    _folder: Path = field(init=False, repr=False)
    _names: list[str] = field(init=False, repr=False)
    _lists: list[IO[str]] = field(init=False, repr=False)

    def open(self, folder: Path, catalogue: Catalogue) -> None:
        """See `Exporter.open`."""
        check_images(self.images)
        self._lists = []
        if len(catalogue.categories) >= VOID:
            raise StageError(
                f"--format voc: an 8-bit mask holds {VOID - 1} categories, there are "
                f"{len(catalogue.categories)}: name some sets with --set, or choose a smaller --k"
            )
        self._folder = folder
        self._names = flat_names(one.path for one in catalogue.photographs)
        for name in ("SegmentationClass", "SegmentationObject", "Annotations", "JPEGImages"):
            (folder / name).mkdir()
        for name in ("Segmentation", "Main"):
            path = folder / "ImageSets" / name / f"{SPLIT}.txt"
            path.parent.mkdir(parents=True)
            self._lists.append(path.open("w", encoding="utf-8"))
        classes = {0: "background"} | dict(enumerate(catalogue.categories, start=1))
        text = json.dumps(classes, ensure_ascii=False, indent=1)
        (folder / "classes.json").write_text(text + "\n", encoding="utf-8")

    def encode(self, picture: Picture) -> str:
        """See `Exporter.encode`."""
        photograph = picture.photograph
        name = self._names[photograph.number]
        owner = _owners(picture.concepts, photograph.size)
        found = [
            (concept, region)
            for concept in picture.concepts
            for region in concept.regions(self.semantic)
        ]
        found = sorted(found, key=lambda one: -one[1].area)[: VOID - 1]
        values = np.array([0, *(one.category + 1 for one in picture.concepts)], np.uint8)
        classes = values[owner]
        objects = np.where(owner > 0, np.uint8(VOID), np.uint8(0))
        for number, (concept, region) in enumerate(found, start=1):
            own = region.mask & (classes[region.window] == concept.category + 1)
            objects[region.window][own] = number
        _save(self._folder / "SegmentationClass" / f"{name}.png", classes)
        _save(self._folder / "SegmentationObject" / f"{name}.png", objects)
        xml = _annotation(name, picture, found)
        (self._folder / "Annotations" / f"{name}.xml").write_bytes(xml)
        place(photograph.file, self._folder / "JPEGImages" / f"{name}.jpg", self.images)
        return name

    def add(self, encoded: str) -> None:
        """See `Exporter.add`."""
        for file in self._lists:
            file.write(f"{encoded}\n")

    def close(self) -> None:
        """See `Exporter.close`."""
        for file in self._lists:
            file.close()


def _owners(concepts: Sequence[Concept], size: tuple[int, int]) -> NDArray[np.int64]:
    """Which concept each pixel belongs to, int64 ``[h, w]``: 1 for the first, 0 for none."""
    owner = np.zeros(size, np.int64)
    strongest: NDArray[np.float32] | None = None
    masked = np.zeros(size, np.int64)
    for concept in concepts:
        masked += concept.mask
    contested = bool((masked > 1).any())  # else nobody need ask for heat
    for number, concept in enumerate(concepts, start=1):
        wins = concept.mask
        if contested:
            heat = np.where(concept.mask, concept.heat(), np.float32(-1))
            wins = heat > (np.float32(-1) if strongest is None else strongest)
            strongest = heat if strongest is None else np.maximum(heat, strongest)
        owner[wins] = number
    return owner


def _save(path: Path, values: Stored) -> None:
    image = Image.fromarray(values)
    image.putpalette(PALETTE)
    image.save(path)


def _palette() -> bytes:
    """VOC's colours: the bits of a value, three by three, from the highest bit of each colour."""
    values = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.int64)
    for step in range(8):
        for channel in range(3):
            colours[:, channel] |= (values >> (3 * step + channel) & 1) << (7 - step)
    return colours.astype(np.uint8).tobytes()


PALETTE = _palette()


def _annotation(name: str, picture: Picture, found: list[tuple[Concept, Region]]) -> bytes:
    """The image and its boxes: 1-based pixels, the last ones included."""
    height, width = picture.photograph.size
    root = ElementTree.Element("annotation")
    _put(root, "folder", "JPEGImages")
    _put(root, "filename", f"{name}.jpg")
    _put(ElementTree.SubElement(root, "source"), "image", picture.photograph.name)
    size = ElementTree.SubElement(root, "size")
    for key, value in (("width", width), ("height", height), ("depth", 3)):
        _put(size, key, value)
    _put(root, "segmented", 1)
    for concept, region in found:
        top, left, bottom, right = region.box
        cut = top == 0 or left == 0 or bottom == height or right == width
        one = ElementTree.SubElement(root, "object")
        _put(one, "name", concept.name)
        _put(one, "pose", "Unspecified")
        _put(one, "truncated", int(cut))
        _put(one, "difficult", 0)
        box = ElementTree.SubElement(one, "bndbox")
        sides = {"xmin": left + 1, "ymin": top + 1, "xmax": right, "ymax": bottom}
        for key, value in sides.items():
            _put(box, key, value)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8"))


def _put(parent: ElementTree.Element, tag: str, value: object) -> None:
    # what XML has no character for becomes the replacement character
    ElementTree.SubElement(parent, tag).text = _NOT_XML.sub("\ufffd", str(value))
