"""`dff show-model`: what a network is, and where it can be tapped."""

import sys
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from stages.algorithms.backbone import (
    Published,
    default_layer,
    describe_layers,
    family_of,
    load_backbone,
)

NAMED = 5  # names of weights that are shown, of those that there are


def print_model(name: str, weights: str = "") -> None:
    """A network's layers as a table, below what is known of it.

    Parameters
    ----------
    name : str
        Of a network.
    weights : str
        To read, for their digest; none unless they are named.

    Raises
    ------
    BackboneError
        For a network or weights that cannot be had.
    """
    console = Console(width=None if sys.stdout.isatty() else 120, markup=False, highlight=False)
    layers = describe_layers(name)
    for line in _facts(name, weights):
        console.print(line, soft_wrap=True)
    table = Table("alias", "node", "channels", "stride", ">= 0", "what", box=None, pad_edge=False)
    for layer in layers:
        sign = "yes" if layer.non_negative else "no"
        row = (layer.alias or "", layer.node, str(layer.channels), f"{layer.stride:g}", sign)
        table.add_row(*row, layer.what)
    console.print(table)


def _facts(name: str, weights: str) -> Iterator[str]:
    family = family_of(name)
    usual = family.preprocessing(name)
    yield f"usual layer: {default_layer(name)}"
    yield f"images: {family.side(name)} px, mean {list(usual.mean)}, std {list(usual.std)}"
    published = family.weights(name)
    for known in list(published)[:NAMED]:
        yield f"weights {known}: {_about(published[known])}"
    if len(published) > NAMED:
        yield f"weights, others: {', '.join(list(published)[NAMED:])}"
    if weights:
        found = load_backbone(name, [default_layer(name)], weights)
        revision = f", revision {found.source['revision']}" if found.source["revision"] else ""
        said = f"; {found.told}" if found.told else ""
        digest = f"SHA-256 {found.weights_digest} down to that layer"
        yield f"weights {weights}: {digest}{revision}{said}"


def _about(one: Published) -> str:
    """Tag, licence and place of published weights."""
    parts = [one.tag, f"licence {one.licence or 'not said'}", str(one.place or "built in")]
    return ", ".join(part for part in parts if part)
