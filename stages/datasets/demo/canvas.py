"""Painting shaded, patterned shapes on an image while keeping the label of every pixel."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.datasets.demo.shapes import Field, Shape

Colour = tuple[float, float, float]

BACKGROUND = ""
"""The part name of everything that is not the object."""


@dataclass(frozen=True)
class Paint:
    """A surface: its colour, a second colour laid on by a pattern, and how glossy it is.

    Attributes
    ----------
    colour, accent : red, green, blue in 0 to 1
    pattern : "plain", "spots", "stripes", "mottled" or "shaded"
    gloss : strength of the highlight, 0 (felt) to 1 (lacquer)
    """

    colour: Colour
    accent: Colour = (1.0, 1.0, 1.0)
    pattern: str = "plain"
    gloss: float = 0.15


@dataclass(frozen=True)
class Piece:
    """One painted shape of an object, in the object's own units, and the part it belongs to."""

    part: str
    shape: Shape
    paint: Paint
    shade: float = 1.0
    """Brightness factor; limbs on the far side are darker."""


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: float) -> Field:
    """Smooth noise with about ``cells`` bumps along the longer side; float32 [h, w] in 0 to 1."""
    unit = max(height, width) / cells
    coarse = rng.random((int(height / unit) + 3, int(width / unit) + 3), dtype=np.float32)
    zoomed = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(zoomed, dtype=np.float32), 0, 1)


@dataclass
class Canvas:
    """An image being painted: colour in linear 0 to 1, and the part index of every pixel.

    Attributes
    ----------
    image : float32 [h, w, 3]
    label : int16 [h, w], 0 where the background shows
    light : unit vector towards the light; x right, y down, z to the viewer
    ambient : share of light that comes from everywhere
    """

    image: NDArray[np.float32]
    label: NDArray[np.int16]
    light: tuple[float, float, float]
    ambient: float
    fine: Field
    coarse: Field
    stripe_angle: float
    names: list[str] = field(default_factory=list)

    @classmethod
    def blank(cls, rng: np.random.Generator, height: int, width: int) -> Canvas:
        """An empty canvas with a random light and random pattern fields."""
        side = rng.uniform(-0.7, 0.7)
        light = np.array([side, -rng.uniform(0.45, 0.8), rng.uniform(0.5, 0.9)])
        light /= np.linalg.norm(light)
        return cls(
            image=np.zeros((height, width, 3), np.float32),
            label=np.zeros((height, width), np.int16),
            light=(float(light[0]), float(light[1]), float(light[2])),
            ambient=float(rng.uniform(0.42, 0.6)),
            fine=smooth_noise(rng, height, width, rng.uniform(16, 30)),
            coarse=smooth_noise(rng, height, width, rng.uniform(6, 10)),
            stripe_angle=float(rng.uniform(-0.5, 0.5)),
        )

    @property
    def unit(self) -> float:
        """The shorter side over 224: sizes given in pixels are meant at 224."""
        return min(self.label.shape) / 224

    def index(self, part: str) -> int:
        """The label of a part, made on first use; 0 for the background."""
        if part == BACKGROUND:
            return 0
        if part not in self.names:
            self.names.append(part)
        return self.names.index(part) + 1

    def paint(self, piece: Piece, occlusion: float = 0.35) -> None:
        """Paint one piece (already in pixels): contact shadow, surface, anti-aliased edge.

        The edge pixel's label is the piece's when at least half of the pixel is covered.
        """
        height, width = self.label.shape
        soft = 7.0 * self.unit
        x0, y0, x1, y1 = piece.shape.bounds()
        left, top = max(int(x0 - soft) - 1, 0), max(int(y0 - soft) - 1, 0)
        right, bottom = min(int(x1 + soft) + 2, width), min(int(y1 + soft) + 2, height)
        if right - left < 2 or bottom - top < 2:
            return
        x = np.arange(left, right, dtype=np.float32)[None, :] + np.float32(0.5)
        y = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5)
        distance, steep = piece.shape.measure(x, y)
        window = (slice(top, bottom), slice(left, right))

        # Ambient occlusion: what lies just outside the outline is darkened, so overlapping
        # limbs of one colour still part from each other.
        near = np.clip(1 - np.maximum(distance, 0) / np.float32(soft), 0, 1)
        base = self.image[window] * (1 - np.float32(occlusion) * near * near)[..., None]

        surface = self._surface(piece, distance, steep, window)
        alpha = np.clip(np.float32(0.5) - distance, 0, 1)[..., None]
        self.image[window] = base + alpha * (surface - base)
        self.label[window][distance <= 0] = self.index(piece.part)

    def _surface(
        self, piece: Piece, distance: Field, steep: Field, window: tuple[slice, slice]
    ) -> NDArray[np.float32]:
        """The lit colour of the piece on the window; float32 [h, w, 3]."""
        gy, gx = np.gradient(distance)
        norm = np.maximum(np.hypot(gx, gy), np.float32(1e-4))
        slope = steep * np.float32(0.95)
        facing = np.sqrt(1 - slope * slope)
        lx, ly, lz = self.light
        lit = np.maximum(slope * (gx * lx + gy * ly) / norm + facing * lz, 0)
        shine = self.ambient + (1.18 - self.ambient) * lit
        rim = np.clip(-distance / np.float32(1.6 * self.unit), 0, 1)
        shine = piece.shade * shine * (0.66 + 0.34 * rim)
        colour = self._pattern(piece.paint, window) * shine[..., None]
        glint = piece.paint.gloss * piece.shade * np.clip(lit * 1.04, 0, 1) ** 14
        return (colour + glint[..., None]).astype(np.float32)

    def _pattern(self, paint: Paint, window: tuple[slice, slice]) -> NDArray[np.float32]:
        """The unlit colour of the paint on the window; float32 [h, w, 3]."""
        fine, coarse = self.fine[window], self.coarse[window]
        if paint.pattern == "spots":
            mix = np.clip((fine - 0.6) * 9, 0, 1)
        elif paint.pattern == "stripes":
            x = np.arange(window[1].start, window[1].stop, dtype=np.float32)[None, :]
            y = np.arange(window[0].start, window[0].stop, dtype=np.float32)[:, None]
            along = x * np.cos(self.stripe_angle) + y * np.sin(self.stripe_angle)
            wave = np.sin(along * (0.42 / self.unit) + 7 * coarse)
            mix = np.clip(wave * 2.5 - 0.6, 0, 1)
        elif paint.pattern == "mottled":
            mix = np.clip((coarse - 0.48) * 7, 0, 1)
        elif paint.pattern == "shaded":
            mix = 0.6 * fine
        else:
            mix = 0.14 * fine
        base = np.array(paint.colour, np.float32)
        return base + mix[..., None].astype(np.float32) * (
            np.array(paint.accent, np.float32) - base
        )

    def soften(self, x: float, y: float, rx: float, ry: float, strength: float) -> None:
        """Darken a soft-edged ellipse: the shadow an object casts on the ground."""
        height, width = self.label.shape
        left, right = max(int(x - 1.6 * rx), 0), min(int(x + 1.6 * rx) + 1, width)
        top, bottom = max(int(y - 1.6 * ry), 0), min(int(y + 1.6 * ry) + 1, height)
        if right <= left or bottom <= top:
            return
        u = (np.arange(left, right, dtype=np.float32)[None, :] - x) / rx
        v = (np.arange(top, bottom, dtype=np.float32)[:, None] - y) / ry
        dark = np.float32(strength) * np.clip(1.3 - np.sqrt(u * u + v * v), 0, 1).astype(np.float32)
        self.image[top:bottom, left:right] *= (1 - dark)[..., None]
