"""`dff refine --preview`: what the current params make of a few images, without the stage."""

import difflib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stages.artifacts.concept_maps import ConceptMaps, entry_sets, workers_within
from stages.artifacts.image_index import ImageIndex
from stages.drawing.colours import Colour, colour
from stages.drawing.overlays import heat_picture, mask_picture
from stages.frame.errors import StageError
from stages.frame.execute import gather_inputs
from stages.frame.parallel import torch_threads_kept
from stages.frame.resources import Resources
from stages.images.decode import decode_rgb
from stages.images.resize import resize_rgb, target_shape
from stages.refine.params import RefineParams
from stages.refine.stage import REFINE, VALUE_BYTES, Refiner
from store import open_artifact, write_atomically

COLUMNS = ("image", "heat map", "probability", "refined", "mask (dashed: before)")
LONG_SIDE = 256  # pixels of a picture
FULL = 3.0  # times where masks begin: heat of full colour
GAP = 6
LINE = 22
INK: Colour = (40, 40, 40)


@dataclass(frozen=True)
class _Row:
    """One factor on one image; maps are shares ``[h, w]`` of their own size."""

    label: str
    colour: Colour
    heat: NDArray[np.float32]
    probability: NDArray[np.float32]
    refined: NDArray[np.float32]
    before: float  # where the raw mask begins; 0: nowhere


def preview(
    project: Path,
    params: RefineParams,
    images: Sequence[str],
    k: int,
    image_set: str,
    out: Path,
    resources: Resources,
) -> Path:
    """Write a contact sheet of some images under these params; returns its path.

    One row per image and factor of one factorization (first layer, first seed): the image, its heat
    map, the probability that inference starts from, the refined probability, and the masks.

    Parameters
    ----------
    images : sequence of str
        Names in the index, ends of such names, or paths.
    k : int
        Number of factors; 0: the largest there is.
    image_set : str
        The set whose factors are shown; empty: each image's first.

    Raises
    ------
    StageError, StoreError
        No heat maps yet, no such image, k or set.
    """
    inputs = gather_inputs(REFINE, project)
    heatmaps = open_artifact(inputs["heatmaps"])
    index = ImageIndex.open(inputs["index"], project, heatmaps)
    maps = ConceptMaps(heatmaps, heatmaps.layers[0])
    ks = sorted({column[0] for column in maps.columns})
    if k and k not in ks:
        raise StageError(f"--k {k}: not factorized, there are {', '.join(map(str, ks))}")
    k = k or ks[-1]
    columns = maps.columns_of(k, next(seed for of, seed, _ in maps.columns if of == k))
    sets = entry_sets(heatmaps)
    set_of = [rank for rank, entries in enumerate(sets) for _ in entries]
    entries = [_entry(index, maps, image, image_set) for image in images]
    # these columns only, and one image after the other
    refiner = Refiner(params, index, maps, set_of, columns)
    sizes = [(int(h), int(w)) for h, w in maps.maps.grid_hw[entries]]
    needed = refiner.bytes_per_image(entries)
    workers_within(resources, sizes, maps.maps.channels, VALUE_BYTES, needed)
    device = resources.torch_device()
    with torch_threads_kept():
        tasks = [refiner.task(entry) for entry in entries]
        refined = [refiner.of_task(task, device) for task in tasks]
    if params.binarise == "half":
        starts = np.full(k, 0.5)
    else:  # the stage takes that of the whole set
        values = np.concatenate([q.reshape(k, -1) for q in refined], axis=1)
        starts = np.percentile(values, params.percentile, axis=1)
    strips: list[Image.Image] = []
    for entry, task, q in zip(entries, tasks, refined, strict=True):
        photo = _photo(index, int(maps.maps.image_ids[entry]))
        shares = maps.shares(entry)
        before = maps.thresholds[set_of[entry]]
        name = index.names[int(maps.maps.image_ids[entry])]
        for factor, column in enumerate(columns):
            row = _Row(
                f"{name}   factor {factor + 1} of {k}",
                colour(factor),
                shares[column],
                task.probability[factor],
                q[factor],
                float(before[column]),
            )
            strips.append(_strip(photo, row, float(starts[factor])))
    sheet = _sheet(strips, note=_note(params))
    content = io.BytesIO()
    sheet.save(content, format="PNG")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, content.getvalue())
    except OSError as error:
        raise StageError(f"{out}: cannot be written ({error.strerror})") from error
    return out


