"""What a cluster costs and gives: coordination of a pass, scaling on this machine, Dask's arrays.

    python benchmarks/cluster.py coordination [--workers 1 10 100]
    python benchmarks/cluster.py client
    python benchmarks/cluster.py scaling PHOTOGRAPHS --weights FILE --layer NAME [--images 200]
    python benchmarks/cluster.py arrays PHOTOGRAPHS --weights FILE --layer NAME [--images 1000]

`coordination`: a pass of `factorize` whose blocks are synthetic and take no time: what is left is
telling the workers W, and adding up their sums. The scheduler is a process of its own, and so are
all workers together: on few cores the clock says little of a cluster, where every worker has cores
of its own, so the processor time of each is given as well; what a cluster would wait for is the
client's, the scheduler's and that of one worker, one after the other.

`client`: coefficients that come from workers in the last pass, taken and written by the client.

`scaling`: seconds of stages without a cluster, with one thread and with all, and with 1, 2 and 4
processes; the same photographs for all (strong), and as many for each worker (weak).

`arrays`: our factorization on two processes, and what a user writes with Dask's arrays
(multiplicative updates, blocks kept in memory) on the same rows.
"""

import argparse
import asyncio
import gc
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np

from benchmarks.common import RESULTS, machine, make_project, print_table, run_dff
from stages.algorithms.nmf import Sweep
from stages.algorithms.nmf.stack import Rule, Stack, Sums
from stages.artifacts.activations import Activations
from stages.artifacts.factorizations import Factorizations
from stages.factorize import spread
from stages.factorize.rows import SetOfLayer, Source
from stages.factorize.spread import SpreadEngine
from stages.factorize.units import Pass, RangeSums, Units
from stages.frame.cluster import clustered, local_cluster, own_address
from stages.frame.cluster.work import COUNT_EVERY

CHANNELS, KS = 512, (1, 2, 3, 4)
PASSES = 7
MOST_UPDATES = 200
# Monitors of each worker, of which a thousand in one process would do nothing else.
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "60s",
    "distributed.admin.tick.interval": "60s",
    "distributed.admin.tick.cycle": "60s",
    "distributed.worker.memory.monitor-interval": "60s",
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
}


# -- coordination ------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoRows:
    """Units of a set that has no rows on disk: as many as a worker's share of a large one."""

    count: int

    @property
    def of(self) -> Any:
        return SimpleNamespace(name="synthetic")


def synthetic(units: NoRows, work: Pass, first: int, last: int) -> RangeSums:
    """The sums of a range, without any arithmetic."""
    sums = [Sums(np.ones(W.shape), np.ones((len(W), len(W))), 1.0) for W in work.stack.factors]
    return RangeSums(sums, {first: own_address()})


