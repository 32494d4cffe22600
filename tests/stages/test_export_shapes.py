"""Regions, outlines and names of exports."""

import re
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pycocotools import mask as coco
from scipy import ndimage
from skimage.draw import polygon2mask

from stages.export.names import LONGEST, distinct, file_name, flat_names, image_paths
from stages.export.outlines import outline
from stages.export.regions import components, packed_runs, run_lengths, whole

# of pycocotools, which was made for an older numpy
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SMALLEST = 60  # pixels of a region from which an outline must be faithful


def blobs(seed: int) -> np.ndarray:
    """A mask of random blobs of many sizes; some touch the edges, some have holes."""
    rng = np.random.default_rng(seed)
    size = tuple(int(n) for n in rng.integers(30, 200, 2))
    field = ndimage.gaussian_filter(rng.normal(size=size), rng.uniform(0.7, 8))
    return np.asarray(field > np.quantile(field, rng.uniform(0.4, 0.95)))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("seed", range(8))
def test_components_are_the_mask_in_pieces(seed: int) -> None:
    mask = blobs(seed)
    found = components(mask, 0)
    again = np.zeros_like(mask)
    for one in found:
        assert one.area == one.mask.sum() and not again[one.window][one.mask].any()
        again[one.window] |= one.mask
    np.testing.assert_array_equal(again, mask)
    assert len(found) == ndimage.label(mask, np.ones((3, 3)))[1]
    assert [one.area for one in found] == sorted((one.area for one in found), reverse=True)
    large = components(mask, 50)
    assert [one.area for one in large] == [one.area for one in found if one.area >= 50] or (
        len(large) == 1 and large[0].area == found[0].area
    )


def test_nothing_has_no_regions() -> None:
    nothing = np.zeros((5, 7), bool)
    assert whole(nothing) is None and components(nothing, 0) == []


@pytest.mark.parametrize("seed", range(8))
def test_run_lengths_are_pycocotools_own(seed: int) -> None:
    mask = blobs(seed)
    for one in [whole(mask), *components(mask, 0)]:
        alone = np.zeros_like(mask)
        alone[one.window] = one.mask
        expected = coco.encode(np.asfortranarray(alone.astype(np.uint8)))["counts"].decode()
        assert packed_runs(run_lengths(one, mask.shape)) == expected
    everything = whole(np.ones((6, 4), bool))
    assert packed_runs(run_lengths(everything, (6, 4))) == (
        coco.encode(np.asfortranarray(np.ones((6, 4), np.uint8)))["counts"].decode()
    )


@pytest.mark.parametrize("seed", range(8))
def test_outlines_are_faithful_to_all_but_holes(seed: int) -> None:
    """By the rasterisers of COCO, of scikit-image (`dataset: folder`) and Pillow (labelme)."""
    mask = blobs(seed)
    compared = 0
    for one in components(mask, SMALLEST):
        if one.area < SMALLEST:
            continue
        filled = np.zeros_like(mask)
        filled[one.window] = ndimage.binary_fill_holes(one.mask)
        through = outline(one, through_pixels=True)
        between = outline(one, through_pixels=False)
        assert through is not None and between is not None
        canvas = Image.new("1", mask.shape[::-1])
        ImageDraw.Draw(canvas).polygon([tuple(p) for p in through.tolist()], outline=1, fill=1)
        assert iou(np.array(canvas), filled) >= 0.95
        assert iou(polygon2mask(mask.shape, through[:, ::-1]), filled) >= 0.95
        coded = coco.frPyObjects([between.ravel().tolist()], *mask.shape)
        assert iou(coco.decode(coded)[..., 0].astype(bool), filled) >= 0.95
        edge = one.box[3], one.box[2]
        assert between.min() >= 0 and (between.max(axis=0) <= edge).all()
        compared += 1
    assert compared


def test_an_outline_goes_around_what_touches_at_a_corner() -> None:
    (one,) = components(np.eye(3, dtype=bool), 0)
    points = outline(one, through_pixels=False)
    assert points is not None and points.min() == 0 and points.max() == 3
    (line,) = components(np.ones((1, 5), bool), 0)
    assert outline(line, through_pixels=True) is None  # its centres lie on a line
    assert outline(line, through_pixels=False) is not None


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_name_is_a_file_name_inside_its_folder(name: str) -> None:
    name = name.encode(errors="replace").decode()
    safe = file_name(name)
    assert safe not in ("", ".", "..") and not set(safe) & set('/\\\0:*?"<>|\n')
    assert len(safe.encode()) <= LONGEST
    if "~" not in safe and name:
        assert unquote(safe) == name
    (flat,) = flat_names([name])
    assert re.fullmatch(r"[\w.%~-]+", flat) and flat[0] != "."


def test_names_that_a_file_system_takes_for_one_are_numbered() -> None:
    assert distinct(["Head", "head", "HEAD", "leg"]) == ["Head", "head~2", "HEAD~3", "leg"]


def test_paths_of_images() -> None:
    assert image_paths(["images/a/1.jpg", "images/b/1.jpg"]) == ["a/1", "b/1"]
    assert image_paths(["a/1.jpg", "a/1.png", "a/2.png"]) == ["a/1.jpg", "a/1.png", "a/2"]
    assert image_paths(["images/1.jpg", "others/1.jpg"]) == ["images/1", "others/1"]
    (hostile,) = image_paths(["../../etc/passwd.jpg"])
    assert ".." not in hostile.split("/")
    assert image_paths(["x" * 250 + ".png"])[0].startswith("x" * 100)
    assert len(image_paths(["x" * 250 + ".png"])[0]) <= LONGEST
