"""Plane shapes as signed distances, so that edges anti-alias and surfaces shade without meshes.

Every shape answers two questions at once for a grid of pixel centres: how far each pixel is from
the outline (negative inside, in the shape's own units), and how steep the surface is there if the
shape is inflated like a cushion (0 on the ridge, 1 at the rim).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Field = NDArray[np.float32]
Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Placement:
    """A similarity transform: optional left/right flip, rotation, scale, then shift.

    Attributes are in radians (``angle``) and target units (``scale``, ``x``, ``y``).
    """

    scale: float = 1.0
    angle: float = 0.0
    flip: bool = False
    x: float = 0.0
    y: float = 0.0

    def point(self, p: Point) -> Point:
        """The place of one point."""
        px = -p[0] if self.flip else p[0]
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return (
            float(self.x + self.scale * (cos * px - sin * p[1])),
            float(self.y + self.scale * (sin * px + cos * p[1])),
        )

    def turned(self, angle: float) -> float:
        """The direction ``angle`` after the flip and the rotation."""
        return self.angle + (np.pi - angle if self.flip else angle)


class Shape(Protocol):
    """What the canvas can paint."""

    def bounds(self) -> Bounds:
        """Left, top, right, bottom of the outline."""
        ...

    def placed(self, to: Placement) -> Shape:
        """The same shape after a similarity transform."""
        ...

    def measure(self, x: Field, y: Field) -> tuple[Field, Field]:
        """Signed distance and steepness (0 to 1) at pixel centres; float32, shape of x + y."""
        ...


@dataclass(frozen=True)
class Ellipse:
    """An ellipse with half axes ``rx`` and ``ry``, the first turned by ``angle`` radians."""

    centre: Point
    rx: float
    ry: float
    angle: float = 0.0

    def bounds(self) -> Bounds:
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        dx, dy = np.hypot(self.rx * cos, self.ry * sin), np.hypot(self.rx * sin, self.ry * cos)
        cx, cy = self.centre
        return (cx - dx, cy - dy, cx + dx, cy + dy)

    def placed(self, to: Placement) -> Ellipse:
        return Ellipse(
            to.point(self.centre), self.rx * to.scale, self.ry * to.scale, to.turned(self.angle)
        )

    def measure(self, x: Field, y: Field) -> tuple[Field, Field]:
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        dx, dy = x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        u = (cos * dx + sin * dy) / np.float32(self.rx)
        v = (cos * dy - sin * dx) / np.float32(self.ry)
        level = np.sqrt(u * u + v * v)
        # First-order distance: (level - 1) over the gradient of level; exact on the outline.
        grad = np.sqrt((u / np.float32(self.rx)) ** 2 + (v / np.float32(self.ry)) ** 2)
        distance = level * (level - 1) / np.maximum(grad, np.float32(1e-6))
        return distance, np.minimum(level, 1)


@dataclass(frozen=True)
class Limb:
    """A chain of capsules through ``points`` whose radius goes linearly along ``radii``."""

    points: tuple[Point, ...]
    radii: tuple[float, ...]

    def bounds(self) -> Bounds:
        p, r = np.array(self.points), np.array(self.radii)[:, None]
        low, high = (p - r).min(0), (p + r).max(0)
        return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))

    def placed(self, to: Placement) -> Limb:
        return Limb(
            tuple(to.point(p) for p in self.points), tuple(r * to.scale for r in self.radii)
        )

    def measure(self, x: Field, y: Field) -> tuple[Field, Field]:
        shape = np.broadcast_shapes(x.shape, y.shape)
        distance = np.full(shape, np.inf, np.float32)
        steep = np.ones(shape, np.float32)
        for i in range(len(self.points) - 1):
            (ax, ay), (bx, by) = self.points[i], self.points[i + 1]
            ra, rb = self.radii[i], self.radii[i + 1]
            dx, dy = bx - ax, by - ay
            length2 = max(dx * dx + dy * dy, 1e-9)
            px, py = x - np.float32(ax), y - np.float32(ay)
            t = np.clip((px * np.float32(dx) + py * np.float32(dy)) / np.float32(length2), 0, 1)
            away = np.hypot(px - t * np.float32(dx), py - t * np.float32(dy))
            radius = np.float32(ra) + t * np.float32(rb - ra)
            here = away - radius
            closer = here < distance
            steep = np.where(closer, away / np.maximum(radius, np.float32(1e-6)), steep)
            distance = np.where(closer, here, distance)
        return distance, np.minimum(steep, 1)


@dataclass(frozen=True)
class Polygon:
    """A polygon with rounded corners (``rounding``) and a bevelled rim ``bevel`` wide."""

    points: tuple[Point, ...]
    rounding: float = 0.0
    bevel: float = 0.1

    def bounds(self) -> Bounds:
        p = np.array(self.points)
        low, high = p.min(0) - self.rounding, p.max(0) + self.rounding
        return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))

    def placed(self, to: Placement) -> Polygon:
        return Polygon(
            tuple(to.point(p) for p in self.points),
            self.rounding * to.scale,
            self.bevel * to.scale,
        )

    def measure(self, x: Field, y: Field) -> tuple[Field, Field]:
        shape = np.broadcast_shapes(x.shape, y.shape)
        near2 = np.full(shape, np.inf, np.float32)
        inside = np.zeros(shape, bool)
        for (ax, ay), (bx, by) in zip(self.points, (*self.points[1:], self.points[0]), strict=True):
            dx, dy = np.float32(bx - ax), np.float32(by - ay)
            px, py = x - np.float32(ax), y - np.float32(ay)
            t = np.clip((px * dx + py * dy) / np.float32(max(float(dx * dx + dy * dy), 1e-9)), 0, 1)
            near2 = np.minimum(near2, (px - t * dx) ** 2 + (py - t * dy) ** 2)
            # Even-odd rule: count the edges a ray to the right of the pixel crosses.
            crosses = (y >= np.float32(ay)) != (y >= np.float32(by))
            if ay != by:
                inside ^= crosses & (px < py * np.float32((bx - ax) / (by - ay)))
        near = np.sqrt(near2)
        distance = np.where(inside, -near, near) - np.float32(self.rounding)
        return distance, np.clip(1 + distance / np.float32(max(self.bevel, 1e-6)), 0, 1)


def curve(points: Sequence[Point], samples: int = 9) -> tuple[Point, ...]:
    """A smooth path through ``points`` (Catmull-Rom), sampled at ``samples`` places."""
    p = np.array([points[0], *points, points[-1]], dtype=np.float64)
    out: list[Point] = []
    for s in np.linspace(0, len(points) - 1, samples):
        i = min(int(s), len(points) - 2)
        t = s - i
        a, b, c, d = p[i : i + 4]
        q = 0.5 * (
            2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * (b - c) + d - a) * t**3
        )
        out.append((float(q[0]), float(q[1])))
    return tuple(out)


def tapered(points: Sequence[Point], radii: Sequence[float], samples: int = 9) -> Limb:
    """A smooth limb through ``points`` whose radii are interpolated along the way."""
    stops = np.linspace(0, 1, len(radii))
    widths = np.interp(np.linspace(0, 1, samples), stops, radii)
    return Limb(curve(points, samples), tuple(float(w) for w in widths))


def box(x0: float, y0: float, x1: float, y1: float, rounding: float, bevel: float) -> Polygon:
    """An upright rectangle whose rounded outline touches the four sides given."""
    r = rounding
    corners = ((x0 + r, y0 + r), (x1 - r, y0 + r), (x1 - r, y1 - r), (x0 + r, y1 - r))
    return Polygon(corners, r, bevel)


def step(start: Point, angle: float, length: float) -> Point:
    """The point ``length`` away from ``start`` in direction ``angle`` (0 right, pi/2 down)."""
    return (start[0] + length * float(np.cos(angle)), start[1] + length * float(np.sin(angle)))
