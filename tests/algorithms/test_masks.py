"""Percentiles against numpy, components against scikit-image and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label, regionprops

from stages.algorithms.masks import ValueHistogram, binarise, largest_component_box

values_lists = st.lists(st.integers(0, 65535), min_size=1, max_size=40)


@given(values=values_lists, q=st.floats(0, 100))
@settings(max_examples=150, deadline=None)
def test_percentile_equals_numpy_exactly(values, q):
    column = np.array(values, dtype=np.uint16)
    histogram = ValueHistogram(2)
    histogram.add(np.stack([column, 65535 - column], axis=1))
    expected = [np.percentile(column, q), np.percentile(65535 - column, q)]
    assert histogram.percentile(q).tolist() == expected


@pytest.mark.parametrize("q", [0, 25, 50, 75, 99, 99.9, 100])
def test_percentile_of_many_sparse_values_equals_numpy(q):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 65536, (100_003, 3)).astype(np.uint16)
    values[rng.random(values.shape) < 0.72] = 0
    histogram = ValueHistogram(3)
    for block in np.array_split(values, 7):
        histogram.add(block)
    np.testing.assert_array_equal(histogram.percentile(q), np.percentile(values, q, axis=0))


def test_percentile_by_hand():
    # Sorted 0 10 20 40: rank 0.75 * 3 = 2.25, a quarter of the way from 20 to 40.
    histogram = ValueHistogram(1)
    histogram.add(np.array([[40], [0], [20], [10]], dtype=np.uint16))
    assert histogram.percentile(75).tolist() == [25.0]


@given(first=values_lists, second=values_lists)
@settings(max_examples=30, deadline=None)
def test_merging_equals_adding_in_any_order(first, second):
    a, b = (np.array(v, dtype=np.uint16)[:, None] for v in (first, second))
    whole, left, right = ValueHistogram(1), ValueHistogram(1), ValueHistogram(1)
    whole.add(np.concatenate([b, a]))
    left.add(a)
    right.add(b)
    left.merge(right)
    np.testing.assert_array_equal(left.counts, whole.counts)


def test_resumes_from_its_counts():
    values = np.arange(10, dtype=np.uint16)[:, None]
    first = ValueHistogram(1)
    first.add(values[:4])
    resumed = ValueHistogram(1, first.counts)
    resumed.add(values[4:])
    assert resumed.percentile(50).tolist() == [4.5]
    assert first.counts.sum() == 4  # the state was copied
    assert resumed.counts.dtype == np.int64 and resumed.counts.shape == (1, 65536)


def test_binarise_by_hand():
    values = np.array([[0, 5, 6], [0, 5, 6], [0, 5, 6]], dtype=np.uint16)
    masks = binarise(values, [5.0, 5.25, 0.0])
    assert masks.tolist() == [[False, True, True], [False, False, True], [False, False, False]]
    assert binarise(values, 0.25)[0].tolist() == [False, True, True]
    assert not binarise(values, -1.0).any()
    np.testing.assert_array_equal(binarise(values.T, [5.0, 5.25, 0.0], axis=1), masks.T)


def test_a_factor_mostly_absent_gets_an_empty_mask():
    # Four in five entries are 0, so the 75th percentile is 0 and ">= 0" would hold everywhere.
    values = np.array([[0], [0], [0], [0], [900]], dtype=np.uint16)
    histogram = ValueHistogram(1)
    histogram.add(values)
    assert not binarise(values, histogram.percentile(75), axis=1).any()


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (["...", "..."], None),
        (["#"], (0, 0, 1, 1)),
        (["##.", "##.", "..."], (0, 0, 2, 2)),
        (["#..", ".#.", "..#"], (0, 0, 3, 3)),  # diagonal neighbours are connected
        (["#..##", "#..##", "....."], (0, 3, 2, 5)),  # 2 pixels against 4
        ([".#.#", ".#.#"], (0, 1, 2, 2)),  # a tie: the first pixel in reading order
        (["...#", "##..", "...#"], (1, 0, 2, 2)),
        (["..##", "#...", "#..."], (0, 2, 1, 4)),  # a tie: the first row decides, not the column
        (["#.#.#", "#.###", "#...."], (0, 2, 2, 5)),  # 3 pixels against 5, joined from below
        (["#.#", "###", "...", "###", "##."], (0, 0, 2, 3)),  # a tie of 5 and 5
    ],
)
def test_largest_component_box_by_hand(picture, expected):
    mask = np.array([[cell == "#" for cell in row] for row in picture])
    assert largest_component_box(mask) == expected


@given(
    h=st.integers(1, 12), w=st.integers(1, 12), fill=st.floats(0.1, 0.7), seed=st.integers(0, 999)
)
@settings(max_examples=100, deadline=None)
def test_largest_component_box_equals_skimage(h, w, fill, seed):
    mask = np.random.default_rng(seed).random((h, w)) < fill
    regions = regionprops(label(mask, connectivity=2))
    box = largest_component_box(mask)
    if not regions:
        assert box is None
        return
    largest = max(region.area for region in regions)
    tied = [region for region in regions if region.area == largest]
    first = min(tied, key=lambda region: tuple(region.coords[0]))
    assert box == first.bbox


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ValueHistogram(0), "factors"),
        (lambda: ValueHistogram(2, np.zeros((1, 65536), np.int64)), r"\(1, 65536\)"),
        (lambda: ValueHistogram(1, np.full((1, 65536), -1)), "minimum -1"),
        (lambda: ValueHistogram(2).add(np.zeros((3, 1), np.uint16)), r"\(3, 1\)"),
        (lambda: ValueHistogram(1).add(np.zeros((3, 1), np.int64)), "int64"),
        (lambda: ValueHistogram(1).merge(ValueHistogram(2)), r"\(2, 65536\)"),
        (lambda: ValueHistogram(1).percentile(75), "no entries"),
        (lambda: ValueHistogram(1).percentile(101), "101"),
        (lambda: binarise(np.zeros((2, 3)), [1.0, 2.0, 3.0]), r"\(3,\)"),
        (lambda: binarise(np.zeros((2, 3)), [1.0, 2.0], axis=2), r"\(2, 3\)"),
        (lambda: largest_component_box(np.zeros((2, 3, 4), bool)), r"\(2, 3, 4\)"),
        (lambda: largest_component_box(np.zeros((2, 3))), "float64"),
    ],
)
def test_refuses_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
