"""Writing an export: image by image, in bounded memory, all of it or nothing."""

import copy
import json
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from stages.export.exporter import Catalogue, Exporter, Photograph
from stages.export.selection import Selection
from stages.frame.errors import StageError
from stages.frame.memory import Needs, resident, resources_within
from stages.frame.parallel import ordered_map
from stages.frame.progress import track
from stages.frame.resources import Resources
from store.publication import disk_errors, put_in_place, work_beside, write_atomically

RECORD = "export.json"  # in every export: what it is, and that it may be replaced
# Of one pixel while an image is in work: heat, labels, and what resizing and drawing take.
PIXEL_BYTES = 40


def export(
    selection: Selection,
    exporter: Exporter,
    out: Path,
    record: dict[str, Any],
    resources: Resources,
    *,
    force: bool = False,
) -> None:
    """Write what is selected into folder `out`.

    It appears whole, in the end. Interrupted, nothing is left.

    Parameters
    ----------
    record : dict
        What the export was made from; becomes ``export.json``.
    force : bool
        Replace an earlier export.

    Raises
    ------
    StageError
        When `out` is there already, or the format refuses.
    StoreError
        When it cannot be written, or another process is at it.
    """
    check_target(out, selection.index.dataset.root, force=force)
    photographs = selection.photographs
    catalogue = Catalogue(selection.categories, photographs, out.absolute())
    workers = resources_within("export", export_needs(selection), resources).workers

    with disk_errors(out), work_beside(out, "export", "work") as [work]:
        try:
            exporter.open(work.absolute(), catalogue)
            encoded = ordered_map(
                partial(_encoded, _Sent(exporter), selection),
                map(_findable, photographs),
                workers=workers,
                cluster=resources.spread,
                label="export: images",
            )
            with (
                track("export", len(photographs), "images") as advance,
                closing(encoded) as results,
            ):
                for result in results:
                    exporter.add(result)
                    advance(1)
        except BaseException:
            with suppress(Exception):  # what happened first is what is told
                exporter.close()
            raise
        exporter.close()
        write_atomically(work / RECORD, json.dumps(record, indent=1).encode())
        put_in_place(work, out)


class _Sent:
    """An exporter as other processes get it: without what it has open."""

    def __init__(self, exporter: Exporter) -> None:
        self.exporter = exporter

    def __getstate__(self) -> dict[str, Any]:
        sent = copy.copy(self.exporter)
        for name in getattr(sent, "stay", ()):
            vars(sent).pop(name, None)
        return {"exporter": sent}


def _encoded(sent: _Sent, selection: Selection, photograph: Photograph) -> Any:
    return sent.exporter.encode(selection.picture(photograph))


def _findable(photograph: Photograph) -> Photograph:
    return replace(photograph, file=photograph.file.absolute())


def check_target(out: Path, photographs: Path, *, force: bool) -> None:
    """Refuse a folder that an export must not be put into.

    Raises
    ------
    StageError
    """
    if out.resolve().is_relative_to(photographs.resolve()):
        raise StageError(
            f"--out {out}: lies in the folder of photographs, and its pictures would become some; "
            "name another one"
        )
    if not (out.exists() or out.is_symlink()):
        return
    if not force:
        raise StageError(f"--out {out}: is there already; name another one, or --force replaces it")
    if out.is_symlink() or not (out / RECORD).is_file():
        raise StageError(f"--out {out}: is no export of `dff export`, --force leaves it alone")


def export_needs(selection: Selection) -> Needs:
    """What exporting takes; a worker is an image in work."""
    pixels = max((h * w for h, w in (one.size for one in selection.photographs)), default=1)
    each = pixels * (PIXEL_BYTES + 2 * len(selection.columns))
    return Needs(
        {"libraries": resident("scipy.ndimage", "numba")},
        {"masks at the size of the largest photograph": each},
        remedy="make the largest photographs smaller",
    )
