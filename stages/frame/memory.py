"""One projection of memory: every stage says what it needs before it runs, one place adds it up.

``--memory`` has one meaning: the bytes that a stage's process may hold, interpreter and libraries
included, and the processes that it starts with it. A stage that would not fit is refused before it
has done anything, in one line with both numbers.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from stages.frame.errors import StageError
from stages.frame.resources import Resources

MIB = 2**20
# What reads and writes artifacts; stages load it when they come to that, and all of them do.
ARTIFACTS = ("pandas", "pyarrow.parquet", "zarr")
_LOADED: dict[str, int] = {}  # libraries that `resident` has loaded, and what they took


@dataclass(frozen=True)
class Needs:
    """What a stage holds in memory, and how much it has to do, counted before it runs.

    Attributes
    ----------
    fixed : mapping of what to bytes
        Held once, whatever the number of workers.
    each : mapping of what to bytes
        Held by every worker at its worst moment.
    spare : int
        Bytes that would be put to use (rows kept in memory), but are not needed.
    images : int
        To be worked on; what a rate counts.
    reads, writes : int
        Bytes of files, at most: arrays before they are compressed.
    remedy : str
        What a person may change besides ``--memory``: ``lower extract.batch, ...``.
    """

    fixed: Mapping[str, int]
    each: Mapping[str, int] = field(default_factory=dict)
    spare: int = 0
    images: int = 0
    reads: int = 0
    writes: int = 0
    remedy: str = ""

    @property
    def least(self) -> int:
        """Bytes with one worker."""
        return self.peak(1)

    def peak(self, workers: int) -> int:
        """Bytes with so many workers, and what is spare besides."""
        return sum(self.fixed.values()) + workers * sum(self.each.values())

    def workers_within(self, resources: Resources) -> int:
        """How many of the workers fit; 0 when not even one does."""
        left = resources.memory - sum(self.fixed.values())
        if left < 0:
            return 0
        each = sum(self.each.values())
        return min(resources.workers, left // each) if each else resources.workers


def resources_within(name: str, needs: Needs, resources: Resources) -> Resources:
    """The resources with as many workers as the budget has room for.

    Raises
    ------
    StageError
        When it has no room for one.
    """
    workers = needs.workers_within(resources)
    if workers < 1:
        parts = {**needs.fixed, **needs.each}
        largest = sorted(parts, key=lambda one: -parts[one])
        shown = ", ".join(f"{_mib(parts[one])} for {one}" for one in largest if parts[one] >= MIB)
        remedy = f"{needs.remedy}, or raise --memory" if needs.remedy else "raise --memory"
        raise StageError(
            f"{name} needs about {_mib(needs.least)} MiB{f' ({shown})' if shown else ''}, "
            f"the budget is {_mib(resources.memory)} MiB: {remedy}"
        )
    return replace(resources, workers=workers)


def resident(*modules: str) -> int:
    """Bytes of this process once it has loaded some libraries, and those for `ARTIFACTS`.

    Libraries that it has loaded when it was asked about others (`dff plan` asks for every stage) do
    not count. Of two that need each other, name the one that is needed first.
    """
    for module in ARTIFACTS:
        importlib.import_module(module)
    for module in modules:
        if module not in _LOADED:
            before = _resident()
            importlib.import_module(module)
            _LOADED[module] = max(0, _resident() - before)
    others = sum(size for module, size in _LOADED.items() if module not in modules)
    return _resident() - others


def _resident() -> int:
    import psutil  # here: what only looks at artifacts asks for no memory

    return int(psutil.Process().memory_info().rss)


def _mib(size: int) -> str:
    return f"{size / MIB:.0f}"
