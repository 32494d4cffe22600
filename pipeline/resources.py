"""What a run may use, from flags or environment."""

import re

from stages.algorithms.cores import cores
from stages.frame.cluster import check_cluster
from stages.frame.resources import Resources
from store import Location

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class ResourceError(Exception):
    """A resource flag cannot be met."""


def make_resources(
    device: str,
    workers: int,
    memory: str,
    cluster: str,
    store: str = "",
    reuse: bool = True,
) -> Resources:
    """Resolve what ``auto`` stands for and check what was asked for.

    Raises
    ------
    ResourceError
        For a device or a size that cannot be read; a stage that needs the device looks for it.
    StageError
        When no scheduler answers at the cluster's address.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ResourceError(f"--device {device}: choose auto, cpu, cuda or cuda:N")
    if cluster:
        check_cluster(cluster)
    return Resources(
        device=device,
        workers=workers or cores(),
        memory=memory_bytes(memory),
        cluster=cluster or None,
        # DVC runs stages in the project's folder: a relative one is relative to where we are now
        store=str(Location.of(store).absolute()) if store else None,
        reuse=reuse,
    )


def memory_bytes(memory: str) -> int:
    """Bytes that ``--memory`` stands for.

    Raises
    ------
    ResourceError
    """
    if memory == "auto":
        import psutil

        return int(psutil.virtual_memory().available) // 2
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", memory.strip(), re.IGNORECASE)
    if not match:
        raise ResourceError(f"--memory {memory}: write a size such as 8GiB or 512MiB")
    return int(float(match[1]) * UNITS[match[2].upper()])
