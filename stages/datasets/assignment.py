"""Which annotation belongs to which image, by their names."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from stages.datasets.dataset import LeftOut

# What tools add to an image's name for its mask: ``a_mask``, ``a-seg``, ``mask_a``.
_WORDS = (
    "masks?|seg|segm|segmentation|segmented|gt|ground_?truth|matte|alpha|labels?|label_?ids?|"
    "annotations?|anno|bin|binary|fg|foreground|trimap"
)
_DECORATION = re.compile(rf"[ _.-]+(?:{_WORDS})$|^(?:{_WORDS})[ _.-]+", re.IGNORECASE)
NO_IMAGE_OF_IT = "belongs to no image"


def nfc(text: str) -> str:
    """Text in the one of Unicode's forms that names are compared in: macOS stores another."""
    return unicodedata.normalize("NFC", text)


def without_suffix(path: str) -> str:
    """A path without the suffix of its last part."""
    return str(PurePosixPath(path).with_suffix(""))


def undecorated(path: str) -> str:
    """A path whose last part has lost what tools add to it for a mask."""
    folders, slash, name = path.rpartition("/")
    return folders + slash + (_DECORATION.sub("", name) or name)


class Names:
    """The images of a collection by their names, as an annotation may have them.

    Parameters
    ----------
    images : mapping of image name to path
        The path is that below the folder of images: where annotations lie in theirs.
    """

    def __init__(self, images: Mapping[str, str]) -> None:
        self._stems: dict[str, list[str]] = {}
        self._whole: dict[str, list[str]] = {}
        self._folded: dict[str, list[str]] = {}
        for name, path in images.items():
            whole, stem = nfc(path), without_suffix(nfc(path))
            self._whole.setdefault(whole, []).append(name)
            self._stems.setdefault(stem, []).append(name)
            for key in {whole.casefold(), stem.casefold()}:
                self._folded.setdefault(key, []).append(name)

    def of(self, path: str) -> list[str]:
        """The images that an annotation belongs to, whose path has no suffix any more.

        The closest name counts: as it is, with the image's suffix (``a.jpg.png``), in other case,
        and then without what tools add.
        """
        path = nfc(path)
        return (
            self._stems.get(path)
            or self._whole.get(path)
            or self._folded.get(path.casefold())
            or self._folded.get(undecorated(path).casefold())
            or []
        )


@dataclass
class Assigned:
    """Annotations of one kind by image.

    Attributes
    ----------
    of_image : dict of image name to paths
    left_out : list of LeftOut
        Those that belong to no image, or nobody knows to which; their names begin with `folder`.
    """

    folder: str
    of_image: dict[str, list[str]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def leave_out(self, path: str, reason: str) -> None:
        """Note that an annotation is not used."""
        self.left_out.append(LeftOut(f"{self.folder}/{path}", reason, "annotation"))

    def one_each(self, key: Callable[[str], str] = lambda path: "") -> None:
        """Use none of an image's annotations where two of them are the same thing by their key."""
        for image, paths in list(self.of_image.items()):
            by_key: dict[str, list[str]] = {}
            for path in paths:
                by_key.setdefault(key(path), []).append(path)
            doubled = [same for same in by_key.values() if len(same) > 1]
            if doubled:
                del self.of_image[image]
            for same in doubled:
                for path in same:
                    others = ", ".join(other for other in same if other != path)
                    self.leave_out(path, f"annotates {image}, as {others} does: keep one of them")


def assign(folder: str, paths: Iterable[str], found: Callable[[str], Sequence[str]]) -> Assigned:
    """Give annotations to images.

    Parameters
    ----------
    folder : str
        Where the paths lie, below the collection's root.
    found : callable
        Gives the images that a path may belong to.
    """
    assigned = Assigned(folder)
    for path in paths:
        images = found(path)
        if len(images) == 1:
            assigned.of_image.setdefault(images[0], []).append(path)
        elif images:
            suffix = PurePosixPath(images[0]).name + PurePosixPath(path).suffix
            several = " or ".join(sorted(images))
            assigned.leave_out(path, f"may belong to {several}: name it like {suffix}")
        else:
            assigned.leave_out(path, NO_IMAGE_OF_IT)
    return assigned
