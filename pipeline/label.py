"""`dff label`: naming factors, by hand or from coverage on a few images (the paper's Table 3)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table

from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.image_index import ImageIndex
from stages.artifacts.tables import read_table
from stages.evaluate.boxes import main_boxes
from stages.evaluate.counting import Counting
from stages.evaluate.labels import read_labels
from stages.evaluate.params import EvaluateParams
from stages.evaluate.stage import EVALUATE
from stages.evaluate.truth import BACKGROUND, OBJECT, SetTruth
from stages.frame.errors import StageError
from stages.frame.execute import execute, gather_inputs
from stages.frame.params import user_path
from stages.frame.resources import Resources
from store import Artifact, open_artifact, write_atomically

HEADING = """\
# Names of factors, strongest first, by image set and k: names of annotated parts, `object` or
# `background`; a list is a union, null a factor without a name. See docs/experiments.md.
"""
EMPTY = """\
# What the factors show, in your words: `dff label` writes a form to fill in. While it is empty,
# coverage decides which parts belong to a factor (eq. 7 of the paper).
"""
Names = Mapping[int, Sequence[Sequence[str]]]  # of one image set: k -> names of each factor


def ensure_labels(path: Path) -> None:
    """Put an empty file where there is none: DVC wants what a stage reads to exist."""
    if not path.exists():
        write_atomically(path, EMPTY.encode())


def blank_labels(project: Path, params: EvaluateParams, *, force: bool) -> Path:
    """Write a form with every factor of the first layer and seed, without names.

    Raises
    ------
    StageError
        When there are labels already, and not `force`.
    """
    path = _target(project, params, force)
    factors = open_artifact(gather_inputs(EVALUATE, project)["factorize"])
    blank = {k: [()] * k for k, _ in _columns(factors)}
    _write(path, factors, dict.fromkeys(factors.sets, blank), {})
    return path


def label_automatically(
    project: Path, params: EvaluateParams, images: int, resources: Resources, *, force: bool
) -> Path:
    """Write labels from the coverage of parts on some images of each set, spread evenly over it.

    The images are those that `evaluate` will leave out. Sets without annotated parts get none.

    Raises
    ------
    StageError
        When there are labels already and not `force`, or no parts are annotated anywhere.
    """
    path = _target(project, params, force)
    inputs = gather_inputs(EVALUATE, project)
    factors, heatmaps = (open_artifact(inputs[name]) for name in ("factorize", "heatmaps"))
    index = ImageIndex.open(inputs["index"], project, factors)
    layer, seed = factors.layers[0], int(factors.attrs["problems"][0][1])
    maps = ConceptMaps(heatmaps, layer)
    ids = maps.maps.image_ids
    boxes = main_boxes(maps, index)
    named: dict[str, Names] = {}
    seen: dict[str, list[str]] = {}
    for name, entries in factors.sets.items():
        truth = SetTruth(index, name)
        chosen = _chosen(truth, [(int(entry), int(ids[entry])) for entry in entries], images)
        if not chosen:
            continue
        key = (layer, "raw")
        counting = Counting(truth, {key: maps}, {key: boxes}, chosen)
        counts = counting.run(resources).maps[key].parts
        parts = sorted(counts.names - {OBJECT, BACKGROUND})
        candidates = [*parts, BACKGROUND]
        belongs = counts.associate(candidates, params.coverage)
        named[name] = {
            k: [
                [candidates[i] for i in np.flatnonzero(belongs[column])]
                for column in maps.columns_of(k, seed)
            ]
            for k, _ in _columns(factors)
        }
        seen[name] = [index.names[image_id] for _, image_id in chosen]
    if not named:
        raise StageError(
            "dff label --auto: no image set has two images with annotated parts; without --auto it "
            "writes a form to fill in by hand"
        )
    _write(path, factors, named, seen)
    return path


def evaluate_labels(project: Path, params: EvaluateParams, resources: Resources) -> None:
    """Run evaluate and print the IoU of every label, and what nobody could name."""
    out = execute(EVALUATE, params, project, resources)
    print_labels(read_table(out / "labels.parquet"))
    labels = read_labels(user_path(params.labels, project))
    for name, by_k in labels.sets.items():
        for k, names in by_k.items():
            if without := [str(i) for i, one in enumerate(names) if not one]:
                print(f"{name}, k = {k}: no name for factor {', '.join(without)}")


def print_labels(table: pd.DataFrame) -> None:
    """One row per label: raw and refined IoU."""
    shown = Table("set", "k", "label", "factors", "IoU %", "refined", "images", box=None)
    keys = ["set", "k", "seed", "label", "factors", "images"]
    for (name, k, _, label, factors, images), group in table.groupby(keys, sort=False):
        iou = group.set_index("maps")["iou"]
        # none where the part is on no image that counts
        cells = [f"{iou[kind]:.2f}" if pd.notna(iou[kind]) else "–" for kind in ("raw", "refined")]
        shown.add_row(str(name), str(k), str(label), str(factors), *cells, str(images))
    Console(markup=False, highlight=False).print(shown)


def _target(project: Path, params: EvaluateParams, force: bool) -> Path:
    path = user_path(params.labels, project)
    if not force and read_labels(path).sets:
        raise StageError(f"{path}: has labels already; --force replaces them")
    return path


def _columns(factors: Artifact) -> list[tuple[int, int]]:
    """(k, seed) of the first seed's factorizations."""
    problems = [(int(k), int(seed)) for k, seed in factors.attrs["problems"]]
    return [(k, seed) for k, seed in problems if seed == problems[0][1]]


def _chosen(
    truth: SetTruth, entries: Sequence[tuple[int, int]], wanted: int
) -> list[tuple[int, int]]:
    """Entries whose annotation shows parts, spread evenly over the set; one is left to score."""
    found: list[tuple[int, int]] = []
    for entry, image_id in _spread(entries):
        if truth.read(image_id).parts:
            found.append((entry, image_id))
            if len(found) > wanted:
                break
    return sorted(found[: min(wanted, len(found) - 1)]) if found else []


def _spread(entries: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """All entries, in an order of which every beginning is spread evenly over the set."""
    order = sorted(range(len(entries)), key=lambda place: f"{place:032b}"[::-1])
    yield from (entries[place] for place in order)


def _write(
    path: Path, factors: Artifact, named: Mapping[str, Names], seen: Mapping[str, Sequence[str]]
) -> None:
    def plain(names: Sequence[str]) -> Any:
        return None if not names else names[0] if len(names) == 1 else list(names)

    content: dict[str, Any] = {
        "layer": factors.layers[0],
        "seed": int(factors.attrs["problems"][0][1]),
        "factors": factors.fingerprint,
    }
    if seen:
        content["seen"] = {name: list(images) for name, images in seen.items()}
    content["sets"] = {
        name: {k: [plain(names) for names in by_factor] for k, by_factor in by_k.items()}
        for name, by_k in named.items()
    }
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, allow_unicode=True)
    write_atomically(path, (HEADING + text).encode())
