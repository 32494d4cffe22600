"""The on-disk feature store: ragged arrays in Zarr, staged and published atomically."""

from store.artifact import Artifact, elsewhere, open_artifact
from store.encoding import ArrayPlan, Counted
from store.errors import (
    ArtifactDamaged,
    ArtifactMissing,
    SchemaMismatch,
    StagingLocked,
    StoreError,
)
from store.layout import Layout, plan_layout
from store.location import Location
from store.making import create_artifact, finish_artifact
from store.publication import Staging, read_progress, replacing, staging, write_atomically
from store.ragged import Ragged, offsets_of, whole_entries
from store.ranges import EncodedRange, RangeWriter, write_shard
from store.set_rows import SetRows
from store.small import ArrayWriter, write_array
from store.writer import RaggedWriter

__all__ = [
    "ArrayPlan",
    "ArrayWriter",
    "Artifact",
    "ArtifactDamaged",
    "ArtifactMissing",
    "Counted",
    "EncodedRange",
    "Layout",
    "Location",
    "Ragged",
    "RaggedWriter",
    "RangeWriter",
    "SchemaMismatch",
    "SetRows",
    "Staging",
    "StagingLocked",
    "StoreError",
    "create_artifact",
    "elsewhere",
    "finish_artifact",
    "offsets_of",
    "open_artifact",
    "plan_layout",
    "read_progress",
    "replacing",
    "staging",
    "whole_entries",
    "write_array",
    "write_atomically",
    "write_shard",
]
