"""Names in an export: of files that lie inside its folder, never twice, on any file system."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from urllib.parse import quote

LONGEST = 150  # bytes of one name in a path; file systems allow 255, suffixes included
IMAGE_FOLDERS = ("images", "JPEGImages")
# Never part of a file name; and the percent sign, so that `urllib.parse.unquote` gives names back.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%]|^\.|[. ]\Z')
_NOT_PLAIN = re.compile(r"[^\w.-]|^\.")


def file_name(name: str) -> str:
    """A name as one part of a path: what a file name cannot have is percent-encoded."""
    return _short(_UNSAFE.sub(_encoded, name) or "%")


def flat_names(paths: Iterable[str]) -> list[str]:
    """Paths as names without folders: letters, digits, ``_``, ``-`` and ``.``, and what else there
    is percent-encoded."""
    plain = (_NOT_PLAIN.sub(_encoded, path.replace("/", "__")) or "%" for path in paths)
    return distinct(_short(name) for name in plain)


def distinct(names: Iterable[str]) -> list[str]:
    """The names, numbered where a file system that ignores case would take two for one."""
    found: list[str] = []
    used: set[str] = set()
    for name in names:
        candidate, number = name, 1
        while (key := unicodedata.normalize("NFC", candidate).casefold()) in used:
            number += 1
            candidate = f"{name}~{number}"
        used.add(key)
        found.append(candidate)
    return found


def image_paths(names: Sequence[str]) -> list[str]:
    """Where what belongs to each image lies: its name without suffix, as `dataset: folder` has it.

    A folder ``images`` or ``JPEGImages`` that all of them are in is left out. Images that differ in
    their suffix only keep it.
    """
    parts = [name.split("/") for name in names]
    for folder in IMAGE_FOLDERS:
        if all(len(one) > 1 and one[0] == folder for one in parts):
            parts = [one[1:] for one in parts]
    whole = ["/".join(_inside(part) for part in one) for one in parts]
    stems = [str(PurePosixPath(path).with_suffix("")) for path in whole]
    counts: dict[str, int] = {}
    for stem in stems:
        counts[stem.casefold()] = counts.get(stem.casefold(), 0) + 1
    return distinct(
        stem if counts[stem.casefold()] == 1 else path
        for stem, path in zip(stems, whole, strict=True)
    )


def _inside(part: str) -> str:
    """A part of an image's path: as it is, if it leads nowhere else."""
    return file_name(part) if part in ("", ".", "..") or "\0" in part else _short(part)


def _encoded(match: "re.Match[str]") -> str:
    return quote(match[0], safe="").replace(".", "%2E")


def _short(name: str) -> str:
    """A name that no file system finds too long; what is cut off goes into a digest."""
    content = name.encode()
    if len(content) <= LONGEST:
        return name
    digest = hashlib.sha256(content).hexdigest()[:12]
    return content[: LONGEST - 13].decode(errors="ignore") + "~" + digest
