"""explain: activations and factors -> what the concepts mean to the network's own classes.

Writes ``explained.zarr``, see `stages.artifacts.explanations`. Images do not go through the network
again: what comes behind the tapped layer (`stages.algorithms.backbone.head`) takes the activations
that are there. Where it has no classifier, the artifact has the reason and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.normalised import L2
from stages.algorithms.scales import split
from stages.algorithms.shipped import located
from stages.artifacts.activations import Activations, weights_of
from stages.artifacts.explanations import ARRAYS, create_explanations
from stages.artifacts.factorizations import Factorizations
from stages.artifacts.factors import Factors
from stages.explain.needs import foretell, maps_at_once, network_needs, nothing_to_explain
from stages.explain.of_set import SampledSet, explain_set
from stages.explain.params import ExplainParams
from stages.frame.errors import StageError
from stages.frame.fingerprint import file_digest
from stages.frame.memory import resources_within
from stages.frame.params import user_path
from stages.frame.progress import note, track
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from store import Staging, replacing

if TYPE_CHECKING:
    from stages.algorithms.backbone.head import Head


def run(params: ExplainParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    activations = Activations.open(inputs["extract"])
    factors = Factors.open(inputs["factorize"])
    sets = {name: range(len(entries)) for name, entries in factors.sets.items()}
    network = activations.network
    lacks = network.get("lacks", ())  # not said by activations of before
    if reason := nothing_to_explain(params, network["backbone"], network["weights"], lacks):
        note(f"explain: nothing to explain: {reason}")
        reasons = dict.fromkeys(factors.layers, reason)
        create_explanations(work, factors, sets, reasons, [], "")
        return
    heads, reasons = _heads(activations, inputs.project, resources)
    for layer, reason in reasons.items():
        note(f"explain: {layer}: nothing to explain: {reason}")
    names, assumed = _class_names(params, heads, inputs.project)
    if heads and assumed:
        note(f"explain: {assumed}; explain.class_names may say others")
    groups = create_explanations(work, factors, sets, reasons, names, assumed)
    job = _Job(params, activations, factors, work, inputs.project)
    total = len(heads) * len(sets)
    with track("explain", total, "sets", min(total, int(work.progress.get("done", 0)))) as advance:
        done = 0
        for number, (layer, head) in enumerate(heads.items()):
            found, batch = [], _batch(job, layer, resources)
            for rank, name in enumerate(sets):
                path = work.scratch / f"{number}-{rank}.npz"
                if not path.exists():
                    one = explain_set(head, job.sampled(layer, name), job.shown, params, batch)
                    with replacing(path) as file:
                        np.savez(file, **one)  # type: ignore[arg-type]
                found.append(_saved(path))
                done += 1
                if done > int(work.progress.get("done", 0)):
                    work.checkpoint(done=done, total=total, unit="sets")
                    advance(1)
            for array in ARRAYS:
                array.write(groups[layer], np.array([one[array.name] for one in found]))


@dataclass(frozen=True)
class _Job:
    params: ExplainParams
    activations: Activations
    factors: Factors
    work: Staging
    project: Path

    @property
    def shown(self) -> Factorizations:
        """Factorizations of the shown seed."""
        of = self.factors.factorizations
        return Factorizations.every(of.ks, [of.shown_seed])

    @property
    def columns(self) -> list[int]:
        """Where their factors are among all."""
        of = self.factors.factorizations
        return [column for k in of.ks for column in of.columns_of(k)]

    def chosen(self, name: str) -> NDArray[np.int64]:
        """Positions in a set of the images that are tried, spread evenly."""
        count = len(self.factors.sets[name])
        wanted = min(count, self.params.images)
        return np.unique(np.linspace(0, count - 1, wanted).round().astype(np.int64))

    def sampled(self, layer: str, name: str) -> SampledSet:
        """Their activations and coefficients, at the size that is nearest to the network's own."""
        chosen, of = self.chosen(name), self.factors.at(layer)
        members = self.activations.sets[self.factors.root(name)][chosen]
        entries = self.factors.sets[name][chosen]
        coefficients = of.scales if of.several else of.coefficients
        grids, at = self.activations.grids(layer), _nearest_size(self.activations)
        maps = self.activations.at(layer)

        def of_size(rows: NDArray[Any], member: int) -> NDArray[np.float32]:
            flat = rows.reshape(-1, rows.shape[-1])
            return np.asarray(split(flat, grids[member])[at], np.float32)

        seen = [of_size(maps.map(int(one)), one) for one in members]
        parts = [
            of_size(coefficients.map(int(one))[..., self.columns], member)
            for one, member in zip(entries, members, strict=True)
        ]
        if self.factors.normalise == L2:
            # of rows of unit length: in the activations they are so much longer
            parts = [
                part * np.linalg.norm(one, axis=-1, keepdims=True)
                for part, one in zip(parts, seen, strict=True)
            ]
        rank = list(self.factors.sets).index(name)
        return SampledSet(seen, parts, of.W[rank, self.columns], self.factors.mean(layer, rank))


