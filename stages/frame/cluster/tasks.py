"""Tasks as the processes of workers do them."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import pickle
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from stages.frame.code import code_of_all
from stages.frame.errors import StageError
from store import ArtifactDamaged, StoreError

T = TypeVar("T")
R = TypeVar("R")
LOADED = 8  # values that a worker's process keeps unpickled

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
# What else a stage keeps in the processes of workers: called when it is over.
FORGETTING: list[Callable[[], None]] = []


def forget() -> None:
    """Drop what tasks of a stage keep in this process: the next one wants the memory."""
    with _LOCK:
        _VALUES.clear()
    for one in FORGETTING:
        one()
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # glibc keeps what was freed


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
class Place:
    """Stands, among pickled arguments, for what another task gives."""

    number: int


def worked(code: str, label: str, call: bytes, *given: Any) -> Done[Any]:
    """A task as a worker does it.

    Parameters
    ----------
    code : str
        Digest of the client's code.
    call : bytes
        A function and its arguments, pickled: the scheduler, through which they go, need not load
        them.
    *given : Parcel or Done
        What the `Place`s among these stand for.
    """
    _keep_memory()
    worker, began = own_address(), time.monotonic()

    def failed(error: Exception) -> Done[Any]:
        return Done(None, error, worker, time.monotonic() - began)

    if code != code_of_all():
        return failed(
            StageError(
                f"worker {worker} has another version of this program ({code_of_all()[:12]}, here "
                f"{code[:12]}): install the same one there"
            )
        )
    for one in given:
        if isinstance(one, Done) and one.error:
            return failed(one.error)
    _log.info("%s", label)
    try:
        function, *arguments = pickle.loads(call)
        value = function(*(_plain(one, given) for one in arguments))
    except ArtifactDamaged as error:
        return failed(error)
    except (OSError, StoreError, MemoryError):
        raise  # it may pass: Dask tries again
    except Exception as error:
        return failed(error)
    return Done(value, None, worker, time.monotonic() - began)


def _plain(argument: Any, given: Sequence[Any]) -> Any:
    if not isinstance(argument, Place):
        return argument
    found = given[argument.number]
    return found.value() if isinstance(found, Parcel) else found.value


def mapped(function: Callable[[T], R], items: list[T]) -> list[R]:
    return [function(item) for item in items]


@cache
def _keep_memory() -> None:
    """Let this process use freed memory again, as others do.

    Dask's nannies have glibc give it back to the system at once, and a forward pass, which gets it
    page by page again, took 1.6 times as long.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ:
        with suppress(OSError, AttributeError):  # another system's
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, where glibc's own rule would end
            mallopt(-1, 64 * 2**20)  # M_TRIM_THRESHOLD


def own_address() -> str:
    """The address of the worker that does this task."""
    from distributed import get_worker

    return str(get_worker().address)


def own_memory() -> int | None:
    """Bytes that the worker which does this task may hold; None where nobody has set a limit."""
    from distributed import get_worker

    return get_worker().memory_manager.memory_limit or None
