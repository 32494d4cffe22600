"""What surrounds the object: sky or wall, ground, and clutter that belongs to no part."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stages.datasets.demo.canvas import BACKGROUND, Canvas, Colour, Paint, Piece, smooth_noise
from stages.datasets.demo.palette import hsv
from stages.datasets.demo.shapes import Ellipse, Limb, Polygon, Shape, step

CLOUD = Paint((0.93, 0.94, 0.96), (0.8, 0.84, 0.9), "shaded", 0.0)


def _gradient(canvas: Canvas, top: Colour, bottom: Colour, rows: slice) -> None:
    """Fill rows with a vertical blend of two colours."""
    count = canvas.image[rows].shape[0]
    t = np.linspace(0, 1, max(count, 1), dtype=np.float32)[:count, None, None]
    a, b = np.array(top, np.float32), np.array(bottom, np.float32)
    canvas.image[rows] = a + t * (b - a)


def paint_backdrop(rng: np.random.Generator, canvas: Canvas, setting: str, horizon: float) -> None:
    """Paint the whole canvas behind the object.

    Parameters
    ----------
    setting : "land", "sky" or "water"
    horizon : row of the horizon in pixels ("land" only)
    """
    height, width = canvas.label.shape
    grain = rng.standard_normal((height, width, 1), dtype=np.float32)
    rough = smooth_noise(rng, height, width, rng.uniform(20, 60))
    if setting == "land":
        line = int(np.clip(horizon, 1, height - 1))
        _paint_sky(rng, canvas, slice(0, line))
        _paint_hills(rng, canvas, line)
        hue = rng.uniform(0.07, 0.42) if rng.random() < 0.75 else rng.random()
        saturation, value = rng.uniform(0.15, 0.55), rng.uniform(0.35, 0.75)
        near, far = hsv(hue, saturation, value), hsv(hue + 0.03, 0.7 * saturation, value + 0.12)
        _gradient(canvas, far, near, slice(line, height))
        contrast = np.float32(rng.uniform(0.1, 0.5))
        canvas.image[line:] *= 1 + contrast * (rough[line:, :, None] - 0.5)
        canvas.image[line:] += np.float32(rng.uniform(0.01, 0.035)) * grain[line:]
    elif setting == "sky":
        _paint_sky(rng, canvas, slice(0, height))
    else:
        hue = rng.uniform(0.42, 0.65)
        _gradient(
            canvas,
            hsv(hue, rng.uniform(0.3, 0.6), rng.uniform(0.65, 0.95)),
            hsv(hue + 0.04, rng.uniform(0.5, 0.9), rng.uniform(0.25, 0.5)),
            slice(0, height),
        )
        rays = smooth_noise(rng, 2, width, 9)[:1, :, None]
        fade = np.linspace(0.35, 0, height, dtype=np.float32)[:, None, None]
        canvas.image *= 1 + fade * (rays - 0.3)
        canvas.image *= 1 + 0.2 * (rough[..., None] - 0.5)


def _paint_sky(rng: np.random.Generator, canvas: Canvas, rows: slice) -> None:
    hue = rng.uniform(0.5, 0.64) if rng.random() < 0.6 else rng.random()
    saturation, value = rng.uniform(0.1, 0.55), rng.uniform(0.6, 0.98)
    top, low = hsv(hue, saturation, value), hsv(hue + 0.03, 0.45 * saturation, value + 0.08)
    _gradient(canvas, top, low, rows)
    sky = canvas.image[rows]
    if sky.shape[0] > 8 and rng.random() < 0.7:
        height, width = canvas.label.shape
        # Wide noise squeezed vertically reads as cloud banks.
        cloud = smooth_noise(rng, 2 * height, width, rng.uniform(5, 12))[::2][: sky.shape[0]]
        cover = np.clip((cloud - 0.52) * 3.5, 0, 0.75)[..., None]
        sky += cover * (np.array(hsv(hue, 0.05, 0.97), np.float32) - sky)


def _paint_hills(rng: np.random.Generator, canvas: Canvas, line: int) -> None:
    """A ridge or two above the horizon, hazier with distance."""
    height, width = canvas.label.shape
    hue = rng.uniform(0.2, 0.6)
    for layer in range(int(rng.integers(0, 3))):
        ridge = smooth_noise(rng, 2, width, rng.uniform(3, 7))[0]
        top = line - (0.3 - 0.12 * layer) * height * rng.uniform(0.3, 1.0) * ridge
        under = np.arange(line, dtype=np.float32)[:, None] - top[None, :].astype(np.float32)
        alpha = np.clip(under, 0, 1)[..., None]
        colour = np.array(hsv(hue, 0.12 + 0.14 * layer, 0.8 - 0.15 * layer), np.float32)
        canvas.image[:line] += alpha * (colour - canvas.image[:line])


MENU = {
    "land": ("stone", "stick", "bush", "grass", "mushroom", "trunk"),
    "sky": ("cloud", "cloud", "balloon"),
    "water": ("bubble", "stone", "weed", "weed"),
}
"""The distractors that belong in each setting."""


def scatter(
    rng: np.random.Generator,
    canvas: Canvas,
    setting: str,
    rows: tuple[float, float],
    tall_above: float,
    count: int,
) -> None:
    """Paint ``count`` distractors that stand between two rows, the farthest first.

    Tree trunks grow only above row ``tall_above``: nearer ones would have to hide the object.
    """
    height, width = canvas.label.shape
    first, last = rows if setting == "land" else (0.0, float(height))
    for y in np.sort(rng.uniform(first, max(last, first + 1), count)):
        depth = 0.6 + 0.8 * float(np.clip(y / height, 0, 1))
        size = canvas.unit * depth * rng.uniform(7, 22)
        menu = MENU[setting]
        if setting == "land" and y > tall_above:
            menu = menu[:-1]
        for piece in _distractor(rng, str(rng.choice(menu)), rng.uniform(0, width), float(y), size):
            canvas.paint(piece)


Drawn = list[tuple[Shape, Paint]]


class _Paints(NamedTuple):
    """What one distractor may be painted with."""

    grey: Paint
    wood: Paint
    leaf: Paint
    gay: Paint


def _mix_paints(rng: np.random.Generator) -> _Paints:
    """Fresh paints; all are mixed whatever the kind, so that scenes stay what they are."""
    grey = Paint(hsv(rng.random(), 0.12, rng.uniform(0.35, 0.75)), (0.3, 0.3, 0.3), "shaded", 0.1)
    wood = Paint(
        hsv(0.07, rng.uniform(0.3, 0.6), rng.uniform(0.25, 0.5)), (0.2, 0.15, 0.1), "shaded"
    )
    leaf = Paint(
        hsv(rng.uniform(0.16, 0.42), rng.uniform(0.35, 0.75), rng.uniform(0.3, 0.65)),
        hsv(0.25, 0.5, 0.25),
        "mottled",
        0.05,
    )
    bright = hsv(rng.random(), 0.7, 0.85)
    pattern = str(rng.choice(["spots", "plain"]))
    return _Paints(grey, wood, leaf, Paint(bright, (0.95, 0.95, 0.9), pattern))


def _stone(rng: np.random.Generator, x: float, y: float, size: float, paints: _Paints) -> Drawn:
    turns = np.sort(rng.uniform(0, 2 * np.pi, 8))
    rim = [step((x, y), float(a), size * rng.uniform(0.6, 1.0)) for a in turns]
    flat = tuple((px, y + 0.65 * (py - y)) for px, py in rim)
    return [(Polygon(flat, 0.15 * size, 0.5 * size), paints.grey)]


def _stem(
    rng: np.random.Generator, x: float, y: float, size: float, paint: Paint, upright: float
) -> Drawn:
    """A bent stem with one twig: a stick on the ground, or a weed standing."""
    way = rng.uniform(-0.4, 0.4) - upright
    mid = step((x, y), way, 1.4 * size)
    end = step(mid, way + rng.uniform(-0.6, 0.6), 1.3 * size)
    stem = Limb(((x, y), mid, end), (0.16 * size, 0.13 * size, 0.05 * size))
    twig = step(mid, way + rng.choice([-0.9, 0.9]), 0.8 * size)
    return [(stem, paint), (Limb((mid, twig), (0.1 * size, 0.04 * size)), paint)]


def _cluster(
    rng: np.random.Generator, x: float, y: float, size: float, paint: Paint, flat: float
) -> Drawn:
    """Overlapping balls: a bush, or a cloud when flat and pale."""
    balls = zip(
        rng.uniform(-1, 1, 6), rng.uniform(-0.7, 0.1, 6), rng.uniform(0.4, 0.75, 6), strict=True
    )
    return [
        (Ellipse((x + size * dx, y + size * dy * flat), size * r, size * r * flat), paint)
        for dx, dy, r in balls
    ]


def _grass(rng: np.random.Generator, x: float, y: float, size: float, paints: _Paints) -> Drawn:
    blades = zip(rng.uniform(-0.7, 0.7, 6), rng.uniform(0.7, 1.5, 6), strict=True)
    width = (0.1 * size, 0.02 * size)
    return [
        (Limb(((x + 0.5 * size * t, y), step((x, y), t - np.pi / 2, size * n)), width), paints.leaf)
        for t, n in blades
    ]


def _trunk(rng: np.random.Generator, x: float, y: float, size: float, paints: _Paints) -> Drawn:
    top = y - size * rng.uniform(3, 7)
    crown = (x + size * rng.uniform(-0.5, 0.5), top)
    return [(Limb(((x, y), crown), (0.5 * size, 0.35 * size)), paints.wood)]


def _distractor(
    rng: np.random.Generator, kind: str, x: float, y: float, size: float
) -> list[Piece]:
    """The pieces of one distractor standing at ``(x, y)``, about ``size`` pixels in radius."""
    paints = _mix_paints(rng)
    shapes: Drawn
    if kind == "stone":
        shapes = _stone(rng, x, y, size, paints)
    elif kind == "stick":
        shapes = _stem(rng, x, y, size, paints.wood, 0.0)
    elif kind == "weed":
        shapes = _stem(rng, x, y, size, paints.leaf, np.pi / 2)
    elif kind == "bush":
        shapes = _cluster(rng, x, y, size, paints.leaf, 0.9)
    elif kind == "cloud":
        shapes = _cluster(rng, x, y, size, CLOUD, 0.6)
    elif kind == "grass":
        shapes = _grass(rng, x, y, size, paints)
    elif kind == "trunk":
        shapes = _trunk(rng, x, y, size, paints)
    elif kind == "mushroom":
        foot = Limb(((x, y), (x, y - 0.8 * size)), (0.22 * size, 0.18 * size))
        cap = Ellipse((x, y - 0.95 * size), 0.65 * size, 0.42 * size)
        shapes = [(foot, Paint((0.9, 0.86, 0.78))), (cap, paints.gay)]
    elif kind == "balloon":
        string = Limb(((x, y), (x + 0.2 * size, y + 1.9 * size)), (0.03 * size, 0.03 * size))
        shapes = [(string, paints.wood), (Ellipse((x, y), 0.6 * size, 0.75 * size), paints.gay)]
    else:
        shapes = [(Ellipse((x, y), 0.35 * size, 0.35 * size), Paint((0.75, 0.9, 0.95), gloss=0.8))]
    return [Piece(BACKGROUND, shape, paint) for shape, paint in shapes]
