"""How much memory the explain stage holds, counted before it begins."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from stages.algorithms.shipped import MODULE, OF_TIMM, shipped_weights
from stages.artifacts.activations import OWN
from stages.artifacts.outline import Outline
from stages.explain.params import ExplainParams
from stages.frame.memory import Needs, resident
from stages.frame.resources import Resources
from stages.frame.stage import Inputs

CUT_BYTES = 48 * 2**20  # graphs of the network, and the pass that tries what was cut
# Maps that go through the head together hold about so much; results depend on it in the last bits,
# so nobody chooses it.
BATCH_BYTES = 64 * 2**20
MOST_MAPS = 256


def maps_at_once(bytes_of_one: int) -> int:
    """Maps of a batch."""
    return max(1, min(MOST_MAPS, BATCH_BYTES // max(1, bytes_of_one)))


def nothing_to_explain(
    params: ExplainParams, backbone: str, weights: str, lacks: Sequence[str] = ()
) -> str:
    """Why no layer of a network can be explained, as far as its name says so; else nothing.

    Parameters
    ----------
    lacks
        See `stages.artifacts.activations.NetworkFacts`: then the network need not be loaded.
    """
    if not params.images:
        return "explain.images is 0"
    if backbone == OWN:
        return "your own activations came without a network"
    if weights.startswith("random:"):
        return f"the classes of a random start ({weights}) mean nothing"
    if shipped_weights(backbone, weights):
        return f"the network {backbone} tells drawn scenes apart, and knows no classes besides"
    if lacks:
        return f"weights {weights} have no classifier of {backbone} ({', '.join(lacks[:2])})"
    return ""


def libraries_of(backbone: str) -> tuple[str, ...]:
    """What is loaded for a network, the first first; `extract` names those of networks alike."""
    of_network = ("torchvision", "timm") if backbone.startswith(OF_TIMM) else ("torchvision",)
    own = backbone.startswith(MODULE)
    return ("torch", *(() if own else of_network), "scipy.stats")


def network_needs(
    backbone: str, held: Mapping[str, tuple[int, int]], images: int, values: int
) -> Needs:
    """What explaining takes.

    Parameters
    ----------
    held
        By layer what `head_bytes` says.
    images
        Sampled of all sets.
    values
        Activations and coefficients of the images of the largest set that are sampled.
    """
    weights = max((one for one, _ in held.values()), default=0)
    batch = max((one * maps_at_once(one) for _, one in held.values()), default=0)
    return Needs(
        fixed={
            "libraries": resident(*libraries_of(backbone)),
            # a file as it is read, and as float32
            "weights": 2 * weights + CUT_BYTES,
            # and what the derivatives need
            "maps in the rest of the network": 3 * batch,
            "activations": 4 * values,
        },
        images=images,
        remedy="lower explain.images",
    )


def foretell(
    params: ExplainParams, outline: Outline, inputs: Inputs, resources: Resources
) -> tuple[Outline, Needs]:
    """See `stages.frame.stage.Stage.foretell`."""
    if outline.network is None or nothing_to_explain(params, *outline.network):
        return outline, Needs({"libraries": resident()}, images=outline.images)
    from stages.algorithms.backbone import BackboneError
    from stages.algorithms.backbone.head import head_bytes

    backbone = outline.network[0]
    held, values = {}, 0
    sampled = {name: ids[: params.images] for name, ids in outline.sets.items()}
    for name, layer in outline.layers.items():
        grids = layer.grids.reshape(-1, 2)
        largest = grids[int(np.argmax(grids.prod(axis=1)))] if len(grids) else np.array([1, 1])
        try:
            held[name] = head_bytes(backbone, name, (int(largest[0]), int(largest[1])))
        except BackboneError:
            continue
        width = layer.channels + outline.columns
        values = max([values, *(layer.rows(ids) * width for ids in sampled.values())])
    count = sum(len(ids) for ids in sampled.values()) * len(held)
    return outline, replace(network_needs(backbone, held, count, values), reads=4 * values)
