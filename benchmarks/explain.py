"""Whether the concept that matters most to the network is the object, and what it costs to know.

    python benchmarks/explain.py --photographs PATH/TO/VOC2007 --weights SQUEEZENET1_0.pth

Six classes of VOC 2007, `fire9` of SqueezeNet 1.0 at 224 pixels, k = 3 and 4. One factor of each
set is chosen, and it is counted on how many of the images with boxes its largest coefficient lies
in a box of the class ("peak"), and how often its box hits one (CorLoc of raw and refined masks). It
is chosen as the strongest (most energy), or the most important: for the logits of ImageNet's
classes that are of the VOC class (`ALIKE`), or for the one that the network sees on most images,
which takes no annotation. Beside these the mean over all factors, and the best by the truth. Times
are of processors, whose number the file has.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import RESULTS, machine, print_table, run_dff
from pipeline.init import write_params
from pipeline.results import Results, open_results
from stages.algorithms.backbone import load_backbone
from stages.algorithms.backbone.head import Head, load_head
from stages.algorithms.importance import importance, ranking
from stages.artifacts.activations import Activations

BACKBONE, LAYER = "squeezenet1_0", "fire9"
ALIKE: Mapping[str, Sequence[str]] = {
    "aeroplane": ("airliner", "warplane"),
    "bicycle": ("bicycle-built-for-two", "mountain bike"),
    "boat": ("canoe", "catamaran", "fireboat", "gondola", "lifeboat", "schooner", "speedboat",
             "trimaran", "yawl"),
    "bus": ("minibus", "school bus", "trolleybus"),
    "horse": ("sorrel",),
    "motorbike": ("moped", "motor scooter"),
}  # fmt: skip
KS = (3, 4)
IMAGES, POINTS = 12, 32  # of a set, as the stage has them
REPEATS = 20
WAYS = ("strongest", "most important, class-like", "most important, seen", "mean of all", "best")


def make(project: Path, photographs: Path, weights: Path) -> dict[str, dict[str, float]]:
    """Every stage but the report; what each took."""
    project.mkdir(parents=True, exist_ok=True)
    write_params(
        project,
        "voc2007",
        photographs.resolve(),
        backbone=BACKBONE,
        weights=str(weights.resolve()),
        layers=[LAYER],
    )
    path = project / "params.yaml"
    text = path.read_text().replace("  k: [1]", f"  k: {list(KS)}")
    path.write_text(text.replace("  sets: []", f"  sets: [{', '.join(ALIKE)}]"))
    stages = ("index", "extract", "factorize", "heatmaps", "refine", "evaluate", "explain")
    return {stage: run_dff(project, stage) for stage in stages}


def important(r: Results, activations: Activations, head: Head, name: str, k: int) -> int:
    """The factor that speaks most for the classes alike: the mean of their logits."""
    assert head.names
    numbers = [at for at, one in enumerate(head.names.names) if one in ALIKE[name]]
    assert len(numbers) >= len(ALIKE[name]), (name, numbers)
    layer, columns = r.learned.at(LAYER), r.learned.factorizations.columns_of(k)
    entries = r.learned.sets[name]
    chosen = entries[np.linspace(0, len(entries) - 1, IMAGES).round().astype(int)]
    H = [np.ascontiguousarray(layer.coefficients.map(int(e))[..., columns]) for e in chosen]
    W = layer.W[r.sets.index(name), columns]
    sample = activations.at(LAYER).map(int(activations.sets[name][0]))
    alike = head.only(numbers, torch.from_numpy(sample.astype(np.float32))[None])
    found = importance(
        lambda maps: alike(maps).mean(dim=1, keepdim=True), H, W, points=POINTS, batch=32
    )
    return int(ranking(found.total, found.effect)[0, 0])


def seen(r: Results, name: str, k: int) -> int:
    """The same for the class that is first on most images: what the stage has found."""
    found, rank = r.explained.at(LAYER), r.sets.index(name)
    columns = r.explained.factorizations.columns_of(k)
    of = found.total[rank, columns, :1], found.effect[rank, columns, :1]
    return int(ranking(*of)[0, 0])


def peaks(r: Results, name: str, k: int) -> NDArray[np.float64]:
    """Per cent of the images with boxes on which each factor's largest coefficient is in one."""
    inside = []
    for image in r.images(name):
        truth = r.index.dataset.ground_truth(image, name)
        if not truth.boxes:
            continue
        grid = r.coefficients(image, k, set=name)
        height, width = r.index.size(r.index.names.index(image))
        hits = []
        for j in range(k):
            row, column = np.unravel_index(int(grid[..., j].argmax()), grid.shape[:2])
            y, x = (row + 0.5) * height / grid.shape[0], (column + 0.5) * width / grid.shape[1]
            hits.append(
                any(
                    top <= y < bottom and left <= x < right
                    for top, left, bottom, right in truth.boxes
                )
            )
        inside.append(hits)
    return np.asarray(100 * np.mean(inside, axis=0))


