"""Importance of concepts on heads whose truth is known in closed form."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.algorithms.hints import seen_alone, typical_strength
from stages.algorithms.importance import (
    ALL_ORDERS,
    Design,
    effects,
    importance,
    ranking,
    total_indices,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def of_masks(function, k: int):  # type: ignore[no-untyped-def]
    """A head that gives a function of the mask: W is the unit matrix, H is 1 on one cell."""
    images = [np.ones((1, 1, k), np.float32)]
    return images, np.eye(k, dtype=np.float32), lambda maps: function(maps[:, 0, 0])


def test_a_linear_head_has_its_own_shares() -> None:
    """S_j = c_j^2 / sum of c^2, for f = c m: every m has the same variance."""
    c = torch.tensor([[3.0, -2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 5.0]])
    images, W, head = of_masks(lambda m: m @ c.T + 7, 4)
    found = importance(head, images, W, points=256)
    squares = c.numpy().T ** 2
    np.testing.assert_allclose(found.total, squares / squares.sum(axis=0), atol=0.02)
    # a straight line is found exactly by least squares, and by its derivative
    np.testing.assert_allclose(found.effect, c.numpy().T, atol=1e-5)
    np.testing.assert_allclose(found.gradient, c.numpy().T, atol=1e-5)
    assert found.total[3, 0] < 1e-9 and found.total[:3, 1].max() < 1e-9
    assert np.isnan(found.total_error).all()  # of one image nothing is known


def test_the_curves_of_a_linear_head_are_sums() -> None:
    c = torch.tensor([[3.0, -2.0, 1.0]])
    images, W, head = of_masks(lambda m: m @ c.T, 3)
    found = importance(head, images, W, points=64)
    np.testing.assert_allclose(found.insertion, [[0, 3, 4, 2]], atol=1e-5)
    np.testing.assert_allclose(found.deletion, [[2, -1, -2, 0]], atol=1e-5)
    np.testing.assert_allclose(found.orders, [[0, 2 / 3, 4 / 3, 2]], atol=1e-5)


def test_curves_of_many_concepts_are_those_of_drawn_orders() -> None:
    k = ALL_ORDERS + 2
    c = torch.arange(float(k), 0, -1)[None]
    images, W, head = of_masks(lambda m: m @ c.T, k)
    found = importance(head, images, W, points=64)
    sums = np.concatenate([[0], np.cumsum(c.numpy()[0])])
    np.testing.assert_allclose(found.insertion[0], sums, atol=1e-4)
    np.testing.assert_allclose(found.deletion[0], sums[-1] - sums, atol=1e-4)
    assert found.orders[0, 0] == 0 and found.orders[0, -1] == pytest.approx(sums[-1])
    assert (found.orders[0, 1:-1] < sums[1:-1]).all()


def test_ishigamis_function_has_its_published_total_indices() -> None:
    """a = 7, b = 0.1: 0.5576, 0.4424, 0.2437 (Ishigami and Homma 1990)."""

    def ishigami(m: np.ndarray) -> np.ndarray:
        x = np.pi * (2 * m - 1)
        return np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])

    truth = np.array([0.5576, 0.4424, 0.2437])
    design = Design.sobol(3, 4096, 0)
    found, _ = total_indices(ishigami(design.masks)[:, None], design)
    np.testing.assert_allclose(found[:, 0], truth, atol=0.01)


def test_a_products_interaction_counts_for_both() -> None:
    """Var(xy) = 7/144; S_x = (E[y^2] Var x) / Var = (1/3)(1/12) / (7/144) = 4/7."""
    images, W, head = of_masks(lambda m: (m[:, 0] * m[:, 1])[:, None], 2)
    found = importance(head, images, W, points=1024)
    np.testing.assert_allclose(found.total[:, 0], [4 / 7, 4 / 7], atol=0.01)
    # on average over the other it adds E[y] = 1/2; of the last bit y = 1
    np.testing.assert_allclose(found.effect[:, 0], [0.5, 0.5], atol=0.02)
    np.testing.assert_allclose(found.gradient[:, 0], [1, 1], atol=1e-6)


def test_the_error_bar_is_that_of_other_scrambles() -> None:
    """The bootstrap's error is at least the spread over designs, and not many times of it."""
    c = np.array([3.0, 2.0, 1.0])
    found, errors = [], []
    for seed in range(60):
        design = Design.sobol(3, 32, seed)
        values = np.exp(design.masks @ c / 3)[:, None]
        one, error = total_indices(values, design)
        found.append(one[:, 0])
        errors.append(error[:, 0])
    spread, told = np.std(found, axis=0), np.mean(errors, axis=0)
    assert (told > 0.7 * spread).all() and (told < 5 * spread).all()


