"""A range of images as a worker of a cluster extracts it: pure, from what it is given."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.cores import cores
from stages.algorithms.shipped import module_file
from stages.artifacts.image_index import ImageIndex
from stages.extract.grids import entry_grids
from stages.extract.needs import in_large_batches
from stages.extract.plan import Job, Lanes, Order, Shape
from stages.extract.reuse import Earlier, EarlierDamaged, Known
from stages.extract.stream import Stream
from stages.frame.cluster import FORGETTING, own_address
from stages.frame.errors import StageError
from stages.frame.fingerprint import file_digest
from stages.frame.resources import Resources
from store import (
    ArrayPlan,
    Counted,
    EncodedRange,
    Location,
    Ragged,
    RangeWriter,
    StoreError,
    write_shard,
)

if TYPE_CHECKING:
    import pandas as pd

    from stages.algorithms.backbone import Backbone, Preprocessing


@dataclass(frozen=True)
class Network:
    """A network as every worker loads it, once.

    Attributes
    ----------
    backbone, weights : str
        Paths are whole.
    digest : str
        Of the client's weights; other ones are refused.
    code : str
        Of the file of a network of the user's own.
    """

    backbone: str
    layers: tuple[str, ...]
    weights: str
    precision: str
    preprocessing: Preprocessing | None
    device: str
    digest: str
    code: str

    @classmethod
    def code_of(cls, backbone: str) -> str:
        """Digest of the file of a network of the user's own, or nothing."""
        path = module_file(backbone)
        return file_digest(path) if path else ""

    def loaded(self) -> Backbone:
        """The network, kept by this process until it is asked for another.

        Raises
        ------
        StageError
            When it cannot be loaded, or is not the client's.
        """
        with _LOCK:
            if self not in _NETWORKS:
                _NETWORKS.clear()  # not two of them
                _NETWORKS[self] = self._load()
            return _NETWORKS[self]

    def _load(self) -> Backbone:
        from stages.algorithms.backbone import BackboneError, load_backbone

        worker = own_address()
        try:
            if self.code_of(self.backbone) != self.code:
                raise StageError(
                    f"worker {worker}: {self.backbone} is another file there: give every worker "
                    "the same one"
                )
            found = load_backbone(
                self.backbone,
                self.layers,
                self.weights,
                self.device,
                precision=self.precision,
                preprocessing=self.preprocessing,
            )
        except (BackboneError, OSError) as error:
            raise StageError(
                f"worker {worker}: {error} (the weights here have the digest {self.digest[:12]})"
            ) from error
        if found.weights_digest != self.digest:
            raise StageError(
                f"worker {worker}: weights {self.weights} have the digest "
                f"{found.weights_digest[:12]} there, {self.digest[:12]} here: give every worker "
                "the same file"
            )
        return found


_NETWORKS: dict[Network, Backbone] = {}
FORGETTING.append(_NETWORKS.clear)
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Spec:
    """What all ranges have in common; a worker's process keeps it as long as a run takes.

    Attributes
    ----------
    index : ImageIndex
        Without its images: those of a range come with it.
    plans : mapping of layer to ArrayPlan
    earlier : tuple of mappings of layer to place
        Where the rows are that are known already, as `Known.earlier`.
    lanes : Lanes
        Of one worker.
    recorded : frozenset of (height, width)
        See `stages.extract.stream.recorded_shapes`.
    half : bool
        Let a GPU give float16.
    run : str
        Another in each run: what lies at a place may have been replaced since.
    """

    network: Network
    index: ImageIndex
    plans: Mapping[str, ArrayPlan]
    earlier: tuple[Mapping[str, str], ...]
    lanes: Lanes
    recorded: frozenset[Shape]
    decode: str
    half: bool
    run: str
    _opened: list[Earlier] = field(default_factory=list, repr=False, compare=False)

    def known(self, source: NDArray[np.int64], entry: NDArray[np.int64]) -> Known:
        """Where a range's known rows are."""
        with _LOCK:
            if (source >= 0).any() and not self._opened:
                self._opened.extend(_opened(places) for places in self.earlier)
        return Known(self._opened, source, entry)


def _opened(places: Mapping[str, str]) -> Earlier:
    try:
        layers = {
            layer: Ragged.open(Location.of(place).zarr_group("r"))
            for layer, place in places.items()
        }
    except (StoreError, OSError, KeyError, ValueError) as error:
        raise EarlierDamaged(f"worker {own_address()}: {error}") from error
    return Earlier(layers, {}, {})


@dataclass(frozen=True)
class Range:
    """A stretch ``start:stop`` of the order on disk.

    Attributes
    ----------
    images : DataFrame
        Of the index, in its order.
    order : Order
    grids : mapping of layer to (h, w) of each image at each size ``[n, sizes, 2]``
    rows : mapping of layer to the row at which it begins
    source, entry : int64 arrays [n]
        As `Known` has them.
    jobs : tuple of Job
        By positions in the range.
    """

    start: int
    stop: int
    images: pd.DataFrame
    order: Order
    grids: Mapping[str, NDArray[np.int64]]
    rows: Mapping[str, int]
    source: NDArray[np.int64]
    entry: NDArray[np.int64]
    jobs: tuple[Job, ...]


def extract_range(spec: Spec, of: Range) -> dict[str, EncodedRange]:
    """The rows of a range, by layer.

    Raises
    ------
    BeyondFloat16, EarlierDamaged
        As `Stream.run`.
    StageError
        When the worker has another network, or a photograph is gone.
    """
    backbone = spec.network.loaded()
    writers = {
        layer: RangeWriter(spec.plans[layer], of.rows[layer], entry_grids(grids))
        for layer, grids in of.grids.items()
    }
    stream = Stream(
        replace(spec.index, images=of.images),
        backbone,
        of.order,
        of.grids,
        spec.known(of.source, of.entry),
        writers,
        spec.lanes,
        spec.decode,
        spec.recorded,
    )
    on_gpu = in_large_batches(spec.network.device)
    with ThreadPoolExecutor(_decoders()) if on_gpu else nullcontext() as threads:
        stream.write(of.jobs, of.jobs, lambda _: None, threads, spec.half)
    return {layer: writer.encoded for layer, writer in writers.items()}


def _decoders() -> int:
    """Threads that decode for a GPU: this machine's, shared with its other GPUs."""
    import torch

    return max(1, cores() // max(1, torch.cuda.device_count()))


def write_layer_shard(
    plan: ArrayPlan, layer: str, shard: int, *made: Mapping[str, EncodedRange]
) -> Counted:
    """Write one shard of a layer, from the ranges that have rows of it."""
    return write_shard(plan, shard, [one[layer] for one in made])


def has_gpu() -> bool:
    """Whether the process that is asked would use one."""
    return in_large_batches(Resources().torch_device())
