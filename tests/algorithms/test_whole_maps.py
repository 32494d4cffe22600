"""Whole numbers on a device against numpy's, which the artifacts are made of elsewhere."""

import numpy as np
import pytest
import torch

from stages.algorithms.heatmap import dequantise, quantise
from stages.algorithms.masks import pack_masks
from stages.algorithms.whole_maps import packed, quantised, rows_of, shares_of_levels

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ),
]
SIZE = 5, 6


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_level_is_the_share_it_is_in_numpy(device, dtype):
    levels = np.arange(np.iinfo(dtype).max + 1).astype(dtype).reshape(1, -1, 2)
    given = levels.view(np.int16) if dtype == np.uint16 else levels
    size = levels.shape[1] // 16, 16
    shares = shares_of_levels(torch.from_numpy(given).to(device), size)
    assert shares.shape == (1, 2, *size)
    np.testing.assert_array_equal(rows_of(shares).cpu().numpy(), dequantise(levels))


@pytest.mark.parametrize("device", DEVICES)
def test_rounding_is_that_of_numpy(device):
    halves = (np.arange(256) + 0.5) / 255
    shares = np.concatenate([halves, np.linspace(-0.1, 1.1, 344)]).astype(np.float32)
    found = quantised(torch.from_numpy(shares.reshape(1, 20, *SIZE)).to(device))
    np.testing.assert_array_equal(found.cpu().numpy().ravel(), quantise(shares, np.uint8))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("columns", [1, 4, 8, 9, 19])
def test_masks_are_packed_as_on_disk(device, columns):
    masks = np.random.default_rng(columns).random((2, 30, columns)) < 0.5
    planes = torch.from_numpy(masks).transpose(1, 2).reshape(2, columns, *SIZE)
    bits = packed(planes.to(device)).cpu().numpy()
    np.testing.assert_array_equal(bits, np.stack([pack_masks(one) for one in masks]))
