"""`dff transform`: photographs that were not in the set, seen with its concepts."""

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from pipeline.params import read_params
from pipeline.registry import BY_NAME
from stages.concept_maps import ConceptMaps
from stages.image_index import ImageIndex
from stages.images import decode_rgb, resize_rgb, target_shape
from stages.index import INDEX, IndexParams
from stages.parallel import ordered_map
from stages.progress import track
from stages.report.colours import css
from stages.report.concepts import Concepts, open_concepts
from stages.report.opened import Opened
from stages.report.overlays import heat_picture
from stages.stage import Resources, StageError, execute, gather_inputs
from stages.transform import TransformParams, columns_of, transform_stage
from store import open_artifact, write_atomically

PICTURES = "pictures"
LONG_SIDE = 480  # pixels of the pictures
QUALITY = 88
EXTRACTED = ("backbone", "weights", "layers", "resize", "size")


def transform_folder(
    project: Path, folder: Path, set: str, k: int, layer: str, out: Path, resources: Resources
) -> Path:
    """Write heat maps and pictures of a folder's photographs; returns the page.

    Interrupted, it goes on where it stopped; photographs that were seen before are not decoded
    again.

    Raises
    ------
    StageError, StoreError, ParamsError, DatasetError
        Nothing that can be used in `folder`, no such set, k or layer, a project that has not been
        run or whose params.yaml has changed since.
    """
    report = BY_NAME["report"]
    inputs = gather_inputs(report, project)
    known = open_artifact(inputs["heatmaps"])
    layer = layer or known.layers[0]
    if layer not in known.layers:
        raise StageError(f"--layer {layer}: not extracted, there are {', '.join(known.layers)}")
    columns_of(ConceptMaps(known, layer), set, k)
    if not folder.is_dir():
        raise StageError(f"{folder}: no such folder of photographs")
    out.mkdir(parents=True, exist_ok=True)
    execute(INDEX, IndexParams(dataset="folder", root=str(folder.resolve())), out, resources)
    execute(BY_NAME["extract"], _extract_params(project, inputs["extract"], layer), out, resources)
    _same_weights(inputs["extract"], out / BY_NAME["extract"].writes)
    stage = transform_stage(inputs["factorize"], inputs["heatmaps"])
    maps = execute(stage, TransformParams(set, k, layer), out, resources)
    opened = Opened.open(inputs)
    rank = list(opened.factors.sets).index(set)
    concepts = open_concepts(opened, layer, rank, set)[k]
    return _write_page(out, ConceptMaps(open_artifact(maps), layer), concepts, set, resources)


def _extract_params(project: Path, activations: Path, layer: str) -> object:
    """The params that the project's activations were made with, for one layer."""
    params = read_params(project)["extract"]
    made = open_artifact(activations).attrs
    for name in EXTRACTED:
        if name == "layers":
            changed = layer not in params.layers
        else:
            changed = getattr(params, name) != made[name]
        if changed:
            raise StageError(
                f"params.yaml: extract.{name} has changed since the factors were made; "
                "`dff run` makes them anew"
            )
    weights = params.weights
    if (project / weights).is_file():
        weights = str((project / weights).resolve())
    return dataclasses.replace(params, layers=(layer,), weights=weights)


def _same_weights(before: Path, now: Path) -> None:
    digests = [open_artifact(path).attrs["weights_digest"] for path in (before, now)]
    if digests[0] != digests[1]:
        raise StageError(
            "the weights are not those that the factors were made with; `dff run` makes them anew"
        )


def _write_page(
    out: Path, maps: ConceptMaps, concepts: Concepts, set: str, resources: Resources
) -> Path:
    index = ImageIndex.open(out / INDEX.writes, out, maps.artifact.images)
    (out / PICTURES).mkdir(exist_ok=True)
    entries = range(len(maps.maps))
    shown = []
    with track("pictures", len(entries), "images") as advance:
        paint = partial(_paint, out, index, maps, concepts)
        for one in ordered_map(paint, entries, workers=resources.workers):
            shown.append(one)
            advance(1)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = out / "index.html"
    html = environment.get_template("transform.html.j2").render(
        set=set,
        images=sorted(shown, key=lambda one: one["name"]),
        colours=[css(colour) for colour in concepts.colours],
        failures=index.failures.to_dict("records"),
    )
    write_atomically(page, html.encode())
    return page


def _paint(
    out: Path, index: ImageIndex, maps: ConceptMaps, concepts: Concepts, entry: int
) -> dict[str, object]:
    """One photograph and its concepts, side by side in two files with numbers for names."""
    image_id = int(maps.maps.image_ids[entry])
    height, width = target_shape(*index.size(image_id), "long_side", LONG_SIDE)
    photo = resize_rgb(decode_rgb(index.read(image_id)), (height, width))
    strength = concepts.strength(maps.shares(entry, (height, width)))
    files = [f"{PICTURES}/{image_id:06d}-{kind}.jpg" for kind in ("photo", "heat")]
    Image.fromarray(photo).save(out / files[0], quality=QUALITY)
    heat_picture(photo, strength, concepts.colours).save(out / files[1], quality=QUALITY)
    means = np.asarray(maps.shares(entry).mean(axis=(1, 2)), dtype=np.float64)
    return {
        "name": index.names[image_id],
        "photo": files[0],
        "heat": files[1],
        "width": width,
        "height": height,
        "means": [100 * float(mean) for mean in means],
    }
