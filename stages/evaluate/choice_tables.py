"""Tables that help to choose k: how reproducible each k is, and what splits into what."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.artifacts.evaluation import Evaluation
from stages.artifacts.factors import Factors
from stages.naming.names import FactorNames


def choice_table(factors: Factors, losses: pd.DataFrame) -> pd.DataFrame:
    """One row per layer, set and k.

    Parameters
    ----------
    factors : Factors
    losses : DataFrame
        With the columns layer, set, k, seed and relative_error, the last of each being final.

    Returns
    -------
    DataFrame
        ``relative_error`` is the mean over the seeds; ``stability`` and ``silhouette`` compare
        runs on halves of a row sample (NaN where none were asked for), ``seed_cosine`` the seeds'
        own factors (NaN for one seed); ``held_out`` is the error of entries that are foretold from
        others, ``explained`` the share of the energy ``||A||^2``; ``nonzero`` and ``hoyer`` say how
        sparse coefficients are, ``dead``, ``duplicates`` and ``coherence`` how far factors are
        apart (`stages.algorithms.nmf.usage`): means over the seeds. ``suggested`` marks one k, with
        the ``reason``; where none is suggested, all have the reason.
    """
    # imported here: `dff --help` and the other stages need no compiled passes
    from stages.algorithms.nmf.choice import mean_cosine, suggest_k
    from stages.algorithms.nmf.usage import Apart, apart

    final = losses.groupby(["layer", "set", "k", "seed"], as_index=False).last()
    errors = final.groupby(["layer", "set", "k"])["relative_error"].mean()
    of = factors.factorizations
    rows: list[dict[str, Any]] = []
    for layer in factors.layers:
        at = factors.at(layer)
        measured, W = at.stability, at.W
        for rank, name in enumerate(factors.sets):
            stable = measured[rank, :, 0]
            known = np.isfinite(stable).all()
            images = len(factors.sets[name])
            chosen, reason = suggest_k(of.ks, stable.tolist(), images) if known else (None, "")
            for i, k in enumerate(of.ks):
                runs = [W[rank, of.columns_of(k, seed)] for seed in of.seeds]
                every = [c for seed in of.seeds for c in of.columns_of(k, seed)]
                between = np.mean([apart(run) for run in runs], axis=0)
                error = errors[layer, name, k]
                rows.append(
                    {
                        "layer": layer,
                        "set": name,
                        "k": k,
                        "relative_error": error,
                        "stability": stable[i],
                        "silhouette": measured[rank, i, 1],
                        "seed_cosine": mean_cosine(runs) if len(runs) > 1 else np.nan,
                        "held_out": at.held_out[rank, i],
                        "explained": 1 - error**2,
                        "nonzero": at.nonzero[rank, every].mean(),
                        "hoyer": _known_mean(at.hoyer[rank, every]),
                        **dict(zip(Apart._fields, between.tolist(), strict=True)),
                        "suggested": k == chosen,
                        "reason": reason if chosen in (k, None) else "",
                    }
                )
    return Evaluation.choice.frame(rows)


def _known_mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def factor_table(factors: Factors, names: FactorNames) -> pd.DataFrame:
    """One row per factor.

    ``energy`` is its share of that of all factors of its k and seed; ``stability`` how far it is
    reproducible: its mean cosine with its counterparts in runs on halves of a row sample (NaN where
    none were asked for); ``nonzero`` and ``hoyer`` how sparse its coefficients are.
    """
    of, rows = factors.factorizations, []
    for layer in factors.layers:
        at = factors.at(layer)
        for rank, name in enumerate(factors.sets):
            for k, seed in of.problems:
                texts, mine = names.texts(layer, name, k, seed), of.columns_of(k, seed)
                total = at.energy[rank, mine].sum()
                for factor, column in enumerate(mine):
                    energy = at.energy[rank, column] / total if total > 0 else 0.0
                    measured = (at.factor_stability, at.nonzero, at.hoyer)
                    found = (float(one[rank, column]) for one in measured)
                    rows.append((layer, name, k, seed, factor, texts[factor], energy, *found))
    return Evaluation.factors.frame(rows)


def link_table(factors: Factors) -> pd.DataFrame:
    """One row per factor that has a parent: the factor of the next smaller k it is most like.

    ``cosine`` compares the coefficients of the two over all rows of the set.
    """
    columns = factors.factorizations.columns
    rows = []
    for layer in factors.layers:
        parents, cosines = factors.at(layer).parent, factors.at(layer).parent_cosine
        for rank, name in enumerate(factors.sets):
            for column, (k, seed, factor) in enumerate(columns):
                parent = int(parents[rank, column])
                if parent >= 0:
                    parent_k, _, parent_factor = columns[parent]
                    of_both = (k, factor, parent_k, parent_factor, float(cosines[rank, column]))
                    rows.append((layer, name, seed, *of_both))
    return Evaluation.links.frame(rows)
