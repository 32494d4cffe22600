"""Bounded, ordered maps over local threads, local processes or a cluster."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Literal, TypeVar

from stages.frame.cluster import Cluster
from stages.frame.errors import StageError
from stages.frame.progress import note
from stages.frame.resources import Resources
from stages.frame.stage import P, Stage

T = TypeVar("T")
R = TypeVar("R")
Kind = Literal["threads", "processes"]


def ordered_map(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    workers: int = 1,
    kind: Kind = "threads",
    cluster: Cluster | None = None,
    label: str = "work",
    ahead: int = 2,
    limit: int | None = None,
) -> Generator[R, None, None]:
    """Yield ``function(item)`` in the order of the items.

    At most `limit`, or ``ahead * workers``, results are under way or waiting, so memory stays
    bounded however long the input is. An exception of `function` is raised at its place in the
    order.

    Parameters
    ----------
    function : callable
        For processes and clusters it must be importable by name.
    kind : {"threads", "processes"}
        Threads for work that releases the interpreter lock (decoding), processes for the rest.
    cluster : Cluster, optional
        Used instead of local workers: see `Cluster.mapped`, which pickles the function once, with
        all it holds.
    label : str
        Stage and what the items are, for the logs of a cluster.

    Raises
    ------
    StageError
        When a worker process was killed.
    """
    if cluster:
        yield from cluster.mapped(function, items, label=label, limit=limit)
        return
    with _executor(workers, kind) as executor:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(executor.submit(function, item))
                if len(waiting) >= (limit or max(1, ahead * workers)):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise StageError(
                "a worker process was killed, as happens when memory runs out: lower --workers; "
                "the work so far is kept"
            ) from error


@contextmanager
def _executor(workers: int, kind: Kind) -> Iterator[Executor]:
    if kind == "threads":
        local: Executor = ThreadPoolExecutor(workers)
    else:
        # spawn: a forked child inherits locks that torch's threads may hold
        context = multiprocessing.get_context("spawn")
        local = ProcessPoolExecutor(workers, mp_context=context)
    try:
        yield local
    finally:
        # Cancelling one by one and then shutting down hangs a pool of processes now and then
        # (python/cpython#94440, mended in Python 3.11.3).
        local.shutdown(cancel_futures=True)


def note_unused(stage: Stage[P], resources: Resources) -> None:
    """Say of a cluster that was given to a stage which works without one that it is not used."""
    if resources.cluster and not stage.clustered:
        note(f"{stage.name}: works on this machine alone, without the cluster")


@contextmanager
def torch_threads_kept(libraries: Collection[str] = ("torch",)) -> Iterator[None]:
    """Leave torch's number of threads as it was, where torch is among what is used."""
    if "torch" not in libraries:
        yield
        return
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
