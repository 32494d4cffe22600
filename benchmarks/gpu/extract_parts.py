"""The parts of an extraction that a CPU does, each alone on all cores; and JPEG on a GPU."""

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
import zarr

from benchmarks.gpu.common import DEVICE, median, size
from stages.algorithms.cores import cores
from stages.images.decode import decode_resized, decode_rgb
from stages.images.resize import resize_rgb
from store import RaggedWriter, open_artifact, plan_layout
from store.writer import Background

SIDE = size(224, 64)
WORKERS = cores()
Row = dict[str, Any]


def in_threads(work: Callable[[Any], Any], items: Sequence[Any], workers: int) -> float:
    """Items per second."""
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, items[: 2 * workers]))
        start = time.perf_counter()
        list(pool.map(work, items, chunksize=1))
        return len(items) / (time.perf_counter() - start)


def shrunk(data: bytes) -> np.ndarray:
    """A photograph as the network gets it."""
    return decode_resized(data, (SIDE, SIDE))


def measured_size(data: bytes) -> int:
    """As `shrunk`, and nothing but a number back: the pixels do not travel."""
    return shrunk(data).size


def decode_rates(files: Sequence[Path]) -> list[Row]:
    """Images per second of decoding, by threads and by processes."""
    contents = [path.read_bytes() for path in files[:64]]
    items = [contents[i % len(contents)] for i in range(size(1536, 16))]
    rows = []
    for workers in sorted({1, WORKERS // 2 or 1, WORKERS}):
        some = items[: max(16, len(items) * workers // WORKERS)]
        with get_context("fork").Pool(workers) as pool:  # before CUDA is awake
            pool.map(measured_size, some[:workers])
            start = time.perf_counter()
            pool.map(measured_size, some, chunksize=4)
            apart = len(some) / (time.perf_counter() - start)
        rows.append(
            {
                "workers": workers,
                "in threads/s": in_threads(shrunk, some, workers),
                "in processes/s": apart,
            }
        )
    return rows


def encode_rates(project: Path, layer: str) -> Row:
    """Images per second of encoding and storing rows of the stage, and of appending alone."""
    ragged = open_artifact(project / "artifacts/activations.zarr").ragged(layer)
    count = min(len(ragged), 256)
    per_image = int(np.diff(ragged.offsets).max())
    rows = ragged.rows(0, int(ragged.offsets[count])).astype(np.float16)
    repeats = size(16, 1)
    grid = np.tile([per_image, 1], (repeats * count, 1))
    found: Row = {}
    cases = {"encode, write/s": WORKERS, "in one thread/s": 0}
    for name, workers in cases.items():
        times = repeats if workers else max(1, repeats // 8)
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers or 1) as pool:
            writer = RaggedWriter(
                zarr.create_group(folder),
                grid[: times * count],
                np.arange(times * count),
                rows.shape[1],
                np.float32,
                layout=plan_layout(times * len(rows), rows.shape[1] * 2),
                narrow=True,
                background=Background(pool, ThreadPoolExecutor(1)) if workers else None,
            )
            start = time.perf_counter()
            for i in range(times):
                writer.append(i * len(rows), rows)
            appended = time.perf_counter() - start
            writer.close()
            found[name] = times * count / (time.perf_counter() - start)
            if workers:
                found["append in main thread/s"] = times * count / appended
    return found


def gpu_jpeg(files: Sequence[Path]) -> Row:
    """Images per second of torchvision's JPEG decoder on the device, and its pixels."""
    contents = [path.read_bytes() for path in files[:64]]
    row: Row = {"GPU JPEG/s": None, "GPU JPEG": ""}
    if DEVICE != "cuda":
        return row | {"GPU JPEG": "no GPU in a rehearsal"}
    try:
        encoded = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in contents]
        mode = torchvision.io.ImageReadMode.RGB

        def decode(batch: int) -> list[torch.Tensor]:
            some = [encoded[i % len(encoded)] for i in range(batch)]
            return torchvision.io.decode_jpeg(some, mode=mode, device=DEVICE)

        for batch in (64, 256):
            row[f"GPU JPEG, batches of {batch}/s"] = batch / median(lambda b=batch: decode(b))
        row["GPU JPEG/s"] = max(v for k, v in row.items() if k.startswith("GPU JPEG, "))
        theirs = [image.permute(1, 2, 0).cpu().numpy().astype(int) for image in decode(8)]
        apart = [np.abs(a - decode_rgb(c)) for a, c in zip(theirs, contents, strict=False)]
        row["pixels differ by, mean"] = float(np.mean([a.mean() for a in apart]))
        row["pixels differ by, most"] = int(max(a.max() for a in apart))
        exact = [shrunk(c).astype(int) for c in contents[:8]]
        small = [resize_rgb(a.astype(np.uint8), (SIDE, SIDE)).astype(int) for a in theirs]
        row["resized, differ by, mean"] = float(np.mean(np.abs(np.array(small) - np.array(exact))))
    except Exception as error:  # a build without nvJPEG, or a driver that it does not take
        row["GPU JPEG"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return row
