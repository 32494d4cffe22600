"""extract: images -> activations of the tapped layers, one forward pass each.

Writes ``activations.zarr``: per layer a ragged array ``maps`` (rows = grid cells, columns =
channels), and ``image_sha256`` uint8 ``[images, 32]``, by which a later run finds rows again. Of
several sizes an entry has the rows of all, see `stages.artifacts.activations`.
``backbone: own`` takes arrays that somebody brought along instead of a network
(`stages.extract.own`). With ``--store`` the arrays go to another folder or URL, and the artifact
only says where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.shipped import MODULE, located, network_files
from stages.artifacts.activations import HASHES, OWN, LayerGrids, create_activations, weights_of
from stages.artifacts.image_index import ImageIndex
from stages.artifacts.outline import Outline
from stages.extract.appending import Appending
from stages.extract.grids import entry_grids, grids_of, note_single_cells
from stages.extract.needs import channels_of, footprint, foretell, in_large_batches, libraries_of
from stages.extract.outputs import BeyondFloat16
from stages.extract.own import extract_own, foretell_own
from stages.extract.params import ExtractParams, OwnPreprocessing
from stages.extract.plan import Order, disk_order, plan_jobs, shard_bytes
from stages.extract.ranges import Network
from stages.extract.reuse import Earlier, EarlierDamaged, Known, find_earlier, recipes_of
from stages.extract.spread import Spread, device_on
from stages.extract.stream import Stream
from stages.frame.errors import StageError
from stages.frame.fingerprint import digest, file_digest
from stages.frame.memory import Needs, resident
from stages.frame.progress import note
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from store import (
    ArtifactMissing,
    Layout,
    Location,
    RaggedWriter,
    Staging,
    finish_artifact,
    open_artifact,
    plan_layout,
    whole_entries,
    write_array,
)
from store.artifact import layer_key, write_record
from store.publication import disk_errors, only_one
from store.writer import Background

if TYPE_CHECKING:
    import zarr

    from stages.algorithms.backbone import Backbone, Preprocessing

Writers = Mapping[str, RaggedWriter]  # by layer
# Part of what decides about activations; the stage's version also says what else is recorded.
RECIPE = 3


def run(params: ExtractParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    from stages.algorithms.backbone import BackboneError

    try:
        _run(params, inputs, work, resources)
    except BackboneError as error:
        raise StageError(str(error)) from error


def _run(params: ExtractParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    place = _place(work, resources)
    in_place = place.path != work.path
    with _alone_at(place.path) if in_place and place.path else nullcontext():
        # asked under the lock: another project may just have finished it
        if not (in_place and resources.reuse and _is_complete(place, work.fingerprint)):
            _extract(params, inputs, work, resources, place)
    if in_place:
        _leave_pointer(work, place)


def _extract(
    params: ExtractParams, inputs: Inputs, work: Staging, resources: Resources, place: Location
) -> None:
    if params.backbone == OWN:
        if resources.spread:
            note("extract: activations of your own are copied by this machine alone")
        extract_own(params, inputs, work, resources, place)
        return
    named, params = params.backbone, _located(params, inputs.project)
    if named.startswith(MODULE):
        note(f"extract: {named}: running your own code")
    cluster, here = resources.spread, (inputs["index"], inputs.project)
    # workers run in other folders
    index = ImageIndex.open(*((path.absolute() for path in here) if cluster else here))
    order = disk_order(index, params.resize, *params.sizes)
    names = [index.names[i] for i in order.image_ids]
    # before weights are downloaded, and before anything assumes that the network takes them
    grids = grids_of(params, [index.size(i) for i in order.image_ids], names)
    note_single_cells(grids, names)
    device = device_on(cluster, resources) if cluster else resources.torch_device()
    # on a cluster it is here for its facts alone
    backbone = _loaded(params, inputs.project, "cpu" if cluster else device)
    on_gpu = in_large_batches(device)
    each = resources.of_task if cluster else resources
    lanes = footprint(params, index.sizes, order.shapes, each, device).lanes_within(each)
    recipes = recipes_of(params, RECIPE, backbone)
    earlier = find_earlier(work, recipes) if resources.reuse else []
    hashes = [index.hashes[i].tobytes() for i in order.image_ids]
    part = Appending.plan(order, hashes, grids, layouts_of(params, grids), earlier, work)
    group = create_activations(
        place,
        work,
        layers=params.layers,
        images=index.names,
        contents=index.contents,
        sets={name: order.positions(ids) for name, ids in index.sets.items()},
        backbone=named,
        nodes=[recipe["node"] for recipe in recipes.values()],
        weights=params.weights,
        weights_digest=backbone.weights_digest,
        weights_source=dict(backbone.source),
        resize=params.resize,
        size=params.recorded_size,
        lacks=list(backbone.lacks) if not named.startswith(MODULE) else [],
        recipes=list(recipes.values()),
    )
    _place(work, resources)  # on record again, where the progress had to be forgotten
    write_array(group, HASHES, index.hashes)
    if len(params.sizes) > 1:
        for layer, of_layer in grids.items():
            LayerGrids.grids.write(group.require_group(layer_key(layer)), of_layer)
    if not part.linked(group, work):
        _extract(params, inputs, work, replace(resources, reuse=False), place)
        return
    begin: Callable[..., Spread | Stream]
    if cluster:
        network = _network(params, inputs.project, device, backbone)
        begin = partial(Spread, cluster, network, index, part.order, part.grids)
    else:
        begin = partial(Stream, index, backbone, part.order, part.grids)

    def compute(known: Known, background: Background | None, half: bool) -> Writers:
        batch = lanes.slice if on_gpu else params.batch
        jobs = plan_jobs(part.order.shapes, known.source >= 0, batch)
        writers = _writers(params, order, grids, part, group, work, background)
        stream = begin(known, writers, lanes, params.decode)
        stream.run(jobs, background.encoders if background else None, half)
        return writers

    writers = _compute_all(
        compute,
        earlier,
        lambda found: Known.of(found, [hashes[i] for i in part.places], part.grids),
        lanes.count if on_gpu and not cluster else 0,
        half=params.dtype == "float16",
    )
    finish_artifact(group)
    _note_signed(params.backbone, named, writers)


def _compute_all(
    compute: Callable[[Known, Background | None, bool], Writers],
    earlier: Sequence[Earlier],
    known_of: Callable[[Sequence[Earlier]], Known],
    threads: int,
    half: bool,
) -> Writers:
    """Compute until it is done, with less to rely on where that turned out to be wrong."""
    while True:
        known = known_of(earlier)
        try:
            with _threads(threads) as background:
                return compute(known, background, half)
        except EarlierDamaged as error:
            note(f"extract: not reusing earlier rows: {error}")
            earlier = []
        except BeyondFloat16:
            # From the last whole shard on, since a chunk is float16 or float32 as a whole: one
            # that was begun as float16 may get the large value, and its rows are rounded already.
            half = False


def _note_signed(backbone: str, named: str, writers: Writers) -> None:
    """Say which layers have values below zero, and what there is without."""
    from stages.algorithms.backbone import relus_near

    for layer, writer in writers.items():
        if writer.signed:
            note(
                f"extract: {layer} of {named} has values below zero, which are kept as they "
                f"are; a non-negative factorization needs others ({relus_near(backbone, layer)})"
            )


@contextmanager
def _threads(count: int) -> Iterator[Background | None]:
    """Threads that decode and encode, and one that stores; none for a count of 0."""
    if not count:
        yield None
        return
    encoders, storing = ThreadPoolExecutor(count), ThreadPoolExecutor(1)
    try:
        yield Background(encoders, storing)
    finally:
        encoders.shutdown(cancel_futures=True)  # what is left, after an error, nobody waits for
        storing.shutdown()


def _writers(
    params: ExtractParams,
    order: Order,
    grids: Mapping[str, NDArray[np.int64]],
    part: Appending,
    group: zarr.Group,
    work: Staging,
    background: Background | None,
) -> Writers:
    """A writer per layer that goes on where the progress record says."""
    stored: dict[str, Any] = dict(work.progress.get("stored", {}))
    writers: dict[str, RaggedWriter] = {}
    widths, layouts = dict(channels_of(params)), layouts_of(params, grids)
    linked = len(order.image_ids) - len(part.places)

    def record(layer: str, state: Mapping[str, Any]) -> None:
        stored[layer] = state
        done = min(whole_entries(w.offsets, w.flushed) for w in writers.values())
        work.checkpoint(
            stored=stored, done=linked + done, total=len(order.image_ids), unit="images"
        )

    for layer, of_layer in grids.items():
        width, grid_hw = widths[layer], entry_grids(of_layer)
        writers[layer] = RaggedWriter(
            group.require_group(f"{layer_key(layer)}/maps"),
            grid_hw,
            np.array(order.image_ids),
            width,
            np.float32,
            layout=layouts[layer],
            behind=part.behind.get(layer),
            narrow=params.dtype == "float16",
            resume=stored.get(layer),
            on_flush=partial(record, layer),
            background=background,
        )
    return writers


def layouts_of(params: ExtractParams, grids: Mapping[str, NDArray[np.int64]]) -> dict[str, Layout]:
    """Chunks and shards of each layer's rows."""
    widths, itemsize = dict(channels_of(params)), np.dtype(params.dtype).itemsize
    return {
        layer: plan_layout(
            int(of_layer.prod(axis=2).sum()),
            widths[layer] * itemsize,
            shard_bytes=shard_bytes(len(params.layers)),
        )
        for layer, of_layer in grids.items()
    }


