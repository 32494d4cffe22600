"""What concepts mean to the network, for `Results` and `dff show`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from pipeline.registry import BY_NAME
from stages.artifacts.explained_tables import curves_table, importance_table
from stages.artifacts.explanations import Explanations, LayerExplanation, reasons_at

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


def meaning_lines(project: Path) -> tuple[list[str], Table | None]:
    """Why nothing is known, and a table of what is known of the largest k; for `dff show`."""
    path = project / BY_NAME["explain"].writes
    reasons = reasons_at(path)
    told = [
        f"{layer}: what the concepts mean to the network is not known: {reason}"
        for layer, reason in reasons.items()
        if reason
    ]
    return told, None if all(reasons.values()) else _table(Explanations.open(path))


def _table(of: Explanations) -> Table:
    k = max(of.factorizations.ks)
    heads = ("layer", "set", "class (first on)", f"importance of factors, k = {k}", "looks like")
    table = Table(*heads, box=None)
    table.title = "what the concepts mean to the network"
    for layer in of.explained:
        for name in of.sets:
            hints = [one[0] if one else "–" for one in of.hints(layer, name, k)]
            for row, (place, called) in enumerate(of.classes_of(layer, name)):
                found = of.at(layer)
                seen = found.predicted[list(of.sets).index(name), place]
                looks = ", ".join(f"{j} {hint}" for j, hint in enumerate(hints)) if not row else ""
                cells = _cells(of, found, name, k, place)
                table.add_row(layer, name, f"{called} ({100 * seen:.0f} %)", cells, looks)
    return table


def _cells(of: Explanations, found: LayerExplanation, name: str, k: int, place: int) -> str:
    """Each factor's share with its error, the most important first."""
    rank, columns = list(of.sets).index(name), of.factorizations.columns_of(k)
    totals, errors = found.total[rank, columns, place], found.total_error[rank, columns, place]
    order = sorted(range(k), key=lambda j: -totals[j])
    return ", ".join(
        f"{j}: {totals[j]:.2f}" + (f" ± {errors[j]:.2f}" if errors[j] == errors[j] else "")
        for j in order
    )
