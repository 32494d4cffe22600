"""One per cent more photographs a day: what a run costs then, against a run from nothing.

    python benchmarks/growth.py --photographs DIR --weights FILE [--images 1000] [--more 10]
    python benchmarks/growth.py --photographs DIR --weights random:0 --backbone vgg19
        --layer features.35 --name growth_vgg19
    python benchmarks/growth.py --reading PROJECT/artifacts/activations.zarr

DIR holds real photographs in folders, which become image sets; those that come later lie scattered
over all of them. Every stage runs in a process of its own, the start of Python included: what a
start costs is what is left of a project of two photographs a folder when each of these costs what
one of the many costs. SqueezeNet 1.1, or another network, at 224 pixels, k = 1 to 4; after the
first run `dff pin` keeps the factors, but with ``--anew``.

``--reading`` measures what it costs to read rows that have been appended: the first layer of an
artifact, written in order and with a tenth of its images behind the others.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import make_project, report, run_dff
from pipeline.registry import STAGES as PIPELINE
from store import Layout, Location, Ragged, RaggedWriter, open_artifact
from store.behind import Behind, plan_behind

STAGES = tuple(stage.name for stage in PIPELINE)
PHOTOGRAPHS = (".jpg", ".jpeg", ".png", ".bmp")
Run = dict[str, dict[str, float]]


def spread(files: Sequence[Path], count: int) -> list[Path]:
    """So many files, at even distances."""
    return [files[i * len(files) // count] for i in range(count)]


def link_all(files: Sequence[Path], source: Path, folder: Path) -> None:
    """The same files below another folder."""
    for file in files:
        place = folder / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, place)
        except OSError:
            place.write_bytes(file.read_bytes())


def all_stages(project: Path) -> Run:
    """Each stage in turn."""
    return {stage: run_dff(project, stage) for stage in STAGES}


def reading(artifact: Path) -> None:
    """Seconds of a processor to read all rows, scattered or not."""
    activations = open_artifact(artifact)
    source = activations.ragged(activations.layers[0])
    entries = np.arange(len(source))
    last = np.unique(np.linspace(0, len(source) - 1, len(source) // 10).round().astype(np.int64))
    with tempfile.TemporaryDirectory() as temporary:
        whole = written(Path(temporary) / "whole", source, entries)
        first = np.setdiff1d(entries, last)
        before = written(Path(temporary) / "before", source, first)
        known = np.full(len(source), -1)
        known[first] = np.arange(len(first))
        layout = Layout(source.shards.chunk_rows, source.shards.shard_rows)
        behind = plan_behind([before], known, [source.grid_hw], [layout])
        if not behind:
            raise SystemExit(f"{artifact}: has no whole shard that can be linked")
        scattered = written(Path(temporary) / "scattered", source, entries, behind[0])
        arrays = {"in order": whole, "a tenth behind": scattered}
        taken: dict[str, list[float]] = {name: [] for name in arrays}
        for _ in range(7):
            for name, ragged in arrays.items():
                begun = time.process_time()
                for _ in ragged.select(entries).compact().blocks():
                    pass
                taken[name].append(time.process_time() - begun)
    usual = float(np.median(taken["in order"]))
    rows = [
        {"rows": name, "seconds of a processor": (one := float(np.median(all_of))),
         "of those in order": one / usual}
        for name, all_of in taken.items()
    ]  # fmt: skip
    report("growth_reading", "Reading rows that were appended", rows, images=len(source))


def written(
    place: Path, source: Ragged, entries: NDArray[np.int64], behind: Behind | None = None
) -> Ragged:
    """Some entries of an array as another one, behind an earlier one where that is given."""
    group = Location.of(place).zarr_group("w")
    writer = RaggedWriter(
        group,
        source.grid_hw[entries],
        source.image_ids[entries],
        source.channels,
        source.dtype,
        layout=Layout(source.shards.chunk_rows, source.shards.shard_rows),
        narrow=source.narrow_dtype == np.float16,
        behind=behind,
        resume=behind.link(group) if behind else None,
    )
    row = int(writer.offsets[0])
    for block in source.select(entries[behind.tail] if behind else entries).blocks():
        writer.append(row, block)
        row += len(block)
    writer.close()
    return Ragged.open(group)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--backbone", default="squeezenet1_1")
    parser.add_argument("--layer", default="features.12")
    parser.add_argument("--reading", type=Path, help="measure the reading of this artifact alone")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--more", type=int, default=10)
    parser.add_argument("--anew", action="store_true", help="find concepts anew")
    parser.add_argument("--name", default="growth", help="of the file of results")
    chosen = parser.parse_args()
    if chosen.reading:
        reading(chosen.reading)
        return
    if not (chosen.photographs and chosen.weights):
        parser.error("--photographs and --weights are needed")
    os.environ["DFF_KEEP"] = "3"
    weights = chosen.weights
    if not weights.startswith("random:"):
        weights = str(Path(weights).resolve())
    source = chosen.photographs.resolve()
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in PHOTOGRAPHS)
    files = spread(files, chosen.images + chosen.more)
    later = set(spread(files, chosen.more))
    first = [file for file in files if file not in later]
    folders: dict[Path, list[Path]] = {}
    for file in first:
        folders.setdefault(file.parent, []).append(file)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)

        def project(name: str, some: Sequence[Path]) -> Path:
            link_all(some, source, home / name / "photographs")
            return make_project(
                home / name / "project",
                home / name / "photographs",
                backbone=chosen.backbone,
                weights=weights,
                layers=[chosen.layer],
            )

        few = [file for some in folders.values() for file in some[:2]]
        all_stages(project("warm", few))  # what is compiled once is compiled here
        start = all_stages(project("few", few))
        grown = project("all", first)
        whole = all_stages(grown)
        if not chosen.anew:
            run_dff(grown, "pin")
        link_all(sorted(later), source, home / "all/photographs")
        then = all_stages(grown)
    rows = [
        {
            "stage": stage,
            f"{len(few)} from nothing": start[stage]["cpu_seconds"],
            f"{chosen.images} from nothing": whole[stage]["cpu_seconds"],
            f"{chosen.more} more": then[stage]["cpu_seconds"],
            "seconds": whole[stage]["seconds"],
            "and then": then[stage]["seconds"],
        }
        for stage in STAGES
    ]
    figures = [name for name in rows[0] if name != "stage"]
    rows.append({"stage": "all", **{name: sum(row[name] for row in rows) for name in figures}})
    for row in rows:
        _, fewest, before, after, *_ = row.values()
        row["a start"] = fewest - len(few) * (before - fewest) / (chosen.images - len(few))
        row["share beyond the start"] = (after - row["a start"]) / (before - row["a start"])
    report(
        chosen.name,
        "One per cent more, seconds of processors",
        rows,
        backbone=chosen.backbone,
        anew=chosen.anew,
    )


if __name__ == "__main__":
    main()
