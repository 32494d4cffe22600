"""Which files below a folder are photographs, and why the others are not.

Nothing is left out in silence. Links are followed; a link back into a folder that it lies in ends
there.
"""

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from stages.datasets.dataset import DatasetError, LeftOut
from stages.images.formats import IMAGE_SUFFIXES, REMEDIES, looks_like_image

# What systems and programs put among photographs, by its name in lower case.
SYSTEM_FOLDERS = frozenset(
    {
        "@eadir",  # Synology: thumbnails
        "@sharebin",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "recycler",
        "recycled",
        "system volume information",
        "found.000",
        "lost+found",
        "lost.dir",
        "__macosx",
        "__pycache__",
        "network trash folder",
        "temporary items",
        "thumbs.db",
    }
)
# Folders that are one thing to their program.
SYSTEM_SUFFIXES = (
    ".lrdata",
    ".lrlibrary",
    ".photoslibrary",
    ".photolibrary",
    ".aplibrary",
    ".migratedphotolibrary",
    ".cocatalog",
    ".dtrash",
)
SYSTEM_FILES = frozenset(
    {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "picasa.ini"}
)
BY_SYSTEM = "made by a system: thumbnails, or what was deleted"
NOT_A_FILE = "not a file: a pipe, socket or device"
NO_IMAGE = "not an image"


@dataclass
class Listing:
    """The files below one folder.

    Attributes
    ----------
    root : Path
        What names are relative to.
    images : list of str
        Names with forward slashes, sorted.
    left_out : list of LeftOut
        Files and folders that are not used, sorted by name.
    """

    root: Path
    images: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def list_images(root: Path, below: Path, apart: Collection[Path] = ()) -> Listing:
    """List the photographs below a folder.

    Parameters
    ----------
    root : Path
        What names are relative to.
    below : Path
        Where to look: `root` or a folder in it.
    apart : collection of Path
        Folders that hold something else (annotations).

    Raises
    ------
    DatasetError
        When a folder cannot be listed, or the name of an image is not UTF-8.
    """
    listing = Listing(root)
    prefix = "" if below == root else f"{below.relative_to(root).as_posix()}/"
    for name, reason in _walk(str(below), prefix, frozenset(map(str, apart)), ()):
        try:
            name.encode()
        except UnicodeEncodeError as error:
            if not reason:
                raise DatasetError(f"{root}: rename {name!a}, it is not UTF-8") from error
            name = name.encode(errors="backslashreplace").decode()
        if reason:
            listing.left_out.append(LeftOut(name, reason))
        else:
            listing.images.append(name)
    listing.images.sort()
    listing.left_out.sort(key=lambda one: one.name)
    return listing


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, sorted by name.

    Raises
    ------
    DatasetError
        When it cannot be listed.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DatasetError(f"{error.filename}: cannot be listed ({error.strerror})") from error


def is_file(path: Path) -> bool:
    """Whether there is a file that can be read to an end: no pipe, socket or device."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _walk(
    folder: str, prefix: str, apart: frozenset[str], above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, str]]:
    """Every file below a folder, by `prefix` and its path from there, and why it is not used; ''
    for an image.

    As text: of a million files, paths as objects took most of the time, and whether an entry is
    a plain file the folder says itself.
    """
    found_in = entries(Path(folder))
    here = Path(folder).stat()
    inside = (*above, (here.st_dev, here.st_ino))
    for entry in found_in:
        if entry.path in apart:
            continue
        name = prefix + entry.name
        try:
            plain = entry.is_file(follow_symlinks=False)
            found = None if plain else Path(entry.path).stat()
        except OSError as error:
            reason = "a link to nothing" if entry.is_symlink() else str(error.strerror)
            yield name, reason
            continue
        mode = stat.S_IFREG if found is None else found.st_mode
        if entry.name.startswith("."):
            if _would_be_missed(entry.name, mode):
                yield name, "hidden: its name begins with a dot"
        elif found is None or not stat.S_ISDIR(mode):
            yield name, _why_not(entry, mode)
        elif is_systems(entry.name):
            yield name, BY_SYSTEM
        elif (found.st_dev, found.st_ino) in inside:
            yield name, "a link to a folder that it lies in"
        else:
            yield from _walk(entry.path, f"{name}/", apart, inside)


def is_systems(folder: str) -> bool:
    """Whether a folder of this name is none of a person's."""
    name = folder.lower()
    return name in SYSTEM_FOLDERS or name.endswith(SYSTEM_SUFFIXES)


def _would_be_missed(name: str, mode: int) -> bool:
    """Whether a hidden entry may be a photograph; ``._x.jpg`` is what macOS says about x.jpg."""
    if name.startswith("._") or not stat.S_ISREG(mode):
        return False
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def suffix_of(name: str) -> str:
    """What `PurePath.suffix` says of a file's name, in lower case."""
    at = name.rfind(".")
    return name[at:].lower() if 0 < at < len(name) - 1 else ""


def _why_not(entry: os.DirEntry[str], mode: int) -> str:
    """Why a file is no photograph; '' for one."""
    if not stat.S_ISREG(mode):
        return NOT_A_FILE
    if entry.name.lower() in SYSTEM_FILES:
        return "made by a system"
    suffix = suffix_of(entry.name)
    if suffix in IMAGE_SUFFIXES:
        return ""
    if entry.name.endswith("~"):
        suffix = ".bak"
    if suffix in REMEDIES:
        return REMEDIES[suffix]
    return "" if _opens(Path(entry.path)) else NO_IMAGE


def _opens(path: Path) -> bool:
    """Whether a file of an unknown suffix, or of none, is an image all the same."""
    # imported here: what only asks for suffixes needs no decoder
    from stages.images.decode import ImageError, read_header

    if not looks_like_image(path):
        return False
    try:
        read_header(path)
    except (OSError, ImageError):
        return False
    return True


def counted(left_out: Collection[LeftOut]) -> str:
    """What was left out, by suffix: ``2 .heic (pip install ...), 3 .txt, 1 without suffix``."""
    groups: dict[tuple[str, str], int] = {}
    for one in left_out:
        suffix = PurePosixPath(one.name).suffix.lower() or PurePosixPath(one.name).name
        if one.reason == NO_IMAGE and not PurePosixPath(one.name).suffix:
            suffix = "without suffix"
        reason = "" if one.reason == NO_IMAGE else f" ({one.reason})"
        groups[suffix, reason] = groups.get((suffix, reason), 0) + 1
    ordered = sorted(groups.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count} {suffix}{reason}" for (suffix, reason), count in ordered[:8]]
    return printable(", ".join([*shown, *(["..."] if len(ordered) > 8 else [])]))


def printable(text: str) -> str:
    """Text for a terminal: a name may have anything in it, line ends too."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
