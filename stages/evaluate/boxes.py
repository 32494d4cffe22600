"""Boxes: the table of all, and the largest ones as VOC's and COCO's tools read them."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.artifacts.concept_maps import SIDES, ConceptMaps
from stages.artifacts.evaluation import BY_SHAPE, Evaluation
from stages.artifacts.image_index import ImageIndex
from stages.datasets import Box
from stages.evaluate.box_scores import FACTOR, BoxMatches
from stages.evaluate.carried import Key
from store import write_atomically
from store.artifact import layer_key

VOC_READERS = ("voc", "pascal_part")
Annotated = tuple[str, int, Box]  # image set, image id, one box of the ground truth


def boxes_on_images(maps: ConceptMaps, index: ImageIndex) -> Iterator[pd.DataFrame]:
    """`ConceptMaps.box_blocks` with sides and areas in pixels of the images instead of the maps.

    ``score`` is the share of the image that a component takes, ``mean`` the map's mean over it:
    boxes ranked by their size have a higher average precision than boxes ranked by anything the
    map says of them (docs/refinement.md).
    """
    for boxes in maps.box_blocks():
        sizes = index.sizes[maps.maps.image_ids[boxes["entry"]]]
        grids = maps.maps.grid_hw[boxes["entry"]]
        scale = sizes / grids  # [boxes, (down, across)]
        sides = boxes[list(SIDES)] * scale[:, [0, 1, 0, 1]]
        share = (boxes["area"] / grids.prod(axis=1)).astype(np.float32)
        area = boxes["area"] * scale.prod(axis=1)
        yield boxes.assign(**sides, area=area, score=share, mean=boxes["score"])


def main_boxes(maps: ConceptMaps, index: ImageIndex) -> NDArray[np.float64]:
    """The box around each mask's largest component, in pixels of the image.

    Returns
    -------
    float64 [entries, columns, 4]
        NaN for an empty mask.
    """
    found = np.full((len(maps.maps), len(maps.columns), 4), np.nan)
    for boxes in boxes_on_images(maps, index):
        largest = boxes[boxes["rank"] == 0]
        found[largest["entry"], largest["column"]] = largest[list(SIDES)]
    return found


def write_boxes(
    folder: Path,
    opened: Mapping[Key, ConceptMaps],
    index: ImageIndex,
    least_area: float,
    foreground: pd.DataFrame,
    matches: BoxMatches | None = None,
    only: int | None = None,
) -> pd.DataFrame:
    """Store the boxes of all masks, in pixels of their images, a block at a time.

    Parameters
    ----------
    least_area : float
        Components of a smaller share of the image are left out, but never a mask's largest.
    foreground : DataFrame
        As `Evaluation.foreground`.
    matches : BoxMatches, optional
        Is given the boxes of all its factors.
    only : int, optional
        Factors of this k alone.

    Returns
    -------
    DataFrame
        The largest boxes of the factors that shape takes for the object.
    """
    chosen = foreground.loc[foreground["rule"] == BY_SHAPE, FACTOR]
    main = [pd.DataFrame(columns=list(Evaluation.boxes.columns))]
    with Evaluation.boxes.growing(folder) as add:
        for (layer, kind), maps in opened.items():
            set_of = np.empty(len(maps.maps), dtype=object)
            for name, entries in maps.sets.items():
                set_of[entries] = name
            for boxes in boxes_on_images(maps, index):
                if only is not None:
                    boxes = boxes[boxes["column"].isin(maps.columns_of(only))]
                kept = boxes[(boxes["rank"] == 0) | (boxes["score"] >= least_area)]
                table = _named(kept, layer, kind, maps, set_of, index)
                add(table)
                if matches is not None:
                    matches.add(table)
                largest = table[table["rank"] == 0].merge(chosen, on=FACTOR)
                if len(largest):
                    main.append(largest)
    return pd.concat(main[1:] or main, ignore_index=True)


def _named(
    boxes: pd.DataFrame,
    layer: str,
    kind: str,
    maps: ConceptMaps,
    set_of: NDArray[np.object_],
    index: ImageIndex,
) -> pd.DataFrame:
    """Boxes with the names of what they are of."""
    columns = np.array(maps.columns).reshape(-1, 3)[boxes["column"]]
    return boxes.assign(
        layer=layer,
        set=set_of[boxes["entry"]],
        image=index.names_of(maps.maps.image_ids[boxes["entry"]]),
        maps=kind,
        **{name: columns[:, i] for i, name in enumerate(("k", "seed", "factor"))},
    )


def write_detections(
    folder: Path,
    largest: pd.DataFrame,
    index: ImageIndex,
    annotated: Sequence[Annotated],
    left_out: Collection[tuple[str, str]],
) -> None:
    """One box per image, that of the factor taken for the object by shape alone.

    Per layer, k, seed and kind of maps a COCO result file, and for collections in VOC's layout one
    VOC result file per class; ``images.json`` is the COCO data set that the results refer to.
    `largest` has these boxes, `left_out` (image set, image) of those that do not count.
    Names of sets go into file names only where they are names of VOC's own files.
    """
    members = zip(largest["set"], largest["image"], strict=True)
    largest = largest[[member not in left_out for member in members]]
    if largest.empty:
        return
    folder.mkdir(exist_ok=True)
    ids = {name: i for i, name in enumerate(index.names, start=1)}
    categories = {name: i for i, name in enumerate(index.sets, start=1)}
    _write_json(folder / "images.json", _coco_dataset(index, categories, annotated))
    for (layer, k, seed, kind), group in largest.groupby(["layer", "k", "seed", "maps"]):
        name = f"{layer_key(str(layer)).removeprefix('layers/')}-k{k}-seed{seed}-{kind}"
        _write_json(folder / f"{name}.coco.json", _coco_results(group, ids, categories))
        if index.reader in VOC_READERS:
            for of_class, found in group.groupby("set"):
                path = folder / name / f"comp3_det_{index.split}_{of_class}.txt"
                path.parent.mkdir(exist_ok=True)
                lines = "".join(_voc_line(row) for row in found.to_dict("records"))
                write_atomically(path, lines.encode())


def _voc_line(row: dict[Any, Any]) -> str:
    """``<image id> <score> <left> <top> <right> <bottom>``, 1-based and inclusive."""
    stem = Path(row["image"]).stem
    sides = row["left"] + 1, row["top"] + 1, row["right"], row["bottom"]
    return f"{stem} {row['score']:.6f} " + " ".join(f"{side:.1f}" for side in sides) + "\n"


def _coco_results(
    boxes: pd.DataFrame, ids: dict[str, int], categories: dict[str, int]
) -> list[dict[str, Any]]:
    return [
        {
            "image_id": ids[row["image"]],
            "category_id": categories[row["set"]],
            "bbox": _coco_box(tuple(float(row[side]) for side in SIDES)),
            "score": round(float(row["score"]), 6),
        }
        for row in boxes.to_dict("records")
    ]


def _coco_box(box: tuple[float, ...]) -> list[float]:
    """(left, top, width, height) of (top, left, bottom, right)."""
    top, left, bottom, right = box
    return [round(value, 2) for value in (left, top, right - left, bottom - top)]


def _coco_dataset(
    index: ImageIndex, categories: dict[str, int], annotated: Sequence[Annotated]
) -> dict[str, Any]:
    """Images, image sets as categories, and the boxes of the ground truth as annotations."""
    images = [
        {"id": i, "file_name": index.names[i - 1], "height": height, "width": width}
        for i, (height, width) in enumerate(index.sizes.tolist(), start=1)
    ]
    annotations = [
        {
            "id": number,
            "image_id": image_id + 1,
            "category_id": categories[of],
            "bbox": _coco_box(box),
            "area": (box[2] - box[0]) * (box[3] - box[1]),
            "iscrowd": 0,
        }
        for number, (of, image_id, box) in enumerate(annotated, start=1)
    ]
    return {
        "images": images,
        "categories": [{"id": i, "name": name} for name, i in categories.items()],
        "annotations": annotations,
    }


def _write_json(path: Path, content: Any) -> None:
    write_atomically(path, json.dumps(content).encode())
