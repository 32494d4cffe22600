"""`dff pin`: keep the factors that were found, for later runs to go on from."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.params import PARAMS, ParamsError, read_params
from pipeline.registry import BY_NAME
from stages.artifacts.activations import Activations
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.factors import Factors
from stages.artifacts.pinned import pin_factors
from stages.frame.errors import StageError
from stages.frame.execute import gather_inputs
from stages.heatmaps.survey import largest, made_from
from stages.report.stage import REPORT
from store import write_atomically

FOLDER = "pinned"


def pin(project: Path, *, freeze: bool) -> Path:
    """Pin a project's factors and say so in its params.yaml; returns their folder.

    Raises
    ------
    StageError, ArtifactMissing
        When the artifacts are not there, do not belong together, or are not a network's.
    ParamsError
        When params.yaml is not of a form that can be changed; it stays as it is.
    """
    params = read_params(project)
    reads = {name: BY_NAME[name].writes for name in ("extract", "factorize", "heatmaps")}
    extract, factorize, heatmaps = gather_inputs(
        replace(REPORT, reads=reads), project
    ).paths.values()
    _check(extract, factorize, heatmaps)
    if params["factorize"].solver != "hals":
        raise ParamsError(
            f"{PARAMS}: factorize.solver: {params['factorize'].solver} cannot go on from factors, "
            "hals can"
        )
    folder = pin_factors(extract, factorize, heatmaps, project / FOLDER)
    start = f"{FOLDER}/{folder.name}"
    path = project / PARAMS
    text = path.read_text(encoding="utf-8")
    text = with_value(text, "factorize", "start", start)
    text = with_value(text, "factorize", "freeze", freeze)
    write_atomically(path, text.encode())
    return folder


def _check(extract: Path, factorize: Path, heatmaps: Path) -> None:
    """Refuse artifacts that were not made from each other."""
    activations, factors = Activations.open(extract), Factors.open(factorize)
    if not activations.recipes:
        raise StageError("activations that somebody brought cannot be pinned, a network's can")
    maps = ConceptMaps.open(heatmaps)
    same = (
        activations.images == factors.images
        and activations.layers == factors.layers == list(maps)
        and all(_has_rows_of(factors, activations, layer) for layer in factors.layers)
    )
    if not (same and all(_made_from(factors, maps[layer]) for layer in factors.layers)):
        raise StageError(
            "the heat maps, factors and activations were not made from each other: `dff run` "
            "first, then `dff pin`"
        )


def _has_rows_of(factors: Factors, activations: Activations, layer: str) -> bool:
    """Whether there is a coefficient for each row: a network that sees other sizes has others."""
    of = factors.at(layer)
    if of.several != bool(activations.several):
        return False
    entries = np.concatenate([activations.sets[factors.root(name)] for name in factors.sets])
    grids = activations.grids(layer)[entries]
    rows = np.diff((of.scales if of.several else of.coefficients).offsets)
    return np.array_equal(of.coefficients.grid_hw, grids[:, -1]) and np.array_equal(
        rows, grids.prod(axis=2).sum(axis=1)
    )


def _made_from(factors: Factors, maps: ConceptMaps) -> bool:
    """Whether heat maps are those of these factors, by the scale that these give them."""
    of, sets = factors.at(maps.layer), factors.sets
    if maps.factorizations != factors.factorizations or list(maps.sets) != list(sets):
        return False
    reached = np.array([largest(of.coefficients, entries.tolist()) for entries in sets.values()])
    expected = np.where(np.isfinite(of.held_scale), of.held_scale, reached)
    if not np.array_equal(maps.scale, expected):
        return False
    sizes = [(int(h), int(w)) for h, w in maps.grid_hw]
    set_of = [rank for rank, entries in enumerate(sets.values()) for _ in entries]
    return np.array_equal(made_from(of.coefficients, sizes, expected, set_of), maps.made_from)


def with_value(text: str, section: str, key: str, value: Any) -> str:
    """The text of params.yaml with another value; everything else, comments too, stays.

    Raises
    ------
    ParamsError
        When there is no such line; the message says what to write.
    """
    shown = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    written = shown.split("\n")[0]
    found = re.search(
        rf"^{section}:[^\n]*\n(?:[ \t]+[^\n]*\n|[ \t]*\n|#[^\n]*\n)*?[ \t]+{key}:[ \t]*", text, re.M
    )
    if found:
        rest = re.match(r"(?:'[^'\n]*'|\"[^\"\n]*\"|[^#\n])*", text[found.end() :])
        assert rest is not None
        old = rest.group()
        aside = "" if old == old.rstrip() else " "  # a comment stays in its column
        padded = (written + aside).ljust(len(old))
        changed = text[: found.end()] + padded + text[found.end() + len(old) :]
        wanted = yaml.safe_load(text)
        wanted[section][key] = value
        if yaml.safe_load(changed) == wanted:
            return changed
    raise ParamsError(f"{PARAMS}: cannot be changed here; write `{key}: {written}` in {section}")
