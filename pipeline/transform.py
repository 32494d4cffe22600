"""`dff transform`: which stages see photographs that were not in the set, one after the other."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.find import only_set
from pipeline.params import PARAMS, read_params
from pipeline.registry import BY_NAME
from stages.algorithms.shipped import located
from stages.artifacts.activations import Activations
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.evaluation import RAW, REFINED, Evaluation
from stages.artifacts.factors import Factors
from stages.artifacts.image_index import ImageIndex
from stages.evaluate.boxes import write_boxes
from stages.evaluate.concepts import write_concepts
from stages.export.masks import Masks
from stages.export.names import file_name
from stages.export.selection import Selection, factor_names
from stages.export.write import export
from stages.frame.errors import StageError
from stages.frame.execute import execute, gather_inputs
from stages.frame.fingerprint import fingerprint
from stages.frame.params import user_path
from stages.frame.progress import note
from stages.frame.resources import Resources
from stages.frame.spread import spread_over
from stages.index.params import IndexParams
from stages.naming.names import FactorNames, read_names
from stages.transform import stage as transforming
from stages.transform.page import PAGE, write_page
from stages.transform.params import TransformParams
from stages.transform.stage import TRANSFORM, check_columns, check_recipe, with_factors_of
from store import write_atomically
from store.artifact import read_attrs
from store.publication import disk_errors

RECORD = "transform.json"  # in every result: what it is of, and that it may be replaced
ARTIFACTS = "artifacts"
ALONE = "photograph"  # folder among them, of the one file that was named
MASKS = "masks"


def transform_photographs(
    project: Path,
    photographs: Path,
    set: str,
    k: int,
    layer: str,
    out: Path | None,
    resources: Resources,
    *,
    force: bool = False,
) -> Path:
    """Write maps, masks, tables and pictures of a photograph or a folder of them; returns the page.

    Interrupted, it goes on where it stopped; photographs that were seen before do not go through
    the network again.

    Parameters
    ----------
    set : str
        Empty: the only one.
    out : Path, optional
        By default ``transformed/SET-kK`` in the project.
    force : bool
        Replace a result of other photographs, another set or k in `out`.

    Raises
    ------
    StageError, StoreError, ParamsError, DatasetError
        Nothing that can be used in `photographs`, no such set, k or layer, a project that has not
        been run or whose params.yaml has changed since, an `out` with something else in it.
    """
    known = gather_inputs(TRANSFORM, project)
    maps = ConceptMaps.open(known["heatmaps"])
    layer = layer or next(iter(maps))
    if layer not in maps:
        raise StageError(f"--layer {layer}: not extracted, there are {', '.join(maps)}")
    set = set or only_set(Factors.open(known["factorize"]).own_sets)
    check_columns(maps[layer], set, k)
    out = out or usual_folder(project, set, k)
    if not photographs.exists():
        raise StageError(f"{photographs}: no such folder of photographs, nor such a photograph")
    params = read_params(project)
    _check_chain(project, params)
    asked = {
        "project": str(project.resolve()),
        "photographs": str(photographs.resolve()),
        **{"set": set, "k": k, "layer": layer},
    }
    _check_target(out, photographs, asked, force=force)
    path = user_path(params["evaluate"].labels, project)
    names = read_names(path, Factors.open(known["factorize"]))
    for line in names.notes:
        note(f"{path.name}: {line}")
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        root = photographs.resolve() if photographs.is_dir() else _folder_of_one(photographs, out)
    # damaged files are listed on the page; only when all are is there nothing to do
    index = IndexParams(dataset="folder", root=str(root), max_failed=1.0)
    with spread_over(resources) as within:
        execute(BY_NAME["index"], index, out, within)
        with disk_errors(out):
            (out / PAGE).unlink(missing_ok=True)  # it comes last: where it is, all is there
            write_atomically(out / RECORD, json.dumps(asked, indent=1).encode())
        extract = _extract_params(project, params["extract"], layer)
        seen = execute(BY_NAME["extract"], extract, out, within)
        check_recipe(Activations.open(known["extract"]), Activations.open(seen), layer)
        chosen = TransformParams(set, k, layer)
        execute(with_factors_of(known), chosen, out, within)
        if params["refine"].binarise == "percentile":
            note("refine.binarise: percentile: refined masks begin at that of these photographs")
        execute(_refine_here(), params["refine"], out, within)
        _write_tables(chosen, params["evaluate"].least_area, names, out, within)
        return write_page(chosen, known, names, out, within)


def usual_folder(project: Path, set: str, k: int) -> Path:
    """Where a result of a set and k is put unless another folder is named."""
    return project / "transformed" / f"{file_name(set)}-k{k}"


def _check_target(out: Path, photographs: Path, asked: Mapping[str, Any], *, force: bool) -> None:
    """Refuse a folder with something else in it; an earlier result of the same is brought up to
    date."""
    if out.exists() and not out.is_dir():
        raise StageError(f"--out {out}: is a file; name a folder")
    if photographs.is_dir() and out.resolve().is_relative_to(photographs.resolve()):
        raise StageError(
            f"--out {out}: lies in the folder of photographs, and its pictures would become some; "
            "name another one"
        )
    # all that is there before there is a record
    if not out.exists() or not {one.name for one in out.iterdir()} - {ARTIFACTS}:
        return
    earlier = _earlier(out)
    if earlier is None:
        raise StageError(
            f"--out {out}: has other things in it, no result of `dff transform`; name another one"
        )
    if earlier != asked and not force:
        what = f", of {earlier['photographs']}" if "photographs" in earlier else ""
        raise StageError(
            f"--out {out}: has an earlier result{what}; name another one, or --force replaces it"
        )


def _earlier(out: Path) -> dict[str, Any] | None:
    """What the result in a folder is of, ``{}`` where it does not say; None where there is none."""
    try:
        return dict(json.loads((out / RECORD).read_bytes()))
    except (OSError, ValueError):
        # of an earlier version; a project's own folder has artifacts, too
        ours = (out / TRANSFORM.writes).exists() and not (out / PARAMS).exists()
        return {} if ours else None


def _folder_of_one(photograph: Path, out: Path) -> Path:
    """A folder that has this photograph alone, as a link where there can be one."""
    folder = out / ARTIFACTS / ALONE
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    place = folder / photograph.name
    try:
        place.symlink_to(photograph.resolve())
    except OSError:
        shutil.copyfile(photograph, place)
    return folder.resolve()


def _refine_here() -> Any:
    """The refine stage in the folder of a result."""
    refine = BY_NAME["refine"]
    # these heat maps are on disk: no factors are needed to draw them
    reads = {"index": refine.reads["index"], "heatmaps": TRANSFORM.writes}
    return dataclasses.replace(refine, reads=reads, writes=transforming.REFINED)


def _write_tables(
    params: TransformParams, least_area: float, names: FactorNames, out: Path, resources: Resources
) -> None:
    """The tables that evaluate writes of the project's own photographs, and masks as PNG files."""
    layer, name, k = params.layer, params.set, params.k
    raw = ConceptMaps.open(out / TRANSFORM.writes)[layer]
    refined = ConceptMaps.open(out / transforming.REFINED)[layer]
    index = ImageIndex.open(out / BY_NAME["index"].writes, out, raw.artifact)
    opened = {(layer, RAW): raw, (layer, REFINED): refined}
    with disk_errors(out), TemporaryDirectory(dir=out, prefix=".") as made:
        write_concepts(Path(made), opened, index, names, only=k)
        # nothing is taken for the object here
        nothing = Evaluation.foreground.frame([])
        write_boxes(Path(made), opened, index, least_area, nothing, only=k)
        for table in (Evaluation.concepts, Evaluation.boxes):
            (Path(made) / table.file).replace(out / table.file)
    seed = raw.factorizations.shown_seed
    called = {name: factor_names(name, k, names.of(layer, name, k, seed))}
    selection = Selection(refined, index, k, seed, called, least_area)
    record = {"format": "masks", "maps": REFINED, "made_from": refined.artifact.fingerprint}
    export(selection, Masks(), out / MASKS, record, resources, force=True)


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
    backbone = located(params.backbone, project.resolve())
    return dataclasses.replace(params, layers=(layer,), weights=weights, backbone=backbone)
