"""The bilateral term against its formula written as loops over pixels and cells, and its laws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2lab

from stages.algorithms.bilateral import Bilateral, torch_lab
from stages.algorithms.colour_term import ColourTerm


def bins(length: int, count: int) -> list[slice]:
    """Pixels of each cell of a thumbnail along one axis: cells may share the pixel on a border."""
    return [slice(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]


def reference_filter(image, signal, term):
    """Weighted mean over the thumbnail's cells, pixel by pixel: [3, h, w], [h, w] -> [h, w]."""
    _, h, w = image.shape
    scale = min(1.0, term.cells / max(h, w))
    rows, columns = bins(h, max(1, round(h * scale))), bins(w, max(1, round(w * scale)))
    lab = rgb2lab(image.transpose(1, 2, 0))
    cells = []
    for i, down in enumerate(rows):
        for j, across in enumerate(columns):
            colour = rgb2lab(image[:, down, across].mean((1, 2)))
            place = (i + 0.5) / len(rows) * h, (j + 0.5) / len(columns) * w
            cells.append((colour, place, signal[down, across].mean()))
    out = np.zeros((h, w))
    for y in range(h):
        for x in range(w):
            votes = total = 0.0
            for colour, (down, across), value in cells:
                distance = np.sum((lab[y, x] - colour) ** 2) / (2 * term.colour**2)
                apart = ((y + 0.5 - down) ** 2 + (x + 0.5 - across) ** 2) / max(h, w) ** 2
                weight = math.exp(-distance - apart / (2 * term.reach**2))
                votes, total = votes + weight * value, total + weight
            out[y, x] = votes / total
    return out


@pytest.mark.parametrize("shape", [(9, 7), (8, 12), (1, 8), (8, 1), (1, 1)])
@pytest.mark.parametrize("cells", [1, 4, 5, 30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_sum_over_all_cells(shape, cells, dtype):
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(1, 3, *shape, generator=generator).double()
    signal = torch.rand(1, 2, *shape, generator=generator).to(dtype)
    term = ColourTerm(colour=20.0, reach=0.3, cells=cells)
    ours = Bilateral.of(image, term, dtype).filter(signal)
    for factor in range(2):
        expected = reference_filter(image[0].numpy(), signal[0, factor].double().numpy(), term)
        np.testing.assert_allclose(ours[0, factor].numpy(), expected, atol=1e-5)


@given(
    value=st.floats(0, 1, width=32),
    h=st.integers(1, 9),
    w=st.integers(1, 9),
    colour=st.sampled_from([0.01, 4.0, 100.0]),
    reach=st.sampled_from([0.001, 0.2, 10.0]),
    level=st.sampled_from([None, 0.0, 1.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_constant_stays_constant_and_values_stay_in_range(value, h, w, colour, reach, level, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 3, h, w, generator=generator)
    if level is not None:
        image = torch.full_like(image, level)
    signal = torch.cat(
        [torch.full((1, 1, h, w), value), torch.rand(1, 1, h, w, generator=generator)], dim=1
    )
    kernel = Bilateral.of(image, ColourTerm(colour=colour, reach=reach, cells=4))
    out = kernel.filter(signal)
    torch.testing.assert_close(out[:, :1], signal[:, :1], atol=1e-5, rtol=0)
    assert out[:, 1].min() >= signal[:, 1].min() - 1e-5
    assert out[:, 1].max() <= signal[:, 1].max() + 1e-5


def test_linear_in_the_signal_and_images_apart():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 6, 8, generator=generator)
    x, y = torch.rand(2, 2, 3, 6, 8, generator=generator).double()
    kernel = Bilateral.of(images, ColourTerm(cells=4), torch.float64)
    together = kernel.filter(2 * x - 3 * y)
    torch.testing.assert_close(together, 2 * kernel.filter(x) - 3 * kernel.filter(y))
    alone = Bilateral.of(images[1], ColourTerm(cells=4), torch.float64)
    torch.testing.assert_close(together[1], alone.filter(2 * x[1] - 3 * y[1]))


def test_votes_cross_what_looks_different():
    """Two red bars on blue: a signal on one of them reaches the other and not what lies between."""
    image = torch.zeros(1, 3, 24, 24)
    image[:, 2] = 1.0
    for bar in (slice(3, 6), slice(18, 21)):
        image[:, :, :, bar] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    signal = torch.zeros(1, 1, 24, 24)
    signal[..., 3:6] = 1.0
    out = Bilateral.of(image, ColourTerm(reach=1.0, cells=24)).filter(signal)
    assert out[..., 18:21].min() > 0.3 and out[..., 8:16].max() < 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ColourTerm(colour=0.0), "colour"),
        (lambda: ColourTerm(weight=-1.0), "weight"),
        (lambda: ColourTerm(cells=0), "cells"),
        (lambda: Bilateral.of(torch.rand(1, 4, 5), ColourTerm()), r"\(1, 4, 5\)"),
        (lambda: Bilateral.of(torch.zeros(3, 4, 5, dtype=torch.uint8), ColourTerm()), "uint8"),
        (
            lambda: Bilateral.of(torch.rand(3, 4, 5), ColourTerm()).filter(torch.rand(1, 5, 4)),
            r"\(1, 5, 4\)",
        ),
    ],
)
def test_refuses_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def every_sixth_colour() -> torch.Tensor:
    """All corners, edges and faces of the RGB cube among its inside, and near black: [3, h, w]."""
    steps = torch.linspace(0, 1, 43, dtype=torch.float64)
    cube = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij")).reshape(3, 43, -1)
    return torch.cat([cube, cube / 50], dim=-1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_lab_is_that_of_skimage(dtype):
    colours = every_sixth_colour().to(dtype)
    expected = rgb2lab(colours.double().numpy(), channel_axis=0)
    np.testing.assert_allclose(torch_lab(colours).numpy(), expected, atol=1e-9)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_lab_on_a_gpu_is_that_of_skimage():
    colours = every_sixth_colour()
    expected = rgb2lab(colours.numpy(), channel_axis=0)
    found = torch_lab(colours.float().cuda()).cpu().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_few_kernels_differ_by_rounding():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 20, 30, generator=generator)
    signal = torch.rand(2, 4, 20, 30, generator=generator)
    term = ColourTerm(cells=8)
    many, few = (Bilateral.of(image, term, few_kernels=x).filter(signal) for x in (False, True))
    torch.testing.assert_close(few, many, atol=1e-5, rtol=0)
