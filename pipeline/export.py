"""`dff export`: concepts as data sets that other programs read."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from pipeline.params import ParamsError, read_params
from pipeline.registry import BY_NAME
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.factors import Factors
from stages.artifacts.image_index import ImageIndex
from stages.export.exporter import Exporter
from stages.export.formats import EXPORTERS
from stages.export.selection import (
    Selection,
    choose_factors,
    choose_layer,
    choose_sets,
    factor_names,
)
from stages.export.write import export
from stages.frame.execute import gather_inputs
from stages.frame.params import suggestion, user_path
from stages.frame.progress import note
from stages.frame.resources import Resources
from stages.frame.spread import spread_over
from stages.index.notes import plural
from stages.naming.names import read_names
from store import open_artifact

FORMATS = "; ".join(f"{name}: {one.summary}" for name, one in EXPORTERS.items()) + "."
KINDS = {"raw": "heatmaps", "refined": "refine"}  # of maps, and the stage that makes them


def export_project(
    project: Path,
    format: str,
    options: Mapping[str, Any],
    *,
    maps: str,
    k: int,
    sets: Sequence[str],
    layer: str,
    least_area: float,
    out: Path,
    resources: Resources,
    force: bool,
) -> Path:
    """Export the concepts of one layer and k of a project; returns `out`.

    Parameters
    ----------
    options : mapping
        Of the format; those that are None were not asked for.
    k : int
        0 for the largest that has names, or else the largest. Of several seeds the first counts.
    sets, layer
        Empty: all sets, the first layer.
    least_area : float
        Share of the image.

    Raises
    ------
    ParamsError, StageError, StoreError
        No such format, option, k, set or layer; a project that has not been run; `out` is there.
    """
    exporter = make_exporter(format, options)
    _refuse_unknown("--maps", maps, list(KINDS))
    if not 0 <= least_area < 1:
        raise ParamsError(f"--least-area {least_area}: is not a share from 0 to below 1")
    inputs = gather_inputs(BY_NAME["evaluate"], project)
    artifact = open_artifact(inputs[KINDS[maps]])
    layer = choose_layer(artifact, layer)
    opened = ConceptMaps(artifact, layer)
    factors = Factors.open(inputs["factorize"])
    # of all that there is, what lies within a factor would say the same places twice
    chosen = choose_sets(artifact, sets or factors.own_sets)
    path = user_path(read_params(project)["evaluate"].labels, project)
    labels = read_names(path, factors)
    for line in labels.notes:
        note(f"{path.name}: {line}")
    of_layer = labels.sets if layer == labels.layer else {}
    k, seed = choose_factors(opened, k, {k for name in chosen for k in of_layer.get(name, ())})
    names = {name: factor_names(name, k, labels.of(layer, name, k, seed)) for name in chosen}
    if left_out := sum(one is None for of_set in names.values() for one in of_set):
        note(f"export: {left_out} factors are called background and left out")
    index = ImageIndex.open(inputs["index"], project, artifact)
    selection = Selection(opened, index, k, seed, names, least_area)
    _say(f"{format}: {maps} maps of {layer}, k = {k}, seed {seed}", selection)
    record = {
        "format": format,
        "options": {one.name: getattr(exporter, one.name) for one in _options(type(exporter))},
        "maps": maps,
        "layer": layer,
        "k": k,
        "seed": seed,
        "sets": chosen,
        "least_area": least_area,
        "made_from": artifact.fingerprint,
        "categories": selection.categories,
    }
    with spread_over(resources) as within:
        export(selection, exporter, out, record, within, force=force)
    return out


def make_exporter(format: str, options: Mapping[str, Any]) -> Exporter:
    """The exporter of that name with the options that were asked for.

    Raises
    ------
    ParamsError
        When there is no such format, or it has no such option.
    """
    _refuse_unknown("--format", format, list(EXPORTERS))
    asked = {name: value for name, value in options.items() if value is not None}
    known = {one.name for one in _options(EXPORTERS[format])}
    for name in asked:
        if name not in known:
            having = [
                one
                for one, made in EXPORTERS.items()
                if name in {option.name for option in _options(made)}
            ]
            raise ParamsError(f"--{name} is not for {format}, but for {', '.join(having)}")
    return EXPORTERS[format](**asked)


def _options(exporter: Any) -> list[Any]:
    """Fields that make it; a class without any options need be no dataclass."""
    return [one for one in fields(exporter) if one.init] if is_dataclass(exporter) else []


def _refuse_unknown(flag: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ParamsError(f"{flag} {name}: unknown; {suggestion(name, known)}")


def _say(what: str, selection: Selection) -> None:
    sets = plural(len(selection.names), "image set")
    note(f"export {what}: {sets}, {plural(len(selection.categories), 'concept')}")
