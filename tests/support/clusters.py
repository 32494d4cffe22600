"""Clusters in this process, for tests that are not about processes."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cluster_here(workers: int, threads: int = 1) -> Iterator[str]:
    """The address of a scheduler with so many workers, of so many threads each."""
    from distributed import LocalCluster

    # port 0: another process of this test run may have a cluster, too
    with LocalCluster(
        n_workers=workers, threads_per_worker=threads, processes=False, dashboard_address=":0"
    ) as local:
        yield str(local.scheduler_address)
