"""Factors W and coefficients H, as factorize writes them.

Per layer, all factorizations of a set lie side by side as columns (`Factorizations.columns`):

- ``maps``: ragged coefficients float32, one entry per (set, image), ``[h, w, columns]``;
- small arrays, declared in `LayerFactors`.

Where the network saw every photograph at several sizes, the coefficients of all rows are in
``scales``, ``[rows, 1, columns]`` as the activations are, and ``maps`` has what they combine to, on
the grid of the largest size (`stages.algorithms.scales`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.declared import LayerArray
from stages.artifacts.factorizations import Factorizations
from stages.artifacts.layered import Layered, contents_of
from stages.artifacts.within import Within, from_attrs, recorded, root_of
from stages.frame.sent import fields_alone
from store import Artifact, Ragged, Staging, create_artifact
from store.artifact import layer_key

if TYPE_CHECKING:
    import zarr

SCALES = "scales"


class Heat(NamedTuple):
    """What heat maps of some factors are measured by, float64 ``[.., columns]`` each; see
    `stages.artifacts.concept_maps.ConceptMaps`."""

    scale: NDArray[np.float64]
    full: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    strength: NDArray[np.float64]
    within: NDArray[np.float64]


@dataclass(frozen=True)
class LayerFactors:
    """The factors of one layer. A problem is one (k, seed) of `Factorizations.problems`.

    - ``W``: unit rows, strongest factor of each problem first;
    - ``energy``: ``||H_j||^2`` of each;
    - ``loss``: after each update, padded with NaN; ``norm``: ``||A||_F^2``;
    - ``stability``: cosine and silhouette of each of `Factorizations.ks` (see
      `stages.algorithms.nmf.choice`), NaN where it was not asked for; ``held_out``: the relative
      squared error of entries that are foretold from others (`stages.algorithms.nmf.held_out`);
    - ``factor_stability``: the same of each factor: the mean cosine with its counterparts;
    - ``nonzero`` and ``hoyer``: how sparse each factor's coefficients are
      (`stages.algorithms.nmf.usage`);
    - of sets that went on from pinned factors (`stages.artifacts.pinned`), NaN and 0 for others:
      ``held_scale`` and the other fields of `Heat`: what their heat maps go on to be measured
      by (see `stages.artifacts.concept_maps`); ``explained``: the share of ``||A||_F^2`` that each
      problem explains, of the pinned images when they were pinned and of those that are new since;
      ``carried``: of how many images the coefficients were taken over, and how many are new;
    - of several sizes: the ``largest`` coefficients of each, and the ``top`` of what they combine
      to, by which the maps were divided; of pinned factors those that were pinned;
    - ``mean``: what was taken away from each set's rows, where they were centred
      (`Factors.normalise`); not there otherwise;
    - ``parent``: the column of the next smaller k that a factor's coefficients are most like, -1
      for none, and ``parent_cosine``, how much.
    """

    artifact: Artifact
    layer: str

    W = LayerArray(np.float32, "sets", "columns", "channels", name="factors")
    mean = LayerArray(np.float32, "sets", "channels")
    energy = LayerArray(np.float64, "sets", "columns")
    norm = LayerArray(np.float64, "sets")
    loss = LayerArray(np.float64, "sets", "problems", "updates")
    passes = LayerArray(np.int64, "sets", "problems")
    converged = LayerArray(np.int64, "sets", "problems")
    reseeded = LayerArray(np.int64, "sets", "problems")
    stability = LayerArray(np.float64, "sets", "ks", "measures")
    factor_stability = LayerArray(np.float64, "sets", "columns")
    held_out = LayerArray(np.float64, "sets", "ks")
    nonzero = LayerArray(np.float64, "sets", "columns")
    hoyer = LayerArray(np.float64, "sets", "columns")
    held_scale = LayerArray(np.float64, "sets", "columns")
    held_full = LayerArray(np.float64, "sets", "columns")
    held_thresholds = LayerArray(np.float64, "sets", "columns")
    held_strength = LayerArray(np.float64, "sets", "columns")
    held_within = LayerArray(np.float64, "sets", "columns")
    explained = LayerArray(np.float64, "sets", "problems", "measures")
    carried = LayerArray(np.int64, "sets", "measures")
    largest = LayerArray(np.float64, "sets", "sizes", "columns")
    top = LayerArray(np.float64, "sets", "columns")
    parent = LayerArray(np.int64, "sets", "columns")
    parent_cosine = LayerArray(np.float64, "sets", "columns")

    def __reduce__(self) -> tuple[Any, ...]:
        return fields_alone(self)

    def tells(self, name: str) -> bool:
        """Whether there is such an array: artifacts of earlier versions have fewer."""
        return f"{layer_key(self.layer)}/{name}" in self.artifact.group

    def held(self, rank: int) -> Heat:
        """What the heat maps of a set go on to be measured by, ``[columns]`` each."""
        return Heat(*(getattr(self, f"held_{name}")[rank] for name in Heat._fields))

    @property
    def coefficients(self) -> Ragged:
        """One entry per (set, image), ``[h, w, columns]``; several sizes are combined."""
        return self.artifact.ragged(self.layer)

    @property
    def several(self) -> bool:
        """Whether the network saw every photograph at several sizes."""
        return f"{layer_key(self.layer)}/{SCALES}" in self.artifact.group

    @property
    def scales(self) -> Ragged:
        """Of several sizes those of all rows, an entry per (set, image), ``[rows, 1, columns]``."""
        return self.artifact.ragged(self.layer, SCALES)


class Drift(NamedTuple):
    """How far images that are new since factors were pinned are from what these explain.

    Attributes
    ----------
    new : int
        Images.
    then, now : float
        Shares of the energy ``||A||^2`` that are explained: of the pinned images when they were
        pinned, and of the new ones.
    """

    new: int
    then: float
    now: float


@dataclass(frozen=True)
class Factors(Layered):
    """The factors of all layers."""

    _by_layer: dict[str, LayerFactors] = field(default_factory=dict, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.artifact,)

    @cached_property
    def factorizations(self) -> Factorizations:
        """Whose factors the columns are."""
        return Factorizations.of(self.artifact)

    @property
    def solver(self) -> str:
        """What found them."""
        return str(self.artifact.attrs["solver"])

    @cached_property
    def within(self) -> dict[str, Within]:
        """The factors that some of the image sets lie within, by the names of these."""
        return from_attrs(self.artifact.attrs)

    @property
    def own_sets(self) -> list[str]:
        """The image sets of the collection: those that lie within no factor."""
        return [name for name in self.sets if name not in self.within]

    def root(self, image_set: str) -> str:
        """The image set of the collection that a set is, or lies within: it has its images."""
        return root_of(image_set, self.within)

    @property
    def normalise(self) -> str:
        """What was done to the rows (`stages.algorithms.normalised`)."""
        return str(self.artifact.attrs.get("normalise", "none"))

    @property
    def nonneg(self) -> str | None:
        """What is >= 0 (`stages.algorithms.nmf.solvers.NONNEG`); None: of an earlier version."""
        return self.artifact.attrs.get("nonneg")

    def mean(self, layer: str, rank: int) -> NDArray[np.float32] | None:
        """What was taken away from the rows of a set ``[channels]``; None where nothing was."""
        return self.at(layer).mean[rank] if self.normalise == "centre" else None

    @property
    def held_percentile(self) -> float | None:
        """Of the thresholds that pinned heat maps go on with; None without pinned factors."""
        found = self.artifact.attrs.get("held_percentile")
        return None if found is None else float(found)

    @cached_property
    def image_ids(self) -> NDArray[np.int64]:
        """The image of each entry; the same at every layer."""
        return self.at(self.layers[0]).coefficients.image_ids

    def drift(self, layer: str, image_set: str, k: int, seed: int) -> Drift | None:
        """Of one factorization; None without pinned factors, or images that are new since."""
        of, rank = self.at(layer), list(self.sets).index(image_set)
        then, now = of.explained[rank, self.factorizations.problems.index((k, seed))]
        new = int(of.carried[rank, 1])
        return (
            Drift(new, float(then), float(now)) if new and np.isfinite([then, now]).all() else None
        )

    def at(self, layer: str) -> LayerFactors:
        """The factors of one layer; what is read of them is kept."""
        return self._by_layer.setdefault(layer, LayerFactors(self.artifact, layer))


def create_factors(
    work: Staging,
    activations: Layered,
    sets: Mapping[str, Sequence[int] | NDArray[np.int64]],
    factorizations: Factorizations,
    solver: str,
    held_percentile: float | None = None,
    within: Mapping[str, Within] | None = None,
    nonneg: str | None = None,
    normalise: str = "none",
) -> dict[str, zarr.Group]:
    """Begin the artifact of factors, or go on with it; each layer's group.

    Parameters as the attributes of `Factors`.
    """
    group = create_artifact(
        work.path,
        owner=work,
        stage="factorize",
        fingerprint=work.fingerprint,
        layers=activations.layers,
        images=activations.images,
        contents=contents_of(activations.artifact),
        sets=sets,
        **factorizations.attrs,
        ks=factorizations.ks,
        solver=solver,
        held_percentile=held_percentile,
        **recorded(within or {}),
        nonneg=nonneg,
        normalise=normalise,
    )
    return {layer: group.require_group(layer_key(layer)) for layer in activations.layers}
