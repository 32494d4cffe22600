"""Earlier artifacts, kept by hard links: going back to one takes seconds.

``.kept/<artifact>/<key>/`` beside an artifact holds ``artifact/``, links to its files, and
``kept.json``: what it was made from, and size and time of each file. Published files are replaced
but never written in place; a copy whose files are not as recorded is damaged, and never used.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from store.artifact import RECORD, read_attrs
from store.errors import StoreError
from store.publication import STAGING, Staging, publish, remove, write_atomically

KEPT = ".kept"
COPY, ABOUT, PARTIAL = "artifact", "kept.json", ".partial"
LIMIT, DEFAULT_LIMIT = "DFF_KEEP", 3
COPIED_BYTES = 64 * 2**20  # where files cannot be linked, no more than this is worth a true copy
Listing = dict[str, list[int]]


@dataclass(frozen=True)
class Kept:
    """One kept copy, whole.

    Attributes
    ----------
    folder : Path
    made : dict
        What the artifact was made from; has at least its ``fingerprint``.
    files : mapping of path to size and time
        As `listing` has them.
    used : int
        When it was last published or replaced, in nanoseconds.
    """

    folder: Path
    made: dict[str, Any]
    files: Listing
    used: int

    @property
    def artifact(self) -> Path:
        """The copy itself, to be read only."""
        return self.folder / COPY


def limit() -> int:
    """How many copies of each artifact are kept, that of the published one included.

    Raises
    ------
    StoreError
        When the environment says something that is no number.
    """
    value = os.environ.get(LIMIT) or str(DEFAULT_LIMIT)
    if not value.isdecimal():
        raise StoreError(f"{LIMIT}={value}: must be a number of copies; 0 keeps none")
    return int(value)


def listing(folder: Path) -> Listing:
    """Size and modification time, in nanoseconds, of each file below a folder.

    All links to a file have the same, a file that was written anew has others: it tells two
    artifacts apart without reading them. The time of an empty file does not count, since DVC makes
    those anew instead of linking them.
    """
    found = {}
    for name, entry in _below(folder):
        with suppress(FileNotFoundError):  # a link to nothing, or just replaced
            facts = entry.stat()
            found[name] = [facts.st_size, facts.st_mtime_ns if facts.st_size else 0]
    return found


def _below(folder: str | Path, name: str = "") -> "Iterator[tuple[str, os.DirEntry[str]]]":
    """Each file below a folder, and its name from there; a folder that is gone has none.

    As `os.walk` goes, without making paths: every status looks at all files of all copies.
    """
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir():
                yield f"{name}{entry.name}", entry
            elif not entry.is_symlink():
                yield from _below(entry.path, f"{name}{entry.name}/")


# -- finding -------------------------------------------------------------------------------------


def find_kept(out: Path, made: Mapping[str, Any]) -> Kept | None:
    """The copy of artifact `out` that was made from just this, when it is there and whole."""
    if not limit():
        return None
    copy = _open(_place(out) / _key(made))
    return copy if copy and copy.made == made else None


def kept_copies(out: Path) -> list[Kept]:
    """All whole copies of an artifact: of the published one first, then as they were last used."""
    copies = [copy for folder in _folders(out) if (copy := _open(folder))]
    published = _fingerprint(out)
    return sorted(
        copies, key=lambda copy: (copy.made["fingerprint"] == published, copy.used), reverse=True
    )


def copy_at(out: Path) -> Kept | None:
    """The copy whose files are those that are published."""
    files = listing(out)
    return next((copy for copy in kept_copies(out) if copy.files == files), None)


def _place(out: Path) -> Path:
    return out.parent / KEPT / out.name


def _key(made: Mapping[str, Any]) -> str:
    return sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]


def _folders(out: Path) -> list[Path]:
    place = _place(out)
    return sorted(place.iterdir()) if place.is_dir() else []


def _open(folder: Path) -> Kept | None:
    try:
        about = json.loads((folder / ABOUT).read_bytes())
        made, files = about["made"], about["files"]
        # The file that holds the fingerprint, so that no other artifact's is linked to it. Being
        # linked or unlinked changes its ctime: by that DVC's coming and going counts as use, too.
        name = RECORD if (folder / COPY / RECORD).exists() else "zarr.json"
        used = max((folder / COPY / name).stat().st_ctime_ns, (folder / ABOUT).stat().st_mtime_ns)
        whole = "fingerprint" in made and listing(folder / COPY) == files
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Kept(folder, made, files, used) if whole else None


def _fingerprint(out: Path) -> object:
    try:
        return (read_attrs(out) or {}).get("fingerprint")
    except StoreError:
        return None  # damaged, or of another layout


# -- keeping and bringing back: by whoever holds the artifact's lock -------------------------------


def keep(out: Path, made: Mapping[str, Any]) -> None:
    """Keep a copy of a published artifact, and drop those that are too many.

    Raises
    ------
    OSError
        When its files cannot be linked and are too large to copy; nothing is left behind then.
    """
    if not limit():
        return
    folder = _place(out) / _key(made)
    partial = folder.with_name(folder.name + PARTIAL)
    try:
        remove(partial)
        partial.mkdir(parents=True)
        ignored = folder.parents[1] / ".gitignore"
        if not ignored.exists():
            ignored.write_text("*\n", encoding="utf-8")
        _link_all(out, partial / COPY)
        about = {"made": made, "files": listing(partial / COPY)}
        write_atomically(partial / ABOUT, json.dumps(about).encode())
        remove(folder)
        partial.rename(folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    drop(superfluous(out, limit()))


def adopt(out: Path) -> None:
    """Keep a copy of what is published, when there is none: DVC may have brought it from afar.

    Its rows can be taken over; as it is not known what code made it, it is never brought back as
    the result of a stage.
    """
    fingerprint = _fingerprint(out)
    known = {copy.made["fingerprint"] for copy in kept_copies(out)}
    if fingerprint is not None and fingerprint not in known:
        keep(out, {"fingerprint": fingerprint})


def put_back(copy: Kept, out: Path) -> bool:
    """Publish a copy again, atomically; False when it cannot be linked."""
    folder = out.parent / STAGING / out.name / "back"
    work = Staging(folder / COPY, folder / "scratch", str(copy.made["fingerprint"]), out)
    remove(folder)
    work.scratch.mkdir(parents=True)
    try:
        _link_all(copy.artifact, work.path)
    except OSError:
        remove(folder)
        return False
    publish(work)
    remove(folder)
    os.utime(copy.folder / ABOUT)
    return True


def _link_all(source: Path, target: Path) -> None:
    """A folder again, its files by hard links; by copies where there are no links, if small."""
    try:
        for parent, _, names in os.walk(source):
            place = target / Path(parent).relative_to(source)
            place.mkdir()
            for name in names:
                # DVC's own links are followed to the files
                os.link(Path(parent, name).resolve(), place / name)
    except OSError:
        if sum(size for size, _ in listing(source).values()) > COPIED_BYTES:
            raise
        remove(target)
        shutil.copytree(source, target)


# -- dropping ------------------------------------------------------------------------------------


def superfluous(out: Path, count: int) -> list[Path]:
    """Folders of all but `count` copies, and of what is damaged or half made."""
    wanted = {copy.folder for copy in kept_copies(out)[:count]}
    return [folder for folder in _folders(out) if folder not in wanted]


def drop(folders: Iterable[Path]) -> None:
    """Delete copies; a copy that is deleted in part counts as damaged."""
    for folder in folders:
        (folder / ABOUT).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def own_bytes(folders: Iterable[Path]) -> int:
    """Bytes of files that have no link outside these folders: what dropping them frees."""
    links: Counter[tuple[int, int]] = Counter()
    facts = {}
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                with suppress(FileNotFoundError):
                    one = Path(parent, name).lstat()
                    links[one.st_dev, one.st_ino] += 1
                    facts[one.st_dev, one.st_ino] = one
    return sum(one.st_size for file, one in facts.items() if one.st_nlink <= links[file])
