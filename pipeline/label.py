"""`dff label`: naming factors, by hand, from coverage on a few images, or by a file; what holds."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from stages.artifacts.evaluation import KINDS, Evaluation
from stages.artifacts.factors import Factors
from stages.evaluate.label import label_automatically, write_form
from stages.evaluate.params import EvaluateParams
from stages.evaluate.stage import EVALUATE
from stages.frame.errors import StageError
from stages.frame.execute import execute, gather_inputs
from stages.frame.params import user_path
from stages.frame.progress import note
from stages.frame.resources import Resources
from stages.naming.labels import read_labels
from stages.naming.merge import Change, Merged, merge
from store import write_atomically

SHOWN = 20  # changes that are listed
FEW = 3  # of them in the line that refuses
THEN = "`dff run` then shows the names everywhere"


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
        note(f"fill it in while looking at the report; {THEN}")
        return
    print(label_automatically(params, inputs, images, resources, force=force))
    _evaluate(project, params, resources)


def bring_names(project: Path, params: EvaluateParams, file: Path, *, force: bool) -> None:
    """Check a labels file that came from elsewhere, and merge its names into the project's.

    The file that was there is kept beside it, with ``.before`` after its name.

    Raises
    ------
    StageError
        When the file cannot be read or names no factor there is; without `force` also when it would
        replace names of which it does not know.
    """
    inputs = gather_inputs(EVALUATE, project)
    path = user_path(params.labels, inputs.project)
    if not file.is_file():
        raise StageError(f"{file}: no such file; the page to explore saves one")
    factors = Factors.open(inputs["factorize"])
    brought, present = read_labels(file), read_labels(path)
    if not brought.sets:
        raise StageError(f"{file}: names no factor: it has no entry below `sets`")
    merged = merge(present, brought, factors)
    strange = [one for one in merged.changes if not one.asked]
    if strange and not force:
        few = "; ".join(map(str, strange[:FEW]))
        raise StageError(
            f"{path}: {file} would replace {_counted(len(strange), 'other name')} that it does not "
            f"know of: {few}{'; ...' if len(strange) > FEW else ''}; --force lets it"
        )
    if brought.silent:
        note(f"{file}: does not say whose names these are, so factors get them by number")
    _tell(merged)
    lost = "".join(f"# {line}\n" for line in (*merged.names.notes, *merged.lost))
    content = (merged.names.form(factors) + lost).encode()
    before = path.read_bytes() if path.is_file() else b""
    if content == before:
        print(f"{path}: has these names already")
        return
    told = ""
    if present.counts[0]:
        kept = path.with_name(path.name + ".before")
        write_atomically(kept, before)
        told = f"; what it was is in {kept.name}"
    write_atomically(path, content)
    print(f"{path}: {_summary(merged.changes)}{told}")
    note(THEN)


def _tell(merged: Merged) -> None:
    """Say which names other ones take the place of, how sure names found their factors, and what
    found none."""
    replacing = [one for one in merged.changes if one.old]
    for change in replacing[:SHOWN]:
        note(str(change))
    if len(replacing) > SHOWN:
        note(f"... and {len(replacing) - SHOWN} more")
    for (name, k), cosines in merged.sure.items():
        note(
            f"{name}, k = {k}: {_counted(len(cosines), 'name')} found again by direction, "
            f"the least alike with a cosine of {int(100 * min(cosines)) / 100:.2f}"
        )
    for line in merged.lost:
        note(line)


def _summary(changes: Sequence[Change]) -> str:
    new = sum(not one.old for one in changes)
    gone = sum(not one.new for one in changes)
    parts = [_counted(new, "new name")]
    if replaced := len(changes) - new - gone:
        parts.append(f"{replaced} replaced")
    if gone:
        parts.append(f"{gone} taken away")
    return ", ".join(parts)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


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
