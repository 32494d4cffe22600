"""Measures of all masks together, against scikit-learn, scipy and counting by hand."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from stages.algorithms.masks import bilinear_at, nearest_at, pack_masks
from stages.algorithms.partitions import (
    OverlapCounts,
    PartitionCounts,
    matched_iou,
    mutual_information,
    rand_index,
    single_parts,
)

SIZES = (1, 2, 6, 12)  # the third and fourth lie across bytes
PARTS = ("head", "leg", "tail")


def drawn(seed: int, shape: tuple[int, int] = (17, 23)) -> tuple[np.ndarray, np.ndarray, dict]:
    """Random masks [h, w, factors], strengths [factors, h, w] and overlapping parts."""
    rng = np.random.default_rng(seed)
    masks = rng.random((*shape, sum(SIZES))) < 0.4
    strengths = rng.random((sum(SIZES), *shape)).astype(np.float32)
    parts = {name: rng.random(shape) < 0.4 for name in PARTS}
    return masks, strengths, parts


def counted(seed: int) -> PartitionCounts:
    masks, strengths, parts = drawn(seed)
    pixels, codes = single_parts(parts)
    counts = PartitionCounts(SIZES)
    chosen = strengths.reshape(len(strengths), -1)[:, pixels]
    counts.add(pack_masks(masks), pixels, codes, list(parts), chosen)
    return counts


def labels_of(seed: int, factorization: int) -> tuple[list[int], list[int]]:
    """Parts and labels pixel by pixel, in plain loops."""
    masks, strengths, parts = drawn(seed)
    start, k = sum(SIZES[:factorization]), SIZES[factorization]
    truth, found = [], []
    for y, x in np.ndindex(masks.shape[:2]):
        here = [i for i, mask in enumerate(parts.values()) if mask[y, x]]
        if len(here) == 1:
            inside = [(strengths[start + f, y, x], f) for f in range(k) if masks[y, x, start + f]]
            truth.append(here[0])
            found.append(max(inside)[1] if inside else k)
    return truth, found


@pytest.mark.parametrize("factorization", range(len(SIZES)))
def test_scores_of_label_maps_are_scikit_learns(factorization: int) -> None:
    total = counted(1) + counted(2)
    pairs = [labels_of(seed, factorization) for seed in (1, 2)]
    truth, found = (np.concatenate(lists) for lists in zip(*pairs, strict=True))
    table = total.table(factorization)
    assert table.sum() == len(truth)
    assert mutual_information(table) == pytest.approx(normalized_mutual_info_score(truth, found))
    assert rand_index(table) == pytest.approx(adjusted_rand_score(truth, found))


@pytest.mark.parametrize(
    ("truth", "found"),
    [([0, 0, 1, 1], [1, 1, 0, 0]), ([0, 0, 0], [0, 0, 0]), ([0, 0, 0], [0, 1, 1]),
     ([0, 1, 2], [0, 0, 0]), ([0, 1, 2], [2, 1, 0]), ([0], [0]), ([0, 0, 1, 1], [0, 1, 0, 1])],
)  # fmt: skip
def test_scores_at_their_limits_are_scikit_learns(truth: list[int], found: list[int]) -> None:
    table = np.zeros((3, 3), dtype=np.int64)
    np.add.at(table, (truth, found), 1)
    assert mutual_information(table) == pytest.approx(normalized_mutual_info_score(truth, found))
    assert rand_index(table) == pytest.approx(adjusted_rand_score(truth, found))


def test_pairs_of_many_pixels_do_not_overflow() -> None:
    table = np.array([[3, 1], [1, 3]], dtype=np.int64)
    small, huge = rand_index(table * 10**6), rand_index(table * 10**12)
    assert huge == pytest.approx(small, abs=1e-6)


def test_no_pixels_no_scores() -> None:
    nothing = PartitionCounts(SIZES).table(2)
    assert nothing.shape == (0, 7)
    assert np.isnan([mutual_information(nothing), rand_index(nothing)]).all()


def test_the_order_of_images_does_not_matter() -> None:
    one, other = counted(1) + counted(2), counted(2) + counted(1)
    for factorization in range(len(SIZES)):
        np.testing.assert_array_equal(one.table(factorization), other.table(factorization))
    with pytest.raises(ValueError, match=r"cannot add counts of \(1,\)"):
        one + PartitionCounts((1,))


def test_of_equal_strengths_the_first_factor_counts() -> None:
    counts = PartitionCounts((2,))
    masks = np.array([[[True, True], [False, True], [False, False]]])
    where = np.arange(3)
    counts.add(pack_masks(masks), where, np.zeros(3, np.intp), ["head"], np.zeros((2, 3)))
    assert counts.table(0).tolist() == [[1, 1, 1]]


def test_overlap_by_hand() -> None:
    # k = 1: 4 pixels. k = 2: 3 of them in a mask, 1 in both. k = 3: no mask.
    masks = np.array(
        [[[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]]
    ).astype(np.bool_)
    counts = OverlapCounts.of(pack_masks(masks), (1, 2, 3))
    assert (counts + counts).overlap().tolist() == pytest.approx([0, 1 / 3, 0])


@pytest.mark.parametrize("seed", range(3))
def test_overlap_across_bytes(seed: int) -> None:
    masks, _, _ = drawn(seed)
    overlap = OverlapCounts.of(pack_masks(masks), SIZES).overlap()
    ends = np.cumsum(SIZES)
    for value, start, end in zip(overlap, [0, *ends], ends, strict=False):
        held = masks[..., start:end].sum(axis=2)
        assert value == pytest.approx((held > 1).sum() / (held > 0).sum())


def test_matched_iou_by_hand() -> None:
    # both factors like the first part best; one of them must take the second, and the third is left
    iou = np.array([[0.8, 0.1, 0.0], [0.6, 0.3, 0.2]])
    assert matched_iou(iou) == pytest.approx((0.8 + 0.3 + 0) / 3)
    assert matched_iou(np.array([[0.5], [0.4]])) == pytest.approx(0.5)
    assert np.isnan(matched_iou(np.zeros((2, 0))))


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (5, 4), (4, 5), (9, 9), (25, 20)])
@pytest.mark.parametrize("levels", [2, 1000])
def test_matched_iou_is_scipys_best_assignment(shape: tuple[int, int], levels: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        iou = rng.integers(0, levels, shape) / levels  # few levels: many equal sums
        best = iou[linear_sum_assignment(iou, maximize=True)].sum()
        assert matched_iou(iou) == pytest.approx(best / shape[1])


def test_pixels_of_two_parts_or_void_count_nowhere() -> None:
    parts = {"head": np.array([[1, 1, 0, 1]], np.bool_), "leg": np.array([[0, 1, 0, 0]], np.bool_)}
    pixels, codes = single_parts(parts, np.array([[0, 0, 0, 1]], np.bool_))
    assert (pixels.tolist(), codes.tolist()) == ([0], [0])
    assert [one.size for one in single_parts({})] == [0, 0]


def test_maps_at_pixels_are_torchs() -> None:
    import torch

    values = np.random.default_rng(0).random((5, 7, 3)).astype(np.float32)
    size, pixels = (13, 11), np.array([0, 5, 40, 142, 77])
    planes = torch.from_numpy(values).permute(2, 0, 1)[None]
    bilinear = torch.nn.functional.interpolate(planes, size, mode="bilinear")[0]
    expected = bilinear.reshape(3, -1)[:, pixels].numpy()
    np.testing.assert_allclose(bilinear_at(values, size, pixels), expected, atol=1e-6)
    nearest = torch.nn.functional.interpolate(planes, size, mode="nearest-exact")[0]
    expected = nearest.reshape(3, -1)[:, pixels].numpy()
    np.testing.assert_array_equal(nearest_at(values, size, pixels), expected)


@pytest.mark.parametrize("wrong", ["strengths", "codes", "masks"])
def test_bad_shapes_are_named(wrong: str) -> None:
    count, codes, packed = 3, np.zeros(4, np.intp), np.zeros((2, 2, 1), np.uint8)
    if wrong == "strengths":
        count = 2
    if wrong == "codes":
        codes = codes[1:]
    if wrong == "masks":
        packed = np.zeros((2, 2, 2), np.uint8)
    with pytest.raises(ValueError, match="expected"):
        PartitionCounts((1, 2)).add(packed, np.arange(4), codes, ["a"], np.zeros((count, 4)))
