"""Photographs in an export: linked or copied, and always as a person sees them."""

import os
import shutil
from pathlib import Path
from typing import Literal, get_args

from PIL import ExifTags, Image

from stages.frame.errors import StageError
from stages.images.decode import ImageError, decode_rgb

Images = Literal["link", "copy", "none"]
QUALITY = 95


def check_images(how: str) -> None:
    """Refuse what is not a way to take photographs along.

    Raises
    ------
    StageError
    """
    if how not in get_args(Images):
        raise StageError(f"--images {how}: choose {', '.join(get_args(Images))}")


def place(file: Path, target: Path, how: str) -> None:
    """Put a photograph at `target`.

    One that is stored turned (EXIF orientation) is written anew, upright: not every program turns
    it, and masks are of the upright one.

    Raises
    ------
    StageError
        When the photograph cannot be read.
    """
    if how == "none":
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if _turned(file):
            upright = Image.fromarray(decode_rgb(file.read_bytes()))
            upright.save(target, format="JPEG", quality=QUALITY)
        elif how == "link":
            target.unlink(missing_ok=True)  # of a worker that was lost
            target.symlink_to(os.path.realpath(file))
        else:
            shutil.copyfile(file, target)
    except ImageError as error:
        raise StageError(f"{file}: cannot be read any more ({error})") from error


def _turned(file: Path) -> bool:
    try:
        with Image.open(file) as image:
            return bool(image.getexif().get(ExifTags.Base.Orientation, 1) != 1)
    except OSError as error:
        raise StageError(f"{file}: cannot be read any more ({error.strerror or error})") from error
    except Exception:  # damaged EXIF data: nothing turns it
        return False
