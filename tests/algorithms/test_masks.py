"""Percentiles against numpy, components against scikit-image and by hand."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import label, regionprops

from stages.algorithms.masks import (
    binarise,
    components,
    exact_percentile,
    pack_masks,
    resize_masks,
    unpack_masks,
)

shares = st.one_of(
    st.floats(0, 1, width=32),
    st.sampled_from([0.0, 1.0, 0.5, 2**-16, float(np.nextafter(np.float32(0.5), np.float32(1)))]),
)


def percentile(values, q, parts=3):
    blocks = np.array_split(values, min(parts, len(values)))
    return exact_percentile(lambda: iter(blocks), values.shape[1], q)


@given(values=st.lists(shares, min_size=1, max_size=40), q=st.floats(0, 100))
@settings(max_examples=200, deadline=None)
def test_percentile_equals_numpy_exactly(values, q):
    column = np.array(values, dtype=np.float32)
    both = np.stack([column, 1 - column], axis=1)
    expected = np.percentile(both.astype(np.float64), q, axis=0)
    assert percentile(both, q).tolist() == expected.tolist()


@pytest.mark.parametrize("q", [0, 25, 50, 75, 99, 99.9, 100])
def test_percentile_of_many_sparse_values_equals_numpy(q):
    rng = np.random.default_rng(0)
    values = rng.random((100_003, 3), dtype=np.float32)
    values[rng.random(values.shape) < 0.72] = 0
    expected = np.percentile(values.astype(np.float64), q, axis=0)
    np.testing.assert_array_equal(percentile(values, q, parts=7), expected)


def test_percentile_by_hand():
    # Sorted 0 .125 .25 .5: rank 0.75 * 3 = 2.25, a quarter of the way from .25 to .5.
    values = np.array([[0.5], [0], [0.25], [0.125]], dtype=np.float32)
    assert percentile(values, 75).tolist() == [0.3125]


def test_percentile_tells_apart_what_sixteen_bits_cannot():
    values = np.float32(0.5) + np.arange(101, dtype=np.float32)[:, None] * np.float32(2**-24)
    assert percentile(values, 75)[0] == np.percentile(values.astype(np.float64), 75)


@given(seed=st.integers(0, 99), factors=st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_unpacking_undoes_packing(seed, factors):
    masks = np.random.default_rng(seed).random((7, factors)) < 0.5
    packed = pack_masks(masks)
    assert packed.dtype == np.uint8 and packed.shape == (7, -(-factors // 8))
    np.testing.assert_array_equal(unpack_masks(packed, factors), masks)


def test_packing_by_hand():
    # factors 0 and 3 are 1 + 8; factor 8 is the lowest bit of the second byte
    mask = np.array([[1, 0, 0, 1, 0, 0, 0, 0, 1]], dtype=bool)
    assert pack_masks(mask).tolist() == [[9, 1]]


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
    shares = (values / 900).astype(np.float32)
    assert not binarise(shares, percentile(shares, 75), axis=1).any()


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
def test_largest_component_by_hand(picture, expected):
    mask = np.array([[cell == "#" for cell in row] for row in picture])
    boxes = components(mask, mask).boxes.tolist()
    assert boxes[:1] == ([] if expected is None else [list(expected)])


@given(
    h=st.integers(1, 12), w=st.integers(1, 12), fill=st.floats(0.1, 0.7), seed=st.integers(0, 999)
)
@settings(max_examples=100, deadline=None)
def test_components_equal_skimage(h, w, fill, seed):
    rng = np.random.default_rng(seed)
    values = rng.random((h, w), dtype=np.float32)
    mask = rng.random((h, w)) < fill
    regions = regionprops(label(mask, connectivity=2), intensity_image=values)
    regions.sort(key=lambda region: (-region.area, tuple(region.coords[0])))
    found = components(mask, values)
    assert found.boxes.tolist() == [list(region.bbox) for region in regions]
    assert found.areas.tolist() == [region.area for region in regions]
    np.testing.assert_allclose(found.scores, [r.intensity_mean for r in regions], rtol=1e-5)
    assert found.areas.sum() == mask.sum()


def _of(*rows):
    return lambda: exact_percentile(lambda: iter(rows), 1, 75)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (_of(), "no rows"),
        (_of(np.zeros((3, 2), np.float32)), r"\(3, 2\)"),
        (_of(np.zeros((3, 1))), "float64"),
        (_of(np.full((3, 1), np.nan, np.float32)), r"\[0, 1\]"),
        (_of(np.full((3, 1), 1.5, np.float32)), r"\[0, 1\]"),
        (lambda: exact_percentile(lambda: iter([]), 1, 101), "101"),
        (lambda: binarise(np.zeros((2, 3)), [1.0, 2.0, 3.0]), r"\(3,\)"),
        (lambda: binarise(np.zeros((2, 3)), [1.0, 2.0], axis=2), r"\(2, 3\)"),
        (lambda: components(np.zeros((2, 3, 4), bool), np.zeros((2, 3, 4))), r"\(2, 3, 4\)"),
        (lambda: components(np.zeros((2, 3)), np.zeros((2, 3))), "float64"),
        (lambda: components(np.zeros((2, 3), bool), np.zeros((3, 2))), r"\(3, 2\)"),
    ],
)
def test_refuses_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def interpolated(mask, size):
    """Bilinear interpolation in fractions, align_corners=False: pixel centres map to centres."""

    def weights(length, target):
        rows = []
        for i in range(target):
            at = Fraction(2 * i + 1, 2 * target) * length - Fraction(1, 2)
            at = min(max(at, Fraction(0)), Fraction(length - 1))
            low = int(at)
            row = [Fraction(0)] * length
            row[low] += 1 - (at - low)
            row[min(low + 1, length - 1)] += at - low
            rows.append(row)
        return rows

    down, across = weights(mask.shape[0], size[0]), weights(mask.shape[1], size[1])
    return [
        [
            sum(
                down[y][i] * across[x][j]
                for i in range(mask.shape[0])
                for j in range(mask.shape[1])
                if mask[i, j]
            )
            for x in range(size[1])
        ]
        for y in range(size[0])
    ]


@pytest.mark.parametrize(
    "size", [(3, 4), (6, 8), (9, 4), (5, 7), (2, 2), (1, 1), (6, 2), (3, 9), (1, 12), (2, 3)]
)
@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (3, 1), (4, 6)])
def test_resized_masks_are_where_bilinear_interpolation_reaches_a_half(shape, size):
    """Enlarged, shrunk and both, ties included: against interpolation in fractions."""
    masks = np.random.default_rng(0).random((*shape, 19)) < 0.5
    found = unpack_masks(resize_masks(pack_masks(masks), size), 19)
    assert found.shape == (*size, 19)
    for factor in range(19):
        expected = np.array(interpolated(masks[..., factor], size)) >= Fraction(1, 2)
        np.testing.assert_array_equal(found[..., factor], expected)


@pytest.mark.parametrize("factors", [1, 8, 9, 33, 64, 65, 130])
def test_masks_of_any_number_are_resized_alike(factors):
    masks = np.random.default_rng(1).random((5, 6, factors)) < 0.4
    sized = unpack_masks(resize_masks(pack_masks(masks), (11, 9)), factors)
    for factor in range(0, factors, 7):
        alone = resize_masks(pack_masks(masks[..., factor : factor + 1]), (11, 9))
        np.testing.assert_array_equal(sized[..., factor], unpack_masks(alone, 1)[..., 0])


@given(seed=st.integers(0, 99), h=st.integers(1, 9), w=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_resizing_keeps_empty_and_full_masks_and_their_complements(seed, h, w):
    masks = np.random.default_rng(seed).random((4, 5, 3)) < 0.5
    masks[..., 0], masks[..., 1] = False, True
    sized = unpack_masks(resize_masks(pack_masks(masks), (h, w)), 3)
    assert not sized[..., 0].any() and sized[..., 1].all()
    rest = unpack_masks(resize_masks(pack_masks(~masks), (h, w)), 3)
    assert (sized[..., 2] | rest[..., 2]).all(), "one of the two reaches a half, ties both"
