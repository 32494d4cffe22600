"""Array artifacts in the making: begun, gone on with, finished."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from store.artifact import GROUP, SCHEMA, UNFINISHED
from store.location import PARTIAL, Location
from store.names import ENDS, TEXT, Names
from store.publication import Staging
from store.ragged import Array
from store.reading import read_whole
from store.small import write_array

if TYPE_CHECKING:
    import zarr


def create_artifact(
    place: str | Path | Location,
    *,
    stage: str,
    fingerprint: str,
    layers: Sequence[str],
    images: Sequence[str],
    sets: Mapping[str, Sequence[int] | Array],
    in_place: bool = False,
    owner: Staging | None = None,
    **attrs: Any,
) -> zarr.Group:
    """Start an artifact in a staging folder, or go on with the one a killed run left there.

    One that was begun with other facts, or is gone, is begun anew, and so is its progress.

    Parameters
    ----------
    place : path, URL or Location
        The staging folder.
    in_place : bool
        It is made where it will stay, with no renaming at the end: until `finish_artifact` it is
        marked as unfinished.
    owner : Staging, optional
        Whose progress tells of this artifact.
    stage, fingerprint : str
        Who makes it, and from what.
    layers, images : sequence of str
        Tapped layers; all image names by image id.
    sets : mapping of set name to entries
        Positions in this artifact's ragged arrays.
    **attrs
        Further facts (JSON) that later stages need.
    """
    location = Location.of(place)
    facts = {
        "schema": SCHEMA,
        "stage": stage,
        "fingerprint": fingerprint,
        "layers": list(layers),
        "images": len(images),
        "sets": list(sets),
        **attrs,
        **({UNFINISHED: True} if in_place else {}),
    }
    facts = json.loads(json.dumps(facts))
    names = Names.of(images)
    entries = [np.asarray(members, dtype=np.int64) for members in sets.values()]
    small: dict[str, Array] = {
        TEXT: names.text,
        ENDS: names.ends,
        "sets/offsets": np.cumsum([0, *(len(members) for members in entries)]),
        "sets/entries": np.concatenate([np.empty(0, np.int64), *entries]),
    }
    with location.answering():
        if (begun := _begun(location, small, facts)) is not None:
            return begun
        if owner is not None and owner.progress:
            owner.restart()
        group = location.zarr_group("w")
        for name, values in small.items():
            write_array(group, name, values)
        # The attributes come last, in one write (`attrs.update` makes one of each key): a group
        # that has them was created whole.
        return group.update_attributes(facts)


def _begun(
    location: Location, small: Mapping[str, Array], facts: dict[str, Any]
) -> zarr.Group | None:
    """The artifact that a killed run left, if it is of these facts."""
    if location.path is not None:
        for leftover in location.path.rglob(f"*{PARTIAL}"):  # being written when it was killed
            leftover.unlink()
    if (location / GROUP).size() is not None:
        group = location.zarr_group("r+")
        # attributes that are there were written last: the other parts are there, too
        if dict(group.attrs) == facts and all(
            np.array_equal(read_whole(group, name), values) for name, values in small.items()
        ):
            return group
    return None


def finish_artifact(group: zarr.Group) -> None:
    """Mark an artifact that was made in place as complete."""
    if UNFINISHED not in group.attrs:
        return
    with Location.of_node(group).answering():
        group.attrs.put({k: v for k, v in dict(group.attrs).items() if k != UNFINISHED})
