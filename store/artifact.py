"""Array artifacts: one Zarr v3 group each, with who made it and for which images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from store.errors import ArtifactDamaged, ArtifactMissing, SchemaMismatch, StoreError
from store.location import Location
from store.names import ENDS, TEXT, Names
from store.publication import write_atomically
from store.ragged import Array, Form, Ragged
from store.reading import MEND, read_blocks, read_whole
from store.set_rows import SetRows

if TYPE_CHECKING:
    import zarr

SCHEMA = 3  # of array artifacts
READABLE = (2, SCHEMA)  # 2 has the images' names among its attributes
RECORD_SCHEMA = 1  # of folders of files
RECORD = "artifact.json"
GROUP = "zarr.json"  # of an array artifact
# Attribute of an artifact in the making that is not renamed into place: with `--store`.
UNFINISHED = "unfinished"
OPENED = 16  # artifacts that a process which was sent them keeps open


@dataclass(frozen=True)
class Artifact:
    """A published array artifact; made by `open_artifact`.

    Examples
    --------
    >>> from store import open_artifact
    >>> activations = open_artifact("artifacts/activations.zarr")
    >>> list(activations.sets), activations.layers
    (['bird', 'car'], ['conv4_2'])
    >>> activations.map("bird", activations.images_of("bird")[0]).shape
    (28, 28, 128)
    """

    location: Location
    group: zarr.Group
    # opening an array takes forty times as long as reading a map
    _opened: dict[str, Ragged] = field(default_factory=dict, repr=False, compare=False)

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

    @cached_property
    def images(self) -> Sequence[str]:
        """Image names; an image id is a position among them. Each is decoded when asked for."""
        recorded = self.attrs["images"]
        if isinstance(recorded, list):  # an artifact of an earlier version
            return recorded
        return Names(self.array(TEXT), self.array(ENDS))

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

    def layer_blocks(self, layer: str, name: str) -> Iterator[Array]:
        """An array of one layer, some rows after the other."""
        return read_blocks(self.group, f"{self._key(layer)}/{name}")

    def ragged(self, layer: str, name: str = "maps") -> Ragged:
        """The ragged array `name` of `layer`."""
        key = f"{self._key(layer)}/{name}"
        if key not in self._opened:
            try:
                with self.location.answering():
                    group = self.group[key]
            except (KeyError, ValueError) as error:
                if why := self.attrs.get("not_stored"):
                    raise StoreError(f"{self.location}/{key}: is not on disk: {why}") from error
                raise ArtifactDamaged(
                    f"{self.location}/{key}: gone or unreadable; {MEND}"
                ) from error
            found = Ragged.open(cast("zarr.Group", group), self.images)
            self._opened[key] = replace(found, origin=(self, layer, name))
        return self._opened[key]

    def __reduce__(self) -> tuple[Any, ...]:
        # where it lies: another process opens it for itself
        place = self.location.absolute()
        return opened_again, (place.root, self.fingerprint, _stamp(place))

    def _key(self, layer: str) -> str:
        if layer not in self.layers:
            layers = ", ".join(self.layers)
            raise StoreError(f"{self.location}: no layer {layer!r}; there are {layers}")
        return layer_key(layer)

    # -- by name -----------------------------------------------------------------------------

    def images_of(self, image_set: str) -> list[str]:
        """Names of the images of a set, in the order of its rows."""
        ids = self.ragged(self.layers[0]).image_ids
        return [self.images[ids[entry]] for entry in self._entries(image_set)]

    def entry(self, image_set: str, image: str) -> int:
        """Position of an image of a set in the ragged arrays."""
        entries = self._entries(image_set)
        if image not in self._ids:
            raise StoreError(f"{self.location}: no image {image!r}; see .images")
        found = np.flatnonzero(self.ragged(self.layers[0]).image_ids[entries] == self._ids[image])
        if not len(found):
            raise StoreError(f"{self.location}: image {image!r} is not in the set {image_set!r}")
        return int(entries[found[0]])

    def map(self, image_set: str, image: str, layer: str | None = None) -> Array:
        """One image's map ``[h, w, channels]``; reads nothing of the images around it but what
        shares its chunk."""
        return self.ragged(layer or self.layers[0]).map(self.entry(image_set, image))

    def rows(
        self,
        image_set: str,
        layer: str | None = None,
        *,
        form: Form = "dense",
        block_rows: int | None = None,
    ) -> SetRows:
        """The matrix A of an image set ``[rows, channels]``, to be read block by block.

        Parameters
        ----------
        layer : str, optional
            By default the first.
        form : {"dense", "sparse"}
            What its blocks are: numpy arrays or scipy CSR arrays.
        block_rows : int, optional
            Rows per block; by default about 32 MiB of them.
        """
        ragged = self.ragged(layer or self.layers[0])
        return ragged.select(self._entries(image_set), block_rows, form)

    def _entries(self, image_set: str) -> NDArray[np.int64]:
        if image_set not in self.sets:
            raise StoreError(f"{self.location}: no image set {image_set!r}; see .sets")
        return self.sets[image_set]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.images)}


def write_record(path: Path, *, stage: str, fingerprint: str, **attrs: Any) -> None:
    """Put ``artifact.json`` into an artifact that is a folder of files; written last."""
    record = {"schema": RECORD_SCHEMA, "stage": stage, "fingerprint": fingerprint, **attrs}
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
        _check_schema(str(path), attrs.get("schema"), (RECORD_SCHEMA,))
        return attrs
    location = Location.of(path)
    if (path / GROUP).exists():
        try:
            # read as it is: that an artifact is fresh is known without Zarr
            attrs = dict(json.loads((path / GROUP).read_bytes())["attributes"])
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactDamaged(f"{location}: unreadable ({error}); {MEND}") from error
        except OSError as error:
            raise _unreadable(location, error) from error
        _check_attrs(location, attrs)
        return attrs
    return None


def layer_key(layer: str) -> str:
    """Group name of a layer: its name, quoted so that it is one plain folder, and no other's."""
    name = quote(layer, safe="", errors="surrogatepass")
    if not name.strip("."):  # "", "." and ".." mean folders of their own
        name = "%" + name.replace(".", "%2E")
    return f"layers/{name}"


