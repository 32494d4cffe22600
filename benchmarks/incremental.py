"""A hundred images more: what extract does again, against an extraction from nothing.

    python benchmarks/incremental.py [--images 10000] [--more 100]

Processes of their own, the start of Python included. The demo's network at 224 pixels, on files
that differ in content but not in pixels.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

from benchmarks.common import bring_back, draw_photographs, make_project, report, run_dff, set_aside
from benchmarks.memory import copies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--more", type=int, default=100)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        photographs = copies(
            home / "photographs", draw_photographs(home / "few", 50), chosen.images + chosen.more
        )
        added = set_aside(photographs, chosen.more, aside := home / "aside")
        project = make_project(
            home / "project", photographs, backbone="demo", weights="bundled", layers=["conv4_2"]
        )
        rows = []

        def extract(what: str, computed: int) -> None:
            used = run_dff(project, "extract")
            rows.append(
                {
                    "extraction": what,
                    "images in forward passes": computed,
                    "seconds": used["seconds"],
                    "peak RSS, MiB": used["peak_mib"],
                }
            )

        extract(f"{chosen.images} images from nothing", chosen.images)
        bring_back(added, aside)
        run_dff(project, "index")
        extract(f"{len(added)} more", len(added))
        for path in added:
            path.unlink()
        run_dff(project, "index")
        extract(f"{len(added)} fewer", 0)
        shutil.rmtree(project / "artifacts/activations.zarr")
        extract(f"{chosen.images} images from nothing, again", chosen.images)
    for row in rows:
        row["of the first"] = row["seconds"] / rows[0]["seconds"]
    report("incremental", "Images come and go", rows)


if __name__ == "__main__":
    main()
