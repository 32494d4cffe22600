"""Boxes of all masks at once against scipy's components, mask by mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stages.algorithms.mask_boxes import mask_boxes, measure
from stages.algorithms.masks import components, pack_masks


def one_by_one(masks, levels, size):
    """Boxes and scores as `components` finds them: masks bool and levels [h * w, columns]."""
    boxes, scores = [], []
    for column in range(levels.shape[1]):
        found = components(masks[:, column].reshape(size), levels[:, column].reshape(size))
        count = len(found.areas)
        where = np.stack([np.full(count, column), np.arange(count)], axis=1)
        boxes.append(np.hstack([where, found.boxes, found.areas[:, None]]))
        scores.append(found.scores)
    return np.concatenate(boxes), np.concatenate(scores)


@given(
    h=st.integers(1, 24),
    w=st.integers(1, 24),
    columns=st.integers(1, 10),
    share=st.sampled_from([0.0, 0.05, 0.3, 0.45, 0.6, 0.9, 1.0]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 999),
)
@settings(max_examples=150, deadline=None)
def test_equals_components_of_each_mask(h, w, columns, share, dtype, seed):
    rng = np.random.default_rng(seed)
    masks = rng.random((h * w, columns)) < share
    levels = rng.integers(0, np.iinfo(dtype).max + 1, (h * w, columns)).astype(dtype)
    boxes, scores = mask_boxes(pack_masks(masks), levels, (h, w))
    expected = one_by_one(masks, levels, (h, w))
    np.testing.assert_array_equal(boxes, expected[0])
    np.testing.assert_array_equal(scores, expected[1])
    assert boxes.dtype == np.int64 and scores.dtype == np.float32


@pytest.mark.parametrize(
    "picture",
    [
        "#.#.#.#\n.#.#.#.\n#.#.#.#",  # diagonals touch
        "#.....#\n#.###.#\n#.#.#.#\n#.#...#\n#.#####\n#......\n#######",  # a spiral
        "##.##.##\n...#....\n##...###",
        "#.#.#\n#.#.#\n#####",  # three labels that turn out to be one
    ],
)
def test_shapes_whose_parts_meet_late(picture):
    inside = np.array([[c == "#" for c in line] for line in picture.split("\n")])
    size = inside.shape
    masks = np.stack([inside, ~inside, inside[::-1], inside[:, ::-1]], -1).reshape(-1, 4)
    levels = np.arange(masks.size, dtype=np.uint16).reshape(masks.shape)
    boxes, scores = mask_boxes(pack_masks(masks), levels, size)
    expected = one_by_one(masks, levels, size)
    np.testing.assert_array_equal(boxes, expected[0])
    np.testing.assert_array_equal(scores, expected[1])


def test_more_components_than_are_expected_at_first():
    masks = np.zeros((40, 40), bool)
    masks[::2, ::2] = True  # as many as there can be
    boxes, _ = mask_boxes(masks.reshape(-1, 1).astype(np.uint8), masks.reshape(-1, 1) * 9, (40, 40))
    assert len(boxes) == 400 and (boxes[:, 6] == 1).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"\(6, 1\).*\(6, 9\).*\(2, 3\)"):
        mask_boxes(np.zeros((6, 1), np.uint8), np.zeros((6, 9), np.uint8), (2, 3))


@settings(max_examples=50, deadline=None)
@given(arrays(np.bool_, st.tuples(*(st.integers(1, 9),) * 3)))
def test_centroids_are_the_means_of_the_pixels_centres(masks: np.ndarray) -> None:
    h, w, columns = masks.shape
    levels = np.arange(h * w * columns, dtype=np.uint16).reshape(h * w, columns)
    found = measure(pack_masks(masks.reshape(h * w, columns)), levels, (h, w))
    assert found.peaks.tolist() == levels[-1].tolist()
    for column, centroid in enumerate(found.centroids):
        pixels = np.argwhere(masks[..., column])
        if len(pixels):
            np.testing.assert_allclose(centroid, pixels.mean(axis=0) + 0.5)
        else:
            assert np.isnan(centroid).all()
