"""Which engine serves a device."""

import importlib.util

from stages.algorithms.nmf.cpu import CpuEngine
from stages.algorithms.nmf.stack import Engine


def make_engine(device: str, threads: int | None = None, *, signed: bool = False) -> Engine:
    """The engine for ``cpu``, or for any other device by its name in torch.

    CUDA devices have kernels of their own where Triton is installed, as it is with torch on Linux;
    these count on rows that are nowhere `signed`.
    """
    if device == "cpu":
        return CpuEngine(threads)
    # torch takes seconds to import, and more memory than the passes
    if device.startswith("cuda") and not signed and importlib.util.find_spec("triton"):
        from stages.algorithms.nmf.fused import FusedEngine

        return FusedEngine(device)
    from stages.algorithms.nmf.gpu import TorchEngine

    return TorchEngine(device)
