"""What index says on standard error: what was left out, and where annotations are missing."""

from collections import Counter
from collections.abc import Iterable, Sequence

from stages.datasets import LeftOut
from stages.datasets.assignment import NO_IMAGE_OF_IT
from stages.datasets.listing import counted, printable
from stages.frame.progress import note

SHOWN = 3


def tell(
    left_out: Sequence[LeftOut], failed: int, annotated: Iterable[tuple[tuple[str, ...], bool]]
) -> None:
    """Write a line for each kind of what is not used; nothing where all is.

    Parameters
    ----------
    failed : int
        Images that cannot be read.
    annotated : iterable of (image sets, whether the image has an annotation)
    """
    if failed:
        note(f"index: {plural(failed, 'image')} cannot be read; the report names them")
    if files := [one for one in left_out if one.kind == "file"]:
        note(f"index: {plural(len(files), 'file')} left out: {counted(files)}")
    annotations = [one for one in left_out if one.kind == "annotation"]
    lost = [one.name for one in annotations if one.reason == NO_IMAGE_OF_IT]
    if lost:
        verb = "belongs" if len(lost) == 1 else "belong"
        note(f"index: {plural(len(lost), 'annotation')} {verb} to no image: {_some(lost)}")
    others = [f"{one.name} {one.reason}" for one in annotations if one.reason != NO_IMAGE_OF_IT]
    if others:
        note(f"index: {plural(len(others), 'annotation')} not used: {_some(others, '; ')}")
    _tell_gaps(annotated)


def _tell_gaps(annotated: Iterable[tuple[tuple[str, ...], bool]]) -> None:
    """Sets of which some images are annotated and others are not."""
    total, having = Counter[str](), Counter[str]()
    for sets, has in annotated:
        total.update(sets)
        having.update(sets if has else ())
    gaps = [f"{name} {having[name]}/{total[name]}" for name in sorted(total)]
    if any(0 < having[name] < total[name] for name in total):
        note(f"index: images with an annotation: {_some(gaps)}")


def _some(names: Sequence[str], between: str = ", ") -> str:
    more = [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return printable(between.join([*names[:SHOWN], *more]))


def plural(count: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
