"""Every way of discovering concepts that the project has, on every collection at hand.

    python benchmarks/discovery.py --photographs PATH/TO/REAL --weights SQUEEZENET1_1.pth \
        --plots docs
    python benchmarks/discovery.py --quick      # 6 scenes per set of the demo, one seed
    python benchmarks/discovery.py --again --plots docs      # what the last run wrote

PHOTOGRAPHS holds the collections of `COLLECTIONS`; without it there is the demo alone. Activations
are SqueezeNet's `features.12` (the demo's: its own network's), so no figure here is the paper's.
Everything is in per cent: dataset-wide IoU of the object with the factor of k = 1, or with all
factors of the figure together; CorLoc, boxes around masks where none are annotated; of parts the
measures of `stages.algorithms.partitions` and the best-part quality. Means over seeds and sets.

Factors and thresholds are those of whole sets; scores are of each half's images: "tuned on" are
the even images, on which the product's params were chosen, "held out" the odd ones. Of VOC they
are even and odd within their class, which params were not chosen by.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np

from benchmarks.common import RESULTS, machine, print_table
from benchmarks.discovery_maps import (
    ALONE,
    APART,
    DDT,
    JOINT,
    KMEANS,
    RAW,
    Collection,
    Discovery,
)  # fmt: skip
from benchmarks.discovery_plots import draw
from benchmarks.discovery_scores import MEASURES
from pipeline.resources import make_resources
from stages.algorithms.whole_numbers import halves
from stages.datasets.demo.reader import DemoOptions
from stages.datasets.folder import FolderOptions
from stages.datasets.voc import VocOptions
from stages.extract.params import ExtractParams
from stages.frame.resources import Resources
from stages.index.params import IndexParams
from stages.refine.refiners.guided import Guided

SIZES = ((224,), (160, 320), (224, 416))
SIX = ("aeroplane", "bicycle", "boat", "bus", "horse", "motorbike")
ALL_K, HALVES = (1, 2, 3, 4), ("tuned on", "held out")
RESULT = RESULTS / "discovery.json"
TIMED = 24  # images whose refinement is timed


def collections(options: argparse.Namespace, scratch: Path) -> Iterator[Collection]:
    """The largest last: what is loaded once is not on its account."""
    scenes = DemoOptions(images=6 if options.quick else 24)
    yield Collection("demo", IndexParams(options=scenes), ExtractParams(), ALL_K)
    if options.quick or options.photographs is None:
        return
    root = options.photographs
    network = ExtractParams("squeezenet1_1", str(options.weights), ("features.12",))

    def folder(name: str, path: Path, ks: tuple[int, ...], **more: Any) -> Collection:
        annotated = more.pop("annotated", True)
        params = IndexParams("folder", FolderOptions(**more), str(path))
        return Collection(name, params, network, ks, annotated)

    yield folder("gymnast", root / "gymnast", ALL_K, annotated=False)
    yield folder("elephant", root / "elephant", ALL_K, annotated=False)
    yield folder("exercise", root / "exercise", ALL_K, parts="polygons", whole="full")
    yield folder("msrc_cow", root / "msrc_cow", ALL_K)
    yield folder("weizmann/4", quarter(root / "weizmann", scratch / "horses"), ALL_K)
    yield folder("weizmann", root / "weizmann", (1,))
    voc = IndexParams("voc", VocOptions(), str(root / "voc2007_6x2/VOCdevkit/VOC2007"), SIX)
    yield Collection("voc2007_6x2", voc, network, (1,))


def quarter(source: Path, target: Path) -> Path:
    """Every fourth pair of neighbours, so that even images stay even and odd ones odd."""
    for kind in ("images", "masks"):
        (target / kind).mkdir(parents=True)
        for at, path in enumerate(sorted((source / kind).iterdir())):
            if at % 8 < 2:
                shutil.copyfile(path, target / kind / path.name)
    return target


def measured(discovery: Discovery, resources: Resources) -> list[dict[str, Any]]:
    """A row per method, half and k, means over the sets."""
    found: dict[tuple[str, str, int, str], list[float]] = defaultdict(list)
    for _, method, half, sums in discovery.scored(resources):
        for k, scores in sums.scores().items():
            if k == 1 and method.endswith((APART, JOINT)):
                continue  # one factor has no rivals
            for name, value in scores.items():
                found[method, half, k, name].append(value)
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    for (method, half, k, name), values in found.items():
        row = {"collection": discovery.of.name, "method": method, "half": half, "k": k}
        mean = round(float(np.nanmean(values)), 2)
        rows.setdefault((method, half, k), row)[name] = mean
    return list(rows.values())


def refinement_ms(discovery: Discovery) -> dict[str, float]:
    """CPU milliseconds an image, by kind of refinement, of k = 1 and 4 with one seed: 5 maps.

    One image after the other, each in all ways, reading and decoding included.
    """
    columns = [*discovery.maps.columns_of(1), *discovery.maps.columns_of(4)]
    tasks = replace(discovery.tasks, columns=columns)
    spent = dict.fromkeys((ALONE, APART, JOINT), 0.0)
    entries = range(min(TIMED, len(discovery.maps.maps)))
    for entry in [0, *entries]:  # what is compiled first does not count
        if entry == 0:
            spent = dict.fromkeys(spent, 0.0)
        start = time.thread_time()
        heat = tasks.heat(entry)
        task = tasks.task(entry, heat)
        read = time.thread_time()
        q, _ = halves(Guided().refine(task), heat[1] > 0)
        alone = time.thread_time()
        tasks.settled(entry, q, heat)
        apart = time.thread_time()
        halves(Guided(joint=True).refine(task), heat[1] > 0)
        joint = time.thread_time()
        spent[ALONE] += alone - start
        spent[APART] += apart - start
        spent[JOINT] += read - start + joint - apart
    return {method: 1000 * seconds / len(entries) for method, seconds in spent.items()}


def stages_ms(discovery: Discovery) -> dict[str, float]:
    """CPU milliseconds an image before refinement, by method, of one k with one seed."""
    images, problems = len(discovery.maps.maps), discovery.maps.factorizations.problems
    shared = {"factorize": len(problems), "heatmaps": len(problems)}
    shared["kmeans"] = len(discovery.rivals)
    each = {
        stage: 1000 * seconds / images / max(1, shared.get(stage, 1))
        for stage, seconds in discovery.seconds.items()
    }
    extract = each["extract"]
    found = {f"{discovery.label}{RAW}": extract + each["factorize"] + each["heatmaps"]}
    found |= {DDT: extract + each["ddt"]} if "ddt" in each else {}
    return found | (
        {KMEANS: extract + each["kmeans"]} if discovery.rivals and "kmeans" in each else {}
    )


def tables(rows: Sequence[dict[str, Any]], ms: dict[str, float]) -> None:
    """Print all: k = 1 across collections, then k = 2 to 4 collection by collection."""
    names = list(dict.fromkeys(row["collection"] for row in rows))
    for half in HALVES:
        mine = [row for row in rows if row["half"] == half]
        table: dict[str, dict[str, Any]] = {}
        for name in ("object", "corloc"):
            for collection in names:
                some = [r for r in mine if r["collection"] == collection and name in r]
                if collection == "weizmann/4" or not any(r["k"] == 1 for r in some):
                    continue
                for row in some:
                    if row["k"] == 1:
                        cells = table.setdefault(row["method"], {"method": row["method"]})
                        cells[f"{collection} {name}"] = row[name]
        for method, cells in table.items():
            for name in ("object", "corloc"):
                some_values = [v for key, v in cells.items() if key.endswith(f" {name}")]
                cells[f"mean {name}"] = float(np.mean(some_values)) if some_values else np.nan
            cells["ms"] = ms.get(method, ms.get(method.rpartition(": ")[0], np.nan))
        _print(f"k = 1, {half}", list(table.values()))
    for collection in names:
        for half in HALVES:
            some = [
                {"method": r["method"], "k": r["k"], **{m: r[m] for m in MEASURES if m in r}}
                for r in rows
                if r["collection"] == collection and r["half"] == half and r["k"] > 1
            ]
            _print(f"{collection}, {half}", some)


def _print(title: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        keys = list(dict.fromkeys(key for row in rows for key in row))
        print_table(title, [{key: row.get(key, "-") for key in keys} for row in rows])


def write(rows: Sequence[dict[str, Any]], ms: dict[str, float], seeds: int) -> None:
    """JSON with a row a line, for there are many."""
    facts = {
        "title": "Concept discovery, per cent",
        "machine": machine(),
        "seeds": seeds,
        "backbone": "squeezenet1_1 features.12, ImageNet; demo: demo conv4_2",
        "cpu_ms_per_image": {name: round(value, 1) for name, value in ms.items()},
    }
    head = json.dumps(facts, indent=1)[:-2]
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    RESULT.write_text(f'{head},\n "rows": [\n{lines}\n ]\n}}\n')


def run(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows of all collections, and CPU milliseconds an image by method."""
    seeds = range(1 if options.quick else options.seeds)
    resources = make_resources("cpu", 0, "auto", "")
    rows: list[dict[str, Any]] = []
    ms: dict[str, float] = {}
    refined: dict[tuple[int, ...], dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        for of in collections(options, scratch):
            for sizes in SIZES[:1] if options.quick else SIZES:
                start = time.perf_counter()
                folder = scratch / f"{of.name.replace('/', '-')}-{'-'.join(map(str, sizes))}"
                one = Discovery.make(folder, of, sizes, seeds, resources)
                rows += measured(one, resources)
                if 4 in of.ks:
                    refined[sizes] = refinement_ms(one)
                ms |= stages_ms(one)
                for kind, more in refined[sizes].items():
                    ms[f"{one.label}{kind}"] = ms[f"{one.label}{RAW}"] + more
                seconds = time.perf_counter() - start
                print(f"{of.name} {sizes}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return rows, ms


def main() -> None:
    """Measure, print, write JSON and plots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a few scenes of the demo, one seed")
    parser.add_argument(
        "--again", action="store_true", help="print and draw what was measured last"
    )
    parser.add_argument("--plots", type=Path, help="folder for the plots of docs/quality.md")
    options = parser.parse_args()
    if options.photographs is not None:
        if options.weights is None:
            parser.error("--photographs needs --weights, of squeezenet1_1")
        options.photographs, options.weights = (
            path.resolve() for path in (options.photographs, options.weights)
        )
    if options.again:
        kept = json.loads(RESULT.read_text())
        rows, ms = kept["rows"], kept["cpu_ms_per_image"]
    else:
        rows, ms = run(options)
    tables(rows, ms)
    if not (options.quick or options.again):
        write(rows, ms, options.seeds)
    if options.plots:
        draw(rows, options.plots)


if __name__ == "__main__":
    main()
