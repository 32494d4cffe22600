"""extract on a GPU against the bare forward pass, and where the time goes.

`forward` is the pruned network alone, its input on the device already, with no check and no copy:
per precision, in batches of 128 and 256, as it is, with cuDNN trying its algorithms, and recorded
as a CUDA graph. `stage` is `dff extract` in this process on as many threads as there are
cores, and as many processes that decode, or with JPEG files decoded on the GPU (`extract.decode:
gpu`). `all` is all of it; the rate is that of the second half of the images, when processes have
started, until the last one is written. Its main thread says what it waited for. Alone, on all
cores: decoding (with reading, hashing and resizing), and encoding and writing of rows of the same
network. Both share the cores, so `bound` is the lesser of the forward pass and of what the cores
can decode and encode. `GPU JPEG` is torchvision's decoder on the device, without resizing.

Weights are random, the last bias shifted so that a quarter of the activations are not zero.
"""

import math
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

import stages.extract.needs
import stages.extract.stage
import stages.extract.stream
from benchmarks.common import draw_photographs
from benchmarks.gpu.common import (
    DEVICE,
    PHOTOGRAPHS,
    REHEARSAL,
    copy_rate,
    host_rate,
    print_table,
    report,
    size,
    synchronize,
)
from benchmarks.gpu.extract_networks import networks_alone, saved_weights
from benchmarks.gpu.extract_parts import (
    SIDE,
    WORKERS,
    Row,
    decode_rates,
    encode_rates,
    gpu_jpeg,
    shrunk,
)
from stages.extract.device import DeviceLane
from stages.extract.params import ExtractParams
from stages.extract.pixels import DevicePixels
from stages.extract.plan import Job
from stages.extract.slots import Slot, Streams
from stages.extract.stage import EXTRACT
from stages.extract.stream import Stream
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.images.readers import Readers
from stages.images.shrink import Shrinker
from stages.index.params import IndexParams
from stages.index.stage import INDEX
from store import RaggedWriter, open_artifact

NETWORKS = (
    {"squeezenet1_1": "features.12"} if REHEARSAL else {"vgg19": "conv5_4", "resnet101": "layer4"}
)
IMAGES, FEW = size(8192, 24), size(512, 8)
# what decodes, and from so many images on processes do
READERS = {"the GPU": 10**9, "processes": 0}


# -- photographs ---------------------------------------------------------------------------------


def photographs(folder: Path, count: int) -> Path:
    """So many JPEG files that all differ: copies with some bytes after the end of the image."""
    given = [p for p in sorted(Path(PHOTOGRAPHS or "nowhere").rglob("*")) if p.suffix == ".jpg"]
    given = [p for p in given if "masks" not in p.parts]
    if not given:
        given = sorted(draw_photographs(folder / "drawn", min(count, 64)).iterdir())
    contents = [path.read_bytes() for path in given]
    target = folder / f"photographs {count}" / "all"
    target.mkdir(parents=True)
    for i in range(count):
        (target / f"{i:06d}.jpg").write_bytes(contents[i % len(given)] + i.to_bytes(4, "big"))
    return target.parent


def project_of(folder: Path, count: int) -> Path:
    """A project with an index of so many photographs."""
    project = folder / f"project {count}"
    project.mkdir()
    params = IndexParams(dataset="folder", root=str(photographs(folder, count)))
    execute(INDEX, params, project, Resources(device="cpu", workers=WORKERS))
    return project


# -- the stage ----------------------------------------------------------------------------------


