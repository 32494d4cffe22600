"""What concepts mean to the network, as tables: a row a concept and class, a row a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.artifacts.explanations import Explanations

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
    for layer in of.explained:
        found = of.at(layer)
        for rank, name in enumerate(of.sets):
            for at, (k, seed) in enumerate(of.factorizations.problems):
                hints = of.hints(layer, name, k)
                for place, called in of.classes_of(layer, name):
                    shared = {
                        **{"layer": layer, "set": name, "k": k, "seed": seed, "class": called},
                        "class_number": int(found.classes[rank, place]),
                        "images": int(found.sampled[rank]),
                        "seen_on": float(found.predicted[rank, place]),
                        "logit": float(found.logits[rank, place]),
                        "kept": float(found.kept[rank, at]),
                    }
                    for j, column in enumerate(of.factorizations.columns_of(k, seed)):
                        measured = {
                            one: float(getattr(found, one)[rank, column, place]) for one in MEASURES
                        }
                        looks = ", ".join(hints[j])
                        rows.append({**shared, "factor": j, "looks_like": looks, **measured})
    return pd.DataFrame(rows, columns=list(CONCEPT))


def curves_table(of: Explanations) -> pd.DataFrame:
    """A row for each layer, set, k, class and number of concepts added, or taken away."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for layer in of.explained:
        found = of.at(layer)
        for rank, name in enumerate(of.sets):
            for at, (k, seed) in enumerate(of.factorizations.problems):
                for place, called in of.classes_of(layer, name):
                    number = int(found.classes[rank, place])
                    shared = {"layer": layer, "set": name, "k": k, "seed": seed, "class": called}
                    rows += [
                        {
                            **shared,
                            "class_number": number,
                            "step": step,
                            **{
                                one: float(getattr(found, one)[rank, at, place, step])
                                for one in CURVES
                            },
                        }
                        for step in range(k + 1)
                    ]
    return pd.DataFrame(rows, columns=list(STEP))
