"""Scores by hand; sums against set arithmetic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from stages.algorithms.metrics import OverlapCounts, UnionCounts, best_part_quality, box_iou


def pixels(*pictures):
    """Pictures of one row, '#' for True: bool [pictures, 1, w]."""
    return np.array([[[cell == "#" for cell in picture]] for picture in pictures])


# Two images of 8 pixels; parts: head, torso, tail (shown in neither); head and torso overlap.
IMAGES = [
    (pixels("####....", "....####"), pixels("##......", "..###...", "........")),
    (pixels("##......", "........"), pixels("#.......", "#####...", "........")),
]


def counted(images):
    counts = OverlapCounts(2, 3)
    for masks, parts in images:
        counts.add(masks, parts)
    return counts


def test_sums_by_hand():
    counts = counted(IMAGES)
    # Factor 0: head 2 + 1, torso 2 + 2. Factor 1: head 0, torso 1 + 0.
    assert counts.intersection.tolist() == [[3, 4, 0], [0, 1, 0]]
    assert counts.factor_area.tolist() == [4 + 2, 4 + 0]
    assert counts.part_area.tolist() == [2 + 1, 3 + 5, 0]
    assert counts.intersection.dtype == np.int64


def test_coverage_and_association_by_hand():
    counts = counted(IMAGES)
    # 3/3, 4/8, empty; 0/3, 1/8, empty. One half is not above one half.
    assert counts.coverage().tolist() == [[1.0, 0.5, 0.0], [0.0, 0.125, 0.0]]
    assert counts.associate().tolist() == [[True, False, False], [False, False, False]]
    assert counts.associate(0.4).tolist() == [[True, True, False], [False, False, False]]
    assert counts.associate(0.0).tolist() == [[True, True, False], [False, True, False]]


def test_iou_single_by_hand():
    # 3/(6+3-3), 4/(6+8-4), 0/(6+0); 0/(4+3), 1/(4+8-1), 0/(4+0).
    expected = [[0.5, 0.4, 0.0], [0.0, 1 / 11, 0.0]]
    np.testing.assert_allclose(counted(IMAGES).iou_single(), expected, rtol=1e-15)
    # The mean of 0.5 and 1/11.
    assert best_part_quality(counted(IMAGES).iou_single()) == pytest.approx(13 / 44)


def test_iou_is_of_sums_not_a_mean_over_images():
    # Image 1: 1/1. Image 2: 1/8. Sums: 2/9; the mean would be 9/16.
    counts = OverlapCounts(1, 1)
    counts.add(pixels("#......."), pixels("#......."))
    counts.add(pixels("########"), pixels("#......."))
    assert counts.iou_single().tolist() == [[2 / 9]]


def test_union_counts_overlapping_parts_once():
    counts = UnionCounts(np.array([[True, True, False], [False, False, False]]))
    for masks, parts in IMAGES:
        counts.add(masks, parts)
    # Factor 0. Image 1: parts cover #####..., mask ####....: 4 of 5. Image 2: #####..., ##......:
    # 2 of 5. (4 + 2) / (5 + 5). Summing single parts would have counted 3 + 4 shared pixels.
    assert counts.intersection.tolist() == [6, 0]
    assert counts.union.tolist() == [10, 4]
    scores = counts.iou()
    assert scores[0] == 0.6 and np.isnan(scores[1])


def test_empty_union_is_zero_not_nan():
    nothing = pixels("....")
    single, union = OverlapCounts(1, 1), UnionCounts(np.array([[True]]))
    for counts in (single, union):
        counts.add(nothing, nothing)
    assert single.iou_single().tolist() == [[0.0]] and single.coverage().tolist() == [[0.0]]
    assert union.iou().tolist() == [0.0]
    assert OverlapCounts(1, 1).iou_single().tolist() == [[0.0]]  # nothing added at all


images = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 999)), min_size=1, max_size=5
)


def random_image(h, w, seed, factors=2, parts=3):
    rng = np.random.default_rng(seed)
    return rng.random((factors, h, w)) < 0.5, rng.random((parts, h, w)) < 0.4


@given(shapes=images, cut=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_adding_accumulators_equals_adding_images(shapes, cut):
    made = [random_image(*shape) for shape in shapes]
    association = np.array([[True, False, True], [False, True, False]])
    singles, unions = [], []
    for group in (made, made[cut:], made[:cut]):
        single, union = OverlapCounts(2, 3), UnionCounts(association)
        for masks, parts in group:
            single.add(masks, parts)
            union.add(masks, parts)
        singles.append(single)
        unions.append(union)
    total, joined = singles[1] + singles[2], unions[1] + unions[2]
    for name in ("intersection", "factor_area", "part_area"):
        np.testing.assert_array_equal(getattr(total, name), getattr(singles[0], name))
    for name in ("intersection", "union"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(unions[0], name))


@given(shapes=images)
@settings(max_examples=40, deadline=None)
def test_iou_equals_sklearn_jaccard_over_all_pixels(shapes):
    made = [random_image(*shape) for shape in shapes]
    association = np.array([[True, False, True], [False, True, False]])
    single, union = OverlapCounts(2, 3), UnionCounts(association)
    for masks, parts in made:
        single.add(masks, parts)
        union.add(masks, parts)
    masks = np.concatenate([m.reshape(2, -1) for m, _ in made], axis=1)
    parts = np.concatenate([p.reshape(3, -1) for _, p in made], axis=1)
    for f in range(2):
        for p in range(3):
            expected = jaccard_score(parts[p], masks[f], zero_division=0)
            assert single.iou_single()[f, p] == pytest.approx(expected)
        whole = parts[association[f]].any(axis=0)
        assert union.iou()[f] == pytest.approx(jaccard_score(whole, masks[f], zero_division=0))


def test_sum_leaves_its_terms_alone():
    a, b = counted(IMAGES[:1]), counted(IMAGES[1:])
    before = a.intersection.copy()
    total = a + b
    total.add(*IMAGES[0])
    np.testing.assert_array_equal(a.intersection, before)


def test_best_part_takes_the_best_of_each_factor():
    # max(.2, .6) = .6, max(.5, .1) = .5, max(0, 0) = 0: mean 1.1 / 3.
    scores = np.array([[0.2, 0.6], [0.5, 0.1], [0.0, 0.0]])
    assert best_part_quality(scores) == pytest.approx(1.1 / 3)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),  # 1 shared of 4 + 4 - 1
        ((0, 0, 4, 3), (0, 0, 2, 3), 0.5),
        ((0, 0, 2, 2), (0, 2, 2, 4), 0.0),  # half-open: they touch
        ((0, 0, 1, 1), (5, 5, 6, 6), 0.0),
        ((1, 1, 1, 1), (1, 1, 1, 1), 0.0),
        ((1, 1, 1, 1), (0, 0, 2, 2), 0.0),
    ],
)
def test_box_iou_by_hand(a, b, expected):
    assert box_iou(a, b) == expected == box_iou(b, a)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: OverlapCounts(-1, 2), "-1"),
        (lambda: OverlapCounts(1, 1).add(pixels("##"), pixels("###")), r"\(1, 1, 3\)"),
        (lambda: OverlapCounts(1, 1).add(pixels("##"), pixels("##", "##")), r"\(2, 1, 2\)"),
        (lambda: OverlapCounts(1, 1).add(pixels("##").astype("u1"), pixels("##")), "uint8"),
        (lambda: OverlapCounts(1, 1).add(pixels("##")[0], pixels("##")[0]), r"\(1, 2\)"),
        (lambda: OverlapCounts(1, 2) + OverlapCounts(2, 2), r"\(2, 2\)"),
        (lambda: UnionCounts(np.ones((2, 2))), "float64"),
        (lambda: UnionCounts(np.array([[True]])) + UnionCounts(np.array([[False]])), "differ"),
        (lambda: UnionCounts(np.array([[True]])).add(pixels("#", "#"), pixels("#")), "2, 1, 1"),
        (lambda: best_part_quality(np.zeros((2, 0))), r"\(2, 0\)"),
        (lambda: box_iou((0, 0, 1, 1), (3, 0, 1, 1)), r"\(3, 0, 1, 1\)"),
    ],
)
def test_refuses_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_adding_something_else_is_a_type_error():
    with pytest.raises(TypeError):
        OverlapCounts(1, 1) + 1
    with pytest.raises(TypeError):
        UnionCounts(np.array([[True]])) + 1
