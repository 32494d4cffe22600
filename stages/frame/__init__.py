"""What a stage is and how one runs: record, params, fingerprint, resources, progress."""
