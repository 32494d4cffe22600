"""What the report reads: the artifacts of the earlier stages, open."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.artifacts.activations import OWN, Activations, NetworkFacts, pixels_seen
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.evaluation import MEASURED, Evaluation
from stages.artifacts.explanations import Explanations
from stages.artifacts.factors import Factors, LayerFactors
from stages.artifacts.image_index import ImageIndex
from stages.frame.stage import Inputs
from stages.naming.names import FactorNames

DIGEST_SHOWN = 12


@dataclass(frozen=True)
class Opened:
    """The inputs of one report.

    Attributes
    ----------
    network : NetworkFacts
        What decided the activations.
    heatmaps, refined : dict of layer to ConceptMaps
    """

    index: ImageIndex
    network: NetworkFacts
    factors: Factors
    heatmaps: dict[str, ConceptMaps]
    refined: dict[str, ConceptMaps]
    evaluation: Evaluation
    explained: Explanations
    _rows: dict[str, "_Rows"] = field(default_factory=dict)

    @classmethod
    def open(cls, inputs: Inputs) -> "Opened":
        """Open the inputs of the stage."""
        factors = Factors.open(inputs["factorize"])
        return cls(
            index=ImageIndex.open(inputs["index"], inputs.project, factors.artifact),
            network=Activations.open(inputs["extract"]).network,
            factors=factors,
            heatmaps=ConceptMaps.open(inputs["heatmaps"], inputs["evaluate"] / MEASURED),
            refined=ConceptMaps.open(inputs["refine"]),
            evaluation=Evaluation.open(inputs["evaluate"]),
            explained=Explanations.open(inputs["explain"]),
        )

    @cached_property
    def images(self) -> Sequence[str]:
        """Image names by image id."""
        return self.factors.images

    @cached_property
    def ranks(self) -> dict[str, int]:
        """Each image set's place among all."""
        return {name: rank for rank, name in enumerate(self.factors.sets)}

    def rows(self, table: str, layer: str, name: str) -> list[dict[Any, Any]]:
        """Rows of one image set at one layer, of a table of the evaluation.

        Each table is gone through once: looking for a set's rows in it takes as long as it is. Of
        very many sets all rows as dictionaries would take gigabytes: they are made when asked for.
        """
        if table not in self._rows:
            self._rows[table] = _Rows.of(getattr(self.evaluation, table))
        return self._rows[table].of_set(layer, name)

    @cached_property
    def names(self) -> FactorNames:
        """What the factors are called."""
        return FactorNames.from_record(self.evaluation.names)

    @property
    def layer(self) -> str:
        """The first layer, which stands for all where one must."""
        return self.factors.layers[0]

    @property
    def by_layer(self) -> list[LayerFactors]:
        """The factors of each layer."""
        return [self.factors.at(layer) for layer in self.factors.layers]

    @property
    def ks(self) -> list[int]:
        """Numbers of factors, ascending."""
        return sorted(self.factors.factorizations.ks)

    @property
    def seeds(self) -> list[int]:
        """Seeds in the order of the params."""
        return self.factors.factorizations.seeds

    @property
    def seed(self) -> int:
        """The seed that pictures and tables of single factors show."""
        return self.factors.factorizations.shown_seed

    def facts(self) -> list[tuple[str, str]]:
        """What the page's header lists: (label, value)."""
        weights = PurePath(str(self.network["weights"])).name
        digest = str(self.network["weights_digest"])[:DIGEST_SHOWN]
        size = f"{pixels_seen(self.network)}, {str(self.network['resize']).replace('_', ' ')}"
        facts = [
            ("Network", str(self.network["backbone"])),
            ("Weights", f"{weights} (SHA-256 {digest}…)"),
        ]
        if self.network["backbone"] != OWN:  # of others' activations we do not know
            facts.append(("Input", size))
        layers = self.factors.layers
        facts.append(("Layer" if len(layers) == 1 else "Layers", ", ".join(layers)))
        facts.append(("Images", f"{len(self.index.images):,}"))
        facts.append(("Image sets", f"{len(self.factors.own_sets):,}"))
        if self.factors.within:
            facts.append(("Divided further", ", ".join(self.factors.within)))
        facts.append(("Factors k", ", ".join(map(str, self.ks))))
        if len(self.seeds) > 1:
            facts.append(("Seeds", f"{', '.join(map(str, self.seeds))} (pictures: {self.seed})"))
        else:
            facts.append(("Seed", str(self.seed)))
        facts.append(("Solver", self.factors.solver))
        facts.append(("Refinement", self.refined[self.layer].facts["method"]))
        return facts


@dataclass(frozen=True)
class _Rows:
    """A table's columns, and where in them each image set's rows are at each layer."""

    columns: dict[str, NDArray[Any]]
    places: dict[Any, NDArray[np.intp]]

    @classmethod
    def of(cls, table: pd.DataFrame) -> "_Rows":
        columns = {str(name): table[name].to_numpy() for name in table}
        places = table.groupby(["layer", "set"], observed=True, sort=False).indices
        return cls(columns, {key: np.asarray(rows) for key, rows in places.items()})

    def of_set(self, layer: str, name: str) -> list[dict[Any, Any]]:
        places = self.places.get((layer, name))
        if places is None:
            return []
        values = (column[places].tolist() for column in self.columns.values())
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*values, strict=True)]
