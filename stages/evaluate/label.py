"""Writing labels.yaml: a form to fill in, or names from coverage on a few images (Table 3)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.metrics import RegionCounts
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.evaluation import BACKGROUND, OBJECT, RAW
from stages.artifacts.factors import Factors
from stages.artifacts.image_index import ImageIndex
from stages.evaluate.counting import Counting
from stages.evaluate.params import EvaluateParams
from stages.evaluate.truth import SetTruth
from stages.frame.errors import StageError
from stages.frame.params import user_path
from stages.frame.resources import Resources
from stages.frame.stage import Inputs
from stages.naming.labels import Labels, Names, read_labels
from stages.naming.names import FactorNames, Named, resolve
from store import write_atomically

PARTS = 2  # that `label_automatically` names a factor by, at most


def write_form(params: EvaluateParams, inputs: Inputs, *, force: bool) -> str:
    """Write a labels file with a place for every factor of the first layer and seed.

    Names that are there are carried over to the factors that there are now; those that fit none
    stay in the file as comments. A file that has all that is left as it is.

    Parameters
    ----------
    force : bool
        Without any names.

    Returns
    -------
    str
        What was done, in a line.
    """
    path = user_path(params.labels, inputs.project)
    factors = Factors.open(inputs["factorize"])
    labels = Labels(path) if force else read_labels(path)
    if labels.silent:
        labels = replace(labels, factors=factors.fingerprint)
    names = resolve(labels, factors)
    named, places = labels.counts
    if places and _is_current(labels, factors):
        return (
            f"{path}: has a place for every factor already, and {named} of {places} have a name; "
            "write names into it, then `dff run`; --force begins anew without names"
        )
    lost = "".join(f"# {line}\n" for line in names.notes if named)
    write_atomically(path, (names.form(factors) + lost).encode())
    if not named:
        return str(path)
    kept = sum(bool(one) for by_k in names.sets.values() for n in by_k.values() for one in n.names)
    told = f", {len(names.notes)} notes are at its end" if lost else ""
    return f"{path}: brought up to date, {kept} factors have a name{told}"


def _is_current(labels: Labels, factors: Factors) -> bool:
    every = {name: set(factors.factorizations.ks) for name in factors.sets}
    return labels.factors == factors.fingerprint and all(
        {name: set(by_k) for name, by_k in one.items()} == every
        for one in (labels.sets, labels.directions)
    )


def label_automatically(
    params: EvaluateParams, inputs: Inputs, images: int, resources: Resources, *, force: bool
) -> Path:
    """Write labels from the coverage of parts on some images of each set, spread evenly over it.

    As in the paper's Table 3 a factor is one part, or a union that makes sense: of the parts that
    it covers (eq. 7) the one of the largest IoU, and a second one if the IoU with both is larger.
    The images are those that `evaluate` will leave out. Sets without annotated parts get none.

    Raises
    ------
    StageError
        When there are labels already and not `force`, or no parts are annotated anywhere.
    """
    path = user_path(params.labels, inputs.project)
    named_before, places = read_labels(path).counts
    if named_before and not force:
        raise StageError(
            f"{path}: {named_before} of {places} factors have a name already, which --auto would "
            "replace; --force lets it"
        )
    factors = Factors.open(inputs["factorize"])
    index = ImageIndex.open(inputs["index"], inputs.project, factors.artifact)
    maps = ConceptMaps.open(inputs["heatmaps"])[factors.layers[0]]
    named: dict[str, dict[int, Named]] = {}
    seen: dict[str, list[str]] = {}
    for name, entries in factors.sets.items():
        truth = SetTruth(index, name, root=factors.root(name))
        pairs = [(int(entry), int(factors.image_ids[entry])) for entry in entries]
        chosen = _chosen(truth, pairs, images)
        if not chosen:
            continue
        key = (maps.layer, RAW)
        counting = Counting(truth, {key: maps}, {}, chosen)
        counts = counting.run(resources).maps[key].parts
        parts = sorted(counts.names - {OBJECT, BACKGROUND})
        candidates = [*parts, BACKGROUND]
        belongs = counts.associate(candidates, params.coverage)
        named[name] = {
            k: _auto(counts, candidates, belongs, maps.columns_of(k))
            for k in factors.factorizations.ks
        }
        seen[name] = [index.names[image_id] for _, image_id in chosen]
    if not named:
        raise StageError(
            "dff label --auto: no image set has two images with annotated parts; without --auto it "
            "writes a form to fill in by hand"
        )
    of_images = {name: frozenset(images) for name, images in seen.items()}
    shown = factors.factorizations.shown_seed
    names = FactorNames(factors.layers[0], shown, named, of_images)
    write_atomically(path, names.form(factors).encode())
    return path


def _auto(
    counts: RegionCounts,
    candidates: Sequence[str],
    belongs: NDArray[np.bool_],
    columns: Sequence[int],
) -> Named:
    """Names of one factorization's factors by what they cover."""
    names: list[Names] = []
    for column in columns:
        covered = [part for part, is_its in zip(candidates, belongs[column], strict=True) if is_its]
        chosen: Names = ()
        best = 0.0
        while covered and len(chosen) < PARTS:
            ious = [float(counts.iou((*chosen, part))[column]) for part in covered]
            at = int(np.argmax(ious))
            if ious[at] <= best:
                break
            best, chosen = ious[at], (*chosen, covered.pop(at))
        names.append(chosen)
    return Named(names, [1.0 if one else 0.0 for one in names])


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
