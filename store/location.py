"""A file or folder on this machine or at any fsspec URL, such as ``s3://bucket/prefix``.

Credentials come from the environment, as each service's own tools read them; never from params.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from store.errors import StoreError
from store.publication import fsync_path

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store

PARTIAL = ".partial"
Span = tuple[int, int]


@dataclass(frozen=True)
class Location:
    """Where something lies: a path, or a URL with its protocol.

    Examples
    --------
    >>> Location.of("s3://bucket/prefix/") / "a.zarr"
    Location('s3://bucket/prefix/a.zarr')
    >>> Location.of("memory://m").path is None
    True
    """

    root: str

    @classmethod
    def of(cls, place: str | Path | Location) -> Location:
        """From a path or URL.

        Raises
        ------
        StoreError
            When a URL holds a user name or password.
        """
        if isinstance(place, Location):
            return place
        text = str(place)
        if "://" not in text:
            return cls(os.fspath(Path(text)))
        if "@" in urlsplit(text).netloc:
            raise StoreError(
                f"{text.split('://')[0]}://...: a URL with credentials would be written into "
                "artifacts; leave them out and set them in the environment"
            )
        if text.startswith("file://"):
            return cls(os.fspath(Path(text.removeprefix("file://"))))
        return cls(text.rstrip("/"))

    @classmethod
    def of_node(cls, node: zarr.Group | zarr.Array[Any]) -> Location:
        """Where a Zarr group or array lies."""
        from zarr.storage import FsspecStore, LocalStore

        store = node.store
        if isinstance(store, LocalStore):
            base = cls(os.fspath(store.root))
        elif isinstance(store, FsspecStore):
            fs = getattr(store.fs, "sync_fs", store.fs)
            base = cls(fs.unstrip_protocol(store.path))
        else:
            raise StoreError(f"{store}: arrays are read from folders and fsspec URLs only")
        return base / node.path if node.path else base

    def __repr__(self) -> str:
        return f"Location({self.root!r})"

    def __str__(self) -> str:
        return self.root

    def __truediv__(self, name: str) -> Location:
        return Location(f"{self.root}/{name}")

    @property
    def path(self) -> Path | None:
        """As a path of this machine, or None for a URL."""
        return None if "://" in self.root else Path(self.root)

    def absolute(self) -> Location:
        """The same place for a process that runs in another folder."""
        return self if self.path is None else Location(os.fspath(self.path.absolute()))

    def zarr_store(self, *, read_only: bool = False) -> Store:
        """As Zarr sees it."""
        from zarr.storage import FsspecStore, LocalStore

        if self.path is not None:
            return LocalStore(self.path, read_only=read_only)
        with self.answering():
            return FsspecStore.from_url(self.root, read_only=read_only)

    def zarr_group(self, mode: Literal["r", "r+", "w"]) -> zarr.Group:
        """The group that lies here; errors as Zarr's."""
        # Imported where it is used, as in all of this package: that takes longer than all else of
        # it, and what only looks whether artifacts are fresh opens none.
        import zarr

        import store.codec  # noqa: F401  # registered also where this project is not installed

        return zarr.open_group(self.zarr_store(read_only=mode == "r"), mode=mode, zarr_format=3)

    def _filesystem(self) -> tuple[Any, str]:
        import fsspec

        try:
            with self.answering():
                filesystem, path = fsspec.url_to_fs(self.root)
        except ValueError as error:  # a protocol that fsspec does not know
            raise StoreError(f"{self.root}: cannot be reached ({error})") from error
        return filesystem, path

    @contextmanager
    def answering(self, *passing: type[Exception]) -> Iterator[None]:
        """Turn the complaint of a service, of whatever type, into one line.

        Parameters
        ----------
        *passing
            Types of errors that the caller looks after.
        """
        try:
            yield
        except ImportError as error:
            raise StoreError(
                f"{self.root}: its protocol needs another package ({error}): install that, for s3 "
                "with `pip install 'dff-pipeline[s3]'`"
            ) from error
        except Exception as error:  # each service has its own
            # of KeyError and ValueError Zarr makes its own use
            if self.path or isinstance(error, (StoreError, KeyError, ValueError, *passing)):
                raise
            said = " ".join(str(error).split()) or type(error).__name__
            raise StoreError(
                f"{self.root}: cannot be reached ({said}); check the address and the credentials "
                "in the environment, then run it again"
            ) from error

    # -- files -------------------------------------------------------------------------------

    def size(self) -> int | None:
        """Bytes of this file, or None when there is no such file."""
        if self.path is not None:
            return self.path.stat().st_size if self.path.is_file() else None
        filesystem, path = self._filesystem()
        try:
            with self.answering(FileNotFoundError):
                info = filesystem.info(path)
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def read_end(self, count: int) -> bytes:
        """The last `count` bytes of this file (fewer when it is shorter).

        Raises
        ------
        OSError
            Of a local file; FileNotFoundError of any.
        StoreError
            Of a service that does not answer.
        """
        if self.path is not None:
            with self.path.open("rb") as file:
                file.seek(-min(count, file.seek(0, os.SEEK_END)), os.SEEK_END)
                return file.read()
        filesystem, path = self._filesystem()
        with self.answering(FileNotFoundError):
            return bytes(filesystem.cat_file(path, start=-count))

    def read_spans(self, spans: Sequence[Span]) -> list[bytes]:
        """Byte ranges ``start:stop`` of this file; errors as `read_end`."""
        if self.path is not None:
            return list(self.each_span(spans))
        filesystem, path = self._filesystem()
        starts, stops = [start for start, _ in spans], [stop for _, stop in spans]
        with self.answering(FileNotFoundError):
            found = filesystem.cat_ranges([path] * len(spans), starts, stops, on_error="raise")
            return [bytes(part) for part in found]

    def each_span(self, spans: Sequence[Span]) -> Iterator[bytes]:
        """Byte ranges of this file on a disk, one after the other; errors as `read_end`."""
        assert self.path is not None
        with self.path.open("rb") as file:
            for start, stop in spans:
                yield os.pread(file.fileno(), stop - start, start)

    def take(self, other: Location) -> None:
        """Be the same file as another, which is never written in place: a link, or its bytes.

        Raises
        ------
        StoreError, OSError
            As `read_end` of the other and `write` of this.
        """
        if self.path is not None and other.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
            with suppress(OSError):  # another file system, or one without links
                os.link(other.path.resolve(), self.path)  # DVC's own links are followed
                return
        if (size := other.size()) is None:
            raise StoreError(f"{other}: is gone; run its stage again with `--no-reuse`")
        self.write(other.read_spans([(0, size)]))

    def write(self, parts: Sequence[bytes]) -> None:
        """Write this file whole; a reader, or a crash, sees all of it or nothing.

        A local file, and every folder whose entry leads to it, is on the disk when this returns.
        """
        if self.path is None:
            filesystem, path = self._filesystem()
            with self.answering():
                filesystem.pipe_file(path, b"".join(parts))
            return
        missing = [folder for folder in self.path.parents if not folder.exists()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # of its own: on a cluster another process may be at the same file, after this one was lost
        partial = self.path.with_name(f"{self.path.name}.{os.urandom(4).hex()}{PARTIAL}")
        try:
            with partial.open("wb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            partial.unlink(missing_ok=True)  # a full disk need not keep it
            raise
        partial.replace(self.path)
        for folder in [self.path.parent, *(folder.parent for folder in missing)]:
            fsync_path(folder)
