"""What grows with a collection, stage by stage, up to as many images as there is time for.

    python benchmarks/collection.py [--images 10000 50000 200000] [--sets 1 100] [--at FOLDER]

Synthetic collections of 32 x 24 pixel JPEG files: hard links to some thousand drawings, in folders
of a thousand or by image set. A network of one convolution sees them at 32 pixels (16 cells each,
16 channels): what is measured is what a collection costs, not what a network does. Maps have the
photographs' size, k is 1 and 2; maps are not refined (milliseconds an image whatever the others,
see flat.py), unless --refine asks for it; all other params are the defaults. Each stage runs in a
process of its own, under `ulimit -n 256`; noted are its seconds, those of processors, peak RSS,
open files and threads, bytes and number of files of its artifact. Then what a run costs that finds
everything fresh, and `dff status`, `show` and `--help`. Slopes are between the smallest and the
largest collection of a kind; what they foretell for two million is an extrapolation. Writes
results/collection.json.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

from benchmarks.common import RESULTS, ROOT, draw_photographs, machine, make_project, print_table
from pipeline.registry import STAGES

DRAWINGS = 2000
FOLDER = 1000  # images of a folder
OPEN_FILES = 256
TARGET = 2_000_000
TICK = 0.02  # seconds between two looks at a process
NETWORK = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.ReLU())
"""
COMMANDS = {"no-op run": ["run"], "status": ["status"], "show": ["show"], "help": ["--help"]}


def link_collection(folder: Path, drawings: Sequence[Path], count: int, sets: int) -> Path:
    """So many images in so many sets, each a folder with folders of a thousand."""
    for number in range(count):
        of_set, within = number % sets, number // sets
        place = folder / f"set{of_set:03d}" / f"{within // FOLDER:04d}"
        if within % FOLDER == 0:
            place.mkdir(parents=True)
        os.link(drawings[number % len(drawings)], place / f"image{number:07d}.jpg")
    return folder


def watched(project: Path, *arguments: str) -> dict[str, float]:
    """`dff ...` in a process of its own with few open files; what it took, by looks at /proc."""
    command = [sys.executable, "-m", "pipeline", *arguments]
    if arguments != ("--help",):
        command += ["--project", str(project)]
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f'ulimit -n {OPEN_FILES}; exec "$@"', "sh", *command],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=said,
            stderr=said,
        )
        most = {"peak_mib": 0.0, "open_files": 0.0, "threads": 0.0}
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        while process.poll() is None:
            _look(process.pid, most)
            time.sleep(TICK)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"dff {' '.join(arguments)}: {said.read().decode()[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - start, "cpu_seconds": cpu, **most}


def _look(pid: int, most: dict[str, float]) -> None:
    with suppress(OSError, ValueError, IndexError):  # it has just ended
        status = Path(f"/proc/{pid}/status").read_text()
        facts = dict(line.split(":", 1) for line in status.splitlines())
        seen = {
            "peak_mib": int(facts.get("VmHWM", "0 kB").split()[0]) / 1024,
            "threads": int(facts["Threads"]),
            "open_files": sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        }
        for name, value in seen.items():
            most[name] = max(most[name], value)


def size_of(folder: Path) -> dict[str, float]:
    """MiB and number of files of an artifact."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {"mib": sum(path.stat().st_size for path in files) / 2**20, "files": len(files)}


def one_collection(
    home: Path, drawings: Sequence[Path], count: int, sets: int, *, refine: bool
) -> dict[str, Any]:
    """What each stage and command takes with so many images in so many sets."""
    home.mkdir()
    link_collection(home / "photographs", drawings, count, sets)
    # the index of a few is made here, for the params; that of all is measured
    few = link_collection(home / "few", drawings, 10, 1)
    network = home / "one_layer.py"
    network.write_text(NETWORK)
    project = make_project(
        home / "project",
        few,
        backbone=f"module:{network}:build",
        weights="DEFAULT",
        layers=["1"],
        size=32,
        k="[1, 2]",
    )
    shutil.rmtree(project / "artifacts")
    params = project / "params.yaml"
    # the folder's name beside the project, however it is written; maps at the photographs' size
    text = params.read_text().replace("/few", "/photographs")
    text = text.replace("long_side: 224", "long_side: 32")
    params.write_text(text if refine else text.replace("method: guided", "method: none"))
    found: dict[str, Any] = {}
    for stage in STAGES:
        found[stage.name] = watched(project, stage.name) | size_of(project / stage.writes)
        said = json.dumps({key: round(value, 2) for key, value in found[stage.name].items()})
        print(f"{count} in {sets}: {stage.name}: {said}", file=sys.stderr, flush=True)
    for name, arguments in COMMANDS.items():
        found[name] = watched(project, *arguments)
        said = json.dumps({key: round(value, 2) for key, value in found[name].items()})
        print(f"{count} in {sets}: {name}: {said}", file=sys.stderr, flush=True)
    return found


def slopes(small: dict[str, Any], large: dict[str, Any], fewer: int, more: int) -> dict[str, Any]:
    """Of one stage: what an image takes, and what two million would."""
    found: dict[str, Any] = {}
    for key, name, scale in [
        ("cpu_seconds", "us_per_image", 1e6),
        ("peak_mib", "memory_bytes_per_image", 2**20),
        ("mib", "disk_bytes_per_image", 2**20),
    ]:
        if key not in large:  # commands have no artifact
            found |= {name: None, f"{key}_at_{TARGET}": None}
            continue
        slope = (large[key] - small[key]) / (more - fewer)
        found[name] = slope * scale
        found[f"{key}_at_{TARGET}"] = large[key] + slope * (TARGET - more)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--sets", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--at", type=Path, help="an empty folder for the collections; kept")
    parser.add_argument("--refine", action="store_true", help="with the guided filter")
    parser.add_argument("--name", default="collection", help="of the file of results")
    chosen = parser.parse_args()
    os.environ["DFF_KEEP"] = "1"  # as a user has it: a no-op run looks at the kept copies
    counts = sorted(chosen.images)
    content: dict[str, Any] = {"title": "What grows with a collection", "machine": machine()}
    with tempfile.TemporaryDirectory() as temporary:
        home = chosen.at or Path(temporary)
        home.mkdir(exist_ok=True)
        drawn = draw_photographs(home / "drawings", DRAWINGS, (32, 24))
        drawings = sorted(drawn.iterdir())
        for sets in chosen.sets:
            runs = {}
            for count in counts:
                place = home / f"{count}-{sets}"
                runs[count] = one_collection(place, drawings, count, sets, refine=chosen.refine)
                if chosen.at is None:
                    shutil.rmtree(place)
            rows = []
            for name, large in runs[counts[-1]].items():
                fitted = slopes(runs[counts[0]][name], large, counts[0], counts[-1])
                shown = {f"s at {count}": run[name]["seconds"] for count, run in runs.items()}
                mib = {f"MiB at {count}": run[name]["peak_mib"] for count, run in runs.items()}
                limits = {"files": large["open_files"], "threads": large["threads"]}
                rows.append({"stage": name, **shown, **mib, **limits, **fitted})
            print_table(f"In {sets} image sets", rows)
            content[f"{sets} sets"] = {"rows": rows, "runs": runs}
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{chosen.name}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
