"""Which engine serves a device."""

from stages.algorithms.nmf.cpu import CpuEngine
from stages.algorithms.nmf.stack import Engine


def make_engine(device: str, threads: int | None = None) -> Engine:
    """The engine for ``cpu``, or for any other device by its name in torch."""
    if device == "cpu":
        return CpuEngine(threads)
    # torch takes seconds to import, and more memory than the passes
    from stages.algorithms.nmf.gpu import TorchEngine

    return TorchEngine(device)
