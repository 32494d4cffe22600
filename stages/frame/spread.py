"""A cluster for commands that are no stage."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from stages.frame.cluster import clustered, local_cluster
from stages.frame.resources import Resources


@contextmanager
def spread_over(resources: Resources) -> Iterator[Resources]:
    """The resources with the cluster that they name, where they name one.

    Raises
    ------
    StageError
        As `stages.frame.cluster.clustered`.
    """
    with (
        local_cluster(resources.cluster or "", resources.memory) as address,
        clustered(address or None) as spread,
    ):
        yield replace(resources, cluster=address or None, spread=spread)
