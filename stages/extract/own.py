"""Activations that somebody brought along: arrays on disk instead of a network.

``extract.backbone: own`` and ``extract.weights: own-DIGEST.json``, a file made by
`pipeline.bring.bring_activations`. It says where the array of each layer is and which image each
of its rows belongs to, and has a digest of each row; its name is a digest of all that, so that
other arrays are other params.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.activations import HASHES, OWN, create_activations
from stages.artifacts.image_index import ImageIndex
from stages.artifacts.outline import LayerOutline, Outline
from stages.extract.plan import disk_order
from stages.frame.errors import StageError
from stages.frame.memory import Needs, resident, resources_within
from stages.frame.params import user_path
from stages.frame.progress import track
from stages.frame.resources import Resources
from stages.frame.stage import Inputs
from store import Location, RaggedWriter, Staging, finish_artifact, plan_layout, write_array
from store.artifact import layer_key
from store.layout import CHUNK_BYTES, SHARD_BYTES

if TYPE_CHECKING:
    from stages.extract.params import ExtractParams

Channels = Literal["last", "first"]
BLOCK_BYTES = 32 * 2**20  # of one array, read at once


@dataclass(frozen=True)
class OwnArray:
    """One layer's activations, ``[n, h, w, channels]`` or ``[n, channels, h, w]``."""

    array: Any
    channels: Channels

    @classmethod
    def open(cls, path: str, channels: Channels) -> "OwnArray":
        """A Zarr array (a folder), or a file of `numpy.save`.

        Raises
        ------
        StageError
        """
        try:
            if path.endswith(".npy"):
                return cls(np.load(path, mmap_mode="r"), channels)
            import zarr  # here: most projects bring no activations

            return cls(zarr.open_array(path, mode="r"), channels)
        except (OSError, ValueError, KeyError) as error:
            raise StageError(f"{path}: is no Zarr array or .npy file ({error})") from error

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of every image."""
        shape = self.array.shape
        return (shape[1], shape[2]) if self.channels == "last" else (shape[2], shape[3])

    @property
    def width(self) -> int:
        """Number of channels."""
        return int(self.array.shape[3 if self.channels == "last" else 1])

    @cached_property
    def block(self) -> int:
        """Images that are read at once."""
        h, w = self.grid
        return max(1, BLOCK_BYTES // max(1, 4 * h * w * self.width))

    def rows(self, images: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """Float32 ``[h, w, channels]`` of some images after the other."""
        for start in range(0, len(images), self.block):
            some = np.array(images[start : start + self.block])
            ascending = np.sort(some)  # one read of each chunk of a Zarr array
            oindex = getattr(self.array, "oindex", self.array)
            values = np.asarray(oindex[ascending], dtype=np.float32)
            if self.channels == "first":
                values = np.moveaxis(values, 1, -1)
            for at in np.searchsorted(ascending, some):
                yield np.ascontiguousarray(values[at])


@dataclass(frozen=True)
class OwnActivations:
    """What the file says.

    Attributes
    ----------
    images : sequence of str
        Names as the index has them, in the order of the arrays.
    arrays : mapping of layer to (path, channels)
        Relative paths are relative to the file.
    digests : mapping of layer to digests by image
    """

    path: Path
    images: Sequence[str]
    arrays: Mapping[str, tuple[str, Channels]]
    digests: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, path: Path) -> "OwnActivations":
        """Read the file; errors are a StageError."""
        try:
            content = json.loads(path.read_bytes())
            arrays = {name: (one[0], one[1]) for name, one in content["arrays"].items()}
            return cls(path, content["images"], arrays, content["digests"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StageError(
                f"{path}: does not say where your own activations are ({error}); "
                "`bring_activations` of pipeline.results writes it (docs/python.md)"
            ) from error

    def content(self) -> bytes:
        """The file's bytes."""
        of = {"images": self.images, "arrays": self.arrays, "digests": self.digests}
        return json.dumps(of).encode()

    def open(self, layer: str) -> OwnArray:
        """One layer's array."""
        if layer not in self.arrays:
            raise StageError(
                f"extract.layers: {layer}: not among your own activations, which have "
                f"{', '.join(self.arrays)}"
            )
        path, channels = self.arrays[layer]
        array = OwnArray.open(str(self.path.parent / path), channels)
        if array.array.ndim != 4 or array.array.shape[0] != len(self.images):
            self._refuse_changed(path)
        return array

    def positions(self, names: Sequence[str]) -> list[int]:
        """Where images are in the arrays."""
        known = {name: i for i, name in enumerate(self.images)}
        missing = [name for name in names if name not in known]
        if missing:
            raise StageError(
                f"{self.path}: has no activations of {len(missing)} of the photographs, such as "
                f"{missing[0]}: there is no network, only what was brought; bring those of all "
                "that are in index.root"
            )
        return [known[name] for name in names]

    def check(self, layer: str, position: int, values: NDArray[np.float32]) -> None:
        """Refuse what is not what was brought."""
        if digest_of(values) != self.digests[layer][position]:
            self._refuse_changed(self.arrays[layer][0])

    def _refuse_changed(self, path: str) -> None:
        raise StageError(f"{path}: has changed since it was brought; `bring_activations` again")


