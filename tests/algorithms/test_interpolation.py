"""Compiled heat maps against the same step by step, and their percentiles against numpy's."""

from threading import Lock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.algorithms.heatmap import quantise, upsample
from stages.algorithms.interpolation import count, draw, sample, upsampled
from stages.algorithms.masks import binarise, pack_masks
from stages.algorithms.ranks import Brackets, Counts, two_neighbours

# Of grids, and of the maps that are made from them.
SHAPES = {
    "h": st.integers(1, 9),
    "w": st.integers(1, 9),
    "size": st.tuples(st.integers(1, 40), st.integers(1, 40)),
    "columns": st.sampled_from([1, 3, 4, 7, 8, 9, 17]),
}


def step_by_step(grid, size):
    """Interpolated coefficients ``[H * W, columns]`` by torch."""
    h, w, columns = grid.shape
    maps = upsample(torch.from_numpy(grid.reshape(-1, columns)), (h, w), size)
    return maps.reshape(columns, -1).T.numpy()


def shares_of(values, scale):
    clipped = np.clip(values.astype(np.float64), 0, scale)
    return (clipped / np.where(scale > 0, scale, 1.0)).astype(np.float32)


def drawn(h, w, columns, seed):
    rng = np.random.default_rng(seed)
    grid = rng.gamma(0.3, 1, (h, w, columns)).astype(np.float32)
    grid[rng.random(grid.shape) < 0.3] = 0
    return grid - np.float32(0.05) * (np.arange(columns) % 2 == 1)  # as PCA's may be


@settings(max_examples=60, deadline=None)
@given(**SHAPES, seed=st.integers(0, 99))
def test_levels_and_masks_are_those_of_the_steps(h, w, size, columns, seed):
    grid = drawn(h, w, columns, seed)
    scale = np.maximum(grid.max(axis=(0, 1)), 0).astype(np.float64)
    scale[::3] *= 0.75  # clipped, as under pinned factors
    thresholds = np.linspace(0, 0.9, columns)
    planes, bits = draw(grid, size, scale, thresholds)
    levels = planes.T
    shares = shares_of(step_by_step(grid, size), scale)
    # torch's last bit depends on the machine
    away = np.abs(levels.astype(int) - quantise(shares))
    assert away.max() <= 1 and (away > 0).mean() < 0.1
    near = np.abs(shares - thresholds) < 1e-6
    expected = pack_masks(binarise(shares, thresholds, axis=1) & ~near)
    assert (bits & ~pack_masks(near) == expected).all()
    assert not (bits[:, 0] & 1).any(), "a threshold of 0 is an empty mask"


@settings(max_examples=60, deadline=None)
@given(**SHAPES, same=st.booleans())
def test_maps_are_torchs_at_any_size(h, w, size, columns, same):
    grid, size = drawn(h, w, columns, 0), (h, w) if same else size
    expected = step_by_step(grid, size).T.reshape(columns, *size)
    np.testing.assert_allclose(upsampled(grid, size), expected, rtol=1e-6, atol=1e-7)
    if same:
        np.testing.assert_array_equal(upsampled(grid, size), np.moveaxis(grid, 2, 0))


def test_shares_by_hand():
    # scale 2: 1 is a half; 3 and -1 are clipped. scale 0: zeros, whatever there is.
    grid = np.array([[[1, 1], [2, 0], [3, 5], [-1, 7]]], np.float32)
    levels, bits = draw(grid, (1, 4), np.array([2.0, 0.0]), np.array([0.5, 0.1]))
    assert levels.tolist() == [[32768, 65535, 65535, 0], [0, 0, 0, 0]]
    assert bits.tolist() == [[1], [1], [1], [0]]


def test_a_mask_begins_at_the_exact_threshold():
    share = np.float32(0.3)
    grid = np.array([[[share], [np.nextafter(share, np.float32(0))]]], np.float32)
    for threshold in (float(share), np.nextafter(float(share), 0)):
        bits = draw(grid, (1, 2), np.ones(1), np.array([threshold]))[1]
        assert bits.tolist() == [[1], [0]]
    assert not draw(grid, (1, 2), np.ones(1), np.array([np.nextafter(float(share), 1)]))[1].any()