def test_errors_between_images_shrink_with_their_number() -> None:
    rng = np.random.default_rng(0)
    images = [rng.uniform(0.2, 1, (3, 3, 3)).astype(np.float32) for _ in range(32)]
    W = np.eye(3, dtype=np.float32)

    def head(maps: torch.Tensor) -> torch.Tensor:
        return maps.mean(dim=(1, 2)).pow(2).sum(dim=1, keepdim=True)

    few, many = (importance(head, images[:n], W, points=32) for n in (8, 32))
    assert (many.total_error < few.total_error).all() and (many.total_error > 0).all()
    assert (many.total_noise < few.total_noise).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.permutations(range(4)))
def test_permuted_concepts_have_permuted_indices(seed: int, order: list[int]) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(4, 2))
    design = Design.sobol(4, 16, seed % 1000)
    moved = Design(design.first[:, order], design.second[:, order])

    def values(masks: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.tanh(masks @ w)

    straight = total_indices(values(design.masks, weights), design)[0]
    turned = total_indices(values(moved.masks, weights[order]), moved)[0]
    np.testing.assert_allclose(turned, straight[order], atol=1e-9)
    slopes = effects(values(design.masks, weights), design)
    np.testing.assert_allclose(
        effects(values(moved.masks, weights[order]), moved), slopes[order], atol=1e-9
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 3))
def test_a_concept_without_effect_has_none(seed: int, idle: int) -> None:
    weights = np.random.default_rng(seed).normal(size=(4, 1))
    weights[idle] = 0
    design = Design.sobol(4, 16, seed % 1000)
    values = np.exp(design.masks @ weights)
    found, errors = total_indices(values, design)
    assert found[idle, 0] == errors[idle, 0] == effects(values, design)[idle, 0] == 0
    assert (found >= 0).all()


def test_a_head_that_says_nothing_has_indices_of_zero() -> None:
    images, W, head = of_masks(lambda m: torch.full((len(m), 1), 3.0) + 0 * m[:, :1], 2)
    found = importance(head, images, W, points=16)
    assert (found.total == 0).all() and (found.gradient == 0).all()


def test_the_ranking_has_what_speaks_against_a_class_last() -> None:
    total, effect = np.array([[0.2], [0.7], [0.1]]), np.array([[1.0], [-3.0], [0.5]])
    assert ranking(total, effect).tolist() == [[0, 2, 1]]


def test_batches_change_nothing() -> None:
    rng = np.random.default_rng(1)
    images = [rng.uniform(0, 1, (2, 3, 2)).astype(np.float32) for _ in range(2)]
    W = rng.uniform(0, 1, (2, 5)).astype(np.float32)
    weights = torch.from_numpy(rng.normal(size=(5, 2)).astype(np.float32))

    def head(maps: torch.Tensor) -> torch.Tensor:
        assert len(maps) <= 64
        return torch.relu(maps @ weights).mean(dim=(1, 2))

    one, other = (importance(head, images, W, points=16, batch=n) for n in (7, 64))
    np.testing.assert_allclose(one.total, other.total, atol=1e-5)
    np.testing.assert_array_equal(importance(head, images, W, points=16, batch=7).total, one.total)


def test_wrong_shapes_and_points_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[h, w, k\]"):
        importance(lambda maps: maps, [np.ones((2, 2, 3), np.float32)], np.eye(2, dtype="f4"))
    with pytest.raises(ValueError, match="power of 2"):
        Design.sobol(2, 12, 0)


def test_a_factor_alone_is_seen_at_its_typical_strength() -> None:
    H = np.zeros((100, 2), np.float32)
    H[:10, 0] = 4  # the 95th percentile
    H[0, 1] = 9  # of so few cells the largest counts
    strength = typical_strength(H)
    assert strength.tolist() == [4, 9]
    W = np.array([[1, 0, 0], [0, 1, 1]], np.float32)
    found = seen_alone(lambda maps: maps.mean(dim=(1, 2)), W, strength, (2, 3))
    np.testing.assert_allclose(found, [[4, 0, 0], [0, 9, 9]])
