"""Versions of the artifacts' layout, and which of them are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from store.errors import ArtifactMissing, SchemaMismatch
from store.location import Location

SCHEMA = 3  # of array artifacts
READABLE = (2, SCHEMA)  # 2 has the images' names among its attributes
RECORD_SCHEMA = 1  # of folders of files
# Attribute of an artifact in the making that is not renamed into place: with `--store`.
UNFINISHED = "unfinished"


def check_attrs(location: Location, attrs: Mapping[str, Any]) -> None:
    """Refuse the attributes of an array artifact of another schema, or one that is not finished."""
    if attrs:
        check_schema(str(location), attrs.get("schema"), READABLE)
    if not attrs or attrs.get(UNFINISHED):
        raise ArtifactMissing(f"{location}: unfinished; run the stage that makes it again")


def check_schema(place: str, found: object, readable: Sequence[int]) -> None:
    """Refuse what another version of the layout wrote: `SchemaMismatch`."""
    if found not in readable:
        raise SchemaMismatch(
            f"{place}: written with store schema {found}, this version reads "
            f"{' and '.join(map(str, readable))}; "
            "delete it and run its stage again"
        )
