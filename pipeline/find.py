"""`dff find`: the images of a set that show a concept, strongest first."""

from collections.abc import Sequence

import pandas as pd

from stages.artifacts.evaluation import Evaluation
from stages.artifacts.tables import read_table
from stages.frame.errors import StageError
from stages.frame.params import suggestion


def find_images(
    evaluation: Evaluation, image_set: str, concept: str, k: int, layer: str, seed: int
) -> "pd.Series[float]":
    """Mean share of a concept by image name, strongest first; images without it are left out.

    Parameters
    ----------
    concept : str
        A name of labels.yaml, or a factor's number, 0 for the strongest. Of several factors of one
        name the largest share counts; a factor of several names is found by each of them.
    k : int
        0 for the largest that has the concept.

    Raises
    ------
    StageError
        When no factor of the set is called so.
    """
    table = read_table(
        evaluation.folder / Evaluation.concepts.file,
        columns=["image", "k", "factor", "name", "mean"],
        filters=[
            ("set", "==", image_set),
            ("layer", "==", layer),
            ("seed", "==", seed),
            *([("k", "==", k)] if k else []),
        ],
    )
    chosen = _chosen(table, concept)
    if chosen.empty:
        names = sorted({name for name in table["name"] if name})
        known = suggestion(concept, names) if names else "nothing has a name yet (`dff label`)"
        raise StageError(
            f"--concept {concept}: {image_set} has no such concept"
            f"{f' with k = {k}' if k else ''}; {known}; a number means a factor, 0 the strongest"
        )
    chosen = chosen[chosen["k"] == chosen["k"].max()]
    found = chosen.groupby("image", sort=False)["mean"].max()
    return found[found > 0].sort_values(ascending=False, kind="stable")


def _chosen(table: pd.DataFrame, concept: str) -> pd.DataFrame:
    """Rows of the factors of a name, or else of a number."""
    named = table[[concept in (text, *text.split(" + ")) for text in table["name"]]]
    if len(named) or not concept.isdecimal():
        return named
    return table[table["factor"] == int(concept)]


def known_name(what: str, value: str, known: Sequence[str]) -> str:
    """The value, if it is one of the known ones.

    Raises
    ------
    StageError
    """
    if value not in known:
        raise StageError(f"{what} {value}: not there; {suggestion(value, known)}")
    return value
