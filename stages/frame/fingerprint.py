"""What an artifact depends on, as one digest."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.frame.params import values_of
from stages.frame.stage import P, Stage


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, or why it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"


def digest(*parts: Any) -> str:
    """SHA-256 of JSON-able parts, as hexadecimal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def fingerprint(stage: Stage[P], params: P, inputs: Mapping[str, str], sources: str = "") -> str:
    """What an artifact depends on: stage, version, params, input fingerprints, source files."""
    return digest(stage.name, stage.version, values_of(params), dict(inputs), sources)
