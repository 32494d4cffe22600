"""Heat maps against scipy's spline interpolation; the 16-bit form by hand."""

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
    # scale 2: 1 -> 32767.5 -> 32768 (ties to even); 2 -> 65535; 3 and -1 are clipped;
    # 2 / 65535 is one level. scale 0: zeros.
    maps = np.array([[1.0, 2.0, 3.0, -1.0, 2 / 65535], [1.0, 0.0, 5.0, 7.0, 9.0]])
    assert quantise(maps, [2.0, 0.0]).tolist() == [[32768, 65535, 65535, 0, 1], [0, 0, 0, 0, 0]]


def test_one_scale_for_all_images():
    weak, strong = np.full((1, 2, 2), 0.5, np.float32), np.full((1, 2, 2), 1.0, np.float32)
    assert quantise(weak, [1.0]).max() == 32768 and quantise(strong, [1.0]).max() == 65535


def test_rows_and_maps_quantise_alike():
    maps = np.random.default_rng(0).random((3, 4, 5), dtype=np.float32)
    scale = maps.max(axis=(1, 2))
    rows = maps.reshape(3, -1).T
    levels = quantise(maps, scale)
    np.testing.assert_array_equal(quantise(rows, scale, axis=1), levels.reshape(3, -1).T)
    np.testing.assert_array_equal(quantise(rows, scale, axis=-1), levels.reshape(3, -1).T)
    np.testing.assert_array_equal(
        dequantise(levels.reshape(3, -1).T, scale, axis=1),
        dequantise(levels, scale).reshape(3, -1).T,
    )


@given(scale=st.floats(1e-30, 1e30), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_quantise_undoes_dequantise(scale, seed):
    levels = np.random.default_rng(seed).integers(0, 65536, (1, 50)).astype(np.uint16)
    np.testing.assert_array_equal(quantise(dequantise(levels, scale), scale), levels)


@given(seed=st.integers(0, 99), scale=st.floats(0.1, 10))
@settings(max_examples=50, deadline=None)
def test_dequantise_is_within_half_a_level(seed, scale):
    maps = np.random.default_rng(seed).random((2, 30)) * scale
    error = np.abs(dequantise(quantise(maps, scale), scale) - maps)
    assert error.max() <= scale / 65535 * 0.5 + 1e-6 * scale


def test_smallest_scale_does_not_overflow():
    assert quantise(np.array([[1.0, 5e-324]]), [5e-324]).tolist() == [[65535, 65535]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: upsample(torch.rand(5, 1), (2, 3), (4, 4)), r"\(5, 1\)"),
        (lambda: upsample(torch.rand(6), (2, 3), (4, 4)), r"\(6,\)"),
        (lambda: upsample(torch.rand(0, 1), (0, 3), (4, 4)), r"\(0, 3\)"),
        (lambda: quantise(np.zeros((2, 3)), [1.0]), r"\(1,\)"),
        (lambda: quantise(np.zeros((2, 3)), [1.0, -1.0]), "scale"),
        (lambda: quantise(np.zeros((2, 3)), [1.0, np.nan]), "scale"),
        (lambda: quantise(np.full((1, 3), np.nan), [1.0]), "NaN"),
        (lambda: quantise(np.zeros((2, 3)), [1.0, 1.0], axis=5), r"\(2, 3\)"),
        (lambda: dequantise(np.zeros((1, 3)), [1.0]), "float64"),
    ],
)
def test_refuses_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
