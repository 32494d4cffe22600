"""Small photographs for the page to explore, each once however many sets it is in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from PIL import Image, features

from stages.artifacts.image_index import ImageIndex
from stages.frame.parallel import ordered_map
from stages.images.resize import target_shape
from store import Staging
from store.artifact import read_attrs

FOLDER = "thumbs"
# WebP of method 2 takes a third of JPEG's bytes less at the same look, and half of method 4's time.
QUALITY, METHOD = 72, 2
DIGITS = 16  # of the image file's SHA-256


@dataclass(frozen=True)
class Thumbnails:
    """Thumbnails of all images, in files named by their images' contents.

    Parameters
    ----------
    long_side : int
        Pixels; smaller photographs keep their size.
    """

    index: ImageIndex
    long_side: int

    @cached_property
    def _suffix(self) -> str:
        return ".webp" if features.check("webp") else ".jpg"

    @property
    def recipe(self) -> str:
        """How they are made: those of another report by the same recipe are the same."""
        return f"{self._suffix[1:]} {QUALITY} {METHOD} {self.long_side}"

    def size(self, image_id: int) -> tuple[int, int]:
        """Its (height, width) in pixels."""
        height, width = self.index.size(image_id)
        return target_shape(height, width, "long_side", min(self.long_side, max(height, width)))

    def name(self, image_id: int) -> str:
        """Its file's name in the folder: hexadecimal digits and a suffix."""
        return self.index.hashes[image_id].tobytes().hex()[:DIGITS] + self._suffix

    def write(
        self, image_ids: Sequence[int], work: Staging, workers: int, advance: Callable[[int], None]
    ) -> None:
        """Write those of some images; what the published report has already is copied.

        Raises
        ------
        StageError
            See `ImageIndex.read`.
        """
        folder = work.path / FOLDER
        folder.mkdir(exist_ok=True)
        one = partial(self._write_one, folder, self._earlier(work))
        for _ in ordered_map(one, image_ids, workers=workers):
            advance(1)

    def _earlier(self, work: Staging) -> Path | None:
        for path, progress in work.earlier():
            if progress is None and (read_attrs(path) or {}).get("thumbnails") == self.recipe:
                return path / FOLDER
        return None

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
            kind = "webp" if self._suffix == ".webp" else "jpeg"
            Image.fromarray(rgb).save(file, kind, quality=QUALITY, method=METHOD)
        temporary.replace(target)
