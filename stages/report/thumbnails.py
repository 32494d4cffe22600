"""Photographs for the page to explore, small and large, each once however many sets it is in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from stages.artifacts.image_index import ImageIndex
from stages.frame.parallel import ordered_map
from stages.frame.resources import Resources
from stages.images.resize import target_shape
from stages.report.params import ReportParams
from store import Staging
from store.artifact import read_attrs

SMALL, LARGE = FOLDERS = "thumbs", "large"
# JPEG: WebP (72, method 2) takes a quarter fewer bytes at the same structural similarity (0.955 of
# 40 photographs, at 320 and at 960 px), and eight times as long, which is most of what they cost.
QUALITY = 74
DIGITS = 16  # of the image file's SHA-256


@dataclass(frozen=True)
class Thumbnails:
    """Smaller copies of all images, in files named by their images' contents.

    Parameters
    ----------
    folder : str
        One of `FOLDERS`, below the report's.
    long_side : int
        Pixels; smaller photographs keep their size.
    """

    index: ImageIndex
    folder: str
    long_side: int

    @property
    def recipe(self) -> str:
        """How they are made: those of another report by the same recipe are the same."""
        return f"jpg {QUALITY} {self.long_side}"

    def size(self, image_id: int) -> tuple[int, int]:
        """Its (height, width) in pixels."""
        height, width = self.index.size(image_id)
        return target_shape(height, width, "long_side", min(self.long_side, max(height, width)))

    def name(self, image_id: int) -> str:
        """Its file's name in the folder: hexadecimal digits and a suffix."""
        return self.index.hashes[image_id].tobytes().hex()[:DIGITS] + ".jpg"

    def write(
        self,
        image_ids: Sequence[int],
        work: Staging,
        resources: Resources,
        advance: Callable[[int], None],
    ) -> None:
        """Write those of some images; what the report of before has already is copied.

        Raises
        ------
        StageError
            See `ImageIndex.read`.
        """
        folder = work.path.absolute() / self.folder
        folder.mkdir(exist_ok=True)
        earlier = earlier_report(work, self.folder, self.recipe)
        for _ in ordered_map(
            partial(self._write_one, folder, earlier and earlier.absolute() / self.folder),
            image_ids,
            workers=resources.workers,
            cluster=resources.spread,
            label=f"report: {self.folder} of images",
        ):
            advance(1)

    def _write_one(self, folder: Path, earlier: Path | None, image_id: int) -> None:
        target = folder / self.name(image_id)
        if target.exists():  # the same photograph twice in a collection
            return
        if earlier is not None:
            try:
                content = (earlier / target.name).read_bytes()
            except OSError:
                pass  # of a photograph that is new
            else:
                target.write_bytes(content)
                return
        rgb = self.index.small_rgb(image_id, self.size(image_id))
        temporary = target.with_suffix(f".{image_id}.tmp")
        with temporary.open("wb") as file:
            Image.fromarray(rgb).save(file, "jpeg", quality=QUALITY)
        temporary.replace(target)


@dataclass(frozen=True)
class Photographs:
    """What the page to explore has of the photographs: all of them small, and large if wanted."""

    small: Thumbnails
    large: Thumbnails | None

    @classmethod
    def wanted(cls, index: ImageIndex, params: ReportParams) -> "Photographs":
        """As the params say, for a collection of that size."""
        few = len(index.images) <= params.large_most
        large = Thumbnails(index, LARGE, params.large_side) if params.large_side and few else None
        return cls(Thumbnails(index, SMALL, params.long_side), large)

    @property
    def all(self) -> list[Thumbnails]:
        """Each size that there is."""
        return [self.small, self.large] if self.large else [self.small]

    @property
    def recipes(self) -> dict[str, str]:
        """What the report's record says, by folder."""
        return {one.folder: one.recipe for one in self.all}


def earlier_report(work: Staging, part: str, recipe: str) -> Path | None:
    """A complete report of which a part was made by the same recipe, as its record says."""
    for path, progress in work.earlier():
        if progress is None and (read_attrs(path) or {}).get(part) == recipe:
            return path
    return None
