"""Scenes: one object with named parts in front of a cluttered backdrop, from a seed.

The picture and the part masks come from the same shapes, so the masks are exact: every pixel
belongs to the part whose surface is seen at its centre, or to the background.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.datasets.demo.backdrop import paint_backdrop, scatter
from stages.datasets.demo.canvas import Canvas, Piece, smooth_noise
from stages.datasets.demo.kinds import RECIPES
from stages.datasets.demo.shapes import Placement

KINDS: tuple[str, ...] = tuple(RECIPES)
"""All kinds of scene; ``empty`` has no object."""

DEMO_SETS: tuple[str, ...] = ("deer", "elephant", "robot", "car", "plane")
"""The kinds the demo factorises, one image set each."""

SETTINGS = ("land", "sky", "water")
"""The backdrops an object can stand in front of."""

COVERAGE = (0.22, 0.36)
"""Smallest and largest share of the image an object aims to cover."""

SIZES = ((224, 224), (208, 240), (240, 208), (200, 256), (224, 256), (240, 240))
"""Heights and widths of the demo's images."""


@dataclass(frozen=True)
class Scene:
    """A picture and the visible pixels of each part of its object.

    Attributes
    ----------
    image : uint8 [h, w, 3]
    parts : part name to bool [h, w]; disjoint, their union is the object
    """

    image: NDArray[np.uint8]
    parts: dict[str, NDArray[np.bool_]]


def part_names(kind: str) -> tuple[str, ...]:
    """The parts of a kind, in a fixed order; ``ValueError`` for an unknown kind."""
    if kind not in RECIPES:
        raise ValueError(f"unknown kind {kind!r}; known: {', '.join(KINDS)}")
    return RECIPES[kind].parts


def draw_scene(kind: str, seed: int, height: int, width: int, setting: str | None = None) -> Scene:
    """Draw one scene; the same arguments give the same bytes.

    Parameters
    ----------
    kind : one of ``KINDS``
    seed : a non-negative integer
    height, width : size of the picture in pixels, at least 32
    setting : one of ``SETTINGS``; by default where the kind belongs, sometimes elsewhere

    Raises
    ------
    ValueError
        The kind or setting is unknown, or the picture is smaller than 32 pixels.
    """
    names = part_names(kind)
    if min(height, width) < 32:
        raise ValueError(f"a scene needs at least 32x32 pixels, got {height}x{width}")
    if setting is not None and setting not in SETTINGS:
        raise ValueError(f"unknown setting {setting!r}; known: {', '.join(SETTINGS)}")
    recipe = RECIPES[kind]
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    canvas = Canvas.blank(rng, height, width)
    for name in names:
        canvas.index(name)
    pieces = _place(rng, recipe.build(rng), recipe.tilt, height, width)
    usual = recipe.setting
    if usual == "any" or (usual != "land" and rng.random() < 0.25):
        usual = str(rng.choice(SETTINGS))
    setting = setting or usual
    bounds = np.array([p.shape.bounds() for p in pieces] or [(0.0, 0.0, width, 0.85 * height)])
    left, right, feet = bounds[:, 0].min(), bounds[:, 2].max(), float(bounds[:, 3].max())
    # Whatever stands must stand on ground, so the horizon is above the lowest point.
    horizon = max(feet - height * rng.uniform(0.12, 0.6), 0.08 * height)
    paint_backdrop(rng, canvas, setting, horizon)
    scatter(rng, canvas, setting, (horizon, height), feet, int(rng.integers(3, 12)))
    if pieces and setting == "land":
        wide = 0.5 * float(right - left)
        canvas.soften(0.5 * float(left + right), feet - 2, 0.95 * wide, 0.16 * wide, 0.6)
    for piece in pieces:
        canvas.paint(piece)
    if setting == "land" and pieces:
        # A little of the foreground may hide feet, as grass does.
        scatter(rng, canvas, setting, (feet, 1.1 * height), 0.0, int(rng.integers(0, 3)))
    parts = {name: canvas.label == i + 1 for i, name in enumerate(names)}
    return Scene(_develop(rng, canvas), parts)


