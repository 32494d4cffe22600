"""The one door to Dask: a stage's work on the workers of a scheduler, wherever they are.

Dask brings scheduling, transport and retries. What a stage must know to be right is here:

- A task is pure: its arguments and the store decide its result, so what a lost worker had is done
  again by another. Nothing is put on workers but by tasks (`scatter` would not survive them).
- A worker whose code is another is refused by its digest.
- What a person must mend comes as one line, once; what may pass (a service that does not answer) is
  tried again by Dask.
"""

from __future__ import annotations

import json
import logging
import math
import pickle
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import uuid4

from stages.frame.code import code_of_all
from stages.frame.errors import StageError
from stages.frame.progress import note
from stages.frame.resources import Resources
from store import ArtifactDamaged, StoreError, write_atomically

T = TypeVar("T")
R = TypeVar("R")
PATIENCE = 10  # seconds that a scheduler may take to answer
RETRIES = 2  # of a task whose store did not answer
LOADED = 8  # values that a worker's process keeps unpickled
SECONDS = 0.5  # that a task of `mapped` should take
MOST_ITEMS = 512  # of such a task
COUNT_EVERY = 5.0  # seconds
RECORD = "cluster.json"
RECORD_EVERY = 2.0  # seconds between two words to `dff status`
LOCAL = re.compile(r"local(:[1-9]\d*)?")

_log = logging.getLogger("distributed.worker.dff")


@dataclass(frozen=True)
class Parcel:
    """A pickled value, as workers pass it on; see `Cluster.shared`."""

    digest: str
    content: bytes

    def value(self) -> Any:
        """The value, unpickled once per process."""
        with _LOCK:
            if self.digest not in _VALUES:
                _VALUES[self.digest] = pickle.loads(self.content)
                while len(_VALUES) > LOADED:
                    _VALUES.popitem(last=False)
            _VALUES.move_to_end(self.digest)
            return _VALUES[self.digest]


_VALUES: OrderedDict[str, Any] = OrderedDict()
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Shared(Generic[T]):
    """A value that each worker's process has once; an argument of tasks."""

    future: Any


@dataclass(frozen=True)
class Done(Generic[R]):
    """What a task gave, or what it failed with; and who did it in how many seconds."""

    value: R | None
    error: Exception | None
    worker: str
    seconds: float

    def __sizeof__(self) -> int:
        from dask.sizeof import sizeof  # by which workers know how full they are

        return int(sizeof(self.value))


@dataclass(frozen=True)
class Task(Generic[R]):
    """Work that was handed in; an argument of other tasks, which get its value."""

    future: Any
    label: str


@dataclass
class Worked:
    """What one worker has done."""

    tasks: int = 0
    last: str = ""


