"""Road vehicles and aeroplanes with interchangeable features.

Parts: road vehicles ``body``, ``wheels``, ``windows``; aeroplanes ``fuselage``, ``wings``,
``tail``, ``engines``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.datasets.demo.canvas import Paint, Piece
from stages.datasets.demo.palette import BLACK, GLASS, STEEL, TYRE, Look, coat
from stages.datasets.demo.shapes import Ellipse, Limb, Point, Polygon, Shape, box, step, tapered


@dataclass(frozen=True)
class Car:
    """A model of road vehicle."""

    shell: str  # car, pickup, van, bus
    wheels: str  # disc, spokes, tractor


@dataclass(frozen=True)
class Plane:
    """A model of aeroplane."""

    engine: str  # propeller, jets
    wings: str  # straight, swept
    tail: str  # cross, high


def car(rng: np.random.Generator, model: Car) -> list[Piece]:
    """The pieces of one vehicle seen from the side, facing right, about two units long."""
    look = coat(rng, natural=False)
    base, roof, radius = 0.25, -rng.uniform(0.52, 0.66), rng.uniform(0.27, 0.31)
    shells: dict[str, tuple[tuple[Point, ...], ...]] = {
        "car": (
            ((-0.62, -0.05), (-0.42, roof), (0.22, roof), (0.55, -0.05)),
            ((-1.0, -0.08), (0.95, -0.06), (1.02, 0.22), (-1.02, 0.22)),
        ),
        "pickup": (
            ((-0.1, -0.05), (-0.05, roof), (0.42, roof), (0.66, -0.05)),
            ((-1.05, -0.1), (0.97, -0.06), (1.02, 0.22), (-1.05, 0.22)),
        ),
        "van": (
            ((-1.0, roof - 0.06), (0.5, roof - 0.06), (0.95, -0.08), (1.0, 0.22), (-1.0, 0.22)),
        ),
        "bus": (((-1.1, roof - 0.14), (1.04, roof - 0.14), (1.1, 0.22), (-1.1, 0.22)),),
    }
    axles = (-0.6, 0.6) if model.shell != "bus" else (-0.68, 0.72)
    pieces = [Piece("wheels", Ellipse((x + 0.06, base), radius, radius), TYRE, 0.6) for x in axles]
    pieces += [Piece("body", Polygon(p, 0.07, 0.16), look.coat) for p in shells[model.shell]]
    pieces += _trim(rng, model.shell, look)
    pieces += [Piece("windows", pane, GLASS) for pane in _panes(model.shell, roof)]
    for x in axles:
        pieces.append(Piece("body", Ellipse((x, base), radius * 1.2, radius * 1.2), look.dark))
        pieces += _wheel(rng, model.wheels, look, (x, base), radius)
    return pieces


def _trim(rng: np.random.Generator, shell: str, look: Look) -> list[Piece]:
    """Stripe, lamps and bumpers."""
    stripe = Limb(((-0.92, 0.1), (0.9, 0.1)), (0.045, 0.045))
    nose, rear = (1.0, 0.02), (-1.0, 0.0)
    pieces = [Piece("body", stripe, look.trim)] if rng.random() < 0.7 else []
    lamp = Paint((1.0, 0.95, 0.7), gloss=0.6)
    return [
        *pieces,
        Piece("body", Ellipse(nose, 0.07, 0.09), lamp),
        Piece("body", Ellipse(rear, 0.05, 0.09), Paint((0.85, 0.12, 0.1), gloss=0.5)),
        Piece("body", Limb(((0.9, 0.27), (1.04, 0.27)), (0.05, 0.05)), STEEL),
        Piece("body", Limb(((-1.06, 0.27), (-0.92, 0.27)), (0.05, 0.05)), STEEL),
    ]


def _panes(shell: str, roof: float) -> list[Shape]:
    """The window panes of each shell."""
    top, low = roof + 0.03, -0.1
    if shell == "car":
        return [
            Polygon(((-0.52, low), (-0.37, top), (-0.12, top), (-0.12, low)), 0.03, 0.05),
            Polygon(((0.0, low), (0.0, top), (0.19, top), (0.43, low)), 0.03, 0.05),
        ]
    if shell == "pickup":
        return [Polygon(((0.03, low), (0.04, top), (0.38, top), (0.54, low)), 0.03, 0.05)]
    if shell == "van":
        return [
            box(-0.3, top - 0.05, 0.14, low, 0.05, 0.05),
            Polygon(((0.28, low), (0.28, top - 0.02), (0.47, top - 0.02), (0.78, low)), 0.03, 0.05),
        ]
    return [
        box(x, top - 0.08, x + 0.4, low + 0.02, 0.05, 0.05) for x in (-1.02, -0.52, -0.02, 0.48)
    ]


def _wheel(
    rng: np.random.Generator, kind: str, look: Look, at: Point, radius: float
) -> list[Piece]:
    """A tyre with its rim, turned by a random angle."""
    turn = rng.uniform(0, np.pi)
    shapes: list[tuple[Shape, Paint]] = []
    if kind == "tractor":
        radius *= 1.08
        for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False) + turn:
            shapes.append((Ellipse(step(at, angle, radius), 0.06, 0.045, angle), TYRE))
    shapes.append((Ellipse(at, radius, radius), TYRE))
    if kind == "spokes":
        shapes.append((Ellipse(at, radius * 0.72, radius * 0.72), look.light))
        shapes.append((Ellipse(at, radius * 0.6, radius * 0.6), BLACK))
        for angle in np.linspace(0, np.pi, 4, endpoint=False) + turn:
            ends = (step(at, angle, radius * 0.62), step(at, angle + np.pi, radius * 0.62))
            shapes.append((Limb(ends, (0.022, 0.022)), look.light))
    elif kind == "disc":
        shapes.append((Ellipse(at, radius * 0.62, radius * 0.62), STEEL))
    else:
        shapes.append((Ellipse(at, radius * 0.5, radius * 0.5), look.trim))
    shapes.append((Ellipse(at, radius * 0.2, radius * 0.2), look.dark))
    return [Piece("wheels", shape, paint) for shape, paint in shapes]


def plane(rng: np.random.Generator, model: Plane) -> list[Piece]:
    """The pieces of one aeroplane seen from above the side, facing right."""
    look = coat(rng, natural=False)
    bank = rng.uniform(0.75, 1.15)
    back = 0.12 if model.wings == "straight" else 0.5
    tip = 0.21 if model.wings == "straight" else 0.12

    def wing(side: float, reach: float) -> Polygon:
        y = side * reach
        outline = (
            (0.32, side * 0.1),
            (0.22 - back, y),
            (0.22 - back - 2 * tip, y),
            (-0.24, side * 0.1),
        )
        return Polygon(outline, 0.06, 0.1)

    pieces = [Piece("wings", wing(-1, 0.72 * bank), look.trim, 0.72)]
    pieces += _engines(rng, model.engine, look, -0.42 * bank, 0.12 - 0.5 * back, 0.72)
    stab = 0.0 if model.tail == "cross" else -0.52
    fin = ((-0.62, -0.08), (-0.9, -0.6), (-1.12, -0.6), (-0.98, -0.06))
    far = ((-0.7, stab - 0.02), (-0.92, stab - 0.24), (-1.1, stab - 0.24), (-0.98, stab - 0.02))
    near = ((-0.68, stab + 0.02), (-0.98, stab + 0.34), (-1.2, stab + 0.34), (-1.02, stab + 0.02))
    pieces.append(Piece("tail", Polygon(far, 0.04, 0.06), look.trim, 0.75))
    if model.tail == "cross":
        pieces.append(Piece("tail", Polygon(fin, 0.05, 0.08), look.trim))
    hull = tapered(
        ((-1.02, -0.04), (-0.5, 0.0), (0.5, 0.02), (0.92, 0.05)), (0.07, 0.2, 0.24, 0.11), 10
    )
    pieces.append(Piece("fuselage", hull, look.coat))
    if model.tail == "high":
        pieces.append(Piece("tail", Polygon(fin, 0.05, 0.08), look.trim))
    pieces.append(Piece("tail", Polygon(near, 0.04, 0.06), look.trim))
    for x in np.arange(-0.45, 0.5, 0.17):
        pieces.append(Piece("fuselage", Ellipse((float(x), -0.07), 0.045, 0.05), GLASS))
    cockpit = ((0.58, -0.06), (0.62, -0.16), (0.72, -0.12), (0.84, -0.02))
    pieces.append(Piece("fuselage", Polygon(cockpit, 0.03, 0.04), GLASS))
    pieces.append(Piece("wings", wing(1, 0.86 * bank), look.trim))
    return pieces + _engines(rng, model.engine, look, 0.5 * bank, 0.18 - 0.55 * back, 1.0)


def _engines(
    rng: np.random.Generator, kind: str, look: Look, y: float, x: float, shade: float
) -> list[Piece]:
    """The engine hung on one wing at ``(x, y)``."""
    pod: list[tuple[Shape, Paint]] = [
        (Limb(((x - 0.12, y), (x + 0.2, y)), (0.1, 0.13)), look.light)
    ]
    if kind == "jets":
        pod.append((Ellipse((x + 0.29, y), 0.06, 0.13), BLACK))
    else:
        turn = rng.uniform(0, np.pi)
        hub = (x + 0.34, y)
        reach = (0.3 * float(np.cos(turn)) * 0.35, 0.3 * float(np.sin(turn) + 0.3))
        blade = Limb(
            ((hub[0] - reach[0], y - reach[1]), (hub[0] + reach[0], y + reach[1])), (0.045, 0.045)
        )
        pod += [(blade, look.dark), (Ellipse(hub, 0.09, 0.07), look.trim)]
    return [Piece("engines", shape, paint, shade) for shape, paint in pod]