def scored(r: Results, activations: Activations, head: Head, name: str, k: int) -> Any:
    """Rows of one set and k, a way of choosing each."""
    table = r.scores()
    table = table[(table["set"] == name) & (table["k"] == k) & (table["seed"] == r.seeds[0])]
    corloc = {
        kind: table[table["maps"] == kind].sort_values("factor")["corloc"].to_numpy()
        for kind in ("raw", "refined")
    }
    measures = {"peak": peaks(r, name, k), **corloc}
    chosen = (0, important(r, activations, head, name, k), seen(r, name, k))
    for way, factor in zip(WAYS, chosen, strict=False):
        yield {"set": name, "k": k, "way": way, "factor": factor,
               **{one: float(values[factor]) for one, values in measures.items()}}  # fmt: skip
    for way, of in (("mean of all", np.mean), ("best", np.max)):
        yield {"set": name, "k": k, "way": way, "factor": "",
               **{one: float(of(values)) for one, values in measures.items()}}  # fmt: skip


def milliseconds(call: Callable[[], object]) -> float:
    """Of processors, the median of some calls."""
    call()
    taken = []
    for _ in range(REPEATS):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return 1000 * float(np.median(taken))


def costs(weights: Path, head: Head) -> dict[str, float]:
    """Milliseconds of an image through the network to the layer, and of a map through its rest."""
    network = load_backbone(BACKBONE, [LAYER], str(weights))
    images = torch.randn(4, 3, 224, 224)
    maps = network(images)[LAYER].repeat(8, 1, 1, 1)
    few = head.only([404, 895], maps[:1])
    with torch.inference_mode():
        return {
            "network to the layer": milliseconds(lambda: network(images)) / 4,
            "rest, 1000 classes": milliseconds(lambda: head(maps)) / 32,
            "rest, 2 classes": milliseconds(lambda: few(maps)) / 32,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True, help="a devkit's VOC2007")
    parser.add_argument("--weights", type=Path, required=True, help="of squeezenet1_0")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        project = Path(temporary) / "project"
        took = make(project, options.photographs, options.weights)
        r = open_results(project)
        activations = Activations.open(project / "artifacts/activations.zarr")
        head = load_head(BACKBONE, LAYER, str(options.weights))
        rows = [row for name in ALIKE for k in KS for row in scored(r, activations, head, name, k)]
    means = [
        {"k": k, "way": way, **{one: float(np.mean([row[one] for row in rows
         if (row["k"], row["way"]) == (k, way)])) for one in ("peak", "raw", "refined")}}
        for k in KS for way in WAYS
    ]  # fmt: skip
    print_table("per cent of images, by set", rows)
    print_table("mean over the six classes", means)
    ms = costs(options.weights, head)
    explain = {"cpu seconds a set": took["explain"]["cpu_seconds"] / len(ALIKE), **took["explain"]}
    print_table("processor ms", [ms])
    print_table("dff explain", [explain])
    write({"rows": rows, "means": means, "ms": ms, "explain": explain})


def write(found: Mapping[str, Any]) -> None:
    """``results/explain.json``."""
    RESULTS.mkdir(exist_ok=True)
    title = "the most important concept and the object: six classes of VOC 2007, SqueezeNet 1.0"
    content = {"title": title, "machine": machine(), **found}
    (RESULTS / "explain.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
