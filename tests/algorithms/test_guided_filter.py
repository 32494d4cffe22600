"""The guided filter against He's formulas written as loops over windows, and its laws."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.algorithms.guided_filter import Guide, guided_filter
from stages.algorithms.windows import box_mean, window_matrix


def window(at: int, radius: int, length: int) -> slice:
    return slice(max(0, at - radius), min(length, at + radius + 1))


def reference_filter(guide, signal, radius, eps):
    """He et al. 2013, eqs. 19-21, one window at a time: guide [3, h, w], signal [h, w]."""
    _, h, w = guide.shape
    slope, offset, out = np.zeros((h, w, 3)), np.zeros((h, w)), np.zeros((h, w))
    for i in range(h):
        for j in range(w):
            rows, columns = window(i, radius, h), window(j, radius, w)
            colours = guide[:, rows, columns].reshape(3, -1)
            values = signal[rows, columns].ravel()
            sigma = np.cov(colours, bias=True) if values.size > 1 else np.zeros((3, 3))
            covariance = (colours * values).mean(1) - colours.mean(1) * values.mean()
            slope[i, j] = np.linalg.solve(sigma + eps * np.eye(3), covariance)
            offset[i, j] = values.mean() - slope[i, j] @ colours.mean(1)
    for i in range(h):
        for j in range(w):
            rows, columns = window(i, radius, h), window(j, radius, w)
            mean_slope = slope[rows, columns].reshape(-1, 3).mean(0)
            out[i, j] = mean_slope @ guide[:, i, j] + offset[rows, columns].mean()
    return out


def example(h, w, n=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    guide = torch.rand(1, 3, h, w, generator=generator)
    return guide, torch.rand(1, n, h, w, generator=generator)


@pytest.mark.parametrize("shape", [(9, 7), (1, 8), (8, 1), (1, 1), (5, 12)])
@pytest.mark.parametrize("radius", [0, 1, 2, 30])
@pytest.mark.parametrize("eps", [1e-4, 1e-2])
def test_equals_explicit_windows(shape, radius, eps):
    guide, signal = example(*shape, n=2)
    ours = guided_filter(guide, signal, radius, eps)
    for factor in range(2):
        expected = reference_filter(
            guide[0].double().numpy(), signal[0, factor].double().numpy(), radius, eps
        )
        np.testing.assert_allclose(ours[0, factor].numpy(), expected, atol=1e-5)


def test_flat_but_noisy_guide_equals_explicit_windows():
    # Variance far below eps on a bright ground: where float32 statistics would be off by 1e-3.
    guide, signal = example(10, 9)
    guide = 0.9 + 0.003 * guide
    expected = reference_filter(guide[0].double().numpy(), signal[0, 0].double().numpy(), 3, 1e-4)
    ours = guided_filter(guide, signal, 3, 1e-4)[0, 0].numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@given(h=st.integers(1, 9), w=st.integers(1, 9), radius=st.integers(0, 12), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_box_mean_is_the_mean_of_the_window(h, w, radius, seed):
    values = np.random.default_rng(seed).random((h, w))
    expected = [
        [values[window(i, radius, h), window(j, radius, w)].mean() for j in range(w)]
        for i in range(h)
    ]
    np.testing.assert_allclose(
        box_mean(torch.from_numpy(values), radius).numpy(), expected, atol=1e-12
    )


@given(
    value=st.floats(-3, 3, width=32),
    h=st.integers(1, 8),
    w=st.integers(1, 8),
    radius=st.integers(0, 10),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_constant_stays_constant(value, h, w, radius, seed):
    guide, _ = example(h, w, seed=seed)
    out = guided_filter(guide, torch.full((1, 2, h, w), value), radius, 1e-4)
    torch.testing.assert_close(out, torch.full((1, 2, h, w), value), atol=1e-6, rtol=1e-6)


@given(a=st.floats(-2, 2), b=st.floats(-2, 2), seed=st.integers(0, 99), radius=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_linear_in_the_signal(a, b, seed, radius):
    guide, signal = example(6, 7, n=2, seed=seed)
    x, y = signal.double().split(1, dim=1)
    statistics = Guide.of(guide, radius, 1e-3)
    together = statistics.filter(a * x + b * y)
    apart = a * statistics.filter(x) + b * statistics.filter(y)
    torch.testing.assert_close(together, apart, atol=1e-9, rtol=0)


def test_keeps_the_edges_of_the_guide_and_smooths_elsewhere():
    guide = torch.zeros(1, 3, 24, 24)
    guide[..., 12:] = 1.0
    noise = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(1)) - 0.5
    step = guide[:, :1] + 0.2 * noise
    out = guided_filter(guide, step, 4, 1e-4)
    assert out[..., 12:].min() > 0.9 and out[..., :12].max() < 0.1
    assert (out - guide[:, :1]).std() < 0.25 * (step - guide[:, :1]).std()
    # The same signal under a guide without the edge is blurred across it.
    flat = guided_filter(torch.full_like(guide, 0.5), guide[:, :1], 4, 1e-4)
    assert 0.3 < flat[0, 0, 12, 12] < 0.7


@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 1), (6, 6)])
@pytest.mark.parametrize("level", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("radius", [0, 3, 100])
def test_finite_on_constant_and_saturated_guides(shape, level, radius):
    _, signal = example(*shape)
    out = guided_filter(torch.full((1, 3, *shape), level), signal, radius, 1e-8)
    assert torch.isfinite(out).all()
    # A constant guide explains nothing: what is left is a box mean of box means.
    twice = box_mean(box_mean(signal.double(), radius), radius)
    torch.testing.assert_close(out.double(), twice, atol=1e-5, rtol=0)


def test_radius_beyond_the_image_is_the_whole_image():
    guide, signal = example(7, 5)
    statistics = guided_filter(guide, signal, 7, 1e-3)
    torch.testing.assert_close(guided_filter(guide, signal, 10_000, 1e-3), statistics)


def test_subsampled_is_near_where_the_signal_is_smooth():
    """Fast guided filter: exact for constants, close for a blob on a smooth guide."""
    rows = torch.linspace(0, 1, 96)
    guide = torch.stack([rows[:, None] * rows, rows[:, None].expand(96, 96), rows.expand(96, 96)])
    blob = torch.exp(-((rows[:, None] - 0.5) ** 2 + (rows - 0.4) ** 2) / 0.1)
    full = guided_filter(guide[None], blob[None, None], 12, 1e-3)
    fast = guided_filter(guide[None], blob[None, None], 12, 1e-3, subsample=4)
    assert 0 < (fast - full).abs().max() < 0.02
    flat = torch.full((1, 1, 96, 96), 0.7)
    torch.testing.assert_close(guided_filter(guide[None], flat, 12, 1e-3, subsample=4), flat)


def test_batch_is_the_images_one_by_one():
    guides, signals = zip(*(example(6, 8, n=3, seed=s) for s in range(3)), strict=True)
    together = guided_filter(torch.cat(guides), torch.cat(signals), 2, 1e-3)
    for at, (guide, signal) in enumerate(zip(guides, signals, strict=True)):
        assert torch.equal(together[at], guided_filter(guide[0], signal[0], 2, 1e-3))


def test_dtype_is_the_signals_and_inputs_stay():
    guide, signal = example(5, 5)
    before = guide.clone(), signal.clone()
    assert guided_filter(guide, signal.double(), 2, 1e-3).dtype == torch.float64
    assert guided_filter(guide.double(), signal, 2, 1e-3).dtype == torch.float32
    assert torch.equal(guide, before[0]) and torch.equal(signal, before[1])


@pytest.mark.parametrize(
    ("guide", "signal", "radius", "eps", "message"),
    [
        (torch.rand(1, 1, 4, 5), torch.rand(1, 1, 4, 5), 1, 1e-3, r"\(1, 1, 4, 5\)"),
        (torch.rand(1, 3, 4, 5), torch.rand(1, 1, 5, 4), 1, 1e-3, r"\(1, 1, 5, 4\)"),
        (torch.rand(2, 3, 4, 5), torch.rand(1, 1, 4, 5), 1, 1e-3, r"\(2, 3, 4, 5\)"),
        (torch.rand(1, 3, 0, 5), torch.rand(1, 1, 0, 5), 1, 1e-3, r"\(1, 3, 0, 5\)"),
        (torch.zeros(1, 3, 4, 5, dtype=torch.uint8), torch.rand(1, 1, 4, 5), 1, 1e-3, "uint8"),
        (torch.rand(1, 3, 4, 5), torch.ones(1, 1, 4, 5, dtype=torch.bool), 1, 1e-3, "bool"),
        (torch.rand(1, 3, 4, 5), torch.rand(1, 1, 4, 5), -1, 1e-3, "-1"),
        (torch.rand(1, 3, 4, 5), torch.rand(1, 1, 4, 5), 1, 0.0, "eps"),
        (torch.rand(1, 3, 4, 5), torch.rand(1, 1, 4, 5), 1, 1e-3, "subsample"),
    ],
)
def test_refuses_what_does_not_fit(guide, signal, radius, eps, message):
    with pytest.raises(ValueError, match=message):
        guided_filter(guide, signal, radius, eps, subsample=0 if message == "subsample" else 1)


@given(h=st.integers(1, 9), w=st.integers(1, 9), radius=st.integers(0, 12), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_windows_as_matrices_are_box_means(h, w, radius, seed):
    values = torch.from_numpy(np.random.default_rng(seed).random((2, h, w)))
    rows, columns = (window_matrix(side, radius, values.device) for side in (h, w))
    torch.testing.assert_close(rows @ values @ columns.T, box_mean(values, radius))


@pytest.mark.parametrize("shape", [(9, 7), (1, 8), (40, 300)])
@pytest.mark.parametrize("radius", [0, 2, 30])
def test_few_kernels_differ_by_rounding(shape, radius):
    guide, signal = example(*shape, n=3)
    guide = 0.9 + 0.003 * guide  # little variance on a bright ground
    many, few = (Guide.of(guide, radius, 1e-4, few_kernels=x) for x in (False, True))
    assert (few.matrices is not None) == (max(shape) <= 256)
    torch.testing.assert_close(few.filter(signal), many.filter(signal), atol=1e-6, rtol=0)
    torch.testing.assert_close(few.fit(signal), many.fit(signal), atol=1e-6, rtol=1e-6)
