"""Factors that later runs go on from, as `dff pin` keeps them.

A folder that never changes once it is there, named by its digest:

- ``factors.zarr``: the artifact of factorize, by hard links where the file system has them;
- ``pinned.npz``: ``hashes``, the SHA-256 of every image ``[images, 32]``, and per layer i
  ``scale i``, ``thresholds i`` and the other fields of `stages.artifacts.factors.Heat`, ``[sets,
  columns]``, of its heat maps;
- ``pinned.json``: `digest`, and by layer what had decided the activations.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.activations import Activations
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.factors import Factors, Heat
from store import ArtifactMissing, write_atomically
from store.publication import remove

FACTORS, ARRAYS, RECORD = "factors.zarr", "pinned.npz", "pinned.json"
NAMED = 8  # characters of the digest that name the folder


@dataclass(frozen=True)
class Pinned:
    """Pinned factors, open for reading.

    Attributes
    ----------
    folder : Path
    record : dict
        See the module's docstring.
    """

    folder: Path
    record: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Pinned":
        """Open what `dff pin` made.

        Raises
        ------
        ArtifactMissing
            When there is nothing of that kind.
        """
        try:
            record = json.loads((folder / RECORD).read_bytes())
        except (OSError, ValueError) as error:
            raise ArtifactMissing(
                f"params.yaml: factorize.start: {folder}: no pinned factors are there; `dff pin` "
                "makes some, and an empty start begins from nothing"
            ) from error
        return cls(folder, record)

    @property
    def digest(self) -> str:
        """SHA-256 over all that it holds."""
        return str(self.record["digest"])

    @property
    def recipes(self) -> Mapping[str, Mapping[str, Any]]:
        """By layer, all that decided the activations but the image files."""
        return dict(self.record["recipes"])

    @property
    def percentile(self) -> float:
        """Of the heat maps' thresholds."""
        return float(self.record["percentile"])

    @cached_property
    def factors(self) -> Factors:
        """W and the coefficients; errors as `store.open_artifact`."""
        return Factors.open(self.folder / FACTORS)

    @cached_property
    def hashes(self) -> NDArray[np.uint8]:
        """SHA-256 of every image file, by image id, ``[images, 32]``."""
        return self._arrays["hashes"]

    def heat(self, layer: str) -> Heat:
        """What the heat maps of a layer were measured by."""
        at = self.factors.layers.index(layer)
        unknown = np.full_like(self._arrays[f"scale {at}"], np.nan)  # to earlier versions
        return Heat(*(self._arrays.get(f"{name} {at}", unknown) for name in Heat._fields))

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        with np.load(self.folder / ARRAYS, allow_pickle=False) as found:
            return dict(found)


def pin_factors(extract: Path, factorize: Path, heatmaps: Path, into: Path) -> Path:
    """Keep published factors below the folder `into`; returns theirs, which may be there already.

    Parameters
    ----------
    extract, factorize, heatmaps : Path
        Artifacts that were made from each other.
    """
    activations, maps = Activations.open(extract), ConceptMaps.open(heatmaps)
    arrays: dict[str, NDArray[Any]] = {"hashes": activations.hashes}
    for at, layer in enumerate(Factors.open(factorize).layers):
        of = maps[layer]
        heat = Heat(*(getattr(of, name) for name in Heat._fields))
        arrays |= {f"{name} {at}": value for name, value in zip(Heat._fields, heat, strict=True)}
    into.mkdir(parents=True, exist_ok=True)
    making = into / ".making"
    remove(making)
    making.mkdir()
    shutil.copytree(factorize, making / FACTORS, copy_function=_link)
    np.savez(making / ARRAYS, **arrays)  # type: ignore[arg-type]
    percentile = next(iter(maps.values())).facts["percentile"]
    record = {"recipes": activations.recipes, "percentile": percentile}
    digest = _digest(making, record)
    write_atomically(making / RECORD, json.dumps({"digest": digest, **record}, indent=1).encode())
    folder = into / digest[:NAMED]
    if (folder / RECORD).exists():
        remove(making)
    else:
        making.rename(folder)
    return folder


def _link(source: str, target: str) -> None:
    """Published files are replaced, never written in place: a link keeps what they are now."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _digest(folder: Path, record: Mapping[str, Any]) -> str:
    found = sha256(json.dumps(record, sort_keys=True).encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != ARRAYS:  # a ZIP, which has the time in it
            found.update(path.relative_to(folder).as_posix().encode() + b"\0")
            with path.open("rb") as file:
                while block := file.read(2**20):
                    found.update(block)
    with np.load(folder / ARRAYS) as arrays:
        for name in sorted(arrays):
            found.update(name.encode() + b"\0" + arrays[name].tobytes())
    return found.hexdigest()