def open_artifact(place: str | Path) -> Artifact:
    """Open a published array artifact for reading.

    Parameters
    ----------
    place : path or URL
        A folder whose arrays were put elsewhere (``--store``) leads there.

    Raises
    ------
    ArtifactMissing
        When there is none: the message names the stage to run.
    SchemaMismatch
        When another version of the layout wrote it.
    StoreError
        When the service at a URL does not answer.
    """
    location = elsewhere(place) or Location.of(place)
    if (location / GROUP).size() is None:
        raise ArtifactMissing(
            f"{location}: not there yet; run `dff run` (or the stage that makes it)"
        )
    try:
        with location.answering():
            group = location.zarr_group("r")
    except ValueError as error:
        raise ArtifactDamaged(f"{location}: unreadable ({error}); {MEND}") from error
    except OSError as error:
        raise _unreadable(location, error) from error
    _check_attrs(location, dict(group.attrs))
    return Artifact(location, group)


@lru_cache(maxsize=OPENED)
def opened_again(place: str, fingerprint: str, stamp: tuple[int, ...]) -> Artifact:
    """An artifact that another process has open; `stamp` tells it from one that lay there before.

    Raises
    ------
    StoreError
        When it is not there, or another.
    """
    artifact = open_artifact(place)
    if artifact.fingerprint != fingerprint:
        raise StoreError(f"{place}: was replaced while it was used; run it again")
    return artifact


def _stamp(location: Location) -> tuple[int, ...]:
    if location.path is None:
        return ()
    found = (location.path / GROUP).stat()
    return found.st_ino, found.st_mtime_ns


def elsewhere(place: str | Path) -> Location | None:
    """Where the arrays of the artifact at `place` were put, when that is not in its folder."""
    if Location.of(place).path is None or not (Path(place) / RECORD).exists():
        return None
    store = (read_attrs(Path(place)) or {}).get("store")
    return None if store is None else Location.of(str(store))


def _unreadable(location: Location, error: OSError) -> StoreError:
    reason = error.strerror or error
    return StoreError(f"{location}: cannot be read ({reason}); mend that and run it again")


def _check_attrs(location: Location, attrs: Mapping[str, Any]) -> None:
    """Refuse the attributes of an array artifact of another schema, or one that is not finished."""
    if attrs:
        _check_schema(str(location), attrs.get("schema"), READABLE)
    if not attrs or attrs.get(UNFINISHED):
        raise ArtifactMissing(f"{location}: unfinished; run the stage that makes it again")


def _check_schema(place: str, found: object, readable: Sequence[int]) -> None:
    if found not in readable:
        raise SchemaMismatch(
            f"{place}: written with store schema {found}, this version reads "
            f"{' and '.join(map(str, readable))}; "
            "delete it and run its stage again"
        )
