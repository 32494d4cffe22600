"""Bounded, ordered maps over local threads, local processes or a dask cluster."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Literal, TypeVar

from stages.frame.errors import StageError

T = TypeVar("T")
R = TypeVar("R")
Kind = Literal["threads", "processes"]


def ordered_map(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    workers: int = 1,
    kind: Kind = "threads",
    cluster: str | None = None,
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
    cluster : str, optional
        Address of a dask scheduler, used instead of local workers.

    Raises
    ------
    StageError
        When no scheduler answers, or a worker process was killed.
    """
    with _executor(workers, kind, cluster) as (executor, slots):
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(executor.submit(function, item))
                if len(waiting) >= (limit or max(1, ahead * slots)):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise StageError(
                "a worker process was killed, as happens when memory runs out: lower --workers; "
                "the work so far is kept"
            ) from error
        finally:
            if cluster:
                for future in waiting:
                    future.cancel()


@contextmanager
def _executor(workers: int, kind: Kind, cluster: str | None) -> Iterator[tuple[Executor, int]]:
    if cluster:
        # Imported here: it takes a second, and only runs on a cluster need it.
        from distributed import Client

        try:
            client = Client(cluster, timeout=10)
        except (OSError, ValueError) as error:  # a time-out is an OSError
            raise StageError(
                f"--cluster {cluster}: no dask scheduler answers there ({error})"
            ) from error
        with client:
            yield client.get_executor(pure=False), max(1, len(client.nthreads()))
        return
    if kind == "threads":
        local: Executor = ThreadPoolExecutor(workers)
    else:
        # spawn: a forked child inherits locks that torch's threads may hold
        context = multiprocessing.get_context("spawn")
        local = ProcessPoolExecutor(workers, mp_context=context)
    try:
        yield local, workers
    finally:
        # Cancelling one by one and then shutting down hangs a pool of processes now and then
        # (python/cpython#94440, mended in Python 3.11.3).
        local.shutdown(cancel_futures=True)


@contextmanager
def torch_threads_kept() -> Iterator[None]:
    """Leave torch's number of threads as it was."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
