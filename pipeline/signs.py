"""What extract and factorize must agree on: whether layers may have values below zero."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.params import PARAMS, ParamsError
from pipeline.status import stage_states
from stages.algorithms.shipped import located
from stages.artifacts.activations import OWN
from stages.extract.stage import EXTRACT

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
    if factorize.nonneg == "H" or extract.backbone == OWN or _is_extracted(project):
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


def _is_extracted(project: Path) -> bool:
    """Whether there are activations of the params as they are."""
    # the stages after it are not looked at
    return next(one for one in stage_states(project) if one.name == EXTRACT.name).state == "fresh"
