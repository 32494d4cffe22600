"""What a run may use."""

import ctypes
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stages.frame.errors import StageError

if TYPE_CHECKING:
    from stages.frame.cluster import Cluster


@dataclass(frozen=True)
class Resources:
    """What a run may use. Never part of a fingerprint: results do not depend on it.

    Attributes
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    workers : int
        Threads or processes for decoding and refinement.
    memory : int
        Budget in bytes.
    cluster : str or None
        Address of a dask scheduler whose workers do what can be spread.
    store : str or None
        Folder or fsspec URL that activations are put into, instead of the artifact's folder.
    reuse : bool
        Take over what earlier artifacts have; False computes everything anew.
    spread : Cluster or None
        The cluster while a stage runs on it.
    """

    device: str = "auto"
    workers: int = 1
    memory: int = 4 * 2**30
    cluster: str | None = None
    store: str | None = None
    reuse: bool = True
    spread: "Cluster | None" = None

    @property
    def of_task(self) -> "Resources":
        """What one task on a worker of a cluster may use."""
        return replace(self, workers=1, cluster=None, spread=None)

    def torch_device(self) -> str:
        """The device by its name in torch: ``auto`` is CUDA where there is one.

        Raises
        ------
        StageError
            When this machine has no such device.
        """
        if self.device == "cpu" or (self.device == "auto" and not _has_cuda_driver()):
            return "cpu"
        import torch

        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        number = int(self.device.partition(":")[2] or 0)
        if number >= torch.cuda.device_count():
            raise StageError(
                f"--device {self.device}: this machine has {torch.cuda.device_count()} CUDA devices"
            )
        return self.device


def _has_cuda_driver() -> bool:
    """Whether it is worth the seconds to ask torch for a GPU; only Linux can say no."""
    if sys.platform != "linux":
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
