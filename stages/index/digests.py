"""Digests of files that are asked for again and again: read anew only where a file has changed.

A file counts as unchanged while its size, time of modification and inode are the same, and that
time lay some seconds back when it was read: within a clock's tick it could change unnoticed.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from stages.frame.parallel import ordered_map
from store import write_atomically

SETTLED = 3.0  # seconds since a file was last changed
Stamp = tuple[int, int, int]  # size, time of modification in nanoseconds, inode
Known = dict[str, tuple[Stamp, str]]


def kept_digests(
    paths: Sequence[Path], digest: Callable[[Path], str], memory: Path, workers: int = 8
) -> list[str]:
    """The digest of each file, in order.

    Parameters
    ----------
    digest : callable
        Reads a file.
    memory : Path
        A file that remembers digests between processes; anything wrong with it costs time only.
    """
    known = _read(memory)
    names = [str(path) for path in paths]
    stamps = [_stamp(name) for name in names]
    asked = [
        at
        for at, (name, stamp) in enumerate(zip(names, stamps, strict=True))
        if name not in known or known[name][0] != stamp
    ]
    now = time.time_ns()
    # hashing waits for the disk and gives up the interpreter lock: threads help on any machine
    anew = ordered_map(digest, (paths[at] for at in asked), workers=workers)
    read = dict(zip(asked, anew, strict=True))
    found = [read[at] if at in read else known[name][1] for at, name in enumerate(names)]
    kept: Known = {}
    for name, stamp, value in zip(names, stamps, found, strict=True):
        if stamp is not None and now - stamp[1] > SETTLED * 1e9:
            kept[name] = (stamp, value)
    if kept != known:
        _write(memory, kept)
    return found


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - a path as an object takes longer than the system
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _read(memory: Path) -> Known:
    try:
        rows = json.loads(memory.read_bytes())
        return {
            str(path): ((int(size), int(changed), int(inode)), str(digest))
            for path, size, changed, inode, digest in rows
        }
    except (OSError, ValueError, TypeError):
        return {}


def _write(memory: Path, known: Known) -> None:
    rows = [(path, *stamp, digest) for path, (stamp, digest) in known.items()]
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(memory, json.dumps(rows).encode())
    except OSError:
        return  # a project that cannot be written to is read as well
