"""`dff refine --preview`: a contact sheet of what params make of a few images."""

import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stages.artifacts.concept_maps import ConceptMaps, entry_sets
from stages.artifacts.factors import Factors
from stages.artifacts.image_index import ImageIndex
from stages.drawing.colours import Colour
from stages.drawing.overlays import heat_picture, mask_picture
from stages.drawing.palette import Palette, palettes
from stages.frame.errors import StageError
from stages.frame.execute import gather_inputs
from stages.frame.memory import resources_within
from stages.frame.parallel import torch_threads_kept
from stages.frame.params import suggestion
from stages.frame.resources import Resources
from stages.images.decode import decode_rgb
from stages.images.resize import resize_rgb, target_shape
from stages.naming.names import read_names
from stages.refine.layer import LayerTasks
from stages.refine.params import RefineParams
from stages.refine.refiners.refiner import libraries_of
from stages.refine.stage import REFINE
from stages.refine.work import refined_by
from store import open_artifact, write_atomically

COLUMNS = ("image", "heat map", "probability", "refined", "mask (dashed: before)")
LONG_SIDE = 256  # pixels of a picture
GAP = 6
LINE = 22
INK: Colour = (40, 40, 40)


@dataclass(frozen=True)
class _Row:
    """One factor on one image; maps are shares ``[h, w]`` of their own size."""

    label: str
    photo: NDArray[np.uint8]
    colour: Colour
    heat: NDArray[np.float32]
    full: float  # heat of full colour; 0: there is none
    probability: NDArray[np.float32]
    refined: NDArray[np.float32]
    before: float  # where the raw mask begins; 0: nowhere
    start: float  # where the refined one begins


def preview(
    project: Path,
    params: RefineParams,
    images: Sequence[str],
    k: int,
    image_set: str,
    factors: Path,
    labels: Path,
    out: Path,
    resources: Resources,
) -> Path:
    """Write a contact sheet of some images under these params; returns its path.

    One row per image and factor of one factorization (first layer, first seed): the image, its heat
    map, the probability that inference starts from, the refined probability, and the masks. Factors
    have the numbers, names and colours that they have in the report. A CPU does it.

    Parameters
    ----------
    images : sequence of str
        Names in the index, ends of such names, or paths.
    k : int
        Number of factors; 0: the largest there is.
    image_set : str
        The set whose factors are shown; empty: each image's first.
    factors : Path
        The artifact of the factors that the heat maps are of.
    labels : Path
        The file of their names.

    Raises
    ------
    StageError, StoreError
        No heat maps yet, or of other factors; no such image, k or set; no place for the picture.
    """
    inputs = gather_inputs(REFINE, project)
    heatmaps = open_artifact(inputs["heatmaps"])
    index = ImageIndex.open(inputs["index"], project, heatmaps)
    maps = ConceptMaps(heatmaps, heatmaps.layers[0])
    ks = sorted(maps.factorizations.ks)
    if k and k not in ks:
        raise StageError(f"--k {k}: not factorized, there are {', '.join(map(str, ks))}")
    k = k or ks[-1]
    set_of = [rank for rank, entries in enumerate(entry_sets(heatmaps)) for _ in entries]
    entries = [_entry(index, maps, image, image_set) for image in images]
    # these columns only; those of k = 1 say which factor has which pixel
    figure = maps.columns_of(1) if params.parts_apart and k > 1 else []
    columns = [*figure, *maps.columns_of(k)]
    tasks = LayerTasks(params.options, index, maps, set_of, columns, apart=params.parts_apart)
    found = Factors.open(factors)
    paint = _paint(found, maps, k, (set_of[entry] for entry in entries))
    names = read_names(labels, found)
    titles = {
        rank: names.texts(maps.layer, name, k, found.factorizations.shown_seed)
        for rank, name in enumerate(maps.sets)
    }
    # one image after the other: it is enough that one fits
    resources_within("refine --preview", tasks.needs(resources, entries), resources)
    with torch_threads_kept(libraries_of(params.options)):
        rows = _rows(params, tasks, entries, k, paint, titles)
    content = io.BytesIO()
    _sheet([_strip(row) for row in rows], _note(params)).save(content, format="PNG")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, content.getvalue())
    except OSError as error:
        raise StageError(f"{out}: cannot be written ({error.strerror})") from error
    return out


