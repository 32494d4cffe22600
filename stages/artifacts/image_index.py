"""Reading the index artifact: which images there are, in which sets, and their bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.tables import read_table
from stages.datasets import READERS, Dataset
from stages.frame.errors import StageError
from stages.frame.params import user_path
from stages.frame.sent import fields_alone
from stages.images.decode import ImageError, decode_at_each, decode_resized, decode_rgb
from store import Artifact
from store.artifact import RECORD, read_attrs
from store.errors import ArtifactMissing
from store.names import Names

if TYPE_CHECKING:
    import pandas as pd

BLOCK = 1 << 16  # digests that are decoded together
Origin = tuple[Path, Path, str, int]  # place, project, fingerprint, time of modification


@dataclass(frozen=True)
class ImageIndex:
    """The published result of the index stage.

    Attributes
    ----------
    images : DataFrame
        Indexed by image id: name, height, width, bytes, sha256, annotation_sha256.
    sets : dict of set name to list of image ids
    failures : DataFrame
        name, reason and kind of all that was left out: an ``image`` that cannot be used, a
        ``file`` that is none, an ``annotation`` of no image.
    dataset : Dataset
        Where the image files and their annotations are.
    reader : str
        What `index.dataset` was: the reader's name.
    options : object
        With which it was opened; of the reader's dataclass of options.
    recorded_contents : str, optional
        `contents`, where the artifact says it.
    origin : (place, project, fingerprint, time of modification), optional
        Where other processes that it is sent to find it; without, they get what it has.
    """

    images: pd.DataFrame
    sets: dict[str, list[int]]
    failures: pd.DataFrame
    dataset: Dataset
    reader: str
    options: Any
    recorded_contents: str | None = None
    origin: Origin | None = field(default=None, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_opened_again, self.origin) if self.origin else fields_alone(self)

    @classmethod
    def open(cls, path: Path, project: Path, made: Artifact | None = None) -> ImageIndex:
        """Open the index artifact at `path` of the project in folder `project`.

        Parameters
        ----------
        made : Artifact, optional
            An artifact that is used together with it.

        Raises
        ------
        StageError
            When that artifact was made from other images: its image ids, or the maps of an image
            that has been replaced since, mean something else.
        """
        attrs = read_attrs(path)
        if attrs is None:
            raise ArtifactMissing(f"{path}: not there yet; run `dff index`")
        members = read_table(path / "sets.parquet")
        base = path if attrs["inside"] else project
        try:
            options = READERS[attrs["dataset"]].options(**attrs["options"])
        except (KeyError, TypeError) as error:  # a reader that is gone, or with other options now
            raise StageError(f"{path}: was made by another version; run `dff index`") from error
        index = cls(
            images=read_table(path / "images.parquet"),
            sets=_members(members, attrs["sets"]),
            failures=read_table(path / "failures.parquet"),
            dataset=READERS[attrs["dataset"]].open(user_path(attrs["root"], base), options),
            reader=attrs["dataset"],
            options=options,
            recorded_contents=attrs.get("contents"),
            origin=(
                path.absolute(),
                project.absolute(),
                str(attrs["fingerprint"]),
                (path / RECORD).stat().st_mtime_ns,
            ),
        )
        if made is not None and made.attrs.get("contents") != index.contents:
            raise StageError(
                f"{path}: was made after the artifacts that are used with it, of other images; "
                "`dff run` makes all that is needed in order"
            )
        return index

    @property
    def unreadable(self) -> pd.DataFrame:
        """The failures that are images."""
        return self.failures[self.failures["kind"] == "image"]

    @property
    def split(self) -> str:
        """Which list of images was read; empty for collections without such lists."""
        return str(getattr(self.options, "split", ""))

    @property
    def together(self) -> bool:
        """Whether the images of all classes are one set."""
        return bool(getattr(self.options, "together", False))

    @property
    def exclude(self) -> str:
        """The rule by which images were left out of their sets; empty where there is none."""
        return "" if self.together else str(getattr(self.options, "exclude", ""))

    @cached_property
    def names(self) -> Names:
        """Image names by image id; each is decoded when it is asked for."""
        return Names.of(self.images["name"])

    @cached_property
    def contents(self) -> str:
        """Digest of the images' names and contents and of their sets; artifacts record it."""
        if self.recorded_contents is not None:
            return self.recorded_contents
        return contents_digest(zip(self.names, self.images["sha256"], strict=True), self.sets)

    def names_of(self, image_ids: Sequence[int] | NDArray[np.integer]) -> NDArray[np.object_]:
        """Names of some images, each decoded once."""
        different, places = np.unique(np.asarray(image_ids, np.int64), return_inverse=True)
        named = np.array([self.names[i] for i in different.tolist()], dtype=object)
        return named[places]

    def light(self, image_ids: Sequence[int] | None = None) -> ImageIndex:
        """As much of it as reading images takes, to be sent to processes; of some images alone, if
        they are named, which then go by their positions here."""
        images = self.images
        if image_ids is not None:  # before columns are copied: it may be of millions
            images = images.iloc[list(image_ids)].reset_index(drop=True)
        return replace(
            self,
            images=images[["name", "height", "width", "sha256"]],
            sets={},
            failures=self.failures.iloc[:0],
            origin=None,
        )

    @cached_property
    def annotated(self) -> NDArray[np.bool_]:
        """Whether each image has an annotation, by image id."""
        return (self.images["annotation_sha256"] != "").to_numpy(np.bool_)

    def size(self, image_id: int) -> tuple[int, int]:
        """(height, width) in pixels, as a person sees the image."""
        height, width = self.sizes[image_id]
        return int(height), int(width)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(height, width) of every image, by image id, ``[n, 2]``."""
        return self.images[["height", "width"]].to_numpy(np.int64)

    @cached_property
    def hashes(self) -> NDArray[np.uint8]:
        """SHA-256 of every image file, by image id, ``[n, 32]``."""
        found = np.empty((len(self.images), 32), np.uint8)
        digests = self.images["sha256"]
        for start in range(0, len(found), BLOCK):
            joined = bytes.fromhex("".join(digests[start : start + BLOCK]))
            found[start : start + BLOCK] = np.frombuffer(joined, np.uint8).reshape(-1, 32)
        return found

    def read(self, image_id: int) -> bytes:
        """An image file's bytes.

        Raises
        ------
        StageError
            When the file is gone or no longer what was indexed.
        """
        path = self.dataset.image_path(self.names[image_id])
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StageError(
                f"{path}: cannot be read ({error.strerror}); it was there when the index was made: "
                "put it back, or `dff run` goes on without it"
            ) from error
        if hashlib.sha256(content).digest() != self.hashes[image_id].tobytes():
            raise StageError(f"{path}: has changed since the index was made; `dff run` sees to it")
        return content

    def rgb(self, image_id: int) -> NDArray[np.uint8]:
        """An image as a person sees it, uint8 ``[h, w, 3]``.

        Raises
        ------
        StageError
            As `read`, or when the image no longer decodes.
        """
        with self._decodes(image_id):
            return decode_rgb(self.read(image_id))

    def rgb_at(
        self,
        image_id: int,
        shape: tuple[int, int],
        content: bytes | None = None,
        interpolation: str = "bilinear",
    ) -> NDArray[np.uint8]:
        """An image resized to (height, width), uint8 ``[height, width, 3]``; errors as `rgb`.

        Parameters
        ----------
        content
            The file's bytes, where they have been read already.
        interpolation
            One of `stages.images.resize.FILTERS`.
        """
        with self._decodes(image_id):
            data = self.read(image_id) if content is None else content
            return decode_resized(data, shape, interpolation=interpolation)

    def rgb_at_each(
        self, image_id: int, shapes: Sequence[tuple[int, int]], interpolation: str = "bilinear"
    ) -> list[NDArray[np.uint8]]:
        """An image as `rgb_at` gives it at each of several sizes, decoded once; errors as `rgb`."""
        if len(shapes) == 1:
            return [self.rgb_at(image_id, shapes[0], None, interpolation)]
        with self._decodes(image_id):
            return decode_at_each(self.read(image_id), shapes, interpolation=interpolation)

    def small_rgb(self, image_id: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """An image for a thumbnail, as `rgb_at`, a JPEG decoded at a part of its size."""
        with self._decodes(image_id):
            return decode_resized(self.read(image_id), shape, reduced=True)

    @contextmanager
    def _decodes(self, image_id: int) -> Iterator[None]:
        try:
            yield
        except ImageError as error:
            raise StageError(
                f"{self.names[image_id]}: {error}; it decoded when the index was made: is "
                "this another version of Pillow? `dff run` checks them anew"
            ) from error

    def members(self) -> tuple[list[int], dict[str, list[int]]]:
        """Every (set, image) pair in order: the image ids, and each set's positions among them."""
        ids: list[int] = []
        positions: dict[str, list[int]] = {}
        for name, image_ids in self.sets.items():
            positions[name] = list(range(len(ids), len(ids) + len(image_ids)))
            ids.extend(image_ids)
        return ids, positions


