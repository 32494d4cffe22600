"""VOC's annotation XML: the objects of an image, and the size that they were drawn on."""

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

from stages.datasets.annotation_images import check_size, is_stored
from stages.datasets.dataset import Box, DatasetError
from stages.images.orientation import Frame, Size

_YES, _NO = ("1", "true", "yes", "y"), ("", "0", "false", "no", "n", "unspecified")


@dataclass(frozen=True)
class VocObject:
    """One object; its box may reach beyond the image."""

    class_name: str
    difficult: bool
    truncated: bool
    box: Box

    def is_of(self, class_name: str) -> bool:
        """Whether it is of a class, whatever the case of its letters."""
        return self.class_name.casefold() == class_name.casefold()


@dataclass(frozen=True)
class VocXml:
    """What an annotation XML says.

    Attributes
    ----------
    size : (height, width) or None
        Of the image that was annotated; None where it is not said.
    """

    path: Path
    size: Size | None
    objects: list[VocObject]

    def box_on(self, frame: Frame, box: Box) -> Box:
        """A box on the image as seen, cut off at its borders.

        Raises
        ------
        DatasetError
            When the size that was annotated is not the image's, or nothing of the box is on it.
        """
        size = self.size or frame.stored
        check_size(self.path, size, frame)
        turned = frame.turn_box(box) if is_stored(size, frame, True) else box
        height, width = frame.seen
        top, left = max(turned[0], 0), max(turned[1], 0)
        bottom, right = min(turned[2], height), min(turned[3], width)
        if top >= bottom or left >= right:
            top, left, bottom, right = box
            raise DatasetError(
                f"{self.path}: the box {left + 1} {top + 1} {right} {bottom} lies outside the image"
            )
        return top, left, bottom, right


def read_xml(path: Path) -> VocXml:
    """Read an annotation XML.

    Raises
    ------
    DatasetError
    """
    try:
        parser = ElementTree.XMLParser(target=_NoDoctype())
        root = ElementTree.parse(path, parser).getroot()
        return VocXml(path, _size(root), [_object(element) for element in root.findall("object")])
    except (OSError, ValueError, OverflowError, LookupError, ElementTree.ParseError) as error:
        raise DatasetError(f"{path}: not a readable VOC annotation ({error})") from error


class _NoDoctype(ElementTree.TreeBuilder):
    """Annotations need no entities, and nested ones would grow without end."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise ValueError("it has a DOCTYPE, which is refused")


def _size(root: ElementTree.Element) -> Size | None:
    """What ``<size>`` says; some tools write 0 for what they do not know."""
    height, width = (
        round(float(root.findtext(f"size/{side}", "0").strip() or 0))
        for side in ("height", "width")
    )
    return (height, width) if height > 0 and width > 0 else None


def _object(element: ElementTree.Element) -> VocObject:
    def text(path: str, default: str | None = None) -> str:
        found = element.findtext(path, default)
        if found is None or not found.strip():
            raise ValueError(f"an object has no {path}")
        return found.strip()

    # 1-based and inclusive; some years have fractions
    left, top, right, bottom = (
        round(float(text(f"bndbox/{side}"))) for side in ("xmin", "ymin", "xmax", "ymax")
    )
    if right < left or bottom < top:
        raise ValueError(f"the box {left} {top} {right} {bottom} is empty")
    return VocObject(
        class_name=text("name"),
        difficult=_flag(element, "difficult"),
        truncated=_flag(element, "truncated"),
        box=(top - 1, left - 1, bottom, right),
    )


def _flag(element: ElementTree.Element, name: str) -> bool:
    text = element.findtext(name, "0").strip().lower()
    if text in _YES or text in _NO:
        return text in _YES
    try:
        return float(text) > 0  # how much of it, in some collections
    except ValueError:
        raise ValueError(f"{name} is {text!r}, not 0 or 1") from None
