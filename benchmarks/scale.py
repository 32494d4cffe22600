"""What large collections cost on clusters: hours, bytes and money, from what was measured.

    python benchmarks/scale.py [--price 3] [--write]

`--write` puts the tables into docs/scale.md.

Every term is a figure in benchmarks/results/, named beside it; what is computed is how they add up.
VGG-19 at 224 pixels (conv5_4: 196 rows of 512 channels an image) on GPUs of the measured kind, 16
cores each; k = 1 to 4 for one image set that holds everything. The price of a GPU's hour is the one
number that was not measured.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs/scale.md"
BEGIN, END = "<!-- from benchmarks/scale.py -->", "<!-- to here -->"
PRICE = 3.0  # of a GPU's hour, USD
ROWS, CHANNELS, COLUMNS = 196, 512, 10
CORES = 16  # beside each GPU
MILLION = 10**6


def load(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def row_of(table: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    """The row whose columns are as wanted; the last of them."""
    return [row for row in table if all(row[key] == value for key, value in wanted.items())][-1]


@dataclass(frozen=True)
class Term:
    """One measured figure.

    Attributes
    ----------
    source : str
        Where it is from.
    """

    what: str
    value: float
    unit: str
    source: str


def terms() -> dict[str, Term]:
    """All that the sums below are made of."""
    gpu = load("gpu-nvidia-h200")["parts"]["extract"]["tables"][-1]["rows"]
    extract = row_of(gpu, **{"decoded in": "the GPU"})["stage/s"]
    store = row_of(load("store")["rows"], rows="photographs, 6.5 %", encoding="this store, sparse")
    kept = row_of(load("nmf_images")["rows"], way="kept", images=100_000)
    streamed = row_of(load("nmf_images")["rows"], way="streamed", images=100_000)
    path = load("path")[-1]
    read = row_of(path["rows"], stage="index")["read MiB"] * 2**20 / path["images"]
    flat = {one["stage"]: one["ms 4000 to 12000"] for one in load("flat")["rows"]}
    grows = {one["stage"]: one for one in load("collection")["1 sets"]["rows"]}
    cluster = load("cluster")
    client = cluster["client"]["rows"][0]["rows a second"]
    passes = cluster["coordination"]["rows"]
    cores = load("nmf_images")["machine"]["cores"]
    found = {
        "photograph": (read, "bytes, one photograph", "path.json: index"),
        "extract": (extract, "images/s, a GPU", "gpu-nvidia-h200.json: extract"),
        "stored": (
            store["bytes : dense float16"] * ROWS * CHANNELS * 2,
            "bytes stored, an image",
            "store.json",
        ),
        "kept": (kept["ms per image"] * cores, "core ms, an image, rows kept", "nmf_images.json"),
        "streamed": (
            streamed["ms per image"] * cores,
            "core ms, an image, rows read in each pass",
            "nmf_images.json",
        ),
        "index": (grows["index"]["us_per_image"] / 1e3, "core ms, an image", "collection.json"),
        "listed": (
            grows["index"]["memory_bytes_per_image"],
            "bytes of memory, an image",
            "collection.json: index",
        ),
        "refine": (flat["refine"], "core ms, an image", "flat.json"),
        "evaluate": (flat["evaluate"], "core ms, an image", "flat.json"),
        "client": (client, "rows/s that one client takes", "cluster.json: client"),
    } | {
        f"pass at {one['workers']}": (
            one["one after the other, ms"],
            f"ms of coordination, a pass, {one['workers']} workers",
            "cluster.json: coordination",
        )
        for one in passes
    }
    return {key: Term(key, value, unit, source) for key, (value, unit, source) in found.items()}


def costs(images: int, gpus: int, price: float) -> list[dict[str, Any]]:
    """The stages of one collection on so many GPUs."""
    known = {key: term.value for key, term in terms().items()}
    cores = gpus * CORES
    kept_fits = known["stored"] * images < gpus * 100 * 2**30  # a third of 300 GiB each
    passes = known["kept" if kept_fits else "streamed"]
    workers = min(
        (int(key.split()[-1]) for key in known if key.startswith("pass at")),
        key=lambda count: abs(count - gpus),
    )
    seconds = {
        "index": known["index"] / 1e3 * images / cores,
        "extract": images / known["extract"] / gpus,
        "factorize, passes": passes / 1e3 * images / cores + 4 * known[f"pass at {workers}"] / 1e3,
        "factorize, coefficients": images * ROWS / known["client"],
        "refine": known["refine"] / 1e3 * images / cores,
        "evaluate": known["evaluate"] / 1e3 * images / cores,
    }
    written = {
        "extract": known["stored"] * images,
        "factorize, coefficients": 4.0 * COLUMNS * ROWS * images,
    }
    read = {
        "index": known["photograph"] * images,
        "extract": known["photograph"] * images,
        "factorize, passes": known["stored"] * images * (1 if kept_fits else 4),
        "refine": known["photograph"] * images,
    }
    rows = [
        {
            "stage": stage,
            "hours": time / 3600,
            "USD": time / 3600 * gpus * price,
            "TB read": read.get(stage, 0.0) / 1e12,
            "TB written": written.get(stage, 0.0) / 1e12,
        }
        for stage, time in seconds.items()
    ]
    total = {key: sum(row[key] for row in rows) for key in list(rows[0])[1:]}
    return [*rows, {"stage": "all", **total}]


def table(rows: list[dict[str, Any]]) -> str:
    """As docs/scale.md has it."""
    heads = list(rows[0])
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = (f"{value:,.3g}" if isinstance(value, float) else value for value in row.values())
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


CASES = {"10 million images, 16 GPUs": (10 * MILLION, 16)}
CASES["1 billion images, 256 GPUs"] = (1000 * MILLION, 256)


def pages(price: float) -> str:
    """All tables."""
    measured = [
        {"figure": term.unit, "measured": term.value, "in": term.source}
        for term in terms().values()
    ]
    parts = [table(measured)]
    for title, (images, gpus) in CASES.items():
        parts.append(f"## {title}\n\n{table(costs(images, gpus, price))}")
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--price", type=float, default=PRICE, help="of a GPU's hour, USD")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    tables = pages(asked.price)
    print(tables)
    if asked.write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
