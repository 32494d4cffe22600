"""A scheduler's workers, as a stage sees them."""

from __future__ import annotations

import json
import math
import re
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import uuid4

from stages.frame.cluster.tasks import Done, Parcel, Place, mapped, worked
from stages.frame.errors import StageError
from store import write_atomically

T = TypeVar("T")
R = TypeVar("R")
RETRIES = 2  # of a task whose store did not answer
SECONDS = 0.5  # that a task of `Cluster.mapped` should take
MOST_ITEMS = 512  # of such a task
COUNT_EVERY = 5.0  # seconds
WORKERLESS = 60.0  # seconds that a scheduler may be without workers
RECORD_EVERY = 2.0  # seconds between two words to `dff status`


@dataclass(frozen=True)
class Shared(Generic[T]):
    """A value that each worker's process has once; an argument of tasks."""

    future: Any


@dataclass(frozen=True)
class Task(Generic[R]):
    """Work that was handed in; an argument of other tasks, which get its value."""

    future: Any
    label: str

    def when_done(self, then: Callable[[], None]) -> None:
        """Have a thread call this once the task was done, well or not."""
        self.future.add_done_callback(lambda _: then())


@dataclass(frozen=True)
class Call(Generic[R]):
    """What a worker is asked to call; see `Cluster.submit`."""

    function: Callable[..., R]
    arguments: tuple[Any, ...]
    label: str
    near: str = ""


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
            slots = sum(self._threads().values())
            self._counted = time.monotonic(), slots
        return max(1, slots)

    @property
    def places(self) -> list[str]:
        """Addresses of the workers that are there now, each as often as it has threads."""
        threads = sorted(self._threads().items())
        return [address for address, count in threads for _ in range(count)]

    def _threads(self) -> dict[str, int]:
        """Of each worker; asked of the scheduler, so that any failure is its."""
        from distributed.comm.core import CommClosedError

        with self._explained("counting workers"):
            try:
                return dict(self.client.nthreads())
            except OSError as error:
                raise CommClosedError(str(error)) from error

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
        key, task = self._spelled(Call(function, arguments, label))
        there = {"workers": [near], "allow_other_workers": True} if near else {}
        future = self.client.submit(*task, key=key, retries=RETRIES, **there)
        return Task(future, label)

    def reduced(
        self, calls: Sequence[Call[R]], together: Callable[..., R], fan_in: int, label: str
    ) -> R:
        """What calls give, put together on the workers: ``together(*some)`` of `fan_in` neighbours,
        and of what that gives, until there is one.

        All of it is told to the scheduler at once, which takes a fraction of what as many tasks
        cost one by one. Errors as `results`.
        """
        from dask.base import annotate

        graph: dict[str, tuple[Any, ...]] = {}
        near: defaultdict[str, list[str]] = defaultdict(list)

        def ask(call: Call[R]) -> Task[R]:
            key, graph[key] = self._spelled(call)
            if call.near:
                near[key].append(call.near)
            return Task(key, call.label)

        level = [ask(call) for call in calls]
        while len(level) > 1:
            some = [tuple(level[at : at + fan_in]) for at in range(0, len(level), fan_in)]
            level = [ask(Call(together, each, f"{label}: {len(level)} ranges")) for each in some]
        (last,) = level
        with annotate(workers=near.__getitem__, allow_other_workers=True, retries=RETRIES):
            future = self.client.get(graph, last.future, sync=False)
        return self.result(Task(future, last.label))

    def _spelled(self, call: Call[Any]) -> tuple[str, tuple[Any, ...]]:
        """The key of a task, and what Dask calls for it."""
        from distributed.protocol.pickle import dumps

        given, plain = list[Any](), list[Any]()
        for one in call.arguments:
            plain.append(Place(len(given)) if isinstance(one, (Shared, Task)) else one)
            if isinstance(one, (Shared, Task)):
                given.append(one.future)
        name = re.sub(r"[^A-Za-z0-9]+", "-", call.label).strip("-")
        content = dumps([call.function, *plain])
        return f"{name}-{uuid4().hex}", (worked, self.code, call.label, content, *given)

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
            self.cancel(waiting)

    def cancel(self, tasks: Iterable[Task[Any]]) -> None:
        """Forget tasks that were not begun yet."""
        with suppress(Exception):  # the scheduler may be gone
            self.client.cancel([task.future for task in tasks])

    def asked(self, function: Callable[[], R]) -> dict[str, R]:
        """What each worker that is there now says, by its address; quickly said. One that is lost
        meanwhile says nothing."""
        from distributed.comm.core import CommClosedError

        with self._explained("asking every worker"):
            said = dict(self.client.run(function, on_error="return"))
        for one in said.values():
            if isinstance(one, Exception) and not isinstance(one, CommClosedError):
                raise one
        return {who: one for who, one in said.items() if not isinstance(one, Exception)}

    def result(self, task: Task[R]) -> R:
        """The result of one task; errors as `results`."""
        return self._done(task).value  # type: ignore[return-value]

    def _done(self, task: Task[R]) -> Done[R]:
        with self._explained(task.label):
            done = self._awaited(task)
        if done.error:
            raise done.error
        self.last_worker = done.worker
        worked = self.workers.setdefault(done.worker, Worked())
        worked.tasks, worked.last = worked.tasks + 1, task.label
        self._tell()
        return done

    def _awaited(self, task: Task[R]) -> Done[R]:
        """What a task gave, unless there is nobody left to do it."""
        seen = time.monotonic()
        while True:
            try:
                return task.future.result(timeout=COUNT_EVERY)
            except TimeoutError:
                if task.future.done():  # on its way here, or the task's own error
                    return task.future.result()
            if self._threads():
                seen = time.monotonic()
            elif time.monotonic() - seen > WORKERLESS:
                raise StageError(
                    f"--cluster {self.address}: no workers are left; the work so far is kept: "
                    "start some, then run this again"
                )

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
                        waiting.append(self.submit(mapped, shared, some, label=of))
                        started += len(some)
                if waiting:
                    done = self._done(waiting.popleft())
                    assert done.value is not None
                    each = done.seconds / max(1, len(done.value))
                    size = max(1, int(SECONDS / max(each, SECONDS / MOST_ITEMS)))
                    yield from done.value
        finally:
            self.cancel(waiting)

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
        except (CancelledError, FutureCancelledError, CommClosedError) as error:
            raise StageError(
                f"--cluster {self.address}: the scheduler is gone; the work so far is kept: start "
                "it again, then run this again"
            ) from error
        except (ModuleNotFoundError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "deserialization" not in str(error):
                raise
            raise StageError(
                f"--cluster {self.address}: the scheduler or a worker cannot load this program; "
                "install it where they run"
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
