"""How many photographs there are and how large, before the index is made: from their headers."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from stages.artifacts.image_index import ImageIndex
from stages.artifacts.outline import Outline
from stages.datasets import READERS, Dataset, FoundImage
from stages.frame.memory import Needs, resident
from stages.frame.parallel import ordered_map
from stages.frame.resources import Resources
from stages.frame.stage import Inputs
from stages.images.decode import ImageError, read_header, verify_bytes
from stages.index.collection import chosen_images, open_collection
from stages.index.params import IndexParams

# What the process takes besides images while it runs: threads, tables.
SPARE_BYTES = 32 * 2**20


def foretell(
    params: IndexParams, outline: Outline, inputs: Inputs, resources: Resources
) -> tuple[Outline, Needs]:
    """See `stages.frame.stage.Stage.foretell`; nothing is known of what is still to be drawn."""
    if "index" in inputs.paths:
        after = _of_index(ImageIndex.open(inputs["index"], inputs.project))
        return after, Needs({"libraries": resident()}, images=after.images, reads=after.file_bytes)
    if READERS[params.dataset].draw:
        return outline, Needs({"libraries": resident()})
    dataset = open_collection(params, inputs.project)
    found = chosen_images(params, dataset)
    looked = ordered_map(partial(_header, dataset), found, workers=8)
    headers = [(image, *header) for image, header in zip(found, looked, strict=True) if header]
    members: dict[str, list[int]] = {}
    for number, (image, *_) in enumerate(headers):
        for name in image.sets:
            members.setdefault(name, []).append(number)
    after = replace(
        outline,
        sizes=np.array([size for _, size, *_ in headers], np.int64).reshape(-1, 2),
        file_bytes=sum(size for *_, size, _ in headers),
        sets={name: np.array(members[name], np.int64) for name in sorted(members)},
    )
    largest = max((needed for *_, needed in headers), default=0)
    return after, Needs(
        {"libraries": resident() + SPARE_BYTES, "checking the largest photograph": largest},
        images=after.images,
        reads=after.file_bytes,
        remedy="make the largest photographs smaller",
    )


def _of_index(index: ImageIndex) -> Outline:
    return Outline(
        sizes=index.sizes,
        file_bytes=int(index.images["bytes"].sum()),
        sets={name: np.array(ids, np.int64) for name, ids in index.sets.items()},
    )


def _header(dataset: Dataset, image: FoundImage) -> tuple[tuple[int, int], int, int] | None:
    """An image's size in pixels and in bytes, and what checking it takes; None if it is damaged."""
    path: Path = dataset.image_path(image.name)
    try:
        size = path.stat().st_size
        return read_header(path), size, size + verify_bytes(path)
    except (OSError, ImageError):
        return None
