"""Overlays of concepts on photographs as figures: of one image, or of many with several k."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.image_index import ImageIndex
from stages.drawing.figures import FORMATS, Sheet, encoded
from stages.drawing.overlays import heat_picture, mask_picture
from stages.drawing.palette import Palette
from stages.drawing.sheet import Row, sheet
from stages.frame.errors import StageError
from stages.images.resize import resize_rgb
from store import write_atomically

HEIGHT = 1.1  # inches, of a row of pictures
DPI = 300


def concept_picture(
    palette: Palette, maps: ConceptMaps, rank: int, entry: int, photo: np.ndarray, kind: str
) -> Image.Image:
    """A photograph with its concepts: raw maps as colours, refined masks as areas with outlines.

    Parameters
    ----------
    maps : ConceptMaps
        Of that kind.
    rank, entry : int
        The image set's place among the sets; the image's entry of the maps.
    photo : uint8 [h, w, 3]
        At the size of the picture.
    """
    height, width = photo.shape[:2]
    shares = palette.shares(maps.maps.map(entry), (height, width))
    if kind == "raw":
        return heat_picture(photo, palette.strength(shares), palette.colours)
    thresholds = maps.thresholds[rank][palette.columns]
    # a threshold of 0 stands for a concept that is absent: an empty mask
    reach = np.where(thresholds > 0, thresholds, np.inf).astype(np.float32)
    levels = list(shares / reach[:, None, None])
    return mask_picture(photo, [np.zeros_like(one) for one in levels], levels, palette.colours)


def concept_figure(
    palettes: Sequence[Palette],
    names: Sequence[Sequence[str]],
    maps: ConceptMaps,
    rank: int,
    entries: Sequence[int],
    index: ImageIndex,
    kind: str,
    *,
    height: float = HEIGHT,
    dpi: float = DPI,
) -> Sheet:
    """Rows of k, columns of images, like the paper's Figure 3.

    Parameters
    ----------
    palettes : one for each row
    names : of the factors of each row
        Without a name a factor is called by its number.
    height : float
        Of a row, inches. Photographs keep their own resolution, but for more than `dpi`.
    """
    photos = []
    for entry in entries:
        photo = index.rgb(int(maps.maps.image_ids[entry]))
        share = min(1.0, height * dpi / photo.shape[0])
        h, w = (max(1, round(side * share)) for side in photo.shape[:2])
        photos.append(resize_rgb(photo, (h, w)))
    rows = []
    for palette, called in zip(palettes, names, strict=True):
        pictures = [
            concept_picture(palette, maps, rank, entry, photo, kind)
            for entry, photo in zip(entries, photos, strict=True)
        ]
        shown = [name or f"factor {factor}" for factor, name in enumerate(called)]
        rows.append(
            Row(f"k = {palette.k}", pictures, list(zip(palette.colours, shown, strict=True)))
        )
    return sheet(rows, height)


def format_of(out: Path) -> str:
    """What a figure's file will be, by its suffix.

    Raises
    ------
    StageError
    """
    if (found := out.suffix.lower().removeprefix(".")) in FORMATS:
        return found
    raise StageError(f"--out {out}: give it the suffix {', '.join('.' + one for one in FORMATS)}")


def save_figure(figure: Sheet, out: Path, dpi: float = DPI) -> Path:
    """Write a figure's file, of the kind that its suffix says.

    Raises
    ------
    StageError
        For another suffix, or when it cannot be written.
    """
    content = encoded(figure, format_of(out), dpi)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, content)
    except OSError as error:
        raise StageError(f"--out {out}: cannot be written ({error.strerror})") from error
    return out
