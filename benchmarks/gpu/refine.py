"""Refinement on a GPU: images a second, by part, and how far it is from the CPU's.

    python -m benchmarks.gpu.refine

Maps of 375 x 500 with four columns. The heat is drawn (blobs on a 14 x 14 grid, as a deep layer
gives them) and stored as the stage `heatmaps` stores it; so nothing upstream is run. `library` has
its images in memory; `from files` reads and decodes; `stage` is what `dff refine` runs, in a
process of its own, reading by threads or by processes: as a whole, and its last two thirds.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.common import draw_photographs
from benchmarks.gpu.common import DEVICE, PHOTOGRAPHS, REHEARSAL, report, seconds, size
from stages.algorithms.heatmap import quantise, upsample
from stages.algorithms.mask_boxes import mask_boxes
from stages.algorithms.masks import binarise, pack_masks
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.image_index import ImageIndex
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.index.params import IndexParams
from stages.index.stage import INDEX
from stages.maps.plan import MapPlan, Whole
from stages.maps.write import write_maps
from stages.refine import device as refine_batches
from stages.refine import lanes as cuda_lanes
from stages.refine.device import DeviceRefiner
from stages.refine.layer import LayerTasks
from stages.refine.refiners.guided import Guided
from stages.refine.work import refined
from store import create_artifact, open_artifact, staging
from store.artifact import layer_key
from store.chunk import encode

LAYER = "features.12"
HEIGHT, WIDTH, COLUMNS = 375, 500, 4
RATE = "images/s"
DRAWN = size(96, 6)
IMAGES = size(2400, 6)
COMPARED = size(24, 2)
WORKERS = size(16, 2)
RESOURCES = Resources(DEVICE, WORKERS, 8 * 2**30)
refine_batches.BATCH = size(refine_batches.BATCH, 3)
# Processes would import this module, and torch with it; `stage` measures them.
refine_batches.PROCESSES_FROM = 10**9


def photographs(folder: Path) -> Path:
    """IMAGES JPEG files of 375 x 500: some, and links to them."""
    made = folder / "made"
    if PHOTOGRAPHS:
        found = sorted(
            p for p in Path(PHOTOGRAPHS).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg")
        )
        made.mkdir(parents=True)
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda path: _resized(path, made), found[:DRAWN]))
    if not made.exists() or not any(made.iterdir()):
        draw_photographs(made, DRAWN)
    files = sorted(made.iterdir())
    (folder / "all" / "set").mkdir(parents=True)
    for i in range(IMAGES):
        os.link(files[i % len(files)], folder / "all" / "set" / f"{i:06d}.jpg")
    return folder / "all"


def _resized(path: Path, folder: Path) -> None:
    image = Image.open(path).convert("RGB")
    image.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(
        folder / f"{path.stem}.jpg", quality=92
    )


def heat(seed: int) -> np.ndarray:
    """Drawn heat maps in shares, float32 ``[h * w, columns]``."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:14, :14] / 14.0
    grid = rng.gamma(0.4, 0.06, (COLUMNS, 14, 14))
    for column in range(COLUMNS):
        for cy, cx, radius in rng.random((2, 3)):
            grid[column] += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (0.02 + 0.05 * radius))
    rows = torch.from_numpy(grid.reshape(COLUMNS, -1).T.clip(0, 1))
    maps = upsample(rows, (14, 14), (HEIGHT, WIDTH))
    return np.ascontiguousarray(maps.reshape(COLUMNS, -1).T.numpy())


def make_project(folder: Path) -> Path:
    """A project whose index and heat maps are there."""
    root = photographs(folder)
    project = folder / "project"
    project.mkdir()
    execute(INDEX, IndexParams(dataset="folder", root=str(root)), project, RESOURCES)
    index = ImageIndex.open(project / "artifacts/index", project)
    ids, sets = index.members()
    shares = [heat(seed) for seed in range(size(32, 4))]
    thresholds = np.percentile(np.concatenate([h[::50] for h in shares]), 75, axis=0)
    drawn = [Whole(quantise(h), pack_masks(binarise(h, thresholds, axis=1))) for h in shares]
    with staging(project / "artifacts/heatmaps.zarr", "drawn") as work:
        group = create_artifact(
            work.path,
            stage="heatmaps",
            fingerprint="drawn",
            layers=[LAYER],
            images=index.names,
            contents=index.contents,
            sets=sets,
            problems=[[COLUMNS, 0]],
            columns=[[COLUMNS, 0, factor] for factor in range(COLUMNS)],
            percentile=75.0,
            long_side=0,
        )
        plan = MapPlan(
            [index.size(i) for i in ids],
            ids,
            list(sets.values()),
            COLUMNS,
            np.uint16,
            np.tile(thresholds, (len(sets), 1)),
            WORKERS,
            np.arange(len(ids), dtype="<u8").view(np.uint8).reshape(-1, 8).repeat(4, axis=1),
        )
        write_maps(
            group.require_group(layer_key(LAYER)),
            plan,
            lambda entries: (drawn[entry % len(drawn)] for entry in entries),
            work,
            f"rows {LAYER}",
            lambda _: None,
        )
    return project


