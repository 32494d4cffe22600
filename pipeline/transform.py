"""`dff transform`: photographs that were not in the set, seen with its concepts."""

import dataclasses
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.params import read_params
from pipeline.registry import BY_NAME
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.image_index import ImageIndex
from stages.drawing.colours import css
from stages.drawing.overlays import heat_picture
from stages.drawing.templates import page_templates
from stages.frame.errors import StageError
from stages.frame.execute import execute, gather_inputs
from stages.frame.fingerprint import fingerprint
from stages.frame.parallel import ordered_map
from stages.frame.params import user_path
from stages.frame.progress import track
from stages.frame.resources import Resources
from stages.images.decode import decode_rgb
from stages.images.resize import resize_rgb, target_shape
from stages.index.params import IndexParams
from stages.index.stage import INDEX
from stages.report.concepts import Concepts, open_concepts
from stages.report.opened import Opened
from stages.transform.params import TransformParams
from stages.transform.stage import columns_of, transform_stage
from store import open_artifact, write_atomically
from store.artifact import read_attrs
from store.publication import disk_errors

TEMPLATES = Path(__file__).parent / "templates"
PICTURES = "pictures"
LONG_SIDE = 480  # pixels of the pictures
QUALITY = 88


def transform_folder(
    project: Path, folder: Path, set: str, k: int, layer: str, out: Path, resources: Resources
) -> Path:
    """Write heat maps and pictures of a folder's photographs; returns the page.

    Interrupted, it goes on where it stopped; photographs that were seen before do not go through
    the network again.

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
    params = read_params(project)
    _check_chain(project, params)
    if out.exists() and not out.is_dir():
        raise StageError(f"--out {out}: is a file; name a folder")
    if out.resolve().is_relative_to(folder.resolve()):
        raise StageError(
            f"--out {out}: lies in the folder of photographs, and its pictures would become some; "
            "name another one"
        )
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    # damaged files are listed on the page; only when all are is there nothing to do
    index = IndexParams(dataset="folder", root=str(folder.resolve()), max_failed=1.0)
    execute(INDEX, index, out, resources)
    extract = BY_NAME["extract"]
    execute(extract, _extract_params(project, params["extract"], layer), out, resources)
    _check_recipe(inputs["extract"], out / extract.writes, layer)
    stage = transform_stage(inputs["factorize"], inputs["heatmaps"])
    maps = execute(stage, TransformParams(set, k, layer), out, resources)
    opened = Opened.open(inputs)
    rank = list(opened.factors.sets).index(set)
    concepts = open_concepts(opened, layer, rank, set)[k]
    return _write_page(out, ConceptMaps(open_artifact(maps), layer), concepts, set, resources)


def _check_chain(project: Path, params: Mapping[str, Any]) -> None:
    """Refuse factors and maps that were not made from each other, or from other params."""
    for name in ("extract", "factorize", "heatmaps"):
        stage = BY_NAME[name]
        inputs = gather_inputs(stage, project).fingerprints
        sources = stage.sources(params[name], project) if stage.sources else ""
        made = (read_attrs(project / stage.writes) or {}).get("fingerprint")
        if made != fingerprint(stage, params[name], inputs, sources):
            raise StageError(
                f"{stage.writes}: was made from other params or inputs than there are now; "
                "`dff run` makes it anew"
            )


def _extract_params(project: Path, params: Any, layer: str) -> Any:
    """The project's, for one layer."""
    weights = params.weights
    if (path := user_path(weights, project)).is_file():
        weights = str(path.resolve())
    return dataclasses.replace(params, layers=(layer,), weights=weights)


def _check_recipe(before: Path, now: Path, layer: str) -> None:
    """Refuse activations that another network or other pixels would give."""
    made, seen = (open_artifact(path) for path in (before, now))
    recipes = dict(zip(made.layers, made.attrs["recipes"], strict=True))
    if recipes[layer] != seen.attrs["recipes"][0]:
        raise StageError(
            f"{layer}: the weights, or something else that decides about activations, are not what "
            "the factors were made with; `dff run` makes them anew"
        )


def _write_page(
    out: Path, maps: ConceptMaps, concepts: Concepts, set: str, resources: Resources
) -> Path:
    index = ImageIndex.open(out / INDEX.writes, out, maps.artifact)
    shutil.rmtree(out / PICTURES, ignore_errors=True)  # of photographs that are no longer there
    (out / PICTURES).mkdir()
    entries = range(len(maps.maps))
    shown = []
    with track("pictures", len(entries), "images") as advance:
        paint = partial(_paint, out, index, maps, concepts)
        for one in ordered_map(paint, entries, workers=resources.workers):
            shown.append(one)
            advance(1)
    page = out / "index.html"
    template = page_templates(TEMPLATES).get_template("transform.html.j2")
    html = template.render(
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
