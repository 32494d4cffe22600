"""`dff factorize --within`: params.yaml says which factors are divided further."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.params import PARAMS, ParamsError, read_params
from pipeline.pin import with_value
from pipeline.registry import BY_NAME
from stages.artifacts.within import Within, resolved
from stages.frame.progress import note
from store import write_atomically
from store.artifact import read_attrs

NONE = "none"


def divide(project: Path, asked: Sequence[str], ks: Sequence[int]) -> None:
    """Write the factors, and the k that are missing, into a project's params.yaml.

    Parameters
    ----------
    asked : sequence of str
        Each ``SET/K/FACTOR``, to be divided besides those that are; ``none`` alone: none any more.
    ks : sequence of int
        Into how many; each is added to factorize.k, where all image sets are factorized with it.

    Raises
    ------
    ParamsError, StageError
        For what is no factor, or of no image set of the project's index; params.yaml stays as it
        is.
    """
    params = read_params(project)["factorize"]
    if NONE in asked and (len(asked) > 1 or ks):
        raise ParamsError("--within none: takes all of them away; give nothing else with it")
    within = () if NONE in asked else tuple(dict.fromkeys([*params.within, *asked]))
    every = tuple(dict.fromkeys([*params.k, *ks]))
    _check(project, within, every)
    path = project / PARAMS
    text = path.read_text(encoding="utf-8")
    changed = with_value(text, "factorize", "within", list(within))
    if every != params.k:
        changed = with_value(changed, "factorize", "k", list(every))
        added = ", ".join(str(k) for k in every if k not in params.k)
        note(f"{PARAMS}: factorize.k: {added} added, for all image sets")
    if changed != text:
        write_atomically(path, changed.encode())
        note(f"{PARAMS}: factorize.within: {', '.join(within) or 'none'}")


def _check(project: Path, within: Sequence[str], ks: Sequence[int]) -> None:
    for text in within:
        try:
            Within.read(text)
        except ValueError as error:
            raise ParamsError(f"--within {error}") from error
    if min(ks) < 1:
        raise ParamsError(f"--k {min(ks)}: must be at least 1")
    index = read_attrs(project / BY_NAME["index"].writes)
    if index is not None:  # else the stage itself will know
        resolved(within, index["sets"], ks)
