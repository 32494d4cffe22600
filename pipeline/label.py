"""`dff label`: naming factors, by hand or from coverage on a few images; how well that holds."""

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from stages.artifacts.evaluation import KINDS, Evaluation
from stages.evaluate.label import label_automatically, write_form
from stages.evaluate.params import EvaluateParams
from stages.evaluate.stage import EVALUATE
from stages.frame.execute import execute, gather_inputs
from stages.frame.params import user_path
from stages.frame.progress import note
from stages.frame.resources import Resources
from stages.naming.labels import read_labels


def label_factors(
    project: Path,
    params: EvaluateParams,
    images: int,
    resources: Resources,
    *,
    auto: bool,
    force: bool,
) -> None:
    """Write labels and print where; with `auto` evaluate them on the images not looked at."""
    inputs = gather_inputs(EVALUATE, project)
    if not auto:
        print(write_form(params, inputs, force=force))
        note("fill it in while looking at the report; `dff run` then shows the names everywhere")
        return
    print(label_automatically(params, inputs, images, resources, force=force))
    _evaluate(project, params, resources)


def _evaluate(project: Path, params: EvaluateParams, resources: Resources) -> None:
    """Run evaluate and print the IoU of every label, and what nobody could name."""
    _print(Evaluation.open(execute(EVALUATE, params, project, resources)).labels)
    labels = read_labels(user_path(params.labels, project))
    for name, by_k in labels.sets.items():
        for k, names in by_k.items():
            if without := [str(i) for i, one in enumerate(names) if not one]:
                print(f"{name}, k = {k}: no name for factor {', '.join(without)}")


def _print(table: pd.DataFrame) -> None:
    """One row per label: raw and refined IoU."""
    shown = Table("set", "k", "label", "factors", "IoU %", "refined", "images", box=None)
    keys = ["set", "k", "seed", "label", "factors", "images"]
    for (name, k, _, label, factors, images), group in table.groupby(keys, sort=False):
        iou = group.set_index("maps")["iou"]
        # none where the part is on no image that counts
        cells = [f"{iou[kind]:.2f}" if pd.notna(iou[kind]) else "–" for kind in KINDS]
        shown.add_row(str(name), str(k), str(label), str(factors), *cells, str(images))
    Console(markup=False, highlight=False).print(shown)
