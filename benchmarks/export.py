"""dff export: 5 000 photographs of 500 x 375 with four factors each, in every format.

    python benchmarks/export.py [--images 5000]

The maps are smooth blobs of a long side of 224, as refine would leave them: a third of the pixels
is in a mask, in about five components. Each line is one `dff export` in a process of its own, with
its peak RSS as the kernel counts it; photographs are linked. CPU time per image is the slope from
a fifth of the images to all: it holds on a busy machine, too.
"""

import argparse
import resource
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np
from scipy import ndimage

from benchmarks.common import draw_photographs, make_project, report, run_dff
from benchmarks.memory import copies
from pipeline.registry import BY_NAME
from stages.artifacts.image_index import ImageIndex
from stages.export.formats import EXPORTERS
from stages.maps.plan import MapPlan
from stages.maps.write import write_maps
from store import create_artifact, staging
from store.artifact import layer_key

K, LAYER, SIZE = 4, "conv4_2", (168, 224)
TEMPLATES = 40
# besides each format as it comes
VARIANTS = [("coco", "--polygons"), ("masks", "--heat")]
Row = dict[str, Any]


def blobs() -> list[np.ndarray]:
    """Shares of K factors each, float32 [h * w, K]."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(TEMPLATES):
        planes = ndimage.gaussian_filter(rng.normal(size=(K, *SIZE)), (0, 14, 14))
        planes -= planes.min(axis=(1, 2), keepdims=True)
        planes /= planes.max(axis=(1, 2), keepdims=True)
        found.append(planes.reshape(K, -1).T.astype(np.float32))
    return found


def publish_maps(project: Path) -> None:
    """What export reads besides the index: factors (their record only), heat maps, refined ones."""
    index = ImageIndex.open(project / BY_NAME["index"].writes, project)
    ids, sets = index.members()
    facts = {
        "layers": [LAYER], "images": index.names, "contents": index.contents, "sets": sets,
        "problems": [(K, 0)], "columns": [(K, 0, factor) for factor in range(K)], "ks": [K],
    }  # fmt: skip
    templates = blobs()

    def rows(entries: Sequence[int]) -> Iterator[np.ndarray]:
        return (templates[entry % TEMPLATES] for entry in entries)

    plan = MapPlan(
        [SIZE] * len(ids), ids, list(sets.values()), K, np.uint8, np.full((len(sets), K), 0.56), 2
    )
    for name in ("factorize", "heatmaps", "refine"):
        with staging(project / BY_NAME[name].writes, name) as work:
            group = create_artifact(work.path, stage=name, fingerprint=name, **facts)
            layer = group.require_group(layer_key(LAYER))
            if name == "refine":
                write_maps(layer, plan, rows, work, "rows", lambda _: None)


def cpu() -> float:
    """Seconds of processors that all processes begun here have taken so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(home: Path, project: Path, count: int, format: str, options: list[str]) -> Row:
    out = home / "out" / "-".join([str(count), format, *options])
    before = cpu()
    used = run_dff(project, "export", "--format", format, *options, "--out", str(out))
    files = [path for path in out.rglob("*") if path.is_file()]
    return {
        "format": " ".join([format, *options]),
        "images": count,
        "seconds": used["seconds"],
        "CPU s": cpu() - before,
        "peak RSS, MiB": used["peak_mib"],
        "files": len(files),
        "MiB": sum(path.lstat().st_size for path in files) / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    count = parser.parse_args().images
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        few = draw_photographs(home / "few", 20)
        projects = {}
        for size in (count // 5, count):
            photographs = copies(home / f"photographs{size}", few, size)
            projects[size] = make_project(
                home / f"project{size}", photographs, backbone="demo", weights="bundled"
            )
            publish_maps(projects[size])
        rows = []
        for format, *options in [*((name,) for name in EXPORTERS), *VARIANTS]:
            small, large = (measure(home, projects[n], n, format, options) for n in projects)
            # what starting takes is in both, and not in the slope
            slope = (large["CPU s"] - small["CPU s"]) / (large["images"] - small["images"])
            rows.append(large | {"CPU ms an image": 1000 * slope})
    report("export", f"dff export of {count} images, k = {K}, 500 x 375", rows, machine="2 cores")


if __name__ == "__main__":
    main()