@contextmanager
def _alone_at(path: Path) -> Iterator[None]:
    """Work at a place that another project may name, too; on a disk that may fill up."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock")
        with only_one(lock, path):
            yield
            lock.unlink()  # whoever has it open still will find the work done


# -- where the arrays go ---------------------------------------------------------------------


def _place(work: Staging, resources: Resources) -> Location:
    """Where this run's arrays go; work begun at another place is forgotten."""
    place = Location.of(work.path)
    if resources.store:
        place = Location.of(resources.store) / f"activations-{work.fingerprint[:16]}.zarr"
    begun = str(place.absolute()) if resources.store else ""
    if work.progress.get("place", "") != begun:
        work.restart()
    if begun:
        work.checkpoint(place=begun)
    return place


def _is_complete(place: Location, fingerprint: str) -> bool:
    try:
        return open_artifact(str(place)).fingerprint == fingerprint
    except ArtifactMissing:
        return False


def _leave_pointer(work: Staging, place: Location) -> None:
    write_record(
        work.path, stage="extract", fingerprint=work.fingerprint, store=str(place.absolute())
    )


# -- weights ---------------------------------------------------------------------------------


def sources(params: ExtractParams, project: Path) -> str:
    """Digest of the weights file, where the weights are one: another file is another network."""
    backbone, weights = located(params.backbone, project), weights_of(params.weights, project)
    digests = [file_digest(path) for path in network_files(backbone, weights)]
    return digests[0] if len(digests) == 1 else "".join(digests) and digest(*digests)


