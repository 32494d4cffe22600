"""Mean field against the label-by-label form of Kraehenbuehl and Koltun, and its unary."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.algorithms.bilateral import Bilateral
from stages.algorithms.colour_term import ColourTerm
from stages.algorithms.guided_filter import guided_filter
from stages.algorithms.inference import images
from stages.algorithms.mean_field import mean_field, unary


def example(h, w, n=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, h, w, generator=generator), torch.rand(1, n, h, w, generator=generator)


@pytest.mark.parametrize("p", [0.2, 0.5, 0.53, 0.9])
@pytest.mark.parametrize("weight", [0.0, 1.0, 10.0])
def test_uniform_image_follows_the_scalar_recursion(p, weight):
    # A constant comes out of the filter unchanged, so every pixel obeys
    # q <- 1 / (1 + exp(-(log(p / (1 - p)) + w (2 q - 1)))), w the weights of both filters together
    q = p
    for _ in range(3):
        q = 1 / (1 + math.exp(-(math.log(p / (1 - p)) + 1.5 * weight * (2 * q - 1))))
    guide, _ = example(5, 6)
    colour = ColourTerm(weight=0.5 * weight, cells=3)
    out = mean_field(
        guide, torch.full((1, 2, 5, 6), p), 2, weight=weight, iterations=3, colour=colour
    )
    torch.testing.assert_close(out, torch.full((1, 2, 5, 6), q), atol=2e-5, rtol=0)


COLOUR = ColourTerm(weight=2.0, colour=30.0, reach=0.5, cells=4)


def labels_mean_field(guide, unaries, radius, eps, weight, iterations, colour):
    """Algorithm 1 of the CRF paper over explicit labels: unaries [labels, h, w]. The Potts
    message to a label is the filtered mass of all the others, which it pays for."""
    q = unaries / unaries.sum(0)
    for _ in range(iterations):
        labels = torch.from_numpy(q)[None]
        smooth = weight * guided_filter(guide, labels, radius, eps)[0].numpy()
        if colour:
            far = Bilateral.of(guide, colour, torch.float64).filter(labels)[0].numpy()
            smooth = smooth + colour.weight * far
        energy = np.stack([np.delete(smooth, at, 0).sum(0) for at in range(len(q))])
        q = unaries * np.exp(-energy)
        q = q / q.sum(0)
    return q


@pytest.mark.parametrize("colour", [None, COLOUR])
@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_independent_equals_two_labels_per_factor(iterations, colour):
    guide, p = example(8, 7, n=3)
    out = mean_field(guide, p.double(), 2, 1e-3, 3.0, iterations, colour=colour)[0].numpy()
    for at in range(3):
        clamped = p[0, at].double().clamp(1e-4, 1 - 1e-4).numpy()
        two = np.stack([1 - clamped, clamped])
        expected = labels_mean_field(guide, two, 2, 1e-3, 3.0, iterations, colour)[1]
        np.testing.assert_allclose(out[at], expected, atol=1e-9)


@pytest.mark.parametrize("colour", [None, COLOUR])
@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_joint_equals_all_labels_with_background(iterations, colour):
    guide, p = example(8, 7, n=3)
    out = mean_field(guide, p.double(), 2, 1e-3, 3.0, iterations, True, colour)[0].numpy()
    clamped = p[0].double().clamp(1e-4, 1 - 1e-4).numpy()
    labels = np.concatenate([clamped, 1 - clamped.max(0, keepdims=True)])
    expected = labels_mean_field(guide, labels, 2, 1e-3, 3.0, iterations, colour)[:3]
    np.testing.assert_allclose(out, expected, atol=1e-9)


def test_one_factor_joint_is_independent():
    guide, p = example(6, 6)
    torch.testing.assert_close(
        mean_field(guide, p.double(), 2, joint=True), mean_field(guide, p.double(), 2)
    )


def test_default_radius_is_a_14th_of_the_long_side():
    guide, p = example(28, 20)
    assert torch.equal(mean_field(guide, p), mean_field(guide, p, 2))


@pytest.mark.parametrize("joint", [False, True])
def test_flat_image_gives_the_same_at_any_working_resolution(joint):
    guide, p = torch.full((1, 3, 37, 50), 0.5), torch.full((1, 2, 37, 50), 0.6).double()
    small, whole = (mean_field(guide, p, 6, joint=joint, working_side=s) for s in (16, 0))
    torch.testing.assert_close(small, whole, atol=1e-9, rtol=0)


@pytest.mark.parametrize("shape", [(37, 50), (64, 20), (41, 1)])
def test_working_resolution_by_its_steps(shape):
    """All updates but the last on small images, the last at full size, by windows written out."""
    guide, p = example(*shape, n=2)
    p = p.double()
    side, h, w = 16, *shape
    size = max(1, round(h * side / max(h, w))), max(1, round(w * side / max(h, w)))
    small, p_small = (torch.nn.functional.adaptive_avg_pool2d(x, size) for x in (guide, p))
    radius = round(6 * side / max(h, w))
    q = mean_field(small, p_small, radius, 1e-3, 3.0, 3, colour=COLOUR)
    out = mean_field(guide, p, 6, 1e-3, 3.0, 4, colour=COLOUR, working_side=side)
    torch.testing.assert_close(out, _last_update(guide, p, small, q, radius), atol=1e-6, rtol=0)


def _last_update(guide, p, small, q, radius):
    """He and Sun's fast guided filter, from linear models found by least squares per window."""
    far = Bilateral.of(small, COLOUR, torch.float64).filter(q)
    fits = 3.0 * window_fits(small, q, radius) + COLOUR.weight * window_fits(small, far, 2)
    h, w = guide.shape[-2:]
    n = q.shape[1]
    planes = torch.nn.functional.interpolate(
        fits.reshape(1, n * 4, *q.shape[-2:]), size=(h, w), mode="bilinear", align_corners=False
    ).reshape(1, n, 4, h, w)
    smooth = (planes[:, :, :3] * guide[:, None]).sum(2) + planes[:, :, 3]
    evidence = torch.logit(p.clamp(1e-4, 1 - 1e-4))
    return torch.sigmoid(evidence + 2 * smooth - (3.0 + COLOUR.weight))


