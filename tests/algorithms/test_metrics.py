"""Scores by hand; sums against set arithmetic and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, jaccard_score, precision_score

from stages.algorithms.masks import pack_masks
from stages.algorithms.metrics import RegionCounts, best_part_quality, box_iou


def pixels(*pictures):
    """Pictures of one row, '#' for True: bool [pictures, 1, w]."""
    return np.array([[[cell == "#" for cell in picture]] for picture in pictures])


def regions(**pictures):
    """Regions of one row by name: bool [1, w]."""
    return {name: pixels(picture)[0] for name, picture in pictures.items()}


# Two images of 8 pixels; head and torso overlap; the tail is seen in neither.
IMAGES = [
    (pixels("####....", "....####"), regions(head="##......", torso="..###...", tail="........")),
    (pixels("##......", "........"), regions(head="#.......", torso="#####...")),
]
PARTS = ["head", "torso", "tail"]


def counted(images, factors=2):
    counts = RegionCounts(factors)
    for masks, found in images:
        counts.add(masks, found)
    return counts


def test_sums_by_hand():
    counts = counted(IMAGES)
    # Factor 0: head 2 + 1, torso 2 + 2. Factor 1: head 0, torso 1 + 0.
    assert [counts.intersection({part}).tolist() for part in PARTS] == [[3, 0], [4, 1], [0, 0]]
    assert counts.area().tolist() == [4 + 2, 4 + 0]
    assert [counts.region_area({part}) for part in PARTS] == [2 + 1, 3 + 5, 0]
    assert counts.names == set(PARTS)
    assert counts.area().dtype == np.int64


def test_coverage_and_association_by_hand():
    counts = counted(IMAGES)
    # 3/3, 4/8, empty; 0/3, 1/8, empty. One half is not above one half.
    assert counts.coverage(PARTS).tolist() == [[1.0, 0.5, 0.0], [0.0, 0.125, 0.0]]
    assert counts.associate(PARTS).tolist() == [[True, False, False], [False, False, False]]
    assert counts.associate(PARTS, 0.4).tolist() == [[True, True, False], [False, False, False]]
    assert counts.associate(PARTS, 0.0).tolist() == [[True, True, False], [False, True, False]]


def test_iou_of_single_regions_by_hand():
    # 3/(6+3-3), 4/(6+8-4), 0/(6+0); 0/(4+3), 1/(4+8-1), 0/(4+0).
    expected = [[0.5, 0.4, 0.0], [0.0, 1 / 11, 0.0]]
    np.testing.assert_allclose(counted(IMAGES).iou_single(PARTS), expected, rtol=1e-15)
    # The mean of 0.5 and 1/11.
    assert best_part_quality(counted(IMAGES).iou_single(PARTS)) == pytest.approx(13 / 44)


def test_iou_is_of_sums_not_a_mean_over_images():
    # Image 1: 1/1. Image 2: 1/8. Sums: 2/9; the mean would be 9/16.
    images = [(pixels(mask), regions(part="#.......")) for mask in ("#.......", "########")]
    assert counted(images, 1).iou({"part"}).tolist() == [2 / 9]


def test_a_union_counts_overlapping_parts_once():
    # Factor 0. Image 1: parts cover #####..., mask ####....: 4 of 5. Image 2: #####..., ##......:
    # 2 of 5. (4 + 2) / (5 + 5). Summing single parts would have counted 3 + 4 shared pixels.
    counts = counted(IMAGES)
    both = {"head", "torso"}
    assert counts.intersection(both).tolist() == [6, 1]
    assert counts.region_area(both) == 10
    # Factor 1. 1 / (4 + 10 - 1).
    assert counts.iou(both).tolist() == [0.6, 1 / 13]


def test_precision_and_accuracy_by_hand():
    counts = counted(IMAGES)
    # Of the 6 pixels of factor 0, 4 are torso; of the 4 of factor 1, one.
    assert counts.precision({"torso"}).tolist() == [4 / 6, 1 / 4]
    # Of 16 pixels, factor 0 labels 2 wrongly as torso and misses 4; factor 1: 3 and 7.
    assert counts.accuracy({"torso"}).tolist() == [10 / 16, 6 / 16]


def test_nothing_is_zero_not_nan():
    for counts in (RegionCounts(1), counted([(pixels("...."), regions(part="...."))], 1)):
        assert counts.iou({"part"}).tolist() == [0.0]
        assert counts.coverage(["part"]).tolist() == [[0.0]]
        assert counts.precision({"part"}).tolist() == [0.0]
    assert RegionCounts(1).accuracy({"part"}).tolist() == [0.0]
    assert RegionCounts(2).coverage([]).shape == (2, 0)


def test_an_image_without_regions_still_has_wrong_pixels():
    counts = counted([(pixels("##.."), {}), (pixels("##.."), regions(part="##.."))], 1)
    assert counts.iou({"part"}).tolist() == [2 / 4]


images = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 999)), min_size=1, max_size=5
)


def random_image(h, w, seed, factors=3, parts=3):
    rng = np.random.default_rng(seed)
    found = rng.random((parts, h, w)) < 0.4
    return rng.random((factors, h, w)) < 0.5, {f"p{i}": part for i, part in enumerate(found)}


@given(shapes=images, cut=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_adding_accumulators_equals_adding_images(shapes, cut):
    made = [random_image(*shape) for shape in shapes]
    together = counted(made, 3)
    joined = counted(made[cut:], 3) + counted(made[:cut], 3)
    assert joined.pixels == together.pixels and joined.names == together.names
    assert joined.inside.keys() == together.inside.keys()
    for combination, inside in together.inside.items():
        np.testing.assert_array_equal(joined.inside[combination], inside)


@given(shapes=images, factors=st.sampled_from([1, 3, 8, 9, 17]), parts=st.sampled_from([1, 3, 19]))
@settings(max_examples=40, deadline=None)
def test_scores_equal_sklearn_over_all_pixels(shapes, factors, parts):
    """Numbers of factors and parts on both sides of a byte's eight bits."""
    made = [random_image(*shape, factors, parts) for shape in shapes]
    counts = counted(made, factors)
    masks = np.concatenate([m.reshape(factors, -1) for m, _ in made], axis=1)
    truth = np.concatenate([np.stack([*r.values()]).reshape(parts, -1) for _, r in made], axis=1)
    chosen = sorted({0, parts // 2, parts - 1})
    union = truth[chosen].any(axis=0)
    names = {f"p{i}" for i in chosen}
    for f in {0, factors // 2, factors - 1}:
        mine = (union, masks[f])
        assert counts.iou(names)[f] == pytest.approx(jaccard_score(*mine, zero_division=0))
        assert counts.precision(names)[f] == pytest.approx(precision_score(*mine, zero_division=0))
        assert counts.accuracy(names)[f] == pytest.approx(accuracy_score(*mine))
        for p in chosen:
            expected = jaccard_score(truth[p], masks[f], zero_division=0)
            assert counts.iou_single([f"p{p}"])[f, 0] == pytest.approx(expected)


@pytest.mark.parametrize("factors", [1, 8, 11])
def test_packed_masks_count_as_others_do(factors):
    masks, found = random_image(5, 7, 3, factors)
    counts = RegionCounts(factors)
    counts.add_packed(pack_masks(np.moveaxis(masks, 0, -1)), found)
    expected = counted([(masks, found)], factors)
    assert counts.pixels == expected.pixels
    for combination, inside in expected.inside.items():
        np.testing.assert_array_equal(counts.inside[combination], inside)
    with pytest.raises(ValueError, match=f"for {factors} masks"):
        counts.add_packed(np.zeros((5, 7, 3), np.uint8), found)
    with pytest.raises(ValueError, match="region 'a' must be bool"):
        counts.add_packed(np.zeros((5, 7, -(-factors // 8)), np.uint8), regions(a="##"))


def test_sum_leaves_its_terms_alone():
    a, b = counted(IMAGES[:1]), counted(IMAGES[1:])
    before = a.intersection({"head"}).tolist()
    total = a + b
    total.add(*IMAGES[0])
    assert a.intersection({"head"}).tolist() == before


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
    assert box_iou(np.array([a]), np.array([b])).tolist() == [[expected]]
    assert box_iou(np.array([b]), np.array([a])).tolist() == [[expected]]


def test_every_box_meets_every_other():
    a = np.array([[0, 0, 2, 2], [0, 0, 1, 1], [np.nan] * 4])
    b = np.array([[0, 0, 2, 2], [5, 5, 6, 6]])
    assert box_iou(a, b).tolist() == [[1.0, 0.0], [0.25, 0.0], [0.0, 0.0]]
    assert box_iou(a, np.zeros((0, 4))).shape == (3, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RegionCounts(-1), "-1"),
        (lambda: RegionCounts(1).add(pixels("##"), regions(a="###")), r"\(1, 3\)"),
        (lambda: RegionCounts(2).add(pixels("##"), regions(a="##")), r"\(1, 1, 2\)"),
        (lambda: RegionCounts(1).add(pixels("##").astype("u1"), regions(a="##")), "uint8"),
        (lambda: RegionCounts(1).add(pixels("##"), {"a": pixels("##")[0].astype("u1")}), "uint8"),
        (lambda: RegionCounts(1).add(pixels("##")[0], {}), r"\(1, 2\)"),
        (lambda: RegionCounts(1) + RegionCounts(2), "2 factors to 1"),
        (lambda: best_part_quality(np.zeros((2, 0))), r"\(2, 0\)"),
        (lambda: box_iou(np.zeros((1, 4)), np.array([[3, 0, 1, 1]])), "ends before it starts"),
        (lambda: box_iou(np.zeros(4), np.zeros((1, 4))), r"\(4,\)"),
    ],
)
def test_refuses_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_adding_something_else_is_a_type_error():
    with pytest.raises(TypeError):
        RegionCounts(1) + 1
