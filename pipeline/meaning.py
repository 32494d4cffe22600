"""What concepts mean to the network, for `Results` and `dff show`."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.registry import BY_NAME
from stages.artifacts.explained_tables import curves_table, importance_table
from stages.artifacts.explanations import Explanations, reasons_at

__all__ = ["Explanations", "Meaning", "meaning_lines"]

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Meaning:
    """The part of `Results` that explain has made.

    Attributes
    ----------
    explained : Explanations
    """

    explained: Explanations

    def importance(self) -> "pd.DataFrame":
        """What concepts mean to the network's classes; a row per layer, set, k, factor and class.

        ``total`` is the total Sobol index, ``effect`` how many logits the concept adds, each with
        its standard error; see docs/explain.md. Empty where the network has no classifier:
        `unexplained` says why.
        """
        return importance_table(self.explained)

    def importance_curves(self) -> "pd.DataFrame":
        """Logits while concepts are added and taken away; a row per set, k, class and step."""
        return curves_table(self.explained)

    def hints(self, set: str, k: int, *, layer: str | None = None) -> list[list[str]]:
        """Classes that each factor looks like to the network: hints at names, no names.

        Empty lists where the network has no classifier.
        """
        chosen = self.explained.layers[0] if layer is None else layer
        return self.explained.hints(chosen, set, k)

    @property
    def unexplained(self) -> Mapping[str, str]:
        """By layer why nothing is known of what its concepts mean."""
        return self.explained.reasons


def meaning_lines(project: Path) -> list[str]:
    """For `dff show`: a line per set about the largest k; none where nothing is known, of which
    the stage has told the reason."""
    path = project / BY_NAME["explain"].writes
    if all(reasons_at(path).values()):
        return []
    of = Explanations.open(path)
    return [_line(of, layer, name) for layer in of.explained for name in of.sets]


def _line(of: Explanations, layer: str, name: str) -> str:
    """The first class of a set, what each factor is to it, and what it looks like."""
    k, found, rank = max(of.factorizations.ks), of.at(layer), list(of.sets).index(name)
    columns = of.factorizations.columns_of(k)
    place, called = of.classes_of(layer, name)[0]
    totals, errors = found.total[rank, columns, place], found.total_error[rank, columns, place]
    shares = [
        f"{j}: {100 * totals[j]:.0f}" + ("" if isnan(errors[j]) else f" ± {100 * errors[j]:.0f}")
        for j in sorted(range(k), key=lambda j: -totals[j])
    ]
    looks = [f"{j} {one[0]}" for j, one in enumerate(of.hints(layer, name, k)) if one]
    seen = f"{100 * found.predicted[rank, place]:.0f} % of {found.sampled[rank]} images"
    return (
        f"the network on {name}, {layer}, k = {k}: {called} first on {seen}; factors' importance "
        f"for it, %: {', '.join(shares)}; they look like: {', '.join(looks)}"
    )
