"""The on-disk feature store: ragged arrays in Zarr, staged and published atomically."""

from store.artifact import Artifact, create_artifact, open_artifact, write_array
from store.errors import (
    ArtifactDamaged,
    ArtifactMissing,
    SchemaMismatch,
    StagingLocked,
    StoreError,
)
from store.layout import Layout, plan_layout
from store.ragged import Ragged, RaggedWriter, SetRows, offsets_of
from store.staging import Staging, read_progress, staging, write_atomically

__all__ = [
    "Artifact",
    "ArtifactDamaged",
    "ArtifactMissing",
    "Layout",
    "Ragged",
    "RaggedWriter",
    "SchemaMismatch",
    "SetRows",
    "Staging",
    "StagingLocked",
    "StoreError",
    "create_artifact",
    "offsets_of",
    "open_artifact",
    "plan_layout",
    "read_progress",
    "staging",
    "write_array",
    "write_atomically",
]
