"""Pictures of concepts on a photograph: colours, outlines and spotlights. Arrays in, images out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage.measure import find_contours

from stages.drawing.colours import Colour

Photo = NDArray[np.uint8]  # [h, w, 3]
Strength = NDArray[np.float32]  # [factors, h, w], 0 to 1

GAMMA = 1.3  # above 1: faint heat stays faint, so that the strongest places stand out
OPACITY = 0.86
FINE = 2  # outlines are drawn at this multiple of the picture's size, then made small: smooth
DASH = 5.0  # length of a dash, in pixels of the picture
SPECK = 24  # outlines with fewer points are left out: they would hide what they go around


def heat_picture(photo: Photo, strength: Strength, colours: Sequence[Colour]) -> Image.Image:
    """The photograph in faded grey under its factors' colours.

    Where factors meet, the stronger one gives the larger share of the colour; the strongest gives
    the opacity.
    """
    grey = _grey(photo)
    base = 40 + 0.72 * (0.75 * grey + 0.25 * photo)
    heat = strength**GAMMA
    shares = heat**2 / np.maximum((heat**2).sum(axis=0), 1e-9)
    tint = np.einsum("fhw,fc->hwc", shares, np.array(colours, dtype=np.float32))
    # The photograph's light and shade go on under the colour.
    tint *= 0.72 + 0.4 * grey / 255
    opacity = OPACITY * heat.max(axis=0)[..., None]
    return _image(base * (1 - opacity) + tint * opacity)


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
    filled = 0.82 * photo.astype(np.float32)
    for level, rgb in zip(refined, colours, strict=True):
        inside = level >= 1
        filled[inside] = 0.58 * filled[inside] + 0.42 * np.array(rgb, dtype=np.float32)
    picture = _image(filled)
    fine = _enlarged(picture)
    pen = ImageDraw.Draw(fine)
    for level, rgb in zip(raw, colours, strict=True):
        for line in _outlines(level):
            for dash in _dashes(line):
                pen.line(dash, fill=_lighter(rgb), width=FINE // 2)
    for level, rgb in zip(refined, colours, strict=True):
        for line in _outlines(level):
            pen.line(line.ravel().tolist(), fill=_lighter(rgb), width=3 * FINE // 2, joint="curve")
    return fine.reduce(FINE)


def spotlight_picture(
    photo: Photo, strength: Strength, level: Strength, rgb: Colour
) -> Image.Image:
    """The photograph in the dark but for the places of one factor, with its mask's outline."""
    grey = _grey(photo)
    light = np.clip(strength**1.2, 0, 1)[..., None]
    dark = (0.30 * grey + 14) * (0.8 + 0.2 * np.array(rgb, dtype=np.float32) / 255)
    picture = _image(dark * (1 - light) + photo * light)
    fine = _enlarged(picture)
    pen = ImageDraw.Draw(fine)
    for line in _outlines(level):
        pen.line(line.ravel().tolist(), fill=rgb, width=2 * FINE, joint="curve")
    return fine.reduce(FINE)


def _grey(photo: Photo) -> NDArray[np.float32]:
    """Luminance, float32 ``[h, w, 1]``."""
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return (photo @ weights)[..., None]


def _image(values: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))


def _enlarged(picture: Image.Image) -> Image.Image:
    """Larger by repeated pixels, so that making it small again gives the very same pixels."""
    size = FINE * picture.width, FINE * picture.height
    return picture.resize(size, Image.Resampling.NEAREST)


def _outlines(level: Strength) -> list[NDArray[np.float64]]:
    """Closed lines around where a map reaches 1: float64 ``[points, (x, y)]`` of the drawing."""
    # Nothing lies beyond the edges: a mask that touches one is closed along it.
    walled = np.pad(level, 1)
    lines = find_contours(walled, 1.0)  # type: ignore[no-untyped-call]
    return [FINE * (line[:, ::-1] - 0.5) for line in lines if len(line) >= SPECK]


def _dashes(line: NDArray[np.float64]) -> list[list[float]]:
    """Every other stretch of a line, each as x, y, x, y, ..."""
    along = np.concatenate([[0.0], np.hypot(*np.diff(line, axis=0).T).cumsum()])
    count = int(along[-1] // (FINE * DASH))
    ends = FINE * DASH * np.arange(count + 1)
    x, y = (np.interp(ends, along, line[:, axis]) for axis in (0, 1))
    between = np.searchsorted(along, ends)
    return [
        [x[i], y[i], *line[between[i] : between[i + 1]].ravel().tolist(), x[i + 1], y[i + 1]]
        for i in range(0, count, 2)
    ]


def _lighter(rgb: Colour) -> Colour:
    r, g, b = (value + (255 - value) // 2 for value in rgb)
    return r, g, b