def _rows(
    params: RefineParams,
    tasks: LayerTasks,
    entries: Sequence[int],
    asked: int,
    paint: Mapping[int, Palette],
    titles: Mapping[int, Sequence[str]],
) -> list[_Row]:
    """A row per entry and factor of the k that was asked for."""
    read = [tasks.task(entry) for entry in entries]
    refined = [refined_by(tasks.refiner, task) for task in read]
    starts = _mask_starts(params, refined)
    rows = []
    for entry, task, q in zip(entries, read, refined, strict=True):
        if tasks.apart:
            q = _settled(tasks, entry, q)
        image_id, rank = int(tasks.maps.maps.image_ids[entry]), tasks.set_of[entry]
        photo, heat = _photo(tasks.index, image_id), tasks.maps.shares(entry)
        shown = [column for column in tasks.columns if tasks.maps.columns[column][0] == asked]
        for at, column in enumerate(shown):
            place = tasks.columns.index(column)
            k, _, factor = tasks.maps.columns[column]
            called = f"factor {factor}   {titles[rank][factor]}".rstrip()
            rows.append(
                _Row(
                    f"{tasks.index.names[image_id]}   k = {k}   {called}",
                    photo,
                    paint[rank].colours[at],
                    heat[column],
                    float(paint[rank].full[at]),
                    task.probability[place],
                    q[place],
                    float(tasks.maps.thresholds[rank][column]),
                    float(starts[place]),
                )
            )
    return rows


def _settled(tasks: LayerTasks, entry: int, q: NDArray[np.float32]) -> NDArray[np.float32]:
    """Refined probabilities ``[columns, h, w]`` as the stage stores them."""
    from stages.algorithms.heatmap import quantise

    levels = quantise(np.ascontiguousarray(q.reshape(len(q), -1).T), np.uint8)
    found, _ = tasks.settled(entry, levels.astype(np.uint8, copy=False))
    return (found.T.reshape(q.shape) / np.float32(255)).astype(np.float32)


def _mask_starts(
    params: RefineParams, refined: Sequence[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Where refined masks begin, ``[k]``; a percentile is that of these images."""
    k = len(refined[0])
    if params.binarise == "half":
        return np.full(k, 0.5)
    values = np.concatenate([q.reshape(k, -1) for q in refined], axis=1)
    return np.percentile(values, params.percentile, axis=1)


def _paint(factors: Factors, maps: ConceptMaps, k: int, ranks: Iterable[int]) -> dict[int, Palette]:
    """How the report paints the factors of some image sets, by their place among the sets."""
    if factors.factorizations != maps.factorizations:
        raise StageError("heatmaps: made of other factors than there are now; `dff run` makes both")
    return {rank: palettes(factors, maps, rank)[k] for rank in sorted(set(ranks))}


def _entry(index: ImageIndex, maps: ConceptMaps, image: str, image_set: str) -> int:
    """The first (set, image) pair of an image that a person named."""
    names = index.names
    matches = [i for i, name in enumerate(names) if name == image]
    if not matches and Path(image).exists():
        path = Path(image).resolve()
        matches = [i for i, n in enumerate(names) if index.dataset.image_path(n).resolve() == path]
    if not matches:
        matches = [i for i, name in enumerate(names) if f"/{name}".endswith(f"/{image}")]
    if not matches:
        raise StageError(f"{image}: no such image in the index, {suggestion(image, names)}")
    if len(matches) > 1:
        raise StageError(
            f"{image}: several images are called that; there are "
            f"{', '.join(names[i] for i in matches[:3])}"
        )
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


def _strip(row: _Row) -> Image.Image:
    """One row of the sheet."""
    photo, size = row.photo, row.photo.shape[:2]
    heat, p, q = (_at(values, size) for values in (row.heat, row.probability, row.refined))
    raw = heat / row.before if row.before > 0 else np.zeros_like(heat)
    full = row.full if row.full > 0 else 1.0
    refined = q / row.start if row.start > 0 else np.zeros_like(q)
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
    """What the sheet was made with."""
    options = dataclasses.asdict(params.options)
    values = ", ".join(f"{name} {_shown(value)}" for name, value in options.items())
    rule = "q >= 0.5"
    if params.binarise == "percentile":
        rule = f"percentile {params.percentile:g} of these images' q (the stage: of the set's)"
    return f"{params.method}{': ' if values else ''}{values}; masks: {rule}"


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


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
