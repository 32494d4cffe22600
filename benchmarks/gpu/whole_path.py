"""Photographs to report: seconds of every stage of a project, on one machine with a GPU.

The stages run in this process, one after the other, as `dff run` would run them, after a run over a
few photographs: what it takes to start Python, to compile and to wake a device is not counted.
Photographs are those of DFF_GPU_PHOTOGRAPHS (or drawn ones) under many names, a few bytes appended
so that no two files are the same and nothing is taken over; JPEG files are decoded on the GPU.
SqueezeNet has the weights of DFF_GPU_WEIGHTS where it names a file, VGG-19 random ones: the figures
are rates, not scores.
"""

import contextlib
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.common import draw_photographs
from benchmarks.gpu.common import DEVICE, PHOTOGRAPHS, report, size, synchronize
from pipeline.init import write_params
from pipeline.params import PARAMS, read_params
from pipeline.registry import STAGES
from stages.algorithms.cores import cores
from stages.frame.execute import execute
from stages.frame.resources import Resources

IMAGES, FIRST = size(2000, 4), size(16, 0)
LAST_START = 45.0  # seconds after which no other network is begun: the part is stopped at 100
WEIGHTS = os.environ.get("DFF_GPU_WEIGHTS", "")
NETWORKS = {
    "squeezenet1_1": ("features.12", WEIGHTS if Path(WEIGHTS or " ").is_file() else "random:0"),
    "vgg19": ("conv5_4", "random:0"),
}


def many_photographs(folder: Path, name: str, count: int) -> Path:
    """So many files that all differ, in one image set."""
    given = [
        path
        for path in sorted(Path(PHOTOGRAPHS or "nowhere").rglob("*"))
        if path.suffix in (".jpg", ".jpeg", ".png") and "masks" not in path.parts
    ]
    if not given:
        given = sorted(draw_photographs(folder / "drawn", min(count, 64)).iterdir())
    target = folder / name / "all"
    target.mkdir(parents=True)
    contents = [path.read_bytes() for path in given]
    for i in range(count):
        at = i % len(given)
        # decoders stop at the end of the image
        path = target / f"{i:06d}{given[at].suffix}"
        path.write_bytes(contents[at] + i.to_bytes(4, "big"))
    return target.parent


@contextlib.contextmanager
def peaks(row: dict[str, Any]) -> Iterator[None]:
    """Add to a row what its work took at most: memory of this process and of the device, in MiB."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew, where that is allowed
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
    yield
    row["peak RSS MiB"] = peak_rss() / 2**20
    row["peak device MiB"] = torch.cuda.max_memory_allocated() / 2**20 if DEVICE == "cuda" else 0.0


def peak_rss() -> int:
    """Bytes: since `peaks` began, or of the whole process where that cannot be told."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run_stages(
    project: Path, photographs: Path, network: str, resources: Resources
) -> list[dict[str, Any]]:
    """Make a project and run its stages; one row for each, and one for all."""
    layer, weights = NETWORKS[network]
    write_params(project, str(photographs), None, backbone=network, weights=weights, layers=[layer])
    edit_params(project, "decode: cpu", "decode: gpu")
    params, rows = read_params(project), []
    for stage in STAGES:
        row: dict[str, Any] = {"stage": stage.name}
        with peaks(row):
            start = time.perf_counter()
            execute(stage, params[stage.name], project, resources)
            synchronize()
            row["seconds"] = time.perf_counter() - start
        rows.append(row)
        print(f"{stage.name}: {row['seconds']:.2f} s", flush=True)
    shutil.rmtree(project)
    whole = {"stage": "all", "seconds": sum(row["seconds"] for row in rows)}
    for name in ("peak RSS MiB", "peak device MiB"):
        whole[name] = max(row[name] for row in rows)
    return [*rows, whole]


def edit_params(project: Path, before: str, after: str) -> None:
    """Change one value in a project's params.yaml."""
    path = project / PARAMS
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def rates(rows: list[dict[str, Any]], images: int) -> list[dict[str, Any]]:
    """The same rows with what can be compared."""
    extract = next(row["seconds"] for row in rows if row["stage"] == "extract")
    columns = ("stage", "seconds", "images/s", "of extract")
    found = []
    for row in rows:
        row |= {"images/s": images / row["seconds"], "of extract": row["seconds"] / extract}
        found.append({name: row[name] for name in (*columns, *row)})
    return found


def main() -> None:
    start = time.perf_counter()
    workers = cores()
    memory = int(psutil.virtual_memory().available) // 2
    resources = Resources(device=DEVICE, workers=workers, memory=memory)
    folder = Path(tempfile.mkdtemp())
    try:
        photographs = many_photographs(folder, "photographs", IMAGES)
        few = many_photographs(folder, "few", FIRST) if FIRST else None
        for number, network in enumerate(size([*NETWORKS], [next(iter(NETWORKS))])):
            if number and time.perf_counter() - start > LAST_START:
                print(f"no time left for {network}")
                break
            begun = time.perf_counter()
            if few:
                run_stages(folder / network, few, network, resources)
            first = time.perf_counter() - begun
            rows = run_stages(folder / network, photographs, network, resources)
            report(
                "whole_path",
                f"{IMAGES} photographs to report, {network}, k = 1 to 4, {workers} cores, {DEVICE}",
                rates(rows, IMAGES),
                images=IMAGES,
                network=network,
                weights=Path(NETWORKS[network][1]).name,
                memory=memory,
                seconds_of_a_first_run=first,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
