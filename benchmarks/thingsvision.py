"""dff extract against thingsvision's documented way of writing features, VGG-19 conv5_4.

    python benchmarks/thingsvision.py PYTHON [--photographs FOLDER]

PYTHON is an interpreter that has thingsvision: it needs older versions of torch and numpy than this
project, and so an environment of its own. Both take the same images in batches of 16 with random
weights; times are from opening the network to files on disk, without the start of Python.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

from benchmarks.common import draw_photographs, make_project, report, seconds
from benchmarks.extract import saved
from pipeline.params import read_params
from pipeline.resources import make_resources
from stages.extract.stage import EXTRACT
from stages.frame.execute import execute

PEER = """
import json, resource, sys, time
from thingsvision import get_extractor
from thingsvision.utils.data import DataLoader, ImageDataset
root, out = sys.argv[1:]
start = time.perf_counter()
extractor = get_extractor(
    model_name="vgg19", source="torchvision", device="cpu", pretrained=False
)
dataset = ImageDataset(
    root=root, out_path=out, backend=extractor.get_backend(),
    transforms=extractor.get_transformations(),
)
batches = DataLoader(dataset=dataset, batch_size=16, backend=extractor.get_backend())
extractor.extract_features(
    batches=batches, module_name="features.35", flatten_acts=False, output_dir=out, step_size=2
)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": time.perf_counter() - start, "peak": peak}))
"""


def folder_bytes(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("python", help="an interpreter that has thingsvision")
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        photographs = home / "photographs"
        if chosen.photographs:
            photographs.mkdir()
            files = [p for p in sorted(chosen.photographs.rglob("*")) if p.suffix == ".jpg"]
            for i, path in enumerate(files[: chosen.images]):
                shutil.copy(path, photographs / f"{i:05d}.jpg")
        else:
            draw_photographs(photographs, chosen.images)
        count = len(list(photographs.iterdir()))
        project = make_project(
            home / "project", photographs, backbone="vgg19",
            weights=saved(home / "vgg19.pth", "vgg19"), layers=["conv5_4"],
        )  # fmt: skip
        params, resources = read_params(project)["extract"], make_resources("cpu", 0, "8GiB", "")
        out, written = project / "artifacts/activations.zarr", home / "features"

        def ours() -> None:
            shutil.rmtree(out, ignore_errors=True)
            execute(EXTRACT, params, project, resources)

        def theirs() -> dict[str, Any]:
            shutil.rmtree(written, ignore_errors=True)
            command = [chosen.python, "-c", PEER, str(photographs), str(written)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=home)
            return dict(json.loads(done.stdout.splitlines()[-1]))

        times: dict[str, list[float]] = {"dff extract": [], "thingsvision": []}
        for _ in range(chosen.runs):
            times["dff extract"].append(seconds(ours))
            times["thingsvision"].append(theirs()["seconds"])
        stored = {"dff extract": folder_bytes(out, "*"), "thingsvision": folder_bytes(written, "*")}
    rows = [
        {
            "writer": name,
            "images": count,
            "images/s": count / statistics.median(times[name]),
            "MB on disk": stored[name] / 1e6,
            "rate, of ours": statistics.median(times["dff extract"])
            / statistics.median(times[name]),
        }
        for name in times
    ]
    report("thingsvision", "Writing features, VGG-19 conv5_4, random weights", rows,
           runs=chosen.runs)  # fmt: skip


if __name__ == "__main__":
    main()