def open_tasks(project: Path) -> LayerTasks:
    """A project's maps, to be refined."""
    heatmaps = open_artifact(project / "artifacts/heatmaps.zarr")
    index = ImageIndex.open(project / "artifacts/index", project, heatmaps)
    maps = ConceptMaps(heatmaps, LAYER)
    return LayerTasks.of_all(Guided(), index, maps, [0] * len(maps.maps))


def batches_per_second(tasks: LayerTasks, step: str, batches: int) -> float:
    """Images/s of batches that lie in host memory: copy, refine, copy back, lanes in turn."""
    device = DeviceRefiner(tasks, DEVICE, RESOURCES)
    shape = HEIGHT, WIDTH
    count = device.limit_of(shape)
    device._counts[shape] = 100 * count  # often enough to be recorded
    readers = device._make_readers(count)
    batch = device._read(readers, list(range(count)), list(range(count)), shape)
    for future in batch.reading:
        future.result()

    def run(times: int) -> None:
        waiting: deque[Any] = deque()
        for _ in range(times):
            waiting.append(device._launch(batch, getattr(device, step), 0, count))
            if len(waiting) > len(device.lanes):
                waiting.popleft().by_place()
        while waiting:
            waiting.popleft().by_place()

    run(2 * len(device.lanes))
    print("recorded", [len(lane.graphs) for lane in device.lanes], "batch", count, flush=True)
    return count * batches / statistics.median(seconds(lambda: run(batches), runs=3))


def device_parts(tasks: LayerTasks) -> dict[str, float]:
    """Milliseconds an image: copies and arithmetic of one batch, each on its own."""
    device = DeviceRefiner(tasks, DEVICE, RESOURCES)
    shape = HEIGHT, WIDTH
    count = device.limit_of(shape)
    readers = device._make_readers(count)
    batch = device._read(readers, list(range(count)), list(range(count)), shape)
    for future in batch.reading:
        future.result()
    host = batch.images, batch.levels, batch.thresholds
    there = [x.to(DEVICE) for x in host]
    with torch.no_grad():
        outputs = device.rounded(*there)
        back = [device._host(x) for x in outputs]
        cases: dict[str, Callable[[], Any]] = {
            "copy to the device": lambda: [x.to(DEVICE, non_blocking=True) for x in host],
            "refine, step by step": lambda: device.rounded(*there),
            "copy back": lambda: [
                a.copy_(b, non_blocking=True) for a, b in zip(back, outputs, strict=True)
            ],
        }
        found = {
            name: 1000 * statistics.median(seconds(case)) / count for name, case in cases.items()
        }
        if DEVICE != "cpu":
            lane = cuda_lanes.Lane(DEVICE)
            with lane.current():
                device.rounded(*there)
                graph = cuda_lanes.Graph(device.rounded, host, count, lane)
                taken = statistics.median(seconds(graph.graph.replay))
            found["refine, recorded"] = 1000 * taken / count
            print("GiB in use at most:", torch.cuda.max_memory_allocated() / 2**30)
    return found


def host_parts(tasks: LayerTasks) -> dict[str, float]:
    """Milliseconds an image of one thread: what the CPU does."""
    some = list(range(4))
    offsets = tasks.maps.maps.offsets
    spans = [(int(offsets[i]), int(offsets[i + 1])) for i in some]
    whole = list(DeviceRefiner(tasks, DEVICE, RESOURCES).whole(some))
    cases: dict[str, Callable[[], Any]] = {
        "read and decode a photograph": lambda: [tasks.image(entry) for entry in some],
        "read heat maps": lambda: tasks.maps.maps.read_dense(spans),
        "boxes": lambda: [mask_boxes(one.bits, one.levels, (HEIGHT, WIDTH)) for one in whole],
        "compress maps": lambda: [encode(one.levels) for one in whole],
        "compress masks": lambda: [encode(one.bits) for one in whole],
    }
    return {name: 250 * statistics.median(seconds(case, runs=5)) for name, case in cases.items()}


def agreement(tasks: LayerTasks) -> dict[str, float]:
    """Largest difference of q, and by how much the masks' IoU with the CPU's is below 100."""
    entries = list(range(COMPARED))
    device = DeviceRefiner(tasks, DEVICE, RESOURCES)
    exact, whole = list(device.rows(entries)), list(device.whole(entries))
    here = list(refined(tasks, entries, Resources("cpu", WORKERS, 8 * 2**30)))
    cpu, gpu = np.stack(here), np.stack(exact)
    levels = np.stack([one.levels for one in whole]).astype(int)
    masks, theirs = binarise(cpu, 0.5), binarise(gpu, 0.5)
    either = (masks | theirs).sum((0, 1))
    iou = np.where(either > 0, (masks & theirs).sum((0, 1)) / np.maximum(either, 1), 1.0)
    return {
        "max |q - q of the CPU|": float(np.abs(cpu - gpu).max()),
        "max difference of levels": float(np.abs(levels - np.rint(255 * cpu)).max()),
        "points of IoU of masks": float(100 * (1 - iou.min())),
        "mask pixels, per cent": float(100 * masks.mean()),
    }


