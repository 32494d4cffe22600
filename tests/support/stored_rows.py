"""Activations that are written row by row, and what is made of them."""

from pathlib import Path

import numpy as np

from store import RaggedWriter, create_artifact
from store.artifact import layer_key

CHANNELS = 40


def activations(
    project: Path, grids: list[tuple[int, int]], sets: dict[str, list[int]], density: float = 0.2
) -> np.ndarray:
    """An artifact of the extract stage; returns its rows."""
    rows = sum(h * w for h, w in grids)
    rng = np.random.default_rng(0)
    W = rng.gamma(0.5, 1.0, (3, CHANNELS))
    values = rng.gamma(0.5, 1.0, (rows, 3)) @ W
    values[values < np.quantile(values, 1 - density)] = 0
    write(project, grids, sets, values.astype(np.float32))
    return values.astype(np.float32)


def write(
    project: Path, grids: list[tuple[int, int]], sets: dict[str, list[int]], values: np.ndarray
) -> None:
    group = create_artifact(
        project / "artifacts/activations.zarr",
        stage="extract",
        fingerprint="0" * 64,
        layers=["layer"],
        images=[f"image {i}.jpg" for i in range(len(grids))],
        sets={name: np.array(entries) for name, entries in sets.items()},
    )
    maps = group.require_group(f"{layer_key('layer')}/maps")
    writer = RaggedWriter(
        maps, np.array(grids), np.arange(len(grids)), CHANNELS, np.float32, narrow=True
    )
    writer.append(0, values)
    writer.close()


def files(project: Path) -> dict[str, bytes]:
    folder = project / "artifacts/factors.zarr"
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
