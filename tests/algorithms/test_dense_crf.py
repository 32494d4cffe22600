"""The dense CRF against exact inference over all pairs of pixels, and its safety."""

import numpy as np
import pytest

from stages.algorithms import dense_crf as module
from stages.algorithms import mean_field
from stages.algorithms.dense_crf import dense_crf


def exact_dense_crf(image, p, iterations, gaussian, bilateral):
    """Mean field with every pair of pixels summed: gaussian (sxy, compat), bilateral
    (sxy, srgb, compat). Kernels are normalised symmetrically, as the library's default is."""
    h, w = p.shape
    places = np.stack(np.mgrid[:h, :w], -1).reshape(-1, 2).astype(float)
    colours = image.reshape(-1, 3).astype(float)
    space = ((places[:, None] - places[None]) ** 2).sum(-1)
    colour = ((colours[:, None] - colours[None]) ** 2).sum(-1)
    kernels = (
        (gaussian[1], np.exp(-space / (2 * gaussian[0] ** 2))),
        (
            bilateral[2],
            np.exp(-space / (2 * bilateral[0] ** 2) - colour / (2 * bilateral[1] ** 2)),
        ),
    )
    messages = np.zeros((h * w, h * w))
    for compat, kernel in kernels:
        root = 1 / np.sqrt(kernel.sum(1))
        messages += compat * kernel * root[:, None] * root[None]
    clamped = np.clip(p.ravel().astype(float), 1e-4, 1 - 1e-4)
    evidence = np.log(np.stack([1 - clamped, clamped]))
    q = np.exp(evidence)
    for _ in range(iterations):
        q = np.exp(evidence + q @ messages)
        q /= q.sum(0)
    return q[1].reshape(h, w)


def step_image(h=12, w=14, edge=6):
    image = np.full((h, w, 3), 40, np.uint8)
    image[:, edge:] = 200
    rng = np.random.default_rng(0)
    p = np.where(np.arange(w) < edge, 0.35, 0.65) + rng.normal(0, 0.2, (h, w))
    return image, p.clip(0, 1).astype(np.float32)


@pytest.mark.parametrize(
    ("iterations", "gaussian", "bilateral"),
    [(5, (3, 3), (30, 13, 10)), (2, (3, 1), (8, 20, 1)), (1, (2, 0.5), (5, 30, 0.5))],
)
def test_agrees_with_exact_inference(iterations, gaussian, bilateral):
    # The lattice approximates the kernels: agreement to a few thousandths, not to rounding.
    image, p = step_image()
    ours = dense_crf(
        image,
        p[None],
        iterations=iterations,
        gaussian_sxy=gaussian[0],
        gaussian_compat=gaussian[1],
        bilateral_sxy=bilateral[0],
        bilateral_srgb=bilateral[1],
        bilateral_compat=bilateral[2],
    )
    expected = exact_dense_crf(image, p, iterations, gaussian, bilateral)
    np.testing.assert_allclose(ours[0], expected, atol=0.015)


def test_cleans_noise_up_to_the_edge_of_the_image():
    image, p = step_image()
    truth = image[..., 0] > 100
    assert ((p >= 0.5) != truth).sum() > 10
    assert ((dense_crf(image, p[None])[0] >= 0.5) == truth).all()


def test_factors_are_independent_and_the_order_does_not_matter():
    image, p = step_image()
    stack = np.stack([p, 1 - p, p.T.reshape(p.shape)])
    together = dense_crf(image, stack)
    alone = np.concatenate([dense_crf(image, one[None]) for one in stack])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(dense_crf(image, stack[::-1]), together[::-1])


def test_the_same_twice():
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    p = rng.random((2, 20, 30), dtype=np.float32)
    np.testing.assert_array_equal(dense_crf(image, p), dense_crf(image, p))


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 40), (40, 1), (3, 3)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_small_and_constant_images_are_safe(shape, level):
    p = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    out = dense_crf(np.full((*shape, 3), level, np.uint8), p)
    assert out.shape == p.shape and out.dtype == np.float32
    assert np.isfinite(out).all() and (out >= 0).all() and (out <= 1).all()


def test_accepts_views_and_read_only_arrays_and_leaves_them_alone():
    image, p = step_image()
    expected = dense_crf(image, p[None])
    wide = np.repeat(image, 2, axis=1)
    strided = np.repeat(p, 2, axis=1)[:, ::2]
    frozen = image.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(dense_crf(wide[:, ::2], strided[None]), expected)
    np.testing.assert_array_equal(dense_crf(np.asfortranarray(frozen), p[None]), expected)
    np.testing.assert_array_equal(image, step_image()[0])


def test_no_iterations_returns_the_clamped_probability():
    image, p = step_image()
    out = dense_crf(image, p[None], iterations=0)[0]
    np.testing.assert_allclose(out, p.clip(1e-4, 1 - 1e-4), atol=1e-6)


def test_no_factors_is_no_maps():
    image, _ = step_image()
    assert dense_crf(image, np.zeros((0, 12, 14), np.float32)).shape == (0, 12, 14)


def test_both_refiners_clamp_alike():
    assert module.PROBABILITY_FLOOR == mean_field.PROBABILITY_FLOOR


@pytest.mark.parametrize(
    ("image", "probability", "options", "message"),
    [
        (np.zeros((4, 5), np.uint8), np.zeros((1, 4, 5), "f4"), {}, r"\(4, 5\)"),
        (np.zeros((0, 5, 3), np.uint8), np.zeros((1, 0, 5), "f4"), {}, r"\(0, 5, 3\)"),
        (np.zeros((4, 5, 3)), np.zeros((1, 4, 5), "f4"), {}, "float64"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((1, 5, 4), "f4"), {}, r"\(1, 5, 4\)"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((1, 4, 5), "u1"), {}, "uint8"),
        (np.zeros((4, 5, 3), np.uint8), np.full((1, 4, 5), np.nan), {}, "NaN"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((1, 4, 5)), {"iterations": -1}, "iterations"),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((1, 4, 5)), {"bilateral_srgb": 0}, "widths"),
    ],
)
def test_refuses_what_does_not_fit(image, probability, options, message):
    with pytest.raises(ValueError, match=message):
        dense_crf(image, probability, **options)
