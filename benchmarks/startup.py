"""What starting costs: commands that do next to nothing, and the first compilation of the loops.

    python benchmarks/startup.py [--project DIR] [--runs 5] [--compile]

Every row is a process of its own, run as often as asked after one run that does not count; seconds
are medians, on the clock and of processors (its children's among them), the peak is the largest
resident memory of a process. `--project` is a finished project that DVC does not look after:
`dff status` and a run that finds everything fresh are measured there. `--compile` adds
`dff compile` with an empty cache, once. Byte code of Python is kept, as it is for users.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

DFF = ("-m", "pipeline")
GOALS = {  # seconds on the clock
    "dff --help": 0.4,
    "import store": 0.2,
    "dff show-model vgg19": 2.0,
    "dff status": 0.8,
    "dff run, all fresh": 0.8,
    "dff compile, nothing kept": 2.0,
}


def once(arguments: tuple[str, ...], folder: Path, env: dict[str, str]) -> tuple[float, ...]:
    """Seconds on the clock, seconds of processors, peak MiB of one process."""
    began = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(arguments)}: exit code {child.returncode}")
    return time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def row(
    name: str, arguments: tuple[str, ...], folder: Path, runs: int, env: dict[str, str]
) -> dict[str, Any]:
    """Medians of some runs of a command."""
    found = list(zip(*(once(arguments, folder, env) for _ in range(runs)), strict=True))
    wall, cpu = (statistics.median(times) for times in found[:2])
    return {"what": name, "s": wall, "cpu_s": cpu, "peak_mib": max(found[2]), "goal_s": GOALS[name]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--project", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    asked = parser.parse_args()
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    env = kept | {"PYTHONPATH": sys.path[0]}
    commands: list[tuple[str, tuple[str, ...], Path]] = [
        ("dff --help", (*DFF, "--help"), Path()),
        ("import store", ("-c", "import store"), Path()),
        ("dff show-model vgg19", (*DFF, "show-model", "vgg19"), Path()),
    ]
    if asked.project:
        commands += [
            ("dff status", (*DFF, "status"), asked.project),
            ("dff run, all fresh", (*DFF, "run"), asked.project),
        ]
    rows = []
    for name, arguments, folder in commands:
        once(arguments, folder, env)
        rows.append(row(name, arguments, folder, asked.runs, env))
    if asked.compile:
        cache = tempfile.mkdtemp()
        fresh = env | {"NUMBA_CACHE_DIR": cache}
        rows.append(row("dff compile, nothing kept", (*DFF, "compile"), Path(), 1, fresh))
        shutil.rmtree(cache)
    # only now: what this process holds counts for those that it starts
    from benchmarks.common import RESULTS, machine

    found = {"machine": machine(), "runs": asked.runs, "rows": rows}
    (RESULTS / "startup.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for one in rows:
        print(
            f"{one['what']:26} {one['s']:7.2f} s {one['cpu_s']:7.2f} CPU s "
            f"{one['peak_mib']:6.0f} MiB, goal {one['goal_s']} s"
        )


if __name__ == "__main__":
    main()
