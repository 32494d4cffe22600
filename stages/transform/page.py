"""The page of `dff transform`: photographs beside their heat maps, in the colours of the report."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from stages.artifacts.activations import Activations
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.factors import Factors
from stages.artifacts.image_index import ImageIndex
from stages.artifacts.outline import most_pixels
from stages.drawing.colours import css
from stages.drawing.memory import picture_needs
from stages.drawing.overlays import heat_picture, mask_picture
from stages.drawing.palette import Palette, levels, palettes
from stages.drawing.templates import page_templates
from stages.frame.memory import resources_within
from stages.frame.parallel import ordered_map
from stages.frame.progress import track
from stages.frame.resources import Resources
from stages.frame.stage import Inputs
from stages.images.resize import resize_rgb, target_shape
from stages.naming.names import FactorNames
from stages.transform.params import TransformParams
from stages.transform.stage import REFINED, TRANSFORM
from store import write_atomically

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "index.html"
PICTURES = "pictures"
LONG_SIDE = 480  # pixels of the pictures
QUALITY = 88


def write_page(
    params: TransformParams,
    known: Inputs,
    names: FactorNames,
    out: Path,
    resources: Resources,
) -> Path:
    """Write ``index.html`` and its pictures into the folder the stage ran in; returns the page.

    Parameters
    ----------
    known : Inputs
        The artifacts of the project whose factors the photographs were seen with.
    names : FactorNames
        What these are called.
    """
    factors = Factors.open(known["factorize"])
    rank = list(factors.sets).index(params.set)
    of_set = palettes(factors, ConceptMaps.open(known["heatmaps"])[params.layer], rank)
    palette = of_set[params.k]
    maps = ConceptMaps.open(out / TRANSFORM.writes)[params.layer]
    refined = ConceptMaps.open(out / REFINED)[params.layer]
    index = ImageIndex.open(out / TRANSFORM.reads["index"], out, maps.artifact)
    shutil.rmtree(out / PICTURES, ignore_errors=True)  # of photographs that are no longer there
    (out / PICTURES).mkdir()
    entries = range(len(maps.maps))
    largest = most_pixels(maps.maps.grid_hw.astype(np.int64))
    needs = picture_needs(most_pixels(index.sizes), largest, LONG_SIDE**2, params.k)
    workers = resources_within("transform", needs, resources).workers
    shown = []
    with track("pictures", len(entries), "images") as advance:
        painted = ordered_map(
            partial(_paint, out.absolute(), index, maps, refined, palette),
            entries,
            workers=workers,
            cluster=resources.spread,
            label="transform: pictures",
        )
        for one in painted:
            shown.append(one)
            advance(1)
    page = out / PAGE
    html = (
        page_templates(TEMPLATES)
        .get_template("transform.html.j2")
        .render(
            set=params.set,
            images=sorted(shown, key=lambda one: one["name"]),
            colours=[css(colour) for colour in palette.colours],
            names=names.texts(
                params.layer, params.set, params.k, factors.factorizations.shown_seed
            ),
            several_sizes=bool(Activations.open(out / TRANSFORM.reads["extract"]).several),
            failures=index.failures.to_dict("records"),
        )
    )
    write_atomically(page, html.encode())
    return page


def _paint(
    out: Path,
    index: ImageIndex,
    maps: ConceptMaps,
    refined: ConceptMaps,
    palette: Palette,
    entry: int,
) -> dict[str, object]:
    """One photograph, its concepts and their masks, in three files with numbers for names."""
    image_id = int(maps.maps.image_ids[entry])
    height, width = target_shape(*index.size(image_id), "long_side", LONG_SIDE)
    photo = resize_rgb(index.rgb(image_id), (height, width))
    columns = maps.columns_of(palette.k)
    shares = maps.shares(entry, (height, width))[columns]
    raw = levels(shares, maps.thresholds[0, columns])
    fine = levels(refined.shares(entry, (height, width))[columns], refined.thresholds[0, columns])
    pictures = {
        "photo": Image.fromarray(photo),
        "heat": heat_picture(photo, palette.strength(shares), palette.colours),
        "masks": mask_picture(photo, list(raw), list(fine), palette.colours),
    }
    files = {kind: f"{PICTURES}/{image_id:06d}-{kind}.jpg" for kind in pictures}
    for kind, picture in pictures.items():
        picture.save(out / files[kind], quality=QUALITY)
    return {
        "name": index.names[image_id],
        **files,
        "width": width,
        "height": height,
        "means": [100 * float(mean) for mean in maps.means[entry, columns]],
    }