def _entry(index: ImageIndex, maps: ConceptMaps, image: str, image_set: str) -> int:
    """The first (set, image) pair of an image that a person named."""
    names = index.names
    matches = [i for i, name in enumerate(names) if name == image]
    if not matches and Path(image).exists():
        path = Path(image).resolve()
        matches = [i for i, n in enumerate(names) if index.dataset.image_path(n).resolve() == path]
    if not matches:
        matches = [i for i, name in enumerate(names) if f"/{name}".endswith(f"/{image}")]
    if len(matches) != 1:
        near = difflib.get_close_matches(image, names, n=3, cutoff=0.3) or names[:3]
        shown = ", ".join([names[i] for i in matches[:3]] or near)
        what = "several images are called that" if matches else "no such image in the index"
        raise StageError(f"{image}: {what}; there are {shown}")
    sets = maps.artifact.sets
    if image_set and image_set not in sets:
        raise StageError(f"--set {image_set!r}: no such image set, there are {', '.join(sets)}")
    for name, entries in sets.items():
        for entry in entries:
            if int(maps.maps.image_ids[entry]) == matches[0] and image_set in ("", name):
                return int(entry)
    raise StageError(f"{image}: is not in image set {image_set!r}")


def _photo(index: ImageIndex, image_id: int) -> NDArray[np.uint8]:
    size = target_shape(*index.size(image_id), "long_side", LONG_SIDE)
    return resize_rgb(decode_rgb(index.read(image_id)), size)


def _strip(photo: NDArray[np.uint8], row: _Row, start: float) -> Image.Image:
    """One row of the sheet."""
    size = photo.shape[:2]
    heat, p, q = (_at(values, size) for values in (row.heat, row.probability, row.refined))
    raw = heat / row.before if row.before > 0 else np.zeros_like(heat)
    full = FULL * row.before if row.before > 0 else 1.0
    refined = q / start if start > 0 else np.zeros_like(q)
    pictures = [
        Image.fromarray(photo),
        heat_picture(photo, np.minimum(heat / full, 1)[None], [row.colour]),
        _grey(p),
        _grey(q),
        mask_picture(photo, [raw], [refined], [row.colour]),
    ]
    h, w = size
    strip = Image.new("RGB", (len(pictures) * (LONG_SIDE + GAP) + GAP, h + LINE + GAP), "white")
    pen = ImageDraw.Draw(strip)
    pen.text((GAP, 3), row.label, fill=INK, font=ImageFont.load_default(13))
    for at, picture in enumerate(pictures):
        strip.paste(picture, (GAP + at * (LONG_SIDE + GAP) + (LONG_SIDE - w) // 2, LINE))
    return strip


def _at(values: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    image = Image.fromarray(values).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32)


def _grey(shares: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.rint(255 * shares.clip(0, 1)).astype(np.uint8)).convert("RGB")


def _note(params: RefineParams) -> str:
    if params.method == "none":
        return "method: none"
    if params.method == "densecrf":
        names = ["iterations", "gaussian_sxy", "gaussian_compat"]
        names += ["bilateral_sxy", "bilateral_srgb", "bilateral_compat"]
    else:
        names = ["iterations", "radius", "eps", "weight"]
        names += ["colour_weight", "colour_sigma", "colour_reach", "working_side"]
    values = ", ".join(f"{name} {getattr(params, name):g}" for name in names)
    rule = "q >= 0.5"
    if params.binarise == "percentile":
        rule = f"percentile {params.percentile:g} of these images' q (the stage: of the set's)"
    return f"{params.method}: {values}; masks: {rule}"


def _sheet(strips: Sequence[Image.Image], note: str) -> Image.Image:
    head = 2 * LINE + GAP
    sheet = Image.new("RGB", (strips[0].width, head + sum(s.height for s in strips)), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, 4), note, fill=INK, font=ImageFont.load_default(13))
    for at, name in enumerate(COLUMNS):
        where = GAP + at * (LONG_SIDE + GAP), LINE + 4
        pen.text(where, name, fill=INK, font=ImageFont.load_default(15))
    top = head
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet
