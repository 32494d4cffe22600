"""What concepts mean to the network, as tables: a row a concept and class, a row a step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.artifacts.explanations import Explanations, LayerExplanation

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ("total", "total_error", "total_noise", "effect", "effect_error",
            "gradient", "gradient_error")  # fmt: skip
CURVES = ("insertion", "deletion", "orders")
OF = ("layer", "set", "k", "seed")
CONCEPT = (*OF, "factor", "looks_like", "class", "class_number", "images", "seen_on", "logit",
           "kept", *MEASURES)  # fmt: skip
STEP = (*OF, "class", "class_number", "step", *CURVES)


def importance_table(of: Explanations) -> pd.DataFrame:
    """A row for each layer, set, k, factor and class; what it has is in docs/explain.md."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for found, at, shared in _classes(of):
        hints = of.hints(shared["layer"], shared["set"], shared["k"])
        shared |= {
            "images": int(found.sampled[at.rank]),
            "seen_on": float(found.predicted[at.rank, at.place]),
            "logit": float(found.logits[at.rank, at.place]),
            "kept": float(found.kept[at.rank, at.problem]),
        }
        for j, column in enumerate(of.factorizations.columns_of(shared["k"], shared["seed"])):
            measured = {
                one: float(getattr(found, one)[at.rank, column, at.place]) for one in MEASURES
            }
            rows.append({**shared, "factor": j, "looks_like": ", ".join(hints[j]), **measured})
    return pd.DataFrame(rows, columns=list(CONCEPT))


def curves_table(of: Explanations) -> pd.DataFrame:
    """A row for each layer, set, k, class and number of concepts added, or taken away."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for found, at, shared in _classes(of):
        curves = {one: getattr(found, one)[at.rank, at.problem, at.place] for one in CURVES}
        rows += [
            {**shared, "step": step, **{one: float(curve[step]) for one, curve in curves.items()}}
            for step in range(shared["k"] + 1)
        ]
    return pd.DataFrame(rows, columns=list(STEP))


class _Place(NamedTuple):
    """Of a set's class and a factorization among the arrays."""

    rank: int
    problem: int
    place: int


def _classes(of: Explanations) -> Iterator[tuple[LayerExplanation, _Place, dict[str, Any]]]:
    """Every class of every set under every factorization, and what its rows begin with."""
    for layer in of.explained:
        found = of.at(layer)
        for rank, name in enumerate(of.sets):
            for problem, (k, seed) in enumerate(of.factorizations.problems):
                for place, called in of.classes_of(layer, name):
                    number = int(found.classes[rank, place])
                    named = {"class": called, "class_number": number}
                    shared = {"layer": layer, "set": name, "k": k, "seed": seed, **named}
                    yield found, _Place(rank, problem, place), shared
