"""What concepts mean to the network's own classes, as explain writes it.

Of the shown seed alone; per layer the small arrays of `LayerExplanation`. A layer that cannot be
explained (the weights have no classifier) has no arrays but a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stages.artifacts.declared import LayerArray
from stages.artifacts.factorizations import Factorizations
from stages.artifacts.factors import Factors
from stages.artifacts.layered import Layered, contents_of
from store import Artifact, ArtifactMissing, Staging, create_artifact
from store.artifact import layer_key, read_attrs

if TYPE_CHECKING:
    import zarr

HINTS = 3  # classes that a concept looks like, at most
NO_CLASS = -1


@dataclass(frozen=True)
class LayerExplanation:
    """What the concepts of one layer mean; `stages.algorithms.importance` says what is measured.

    - ``sampled``: of how many images of the set it is known;
    - ``classes``: numbers of the classes that are seen on most of them, padded with `NO_CLASS`;
      ``predicted``: on which share; ``logits``: the mean logit on all of them;
    - ``kept``: by problem, the share of them whose first class is the same when only what the
      concepts explain of the activations is left;
    - ``total``, ``effect``, ``gradient`` with their errors, NaN where there is no class;
    - ``insertion``, ``deletion``, ``orders``: logits after 0 to k steps, padded with NaN;
    - ``hints``: numbers of the classes whose logits are largest where the concept is alone and
      everywhere, padded with `NO_CLASS`; ``hint_logits``: these.
    """

    artifact: Artifact
    layer: str

    sampled = LayerArray(np.int64, "sets")
    classes = LayerArray(np.int64, "sets", "classes")
    predicted = LayerArray(np.float64, "sets", "classes")
    logits = LayerArray(np.float64, "sets", "classes")
    kept = LayerArray(np.float64, "sets", "problems")
    total = LayerArray(np.float64, "sets", "columns", "classes")
    total_error = LayerArray(np.float64, "sets", "columns", "classes")
    total_noise = LayerArray(np.float64, "sets", "columns", "classes")
    effect = LayerArray(np.float64, "sets", "columns", "classes")
    effect_error = LayerArray(np.float64, "sets", "columns", "classes")
    gradient = LayerArray(np.float64, "sets", "columns", "classes")
    gradient_error = LayerArray(np.float64, "sets", "columns", "classes")
    insertion = LayerArray(np.float64, "sets", "problems", "classes", "steps")
    deletion = LayerArray(np.float64, "sets", "problems", "classes", "steps")
    orders = LayerArray(np.float64, "sets", "problems", "classes", "steps")
    hints = LayerArray(np.int64, "sets", "columns", "hints")
    hint_logits = LayerArray(np.float64, "sets", "columns", "hints")


ARRAYS: tuple[LayerArray, ...] = tuple(
    one for one in vars(LayerExplanation).values() if isinstance(one, LayerArray)
)


@dataclass(frozen=True)
class Explanations(Layered):
    """What the concepts of all layers mean to the network."""

    @cached_property
    def factorizations(self) -> Factorizations:
        """Whose factors the columns are: those of the shown seed."""
        return Factorizations.of(self.artifact)

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why there is nothing, by layer; layers that are not in it have arrays."""
        return dict(self.artifact.attrs["reasons"])

    @property
    def explained(self) -> list[str]:
        """Layers of which something is known."""
        return [layer for layer in self.layers if layer not in self.reasons]

    @property
    def assumed(self) -> str:
        """Why the classes may have other names; empty where those who published weights say."""
        return str(self.artifact.attrs["assumed"])

    @cached_property
    def class_names(self) -> list[str]:
        """Of all classes of the network, by number; empty where nobody says."""
        return [str(one) for one in self.artifact.attrs["class_names"]]

    def class_name(self, number: int) -> str:
        """What a class is called."""
        return self.class_names[number] if self.class_names else f"class {number}"

    def at(self, layer: str) -> LayerExplanation:
        """What is known of one of `explained`."""
        return self._of_layers[layer]

    @cached_property
    def _of_layers(self) -> dict[str, LayerExplanation]:
        """Kept, for these keep the arrays that they have read: all sets are asked about in turn."""
        return {layer: LayerExplanation(self.artifact, layer) for layer in self.explained}

    def hints(self, layer: str, image_set: str, k: int) -> list[list[str]]:
        """Names of classes that each factor looks like to the network; none where unknown."""
        if layer not in self.explained or image_set not in self.sets:
            return [[] for _ in range(k)]
        rank = list(self.sets).index(image_set)
        found = self.at(layer).hints[rank, self.factorizations.columns_of(k)]
        # several classes may have one name
        return [
            list(dict.fromkeys(self.class_name(int(one)) for one in row if one != NO_CLASS))
            for row in found
        ]

    def classes_of(self, layer: str, image_set: str) -> list[tuple[int, str]]:
        """The classes of a set: their places in the arrays, and their names."""
        rank = list(self.sets).index(image_set)
        numbers = self.at(layer).classes[rank]
        return [(at, self.class_name(int(n))) for at, n in enumerate(numbers) if n != NO_CLASS]


def reasons_at(path: Path) -> dict[str, str]:
    """By layer of an artifact why nothing is known; empty where something is. Read without Zarr.

    Raises
    ------
    ArtifactMissing
    """
    attrs = read_attrs(path)
    if attrs is None:
        raise ArtifactMissing(f"{path}: not there yet; run `dff explain`")
    return {str(layer): str(attrs["reasons"].get(layer, "")) for layer in attrs["layers"]}


def create_explanations(
    work: Staging,
    factors: Factors,
    sets: Mapping[str, Sequence[int]],
    reasons: Mapping[str, str],
    class_names: Sequence[str],
    assumed: str,
) -> dict[str, zarr.Group]:
    """Begin the artifact, or go on with it; the group of each layer that is explained."""
    of = factors.factorizations
    group = create_artifact(
        work.path,
        owner=work,
        stage="explain",
        fingerprint=work.fingerprint,
        layers=factors.layers,
        images=factors.images,
        contents=contents_of(factors.artifact),
        sets=sets,
        **Factorizations.every(of.ks, [of.shown_seed]).attrs,
        reasons=dict(reasons),
        class_names=list(class_names),
        assumed=assumed,
    )
    return {
        layer: group.require_group(layer_key(layer))
        for layer in factors.layers
        if layer not in reasons
    }