@dataclass
class Cluster:
    """The workers of a scheduler, for one stage.

    Attributes
    ----------
    address : str
        Of the scheduler.
    dashboard : str
        Its address, or nothing where there is none.
    workers : dict of address to Worked
    last_worker : str
        Who did the task that `results` gave last.
    """

    client: Any
    address: str
    code: str
    dashboard: str = ""
    record: Path | None = None
    workers: dict[str, Worked] = field(default_factory=dict)
    last_worker: str = ""
    _told: float = 0.0
    _counted: tuple[float, int] = (-math.inf, 1)

    @property
    def slots(self) -> int:
        """Threads of all workers, each of which does a task; asked every few seconds."""
        when, slots = self._counted
        if time.monotonic() - when > COUNT_EVERY:
            with self._explained("counting workers"):
                slots = max(1, sum(self.client.nthreads().values()))
            self._counted = time.monotonic(), slots
        return slots

    def shared(self, value: T) -> Shared[T]:
        """A value that is pickled once, sent once, and unpickled once by each worker's process.

        It comes from a task, so another worker can have it when one is lost.
        """
        from distributed.protocol.pickle import dumps  # by value where there is no name

        content = dumps(value)
        digest = sha256(content).hexdigest()
        key = f"dff-shared-{digest[:16]}-{uuid4().hex[:8]}"
        return Shared(self.client.submit(Parcel, digest, content, key=key))

    def submit(
        self, function: Callable[..., R], *arguments: Any, label: str, near: str = ""
    ) -> Task[R]:
        """Have a worker call a function; it has one thread.

        Parameters
        ----------
        function : callable
            Of a module, pure.
        *arguments
            `Shared` and `Task` ones stand for their values.
        label : str
            Stage and range, for logs and the dashboard: ``extract: images 0 to 400``.
        near : str
            Address of the worker that should do it, unless it is gone or busy.
        """
        plain = [one.future if isinstance(one, (Shared, Task)) else one for one in arguments]
        name = re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-")
        there = {"workers": [near], "allow_other_workers": True} if near else {}
        future = self.client.submit(
            _worked,
            self.code,
            label,
            function,
            *plain,
            key=f"{name}-{uuid4().hex}",
            retries=RETRIES,
            **there,
        )
        return Task(future, label)

    def results(self, tasks: Iterable[Task[R]], limit: int = 0) -> Generator[R, None, None]:
        """The results of tasks in order; at most `limit` (or two a slot) are under way.

        Raises
        ------
        StageError
            When a worker is refused, the scheduler is gone, or workers die of a task. Errors of a
            task are raised at its place.
        """
        waiting: deque[Task[R]] = deque()
        try:
            for task in tasks:
                waiting.append(task)
                if len(waiting) >= (limit or 2 * self.slots):
                    yield self.result(waiting.popleft())
            while waiting:
                yield self.result(waiting.popleft())
        finally:
            with suppress(Exception):  # the scheduler may be gone
                self.client.cancel([task.future for task in waiting])

    def result(self, task: Task[R]) -> R:
        """The result of one task; errors as `results`."""
        return self._done(task).value  # type: ignore[return-value]

    def _done(self, task: Task[R]) -> Done[R]:
        with self._explained(task.label):
            done: Done[R] = task.future.result()
        if done.error:
            raise done.error
        self.last_worker = done.worker
        worked = self.workers.setdefault(done.worker, Worked())
        worked.tasks, worked.last = worked.tasks + 1, task.label
        self._tell()
        return done

    def mapped(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        *,
        label: str = "work",
        limit: int | None = None,
    ) -> Generator[R, None, None]:
        """Yield ``function(item)`` in the order of the items, some items a task.

        The function, with all it holds, is shared. Tasks take about `SECONDS` seconds; with a
        `limit`, no more results than that are under way.
        """
        shared, source = self.shared(function), iter(items)
        waiting: deque[Task[list[R]]] = deque()
        size, started, more = 1, 0, True
        try:
            while more or waiting:
                slots = self.slots
                most = min(MOST_ITEMS, max(1, limit // slots)) if limit else MOST_ITEMS
                while more and len(waiting) < 2 * slots:
                    some = [item for _, item in zip(range(min(size, most)), source, strict=False)]
                    more = bool(some)
                    if some:
                        of = f"{label}: items {started} to {started + len(some)}"
                        waiting.append(self.submit(_mapped, shared, some, label=of))
                        started += len(some)
                if waiting:
                    done = self._done(waiting.popleft())
                    assert done.value is not None
                    each = done.seconds / max(1, len(done.value))
                    size = max(1, int(SECONDS / max(each, SECONDS / MOST_ITEMS)))
                    yield from done.value
        finally:
            with suppress(Exception):
                self.client.cancel([task.future for task in waiting])

    @contextmanager
    def _explained(self, label: str) -> Iterator[None]:
        """Turn what Dask says of lost workers and schedulers into one line."""
        from concurrent.futures import CancelledError

        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError
        from distributed.scheduler import KilledWorker

        try:
            yield
        except KilledWorker as error:
            raise StageError(
                f"--cluster {self.address}: workers died again and again of {label!r}, as happens "
                "when memory runs out: give them more (`dask worker --memory-limit`) or fewer "
                "threads; the work so far is kept"
            ) from error
        except (CancelledError, FutureCancelledError, CommClosedError, TimeoutError) as error:
            raise StageError(
                f"--cluster {self.address}: the scheduler is gone; the work so far is kept: start "
                "it again, then run this again"
            ) from error
        except ModuleNotFoundError as error:
            raise StageError(
                f"--cluster {self.address}: a worker cannot load this program ({error}); install "
                "it where the workers run"
            ) from error

    def _tell(self) -> None:
        """Leave word for `dff status`."""
        if self.record is None or time.monotonic() - self._told < RECORD_EVERY:
            return
        self._told = time.monotonic()
        told = {
            "address": self.address,
            "dashboard": self.dashboard,
            "workers": {name: [one.tasks, one.last] for name, one in self.workers.items()},
        }
        with suppress(OSError):  # it is only told
            write_atomically(self.record, json.dumps(told).encode())


def _worked(code: str, label: str, function: Callable[..., R], *arguments: Any) -> Done[R]:
    """A task as a worker does it."""
    worker, began = _own_address(), time.monotonic()

    def failed(error: Exception) -> Done[R]:
        return Done(None, error, worker, time.monotonic() - began)

    if code != code_of_all():
        return failed(
            StageError(
                f"worker {worker} has another version of this program ({code_of_all()[:12]}, here "
                f"{code[:12]}): install the same one there"
            )
        )
    for one in arguments:
        if isinstance(one, Done) and one.error:
            return failed(one.error)
    _log.info("%s", label)
    try:
        value = function(*(_plain(one) for one in arguments))
    except ArtifactDamaged as error:
        return failed(error)
    except (OSError, StoreError, MemoryError):
        raise  # it may pass: Dask tries again
    except Exception as error:
        return failed(error)
    return Done(value, None, worker, time.monotonic() - began)


def _plain(argument: Any) -> Any:
    if isinstance(argument, Parcel):
        return argument.value()
    return argument.value if isinstance(argument, Done) else argument


def _mapped(function: Callable[[T], R], items: list[T]) -> list[R]:
    return [function(item) for item in items]


def _own_address() -> str:
    from distributed import get_worker

    return str(get_worker().address)


@contextmanager
def clustered(resources: Resources) -> Iterator[Cluster | None]:
    """The cluster that a stage may use, or None where it is to work alone.

    Raises
    ------
    StageError
        When no scheduler answers, or it has no workers.
    """
    if not resources.cluster:
        yield None
        return
    # Imported here: it takes a second, and only runs on a cluster need it.
    from distributed import Client

    address = resources.cluster
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # it is said in one line
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:  # a time-out is an OSError
        raise StageError(
            f"--cluster {address}: no dask scheduler answers there ({error})"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise StageError(
                f"--cluster {address}: the scheduler has no workers; start some with "
                f"`dask worker {address}`"
            ) from error
        info = client.scheduler_info()
        dashboard = client.dashboard_link if "dashboard" in info.get("services", {}) else ""
        cluster = Cluster(client, address, code_of_all(), dashboard, resources.record)
        threads = client.nthreads()
        seen = f", {dashboard}" if dashboard else ""
        note(f"on {len(threads)} workers with {cluster.slots} threads at {address}{seen}")
        yield cluster


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
