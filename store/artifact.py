"""Array artifacts: one Zarr v3 group each, with who made it and for which images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from store.errors import ArtifactDamaged, ArtifactMissing, SchemaMismatch, StoreError
from store.ragged import Array, Ragged
from store.reading import MEND, read_whole
from store.staging import write_atomically

SCHEMA = 1
RECORD = "artifact.json"


@dataclass(frozen=True)
class Artifact:
    """A published array artifact.

    Examples
    --------
    >>> from store import open_artifact
    >>> activations = open_artifact("artifacts/activations.zarr")   # doctest: +SKIP
    >>> activations.sets, activations.layers                         # doctest: +SKIP
    >>> activations.map("bird", "bird/bird_000.png").shape           # doctest: +SKIP
    """

    path: Path
    group: zarr.Group

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """Everything recorded when it was made; no clock, no host."""
        return dict(self.group.attrs)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the stage, its version, its params and its inputs."""
        return str(self.attrs["fingerprint"])

    @property
    def layers(self) -> list[str]:
        """Tapped layers, as the params name them."""
        return list(self.attrs["layers"])

    @property
    def images(self) -> list[str]:
        """Image names; an image id is a position in this list."""
        return list(self.attrs["images"])

    @cached_property
    def sets(self) -> dict[str, NDArray[np.int64]]:
        """Each image set's entries: positions in the ragged arrays of this artifact."""
        offsets = self.array("sets/offsets")
        entries = self.array("sets/entries")
        return {
            name: entries[offsets[i] : offsets[i + 1]] for i, name in enumerate(self.attrs["sets"])
        }

    def array(self, name: str) -> Array:
        """A small array of the artifact, whole."""
        return read_whole(self.group, name)

    def layer_array(self, layer: str, name: str) -> Array:
        """A small array of one layer, whole."""
        return self.array(f"{self._key(layer)}/{name}")

    def ragged(self, layer: str, name: str = "maps") -> Ragged:
        """The ragged array `name` of `layer`."""
        key = f"{self._key(layer)}/{name}"
        try:
            group = self.group[key]
        except (KeyError, ValueError) as error:
            raise ArtifactDamaged(f"{self.path}/{key}: gone or unreadable; {MEND}") from error
        return Ragged.open(cast(zarr.Group, group))

    def _key(self, layer: str) -> str:
        if layer not in self.layers:
            raise StoreError(f"{self.path}: no layer {layer!r}; there are {', '.join(self.layers)}")
        return layer_key(layer)

    def entry(self, image_set: str, image: str) -> int:
        """Position of an image of a set in the ragged arrays."""
        if image_set not in self.sets:
            raise StoreError(f"{self.path}: no image set {image_set!r}; see .sets")
        if image not in self.images:
            raise StoreError(f"{self.path}: no image {image!r}; see .images")
        wanted = self.images.index(image)
        ids = self.ragged(self.layers[0]).image_ids
        for entry in self.sets[image_set]:
            if ids[entry] == wanted:
                return int(entry)
        raise StoreError(f"{self.path}: image {image!r} is not in the set {image_set!r}")

    def map(self, image_set: str, image: str, layer: str | None = None) -> Array:
        """One image's map as ``[h, w, channels]``."""
        return self.ragged(layer or self.layers[0]).map(self.entry(image_set, image))


def write_record(path: Path, *, stage: str, fingerprint: str, **attrs: Any) -> None:
    """Put ``artifact.json`` into an artifact that is a folder of files; written last."""
    record = {"schema": SCHEMA, "stage": stage, "fingerprint": fingerprint, **attrs}
    write_atomically(path / RECORD, json.dumps(record, indent=1).encode())


def read_attrs(path: Path) -> dict[str, Any] | None:
    """The attributes of any artifact, array or folder; None when there is no artifact there.

    Raises
    ------
    SchemaMismatch
        When another version of the layout wrote it.
    """
    if (path / RECORD).exists():
        try:
            attrs = dict(json.loads((path / RECORD).read_bytes()))
        except (ValueError, TypeError) as error:
            raise ArtifactDamaged(f"{path / RECORD}: unreadable ({error}); {MEND}") from error
        _check_schema(path, attrs.get("schema"))
        return attrs
    if (path / "zarr.json").exists():
        return open_artifact(path).attrs
    return None


def layer_key(layer: str) -> str:
    """Group name of a layer: its name, quoted so that it is one plain folder, and no other's."""
    name = quote(layer, safe="", errors="surrogatepass")
    if not name.strip("."):  # "", "." and ".." mean folders of their own
        name = "%" + name.replace(".", "%2E")
    return f"layers/{name}"


def create_artifact(
    path: Path,
    *,
    stage: str,
    fingerprint: str,
    layers: Sequence[str],
    images: Sequence[str],
    sets: Mapping[str, Sequence[int] | Array],
    **attrs: Any,
) -> zarr.Group:
    """Start an artifact in a staging folder, or go on with the one a killed run left there.

    Parameters
    ----------
    path : Path
        The staging folder.
    stage, fingerprint : str
        Who makes it, and from what.
    layers, images : sequence of str
        Tapped layers; all image names by image id.
    sets : mapping of set name to entries
        Positions in this artifact's ragged arrays.
    **attrs
        Further facts (JSON) that later stages need.
    """
    for leftover in path.rglob("*.partial"):  # what Zarr was writing when it was killed
        leftover.unlink()
    if (path / "zarr.json").exists():
        group = zarr.open_group(path, mode="r+", zarr_format=3)
        if "schema" in group.attrs:
            return group
    group = zarr.open_group(path, mode="w", zarr_format=3)
    entries = [np.asarray(members, dtype=np.int64) for members in sets.values()]
    write_array(group, "sets/offsets", np.cumsum([0, *(len(members) for members in entries)]))
    write_array(group, "sets/entries", np.concatenate([np.empty(0, np.int64), *entries]))
    # The attributes come last: a group that has them was created whole.
    group.attrs.update(
        {
            "schema": SCHEMA,
            "stage": stage,
            "fingerprint": fingerprint,
            "layers": list(layers),
            "images": list(images),
            "sets": list(sets),
            **attrs,
        }
    )
    return group


def write_array(group: zarr.Group, name: str, values: Array) -> None:
    """Store a small array whole, with a checksum."""
    values = np.asarray(values)
    group.create_array(
        name,
        data=values,
        compressors=[ZstdCodec(level=3), Crc32cCodec()],
        overwrite=True,
        config={"write_empty_chunks": True},
    )


def open_artifact(path: str | Path) -> Artifact:
    """Open a published array artifact for reading.

    Raises
    ------
    ArtifactMissing
        When there is none: the message names the stage to run.
    SchemaMismatch
        When another version of the layout wrote it.
    """
    path = Path(path)
    if not (path / "zarr.json").exists():
        raise ArtifactMissing(f"{path}: not there yet; run `dff run` (or the stage that makes it)")
    try:
        group = zarr.open_group(path, mode="r", zarr_format=3)
    except ValueError as error:
        raise ArtifactDamaged(f"{path}: unreadable ({error}); {MEND}") from error
    _check_schema(path, group.attrs.get("schema"))
    return Artifact(path, group)


def _check_schema(path: Path, found: object) -> None:
    if found != SCHEMA:
        raise SchemaMismatch(
            f"{path}: written with store schema {found}, this version reads {SCHEMA}; "
            "delete it and run its stage again"
        )
