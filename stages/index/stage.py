"""index: find the images, check that each decodes, give them ids and sets.

Writes ``images.parquet`` (by image id: name, height, width, bytes, sha256, annotation_sha256),
``sets.parquet`` (set, image_id), ``failures.parquet`` (name, reason, kind: an ``image`` that cannot
be used, a ``file`` that is none, an ``annotation`` that is not used) and ``artifact.json``. What a
reader draws itself (the demo's scenes) is part of the artifact.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from stages.artifacts.image_index import listing_digest
from stages.datasets import READERS, Dataset, DatasetError, FoundImage
from stages.datasets.listing import NOT_A_FILE, is_file
from stages.frame.errors import StageError
from stages.frame.fingerprint import file_digest
from stages.frame.memory import resident
from stages.frame.parallel import ordered_map
from stages.frame.progress import track
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from stages.images.decode import ImageError, verify, verify_bytes
from stages.index.checked import Checked, Found
from stages.index.collection import chosen_images, open_collection
from stages.index.digests import kept_digests
from stages.index.known import Facts, Known, checked_before, recipe
from stages.index.needs import SPARE_BYTES, foretell
from stages.index.notes import tell
from stages.index.params import IndexParams
from stages.index.room import Room
from store import Staging
from store.artifact import write_record
from store.publication import STAGING

DRAWN = "scenes"  # the folder in the artifact
DIGESTS = "index/digests.json"  # remembered between runs, beside the staging folders
# Small photographs are checked in any case, one after the other.
LEAST_BYTES = 32 * 2**20


@dataclass(frozen=True)
class _Asked:
    """An image that is to be checked, with its files where any process finds them.

    Attributes
    ----------
    annotations : sequence of (path, digest)
        Empty where it is not known.
    facts : Facts or None
        What the check would find, where that is known.
    """

    found: FoundImage
    path: Path
    annotations: Sequence[tuple[Path, str]]
    facts: Facts | None

    @classmethod
    def of(cls, dataset: Dataset, found: FoundImage, known: Known) -> "_Asked":
        path = dataset.image_path(found.name)
        annotations = [
            (path.absolute(), known.digests.get(path, ""))
            for path in dataset.annotation_files(found.name)
        ]
        return cls(found, path.absolute(), annotations, known.facts(path))


def sources(params: IndexParams, project: Path) -> str:
    """Digest of the names and contents of all image and annotation files."""
    if READERS[params.dataset].draw:
        return ""  # all that is drawn follows from the options
    dataset = open_collection(params, project)
    images = chosen_images(params, dataset)
    paths, digests = _digests(dataset, images, project)
    relative = _relative(paths, dataset.root)
    members = ((found.name, "/".join(found.sets)) for found in images)
    left_out = [(one.name, one.reason) for one in dataset.left_out()]
    return listing_digest(chain(zip(relative, digests, strict=True), members, left_out))


def _relative(paths: Sequence[Path], root: Path) -> Iterator[str]:
    """Paths below a folder as seen from there; as texts, since paths take ten times as long."""
    within = os.path.join(root, "")  # noqa: PTH118
    for path in paths:
        name = str(path)
        below = name.startswith(within) and os.sep == "/"
        yield name[len(within) :] if below else path.relative_to(root).as_posix()


def forget(project: Path) -> None:
    """Let every file be read again, whatever its size and time say."""
    _memory(project).unlink(missing_ok=True)


def _memory(project: Path) -> Path:
    return project / INDEX.writes.parent / STAGING / DIGESTS


def _digests(
    dataset: Dataset, images: list[FoundImage], project: Path
) -> tuple[list[Path], list[str]]:
    """The files of images, their annotations among them, and the digest of each."""
    paths: list[Path] = []
    for found in images:
        paths += [dataset.image_path(found.name), *dataset.annotation_files(found.name)]
    return paths, kept_digests(paths, _content, _memory(project))


def _content(path: Path) -> str:
    """Digest of a file; of what is none, which one might read for ever, that it is none."""
    return file_digest(path) if is_file(path) or not path.exists() else NOT_A_FILE


def run(params: IndexParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    reader = READERS[params.dataset]
    if reader.draw:
        reader.draw(work.path / DRAWN, params.options)
        dataset = reader.open(work.path / DRAWN, params.options)
    else:
        dataset = open_collection(params, inputs.project)
    found = chosen_images(params, dataset)
    room = Room(max(resources.memory - resident() - SPARE_BYTES, LEAST_BYTES))
    images = Found()
    known = Known.none()
    if resources.reuse and reader.draw is None and (before := checked_before(work)):
        paths, digests = _digests(dataset, found, inputs.project)
        known = Known(dict(zip(paths, digests, strict=True)), before)
    with track("index", len(found), "images") as advance:
        results = ordered_map(
            partial(_check, room),
            (_Asked.of(dataset, one, known) for one in found),
            workers=resources.workers,
            cluster=resources.spread,
            label="index: images",
        )
        for result in results:
            images.add(result)
            advance(1)
    _refuse_too_many(images, params.max_failed)
    left_out = dataset.left_out()
    members = images.members()
    images.write(work.path, members, left_out)
    write_record(
        work.path,
        stage="index",
        fingerprint=work.fingerprint,
        dataset=params.dataset,
        options=dataclasses.asdict(params.options),
        recipe=recipe(),
        root=DRAWN if reader.draw else params.root,
        inside=reader.draw is not None,
        sets=list(members),
        contents=images.contents(members),
        images=len(images.good),
        failed=len(images.failed),
        annotated=len(images.annotations),
    )
    tell(left_out, len(images.failed), images.annotated())


def _check(room: Room, asked: _Asked) -> Checked:
    """Read, hash and decode one image file when there is room; what is wrong becomes a reason.

    A file whose content an earlier index has checked is not read.
    """
    found, path, facts = asked.found, asked.path, asked.facts
    if facts is None:
        if path.exists() and not is_file(path):
            return Checked(found, reason=NOT_A_FILE)
        with room.taken(_room_for(found.name, path, room)):
            try:
                content = path.read_bytes()
                height, width = verify(content)
            except OSError as error:
                return Checked(found, reason=error.strerror or str(error))
            except ImageError as error:
                return Checked(found, reason=str(error))
            facts = height, width, len(content), hashlib.sha256(content).hexdigest()
    annotations = [(p.name, known or file_digest(p)) for p, known in asked.annotations]
    return Checked(found, "", *facts, listing_digest(annotations) if annotations else "")


def _room_for(name: str, path: Path, room: Room) -> int:
    """Bytes that checking an image takes: its file, and what it decodes to.

    Raises
    ------
    StageError
        When they are more than there are.
    """
    try:
        needed = path.stat().st_size + verify_bytes(path)
    except (OSError, ImageError):
        return 0  # what is wrong is found again when it is checked
    if needed > room.size:
        raise StageError(
            f"{name}: checking it takes {needed / 2**20:.0f} MiB, --memory leaves "
            f"{room.size / 2**20:.0f} MiB for images: raise it, or make the image smaller"
        )
    return needed


def _refuse_too_many(images: Found, allowed: float) -> None:
    failed, total = images.failed, images.total
    if len(failed) <= allowed * total and len(failed) < total:
        return
    some = "; ".join(f"{name}: {reason}" for name, reason in failed[:3])
    raise DatasetError(
        f"{len(failed)} of {total} image files cannot be used, more than index.max_failed = "
        f"{allowed:g} allows ({some}{'; ...' if len(failed) > 3 else ''})"
    )


INDEX: Stage[IndexParams] = Stage(
    name="index",
    version=4,
    params=IndexParams,
    reads={},
    writes=Path("artifacts/index"),
    run=run,
    always=True,
    sources=sources,
    forget=forget,
    foretell=foretell,
)