# A process whose main module is nothing: those that it starts need not import ours.
STAGE = """
import json, resource, sys, time
from contextlib import nullcontext
from pathlib import Path
import stages.refine.stage as refine
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.refine import device as refine_batches
from store.writer import RaggedWriter

project, device, workers, processes_from, batch = sys.argv[1:]
refine_batches.PROCESSES_FROM, refine_batches.BATCH = int(processes_from), int(batch)
times, storing, store = [], [], RaggedWriter._store
advance = lambda images: times.extend([time.perf_counter()] * int(images))
refine.track_images = lambda *_: nullcontext(advance)
def timed(*arguments):
    start = time.perf_counter()
    store(*arguments)
    storing.append(time.perf_counter() - start)
RaggedWriter._store = timed
start = time.perf_counter()
resources = Resources(device, int(workers), 16 * 2**30)
execute(refine.REFINE, refine.RefineParams(), Path(project), resources)
end = time.perf_counter()
used = resource.getrusage(resource.RUSAGE_SELF)
some = times[len(times) // 3 :]
print(json.dumps({
    "images/s": len(times) / (end - start),
    "images/s of the last two thirds": (len(some) - 1) / (some[-1] - some[0]),
    "until the first, s": times[0] - start,
    "after the last, s": end - times[-1],
    "CPU of the main process, ms an image": 1000 * (used.ru_utime + used.ru_stime) / len(times),
    "of that in the kernel, ms an image": 1000 * used.ru_stime / len(times),
    "storing thread waits and writes, ms an image": 1000 * sum(storing) / len(times),
}))
"""


def stage_rates(project: Path, processes: bool) -> dict[str, float]:
    """The stage from nothing: images/s, and what it spent its time on."""
    shutil.rmtree(project / "artifacts/refined.zarr", ignore_errors=True)
    arguments = project, DEVICE, WORKERS, 0 if processes else 10**9, refine_batches.BATCH
    command = [sys.executable, "-c", STAGE, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=90)
    how = "processes" if processes else "threads"
    found = json.loads(done.stdout.splitlines()[-1])
    return {f"stage, {how} read: {name}": value for name, value in found.items()}


def counted(items: Any) -> float:
    """Items a second, the first one's start included."""
    start = time.perf_counter()
    return sum(1 for _ in items) / (time.perf_counter() - start)


def parts(tasks: LayerTasks, project: Path) -> Iterator[tuple[Callable[[], dict[str, float]], str]]:
    """What is measured, in order: figures by name, and their unit."""
    batches = size(60, 1)
    entries = range(len(tasks.maps.maps))
    yield lambda: agreement(tasks), ""
    yield lambda: host_parts(tasks), "ms an image"
    yield lambda: device_parts(tasks), "ms an image"
    for step in ("rounded", "exact"):
        name = f"library, {step} q"
        yield partial(lambda n, s: {n: batches_per_second(tasks, s, batches)}, name, step), RATE
    if not REHEARSAL:
        yield lambda: {"library, nothing recorded": unrecorded(tasks, batches // 3)}, RATE
    device = DeviceRefiner(tasks, DEVICE, RESOURCES)
    yield lambda: {"from files, levels and masks": counted(device.whole(entries))}, RATE
    some = entries[: len(entries) // 2]
    yield lambda: {"from files, exact q": counted(refined(tasks, some, RESOURCES))}, RATE
    yield lambda: stage_rates(project, processes=False), ""
    if not REHEARSAL:
        yield lambda: stage_rates(project, processes=True), ""


def unrecorded(tasks: LayerTasks, batches: int) -> float:
    """As `batches_per_second`, without CUDA graphs."""
    cuda_lanes.GRAPHS = False
    try:
        return batches_per_second(tasks, "rounded", batches)
    finally:
        cuda_lanes.GRAPHS = True


def main() -> None:
    """Measure, print, write JSON; a part that fails does not stop the next."""
    rows: list[dict[str, Any]] = []
    failed = 0
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        project = make_project(Path(folder))
        print(f"project of {IMAGES} images: {time.perf_counter() - start:.1f} s", flush=True)
        for part, unit in parts(open_tasks(project), project):
            try:
                found = part()
            except Exception:
                traceback.print_exc()
                failed += 1
                continue
            rows += [{"what": name, "value": value, "unit": unit} for name, value in found.items()]
            print(f"{time.perf_counter() - start:.1f} s: {found}", flush=True)
        report("refine", "Refinement at 375 x 500, k = 4", rows, device=DEVICE, workers=WORKERS)
    sys.exit(min(failed, 1))


if __name__ == "__main__":
    main()
