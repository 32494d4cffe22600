"""Masks for the page to explore: of concepts, of annotated objects, and how well they agree."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.algorithms.masks import resize_masks, unpack_masks
from stages.artifacts.concept_maps import SIDES, ConceptMaps
from stages.artifacts.image_index import ImageIndex
from stages.datasets import DatasetError
from stages.report.packed import base64_of, run_lengths

Mask = NDArray[np.bool_]
UNKNOWN = 65535  # instead of an agreement, where nothing is annotated


def masks_within(maps: ConceptMaps, entry: int, most: tuple[int, int]) -> NDArray[np.uint8]:
    """An entry's masks as bits ``[h, w, bytes]``: at their own size, or a smaller thumbnail's."""
    bits = maps.bits.map(entry)
    return resize_masks(bits, most) if max(bits.shape[:2]) > max(most) else bits


def largest_boxes(maps: ConceptMaps) -> NDArray[np.uint16]:
    """The box around each mask's largest component.

    Returns
    -------
    uint16 [entries, columns, 4]
        Top, left, bottom, right as ``round(65535 share)`` of the height and width; zeros for an
        empty mask.
    """
    found = np.zeros((len(maps.maps), len(maps.columns), 4), np.uint16)
    for boxes in maps.box_blocks():
        boxes = boxes[boxes["rank"] == 0]
        entries, columns = (boxes[name].to_numpy() for name in ("entry", "column"))
        shares = boxes[list(SIDES)].to_numpy() / maps.maps.grid_hw[entries][:, [0, 1, 0, 1]]
        found[entries, columns] = np.rint(65535 * shares)
    return found


def masks_payload(
    at: Sequence[int], sizes: Sequence[tuple[int, ...]], masks: Sequence[Sequence[bytes]]
) -> dict[str, Any]:
    """Masks of some images, `run_lengths` of each one after the other."""
    joined = b"".join(one for of_image in masks for one in of_image)
    return {
        "at": list(at),
        "sizes": [list(size) for size in sizes],
        "lengths": [[len(one) for one in of_image] for of_image in masks],
        "runs": base64_of(np.frombuffer(joined, np.uint8)),
    }


def truth_payload(at: Sequence[int], truths: Sequence[Mask | None]) -> dict[str, Any]:
    """Annotated objects of some images, of those that have one."""
    having = [(i, mask) for i, mask in zip(at, truths, strict=True) if mask is not None]
    return masks_payload(
        [i for i, _ in having],
        [mask.shape for _, mask in having],
        [[run_lengths(mask)] for _, mask in having],
    )


def annotated_object(
    index: ImageIndex, image_id: int, image_set: str, size: tuple[int, int]
) -> Mask | None:
    """What is annotated on an image, at a size: the object, or all parts together; None without."""
    if not str(index.images["annotation_sha256"].iloc[image_id]):
        return None
    try:
        truth = index.dataset.ground_truth(index.names[image_id], image_set)
    except DatasetError:
        return None  # the page lists it among what could not be read
    whole = truth.whole
    if whole is None:
        if not truth.parts:
            return None
        whole = np.logical_or.reduce(list(truth.parts.values()))
    return _resized(whole, size)


def agreement(bits: NDArray[np.uint8], columns: int, truth: Mask | None) -> NDArray[np.uint16]:
    """IoU of each of an image's masks ``[h, w, bytes]`` with what is annotated.

    Returns
    -------
    uint16 [columns]
        ``round(65534 IoU)``, at the masks' size; `UNKNOWN` without annotation. Two empty
        masks agree.
    """
    if truth is None:
        return np.full(columns, UNKNOWN, np.uint16)
    masks = unpack_masks(bits, columns)
    whole = _resized(truth, masks.shape[:2])[:, :, None]
    common, either = ((op(masks, whole)).sum((0, 1)) for op in (np.logical_and, np.logical_or))
    iou = np.divide(common, either, out=np.ones(len(common)), where=either > 0)
    return np.rint(iou * (UNKNOWN - 1)).astype(np.uint16)


def _resized(mask: Mask, size: tuple[int, ...]) -> Mask:
    if mask.shape == tuple(size):
        return mask
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BOX)) >= 128
