"""Annotations that were not used, or are doubtful: their table, and what the terminal says."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.artifacts.evaluation import Evaluation
from stages.datasets.listing import printable
from stages.frame.progress import note

SHOWN = 3


def write_failures(
    folder: Path, damaged: Mapping[str, str], doubtful: Mapping[str, Sequence[str]]
) -> None:
    """Store `Evaluation.failures` and write a line for each kind on standard error.

    Parameters
    ----------
    damaged : mapping of image name to reason
        Not scored.
    doubtful : mapping of image name to reasons
        Scored all the same.
    """
    unused = [(name, reason, False) for name, reason in sorted(damaged.items())]
    doubts = [(name, one, True) for name, reasons in sorted(doubtful.items()) for one in reasons]
    Evaluation.failures.write(folder, Evaluation.failures.frame([*unused, *doubts]))
    for rows, what in ((unused, "not scored"), (doubts, "scored, but doubtful")):
        if rows:
            some = "; ".join(f"{name}: {reason}" for name, reason, _ in rows[:SHOWN])
            more = f"; {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
            noun = "annotation is" if len(rows) == 1 else "annotations are"
            note(printable(f"evaluate: {len(rows)} {noun} {what}: {some}{more}"))