def window_fits(guide, signal, radius):
    """Window means of each window's ridge regression of the signal on the colours [1, n, 4, ..]."""
    h, w = guide.shape[-2:]
    fits = torch.zeros(signal.shape[1], 4, h, w, dtype=torch.float64)

    def window(i, j):
        return slice(max(0, i - radius), i + radius + 1), slice(max(0, j - radius), j + radius + 1)

    for i in range(h):
        for j in range(w):
            rows, columns = window(i, j)
            colours = guide[0, :, rows, columns].reshape(3, -1).double().numpy()
            for f in range(signal.shape[1]):
                values = signal[0, f, rows, columns].reshape(-1).numpy()
                apart = colours - colours.mean(1, keepdims=True)
                sigma = apart @ apart.T / values.size + 1e-3 * np.eye(3)
                slope = np.linalg.solve(sigma, apart @ (values - values.mean()) / values.size)
                offset = values.mean() - slope @ colours.mean(1)
                fits[f, :, i, j] = torch.from_numpy(np.append(slope, offset))
    means = torch.zeros_like(fits)
    for i in range(h):
        for j in range(w):
            rows, columns = window(i, j)
            means[:, :, i, j] = fits[:, :, rows, columns].mean((-1, -2))
    return means[None]


def scene(h, w, n=4, batch=2, seed=0):
    """Smooth colours with some noise and blobs of heat: q takes all values between 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3 + n, 9, 12, generator=generator)
    planes = torch.nn.functional.interpolate(coarse, size=(h, w), mode="bilinear")
    guide = planes[:, :3] + 0.02 * torch.randn(batch, 3, h, w, generator=generator)
    return guide.clamp(0, 1), unary(planes[:, 3:] ** 2, torch.full((batch, n), 0.25))


FORMS = [{}, {"joint": True}, {"working_side": 0, "colour": None}, {"working_side": 96}]


@pytest.mark.parametrize("form", FORMS)
def test_few_kernels_differ_by_rounding(form):
    guide, p = scene(150, 200)
    many, few = (mean_field(guide, p, few_kernels=x, **form) for x in (False, True))
    assert ((many > 0.02) & (many < 0.98)).float().mean() > 0.01
    exact = mean_field(guide.double(), p.double(), **form)
    torch.testing.assert_close(few.double(), exact, atol=1e-3, rtol=0)
    # of votes, those too faint to count are left out: felt where a pixel is about to turn over
    away = (many.double() - exact).abs()
    assert away.max() < 0.05 and (away > 1e-3).double().mean() < 2e-3
    assert ((many >= 0.5) != (exact >= 0.5)).double().mean() < 1e-4


@pytest.mark.parametrize("n", [1, 15, 16, 17, 40])
def test_any_number_of_factors(n):
    guide, p = scene(40, 50, n, batch=1)
    exact = mean_field(guide.double(), p.double(), working_side=32)
    found = mean_field(guide, p, working_side=32)
    # a pixel that hangs in the balance may turn over
    assert ((found >= 0.5) != (exact >= 0.5)).double().mean() < 1e-3
    assert ((found - exact).abs() > 1e-3).double().mean() < 2e-3


def test_the_compiled_loops_are_taken_and_do_not_depend_on_threads(monkeypatch):
    guide, p = scene(60, 80)
    together = mean_field(guide, p)
    with ThreadPoolExecutor(4) as threads:
        for one in threads.map(lambda i: mean_field(guide[i % 2][None], p[i % 2][None]), range(8)):
            assert any(torch.equal(one[0], q) for q in together)
    monkeypatch.setattr(images, "_lanes_work", lambda: False)
    by_steps = mean_field(guide, p)
    assert not torch.equal(by_steps, together)
    torch.testing.assert_close(by_steps, together, atol=0.05, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(120, 90), (375, 500)])
def test_gpu_equals_cpu(form, shape):
    guide, p = scene(*shape)
    here = mean_field(guide.double(), p.double(), **form)
    there = mean_field(guide.cuda(), p.cuda(), **form)
    torch.testing.assert_close(there.cpu().double(), here, atol=1e-3, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_equals_cpu_on_noise():
    guide, p = example(120, 90, n=3)
    torch.testing.assert_close(
        mean_field(guide.cuda(), p.cuda()).cpu(), mean_field(guide, p), atol=1e-3, rtol=0
    )


def test_mask_snaps_to_the_edge_of_the_image():
    guide = torch.zeros(1, 3, 32, 32)
    guide[:, :, 8:24, 8:24] = torch.tensor([0.9, 0.6, 0.2])[:, None, None]
    rows = torch.arange(32.0)
    blob = torch.exp(-((rows[:, None] - 17) ** 2 + (rows[None] - 14) ** 2) / (2 * 7.0**2))
    truth = guide[0, 0] > 0
    before = blob >= 0.5
    after = mean_field(guide, blob[None, None], 5)[0, 0] >= 0.5
    wrong_before, wrong_after = (before ^ truth).sum(), (after ^ truth).sum()
    assert wrong_after < 0.2 * wrong_before


@given(
    h=st.integers(1, 6),
    w=st.integers(1, 6),
    n=st.integers(1, 3),
    joint=st.booleans(),
    side=st.sampled_from([0, 1, 4]),
    saturated=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_probabilities_stay_probabilities(h, w, n, joint, side, saturated, seed):
    guide, p = example(h, w, n, seed)
    if saturated:
        guide, p = guide.round(), p.round()  # only 0 and 1
    out = mean_field(guide, p, 9, joint=joint, iterations=3, working_side=side)
    assert out.shape == p.shape and out.dtype == p.dtype
    assert torch.isfinite(out).all() and (out >= 0).all() and (out <= 1).all()
    if joint:
        assert (out.sum(1) <= 1 + 1e-5).all()


def test_absent_factor_stays_absent():
    guide, _ = example(6, 6)
    assert (mean_field(guide, torch.zeros(1, 2, 6, 6), 2) < 1e-4).all()


def test_factors_do_not_influence_each_other_unless_joint():
    guide, p = example(6, 6, n=2)
    alone = mean_field(guide, p[:, :1], 2)
    # not bit for bit: products of another width may be summed in another order
    torch.testing.assert_close(mean_field(guide, p, 2)[:, :1], alone, rtol=0, atol=1e-6)
    assert not torch.allclose(mean_field(guide, p, 2, joint=True)[:, :1], alone)


def test_unary_by_hand():
    # h / (h + t): 1 / (1 + 3) = 0.25, 3 / 6 = 0.5, 9 / 12 = 0.75; negative h counts as 0.
    heat = torch.tensor([[[1.0, 3.0, 9.0, 0.0, -3.0]]])
    expected = torch.tensor([[[0.25, 0.5, 0.75, 0.0, 0.0]]])
    torch.testing.assert_close(unary(heat, torch.tensor([3.0])), expected)


@pytest.mark.parametrize("threshold", [0.0, -1.0])
def test_threshold_not_above_zero_is_an_absent_factor(threshold):
    heat = torch.rand(2, 2, 4, 4)
    p = unary(heat, torch.tensor([threshold, 0.5]))
    assert (p[:, 0] == 0).all()
    assert torch.equal(p[:, 1] >= 0.5, heat[:, 1] >= 0.5)


def test_unary_of_the_smallest_threshold_is_finite():
    heat = torch.tensor([[[0.0, 1e-45, 1.0, 3e38]]])
    p = unary(heat, torch.tensor([1e-45]))
    assert torch.isfinite(p).all() and p[0, 0, 0] == 0 and p[0, 0, 2] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: unary(torch.rand(2, 3, 3), torch.rand(3)), r"\(2, 3, 3\) and \(3,\)"),
        (lambda: unary(torch.ones(1, 2, 2, dtype=torch.int32), torch.ones(1)), "int32"),
        (lambda: mean_field(torch.rand(1, 3, 4, 4), torch.rand(1, 2, 4, 5), 1), "4, 5"),
        (lambda: mean_field(torch.rand(1, 3, 4, 4), torch.rand(2, 4, 4), 1), r"\(2, 4, 4\)"),
        (lambda: mean_field(torch.rand(1, 3, 4, 4), torch.rand(1, 0, 4, 4), 1), "n >= 1"),
        (
            lambda: mean_field(torch.rand(1, 3, 4, 4), torch.rand(1, 1, 4, 4), 1, iterations=-1),
            "iterations",
        ),
        (lambda: mean_field(torch.rand(1, 3, 4, 4), torch.rand(2, 1, 4, 4)), r"\(2, 1, 4, 4\)"),
        (
            lambda: mean_field(torch.rand(1, 3, 4, 4), torch.rand(1, 1, 4, 4), working_side=-1),
            "working_side",
        ),
    ],
)
def test_refuses_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_floating_point_and_no_gradients(dtype):
    guide, p = example(6, 6)
    found = mean_field(guide.to(dtype), p.to(dtype).requires_grad_(), 2)
    assert found.dtype == dtype and not found.requires_grad
    assert ((found >= 0) & (found <= 1)).all()
    filtered = guided_filter(guide.to(dtype), p.to(dtype).requires_grad_(), 2, 1e-2)
    assert filtered.dtype == dtype and not filtered.requires_grad


def test_unary_of_thresholds_per_image():
    heat = torch.rand(3, 2, 4, 5)
    thresholds = torch.tensor([[0.5, 0.2], [0.0, 0.7], [0.1, 0.9]])
    together = unary(heat, thresholds)
    for image, threshold, p in zip(heat, thresholds, together, strict=True):
        assert torch.equal(unary(image, threshold), p)
