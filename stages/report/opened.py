"""What the report reads: the artifacts of the earlier stages, open."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import pandas as pd

from stages.artifacts.image_index import ImageIndex
from stages.artifacts.tables import read_table
from stages.frame.stage import Inputs
from store import Artifact, open_artifact
from store.artifact import read_attrs

DIGEST_SHOWN = 12
NUMBERS = ("stability", "silhouette", "seed_cosine")  # of choice.csv; empty where not measured


@dataclass(frozen=True)
class Opened:
    """The inputs of one report.

    Attributes
    ----------
    network : dict
        Attributes of the activations' artifact.
    scores, coverage, labels, foreground, losses, quality, figure4, choice, links : DataFrame
        As the evaluate stage wrote them.
    exclude : str
        Which images VOC's image sets leave out; empty for other collections.
    damaged : dict of image name to reason
        Annotations that could not be read.
    """

    index: ImageIndex
    factors: Artifact
    heatmaps: Artifact
    refined: Artifact
    network: dict[str, Any]
    scores: pd.DataFrame
    coverage: pd.DataFrame
    labels: pd.DataFrame
    foreground: pd.DataFrame
    losses: pd.DataFrame
    quality: pd.DataFrame
    figure4: pd.DataFrame
    choice: pd.DataFrame
    links: pd.DataFrame
    damaged: dict[str, str]
    exclude: str

    @classmethod
    def open(cls, inputs: Inputs) -> "Opened":
        """Open the inputs of the stage."""
        evaluation = inputs["evaluate"]
        text = {"layer": str, "set": str, "maps": str}
        record = read_attrs(evaluation) or {}
        factors = open_artifact(inputs["factorize"])
        index = ImageIndex.open(inputs["index"], inputs.project, factors)
        return cls(
            index=index,
            factors=factors,
            heatmaps=open_artifact(inputs["heatmaps"]),
            refined=open_artifact(inputs["refine"]),
            network=open_artifact(inputs["extract"]).attrs,
            scores=read_table(evaluation / "scores.parquet"),
            coverage=read_table(evaluation / "coverage.parquet"),
            losses=read_table(evaluation / "loss.csv", dtype=text, keep_default_na=False),
            labels=read_table(evaluation / "labels.parquet"),
            foreground=read_table(evaluation / "foreground.parquet"),
            quality=read_table(
                evaluation / "quality.csv", dtype=text, keep_default_na=False, na_values=""
            ),
            figure4=read_table(evaluation / "figure4.csv", dtype=text, keep_default_na=False),
            choice=read_table(
                evaluation / "choice.csv",
                dtype=text | {"reason": str},
                keep_default_na=False,
                na_values={name: [""] for name in NUMBERS},
            ),
            links=read_table(evaluation / "links.csv", dtype=text, keep_default_na=False),
            damaged=dict(record["damaged_annotations"]),
            exclude=str(record["exclude"]),
        )

    @property
    def ks(self) -> list[int]:
        """Numbers of factors, ascending."""
        return sorted({int(k) for k, _ in self.factors.attrs["problems"]})

    @property
    def seeds(self) -> list[int]:
        """Seeds in the order of the params; pictures show the first."""
        return list(dict.fromkeys(int(seed) for _, seed in self.factors.attrs["problems"]))

    def by_shape(self, layer: str) -> pd.DataFrame:
        """Rows of `foreground` of the factors that shape speaks for, of the first seed."""
        table = self.foreground
        shaped = (table["rule"] == "shape") & (table["seed"] == self.seeds[0])
        return table[shaped & (table["layer"] == layer)]

    def facts(self) -> list[tuple[str, str]]:
        """What the page's header lists: (label, value)."""
        weights = PurePath(str(self.network["weights"])).name
        digest = str(self.network["weights_digest"])[:DIGEST_SHOWN]
        size = f"{self.network['size']} px, {str(self.network['resize']).replace('_', ' ')}"
        facts = [
            ("Network", str(self.network["backbone"])),
            ("Weights", f"{weights} (SHA-256 {digest}…)"),
            ("Input", size),
        ]
        layers = self.factors.layers
        facts.append(("Layer" if len(layers) == 1 else "Layers", ", ".join(layers)))
        facts.append(("Images", f"{len(self.index.images):,}"))
        facts.append(("Image sets", f"{len(self.factors.sets):,}"))
        facts.append(("Factors k", ", ".join(map(str, self.ks))))
        first, *others = map(str, self.seeds)
        if others:
            facts.append(("Seeds", f"{', '.join((first, *others))} (pictures: {first})"))
        else:
            facts.append(("Seed", first))
        facts.append(("Solver", str(self.factors.attrs["solver"])))
        facts.append(("Refinement", str(self.refined.attrs["method"])))
        return facts