def _nearest_size(activations: Activations) -> int:
    """Which of several sizes is nearest to what the network was trained with."""
    from stages.algorithms.backbone import family_of

    if not (sizes := activations.several):
        return 0
    backbone = activations.network["backbone"]
    side = family_of(backbone).side(backbone)
    return int(np.argmin([abs(size - side) for size in sizes]))


def _heads(
    activations: Activations, project: Path, resources: Resources
) -> tuple[dict[str, Head], dict[str, str]]:
    """The rest of the network behind each layer, or why there is none."""
    from stages.algorithms.backbone import BackboneError, NoClassifierError
    from stages.algorithms.backbone.head import load_head

    network = activations.network
    backbone = located(network["backbone"], project)
    weights = weights_of(network["weights"], project)
    device = resources.torch_device()
    heads, reasons = {}, {}
    for layer in activations.layers:
        digest = str(activations.recipes.get(layer, {}).get("weights_digest", ""))
        try:
            heads[layer] = load_head(backbone, layer, weights, device, digest)
        except NoClassifierError as error:
            reasons[layer] = str(error)
        except BackboneError as error:
            raise StageError(f"{error}; `explain.images: 0` goes on without") from error
    return heads, reasons


def _class_names(
    params: ExplainParams, heads: Mapping[str, Head], project: Path
) -> tuple[Sequence[str], str]:
    """What classes are called, and why they may have other names."""
    if not heads:
        return [], ""
    head = next(iter(heads.values()))
    if not params.class_names:
        return (head.names.names, head.names.assumed) if head.names else ([], "")
    path = user_path(params.class_names, project)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(f"explain.class_names: {path}: cannot be read ({error})") from error
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if len(names) != head.classes:
        raise StageError(
            f"explain.class_names: {path}: has {len(names)} lines, the network has "
            f"{head.classes} classes: give each a line, in order"
        )
    return names, ""


def _batch(job: _Job, layer: str, resources: Resources) -> int:
    """Maps that go through the head at once; refused where not even these fit."""
    from stages.algorithms.backbone.head import head_bytes

    backbone = located(job.activations.network["backbone"], job.project)
    grids = job.activations.grids(layer)[:, _nearest_size(job.activations)]
    largest = grids[int(np.argmax(grids.prod(axis=1)))]
    held = head_bytes(backbone, layer, (int(largest[0]), int(largest[1])))
    images = max(len(job.chosen(name)) for name in job.factors.sets)
    width = job.activations.at(layer).channels + len(job.columns)
    values = images * int(largest.prod()) * width
    resources_within("explain", network_needs(backbone, {layer: held}, images, values), resources)
    return maps_at_once(held[1])


def _saved(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as found:
        return dict(found)


def sources(params: ExplainParams, project: Path) -> str:
    """Digest of the file of names."""
    if not params.class_names:
        return ""
    return file_digest(user_path(params.class_names, project))


EXPLAIN: Stage[ExplainParams] = Stage(
    name="explain",
    version=1,
    params=ExplainParams,
    reads={
        "extract": Path("artifacts/activations.zarr"),
        "factorize": Path("artifacts/factors.zarr"),
    },
    writes=Path("artifacts/explained.zarr"),
    run=run,
    sources=sources,
    foretell=foretell,
    clustered=False,
)
