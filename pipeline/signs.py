"""What extract and factorize must agree on: whether layers may have values below zero."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.params import PARAMS, ParamsError
from stages.algorithms.shipped import located
from stages.artifacts.activations import OWN
from stages.extract.params import ExtractParams
from stages.extract.stage import EXTRACT
from stages.frame.fingerprint import fingerprint
from stages.index.stage import INDEX
from store import StoreError
from store.artifact import read_attrs

# What a paper calls a layer is behind its ReLU: that needs no library of networks to know.
BEHIND_RELU = re.compile(r"conv\d+_\d+|fire\d+")


def check_signs(project: Path, params: Mapping[str, Any]) -> None:
    """Refuse a non-negative factorization of layers with values below zero, before they are made.

    Factorize itself would refuse it, after all of the extraction. Activations that are there
    already say themselves what they have; a network is tried once, with random weights.

    Raises
    ------
    ParamsError
    """
    extract, factorize = params["extract"], params["factorize"]
    if factorize.nonneg == "H" or extract.backbone == OWN or _is_extracted(project, extract):
        return
    layers = [layer for layer in extract.layers if not BEHIND_RELU.fullmatch(layer)]
    if not layers:
        return
    # imported here: it takes seconds
    from stages.algorithms.backbone import BackboneError, relus_near, signed_layers

    backbone = located(extract.backbone, project)
    try:
        signed = signed_layers(backbone, layers)
        near = {layer: relus_near(backbone, layer) for layer in signed}
    except BackboneError as error:
        raise ParamsError(f"{PARAMS}: extract: {error}") from error
    if signed:
        raise ParamsError(
            f"{PARAMS}: extract.layers: {', '.join(signed)} of {extract.backbone}: has values "
            "below zero, which a factorization with W >= 0 cannot have: set factorize.nonneg: H "
            f"(semi-NMF), or tap another layer ({near[signed[0]]})"
        )


def _is_extracted(project: Path, params: ExtractParams) -> bool:
    """Whether there are activations of these params, of the images that were indexed last.

    Whether photographs have come since is not asked: that takes a look at every file, and the
    network is the same.
    """
    try:
        index, made = (read_attrs(project / stage.writes) for stage in (INDEX, EXTRACT))
    except StoreError:
        return False
    if index is None or made is None:
        return False
    sources = EXTRACT.sources(params, project) if EXTRACT.sources else ""
    inputs = {INDEX.name: str(index["fingerprint"])}
    return bool(made["fingerprint"] == fingerprint(EXTRACT, params, inputs, sources))
