"""evaluate, step by step: what is counted, then the tables and all that is made from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stages.artifacts.concept_maps import ConceptMaps, MeasuredWriter, create_measured
from stages.artifacts.evaluation import (
    MEASURED,
    RAW,
    REFINED,
    Evaluation,
    finish_evaluation,
    write_metrics,
)
from stages.artifacts.factors import Factors
from stages.artifacts.image_index import ImageIndex
from stages.evaluate.box_scores import BoxMatches, SetBoxes
from stages.evaluate.boxes import Annotated, main_boxes, write_boxes, write_detections
from stages.evaluate.carried import Carried, Key, recipe
from stages.evaluate.choice_tables import choice_table, factor_table, link_table
from stages.evaluate.concepts import write_concepts
from stages.evaluate.counting import Counting, SetSums, counted
from stages.evaluate.failures import write_failures
from stages.evaluate.needs import evaluate_needs
from stages.evaluate.params import EvaluateParams
from stages.evaluate.scores import Tables, merged_columns, overlap_rows, score_set
from stages.evaluate.tables import (
    figure4_table,
    foreground_table,
    loss_table,
    metrics_of,
    quality_table,
)
from stages.evaluate.truth import SetTruth
from stages.frame.memory import resources_within
from stages.frame.params import user_path
from stages.frame.progress import note, track
from stages.frame.resources import Resources
from stages.frame.stage import Inputs
from stages.naming.names import FactorNames, read_names
from store import Staging

if TYPE_CHECKING:
    import zarr

STAGE_OF = {RAW: "heatmaps", REFINED: "refine"}


def write_evaluation(
    params: EvaluateParams, inputs: Inputs, work: Staging, resources: Resources
) -> None:
    """Score the maps and write all that `stages.evaluate.stage` tells of; called as its `run`."""
    factors = Factors.open(inputs["factorize"])
    index = ImageIndex.open(inputs["index"], inputs.project, factors.artifact)
    by_kind = {kind: ConceptMaps.open(inputs[stage]) for kind, stage in STAGE_OF.items()}
    opened: dict[Key, ConceptMaps] = {
        (layer, kind): by_kind[kind][layer] for layer in factors.layers for kind in STAGE_OF
    }
    labels = read_names(user_path(params.labels, inputs.project), factors)
    notes = list(labels.notes)
    grids = opened[factors.layers[0], RAW].maps.grid_hw.astype(np.int64)
    columns, layers = len(factors.factorizations.columns), len(factors.layers)
    needs = evaluate_needs(index.sizes, grids, columns, layers)
    within = resources_within("evaluate", needs, resources)
    tables, own = Tables(), factors.own_sets
    damaged: dict[str, str] = {}
    doubtful: dict[str, list[str]] = {}
    scored: dict[str, dict[str, int]] = {}
    annotated: list[Annotated] = []
    targets: dict[str, SetBoxes] = {}
    measured = work.path / MEASURED
    drawn = {layer: columns for layer in factors.layers if not opened[layer, RAW].stored}
    with ExitStack() as stack:
        advance = stack.enter_context(track("evaluate", len(factors.sets), "sets"))
        measures: Mapping[str, MeasuredWriter] = {}
        carried: Carried | None = None
        groups: Mapping[str, zarr.Group] = {}
        if drawn:
            carried = Carried.of(opened, work, reuse=resources.reuse)
            measures, groups = stack.enter_context(
                create_measured(measured, work.fingerprint, drawn, recipe())
            )
        every = countings(factors, index, opened, labels, measures, carried)
        for counting, sums in counted(every, within):
            truth = counting.truth
            if isinstance(sums, SetSums):
                notes += score_set(tables, params.coverage, labels, counting, sums)
                scored[truth.name] = counting.scored(sums)
                damaged |= truth.damaged
                for name, reasons in truth.doubtful.items():
                    doubtful[name] = list(dict.fromkeys([*doubtful.get(name, []), *reasons]))
                targets[truth.name] = SetBoxes.of(truth, index)
                if truth.name in own:
                    for image_id, found in sorted(truth.boxes.items()):
                        annotated += [(truth.name, image_id, box) for box in found]
            else:
                overlap_rows(tables, counting, sums)
            advance(1)
        if carried:
            carried.write(groups)
    for layer in drawn:
        opened[layer, RAW] = replace(opened[layer, RAW], measured=measured)
    scores, coverage, labelled, partitions = tables.frames()
    foreground = foreground_table(scores)
    matches = BoxMatches(targets, foreground)
    largest = write_boxes(work.path, opened, index, params.least_area, foreground, matches)
    foreground = matches.scored(foreground)
    Evaluation.scores.write(work.path, scores)
    Evaluation.coverage.write(work.path, coverage)
    Evaluation.labels.write(work.path, labelled)
    Evaluation.foreground.write(work.path, foreground)
    Evaluation.partitions.write(work.path, partitions)
    _write_summaries(work.path, scores, foreground, partitions, factors, index)
    # boxes on images that do not count would be false alarms to other tools
    left_out = {(name, image) for name, images in labels.seen.items() for image in images}
    left_out |= {(name, image) for name in factors.sets for image in damaged}
    # a concept within a factor is no detection of the set's object
    objects = largest[largest["set"].isin(own)]
    write_detections(work.path / "detections", objects, index, annotated, left_out)
    write_concepts(work.path, opened, index, labels)
    write_failures(work.path, damaged, doubtful)
    for line in notes:
        note(f"{params.labels}: {line}")
    names = replace(labels, notes=tuple(notes))
    Evaluation.factors.write(work.path, factor_table(factors, labels))
    finish_evaluation(work, damaged, index.exclude, scored, names.record | {"file": params.labels})


def countings(
    factors: Factors,
    index: ImageIndex,
    maps: Mapping[Key, ConceptMaps],
    labels: FactorNames,
    measures: Mapping[str, MeasuredWriter],
    carried: Carried | None = None,
) -> Iterator[Counting]:
    """What is to be counted, set by set; `measures` and `carried` as `Counting` has them."""
    coefficients = {layer: factors.at(layer).coefficients for layer in factors.layers}
    boxes = {}
    if index.annotated.any():  # else there is nothing that they could meet
        boxes = {key: main_boxes(one, index) for key, one in maps.items() if one.stored}
    for name, entries in factors.sets.items():
        truth = SetTruth(index, name, labels.seen.get(name, frozenset()), factors.root(name))
        where = [(int(entry), int(factors.image_ids[entry])) for entry in entries]
        merged = merged_columns(labels, name, maps)
        yield Counting(truth, maps, boxes, where, merged, coefficients, measures, carried)


def _write_summaries(
    folder: Path,
    scores: pd.DataFrame,
    foreground: pd.DataFrame,
    partitions: pd.DataFrame,
    factors: Factors,
    index: ImageIndex,
) -> None:
    """What is made from the tables, and from the factors alone."""
    losses = loss_table(factors)
    quality = quality_table(scores, foreground, partitions)
    choice = choice_table(factors, losses)
    Evaluation.loss.write(folder, losses)
    Evaluation.quality.write(folder, quality)
    own = factors.own_sets
    Evaluation.figure4.write(folder, figure4_table(scores[scores["set"].isin(own)]))
    Evaluation.choice.write(folder, choice)
    Evaluation.links.write(folder, link_table(factors))
    write_metrics(folder, metrics_of(quality, losses, choice, index, own))
