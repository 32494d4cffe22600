"""Shared by the benchmarks: tables, JSON, medians, photographs, processes and their peak RSS."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from pipeline.init import write_params
from stages.algorithms.cores import cores

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
os.environ["DFF_KEEP"] = "0"  # what is timed is the work, not what was made before
# A small process in between: a child's peak RSS begins with what its parent held when it forked.
MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open("/proc/self/io") as file:  # the kernel adds those of processes that were waited for
    io = dict(line.split(": ") for line in file.read().splitlines())
print(used.ru_utime + used.ru_stime, used.ru_maxrss, io["rchar"], io["wchar"])
sys.exit(code)
"""


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    cuda = torch.cuda.is_available()
    return {
        "cpu": model,
        "cores": cores(),
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def seconds(work: Callable[[], Any]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleaved(cases: dict[str, Callable[[], Any]], runs: int) -> dict[str, list[float]]:
    """Time all cases in turn, several times over, so that a busy moment hits all alike."""
    timings: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(runs):
        for name, work in cases.items():
            timings[name].append(seconds(work))
    return timings


def report(name: str, title: str, rows: Sequence[dict[str, Any]], **facts: Any) -> None:
    """Print one table and write ``results/<name>.json``."""
    print_table(title, rows)
    RESULTS.mkdir(exist_ok=True)
    content = {"title": title, "machine": machine(), **facts, "rows": list(rows)}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def print_table(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """One table on the terminal; ``all`` timings are for the file only."""
    table = Table(title=title, box=None)
    columns = [column for column in rows[0] if column != "all"]
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    Console(width=150).print(table)


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 100 else _whole(value)


def _whole(value: Any) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def draw_photographs(folder: Path, count: int, size: tuple[int, int] = (500, 375)) -> Path:
    """JPEG files of about the weight of photographs, for machines without any."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (24, 32, 3)).astype(np.uint8))
        fine = rng.normal(0, 6, (size[1], size[0], 3))
        pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)) + fine
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
            folder / f"{i:06d}.jpg", quality=90
        )
    return folder


def set_aside(photographs: Path, count: int, aside: Path) -> list[Path]:
    """Move some photographs away, scattered among the others; where they were, to bring back."""
    names = sorted(photographs.iterdir())
    chosen = names[:: len(names) // count][:count]
    aside.mkdir()
    for path in chosen:
        path.rename(aside / path.name)
    return chosen


def bring_back(paths: Sequence[Path], aside: Path) -> None:
    """The opposite of `set_aside`."""
    for path in paths:
        (aside / path.name).rename(path)


def make_project(folder: Path, photographs: Path, **extract: Any) -> Path:
    """A project over a folder of photographs, with its index made."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = extract.pop("layers", [])
    write_params(
        folder,
        str(photographs.resolve()),
        None,
        backbone=extract.pop("backbone", ""),
        weights=str(extract.pop("weights", "")),
        layers=layers,
        force=True,
    )
    path = folder / "params.yaml"
    lines = path.read_text().splitlines()
    for key, value in extract.items():
        at = next(i for i, line in enumerate(lines) if line.lstrip().startswith(f"{key}:"))
        indent = lines[at][: -len(lines[at].lstrip())]  # deeper in a section of options
        lines[at] = f"{indent}{key}: {value}"
    path.write_text("\n".join(lines) + "\n")
    run_dff(folder, "index")
    return folder


def run_dff(project: Path, *arguments: str) -> dict[str, float]:
    """`dff ...` in a process of its own, see `measured`."""
    # not the command `dff`: this project need not be installed
    return measured([sys.executable, "-m", "pipeline", *arguments, "--project", str(project)], {})


def measured(command: Sequence[str], env: Mapping[str, str]) -> dict[str, float]:
    """A command of this project: its seconds, those of processors, its peak RSS in MiB.

    And MiB that it read and wrote, from whatever: disk, cache or pipes.
    """
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command],
        env=os.environ | {"PYTHONPATH": path} | env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    cpu, peak, read, written = done.stdout.splitlines()[-1].split()
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": float(cpu),
        "peak_mib": int(peak) / 1024,
        "read_mib": int(read) / 2**20,
        "written_mib": int(written) / 2**20,
    }
