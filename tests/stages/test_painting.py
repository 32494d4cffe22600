"""Outlines and their lines, against scikit-image and by hand."""

import numpy as np
import pytest
from skimage.measure import find_contours

from stages.algorithms.masks import pack_masks
from stages.drawing.painting import ink, outlines, stroke
from stages.report.packed import run_lengths, runs_of_masks


@pytest.mark.parametrize("shape", [(40, 60), (1, 9), (7, 1)])
def test_outlines_are_those_of_scikit_image(shape: tuple[int, int]) -> None:
    level = np.random.default_rng(0).random(shape).astype(np.float32) * 2
    points, ends = outlines(level)
    found = sorted(
        sorted(map(tuple, np.round(line[:-1], 4))) for line in np.split(points, ends[:-1])
    )
    expected = sorted(
        sorted(map(tuple, np.round(line[:-1, ::-1] - 0.5, 4)))
        for line in find_contours(np.pad(level, 1), 1.0)
    )
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)
    starts = [0, *ends[:-1]]
    assert all((points[a] == points[b - 1]).all() for a, b in zip(starts, ends, strict=True))


def test_a_line_covers_its_width_and_dashes_half_of_it() -> None:
    level = np.zeros((60, 80), np.float32)
    level[:, :40] = 2  # along the picture's edges, and down the middle at x = 40
    cover = np.zeros(level.shape, np.float32)
    stroke(level, 1.5, 0.0, 4, cover)
    np.testing.assert_allclose(cover[20:40, 35:45].sum(axis=1), 1.5, atol=0.01)
    assert not cover[5:55, 44:].any()
    dashed = np.zeros_like(cover)
    stroke(level, 1.5, 5.0, 4, dashed)
    share = dashed[5:55, 35:45].sum() / cover[5:55, 35:45].sum()
    assert 0.45 < share < 0.75  # round ends reach into the gaps
    stroke(level, 1.5, 0.0, 10_000, speck := np.zeros_like(cover))
    assert not speck.any()


def test_ink_is_mixed_by_the_cover_and_clears_it() -> None:
    picture, cover = np.zeros((1, 2, 3), np.uint8), np.array([[0.5, 0]], np.float32)
    ink(picture, cover, np.array([200, 100, 0], np.float32))
    assert picture.tolist() == [[[100, 50, 0], [0, 0, 0]]]
    assert not cover.any()


@pytest.mark.parametrize("columns", [1, 8, 13])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_runs_of_masks_are_those_of_each(columns: int, share: float) -> None:
    masks = np.random.default_rng(1).random((40, 50, columns)) < share
    expected = [run_lengths(masks[:, :, at]) for at in range(columns)]
    assert runs_of_masks(pack_masks(masks), columns) == expected
