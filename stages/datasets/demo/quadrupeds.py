"""Four-legged creatures: any head on any torso with any legs and any tail.

Parts: ``head`` (with neck, ears, antlers, trunk), ``torso``, ``legs`` (all four), ``tail``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.datasets.demo.canvas import Piece
from stages.datasets.demo.palette import BLACK, BONE, WHITE, Look, coat
from stages.datasets.demo.shapes import Ellipse, Limb, Point, Polygon, Shape, step, tapered

FAR = 0.72


@dataclass(frozen=True)
class Quadruped:
    """A species: which head, legs, tail and torso it has, and how long its neck is."""

    head: str  # antlers, trunk, cat, horse, horns
    legs: str  # hoof, pillar, paw
    tail: str  # tuft, bushy, puff
    torso: str = "sleek"  # sleek, woolly
    neck: float = 0.3


def quadruped(rng: np.random.Generator, species: Quadruped) -> list[Piece]:
    """The pieces of one animal facing right, its torso about one unit long; back to front."""
    look = coat(rng, natural=True)
    slim = rng.uniform(0.23, 0.29)
    arch = rng.uniform(-0.03, 0.05)
    hip, shoulder = (-0.4, 0.02), (0.4, 0.0)
    spine = (hip, (0.0, arch), shoulder)
    torso: list[Shape] = [tapered(spine, (slim * 0.98, slim, slim * 1.04))]
    if species.torso == "woolly":
        ring = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        torso = [
            Ellipse((0.54 * np.cos(a), 0.02 + 0.24 * np.sin(a)), 0.15, 0.14) for a in ring
        ] + torso
    gait = rng.uniform(0, 2 * np.pi)
    stride = rng.uniform(0.08, 0.45)
    pieces = _tail(rng, species.tail, look, (hip[0] - slim * 0.8, hip[1] - slim * 0.35))
    for far in (True, False):
        for i, x in enumerate((hip[0] + 0.02, shoulder[0] - 0.02)):
            swing = stride * np.sin(gait + np.pi * (i + far) + 0.4 * i)
            at = (x + (0.09 if far else -0.03), 0.12)
            pieces += _leg(rng, species.legs, look, at, swing, hind=i == 0, far=far)
        if far:
            pieces += [Piece("torso", shape, look.coat) for shape in torso]
    return pieces + _head(rng, species, look, (shoulder[0] + 0.1, -0.1))


def _leg(
    rng: np.random.Generator,
    kind: str,
    look: Look,
    at: Point,
    swing: float,
    *,
    hind: bool,
    far: bool,
) -> list[Piece]:
    """One leg from its joint at the torso: thigh, shin and foot."""
    shade = FAR if far else 1.0
    thick = {"hoof": (0.14, 0.085, 0.062), "pillar": (0.17, 0.15, 0.145), "paw": (0.15, 0.105, 0.1)}
    length = {"hoof": 0.4, "pillar": 0.3, "paw": 0.28}[kind]
    bend = rng.uniform(0.05, 0.45) * (1 if hind else -0.6)
    knee = step(at, np.pi / 2 - swing - 0.4 * bend, length)
    ankle = step(knee, np.pi / 2 - swing + 0.6 * bend, length)
    paint = look.coat if kind == "hoof" else look.plain
    pieces = [Piece("legs", tapered((at, knee, ankle), thick[kind], 7), paint, shade)]
    x, y = ankle
    if kind == "hoof":
        hoof = (
            (x - 0.05, y - 0.05),
            (x + 0.05, y - 0.05),
            (x + 0.09, y + 0.07),
            (x - 0.06, y + 0.07),
        )
        pieces.append(Piece("legs", Polygon(hoof, 0.02, 0.06), look.dark, shade))
    elif kind == "pillar":
        pieces += [
            Piece("legs", Ellipse((x + dx, y + 0.1), 0.045, 0.04), BONE, shade)
            for dx in (-0.06, 0.03, 0.11)
        ]
    else:
        pieces.append(Piece("legs", Ellipse((x + 0.06, y + 0.03), 0.15, 0.085), look.light, shade))
    return pieces


def _tail(rng: np.random.Generator, kind: str, look: Look, at: Point) -> list[Piece]:
    """A tail growing to the left of ``at``."""
    if kind == "puff":
        return [Piece("tail", Ellipse((at[0] - 0.06, at[1] - 0.02), 0.15, 0.13, 0.5), look.light)]
    lift = rng.uniform(-0.9, 0.7)
    if kind == "tuft":
        mid = step(at, np.pi - lift, 0.28)
        end = step(mid, np.pi - lift + rng.uniform(-1.4, 0.2), 0.3)
        return [
            Piece("tail", tapered((at, mid, end), (0.06, 0.04, 0.035)), look.coat),
            Piece("tail", Ellipse(end, 0.11, 0.075, np.pi - lift - 0.6), look.dark),
        ]
    mid = step(at, np.pi + lift, 0.3)
    end = step(mid, np.pi + lift + rng.uniform(-0.2, 1.0), 0.34)
    tip = step(end, np.pi + lift + rng.uniform(0.0, 1.2), 0.1)
    return [
        Piece("tail", tapered((at, mid, end), (0.07, 0.16, 0.13)), look.coat),
        Piece("tail", Limb((end, tip), (0.12, 0.04)), look.light),
    ]


def _head(rng: np.random.Generator, species: Quadruped, look: Look, at: Point) -> list[Piece]:
    """Neck, head and everything that grows on it; from grazing to looking up."""
    if species.head == "trunk":
        lift, nod = rng.uniform(-0.5, 0.1), rng.uniform(-0.15, 0.3)
    elif rng.random() < 0.3:
        lift, nod = rng.uniform(0.5, 0.95), rng.uniform(0.9, 1.3)  # grazing
    else:
        lift, nod = rng.uniform(-1.15, -0.4), rng.uniform(-0.15, 0.5)
    skull = step(at, lift, species.neck + 0.12)
    neck = tapered(((at[0] - 0.1, at[1] + 0.06), skull), (0.21, 0.15), 4)
    pieces = [Piece("head", neck, look.coat)]
    if species.head == "horse":
        crest = [step(p, lift - np.pi / 2, 0.13) for p in (at, step(at, lift, species.neck))]
        mane = tapered((crest[0], crest[1], step(skull, nod - 1.6, 0.2)), (0.07, 0.11, 0.08))
        pieces.append(Piece("head", mane, look.dark))
    ears = _ears(species.head, look, skull, nod)
    face = _face(rng, species.head, look, skull, nod)
    return pieces + ears[:1] + _horns(species.head, skull, nod, look) + face + ears[1:]


def _face(rng: np.random.Generator, kind: str, look: Look, skull: Point, nod: float) -> list[Piece]:
    """Skull, muzzle, nose and eye, the muzzle pointing along ``nod``."""
    reach = {"antlers": 0.3, "trunk": 0.12, "cat": 0.15, "horse": 0.38, "horns": 0.27}[kind]
    width = {"antlers": 0.1, "trunk": 0.2, "cat": 0.13, "horse": 0.13, "horns": 0.14}[kind]
    size = {"antlers": 0.19, "trunk": 0.29, "cat": 0.25, "horse": 0.2, "horns": 0.21}[kind]
    muzzle = step(skull, nod + 0.2, reach)
    pieces = []
    if kind == "trunk":
        curl = rng.uniform(-0.9, 1.2)
        path = [skull, step(skull, nod + 0.6, 0.3)]
        for turn in (1.1 - 0.3 * curl, 1.5 - 0.9 * curl, 1.6 - 1.7 * curl):
            path.append(step(path[-1], nod + turn, 0.2))
        tusk = step(muzzle, nod + 0.7, 0.22)
        pieces = [
            Piece("head", tapered(path, (0.2, 0.14, 0.11, 0.085, 0.07), 12), look.plain),
            Piece("head", Ellipse(skull, size, size * 0.95), look.coat),
            Piece(
                "head", tapered((muzzle, step(muzzle, nod + 1.1, 0.12), tusk), (0.05, 0.025)), BONE
            ),
        ]
    else:
        snout = look.light if kind in ("cat", "horns") else look.plain
        pieces = [
            Piece("head", Ellipse(skull, size, size * 0.9, nod), look.coat),
            Piece("head", Limb((skull, muzzle), (size * 0.7, width)), snout),
            Piece("head", Ellipse(step(muzzle, nod - 0.1, width * 0.75), 0.055, 0.045), BLACK),
        ]
    eye = step(skull, nod - 0.55, size * 0.5)
    pieces.append(Piece("head", Ellipse(eye, 0.055, 0.062), WHITE))
    pieces.append(Piece("head", Ellipse(step(eye, nod, 0.015), 0.034, 0.042), BLACK))
    return pieces


def _ears(kind: str, look: Look, skull: Point, nod: float) -> list[Piece]:
    """The far ear (painted before the face) and the near ear."""
    if kind == "trunk":
        big = step(skull, nod + np.pi * 0.9, 0.2)
        return [
            Piece("head", Ellipse(step(big, nod, 0.1), 0.2, 0.3, 0.2), look.dark, FAR),
            Piece("head", Ellipse(big, 0.24, 0.34, 0.15 + nod), look.plain, 0.92),
        ]
    if kind == "cat":
        ears = []
        for turn, shade in ((-1.15, FAR), (-2.0, 1.0)):
            tip = step(skull, nod + turn, 0.42)
            left, right = step(skull, nod + turn - 0.5, 0.2), step(skull, nod + turn + 0.5, 0.2)
            ears.append(Piece("head", Polygon((left, tip, right), 0.03, 0.08), look.dark, shade))
        return ears
    ears = []
    for turn, shade in ((-1.75, FAR), (-2.35, 1.0)):
        root = step(skull, nod + turn, 0.14)
        ears.append(
            Piece(
                "head",
                tapered((root, step(root, nod + turn, 0.2)), (0.04, 0.075, 0.02), 5),
                look.plain,
                shade,
            )
        )
    return ears


def _horns(kind: str, skull: Point, nod: float, look: Look) -> list[Piece]:
    """Antlers or curled horns; nothing for the others."""
    pieces: list[Piece] = []
    if kind == "antlers":
        for turn, shade in ((-1.25, 0.75), (-1.75, 1.0)):
            root = step(skull, nod + turn, 0.12)
            beam = [root, step(root, nod + turn - 0.25, 0.26)]
            beam.append(step(beam[-1], nod + turn + 0.3, 0.28))
            pieces.append(Piece("head", tapered(beam, (0.05, 0.03)), BONE, shade))
            for at, way in ((beam[1], 0.75), (beam[1], -0.85), (beam[2], 0.9)):
                tine = Limb((at, step(at, nod + turn + way, 0.17)), (0.034, 0.018))
                pieces.append(Piece("head", tine, BONE, shade))
    elif kind == "horns":
        for back, shade in ((0.06, 0.75), (0.0, 1.0)):
            root = step(skull, nod - 1.5 + back, 0.15)
            curl = [root]
            for turn in (-2.2, -3.0, -4.0, -5.0):
                curl.append(step(curl[-1], nod + turn, 0.15))
            pieces.append(Piece("head", tapered(curl, (0.085, 0.07, 0.03), 11), BONE, shade))
    return pieces
