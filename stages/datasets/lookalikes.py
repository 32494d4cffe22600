"""Masks among photographs: a mistyped folder of theirs would become an image set."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from stages.datasets.assignment import nfc, undecorated
from stages.datasets.listing import is_file, suffix_of
from stages.images.decode import ImageError, decode_resized, read_header
from stages.images.formats import LOSSLESS_SUFFIXES

LOOKED_AT = 6  # files of a folder
SIDE = 128  # pixels that are looked at: masks stay masks when they are made smaller
DRAWN_COLOURS = 32
MOST_PIXELS = 25_000_000  # of a file that is looked at, before anybody asks what memory there is
EXTREMES = 0.9  # of a mask's pixels are black or white, but for soft edges


def masks_among(root: Path, names: Sequence[str]) -> tuple[str, str] | None:
    """One of the masks in a folder of them, and the photograph that it is of.

    A folder is one of masks when its files keep pixels' values, most of them have the name of a
    photograph, and those that are looked at have few colours where their photographs have many.

    Returns
    -------
    (mask, photograph) or None
        Their names.
    """
    possible = set(filter(_is_lossless, names))
    if not possible:
        return None
    by_folder: dict[str, list[str]] = {}
    by_stem: dict[str, list[str]] = {}
    for name in names:
        by_folder.setdefault(_folder(name), []).append(name)
        by_stem.setdefault(_stem(name), []).append(name)
    for folder, mine in sorted(by_folder.items()):
        lossless = [name for name in mine if name in possible]
        pairs = [(name, twin) for name in lossless if (twin := _twin(name, by_stem))]
        # beside its photographs a mask may be one file of two
        if not pairs or 2 * len(pairs) < len(lossless) or not _whole_folder(pairs, mine, folder):
            continue
        looked_at = pairs[:: -(-len(pairs) // LOOKED_AT)]
        if all(_is_drawn(root / mask) and not _is_drawn(root / of) for mask, of in looked_at):
            return looked_at[0]
    return None


def _stem(name: str) -> str:
    """A name as its mask's may be: without folders, suffix and what tools add."""
    last = nfc(name).rpartition("/")[2]
    return undecorated(last[: len(last) - len(suffix_of(last))]).casefold()


def _folder(name: str) -> str:
    return name.rpartition("/")[0] or "."


def _is_lossless(name: str) -> bool:
    return suffix_of(name.rpartition("/")[2]) in LOSSLESS_SUFFIXES


def _twin(name: str, by_stem: dict[str, list[str]]) -> str:
    """The photograph that a file may be the mask of: one whose folders fit best."""
    others = [other for other in by_stem[_stem(name)] if other != name]
    folders = set(PurePosixPath(name).parent.parts)
    return max(
        others, key=lambda other: len(folders & set(PurePosixPath(other).parent.parts)), default=""
    )


def _whole_folder(pairs: list[tuple[str, str]], mine: list[str], folder: str) -> bool:
    """Whether the folder has masks alone, or masks beside their own photographs."""
    beside = all(_folder(twin) == folder for _, twin in pairs)
    return beside or all(_is_lossless(name) for name in mine)


def _is_drawn(path: Path) -> bool:
    """Whether an image has few colours, but more than one, or is black and white."""
    try:
        if not is_file(path):
            return False
        height, width = read_header(path)
        if height * width > MOST_PIXELS:
            return False
        step = max(1, -(-max(height, width) // SIDE))
        shape = (-(-height // step), -(-width // step))
        pixels = decode_resized(path.read_bytes(), shape).reshape(-1, 3)
    except (OSError, ImageError):
        return False
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    if len(colours) < 2:
        return False
    grey = bool((colours == colours[:, :1]).all())
    ends = counts[(colours.min(axis=1) == pixels.min()) | (colours.max(axis=1) == pixels.max())]
    return len(colours) <= DRAWN_COLOURS or (grey and ends.sum() >= EXTREMES * len(pixels))
