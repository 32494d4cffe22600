"""How fast a stage went the last time: what `dff plan` foretells the next run from.

Beside the artifact, not in it: an artifact has no clock.
"""

import json
from contextlib import suppress
from pathlib import Path

from store import write_atomically
from store.publication import STAGING

RATE = "rate.json"


def record_rate(out: Path, images: int, seconds: float) -> None:
    """Remember how long an uninterrupted run took for so many photographs."""
    path = _path(out)
    with suppress(OSError):  # the artifact is there, and a plan can do without
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"images": images, "seconds": seconds}).encode())


def read_rate(out: Path) -> float | None:
    """Photographs per second of the last uninterrupted run; None without one."""
    try:
        found = json.loads(_path(out).read_bytes())
        rate = float(found["images"]) / float(found["seconds"])
    except (OSError, ValueError, TypeError, LookupError, ZeroDivisionError):
        return None
    return rate if rate > 0 else None


def _path(out: Path) -> Path:
    return out.parent / STAGING / out.name / RATE
