"""The whole path, from a folder of photographs to the report: where every stage's time goes.

    python benchmarks/path.py --photographs DIR [--weights FILE] [--backbone squeezenet1_1]
        [--layer features.12] [--runs 3] [--workers 0] [--name WHAT] [--compare WHAT]

Every stage runs in a process of its own, its start included, `--runs` times from nothing; seconds
are medians. A thread in it looks every 5 ms at what the others do: the innermost line that is ours
says whether it is importing (start), decoding photographs, computing, writing or reading the store,
or drawing the report; waiting threads do not count. The same thread tells how busy the interpreter
is: how much later than asked it wakes up, for it needs the interpreter to do so.

Each call adds one entry to ``results/path.json``, under `--name` (replacing one of that name, such
as a commit), so that a stage that became slower is seen: ``--compare`` prints the ratios to one.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

EVERY = 0.005  # seconds between two looks
HISTORY = Path(__file__).parent / "results" / "path.json"
SAMPLES = "DFF_PATH_SAMPLES"  # names the file that a stage's process leaves its samples in
# Of the innermost frame that is in one of these files; what comes first counts.
KINDS = (
    ("start", ("<frozen importlib",)),
    ("decode", ("stages/images/", "stages/index/", "stages/datasets/", "stages/extract/pixels")),
    ("draw", ("stages/report/", "stages/drawing/", "jinja2/", "matplotlib/")),
    ("store", ("store/", "zarr/", "numcodecs/", "pyarrow/", "stages/artifacts/")),
    ("compute", ("stages/", "torch/", "numba/")),
    ("start", ("pipeline/",)),
)
SHARES = ("start", "decode", "compute", "store", "draw", "other")
# A thread whose innermost line is in one of these waits for others.
WAITING = ("threading.py", "queue.py", "selectors.py", "concurrent/futures/", "subprocess.py")


class Sampler:
    """Looks at all other threads of this process, again and again."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.late: list[float] = []
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.ended = threading.Event()

    def _look(self) -> None:
        me = threading.get_ident()
        while not self.ended.is_set():
            asked = time.perf_counter()
            time.sleep(EVERY)
            self.late.append(time.perf_counter() - asked - EVERY)
            for ident, frame in sys._current_frames().items():
                if ident != me:
                    self.kinds[kind_of(frame)] += 1

    def write(self, path: str) -> None:
        """What was seen, as JSON."""
        self.ended.set()
        self.thread.join()
        del self.kinds["waiting"]
        busy = sum(self.late) / (sum(self.late) + EVERY * len(self.late)) if self.late else 0.0
        Path(path).write_text(json.dumps({"kinds": self.kinds, "interpreter": busy}))


def kind_of(frame: Any) -> str:
    """What a thread does, by the files of its frames, innermost first."""
    if any(part in frame.f_code.co_filename for part in WAITING):
        return "waiting"
    files = []
    while frame is not None:
        files.append(frame.f_code.co_filename.replace(os.sep, "/"))
        frame = frame.f_back
    if any("<frozen importlib" in file for file in files):
        return "start"
    for file in files:
        for kind, parts in KINDS:
            if any(f"/{part}" in file for part in parts):
                return kind
    return "other"


def run_sampled(arguments: list[str]) -> None:
    """`dff ...` in this process, looked at by a thread."""
    sampler = Sampler()
    sampler.thread.start()
    try:
        from pipeline.cli import app

        app(arguments, standalone_mode=False)
    finally:
        sampler.write(os.environ[SAMPLES])