def _place(
    rng: np.random.Generator, pieces: list[Piece], tilt: float, height: int, width: int
) -> list[Piece]:
    """Flip, turn, scale and shift the object so that it covers a random share of the frame."""
    if not pieces:
        return []
    turn = Placement(angle=float(rng.uniform(-tilt, tilt)), flip=bool(rng.random() < 0.5))
    turned = [p.shape.placed(turn) for p in pieces]
    bounds = np.array([shape.bounds() for shape in turned])
    left, top = bounds[:, :2].min(0)
    right, bottom = bounds[:, 2:].max(0)
    # The object's area, measured on a coarse grid in its own units.
    step = max(right - left, bottom - top) / 48
    x = np.arange(left, right, step, dtype=np.float32)[None, :]
    y = np.arange(top, bottom, step, dtype=np.float32)[:, None]
    solid = np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    for shape in turned:
        solid |= shape.measure(x, y)[0] <= 0
    area = float(solid.sum()) * step * step
    scale = np.sqrt(rng.uniform(*COVERAGE) * height * width / area)
    scale = min(scale, 0.98 * width / (right - left), 0.98 * height / (bottom - top))
    slack_x = width - scale * (right - left)
    slack_y = height - scale * (bottom - top)
    move = Placement(
        scale=float(scale),
        x=float(rng.uniform(0.03, 0.97) * slack_x - scale * left),
        y=float(rng.uniform(0.1, 0.97) * slack_y - scale * top),
    )
    return [
        Piece(p.part, shape.placed(move), p.paint, p.shade)
        for p, shape in zip(pieces, turned, strict=True)
    ]


def _develop(rng: np.random.Generator, canvas: Canvas) -> NDArray[np.uint8]:
    """Uneven light, a colour cast, contrast and sensor noise; uint8 [h, w, 3]."""
    height, width = canvas.label.shape
    image = canvas.image
    image *= 0.88 + 0.24 * smooth_noise(rng, height, width, 2.5)[..., None]
    image *= rng.uniform(0.93, 1.07, 3).astype(np.float32)
    image = np.clip(image, 0, 1) ** np.float32(rng.uniform(0.82, 1.15))
    noise = rng.standard_normal((height, width, 3), dtype=np.float32)
    image += np.float32(rng.uniform(0.004, 0.022)) * noise
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def write_demo(root: Path, images_per_set: int, seed: int) -> None:
    """Write the demo's image sets as a plain annotated folder.

    Layout: ``images/<set>/<set>_000.png``, ``parts/<set>/<set>_000.png`` (palette images, 0 is
    background) and ``parts/<set>/parts.json`` (value to part name). There are no object masks:
    the object is the union of its parts.
    """
    for kind in DEMO_SETS:
        images, parts = root / "images" / kind, root / "parts" / kind
        images.mkdir(parents=True, exist_ok=True)
        parts.mkdir(parents=True, exist_ok=True)
        names = part_names(kind)
        legend = {str(i + 1): name for i, name in enumerate(names)}
        (parts / "parts.json").write_text(json.dumps(legend, indent=2) + "\n", encoding="utf-8")
        for i in range(images_per_set):
            height, width = SIZES[(i + seed) % len(SIZES)]
            scene = draw_scene(kind, seed * 100_003 + i, height, width)
            label = np.zeros((height, width), np.uint8)
            for value, name in enumerate(names, start=1):
                label[scene.parts[name]] = value
            Image.fromarray(scene.image).save(images / f"{kind}_{i:03d}.png")
            indexed = Image.fromarray(label)
            indexed.putpalette(PALETTE)
            indexed.save(parts / f"{kind}_{i:03d}.png")


PALETTE = [0, 0, 0, 230, 75, 60, 55, 125, 215, 250, 185, 40, 90, 180, 90, 160, 90, 190]
"""Red, green, blue of the label images' values 0 to 5."""
