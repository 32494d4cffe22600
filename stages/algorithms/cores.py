"""How many processors there are for this process."""

import os


def cores() -> int:
    """Processors that this process may use: of Linux its own, of macOS and Windows all."""
    affinity = getattr(os, "sched_getaffinity", None)  # neither macOS nor Windows has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1
