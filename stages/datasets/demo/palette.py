"""Random colours and surfaces that go together."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from stages.datasets.demo.canvas import Colour, Paint

PATTERNS = ("plain", "plain", "shaded", "spots", "stripes", "mottled")


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Red, green, blue in 0 to 1; the hue wraps around, the rest is clipped."""
    s, v = min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)
    return colorsys.hsv_to_rgb(hue % 1.0, s, v)


@dataclass(frozen=True)
class Look:
    """The surfaces of one object: coat, its lighter and darker kin, a contrast, and fixed ones."""

    coat: Paint
    plain: Paint
    light: Paint
    dark: Paint
    trim: Paint


BONE = Paint((0.93, 0.88, 0.74), (0.72, 0.62, 0.45), "shaded", 0.2)
BLACK = Paint((0.07, 0.07, 0.09), gloss=0.5)
WHITE = Paint((0.97, 0.97, 0.95), gloss=0.3)
TYRE = Paint((0.13, 0.13, 0.15), (0.3, 0.3, 0.3), "plain", 0.1)
STEEL = Paint((0.72, 0.74, 0.78), (0.9, 0.92, 0.95), "plain", 0.6)
GLASS = Paint((0.45, 0.66, 0.8), (0.85, 0.95, 1.0), "shaded", 0.5)


def coat(rng: np.random.Generator, natural: bool) -> Look:
    """The surfaces of a creature (``natural``: mostly earthy hues, soft) or of a machine."""
    if natural and rng.random() < 0.65:
        hue, saturation = rng.uniform(0.0, 0.14), rng.uniform(0.2, 0.75)
    else:
        hue, saturation = rng.random(), rng.uniform(0.45, 0.85)
    value = rng.uniform(0.5, 0.95)
    gloss = float(rng.uniform(0.02, 0.15) if natural else rng.uniform(0.25, 0.6))
    pattern = str(rng.choice(PATTERNS)) if natural else "plain"
    base = hsv(hue, saturation, value)
    pale = hsv(hue + rng.uniform(-0.04, 0.04), 0.35 * saturation, min(1.0, value + 0.3))
    deep = hsv(hue, min(1.0, saturation + 0.1), 0.45 * value)
    trim = hsv(hue + rng.uniform(0.35, 0.65), rng.uniform(0.5, 0.9), rng.uniform(0.6, 0.95))
    accent = deep if rng.random() < 0.5 else pale
    return Look(
        coat=Paint(base, accent, pattern, gloss),
        plain=Paint(base, pale, "plain", gloss),
        light=Paint(pale, base, "plain", gloss),
        dark=Paint(deep, base, "plain", gloss),
        trim=Paint(trim, pale, "plain", gloss),
    )
