"""Parts that partition: laws on random maps, a slow reference, and cases by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.algorithms.apart import HALF, apart
from stages.algorithms.masks import pack_masks
from stages.algorithms.parts import INSIDE, Parts, Shares, figure_of, of_figure, parts_of

COLUMNS = [(1, 0, 0), (3, 0, 0), (3, 0, 1), (3, 0, 2)]
MOST = 65535


def shares(within, thresholds=0.25, strength=0.5, columns=4):
    full = np.full(columns, np.nan)
    full[1:] = within
    of = [np.broadcast_to(np.asarray(x, float), columns).copy() for x in (thresholds, strength)]
    return Shares(*of, figure_of(full, parts_of(COLUMNS)))


def reference(q, heat, of, parts):
    """The rule of the module's docstring, pixel by pixel."""
    found = q.astype(int).copy()
    starts = np.ceil(of.thresholds * np.iinfo(heat.dtype).max)
    for one in parts:
        mine = list(range(one.columns.start, one.columns.stop))
        known = one.figure >= 0 and of.thresholds[one.figure] > 0
        inside = of.of_figure[one.columns]
        for pixel in range(len(q)):
            in_figure = known and q[pixel, one.figure] >= HALF
            best, most = -1, np.float32(0)
            for at, j in enumerate(mine):
                there = heat[:, one.figure] >= starts[one.figure]
                total = float(heat[:, j].astype(float).sum())
                missed = 2 * float(heat[there, j].astype(float).sum()) < total
                if in_figure:
                    may = inside[at]
                else:
                    may = q[pixel, j] >= HALF and (not known or not inside[at] or missed)
                unit = np.float32(1 / of.strength[j]) if of.thresholds[j] > 0 else np.float32(0)
                score = np.float32(heat[pixel, j]) * unit * np.float32(int(q[pixel, j]) + 1)
                if may and score > most:
                    best, most = j, score
            for j in mine:
                value = int(q[pixel, j])
                found[pixel, j] = max(value, HALF) if j == best else min(value, HALF - 1)
    return found


@given(seed=st.integers(0, 10**6), pixels=st.integers(1, 60), eight=st.booleans())
@settings(max_examples=60, deadline=None)
def test_equals_the_slow_rule_and_masks_never_overlap(seed, pixels, eight):
    rng = np.random.default_rng(seed)
    columns = [*COLUMNS, (2, 0, 0), (2, 0, 1), (2, 1, 0), (2, 1, 1)]
    n = len(columns)
    kind = np.uint8 if eight else np.uint16
    q = rng.integers(0, 256, (pixels, n)).astype(np.uint8)
    heat = (rng.random((pixels, n)) ** 3 * np.iinfo(kind).max).astype(kind)
    heat[rng.random(heat.shape) < 0.3] = 0
    within = np.where(rng.random(n) < 0.2, np.nan, rng.random(n))
    thresholds = np.where(rng.random(n) < 0.2, 0.0, rng.random(n))
    parts = parts_of(columns)
    of = Shares(thresholds, 0.05 + rng.random(n), figure_of(within, parts))
    before = q.copy(), heat.copy()
    levels, bits = apart(q, heat, of, parts)
    np.testing.assert_array_equal(levels, reference(q, heat, of, parts))
    np.testing.assert_array_equal(bits, pack_masks(levels >= HALF))
    np.testing.assert_array_equal(levels[:, 0], q[:, 0])  # k = 1 is as it was
    for one in parts:
        assert ((levels[:, one.columns] >= HALF).sum(axis=1) <= 1).all()
    np.testing.assert_array_equal(q, before[0])
    np.testing.assert_array_equal(heat, before[1])


def test_factors_of_the_figure_fill_it_and_the_ground_keeps_out():
    # two pixels of the figure, two beside it; factors 0 and 1 are of the figure, 2 is ground
    q = np.array([[200, 60, 90, 255], [220, 130, 140, 255], [50, 160, 20, 255], [0, 0, 0, 20]])
    heat = np.array(
        [[0.5, 0.3, 0.1, 0.9], [0.5, 0.2, 0.4, 0.9], [0.1, 0.1, 0, 0.5], [0, 0, 0, 0.5]]
    )
    levels, _ = apart(
        q.astype(np.uint8),
        (heat * MOST).astype(np.uint16),
        shares([0.9, 0.8, 0.3]),
        parts_of(COLUMNS),
    )
    masks = levels >= HALF
    assert masks[:, 1:].tolist() == [
        [True, False, False],  # more heat of factor 0 makes up for its lower q
        [False, True, False],
        [False, False, True],  # factor 0 leaks out of the figure, and is cut off
        [False, False, False],  # a pixel of none
    ]


def test_an_image_whose_figure_misses_a_factor_keeps_it():
    # the figure's heat is in pixel 0 alone, that of factor 0 in pixel 1
    q = np.array([[200, 0, 0, 0], [0, 200, 0, 0]], np.uint8)
    heat = (np.array([[0.9, 0.1, 0.2, 0], [0, 0.8, 0, 0]]) * MOST).astype(np.uint16)
    levels, _ = apart(q, heat, shares([0.9, 0.9, 0.9]), parts_of(COLUMNS))
    assert (levels[:, 1] >= HALF).tolist() == [False, True]
    assert (levels[:, 2] >= HALF).tolist() == [True, False]


def test_without_k_1_masks_compete_where_they_are():
    q = np.array([[200, 180, 0], [0, 200, 130], [100, 120, 90]], np.uint8)
    heat = (np.array([[0.4, 0.6, 0.9], [0.4, 0.4, 0.1], [0.9, 0.9, 0.9]]) * MOST).astype(np.uint16)
    parts = parts_of([(3, 0, 0), (3, 0, 1), (3, 0, 2)])
    of = Shares(np.full(3, 0.2), np.full(3, 0.5), figure_of(np.full(3, np.nan), parts))
    levels, _ = apart(q, heat, of, parts)
    assert (levels >= HALF).tolist() == [
        [False, True, False],
        [False, True, False],
        [False, False, False],
    ]


def test_which_factors_are_of_the_figure():
    assert of_figure(np.array([INSIDE, 0.9, 0.59, np.nan])).tolist() == [True, True, False, False]
    assert of_figure(np.array([0.1, 0.3])).tolist() == [False, True], "one always is"
    assert of_figure(np.array([np.nan, np.nan])).tolist() == [False, False]
    assert parts_of([(2, 5, 0), (2, 5, 1), (1, 4, 0), (3, 4, 0), (3, 4, 1), (3, 4, 2)]) == [
        Parts(slice(0, 2), -1),
        Parts(slice(3, 6), 2),
    ]


def test_refuses_what_does_not_fit():
    q, heat = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint16)
    for bad in ((q, heat[:3]), (q.astype(np.uint16), heat), (q[:, :3], heat[:, :3])):
        with pytest.raises(ValueError, match="same pixels and columns"):
            apart(*bad, shares([1, 1, 1]), parts_of(COLUMNS))
