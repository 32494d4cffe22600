"""Compiled steps between whole numbers and probabilities, against the same array by array."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.algorithms.heatmap import dequantise, quantise
from stages.algorithms.masks import binarise, pack_masks
from stages.algorithms.mean_field import unary
from stages.algorithms.whole_numbers import halves, probabilities

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


def test_nan_is_refused_unless_its_factor_is_absent():
    q = np.full((2, 3, 4), 0.7, np.float32)
    q[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        halves(q, np.ones(2, bool))
    assert not halves(q, np.array([True, False]))[0][:, 1].any()


def test_thresholds_that_do_not_fit():
    with pytest.raises(ValueError, match=r"\(3,\).*\(2, 2, 4\)"):
        probabilities(np.zeros((2, 2, 4), np.uint16), np.ones(3))
