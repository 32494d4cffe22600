"""`dff transform`: which stages see photographs that were not in the set, one after the other."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.params import read_params
from pipeline.registry import BY_NAME
from stages.artifacts.activations import Activations
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.factors import Factors
from stages.frame.errors import StageError
from stages.frame.execute import execute, gather_inputs
from stages.frame.fingerprint import fingerprint
from stages.frame.params import user_path
from stages.frame.progress import note
from stages.frame.resources import Resources
from stages.index.params import IndexParams
from stages.naming.names import read_names
from stages.transform.page import write_page
from stages.transform.params import TransformParams
from stages.transform.stage import TRANSFORM, check_columns, check_recipe, with_factors_of
from store.artifact import read_attrs
from store.publication import disk_errors


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
    known = gather_inputs(TRANSFORM, project)
    maps = ConceptMaps.open(known["heatmaps"])
    layer = layer or next(iter(maps))
    if layer not in maps:
        raise StageError(f"--layer {layer}: not extracted, there are {', '.join(maps)}")
    check_columns(maps[layer], set, k)
    if not folder.is_dir():
        raise StageError(f"{folder}: no such folder of photographs")
    params = read_params(project)
    _check_chain(project, params)
    path = user_path(params["evaluate"].labels, project)
    names = read_names(path, Factors.open(known["factorize"]))
    for line in names.notes:
        note(f"{path.name}: {line}")
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
    photographs = IndexParams(dataset="folder", root=str(folder.resolve()), max_failed=1.0)
    execute(BY_NAME["index"], photographs, out, resources)
    seen = execute(
        BY_NAME["extract"], _extract_params(project, params["extract"], layer), out, resources
    )
    check_recipe(Activations.open(known["extract"]), Activations.open(seen), layer)
    chosen = TransformParams(set, k, layer)
    execute(with_factors_of(known), chosen, out, resources)
    return write_page(chosen, known, names, out, resources)


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