@contextmanager
def farm(count: int) -> Iterator[tuple[str, subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    """A scheduler, and a process with so many workers."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    env = os.environ | {"PYTHONPATH": sys.path[0]}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
    quiet = {"stderr": subprocess.DEVNULL, "env": env}
    scheduler = subprocess.Popen([*command, "--port", str(port), "--host", "127.0.0.1"], **quiet)
    workers = subprocess.Popen(
        [sys.executable, __file__, "farm", address, "--workers", str(count)], **quiet
    )
    try:
        yield address, scheduler, workers
    finally:
        for process in (workers, scheduler):
            process.kill()
            process.wait()


async def be_farm(address: str, count: int) -> None:
    from dask import config
    from distributed import Worker

    gc.disable()  # which would look through all workers again and again
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with config.set(QUIET), tempfile.TemporaryDirectory() as folder:
        workers = [
            Worker(address, nthreads=1, name=str(at), local_directory=folder, dashboard=False)
            for at in range(count)
        ]
        for at in range(0, count, 50):
            await asyncio.gather(*workers[at : at + 50])
        await asyncio.gather(*(worker.finished() for worker in workers))


def cpu_of(process: subprocess.Popen[bytes]) -> float:
    import psutil

    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def coordination(counts: list[int]) -> list[dict[str, Any]]:
    spread.sums_of_range = synthetic
    rng, rows = np.random.default_rng(0), []
    for count in counts:
        with farm(count) as (address, *others), clustered(address, workers=0) as cluster:
            assert cluster
            cluster.client.wait_for_workers(count, timeout=600)
            time.sleep(COUNT_EVERY + 1)  # until they are counted
            engine = spread.SpreadEngine(cluster, NoRows(64 * count), None, 1)  # type: ignore[arg-type]
            found = []
            for _ in range(PASSES):
                factors = [rng.random((k, CHANNELS)) for k in KS]
                before = [time.process_time(), *map(cpu_of, others)]
                began = time.perf_counter()
                engine.run_pass(None, Stack(factors, np.dtype(np.float32)), Rule())  # type: ignore[arg-type]
                wall = time.perf_counter() - began
                after = [time.process_time(), *map(cpu_of, others)]
                found.append([wall, *(b - a for a, b in zip(before, after, strict=True))])
            tasks = len(spread.ranges(64 * count, cluster.slots))
        wall, client, scheduler, workers = map(statistics.median, zip(*found[1:], strict=True))
        out, back = engine.traffic[-1]
        rows.append(
            {
                "workers": count,
                "tasks": tasks,
                "clock, ms": 1e3 * wall,
                "client, CPU ms": 1e3 * client,
                "scheduler, CPU ms": 1e3 * scheduler,
                "a worker, CPU ms": 1e3 * workers / count,
                "one after the other, ms": 1e3 * (client + scheduler + workers / count),
                "sent, kB": out / 1e3,
                "got, kB": back / 1e3,
            }
        )
        print_table("Coordination of a pass", rows[-1:])
    return rows


def client_rate(home: Path, rows: int = 5_000_000) -> list[dict[str, Any]]:
    """Coefficients of k = 1 to 4 on their way to disk, as `factorize` takes them, on one thread."""
    from stages.algorithms.nmf.choice import Links
    from stages.algorithms.nmf.usage import Usage
    from store import RaggedWriter, plan_layout
    from store.location import Location

    asked = Factorizations.every(KS, (0,))
    count = len(asked.columns)
    block = np.random.default_rng(0).gamma(0.3, size=(65536, count)).astype(np.float32)
    grids = np.full((rows // 196, 2), 14)
    group = Location.of(home / "coefficients.zarr").zarr_group("w")
    layout = plan_layout(len(grids) * 196, 4 * count, most_rows=2048)
    writer = RaggedWriter(group, grids, np.arange(len(grids)), count, np.float32, layout=layout)
    links, usage = Links(asked.columns), Usage(count)
    began = time.process_time()
    for at in range(0, writer.total_rows, len(block)):
        some = block[: writer.total_rows - at]
        links.add(some)
        usage.add(some)
        writer.append(at, some)
    writer.close()
    taken = time.process_time() - began
    return [{"rows": writer.total_rows, "CPU s": taken, "rows a second": writer.total_rows / taken}]


# -- scaling -----------------------------------------------------------------------------------

CASES = {"one thread": ("--workers", "1"), "all threads": ()} | {
    f"local:{count}": ("--cluster", f"local:{count}") for count in (1, 2, 4)
}
STAGES = ("index", "extract", "factorize", "refine", "evaluate")


def some_photographs(folder: Path, source: Path, count: int) -> Path:
    """Links to so many photographs, from all over a folder."""
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    folder.mkdir(parents=True)
    for number, at in enumerate(np.linspace(0, len(found) - 1, count).astype(int)):
        (folder / f"{number:06d}.jpg").symlink_to(found[at].resolve())
    return folder


def scaling(asked: argparse.Namespace, home: Path) -> list[dict[str, Any]]:
    rows = []
    for what, each in (("strong", 0), ("weak", asked.images // 4)):
        for case, flags in CASES.items():
            workers = int(case.partition(":")[2] or 0)
            if each and not workers:
                continue
            count = each * workers if each else asked.images
            photographs = some_photographs(home / "photographs", asked.place, count)
            row: dict[str, Any] = {"scaling": what, "case": case, "images": count}
            for stage in STAGES:
                row[stage] = statistics.median(
                    stage_seconds(home / "project", photographs, asked, stage, flags)
                    for _ in range(asked.runs)
                )
            shutil.rmtree(photographs)
            shutil.rmtree(home / "project")
            rows.append(row)
            print_table("Seconds of stages", rows[-1:])
    return rows


def stage_seconds(
    project: Path, photographs: Path, asked: argparse.Namespace, stage: str, flags: tuple[str, ...]
) -> float:
    """Of one stage, from nothing; those before it are made if they are not there."""
    if not project.exists():
        network = {"weights": asked.weights, "layers": [asked.layer], "backbone": asked.backbone}
        make_project(project, photographs, **network)
    for before in ("extract", "factorize", "heatmaps", "refine"):
        if before == stage:
            break
        run_dff(project, before)
    out = {"extract": "activations.zarr", "factorize": "factors.zarr", "refine": "refined.zarr"}
    shutil.rmtree(project / "artifacts" / out.get(stage, stage), ignore_errors=True)
    return run_dff(project, stage, "--no-reuse", *flags)["seconds"]


# -- arrays of Dask ----------------------------------------------------------------------------


def arrays(asked: argparse.Namespace, home: Path) -> list[dict[str, Any]]:
    """Our passes over rows on two processes, and updates that are written with `dask.array`."""
    photographs = some_photographs(home / "photographs", asked.place, asked.images)
    network = {"weights": asked.weights, "layers": [asked.layer], "backbone": asked.backbone}
    project = make_project(home / "project", photographs, **network)
    run_dff(project, "extract")
    path = project / "artifacts/activations.zarr"
    activations = Activations.open(path)
    of = activations.at(activations.layers[0])
    entries = np.arange(len(of))
    cells = np.diff(of.offsets)[:, None]
    one_set = SetOfLayer(
        "all", Source.of(activations, path, activations.layers[0]), entries, cells, 0, 0
    )
    rows = of.select(entries)
    found = []
    with local_cluster("local:2", 8 * 2**30) as address, clustered(address, workers=2) as cluster:
        assert cluster
        for _ in range(asked.runs):
            units = Units.made(one_set, "none", None, str(time.time()), False, 2**30)
            stored = one_set.stored("none")
            began = time.perf_counter()
            engine = SpreadEngine(cluster, units, stored, 1)
            sweep = Sweep(stored, [5], [0], device=engine)
            while not sweep.done:
                sweep.step()
            seconds, loss = time.perf_counter() - began, sweep.problems[0].loss[-1]
            error = float(np.sqrt(loss / sweep.norm))
            ours = {"what": "dff", "passes": sweep.passes, "seconds": seconds, "error": error}
            found.append(ours)
            began = time.perf_counter()
            for passes, now in enumerate(dask_updates(cluster.client, rows, 5, sweep.norm), 1):
                if passes == sweep.passes:
                    seconds = time.perf_counter() - began
                    same = {"what": "dask.array, as many passes", "passes": passes}
                    found.append(same | {"seconds": seconds, "error": now})
                if now <= error * 1.001 or passes == MOST_UPDATES:
                    break
            seconds = time.perf_counter() - began
            until = {"what": "dask.array, until within 0.1 %", "passes": passes}
            found.append(until | {"seconds": seconds, "error": now})
    return [
        {
            "what": what,
            "rows": rows.shape[0],
            "passes": statistics.median(one["passes"] for one in of_kind),
            "seconds": statistics.median(one["seconds"] for one in of_kind),
            "relative error": statistics.median(one["error"] for one in of_kind),
            "all": [one["seconds"] for one in of_kind],
        }
        for what in dict.fromkeys(one["what"] for one in found)
        if (of_kind := [one for one in found if one["what"] == what])
    ]


def dask_updates(client: Any, rows: Any, k: int, norm: float) -> Iterator[float]:
    """Multiplicative updates (Lee & Seung 2001) as a user of Dask writes them; relative errors."""
    import dask.array as da
    from distributed import wait

    rng, size = np.random.default_rng(0), 65536
    A = client.persist(da.from_array(rows, chunks=(size, -1)))
    H = client.persist(da.random.default_rng(0).random((len(A), k), chunks=(size, k)).astype("f4"))
    with client.as_current():
        wait([A, H])
    W = rng.random((k, rows.shape[1])).astype("f4")
    while True:
        H = client.persist(H * (A @ W.T) / (H @ (W @ W.T) + 1e-9))
        HtA, HtH = client.gather(client.compute([H.T @ A, H.T @ H]))
        W = W * HtA / (HtH @ W + 1e-9)
        loss = norm - 2 * float((HtA * W).sum()) + float((HtH * (W @ W.T)).sum())
        yield float(np.sqrt(max(loss, 0.0) / norm))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["coordination", "client", "scaling", "arrays", "farm"])
    parser.add_argument("place", nargs="?", default="", help="photographs")
    # 300 take minutes to start on two cores; 1000 in one process did not get through a pass
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--layer", default="features.12")
    parser.add_argument("--backbone", default="squeezenet1_1")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    if asked.what == "farm":
        asyncio.run(be_farm(asked.place, asked.workers[0]))
        return
    with tempfile.TemporaryDirectory() as home:
        if asked.what == "coordination":
            title = "Coordination of a pass, k = 1 to 4, 512 channels"
            rows = coordination(asked.workers)
        elif asked.what == "client":
            title, rows = "Coefficients that the client takes", client_rate(Path(home))
        else:
            asked.place = Path(asked.place)
            title, work = {
                "scaling": (f"Seconds of stages, medians of {asked.runs}", scaling),
                "arrays": ("A factorization, k = 5, on two processes", arrays),
            }[asked.what]
            rows = work(asked, Path(home))
    keep(asked.what, title, rows)


def keep(what: str, title: str, rows: list[dict[str, Any]]) -> None:
    """Print a table, and write it among those of the other parts."""
    print_table(title, rows)
    path = RESULTS / "cluster.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    found[what] = {"title": title, "machine": machine(), "rows": rows}
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    from benchmarks.cluster import main  # what is of __main__ would be pickled by value

    main()
