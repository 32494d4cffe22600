"""Birds, robots and fish, each with interchangeable features.

Parts: birds ``head``, ``body``, ``wing``, ``tail``, ``legs``; robots ``head``, ``torso``,
``arms``, ``legs``; fish ``head``, ``body``, ``tail``, ``fins``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.datasets.demo.canvas import Paint, Piece
from stages.datasets.demo.palette import BLACK, BONE, GLASS, STEEL, TYRE, WHITE, Look, coat, hsv
from stages.datasets.demo.shapes import Ellipse, Limb, Point, Polygon, Shape, box, step, tapered

FAR = 0.72


@dataclass(frozen=True)
class Bird:
    """A species of bird."""

    beak: str  # cone, spear, hook, flat
    legs: str  # perch, stilts, web
    tail: str  # fan, long
    neck: float = 0.12


@dataclass(frozen=True)
class Robot:
    """A model of robot."""

    head: str  # box, dome, screen
    hands: str  # claw, ball, hammer
    base: str  # feet, wheels, tracks


@dataclass(frozen=True)
class Fish:
    """A species of fish."""

    snout: str  # round, sword, lantern
    tail: str  # fork, fan
    fins: str  # spiny, sail


def bird(rng: np.random.Generator, species: Bird) -> list[Piece]:
    """The pieces of one standing bird facing right, its body about one unit long."""
    look = coat(rng, natural=rng.random() < 0.4)
    horn = Paint(hsv(rng.uniform(0.04, 0.14), 0.85, rng.uniform(0.7, 0.98)), gloss=0.3)
    tilt = rng.uniform(-0.65, -0.1)
    rump, chest = step((0.0, 0.0), tilt + np.pi, 0.3), step((0.0, 0.0), tilt, 0.22)
    pieces = _bird_legs(rng, species.legs, horn, (0.0, 0.2))
    pieces += _bird_tail(rng, species.tail, look, rump, tilt)
    body = tapered((rump, (0.0, 0.02), chest), (0.19, 0.33, 0.3), 7)
    pieces.append(Piece("body", body, look.light))
    pieces += _bird_head(rng, species, look, horn, step(chest, tilt - 0.2, 0.12), tilt)
    return pieces + _wing(rng, look, step(chest, tilt + np.pi, 0.06), tilt)


def _bird_legs(rng: np.random.Generator, kind: str, horn: Paint, at: Point) -> list[Piece]:
    length = {"perch": 0.22, "stilts": 0.42, "web": 0.2}[kind]
    thick = {"perch": 0.055, "stilts": 0.045, "web": 0.065}[kind]
    pieces = []
    for x, shade in ((0.14, FAR), (-0.06, 1.0)):
        hip = (at[0] + x, at[1])
        swing = rng.uniform(-0.3, 0.3)
        knee = step(hip, np.pi / 2 + swing, length)
        foot = step(knee, np.pi / 2 - 0.8 * swing, length)
        thigh = Limb((hip, step(hip, np.pi / 2 + swing, 0.5 * length)), (0.13, 0.08))
        pieces.append(Piece("legs", tapered((hip, knee, foot), (thick, thick), 5), horn, shade))
        pieces.append(Piece("legs", thigh, horn, shade))
        if kind == "web":
            web = (foot, step(foot, 0.5, 0.33), step(foot, 0.05, 0.36))
            pieces.append(
                Piece("legs", Polygon((*web, step(foot, -0.3, 0.2)), 0.04, 0.06), horn, shade)
            )
        else:
            pieces += [
                Piece("legs", Limb((foot, step(foot, turn, 0.2)), (0.05, 0.03)), horn, shade)
                for turn in (0.55, 0.1, 2.7)
            ]
    return pieces


def _bird_tail(
    rng: np.random.Generator, kind: str, look: Look, at: Point, tilt: float
) -> list[Piece]:
    spread, length, wide = (0.3, 0.5, 0.09) if kind == "fan" else (0.07, 0.75, 0.075)
    base = tilt + np.pi + rng.uniform(-0.35, 0.25)
    pieces = []
    for i, turn in enumerate((-1.0, 0.9, 0.0)):
        tip = step(at, base + spread * turn, length)
        paint = look.dark if i < 2 else look.coat
        pieces.append(Piece("tail", tapered((at, tip), (0.1, wide, wide * 0.8), 5), paint))
    return pieces


def _bird_head(
    rng: np.random.Generator, species: Bird, look: Look, horn: Paint, at: Point, tilt: float
) -> list[Piece]:
    rise = -np.pi / 2 + rng.uniform(0.1, 0.75)
    gaze = rng.uniform(-0.35, 0.5)
    skull = step(at, rise, species.neck + 0.2)
    neck = Limb((at, skull), (0.22, 0.16) if species.neck < 0.2 else (0.17, 0.11))
    beak: list[Shape]
    root = step(skull, gaze, 0.15)
    if species.beak == "cone":
        beak = [
            Polygon(
                (step(root, gaze - 1.4, 0.1), step(root, gaze, 0.26), step(root, gaze + 1.4, 0.1)),
                0.02,
                0.08,
            )
        ]
    elif species.beak == "spear":
        beak = [Limb((root, step(root, gaze, 0.55)), (0.085, 0.015))]
    elif species.beak == "hook":
        mid = step(root, gaze + 0.1, 0.16)
        beak = [tapered((root, mid, step(mid, gaze + 1.7, 0.18)), (0.14, 0.11, 0.02))]
    else:
        tip = step(root, gaze + 0.1, 0.28)
        beak = [
            Limb((root, tip), (0.08, 0.075)),
            Limb((tip, step(tip, gaze - 0.6, 0.06)), (0.075, 0.05)),
        ]
    eye = step(skull, gaze - 0.7, 0.1)
    pieces = [Piece("head", neck, look.plain)]
    pieces += [Piece("head", shape, horn) for shape in beak]
    pieces.append(Piece("head", Ellipse(skull, 0.23, 0.21), look.plain))
    if species.beak == "hook":
        for turn in (-1.7, -2.1, -2.5):
            feather = tapered(
                (step(skull, gaze + turn, 0.16), step(skull, gaze + turn - 0.2, 0.42)),
                (0.05, 0.06, 0.02),
            )
            pieces.append(Piece("head", feather, look.trim))
    pieces.append(Piece("head", Ellipse(eye, 0.068, 0.07), WHITE))
    pieces.append(Piece("head", Ellipse(step(eye, gaze, 0.015), 0.042, 0.046), BLACK))
    return pieces


def _wing(rng: np.random.Generator, look: Look, at: Point, tilt: float) -> list[Piece]:
    """A wing hinged at the shoulder ``at``: folded, half open or raised."""
    lift = rng.uniform(-0.25, 0.3) if rng.random() < 0.6 else rng.uniform(0.6, 1.4)
    way = tilt + np.pi + lift
    pieces = []
    for i, (turn, length) in enumerate(((-0.26, 0.62), (-0.08, 0.68), (0.1, 0.66))):
        tip = step(at, way + turn, length)
        feather = tapered((at, tip), (0.13, 0.12, 0.05), 6)
        pieces.append(Piece("wing", feather, look.dark if i == 0 else look.coat, 0.85 + 0.07 * i))
    pieces.append(Piece("wing", Ellipse(step(at, way, 0.14), 0.24, 0.18, way), look.coat))
    return pieces


def robot(rng: np.random.Generator, model: Robot) -> list[Piece]:
    """The pieces of one robot seen from the front, its torso about one unit tall."""
    look = coat(rng, natural=False)
    wide, tall = rng.uniform(0.36, 0.48), rng.uniform(0.4, 0.5)
    pieces = _base(rng, model.base, look, wide, tall)
    for side in (-1, 1):
        pieces += _arm(rng, model.hands, look, (side * (wide + 0.08), -tall + 0.2), side)
    chest: list[tuple[Shape, Paint]] = [
        (box(-wide, -tall, wide, tall, 0.12, 0.16), look.coat),
        (box(-0.6 * wide, -0.55 * tall, 0.6 * wide, 0.2 * tall, 0.05, 0.05), look.dark),
        (Ellipse((-0.28 * wide, -0.18 * tall), 0.085, 0.085), look.trim),
        (box(0.02, -0.36 * tall, 0.45 * wide, -0.22 * tall, 0.02, 0.02), look.light),
        (box(0.02, -0.1 * tall, 0.3 * wide, 0.04 * tall, 0.02, 0.02), STEEL),
        (box(-0.7 * wide, 0.55 * tall, 0.7 * wide, 0.78 * tall, 0.03, 0.04), look.trim),
    ]
    pieces += [Piece("torso", shape, paint) for shape, paint in chest]
    return pieces + _robot_head(rng, model.head, look, -tall)


def _robot_head(rng: np.random.Generator, kind: str, look: Look, top: float) -> list[Piece]:
    lean = rng.uniform(-0.3, 0.3)
    up = lean - np.pi / 2
    neck = Limb(((0.0, top), step((0.0, top), up, 0.2)), (0.1, 0.1))
    mid = step((0.0, top), up, 0.42)
    x, y = mid
    parts: list[tuple[Shape, Paint]] = [(neck, STEEL)]
    if kind == "dome":
        horn = step(mid, up, 0.55)
        parts += [
            (Limb((mid, horn), (0.03, 0.03)), STEEL),
            (Ellipse(horn, 0.08, 0.08), look.trim),
            (Ellipse(mid, 0.34, 0.31, lean), look.plain),
            (Ellipse((x, y + 0.02), 0.26, 0.14, lean), look.dark),
        ]
    elif kind == "box":
        ears = (step(mid, lean + np.pi, 0.36), step(mid, lean, 0.36))
        square = [step(mid, lean + a, 0.36) for a in (-2.5, -0.64, 0.64, 2.5)]
        parts += [
            (Limb(ears, (0.11, 0.11)), look.trim),
            (Polygon(tuple(square), 0.08, 0.13), look.plain),
            (Limb((step(mid, up + 2.5, 0.2), step(mid, up - 2.5, 0.2)), (0.04, 0.04)), look.dark),
        ]
    else:
        frame = [step(mid, lean + a, 0.48) for a in (-2.6, -0.54, 0.54, 2.6)]
        screen = [step(mid, lean + a, 0.37) for a in (-2.6, -0.54, 0.54, 2.6)]
        parts += [
            (Limb((mid, step(mid, up - 0.5, 0.52)), (0.025, 0.02)), STEEL),
            (Limb((mid, step(mid, up + 0.5, 0.52)), (0.025, 0.02)), STEEL),
            (Polygon(tuple(frame), 0.05, 0.08), look.plain),
            (Polygon(tuple(screen), 0.03, 0.03), GLASS),
        ]
    for side in (-1, 1):
        eye = step(step(mid, up, 0.05), lean, side * 0.14)
        parts += [(Ellipse(eye, 0.075, 0.08), WHITE), (Ellipse(eye, 0.038, 0.042), BLACK)]
    return [Piece("head", shape, paint) for shape, paint in parts]


def _arm(rng: np.random.Generator, kind: str, look: Look, at: Point, side: int) -> list[Piece]:
    raised = rng.uniform(-0.9, 1.3)
    way = np.pi / 2 - side * (0.35 + max(raised, 0.0) * 1.1)
    elbow = step(at, way, 0.4)
    fore = way - side * rng.uniform(-0.4, 1.0)
    wrist = step(elbow, fore, 0.36)
    shapes: list[tuple[Shape, Paint]] = [
        (Limb((at, elbow), (0.11, 0.1)), STEEL),
        (Limb((elbow, wrist), (0.12, 0.13)), look.plain),
        (Ellipse(at, 0.17, 0.17), look.trim),
        (Ellipse(elbow, 0.12, 0.12), look.dark),
    ]
    if kind == "claw":
        for turn in (-0.75, 0.75):
            mid = step(wrist, fore + turn, 0.2)
            claw = tapered((wrist, mid, step(mid, fore - 0.6 * turn, 0.16)), (0.07, 0.06, 0.03), 6)
            shapes.append((claw, look.trim))
    elif kind == "ball":
        shapes.append((Ellipse(step(wrist, fore, 0.12), 0.19, 0.19), look.trim))
    else:
        hand = step(wrist, fore, 0.14)
        ends = (step(hand, fore + np.pi / 2, 0.14), step(hand, fore - np.pi / 2, 0.14))
        shapes.append((Limb(ends, (0.11, 0.11)), look.trim))
    return [Piece("arms", shape, paint) for shape, paint in shapes]


def _base(rng: np.random.Generator, kind: str, look: Look, wide: float, tall: float) -> list[Piece]:
    shapes: list[tuple[Shape, Paint]] = []
    if kind == "tracks":
        shapes.append((box(-0.15, tall - 0.1, 0.15, tall + 0.3, 0.04, 0.1), STEEL))
        shapes.append((Limb(((-wide, tall + 0.38), (wide, tall + 0.38)), (0.23, 0.23)), TYRE))
        for x in np.linspace(-wide, wide, 4):
            shapes.append((Ellipse((float(x), tall + 0.38), 0.12, 0.12), STEEL))
        return [Piece("legs", shape, paint) for shape, paint in shapes]
    for side in (-1, 1):
        hip = (side * wide * 0.55, tall - 0.05)
        spread = rng.uniform(-0.1, 0.35)
        knee = step(hip, np.pi / 2 - side * spread, 0.34)
        ankle = step(knee, np.pi / 2 + side * spread * 0.6, 0.3)
        shapes += [
            (Limb((hip, knee), (0.13, 0.12)), STEEL),
            (Limb((knee, ankle), (0.14, 0.17)), look.plain),
            (Ellipse(knee, 0.13, 0.13), look.trim),
        ]
        if kind == "feet":
            x, y = ankle
            foot = ((x - 0.2, y + 0.18), (x - 0.14, y), (x + 0.14, y), (x + 0.2, y + 0.18))
            shapes.append((Polygon(foot, 0.05, 0.12), look.dark))
        else:
            shapes += [
                (Ellipse((ankle[0], ankle[1] + 0.12), 0.21, 0.21), TYRE),
                (Ellipse((ankle[0], ankle[1] + 0.12), 0.1, 0.1), STEEL),
            ]
    return [Piece("legs", shape, paint) for shape, paint in shapes]


def fish(rng: np.random.Generator, species: Fish) -> list[Piece]:
    """The pieces of one fish facing right, its body about one unit long."""
    look = coat(rng, natural=False)
    patterned = Paint(
        look.coat.colour, look.trim.colour, str(rng.choice(["spots", "stripes", "shaded"])), 0.4
    )
    bend = rng.uniform(-0.16, 0.16)
    deep = rng.uniform(0.27, 0.36)
    root, mid, gill = (-0.55, bend), (-0.1, 0.0), (0.25, 0.0)
    sweep = np.pi + rng.uniform(-0.45, 0.45) - bend
    spread, length = (0.75, 0.5) if species.tail == "fork" else (0.5, 0.44)
    pieces = []
    for turn in (-1.0, 1.0, 0.0) if species.tail == "fan" else (-1.0, 1.0):
        tip = step(root, sweep + spread * turn, length)
        pieces.append(Piece("tail", tapered((root, tip), (0.1, 0.15, 0.07), 6), look.trim))
    if species.fins == "sail":
        back = ((-0.3, -0.15), (-0.32, -0.62), (0.12, -0.6), (0.3, -0.2))
        belly = ((-0.25, 0.15), (-0.38, 0.5), (0.02, 0.48), (0.12, 0.2))
        pieces += [Piece("fins", Polygon(p, 0.05, 0.1), look.trim) for p in (back, belly)]
    else:
        for x in (-0.3, -0.12, 0.06, 0.22):
            spine = Limb(((x, -0.15), (x - 0.14, -0.56)), (0.085, 0.03))
            pieces.append(Piece("fins", spine, look.trim))
        pieces.append(Piece("fins", Limb(((-0.1, 0.15), (-0.28, 0.52)), (0.14, 0.06)), look.trim))
    pieces.append(Piece("body", tapered((root, mid, gill), (0.1, deep, deep * 0.97), 9), patterned))
    pieces += _fish_head(species.snout, look, deep)
    flap = step((0.08, 0.1), np.pi + rng.uniform(-1.0, 0.3), 0.3)
    return [*pieces, Piece("fins", Limb(((0.12, 0.1), flap), (0.07, 0.12)), look.light)]


def _fish_head(kind: str, look: Look, deep: float) -> list[Piece]:
    pieces = []
    if kind == "sword":
        pieces.append(Piece("head", Limb(((0.45, 0.0), (1.08, -0.05)), (0.1, 0.015)), look.dark))
    elif kind == "lantern":
        stalk = tapered(((0.35, -0.2), (0.45, -0.62), (0.8, -0.5)), (0.05, 0.03), 8)
        pieces.append(Piece("head", stalk, look.dark))
        pieces.append(Piece("head", Ellipse((0.82, -0.46), 0.11, 0.11), BONE))
    face = tapered(((0.3, 0.0), (0.5, 0.01)), (deep * 0.97, 0.2), 5)
    pieces += [
        Piece("head", face, look.plain),
        Piece("head", Limb(((0.56, 0.15), (0.68, 0.1)), (0.035, 0.03)), look.dark),
        Piece("head", Ellipse((0.47, -0.08), 0.095, 0.095), WHITE),
        Piece("head", Ellipse((0.5, -0.08), 0.05, 0.055), BLACK),
    ]
    return pieces
