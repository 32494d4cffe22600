"""Resumable work folders and atomic publication of artifacts.

A stage works in ``.staging/<artifact>/<fingerprint>/`` beside the artifact. A small progress record
is replaced atomically after each unit of work; on success the folder is renamed onto the artifact.
A crash at any instant leaves the old artifact as it was and the work so far to go on from. On Linux
the two folders are exchanged in one step; elsewhere, and on file systems that cannot, a crash
between two renames leaves no artifact until the next run of its stage brings the old one back.
"""

import ctypes
import errno
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from store.errors import StagingLocked, StoreError

STAGING = ".staging"
# Errors of a write that carries no file name: the disk's, not a socket's.
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}
# How a system or a file system says that it cannot exchange.
CANNOT = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM, errno.EXDEV}
# How a file system says that it has no locks.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}
RETIRED = "retired"  # what another folder took the place of, in two steps
PUBLISHING = "publishing"  # the inode of what is being published


def fsync_path(path: Path) -> None:
    """Force one file or folder to the disk; folders only where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # network file systems (CIFS) have no such thing for folders
        if error.errno not in CANNOT or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` in the end.

    A reader, or a crash, sees the old bytes or the new, never half.
    """
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fsync_path(path.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file as `replacing` does."""
    with replacing(path) as file:
        file.write(content)


@dataclass
class Staging:
    """The work folder of one artifact in the making.

    Attributes
    ----------
    path : Path
        What is put here becomes the artifact.
    scratch : Path
        For checkpoints: kept across a crash, never published.
    progress : dict
        What `checkpoint` recorded last; empty on a fresh start.
    fingerprint : str
        What the artifact is made from.
    out : Path
        Where it will be published; an earlier one may be there.
    """

    path: Path
    scratch: Path
    fingerprint: str
    out: Path
    progress: dict[str, Any] = field(default_factory=dict)

    def checkpoint(self, **progress: Any) -> None:
        """Merge into the progress record and put it safely on disk."""
        self.progress.update(progress)
        write_atomically(self.scratch / "progress.json", json.dumps(self.progress).encode())

    def restart(self) -> None:
        """Forget what an earlier run left here."""
        self.progress.clear()
        remove(self.scratch)  # first: no record may outlive the work it tells of
        remove(self.path)
        self.path.mkdir()
        self.scratch.mkdir()

    def earlier(self) -> Iterator[tuple[Path, dict[str, Any] | None]]:
        """Other versions of this artifact: the published one, then unfinished ones.

        Yields
        ------
        path, progress : Path, dict or None
            None: it is complete. They may be of any params, schema and state.
        """
        if self.out.exists():
            yield self.out, None
        own = self.path.parent
        for folder in sorted(own.parent.iterdir()):
            if folder.is_dir() and folder != own:
                yield folder / "artifact", _progress(folder) or {}


def staging_folder(out: Path, fingerprint: str) -> Path:
    """Where the work for `out` under `fingerprint` lives."""
    return out.parent / STAGING / out.name / fingerprint[:16]


def read_progress(out: Path, fingerprint: str) -> dict[str, Any] | None:
    """The progress record of unfinished work, or None when there is none."""
    return _progress(staging_folder(out, fingerprint))


def _progress(folder: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((folder / "scratch" / "progress.json").read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


@contextmanager
def staging(out: Path, fingerprint: str) -> Iterator[Staging]:
    """Work on artifact `out`; publish it when the block ends without an exception.

    Work left by an earlier run with the same fingerprint is found again in ``path``, ``scratch``
    and ``progress``; work for other fingerprints is swept once this one is published.

    Raises
    ------
    StagingLocked
        When another process works on the same artifact.
    StoreError
        When the folder cannot be written or the disk is full; the work so far is kept.
    """
    with working_on(out), staged(out, fingerprint) as work:
        yield work


@contextmanager
def working_on(out: Path) -> Iterator[None]:
    """Be the only process that makes artifact `out`; errors as `staging`."""
    folder = out.parent / STAGING / out.name
    with disk_errors(out):
        folder.mkdir(parents=True, exist_ok=True)
        with only_one(folder / "lock", out):
            _recover(folder, out)
            yield


@contextmanager
def staged(out: Path, fingerprint: str) -> Iterator[Staging]:
    """What `staging` does, for one who is `working_on` it already."""
    folder = staging_folder(out, fingerprint)
    work = Staging(folder / "artifact", folder / "scratch", fingerprint, out)
    if _was_published(work) or not work.path.exists():
        # What lies there is the old one, exchanged for it; or nothing. A record of progress
        # without the work itself would have rows count as written that are not there.
        remove(work.path)
        remove(work.scratch)
    elif read_progress(out, fingerprint) is None:
        # Nothing is on record of what lies there: it was begun, or is an old one that was
        # being swept. Checkpoints in scratch are a stage's own and hold without it.
        remove(work.path)
    work.path.mkdir(parents=True, exist_ok=True)
    work.scratch.mkdir(exist_ok=True)
    work.progress.update(read_progress(out, fingerprint) or {})
    yield work
    publish(work)
    _sweep(folder.parent)


@contextmanager
def work_beside(out: Path, kind: str, *names: str) -> Iterator[list[Path]]:
    """Empty folders beside `out`, for this process alone; nothing is left of them.

    Parameters
    ----------
    out : Path
        What one of them becomes (`put_in_place`).
    kind : str
        Of the work: another one on the same `out` has folders of its own.
    *names : str

    Raises
    ------
    StagingLocked
    """
    staging = out.parent / STAGING
    folder = staging / f"{out.name}.{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with only_one(folder / "lock", out):
            places = [folder / name for name in names]
            try:
                for place in places:
                    shutil.rmtree(place, ignore_errors=True)  # of a run that was killed
                    place.mkdir()
                yield places
            finally:  # and of what was there before
                for leftover in (*places, folder / RETIRED):
                    shutil.rmtree(leftover, ignore_errors=True)
                (folder / "lock").unlink(missing_ok=True)
    finally:
        with suppress(OSError):  # others are at work there
            folder.rmdir()
            staging.rmdir()


@contextmanager
def only_one(lock: Path, what: Path) -> Iterator[None]:
    """Keep other processes from working on something; `lock` is a file for it.

    Raises
    ------
    StagingLocked
        When another process has it already.
    """
    from filelock import FileLock, Timeout  # here: looking locks nothing

    held = FileLock(lock, timeout=0)
    try:
        held.acquire()
    except Timeout as error:
        raise StagingLocked(
            f"{what}: another process is working on it; wait for it or stop it"
        ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        warnings.warn(
            f"{lock}: this file system has no locks: let no other process work on {what.name}",
            RuntimeWarning,
            stacklevel=2,
        )
    try:
        yield
    finally:
        held.release()


def publish(work: Staging) -> None:
    """Put the finished folder in the place of the artifact, which may exist."""
    finished, out = work.path, work.out
    for folder, _, files in os.walk(finished):
        for name in files:
            fsync_path(Path(folder) / name)
        fsync_path(Path(folder))
    if out.exists() or out.is_symlink():
        # after the exchange the old one lies where the work was: the inode tells them apart
        write_atomically(work.scratch / PUBLISHING, str(finished.stat().st_ino).encode())
    put_in_place(finished, out)


def put_in_place(finished: Path, out: Path) -> None:
    """Rename a folder to `out`, in one step where the system can exchange it for what is there.

    What was there lies where the folder was then; elsewhere it is `RETIRED` beside it.
    """
    if not (out.exists() or out.is_symlink()):
        finished.rename(out)
    elif not _exchange(finished, out):
        retired = finished.parent / RETIRED
        remove(retired)
        out.rename(retired)
        finished.rename(out)
    fsync_path(out.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two entries of one file system atomically; False where that cannot be done."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2  # Linux
    except (OSError, AttributeError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(other))


def _was_published(work: Staging) -> bool:
    """Whether a run was killed after the exchange and before the leftovers were swept.

    Then what lies where the work was is not what was to be published.
    """
    try:
        inode = int((work.scratch / PUBLISHING).read_bytes())
    except (OSError, ValueError):
        return False
    return work.path.exists() and work.path.lstat().st_ino != inode


def _recover(folder: Path, out: Path) -> None:
    """Bring back an artifact whose successor was about to be renamed into its place."""
    if out.exists() or out.is_symlink():
        return
    for retired in folder.glob(f"*/{RETIRED}"):
        if not (retired.parent / "artifact").exists():
            continue  # its successor was published, and is gone for another reason
        retired.rename(out)
        fsync_path(out.parent)
        return


def _sweep(folder: Path) -> None:
    """Drop all work folders of an artifact that has just been published."""
    for leftover in folder.iterdir():
        if leftover.is_dir():
            remove(leftover / "artifact")  # first: it may be an old one, and the rest says so
            remove(leftover)


def remove(path: Path) -> None:
    """Delete a file, link or folder that may be there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turn a full disk, and the like, while something is written for `out` into one line."""
    try:
        yield
    except OSError as error:
        if not _concerns(error, out):
            raise
        raise StoreError(
            f"{out}: cannot be written ({error.strerror}); earlier artifacts are untouched and the "
            "work so far is kept: free some space (`dff gc`) or mend the permissions, then run it "
            "again"
        ) from error


def _concerns(error: OSError, out: Path) -> bool:
    """Whether writing `out` failed, rather than, say, reading an image, an input or a download."""
    if error.filename is None:
        return error.errno in DISK
    name, target = Path(os.fsdecode(error.filename)).absolute(), out.absolute()
    written = target, target.parent / STAGING
    return target.is_relative_to(name) or any(name.is_relative_to(place) for place in written)
