"""The picture files of a report: asked for while its pages are put together, then painted."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.artifacts.image_index import ImageIndex
from stages.drawing.overlays import heat_picture, mask_picture, spotlight_picture
from stages.frame.parallel import ordered_map
from stages.frame.resources import Resources
from stages.images.resize import target_shape
from stages.report.concepts import Concepts
from stages.report.packed import VERSION

FOLDER = "pictures"
QUALITY = 84
DIGITS = 20


@dataclass(frozen=True)
class Scene:
    """One image of one set while its pictures are painted; its maps are read once.

    Attributes
    ----------
    photo : uint8 [h, w, 3]
        At the size of the pictures.
    entry : int
        Position of the (set, image) pair in the maps.
    """

    photo: NDArray[np.uint8]
    entry: int
    _values: dict[int, NDArray[np.unsignedinteger]] = field(default_factory=dict)
    _shares: dict[tuple[int, str], NDArray[np.float32]] = field(default_factory=dict)
    _scaled: dict[tuple[int, str], NDArray[np.float32]] = field(default_factory=dict)

    def strength(self, concepts: Concepts) -> NDArray[np.float32]:
        """See `Concepts.strength`."""
        key = id(concepts), "strength"
        if key not in self._scaled:
            self._scaled[key] = concepts.strength(self.shares("raw", concepts))
        return self._scaled[key]

    def levels(self, kind: str, concepts: Concepts) -> NDArray[np.float32]:
        """See `Concepts.levels`."""
        key = id(concepts), kind
        if key not in self._scaled:
            self._scaled[key] = concepts.levels(kind, self.shares(kind, concepts))
        return self._scaled[key]

    def shares(self, kind: str, concepts: Concepts) -> NDArray[np.float32]:
        """See `Concepts.shares`."""
        key = id(concepts), kind
        if key not in self._shares:
            maps = concepts.maps(kind)
            if id(maps) not in self._values:
                self._values[id(maps)] = maps.maps.map(self.entry)
            height, width = self.photo.shape[:2]
            self._shares[key] = concepts.shares(self._values[id(maps)], (height, width))
        return self._shares[key]


Paint = Callable[[Scene], Image.Image]
# entry, image id, (height, width) of the pictures, and how each file is painted
Asked = tuple[int, int, tuple[int, int], dict[str, Paint]]


@dataclass(frozen=True)
class Picture:
    """A picture file as a page shows it.

    Attributes
    ----------
    src : str
        Below the report's folder; made of numbers only, never of names.
    """

    src: str
    width: int
    height: int

    @property
    def aspect(self) -> str:
        """Width by height, for CSS."""
        return f"{self.width / self.height:.4f}"


@dataclass
class PictureBook:
    """Collects which pictures are wanted, so that each image is decoded once.

    Parameters
    ----------
    image_ids : int array [entries]
        The image of each (set, image) pair.
    long_side : int
        Pixels of the pictures.
    """

    index: ImageIndex
    image_ids: NDArray[np.int64]
    long_side: int
    wanted: dict[int, dict[str, Paint]] = field(default_factory=dict)

    def photo(self, entry: int) -> Picture:
        """The image itself."""
        return self._want(entry, "photo", _photo, b"")

    def heat(self, entry: int, layer: int, concepts: Concepts) -> Picture:
        """The image under the colours of its factors."""
        paint = partial(_heat, concepts)
        return self._want(entry, f"{layer}-k{concepts.k}-heat", paint, concepts.decisive(entry))

    def masks(self, entry: int, layer: int, concepts: Concepts) -> Picture:
        """The image with its raw and refined masks."""
        paint = partial(_masks, concepts)
        return self._want(entry, f"{layer}-k{concepts.k}-masks", paint, concepts.decisive(entry))

    def spotlight(self, entry: int, layer: int, concepts: Concepts, factor: int) -> Picture:
        """The image lit where one factor is."""
        what = f"{layer}-k{concepts.k}-{factor}"
        paint = partial(_spotlight, concepts, factor)
        return self._want(entry, what, paint, concepts.decisive(entry))

    def paint(
        self,
        folder: Path,
        earlier: Path | None,
        resources: Resources,
        advance: Callable[[int], None],
    ) -> None:
        """Write every picture that was asked for below `folder`.

        Those that `earlier` has, a report by the same `recipe`, are copied: their names tell what
        is in them.
        """
        (folder / FOLDER).mkdir(exist_ok=True)
        painter = Painter(self.index, folder.absolute(), earlier and earlier.absolute())
        for _ in ordered_map(
            painter.paint,
            map(self._asked, sorted(self.wanted)),
            workers=resources.workers,
            cluster=resources.spread,
            label="report: pictures of images",
        ):
            advance(1)

    def _asked(self, entry: int) -> Asked:
        return entry, int(self.image_ids[entry]), self._size(entry), self.wanted[entry]

    @property
    def recipe(self) -> str:
        """How they are made, besides what their names tell."""
        return f"{VERSION} jpg {QUALITY} {self.long_side}"

    def _want(self, entry: int, what: str, paint: Paint, decisive: bytes) -> Picture:
        content = self.index.hashes[int(self.image_ids[entry])].tobytes()
        name = sha256(content + decisive).hexdigest()[:DIGITS]
        src = f"{FOLDER}/{name}-{what}.jpg"
        self.wanted.setdefault(entry, {})[src] = paint
        height, width = self._size(entry)
        return Picture(src, width, height)

    def _size(self, entry: int) -> tuple[int, int]:
        size = self.index.size(int(self.image_ids[entry]))
        return target_shape(*size, "long_side", self.long_side)


@dataclass(frozen=True)
class Painter:
    """Writes the pictures of one image after the other below a folder; see `PictureBook.paint`."""

    index: ImageIndex
    folder: Path
    earlier: Path | None

    def paint(self, asked: Asked) -> None:
        """Those of one image."""
        entry, image_id, size, wanted = asked
        if self.earlier is not None:
            there = [src for src in wanted if (self.earlier / src).is_file()]
            for src in there:
                shutil.copyfile(self.earlier / src, self.folder / src)
            wanted = {src: paint for src, paint in wanted.items() if src not in there}
        if not wanted:
            return
        scene = Scene(self.index.small_rgb(image_id, size), entry)
        for src, paint in wanted.items():
            paint(scene).save(self.folder / src, quality=QUALITY)


def _photo(scene: Scene) -> Image.Image:
    return Image.fromarray(scene.photo)


def _heat(concepts: Concepts, scene: Scene) -> Image.Image:
    return heat_picture(scene.photo, scene.strength(concepts), concepts.colours)


def _masks(concepts: Concepts, scene: Scene) -> Image.Image:
    raw, refined = (scene.levels(kind, concepts) for kind in ("raw", "refined"))
    return mask_picture(scene.photo, list(raw), list(refined), concepts.colours)


def _spotlight(concepts: Concepts, factor: int, scene: Scene) -> Image.Image:
    strength = scene.strength(concepts)[factor]
    level = scene.levels("refined", concepts)[factor]
    return spotlight_picture(scene.photo, strength, level, concepts.colours[factor])