@contextmanager
def stopwatch(spent: dict[str, float]) -> Iterator[None]:
    """Add up what the main thread of the stage spends on what."""

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return work(*arguments)
            finally:
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - start

        return measured

    places = (
        (Slot, "await_pixels", "waits for pixels"),
        (DeviceLane, "_launch", "launches"),
        (DeviceLane, "_decode", "hands out decoding"),
        (DevicePixels, "_fill", "(another thread) has the GPU decode"),
        (DevicePixels, "_decode", "(another thread) of that: decodes and resizes"),
        (Shrinker, "shrink", "(another thread) of that: resizes"),
        (Streams, "wait", "waits for the GPU"),
        (Stream, "_write", "appends"),
        (RaggedWriter, "close", "closes"),
    )
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    for owner, name, label in places:
        setattr(owner, name, timed(label, getattr(owner, name)))
    try:
        yield
    finally:
        for owner, name, work in before:
            setattr(owner, name, work)
        if "launches" in spent:  # it waits for the pixels inside
            spent["launches"] -= spent.get("waits for pixels", 0.0)


class Reached:
    """When how many images were written, and when processes had started."""

    def __init__(self) -> None:
        self.images = [0]
        self.at = [time.perf_counter()]
        self.end = self.by_processes = float("nan")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look on at one extraction."""
        write, run, started = Stream._write, Stream.run, Readers._started

        def wrote(stream: Stream, job: Job, computed: Any) -> None:
            write(stream, job, computed)
            self.images.append(job.stop)
            self.at.append(time.perf_counter())

        def ran(stream: Stream, *arguments: Any) -> None:
            run(stream, *arguments)
            self.end = time.perf_counter()

        def ready(readers: Readers) -> Any:
            found = started(readers)
            if found and not self.by_processes > 0:
                self.by_processes = time.perf_counter() - self.at[0]
            return found

        watched = [(Stream, "_write", wrote), (Stream, "run", ran), (Readers, "_started", ready)]
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in watched]
        for owner, name, work in watched:
            setattr(owner, name, work)
        try:
            yield
        finally:
            for owner, name, work in before:
                setattr(owner, name, work)

    def rate(self) -> float:
        """Images per second of the second half."""
        half = max(i for i, images in enumerate(self.images) if images <= self.images[-1] / 2)
        return (self.images[-1] - self.images[half]) / (self.end - self.at[half])


def run_stage(project: Path, params: ExtractParams) -> tuple[float, Reached, dict[str, float]]:
    """Seconds of one extraction from nothing, what was done when, and what its main thread did."""
    shutil.rmtree(project / "artifacts/activations.zarr", ignore_errors=True)
    resources = Resources(device=DEVICE, workers=WORKERS, memory=32 * 2**30)
    spent: dict[str, float] = {}
    synchronize()
    reached = Reached()
    with stopwatch(spent), reached.watched():
        execute(EXTRACT, params, project, resources)
    return time.perf_counter() - reached.at[0], reached, spent


def stage_rates(few: Path, many: Path, params: ExtractParams, readers: str) -> Row:
    """Images per second of the stage."""
    stages.extract.stream.PROCESSES_FROM = 10**9
    run_stage(few, params)  # libraries wake
    stages.extract.stream.PROCESSES_FROM = READERS[readers]
    long, reached, spent = run_stage(many, params)
    ragged = open_artifact(many / "artifacts/activations.zarr").ragged(params.layers[0])
    path = many / "artifacts/activations.zarr"
    written = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return {
        "stage/s, all": IMAGES / long,
        "stage/s": reached.rate(),
        "processes decode after s": reached.by_processes,
        "non-zero %": 100 * ragged.density,
        "MB/s written": written / long / 1e6,
        **{f"main thread {what} s": seconds for what, seconds in sorted(spent.items())},
        "stored": dict(ragged.stored_dtypes),
    }


def first_rows(project: Path, layer: str) -> np.ndarray:
    """Activations of the first images."""
    ragged = open_artifact(project / "artifacts/activations.zarr").ragged(layer)
    return ragged.rows(0, int(ragged.offsets[min(len(ragged), 160)])).astype(np.float32)


# -- all of it ------------------------------------------------------------------------------------


def bound(forward: float, decode: float, encode: float) -> float:
    """Images per second that neither the GPU nor the cores can exceed."""
    return min(forward, 1 / (1 / decode + 1 / encode))


def main() -> None:
    if REHEARSAL:  # the way of a GPU, on this CPU
        torch.set_num_threads(1)
        for module in (stages.extract.needs, stages.extract.stage):
            module.in_large_batches = lambda device: True
    # As with `dff`: processes must not import all that this module does.
    main_module = sys.modules["__main__"]
    main_module.__spec__, main_module.__file__ = None, None
    began = time.perf_counter()

    def tell(what: str) -> None:
        print(f"{time.perf_counter() - began:5.1f} s  {what}", flush=True)

    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        few, many = project_of(home, FEW), project_of(home, IMAGES)
        files = sorted((home / f"photographs {IMAGES}/all").iterdir())
        some = [shrunk(path.read_bytes()) for path in files[: size(64, 4)]]
        images = torch.from_numpy(np.stack(some))
        tell("photographs")
        alone: list[Row] = []
        whole: list[Row] = []
        decoding = decode_rates(files)
        print_table("Decoding alone", decoding)
        jpeg = gpu_jpeg(files)
        tell(f"decoding: {jpeg}")
        for name, layer in NETWORKS.items():
            weights = saved_weights(home, name, layer, images[: size(16, 2)])
            tell(f"{name}: weights")
            rows = networks_alone(name, layer, weights, images)
            alone += rows
            columns = ("network", "precision", "forward/s", "relative difference")
            print_table("The network alone", [{c: row[c] for c in columns} for row in rows])
            tell(f"{name}: forward passes")
            best = max(rows, key=lambda row: row["forward/s"])
            encoding: Row = {}
            rows_of: dict[str, np.ndarray] = {}
            for readers in READERS:
                params = ExtractParams(
                    name, weights, (layer,), size=SIDE, precision=best["precision"],
                    decode="gpu" if readers == "the GPU" else "cpu",
                )  # fmt: skip
                stage = stage_rates(few, many, params, readers)
                encoding = encoding or encode_rates(many, layer)
                decode = max(row["in processes/s"] for row in decoding)
                if readers == "the GPU":
                    decode = math.inf  # counted with the cores': reading alone is nothing
                limit = bound(best["forward/s"], decode, encoding["encode, write/s"])
                row = {
                    "network": f"{name} {layer} {best['precision']}",
                    "decoded in": readers,
                    "forward/s": best["forward/s"],
                    "stage/s": stage["stage/s"],
                    "stage : forward": stage["stage/s"] / best["forward/s"],
                    "encode, write/s": encoding["encode, write/s"],
                    "bound/s": limit,
                    "stage : bound": stage["stage/s"] / limit,
                }
                rows_of[readers] = first_rows(many, layer)
                if len(rows_of) > 1:
                    apart = np.linalg.norm(rows_of["the GPU"] - rows_of[readers])
                    row["decoded on the GPU, relative difference"] = float(
                        apart / np.linalg.norm(rows_of[readers])
                    )
                whole.append(row)
                print_table("The stage", [row])
                print({**stage, **encoding}, flush=True)
                row.update({**stage, **encoding})
                tell(f"{name}: stage, decoding in {readers}")
                keep(whole, alone, decoding, jpeg, time.perf_counter() - began)


def keep(whole: list[Row], alone: list[Row], decoding: list[Row], jpeg: Row, took: float) -> None:
    """Report what there is so far; the next network may run into the time limit."""
    columns = ["network", "decoded in", "forward/s", "stage/s", "stage : forward"]
    columns += ["bound/s", "stage : bound"]
    report(
        "extract",
        "Images per second",
        [{column: row[column] for column in columns} for row in whole],
        stages=whole,
        networks=alone,
        decoding=decoding,
        gpu_jpeg=jpeg,
        workers=WORKERS,
        images=IMAGES,
        photographs="given" if PHOTOGRAPHS else "drawn",
        device_copy_GBps=copy_rate(1024),
        host_to_device_GBps=host_rate(256),
        seconds=took,
    )


if __name__ == "__main__":
    main()
