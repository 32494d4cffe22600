"""The collection that the params of the index name, and the images of it that they ask for."""

import shlex
from pathlib import Path, PurePosixPath

from stages.datasets import READERS, Dataset, DatasetError, FoundImage
from stages.datasets.assignment import nfc
from stages.datasets.lookalikes import masks_among
from stages.frame.params import suggestion, user_path
from stages.index.params import IndexParams


def open_collection(params: IndexParams, project: Path) -> Dataset:
    """The reader that the params ask for, on the folder they name.

    Raises
    ------
    DatasetError
        When the project's artifacts lie in that folder: the report would become photographs.
    """
    path = user_path(params.root, project)
    if project.resolve().is_relative_to(root := path.resolve()):
        raise DatasetError(
            f"{root}: index.root holds this project's own folder; make the project elsewhere, such "
            f"as `dff init {shlex.quote(str(root))} --project {shlex.quote(f'{root}-dff')}`"
        )
    return READERS[params.dataset].open(path, params.options)


def chosen_images(params: IndexParams, dataset: Dataset) -> list[FoundImage]:
    """The images of the sets that the params ask for.

    Raises
    ------
    DatasetError
        When the collection has no such set, or masks among its photographs and nobody chose sets.
    """
    images = list(dataset.images())
    if not params.sets:
        _refuse_masks(params, dataset, images)
        return images
    known = sorted({name for image in images for name in image.sets})
    by_name = {nfc(name): name for name in known}
    for name in params.sets:
        if nfc(name) not in by_name:
            raise DatasetError(
                f"{dataset.root}: no image set {name!r} (index.sets); {suggestion(name, known)}"
            )
    wanted = {by_name[nfc(name)] for name in params.sets}
    kept = [(image.name, tuple(s for s in image.sets if s in wanted)) for image in images]
    return [FoundImage(name, sets) for name, sets in kept if sets]


def _refuse_masks(params: IndexParams, dataset: Dataset, images: list[FoundImage]) -> None:
    if not hasattr(params.options, "masks"):
        return
    found = masks_among(dataset.root, [image.name for image in images])
    if found is None:
        return
    mask, photograph = found
    first = PurePosixPath(mask).parts[0]
    if len(PurePosixPath(mask).parts) == 1 or first == PurePosixPath(photograph).parts[0]:
        what = f"move such masks into the folder {params.options.masks or 'masks'}/"
    else:
        what = f"set index.{params.dataset}.masks: {first}"
    raise DatasetError(
        f"{dataset.root}: {mask} looks like the mask of {photograph}, not like a photograph: "
        f"{what}, or list the image sets in index.sets if they are photographs"
    )
