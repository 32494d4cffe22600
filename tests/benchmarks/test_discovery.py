"""What `benchmarks/discovery.py` measures with: rules and scores, by hand and by scikit-image."""

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from benchmarks.discovery_rules import Clusters, Ddt, SetOtsu, thresholds_by_rule
from benchmarks.discovery_scores import Columns, Found, Sums
from stages.algorithms.masks import pack_masks
from stages.datasets import GroundTruth


def test_otsu_of_a_set_is_that_of_all_its_values() -> None:
    rng = np.random.default_rng(0)
    low, high = rng.normal(0.2, 0.05, (2, 20, 30, 1)), rng.normal(0.7, 0.1, (2, 20, 30, 1))
    maps = [np.clip(65535 * one, 0, 65535).astype(np.uint16) for one in (*low, *high)]
    values = np.concatenate([one.ravel() for one in maps]) / 65535
    found = SetOtsu.of(maps).thresholds
    assert found[0] == pytest.approx(threshold_otsu(values), abs=2 / 256)


def test_rules_go_by_the_image_and_leave_absent_factors_absent() -> None:
    levels = np.zeros((4, 4, 2), np.uint16)
    levels[:2, :, 0] = 40000
    percentile = np.array([0.1, 0.0])  # the second factor is absent
    rules = thresholds_by_rule(levels, percentile, SetOtsu(np.array([0.3, 0.3])))
    assert rules["0.425 of the image's largest"][0] == pytest.approx(0.425 * 40000 / 65535)
    otsu = rules["image's Otsu"][0]
    assert 0 < otsu < 40000 / 65535
    assert rules["mean of percentile and Otsu"][0] == pytest.approx(np.sqrt(0.1 * otsu))
    assert all(found[1] == 0 for found in rules.values())


def test_ddt_keeps_the_largest_component_of_the_strong_side() -> None:
    ground, thing = np.array([1, 1, 0], np.float32), np.array([0, 0, 9], np.float32)
    image = np.broadcast_to(ground, (8, 8, 3)).copy()
    image[1:4, 1:4] = thing
    image[7, 7] = thing
    (mask,) = Ddt.of([image]).masks(0, (8, 8))
    assert mask[1:4, 1:4].all()
    assert mask.sum() == 9


def test_clusters_share_out_all_pixels() -> None:
    image = np.zeros((6, 6, 2), np.float32)
    image[:3, :, 0] = 1
    image[3:, :, 1] = 1
    clusters = Clusters.of([image], 2, seed=0)
    masks = clusters.masks(0, (12, 12))
    assert (masks.sum(axis=0) == 1).all()
    assert sorted(mask[:6].mean() for mask in masks) == [0, 1]
    there = np.zeros(36, np.bool_)
    there[:18] = True
    assert sorted(clusters.within([there])) == [0, 1]


def test_scores_are_those_of_a_hand_calculation() -> None:
    """k = 1 marks 8 of the object's 8 pixels and 4 others; k = 2 has half of the object twice."""
    whole = np.zeros((4, 8), np.bool_)
    whole[:, :2] = True
    head = whole.copy()
    head[2:] = False
    tail = whole & ~head
    one, first, second = np.zeros((3, 4, 8), np.bool_)
    one[:, :3] = True
    first[:2, :2] = second[:2, :2] = True
    bits = pack_masks(np.stack([one, first, second], axis=-1))
    strengths = np.ones((4, 8, 3), np.float32)
    sums = Sums(Columns([(1, 0), (2, 0)], np.array([True, True, False])))
    truth = GroundTruth(whole, {"head": head, "tail": tail})
    sums.add(Found(bits, strengths, bits), truth, (4, 8))
    found = sums.scores()
    assert found[1] == pytest.approx({"object": 100 * 8 / 12, "corloc": 100})  # boxes: 8 of 12, too
    assert found[2]["object"] == pytest.approx(50)  # the figure's factor alone
    assert found[2]["overlap"] == pytest.approx(100)
    assert found[2]["part"] == pytest.approx(100)
    assert found[2]["matched"] == pytest.approx(50)
    assert found[2]["nmi"] == found[2]["ari"] == pytest.approx(100)
