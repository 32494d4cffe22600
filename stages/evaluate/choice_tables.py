"""Tables that help to choose k: how reproducible each k is, and what splits into what."""

from typing import Any

import numpy as np
import pandas as pd

from store import Artifact

CHOICE_COLUMNS = [
    "layer", "set", "k", "relative_error", "stability", "silhouette", "seed_cosine", "suggested",
    "reason",
]  # fmt: skip
LINK_COLUMNS = ["layer", "set", "seed", "k", "factor", "parent_k", "parent_factor", "cosine"]


def choice_table(factors: Artifact, losses: pd.DataFrame) -> pd.DataFrame:
    """One row per layer, set and k.

    Parameters
    ----------
    factors : Artifact
        Of the factorize stage.
    losses : DataFrame
        With the columns layer, set, k, seed and relative_error, the last of each being final.

    Returns
    -------
    DataFrame
        ``relative_error`` is the mean over the seeds; ``stability`` and ``silhouette`` compare
        runs on halves of a row sample (NaN where none were asked for), ``seed_cosine`` the seeds'
        own factors (NaN for one seed); ``suggested`` marks one k, with the ``reason``.
    """
    # imported here: `dff --help` and the other stages need no compiled passes
    from stages.algorithms.nmf.choice import mean_cosine, suggest_k

    final = losses.groupby(["layer", "set", "k", "seed"], as_index=False).last()
    errors = final.groupby(["layer", "set", "k"])["relative_error"].mean()
    ks = [int(k) for k in factors.attrs["ks"]]
    columns = [tuple(column) for column in factors.attrs["columns"]]
    rows: list[dict[str, Any]] = []
    for layer in factors.layers:
        measured = factors.layer_array(layer, "stability")  # [sets, ks, 2]
        W = factors.layer_array(layer, "factors")  # [sets, columns, channels]
        for rank, name in enumerate(factors.sets):
            known = np.isfinite(measured[rank, :, 0]).all()
            chosen, reason = suggest_k(ks, measured[rank, :, 0].tolist()) if known else (None, "")
            for i, k in enumerate(ks):
                seeds = dict.fromkeys(seed for of, seed, _ in columns if of == k)
                runs = [
                    W[rank, [c for c, column in enumerate(columns) if column[:2] == (k, seed)]]
                    for seed in seeds
                ]
                rows.append(
                    {
                        "layer": layer,
                        "set": name,
                        "k": k,
                        "relative_error": errors[layer, name, k],
                        "stability": measured[rank, i, 0],
                        "silhouette": measured[rank, i, 1],
                        "seed_cosine": mean_cosine(runs) if len(runs) > 1 else np.nan,
                        "suggested": k == chosen,
                        "reason": reason if k == chosen else "",
                    }
                )
    return pd.DataFrame(rows, columns=CHOICE_COLUMNS)


def link_table(factors: Artifact) -> pd.DataFrame:
    """One row per factor that has a parent: the factor of the next smaller k it is most like.

    ``cosine`` compares the coefficients of the two over all rows of the set.
    """
    columns = [tuple(column) for column in factors.attrs["columns"]]
    rows = []
    for layer in factors.layers:
        parents = factors.layer_array(layer, "parent")
        cosines = factors.layer_array(layer, "parent_cosine")
        for rank, name in enumerate(factors.sets):
            for column, (k, seed, factor) in enumerate(columns):
                parent = int(parents[rank, column])
                if parent >= 0:
                    of = columns[parent]
                    cosine = float(cosines[rank, column])
                    rows.append((layer, name, seed, k, factor, of[0], of[2], cosine))
    return pd.DataFrame(rows, columns=LINK_COLUMNS)