def one_run(home: Path, photographs: Path, chosen: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every stage from nothing; what each took."""
    from benchmarks.common import make_project, measured
    from pipeline.registry import STAGES

    project = make_project(
        home / "project",
        photographs,
        backbone=chosen.backbone,
        weights=chosen.weights,
        layers=[chosen.layer] if chosen.layer else [],
    )
    samples = home / "samples.json"
    found = {}
    for stage in STAGES:
        command = [sys.executable, __file__, "--stage", stage.name, "--project", str(project)]
        used: dict[str, Any] = measured(
            [*command, "--workers", str(chosen.workers)], {SAMPLES: str(samples)}
        )
        seen = json.loads(samples.read_text())
        total = sum(seen["kinds"].values()) or 1
        used |= {kind: seen["kinds"].get(kind, 0) / total for kind in SHARES}
        used["interpreter"] = seen["interpreter"]
        used["artifact"] = sum(
            path.stat().st_size for path in (project / stage.writes).rglob("*") if path.is_file()
        )
        found[stage.name] = used
        print(f"{stage.name}: {used['seconds']:.1f} s", file=sys.stderr, flush=True)
    return found


def table(runs: list[dict[str, dict[str, Any]]], images: int) -> list[dict[str, Any]]:
    """Medians of the runs, a row for each stage, one for all and one for all after extraction."""
    rows = []
    for stage in runs[0]:
        of = [run[stage] for run in runs]
        middle = {key: statistics.median(one[key] for one in of) for key in of[0]}
        rows.append(
            {
                "stage": stage,
                "s": middle["seconds"],
                "CPU s": middle["cpu_seconds"],
                "images/s": images / middle["seconds"],
                "peak MiB": middle["peak_mib"],
                "read MiB": middle["read_mib"],
                "written MiB": middle["written_mib"],
                "artifact MiB": middle["artifact"] / 2**20,
                **{f"{kind} %": 100 * middle[kind] for kind in SHARES},
                "interpreter %": 100 * middle["interpreter"],
                "all": [one["seconds"] for one in of],
            }
        )
    names = [row["stage"] for row in rows]
    after = rows[names.index("extract") + 1 :]
    for name, some in (("all", list(rows)), ("after extract", after)):
        row = dict.fromkeys(rows[0], "") | {"stage": name}
        for key in ("s", "CPU s", "read MiB", "written MiB", "artifact MiB"):
            row[key] = sum(one[key] for one in some)
        row["images/s"] = images / row["s"]
        row["peak MiB"] = max(one["peak MiB"] for one in some)
        rows.append(row)
    return rows


def ratios(now: Mapping[str, Any], then: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Seconds of two entries of the history, side by side."""
    earlier = {row["stage"]: row for row in then["rows"]}
    return [
        {
            "stage": row["stage"],
            then["name"]: (old := earlier[row["stage"]])["s"],
            now["name"]: row["s"],
            "ratio": row["s"] / old["s"],
            "CPU ratio": row["CPU s"] / old["CPU s"],
            "peak ratio": row["peak MiB"] / old["peak MiB"],
        }
        for row in now["rows"]
        if row["stage"] in earlier
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--backbone", default="squeezenet1_1")
    parser.add_argument("--layer", default="")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--name", default="latest")
    parser.add_argument("--compare", default="", help="name of an entry of the history")
    chosen = parser.parse_args()
    if (weights := Path(chosen.weights)).is_file():
        chosen.weights = str(weights.resolve())

    from benchmarks.common import machine, print_table

    history = json.loads(HISTORY.read_text()) if HISTORY.exists() else []
    known = {entry["name"]: entry for entry in history}
    if chosen.compare and chosen.compare not in known:
        parser.error(f"--compare {chosen.compare}: not in {HISTORY.name}, which has {list(known)}")
    runs = []
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(chosen.runs):
            home = Path(temporary) / str(number)
            runs.append(one_run(home, chosen.photographs, chosen))
        images = count_images(Path(temporary) / "0" / "project")
    entry = {
        "name": chosen.name,
        "machine": machine(),
        "images": images,
        "backbone": chosen.backbone,
        "workers": chosen.workers,
        "runs": chosen.runs,
        "rows": table(runs, images),
    }
    print_table(f"{images} photographs, {chosen.backbone}, median of {chosen.runs}", entry["rows"])
    if chosen.compare:
        print_table("Against an earlier entry", ratios(entry, known[chosen.compare]))
    kept = [one for one in history if one["name"] != chosen.name]
    HISTORY.write_text(json.dumps([*kept, entry], indent=1) + "\n")


def count_images(project: Path) -> int:
    """How many the index has."""
    from store import open_artifact

    return len(open_artifact(project / "artifacts/activations.zarr").images)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--stage"]:
        run_sampled(sys.argv[2:])
    else:
        main()