def _preprocessing(params: ExtractParams) -> Preprocessing | None:
    """What params say of images; None for what the weights' own description says."""
    from stages.algorithms.backbone import Preprocessing

    if params.preprocessing != "own":
        return None
    of: OwnPreprocessing = params.options
    mean, std = (tuple(one / of.white for one in values) for values in (of.mean, of.std))
    bgr = of.channels == "bgr"
    return Preprocessing(mean, std, bgr, of.interpolation)  # type: ignore[arg-type]


def _loaded(params: ExtractParams, project: Path, device: str) -> Backbone:
    from stages.algorithms.backbone import load_backbone

    backbone = load_backbone(
        params.backbone,
        params.layers,
        weights_of(params.weights, project),
        device,
        precision=params.precision,
        preprocessing=_preprocessing(params),
    )
    if backbone.told:
        note(f"extract: weights {params.weights}: {backbone.told}")
    return backbone


def _network(params: ExtractParams, project: Path, device: str, backbone: Backbone) -> Network:
    """What workers load, wherever they run."""
    located_there = located(params.backbone, project.absolute())
    return Network(
        located_there,
        params.layers,
        weights_of(params.weights, project.absolute()),
        params.precision,
        _preprocessing(params),
        device,
        backbone.weights_digest,
        Network.code_of(located_there),
    )


def _located(params: ExtractParams, project: Path) -> ExtractParams:
    """Params with the whole path of a network that is a folder or a file."""
    return replace(params, backbone=located(params.backbone, project))


def _foretell(
    params: ExtractParams, outline: Outline, inputs: Inputs, resources: Resources
) -> tuple[Outline, Needs]:
    if params.backbone == OWN:
        return foretell_own(params, outline, inputs)
    params = _located(params, inputs.project)
    resident(*libraries_of(params.backbone))  # before anything else loads them
    from stages.algorithms.backbone import BackboneError

    try:
        return foretell(params, outline, inputs, resources)
    except BackboneError as error:
        raise StageError(str(error)) from error


EXTRACT: Stage[ExtractParams] = Stage(
    name="extract",
    version=3,
    params=ExtractParams,
    reads={"index": Path("artifacts/index")},
    writes=Path("artifacts/activations.zarr"),
    run=run,
    sources=sources,
    foretell=_foretell,
)
