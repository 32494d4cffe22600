"""Objects that EfficientNet-Lite0 finds, beside SqueezeNet 1.1's, at several sizes.

    python benchmarks/lite0.py --photographs PATH/TO/REAL --squeezenet SQUEEZENET1_1.pth \
        --lite0 EFFICIENTNET_LITE0.pth

PHOTOGRAPHS holds the collections of `collections`; docs/networks.md says where the weights of Lite0
are had. For every network, size and way to resize photographs all stages run with one factor, as
params are usually, and CorLoc and IoU of the object are what evaluate says of all images, per cent,
means over the image sets. Writes benchmarks/results/lite0.json.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

from benchmarks.common import report
from benchmarks.discovery import SIX
from pipeline.registry import STAGES
from pipeline.resources import make_resources
from stages.artifacts.evaluation import KINDS, Evaluation
from stages.artifacts.image_index import ImageIndex
from stages.datasets.folder import FolderOptions
from stages.datasets.voc import VocOptions
from stages.extract.params import ExtractParams, OwnPreprocessing
from stages.factorize.params import FactorizeParams
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.index.params import IndexParams

VOC = "six classes of VOC 2007"
HORSES = "horses"
# What the weights of Lite0 were trained with.
MEAN, STD = (0.498,) * 3, (0.502,) * 3
MADE = STAGES[: [stage.name for stage in STAGES].index("evaluate") + 1]


def collections(root: Path) -> Iterator[tuple[str, IndexParams]]:
    """Name and photographs."""
    voc = root / "voc2007_6x2/VOCdevkit/VOC2007"
    yield VOC, IndexParams("voc", VocOptions(), str(voc), SIX)
    yield HORSES, IndexParams("folder", FolderOptions(), str(root / "weizmann"))


def networks(squeezenet: Path, lite0: Path) -> Iterator[tuple[str, str, ExtractParams]]:
    """Name, way to resize, and params."""
    yield "SqueezeNet 1.1", "bilinear", ExtractParams("squeezenet1_1", str(squeezenet), ("fire9",))
    for size in (224, 320, 384, 448):
        for how in ("bilinear", "bicubic"):
            own = OwnPreprocessing(MEAN, STD, interpolation=how)  # type: ignore[arg-type]
            yield (
                "EfficientNet-Lite0",
                how,
                ExtractParams(
                    "timm/tf_efficientnet_lite0",
                    str(lite0),
                    ("bn2",),
                    size=size,
                    preprocessing="own",
                    options=own,
                ),
            )


def scores(
    folder: Path, index: IndexParams, extract: ExtractParams, resources: Resources
) -> dict[str, float]:
    """What evaluate says of one factor, per cent, means over the sets; CPU time of extract."""
    chosen = {
        "index": index,
        "extract": extract,
        "factorize": FactorizeParams((1,), stability_runs=0),
    }
    found = {}
    for stage in MADE:
        start = time.process_time()
        execute(stage, chosen.get(stage.name, stage.params()), folder, resources)
        if stage.name == "extract":
            images = len(ImageIndex.open(folder / MADE[0].writes, folder).names)
            found["CPU ms an image"] = 1000 * (time.process_time() - start) / images
    table = Evaluation.open(folder / MADE[-1].writes).quality
    for maps in KINDS:
        mine = table[table["maps"] == maps]
        for column, name in (("corloc", "CorLoc"), ("object_iou", "IoU")):
            if mine[column].notna().any():
                found[f"{name}, {maps}"] = float(mine[column].mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--squeezenet", type=Path, required=True)
    parser.add_argument("--lite0", type=Path, required=True)
    options = parser.parse_args()
    files = (one.resolve() for one in (options.squeezenet, options.lite0))
    resources = make_resources("cpu", 0, "auto", "")
    rows: list[dict[str, Any]] = []
    named = list(networks(*files))
    with tempfile.TemporaryDirectory() as temporary:
        for collection, index in collections(options.photographs.resolve()):
            for at, (network, how, extract) in enumerate(named):
                folder = Path(temporary) / f"{collection.split()[0]}-{at}"
                folder.mkdir()
                row = {
                    "collection": collection,
                    "network": network,
                    "px": extract.recorded_size,
                    "resized": how,
                    **scores(folder, index, extract, resources),
                }
                rows.append(row)
                print(row, file=sys.stderr, flush=True)
    for row in rows:  # VOC's have boxes alone here, horses have masks
        row.update({name: row.get(name) for one in rows for name in one})
    report("lite0", "Objects by network and size, k = 1, per cent", rows)


if __name__ == "__main__":
    main()
