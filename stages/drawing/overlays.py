"""Pictures of concepts on a photograph: colours, outlines and spotlights. Arrays in, images out.

What is compiled is imported where it is called: Numba takes longer to load than help lasts.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.drawing.colours import Colour

Photo = NDArray[np.uint8]  # [h, w, 3]
Strength = NDArray[np.float32]  # [factors, h, w], 0 to 1

GAMMA = 1.3  # above 1: faint heat stays faint, so that the strongest places stand out
OPACITY = 0.86
LIGHT = 1.2  # as `GAMMA`, of spotlights
# Widths of lines and the length of a dash, in pixels of the picture.
RAW_LINE, REFINED_LINE, SPOT_LINE, DASH = 0.5, 1.5, 2.0, 5.0
SPECK = 24  # outlines with fewer points are left out: they would hide what they go around


def heat_picture(photo: Photo, strength: Strength, colours: Sequence[Colour]) -> Image.Image:
    """The photograph in faded grey under its factors' colours.

    Where factors meet, the stronger one gives the larger share of the colour; the strongest gives
    the opacity.
    """
    from stages.drawing.painting import heat

    out = np.empty_like(photo)
    heat(photo, strength, _inks(colours), _powers(GAMMA), np.float32(OPACITY), out)
    return Image.fromarray(out)


def mask_picture(
    photo: Photo,
    raw: Sequence[Strength],
    refined: Sequence[Strength],
    colours: Sequence[Colour],
) -> Image.Image:
    """The photograph with its masks: refined ones filled and outlined, raw ones dashed.

    Parameters
    ----------
    raw, refined : sequence of float [h, w]
        Maps divided by their thresholds: a mask is where they reach 1.
    """
    from stages.drawing.painting import fill, ink, stroke

    out, cover = np.empty_like(photo), np.zeros(photo.shape[:2], np.float32)
    fill(photo, np.stack(refined), _inks(colours), out)
    lines = [(level, RAW_LINE, DASH) for level in raw]
    lines += [(level, REFINED_LINE, 0.0) for level in refined]
    pens = _inks([_lighter(rgb) for rgb in colours])
    for (level, width, dash), pen in zip(lines, (*pens, *pens), strict=True):
        stroke(level, width, dash, SPECK, cover)
        ink(out, cover, pen)
    return Image.fromarray(out)


def spotlight_picture(
    photo: Photo, strength: Strength, level: Strength, rgb: Colour
) -> Image.Image:
    """The photograph in the dark but for the places of one factor, with its mask's outline."""
    from stages.drawing.painting import ink, light, stroke

    out, cover = np.empty_like(photo), np.zeros(photo.shape[:2], np.float32)
    (pen,) = _inks([rgb])
    light(photo, strength, _powers(LIGHT), np.float32(0.8) + np.float32(0.2 / 255) * pen, out)
    stroke(level, SPOT_LINE, 0.0, SPECK, cover)
    ink(out, cover, pen)
    return Image.fromarray(out)


@cache
def _powers(power: float) -> NDArray[np.float32]:
    """Strengths from 0 to 1 to a power."""
    from stages.drawing.painting import STEPS

    return ((np.arange(STEPS + 1) / STEPS) ** power).astype(np.float32)


def _inks(colours: Sequence[Colour]) -> NDArray[np.float32]:
    """Float32 ``[factors, 3]``."""
    return np.array(colours, np.float32).reshape(-1, 3)


def _lighter(rgb: Colour) -> Colour:
    r, g, b = (value + (255 - value) // 2 for value in rgb)
    return r, g, b
