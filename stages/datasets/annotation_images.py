"""Masks and indexed images, placed on their photograph as a person sees it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.datasets.dataset import DatasetError, Mask
from stages.images.decode import ImageError, read_frame, read_stored
from stages.images.orientation import Frame

NO_VOID = -1
# A drawing has fewer colours, a photograph that was cut out has more.
DRAWN_COLOURS = 32


def image_frame(path: Path) -> Frame:
    """How an image is stored and seen; its annotations must fit one of the two.

    Raises
    ------
    DatasetError
        When the image cannot be read.
    """
    try:
        return read_frame(path)
    except (OSError, ImageError) as error:
        raise DatasetError(f"{path}: its size cannot be read ({error})") from error


def placed(
    path: Path, values: NDArray[Any], frame: Frame, *, of_stored: bool = False
) -> NDArray[Any]:
    """An annotation's values ``[h, w, ...]`` on the image as seen.

    Parameters
    ----------
    path : Path
        Of the annotation.
    of_stored : bool
        Where the image's size as stored and as seen are the same, the annotation is of the first.

    Raises
    ------
    DatasetError
        When they have neither size.
    """
    check_size(path, values.shape[:2], frame)
    return frame.turn(values) if is_stored(values.shape[:2], frame, of_stored) else values


def check_size(path: Path, found: tuple[int, ...], frame: Frame) -> None:
    """Refuse an annotation of another size than its image's, as stored and as seen.

    Raises
    ------
    DatasetError
    """
    if found not in (frame.seen, frame.stored):
        raise DatasetError(
            f"{path}: annotates {found[1]}x{found[0]} pixels, the image has "
            f"{frame.seen[1]}x{frame.seen[0]}"
        )


def is_stored(found: tuple[int, ...], frame: Frame, of_stored: bool) -> bool:
    """Whether an annotation of a size that fits is of the image as stored, not as seen."""
    return found == frame.stored if of_stored else found != frame.seen


def read_mask(path: Path, frame: Frame, void: int = NO_VOID) -> tuple[Mask, Mask | None]:
    """Where an annotation image is neither black nor transparent, and where it is void.

    In a photograph that was cut out, and in a picture that is black wherever it is not transparent,
    opacity alone is the object.

    Returns
    -------
    mask : bool [h, w]
    void : bool [h, w] or None
        Where all colours have the value `void`; None if that is nowhere.

    Raises
    ------
    DatasetError
        When the file is damaged, of another size, or in a format that changes pixels' values.
    """
    values = _read(path, frame, colours=True)
    if values.ndim == 2:
        values = values[..., None]
    opaque = None
    if values.shape[2] in (2, 4):
        values, opaque = values[..., :-1], values[..., -1] > 0
    drawn: Mask = np.logical_or.reduce(np.nan_to_num(values) != 0, axis=2)
    if opaque is not None and not opaque.all():
        drawn = opaque if _is_cut_out(values[opaque]) else drawn & opaque
    ignore = np.logical_and.reduce(values == void, axis=2) if void != NO_VOID else None
    if ignore is None or not ignore.any():
        return drawn, None
    return drawn & ~ignore, ignore


def _is_cut_out(colours: NDArray[Any]) -> bool:
    """Whether colours ``[pixels, channels]`` do not tell what is the object."""
    return not colours.any() or len(np.unique(colours, axis=0)) > DRAWN_COLOURS


def read_indexed(path: Path, frame: Frame, *, of_stored: bool = False) -> NDArray[Any]:
    """The values of an indexed or grey image, ``[h, w]``, on its photograph as seen.

    Raises
    ------
    DatasetError
        When the file is damaged, in colour, or of another size.
    """
    values = _read(path, frame, of_stored=of_stored)
    if values.ndim == 3 and values.shape[2] == 2:
        values = values[..., 0]  # which colour of a palette is transparent says nothing here
    if values.ndim == 3:
        raise DatasetError(f"{path}: stores colours, not one value per pixel")
    return values


def _read(
    path: Path, frame: Frame, *, colours: bool = False, of_stored: bool = False
) -> NDArray[Any]:
    try:
        own = read_frame(path)
        # before its pixels are decoded: they may be far more than the image's
        check_size(path, own.seen, frame if own.orientation == 1 else Frame(frame.seen))
        values, orientation = read_stored(path, colours=colours)
    except (OSError, ImageError) as error:
        raise DatasetError(f"{path}: not a readable annotation image ({error})") from error
    if orientation != 1:  # it says itself how it is seen
        return placed(path, values, Frame(frame.seen))
    return placed(path, values, frame, of_stored=of_stored)
