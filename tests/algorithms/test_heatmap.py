"""Heat maps against scipy's spline interpolation; their form in whole numbers by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from stages.algorithms.heatmap import dequantise, quantise, upsample


@pytest.mark.parametrize(
    ("grid", "size"),
    [((3, 4), (9, 16)), ((1, 1), (5, 3)), ((4, 1), (4, 7)), ((5, 6), (3, 4)), ((2, 3), (7, 5))],
)
def test_upsample_equals_scipy(grid, size):
    rows = np.random.default_rng(0).random((grid[0] * grid[1], 2))
    ours = upsample(torch.from_numpy(rows), grid, size)
    assert ours.shape == (2, *size) and ours.dtype == torch.float32
    # Pixel centres in units of cells; beyond the outer cell centres the value is held.
    places = [(np.arange(s) + 0.5) * g / s - 0.5 for g, s in zip(grid, size, strict=True)]
    y, x = np.meshgrid(*places, indexing="ij")
    for factor in range(2):
        cells = rows[:, factor].reshape(grid)
        expected = map_coordinates(cells, [y, x], order=1, mode="nearest")
        np.testing.assert_allclose(ours[factor].numpy(), expected, atol=1e-6)


def test_upsample_by_hand():
    # Two cells 0 and 8 to four pixels: centres at -.25, .25, .75, 1.25 cells -> 0, 2, 6, 8.
    out = upsample(torch.tensor([[0.0], [8.0]]), (1, 2), (1, 4))
    assert out.tolist() == [[[0.0, 2.0, 6.0, 8.0]]]


def test_rows_are_row_major():
    out = upsample(torch.arange(6.0)[:, None], (2, 3), (2, 3))
    assert out.tolist() == [[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]


def test_no_factors_is_no_maps():
    assert upsample(torch.zeros(6, 0), (2, 3), (4, 6)).shape == (0, 4, 6)


def test_quantise_by_hand():
    # a half: 32767.5 -> 32768 and 127.5 -> 128 (ties to even); beyond [0, 1] it is clipped
    shares = np.array([0.5, 1.0, 1.5, -1.0, 1 / 65535, 0.49 / 65535])
    assert quantise(shares).tolist() == [32768, 65535, 65535, 0, 1, 0]
    assert quantise(shares, np.uint8).tolist() == [128, 255, 255, 0, 0, 0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_quantise_undoes_dequantise(dtype):
    levels = np.arange(np.iinfo(dtype).max + 1).astype(dtype)
    np.testing.assert_array_equal(quantise(dequantise(levels), dtype), levels)


@given(seed=st.integers(0, 99), dtype=st.sampled_from([np.uint8, np.uint16]))
@settings(max_examples=50, deadline=None)
def test_dequantise_is_within_half_a_level(seed, dtype):
    shares = np.random.default_rng(seed).random((2, 30))
    error = np.abs(dequantise(quantise(shares, dtype)) - shares)
    assert error.max() <= 0.5 / np.iinfo(dtype).max + 1e-6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: upsample(torch.rand(5, 1), (2, 3), (4, 4)), r"\(5, 1\)"),
        (lambda: upsample(torch.rand(6), (2, 3), (4, 4)), r"\(6,\)"),
        (lambda: upsample(torch.rand(0, 1), (0, 3), (4, 4)), r"\(0, 3\)"),
        (lambda: quantise(np.full((1, 3), np.nan)), "NaN"),
    ],
)
def test_refuses_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
