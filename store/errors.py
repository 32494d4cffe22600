"""What can go wrong with artifacts on disk, each as one line a user can act on."""


class StoreError(Exception):
    """An artifact cannot be read or written; the message says which, why and what to do."""


class ArtifactMissing(StoreError):
    """No complete artifact at that path."""


class SchemaMismatch(StoreError):
    """The artifact was written by another version of the store's layout."""


class ArtifactDamaged(StoreError):
    """Stored bytes fail their checksum, or are gone."""


class StagingLocked(StoreError):
    """Another process is producing the same artifact."""
