"""What to say when a device's memory does not hold what it must."""

import torch

from stages.frame.errors import StageError


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch, cuDNN or CUDA means that memory ran out."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(
        sign in text for sign in ("out of memory", "ALLOC_FAILED")
    )


def no_fit(what: str, size: int, device: torch.device, does: str = "does") -> StageError:
    """The one line that names what does (or do) not fit, with the bytes needed and those free."""
    return StageError(
        f"{what}, about {size / 2**20:.0f} MiB, {does} not fit the memory of {device}, of which "
        f"{_free(device) / 2**20:.0f} MiB are free: lower extract.size, tap fewer or deeper "
        "layers, take extract.precision: bfloat16, or use --device cpu"
    )


def _free(device: torch.device) -> int:
    """Bytes that this process may still take."""
    if device.type != "cuda":
        return 0
    index = torch.cuda.current_device() if device.index is None else device.index
    free, total = torch.cuda.mem_get_info(index)
    held = torch.cuda.memory_allocated(index)
    # what torch has put aside is free, too; a cap on this process is not known to the driver
    free += torch.cuda.memory_reserved(index) - held
    cap = getattr(torch.cuda, "get_per_process_memory_fraction", None)  # not in older torch
    return max(0, min(free, int(cap(index) * total) - held)) if cap else free
