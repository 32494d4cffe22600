"""VOC's class lists: which images are said to show a class."""

import codecs
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from stages.datasets.assignment import nfc
from stages.datasets.dataset import DatasetError, LeftOut
from stages.datasets.listing import entries, is_file
from stages.images.formats import IMAGE_SUFFIXES

_VALUES = {"-1": -1, "0": 0, "1": 1, "+1": 1}


@dataclass
class ClassLists:
    """The images of a split.

    Attributes
    ----------
    values : dict of image name to {class: 1, 0 or -1}
        0 when only difficult objects are there.
    left_out : list of LeftOut
        Lines that contradict each other, and images that several files may be.
    """

    values: dict[str, dict[str, int]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)


class ImageFiles:
    """The files of a folder of images by the ids that lists have for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[str, str] = {}
        self._stems: dict[str, list[str]] = {}
        for entry in entries(folder):
            path = PurePosixPath(entry.name)
            if not path.name.startswith(".") and path.suffix.lower() in IMAGE_SUFFIXES:
                self._names[nfc(entry.name)] = entry.name
                self._stems.setdefault(nfc(path.stem), []).append(entry.name)

    def of(self, image_id: str) -> list[str]:
        """Names of the files that an id may mean; the one it should have where there is none."""
        key = nfc(image_id)
        usual = self._names.get(f"{key}.jpg")
        if usual:
            return [usual]
        whole = self._names.get(key)  # an id with its suffix
        return [whole] if whole else self._stems.get(key, [f"{image_id}.jpg"])


def read_class_lists(paths: dict[str, Path], files: ImageFiles) -> ClassLists:
    """Read the lists of some classes.

    Raises
    ------
    DatasetError
        When one is not a list of ids and values.
    """
    lists = ClassLists()
    doubtful: dict[str, str] = {}
    for class_name, path in paths.items():
        for image_id, values in _read_list(path).items():
            found = files.of(image_id)
            names = [f"{files.folder.name}/{name}" for name in found]
            if len(names) > 1:
                doubtful[names[0]] = f"{image_id} may be {' or '.join(names)}: keep one of them"
            elif len(values) > 1:
                said = " and ".join(str(value) for value in sorted(values))
                reason = f"{path.name} lists it with {said}: it is left out of {class_name}"
                lists.left_out.append(LeftOut(names[0], reason, "annotation"))
            else:
                lists.values.setdefault(names[0], {})[class_name] = values.pop()
    lists.left_out += [LeftOut(name, reason) for name, reason in doubtful.items()]
    return lists


def class_list_files(folder: Path, split: str) -> dict[str, Path]:
    """Class name -> its list of a split.

    Raises
    ------
    DatasetError
        When there is none, with the splits there are.
    """
    end = f"_{split}.txt".lower()
    found: dict[str, Path] = {}
    splits: set[str] = set()
    for entry in entries(folder):
        name = entry.name
        if name.startswith(".") or not name.lower().endswith(".txt") or not is_file(Path(entry)):
            continue
        if name.lower().endswith(end):
            found[name[: -len(end)]] = Path(entry)
        elif "_" in name:
            splits.add(PurePosixPath(name).stem.rsplit("_", 1)[1])
    if not found:
        held = f"it has {', '.join(sorted(splits))}" if splits else "it has no class lists at all"
        raise DatasetError(f"{folder}: no images of split {split!r}; {held}")
    return found


def _read_list(path: Path) -> dict[str, set[int]]:
    """Image id -> the values it is listed with; an id may have spaces in it."""
    listed: dict[str, set[int]] = {}
    try:
        for number, line in enumerate(_text(path).splitlines(), start=1):
            if not line.strip():
                continue
            image_id, _, value = line.strip().replace("\t", " ").rpartition(" ")
            image_id = image_id.strip()
            if not image_id or "/" in image_id or "\\" in image_id or value not in _VALUES:
                raise ValueError(f"line {number} is {line!r}")
            listed.setdefault(image_id, set()).add(_VALUES[value])
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a list of image ids and 1, 0 or -1 ({error})") from error
    return listed


def _text(path: Path) -> str:
    """A text file's content, in UTF-8 or, as its first bytes say, UTF-16."""
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if wide else "utf-8-sig")
