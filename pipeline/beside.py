"""`dff beside`: two reports in one folder, with a page that compares them."""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from pipeline.sides import Side, open_side
from stages.frame.errors import StageError
from stages.frame.progress import note
from stages.report.packed import DATA, FORMAT, script
from store.artifact import read_attrs
from store.publication import disk_errors, put_in_place, work_beside, write_atomically

PHOTOGRAPHS = ("thumbs", "large")  # folders of a report: stages/report/thumbnails.py
FOLDERS = ("a", "b")  # of the two reports: no name of anything becomes a path
RECORD = "beside.json"  # in every comparison: what it is, and that it may be replaced
NO_SCRIPT = (
    "<noscript><p>This page needs JavaScript. Without it: the reports of "
    '<a href="a/index.html">A</a> and <a href="b/index.html">B</a>.</p></noscript>'
)


def beside(
    both: Sequence[str], project: Path, out: Path, names: Sequence[str] = (), *, force: bool = False
) -> Path:
    """Write two reports and a page that compares them into one folder; returns the page.

    The folder appears when it is complete. Files are hard links where the file system has them.

    Parameters
    ----------
    both : two of str
        See `pipeline.sides.open_side`.
    project : Path
        Whose revisions they may be.
    names : two of str, or none
        What they are called; by default as their folders and revisions are.
    force : bool
        Replace an earlier comparison.

    Raises
    ------
    StageError
        When one cannot be shown, they have no image set in common, or `out` is there.
    StoreError
        When it cannot be written.
    """
    _check_target(out, force=force)
    with disk_errors(out), work_beside(out, "beside", "work", "scratch") as [work, scratch]:
        sides = []
        for folder, what in zip(FOLDERS, both, strict=True):
            (scratch / folder).mkdir()
            sides.append(open_side(what, project, scratch / folder))
            if out.resolve().is_relative_to(sides[-1].report.resolve()):
                raise StageError(f"--out {out}: lies in the report {what}; name another one")
        labels = list(names) or _labels(sides, both)
        payload = compared(sides, labels)
        for folder, side in zip(FOLDERS, sides, strict=True):
            _link_report(side.report, work / folder, _same_photographs(sides, work))
        _write_page(work)
        (work / DATA).mkdir()
        (work / DATA / "beside.js").write_bytes(script("beside", payload))
        record = {"format": FORMAT, "names": labels}
        write_atomically(work / RECORD, json.dumps(record, indent=1).encode())
        put_in_place(work, out)
    return out / "index.html"


def compared(sides: Sequence[Side], labels: Sequence[str]) -> dict[str, Any]:
    """What the page says first: names, params that differ, image sets that both have.

    Raises
    ------
    StageError
        When there is no image set of the same name in both.
    """
    ranks = [{one["name"]: rank for rank, one in enumerate(s.index["sets"])} for s in sides]
    common = [name for name in ranks[0] if name in ranks[1]]
    if not common:
        having = " and ".join(f"{', '.join(list(one)[:3])}" for one in ranks)
        raise StageError(f"no image set of the same name in both: there are {having}")
    sets = []
    for name in common:
        mine = [side.images(rank[name]) for side, rank in zip(sides, ranks, strict=True)]
        shared = len(set(mine[0]) & set(mine[1]))
        if not shared:
            note(f"{name}: no image of the same name in both")
        sets.append({"ranks": [rank[name] for rank in ranks], "images": shared})
    return {
        "format": FORMAT,
        "names": list(labels),
        "sets": sets,
        "params": _differing(*(side.params for side in sides)),
        "paramsKnown": [side.params is not None for side in sides],
    }


def _differing(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> list[list[str | None]]:
    """Params that differ, ``[name, value of A, value of B]``; None for one that is not there."""
    if a is None or b is None:
        return []

    def shown(params: Mapping[str, Any], name: str) -> str | None:
        if name not in params:
            return None
        value = params[name]
        if isinstance(value, str):  # of a path its end: the folder may be sent to others
            parts = PurePath(value).parts
            return str(PurePath("…", *parts[-2:])) if PurePath(value).is_absolute() else value
        return json.dumps(value, ensure_ascii=False, default=str)

    absent = object()
    differing = [name for name in {**a, **b} if a.get(name, absent) != b.get(name, absent)]
    return [[name, shown(a, name), shown(b, name)] for name in differing]


def _labels(sides: Sequence[Side], both: Sequence[str]) -> list[str]:
    """Names of folders; where they are the same, as they were asked for; else with a letter."""
    for labels in ([side.label for side in sides], list(both)):
        if labels[0] != labels[1] and all(labels):
            return labels
    return [f"{side.label} ({letter})" for side, letter in zip(sides, "AB", strict=True)]


def _check_target(out: Path, *, force: bool) -> None:
    if not (out.exists() or out.is_symlink()):
        return
    if not force:
        raise StageError(f"--out {out}: is there already; name another one, or --force replaces it")
    if out.is_symlink() or not (out / RECORD).is_file():
        raise StageError(f"--out {out}: is nothing of `dff beside`, --force leaves it alone")


def _same_photographs(sides: Sequence[Side], work: Path) -> dict[Path, Path]:
    """Folders of photographs made in the same way, of B and of A: one name is one content there."""
    made = [read_attrs(side.report) or {} for side in sides]
    same = [name for name in PHOTOGRAPHS if made[0].get(name) == made[1].get(name) is not None]
    return {work / FOLDERS[1] / name: work / FOLDERS[0] / name for name in same}


def _link_report(report: Path, folder: Path, same: Mapping[Path, Path]) -> None:
    """All of a report in another folder; what lies in that of the other report already is it."""
    for place, _, files in os.walk(report):
        inside = folder / Path(place).relative_to(report)
        inside.mkdir(parents=True, exist_ok=True)
        for name in files:
            source = Path(place) / name
            if inside in same and (same[inside] / name).exists():
                source = same[inside] / name
            _link(source.resolve(), inside / name)  # DVC may have put links there


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError as error:  # another disk, or a file system without them
        if not source.exists():
            raise StageError(f"{source}: is gone; is the report being made?") from error
        shutil.copyfile(source, target)


def _write_page(folder: Path) -> None:
    """The page to explore, told that there are two runs."""
    # imported here: it loads the libraries that make reports
    from stages.report.explore import copy_page

    copy_page(folder)
    page = folder / "explore.html"
    text = page.read_text(encoding="utf-8")
    runs = " ".join(f"{one}/" for one in FOLDERS)
    text, told = re.subn("<html ", f'<html data-runs="{runs}" ', text, count=1)
    text, without = re.subn("<noscript>.*?</noscript>", NO_SCRIPT, text, count=1, flags=re.DOTALL)
    assert told == without == 1, "explore.html has changed"
    (folder / "index.html").write_text(text, encoding="utf-8")
    page.unlink()