def _members(members: pd.DataFrame, sets: Sequence[str]) -> dict[str, list[int]]:
    """The image ids of each set, in the table's order; the table is gone through once."""
    import pandas as pd

    codes = pd.Categorical(members["set"], categories=list(sets)).codes
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], range(len(sets) + 1))
    ids = members["image_id"].to_numpy(np.int64)[order]
    return {
        str(name): ids[start:stop].tolist()
        for name, (start, stop) in zip(sets, pairwise(bounds), strict=True)
    }


def contents_digest(images: Iterable[tuple[str, str]], sets: Mapping[str, Sequence[int]]) -> str:
    """See `ImageIndex.contents`; of (name, SHA-256) of every image."""
    return listing_digest(chain(images, ((name, str(ids)) for name, ids in sets.items())))


@lru_cache(maxsize=2)
def _opened_again(place: Path, project: Path, fingerprint: str, changed: int) -> ImageIndex:
    """An index that another process has open; `changed` tells it from one that lay there before."""
    index = ImageIndex.open(place, project)
    if index.origin is None or index.origin[2] != fingerprint:
        raise StageError(f"{place}: was replaced while it was used; run it again")
    return index


def listing_digest(files: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over (name, content hash) pairs."""
    digest = hashlib.sha256()
    for name, content in files:
        digest.update(f"{name}\0{content}\n".encode())
    return digest.hexdigest()
