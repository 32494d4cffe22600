"""Bounded, ordered maps over local threads, local processes or a dask cluster."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Literal, TypeVar

from stages.frame.errors import StageError
from stages.frame.progress import note
from stages.frame.resources import Resources
from stages.frame.stage import P, Stage

T = TypeVar("T")
R = TypeVar("R")
Kind = Literal["threads", "processes"]
PATIENCE = 6  # seconds that a scheduler may take to answer


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
            client = Client(cluster, timeout=10, set_as_default=False)
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


def check_cluster(cluster: str) -> None:
    """Ask the dask scheduler at an address who it is.

    Raises
    ------
    StageError
        When none answers in time.
    """
    import asyncio

    from distributed import Security, rpc

    async def kind() -> str:
        options = Security().get_connection_args("client")
        async with rpc(cluster, timeout=PATIENCE, connection_args=options) as there:
            return str((await there.identity())["type"])

    try:
        found = asyncio.run(asyncio.wait_for(kind(), PATIENCE))
        reason = "" if found == "Scheduler" else f"this is a {found.lower()}"
    except Exception as error:  # another program may answer anything
        late = isinstance(error, TimeoutError) and not str(error)
        reason = f"nothing within {PATIENCE} s" if late else str(error) or type(error).__name__
    if reason:
        raise StageError(
            f"--cluster {cluster}: no dask scheduler answers there ({reason}); start one with "
            "`dask scheduler`, or run without --cluster"
        )


def note_unused(stage: Stage[P], params: P, resources: Resources) -> None:
    """Say of a cluster that was given to a stage which works without one that it is not used."""
    if resources.cluster and not (stage.clustered and stage.clustered(params)):
        note(f"{stage.name}: works on this machine alone; --cluster is for refine with densecrf")


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
