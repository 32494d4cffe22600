"""Compiled steps between whole numbers and probabilities, against the same array by array."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.algorithms.heatmap import dequantise, quantise
from stages.algorithms.masks import binarise, pack_masks
from stages.algorithms.mean_field import unary
from stages.algorithms.whole_numbers import (
    by_column,
    halves,
    masks_of_halves,
    near_largest,
    probabilities,
)

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 17))


@settings(max_examples=60, deadline=None)
@given(size=sizes, dtype=st.sampled_from([np.uint8, np.uint16]), seed=st.integers(0, 99))
def test_probabilities_are_those_of_the_shares(size, dtype, seed):
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, np.iinfo(dtype).max, size, dtype, endpoint=True)
    thresholds = rng.choice([0.0, -1.0, 1e-45, 0.2, 0.7], size[2])
    heat = torch.from_numpy(np.moveaxis(dequantise(levels), -1, 0).copy())
    expected = unary(heat, torch.from_numpy(thresholds)).numpy()
    assert probabilities(levels, thresholds).tobytes() == expected.tobytes()


@settings(max_examples=60, deadline=None)
@given(size=sizes, seed=st.integers(0, 99))
def test_halves_are_levels_and_masks(size, seed):
    rng = np.random.default_rng(seed)
    h, w, columns = size
    q = rng.uniform(-0.1, 1.1, (columns, h, w)).astype(np.float32)
    q[rng.random(q.shape) < 0.2] = 0.5
    present = rng.random(columns) < 0.7
    levels, bits = halves(q, present)
    rows = np.where(present[:, None, None], q, 0).reshape(columns, -1).T
    np.testing.assert_array_equal(levels, quantise(rows, np.uint8))
    np.testing.assert_array_equal(bits, pack_masks(binarise(rows, 0.5)))
    np.testing.assert_array_equal(masks_of_halves(levels), bits)


@settings(max_examples=60, deadline=None)
@given(size=sizes, dtype=st.sampled_from([np.uint8, np.uint16]), seed=st.integers(0, 99))
def test_by_column_are_the_same_numbers(size, dtype, seed):
    levels = np.random.default_rng(seed).integers(0, 256, size).astype(dtype)
    found = by_column(levels)
    np.testing.assert_array_equal(found, levels)
    assert found.dtype == dtype and found.transpose(2, 0, 1).flags.c_contiguous
    assert np.shares_memory(by_column(found), found), "turned already"


@settings(max_examples=60, deadline=None)
@given(
    size=sizes,
    dtype=st.sampled_from([np.uint8, np.uint16]),
    share=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_near_the_largest_in_numpy(size, dtype, share, seed):
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    levels = rng.integers(0, top, size, dtype, endpoint=True)
    least = rng.choice([0.0, 0.3, 1.5], size[2]) * top
    chosen = rng.random(size[2]) < 0.7
    reached = levels >= np.maximum(share * levels.max(axis=(0, 1)).astype(float), least)
    expected = pack_masks((reached & chosen).reshape(-1, size[2]))
    np.testing.assert_array_equal(near_largest(levels, share, least, chosen), expected)


def test_nan_is_refused_unless_its_factor_is_absent():
    q = np.full((2, 3, 4), 0.7, np.float32)
    q[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        halves(q, np.ones(2, bool))
    assert not halves(q, np.array([True, False]))[0][:, 1].any()


def test_thresholds_that_do_not_fit():
    with pytest.raises(ValueError, match=r"\(3,\).*\(2, 2, 4\)"):
        probabilities(np.zeros((2, 2, 4), np.uint16), np.ones(3))