def digest_of(values: NDArray[np.float32]) -> str:
    """Of one image's activations ``[h, w, channels]``."""
    return hashlib.sha256(values.data).hexdigest()[:32]


def extract_own(
    params: "ExtractParams", inputs: Inputs, work: Staging, resources: Resources, place: Location
) -> None:
    """Write the artifact of activations from arrays; see `stages.extract.stage.run`."""
    index = ImageIndex.open(inputs["index"], inputs.project)
    own = OwnActivations.read(user_path(params.weights, inputs.project))
    arrays = {layer: own.open(layer) for layer in params.layers}
    resources_within("extract", _needs(arrays.values()), resources)
    order = disk_order(index, params.resize, *params.sizes)
    positions = own.positions([index.names[i] for i in order.image_ids])
    group = create_activations(
        place,
        work,
        layers=params.layers,
        images=index.names,
        contents=index.contents,
        sets={name: order.positions(ids) for name, ids in index.sets.items()},
        backbone=OWN,
        nodes=list(params.layers),
        weights=params.weights,
        weights_digest=hashlib.sha256(own.content()).hexdigest(),
        resize=params.resize,
        size=params.recorded_size,
        recipes=[],
    )
    write_array(group, HASHES, index.hashes)
    with track("extract", len(positions) * len(arrays), "images") as advance:
        for layer, array in arrays.items():
            grids = np.tile(np.array(array.grid), (len(positions), 1))
            itemsize = np.dtype(params.dtype).itemsize
            writer = RaggedWriter(
                group.require_group(f"{layer_key(layer)}/maps"),
                grids,
                np.array(order.image_ids),
                array.width,
                np.float32,
                layout=plan_layout(int(grids.prod(axis=1).sum()), array.width * itemsize),
                narrow=params.dtype == "float16",
            )
            for at, values in enumerate(array.rows(positions)):
                own.check(layer, positions[at], values)
                rows = values.reshape(-1, array.width)
                writer.append(at * len(rows), rows)
                advance(1)
            writer.close()
    finish_artifact(group)


def foretell_own(
    params: "ExtractParams", outline: Outline, inputs: Inputs
) -> tuple[Outline, Needs]:
    """As `stages.extract.needs.foretell`."""
    own = OwnActivations.read(user_path(params.weights, inputs.project))
    arrays = {layer: own.open(layer) for layer in params.layers}
    layers = {
        layer: LayerOutline(np.tile(np.array(array.grid), (outline.images, 1)), array.width)
        for layer, array in arrays.items()
    }
    network = params.backbone, params.weights
    after = replace(outline, inputs=outline.sizes, layers=layers, network=network)
    values = sum(one.rows() * one.channels for one in layers.values())
    needs = _needs(arrays.values())
    writes = values * np.dtype(params.dtype).itemsize
    return after, replace(needs, images=outline.images, reads=4 * values, writes=writes)


def _needs(arrays: Any) -> Needs:
    blocks = max(4 * a.block * a.grid[0] * a.grid[1] * a.width for a in arrays)
    return Needs(
        fixed={
            "libraries": resident(),
            # as they are stored, as float32, turned
            "arrays": 3 * blocks,
            "shards": 2 * SHARD_BYTES + 4 * CHUNK_BYTES,
        },
    )
