"""What the page to explore says of what concepts mean to the network: plain values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.explanations import Explanations
from stages.report.opened import Opened

DIGITS = 4


def reasons_of_run(opened: Opened) -> dict[str, Any]:
    """By layer why nothing is known, empty where something is; and why classes may be others."""
    of = opened.explained
    reasons = [of.reasons.get(layer, "") for layer in opened.factors.layers]
    return {"reasons": reasons, "assumed": of.assumed}


def meaning_of(of: Explanations, layer: str, name: str, k: int) -> dict[str, Any] | None:
    """Of one factorization of an image set; None where nothing is known."""
    if layer not in of.explained:
        return None
    found, rank = of.at(layer), list(of.sets).index(name)
    seed = of.factorizations.shown_seed
    columns, problem = of.factorizations.columns_of(k), of.factorizations.problems.index((k, seed))

    def listed(values: NDArray[np.float64]) -> list[float | None]:
        return [None if one != one else round(float(one), DIGITS) for one in values]

    return {
        "images": int(found.sampled[rank]),
        "kept": round(float(found.kept[rank, problem]), DIGITS),
        "hints": of.hints(layer, name, k),
        "classes": [
            {
                "name": called,
                "share": round(float(found.predicted[rank, at]), DIGITS),
                "total": listed(found.total[rank, columns, at]),
                "error": listed(found.total_error[rank, columns, at]),
                "noise": listed(found.total_noise[rank, columns, at]),
                "effect": listed(found.effect[rank, columns, at]),
                "effectError": listed(found.effect_error[rank, columns, at]),
                "gradient": listed(found.gradient[rank, columns, at]),
                "insertion": listed(found.insertion[rank, problem, at, : k + 1]),
                "deletion": listed(found.deletion[rank, problem, at, : k + 1]),
                "orders": listed(found.orders[rank, problem, at, : k + 1]),
            }
            for at, called in of.classes_of(layer, name)
        ],
    }
