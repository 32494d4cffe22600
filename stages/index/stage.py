"""index: find the images, check that each decodes, give them ids and sets.

Writes ``images.parquet`` (by image id: name, height, width, bytes, sha256, annotation_sha256),
``sets.parquet`` (set, image_id), ``failures.parquet`` (name, reason) and ``artifact.json``. For the
demo the scenes themselves are drawn into the artifact.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from stages.artifacts.image_index import listing_digest
from stages.datasets import Dataset, DatasetError, FolderDataset, FoundImage, open_dataset
from stages.datasets.demo.scenes import write_demo
from stages.frame.fingerprint import file_digest
from stages.frame.parallel import ordered_map
from stages.frame.params import suggestion, user_path
from stages.frame.progress import track
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from stages.images.decode import ImageError, verify
from stages.index.params import IndexParams
from store import Staging
from store.artifact import write_record

DEMO_IMAGES_PER_SET = 24
DEMO_SEED = 0
IMAGE_COLUMNS = ["name", "height", "width", "bytes", "sha256", "annotation_sha256"]


@dataclass(frozen=True)
class _Checked:
    """One image file after the check: its facts, or the reason it cannot be used."""

    found: FoundImage
    reason: str = ""
    height: int = 0
    width: int = 0
    size: int = 0
    sha256: str = ""
    annotation_sha256: str = ""


def _collection(params: IndexParams, project: Path) -> Dataset:
    """The reader that the params ask for, on the folder they name.

    Raises
    ------
    DatasetError
        When the project's artifacts lie in that folder: the report would become photographs.
    """
    root = user_path(params.root, project).resolve()
    if project.resolve().is_relative_to(root):
        raise DatasetError(
            f"{root}: index.root holds this project's own folder; put the photographs into a "
            "folder of their own"
        )
    options: dict[str, Any] = {}
    if params.dataset in ("folder", "icoseg"):
        options = {"parts": params.parts, "whole": params.whole, "masks": params.masks}
    elif params.dataset in ("voc", "pascal_part"):
        options = {"split": params.split, "exclude": params.exclude}
        own = "together" if params.dataset == "voc" else "merge"
        options[own] = getattr(params, own)
    return open_dataset(params.dataset, user_path(params.root, project), options)


def _chosen(params: IndexParams, dataset: Dataset) -> list[FoundImage]:
    """The images of the sets that the params ask for.

    Raises
    ------
    DatasetError
        When the collection has no such set.
    """
    images = list(dataset.images())
    if not params.sets:
        return images
    known = sorted({name for image in images for name in image.sets})
    for name in params.sets:
        if name not in known:
            raise DatasetError(
                f"{dataset.root}: no image set {name!r} (index.sets); {suggestion(name, known)}"
            )
    wanted = set(params.sets)
    kept = [(image.name, tuple(s for s in image.sets if s in wanted)) for image in images]
    return [FoundImage(name, sets) for name, sets in kept if sets]


def sources(params: IndexParams, project: Path) -> str:
    """Digest of the names and contents of all image and annotation files."""
    if params.dataset == "demo":
        return f"demo {DEMO_IMAGES_PER_SET} {DEMO_SEED}"
    dataset = _collection(params, project)
    paths: list[Path] = []
    images = _chosen(params, dataset)
    for found in images:
        paths += [dataset.image_path(found.name), *dataset.annotation_files(found.name)]
    # hashing waits for the disk and gives up the interpreter lock: threads help on any machine
    digests = ordered_map(file_digest, paths, workers=8)
    relative = [path.relative_to(dataset.root).as_posix() for path in paths]
    members = [(found.name, "/".join(found.sets)) for found in images]
    return listing_digest([*zip(relative, digests, strict=True), *members])


def run(params: IndexParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    inside = params.dataset == "demo"
    if inside:
        # Drawing again over what a killed run left gives the same files.
        write_demo(work.path / "scenes", DEMO_IMAGES_PER_SET, DEMO_SEED)
        dataset: Dataset = FolderDataset(work.path / "scenes")
    else:
        dataset = _collection(params, inputs.project)
    found = _chosen(params, dataset)
    checked: list[_Checked] = []
    with track("index", len(found), "images") as advance:
        check = partial(_check, dataset)
        for result in ordered_map(check, found, workers=resources.workers):
            checked.append(result)
            advance(1)
    good = [one for one in checked if not one.reason]
    failed = [one for one in checked if one.reason]
    _refuse_too_many(failed, len(checked), params.max_failed)
    sets = _write_tables(work.path, good, failed)
    write_record(
        work.path,
        stage="index",
        fingerprint=work.fingerprint,
        reader="folder" if inside else params.dataset,
        root="scenes" if inside else params.root,
        inside=inside,
        options=dataset.options,
        dataset=params.dataset,
        sets=sets,
        images=len(good),
        failed=len(failed),
        annotated=sum(bool(one.annotation_sha256) for one in good),
    )


def _check(dataset: Dataset, found: FoundImage) -> _Checked:
    """Read, hash and decode one image file; anything wrong becomes a reason."""
    try:
        content = dataset.image_path(found.name).read_bytes()
        height, width = verify(content)
    except OSError as error:
        return _Checked(found, reason=error.strerror or str(error))
    except ImageError as error:
        return _Checked(found, reason=str(error))
    annotations = dataset.annotation_files(found.name)
    return _Checked(
        found,
        height=height,
        width=width,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        annotation_sha256=listing_digest([(p.name, file_digest(p)) for p in annotations])
        if annotations
        else "",
    )


def _refuse_too_many(failed: list[_Checked], total: int, allowed: float) -> None:
    if len(failed) <= allowed * total and len(failed) < total:
        return
    some = "; ".join(f"{one.found.name}: {one.reason}" for one in failed[:3])
    raise DatasetError(
        f"{len(failed)} of {total} image files cannot be used, more than index.max_failed = "
        f"{allowed:g} allows ({some}{'; ...' if len(failed) > 3 else ''})"
    )


def _write_tables(folder: Path, good: list[_Checked], failed: list[_Checked]) -> list[str]:
    rows = [
        (one.found.name, one.height, one.width, one.size, one.sha256, one.annotation_sha256)
        for one in good
    ]
    pd.DataFrame(rows, columns=IMAGE_COLUMNS).to_parquet(folder / "images.parquet")
    members = [(name, i) for i, one in enumerate(good) for name in one.found.sets]
    members.sort()
    pd.DataFrame(members, columns=["set", "image_id"]).to_parquet(folder / "sets.parquet")
    reasons = [(one.found.name, one.reason) for one in failed]
    pd.DataFrame(reasons, columns=["name", "reason"]).to_parquet(folder / "failures.parquet")
    return sorted({name for name, _ in members})


INDEX: Stage[IndexParams] = Stage(
    name="index",
    version=2,
    params=IndexParams,
    reads={},
    writes=Path("artifacts/index"),
    run=run,
    summary="Find the images, check that each decodes, and give them ids and sets.",
    files=("root",),
    sources=sources,
)