def test_smallest_scale_does_not_overflow():
    levels, _ = draw(np.array([[[1], [1e-45]]], np.float32), (1, 2), np.array([1e-45]), np.ones(1))
    assert levels.tolist() == [[65535, 65535]]


def test_a_column_is_the_same_whatever_is_beside_it_and_where_it_is_written():
    grid = drawn(5, 7, 8, 0)
    scale, thresholds = np.ones(8), np.full(8, 0.3)
    levels, bits = draw(grid, (20, 30), scale, thresholds)
    room = np.empty_like(levels), np.empty_like(bits)
    assert draw(np.tile(grid, 2)[..., :8], (20, 30), scale, thresholds, room)[0] is room[0]
    np.testing.assert_array_equal(room[0], levels)
    np.testing.assert_array_equal(room[1], bits)


@pytest.mark.parametrize("q", [0, 33, 75, 99.9, 100])
@pytest.mark.parametrize("points", [1, 50, 10**6])
@pytest.mark.parametrize("kept", [-1, 10**6])
def test_neighbouring_ranks_are_those_of_all_values_sorted(q, points, kept):
    """Whether the numbers inside brackets are kept or counted in bins."""
    grids = [drawn(5, 6, 4, seed) for seed in range(3)]
    grids[1][..., 2] = 0
    for grid in grids:
        grid[..., 3] = np.float32(0.25)  # the same everywhere
    sizes = [(30, 41), (17, 50), (41, 30)]
    images = list(zip(grids, sizes, strict=True))
    values = np.concatenate([np.maximum(sample(grid, size, 10**9), 0) for grid, size in images])
    assert len(values) == sum(h * w for h, w in sizes)
    some = np.concatenate([sample(grid, size, points) for grid, size in images])
    passes = 0

    def counted(brackets: Brackets) -> Counts:
        nonlocal passes
        passes += 1
        counts, lock = Counts.none(4), Lock()
        for grid, size in images:
            count(grid, size, brackets, counts, lock)
        return counts

    rank = int((len(values) - 1) * q / 100)
    found = two_neighbours(some, len(values), rank, counted, kept)
    ordered = np.sort(values, axis=0)
    np.testing.assert_array_equal(found[0], ordered[rank])
    np.testing.assert_array_equal(found[1], ordered[min(rank + 1, len(values) - 1)])
    assert passes <= (5 if kept < 0 or points == 1 else 2)


@pytest.mark.parametrize("kept", [-1, 10**6])
def test_a_sample_that_misleads_costs_passes_and_nothing_else(kept):
    grid = drawn(4, 4, 3, 0) + np.float32(0.01)
    ordered = np.sort(sample(grid, (60, 60), 10**9), axis=0)
    for wrong in (np.zeros((500, 3)), np.full((500, 3), 1e9), np.full((500, 3), 1e-9)):

        def counted(brackets: Brackets) -> Counts:
            counts = Counts.none(3)
            count(grid, (60, 60), brackets, counts, Lock())
            return counts

        found = two_neighbours(wrong.astype(np.float32), 3600, 2000, counted, kept)
        np.testing.assert_array_equal(found, (ordered[2000], ordered[2001]))


@pytest.mark.parametrize(
    ("grid", "size", "scale", "message"),
    [
        (np.zeros((2, 3), np.float32), (4, 4), 1, r"\(2, 3\)"),
        (np.zeros((2, 3, 1)), (4, 4), 1, "float64"),
        (np.zeros((0, 3, 1), np.float32), (4, 4), 1, r"\(0, 3, 1\)"),
        (np.zeros((2, 3, 1), np.float32), (0, 4), 1, r"\(0, 4\)"),
        (np.full((2, 3, 1), np.nan, np.float32), (4, 4), 1, "NaN"),
        (np.full((2, 3, 1), np.inf, np.float32), (4, 4), 1, "NaN"),
        (np.zeros((2, 3, 1), np.float32), (4, 4), -1, "scale"),
        (np.zeros((2, 3, 1), np.float32), (4, 4), np.nan, "scale"),
    ],
)
def test_refuses_what_does_not_fit(grid, size, scale, message):
    with pytest.raises(ValueError, match=message):
        draw(grid, size, np.array([scale], float), np.ones(1))
