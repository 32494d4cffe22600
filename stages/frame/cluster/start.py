"""Finding a scheduler, or starting processes of one's own."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stages.frame.cluster.tasks import forget
from stages.frame.cluster.work import Cluster
from stages.frame.code import code_of_all
from stages.frame.errors import StageError
from stages.frame.progress import note

PATIENCE = 10  # seconds that a scheduler may take to answer
LOCAL = re.compile(r"local(:[1-9]\d*)?")


@contextmanager
def clustered(
    address: str | None, record: Path | None = None, *, workers: int = 1, who: str = ""
) -> Iterator[Cluster | None]:
    """The cluster of a scheduler, or None where there is no address and a stage works alone.

    Parameters
    ----------
    record : Path, optional
        Where `dff status` finds what the workers do.
    workers : int
        So many must be there.
    who : str
        Works on it: the stage's name, for the line that says where.

    Raises
    ------
    StageError
        When no scheduler answers, or it has no workers.
    """
    if not address:
        yield None
        return
    # Imported here: it takes a second, and only runs on a cluster need it.
    from distributed import Client

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # it is said in one line
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:  # a time-out is an OSError
        raise StageError(
            f"--cluster {address}: no dask scheduler answers there ({error})"
        ) from error
    with _closed(client):
        try:
            if workers:
                client.wait_for_workers(workers, timeout=PATIENCE)
        except TimeoutError as error:
            raise StageError(
                f"--cluster {address}: the scheduler has no workers; start some with "
                f"`dask worker {address}`"
            ) from error
        dashboard = _page(client.dashboard_link)
        cluster = Cluster(client, address, code_of_all(), dashboard, record)
        threads = client.nthreads()
        seen = f", {dashboard}" if dashboard else ""
        count = f"{len(threads)} workers" if len(threads) != 1 else "1 worker"
        told = f"on {count} with {cluster.slots} threads at {address}{seen}"
        note(f"{who}: {told}" if who else told)
        try:
            yield cluster
        finally:
            with suppress(Exception):  # workers may be gone
                if client.status == "running":
                    client.run(forget)


@contextmanager
def _closed(client: Any) -> Iterator[None]:
    """Close a client at the end; what it says of a scheduler that is gone hides no other error."""
    try:
        yield
    finally:
        with suppress(Exception):
            client.close()


def _page(link: str) -> str:
    """Dask's page, if there is one: without Bokeh, or switched off, it shows nothing."""
    from urllib.request import urlopen  # with all of HTTP, for runs on a cluster alone

    with suppress(OSError, ValueError), urlopen(link, timeout=2) as answer:
        return "" if b"needs bokeh" in answer.read(1000) else link
    return ""


@contextmanager
def local_cluster(cluster: str, memory: int) -> Iterator[str]:
    """The address that ``--cluster`` stands for: of ``local:N`` N processes that end with this.

    Parameters
    ----------
    memory : int
        Bytes that all of them may hold together.
    """
    if not cluster or not LOCAL.fullmatch(cluster):
        yield cluster
        return
    from dask.system import CPU_COUNT
    from distributed import LocalCluster

    count = int(cluster.partition(":")[2] or CPU_COUNT)
    with LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        memory_limit=memory // count,
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,  # what a person must know comes as one line
    ) as local:
        yield local.scheduler_address


def check_cluster(cluster: str) -> None:
    """Ask the dask scheduler at an address who it is; ``local`` and ``local:N`` need none.

    Raises
    ------
    StageError
        When none answers in time.
    """
    if LOCAL.fullmatch(cluster):
        return
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
            "`dask scheduler`, try `--cluster local:2`, or run without --cluster"
        )
