"""Stability against planted truths, its silhouette against scikit-learn's, links by hand."""

import doctest
import importlib
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_score

from stages.algorithms.nmf import Sweep, choice
from stages.algorithms.nmf.choice import (
    FEW_IMAGES,
    STABLE,
    Links,
    matched,
    of_factors,
    stability,
    suggest_k,
)
from stages.algorithms.nmf.stack import unit_rows


def planted(k, images=48, cells=20, channels=30):
    """Rows of k concepts that share no channel. The noise multiplies: added to values that cannot
    be negative, its mean would be one concept more."""
    rng = np.random.default_rng(0)
    W = np.zeros((k, channels))
    for channel in range(channels):
        W[channel % k, channel] = 0.2 + rng.random()
    rows = images * cells
    H = rng.gamma(1.0, 1.0, (rows, k)) * (rng.random((rows, k)) < 0.4)
    return H @ W * rng.uniform(0.5, 1.5, (rows, channels))


@given(k=st.integers(1, 5), runs=st.integers(2, 5), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_equal_factors_in_any_order_and_scale_are_perfectly_stable(k, runs, seed):
    rng = np.random.default_rng(seed)
    W = np.eye(k, 8) + 0.01 * rng.random((k, 8))
    copies = [rng.permutation(W) * rng.uniform(0.1, 9, (k, 1)) for _ in range(runs)]
    found = stability(copies)
    assert found.cosine == pytest.approx(1)
    assert found.silhouette == pytest.approx(1, abs=1e-6)


@given(k=st.integers(2, 6), runs=st.integers(2, 5), seed=st.integers(0, 99), same=st.booleans())
@settings(max_examples=30, deadline=None)
def test_silhouettes_are_those_of_scikit_learn_bit_for_bit(k, runs, seed, same):
    rng = np.random.default_rng(seed)
    factors = unit_rows(np.tile(np.eye(k, 8), (runs, 1)) if same else rng.random((runs * k, 8)))
    labels = np.concatenate([rng.permutation(k) for _ in range(runs)])
    distances = np.clip(1 - factors @ factors.T, 0, None)
    np.fill_diagonal(distances, 0)
    expected = silhouette_score(distances, labels, metric="precomputed")
    assert choice._silhouette(factors, labels) == expected


def test_cosines_and_silhouettes_from_their_definitions():
    rng = np.random.default_rng(1)
    base = rng.random((3, 12)) * (rng.random((3, 12)) < 0.5) + 0.01
    runs = [unit_rows(base + 0.1 * rng.random((3, 12))) for _ in range(4)]
    best = [
        max(np.mean([one[i] @ other[p[i]] for i in range(3)]) for p in permutations(range(3)))
        for one, other in combinations(runs, 2)
    ]
    found = stability([rng.permutation(run) for run in runs])
    assert found.cosine == pytest.approx(np.mean(best))
    labels = np.tile(np.arange(3), 4)
    expected = silhouette_score(np.concatenate(runs), labels, metric="cosine")
    assert found.silhouette == pytest.approx(expected)


def test_the_stability_of_each_factor_by_hand() -> None:
    factors = np.array([[2.0, 0, 0], [0, 0.5, 0]])
    runs = np.array(
        [
            [[0, 3, 4], [1, 0, 0]],  # in the other order: cosines of 1 and 3/5
            [[4, 3, 0], [0, 1, 0]],  # 4/5 and 1
            [[0, 0, 1], [0, 0, 0]],  # nothing of either
        ]
    )
    found = of_factors(factors, [unit_rows(run.astype(float)) for run in runs])
    np.testing.assert_allclose(found, [(1 + 0.8) / 3, (0.6 + 1) / 3])
    assert np.isnan(of_factors(factors, [])).tolist() == [True, True]


def test_a_planted_factor_is_stable_where_a_second_half_of_it_is_not() -> None:
    A = planted(2)
    sweep = Sweep(A, [2, 3], stability_runs=5)
    while not sweep.done:
        sweep.step()
    two, three = (
        of_factors(one.factors, stable.runs)
        for one, stable in zip(sweep.finish(), sweep.stability, strict=True)
    )
    assert two.min() > 0.99
    assert sorted(three)[0] < STABLE < sorted(three)[1]


def test_unlike_runs_are_unstable():
    one, other = np.eye(4)[:2], np.eye(4)[2:]
    assert stability([one, other]).cosine == 0
    assert stability([one, np.zeros((2, 4))]).cosine == 0  # dead factors


def test_one_run_says_nothing():
    with pytest.raises(ValueError, match="at least two runs, got 1"):
        stability([np.eye(2)])


def test_counterparts_are_the_best_assignment_together():
    one = unit_rows(np.array([[1.0, 0.0], [1.0, 0.2]]))
    other = unit_rows(np.array([[1.0, 0.1], [0.2, 1.0]]))
    found, cosines = matched(one, other)
    assert found.tolist() == [0, 1]
    np.testing.assert_allclose(cosines, np.diag(one @ other.T))


@pytest.mark.parametrize("k", [2, 4])
def test_the_planted_number_of_factors_is_found(k):
    sweep = Sweep(planted(k), range(1, k + 4), stability_runs=5)
    cosines = [one.cosine for one in sweep.stability]
    chosen, reason = suggest_k(list(range(1, k + 4)), cosines, 100)
    assert chosen == k, cosines
    assert f"k = {k + 1}" in reason
    assert cosines[k - 1] > 0.99


def test_stability_survives_a_checkpoint():
    A = planted(2)
    sweep = Sweep(A, [2, 3], stability_runs=2)
    resumed = Sweep(A, [2, 3], stability_runs=2, resume=sweep.state())
    assert resumed.stability == sweep.stability
    for one, other in zip(resumed.stability, sweep.stability, strict=True):
        assert one.runs.shape[0] == 2
        np.testing.assert_array_equal(one.runs, other.runs)
    assert Sweep(A, [2, 3]).stability == []


@pytest.mark.parametrize("rows", [1, 3, 30])
def test_few_rows_have_a_stability_too(rows):
    sweep = Sweep(np.random.default_rng(0).random((rows, 6)), [1, 2], stability_runs=3)
    assert all(0 <= one.cosine <= 1 + 1e-9 for one in sweep.stability)


@pytest.mark.parametrize(
    "ks, cosines, chosen, said",
    [
        ([1, 2, 3, 4], [1, 0.99, 0.97, 0.6], 3, "the largest whose factors are reproducible"),
        ([4, 2, 3, 1], [0.6, 0.99, 0.97, 1], 3, "not so for k = 4: 0.60"),
        ([1, 2, 3], [1, 0.99, 0.98], 3, "no larger one was asked for"),
        (
            [1, 2, 3],
            [1, 0.7, 0.8],
            None,
            f"the best is k = 3 with a stability of 0.80 where {STABLE}",
        ),
        # what falls short of it by little does not read as if it did not
        ([1, 2], [1, 0.9481], None, f"with a stability of 0.948 where {STABLE}"),
        ([1, 2], [1, 0.94999], None, f"with a stability of 0.949 where {STABLE}"),
        ([1, 2, 3], [1, 0.99, 0.9481], 2, "not so for k = 3: 0.948"),
        ([1], [1], None, "no k above 1 was asked for"),
        ([5], [0.99], 5, "no larger one was asked for"),
        ([1, 2, 3, 4], [1, 0.5, 0.99, 0.5], 3, "not so for k = 4"),
    ],
)
def test_suggestions_and_their_reasons(ks, cosines, chosen, said):
    k, reason = suggest_k(ks, cosines, FEW_IMAGES)
    assert k == chosen and said in reason
    k, reason = suggest_k(ks, cosines, FEW_IMAGES - 1)
    assert k is None and "too few" in reason


def test_links_are_the_largest_cosines_of_coefficients():
    rng = np.random.default_rng(0)
    columns = [(k, seed, j) for k in (1, 2, 4) for seed in (0, 7) for j in range(k)]
    H = rng.random((200, len(columns))).astype(np.float32)
    links = Links(columns)
    for start in range(0, 200, 33):
        links.add(H[start : start + 33])
    parents, cosines = links.parents()
    norms = np.linalg.norm(H.astype(float), axis=0)
    all_cosines = H.T.astype(float) @ H / np.outer(norms, norms)
    before = {1: None, 2: 1, 4: 2}
    for column, (k, seed, _) in enumerate(columns):
        candidates = [c for c, (of, s, _) in enumerate(columns) if of == before[k] and s == seed]
        if not candidates:
            assert parents[column] == -1 and cosines[column] == 0
            continue
        best = max(candidates, key=lambda c, column=column: all_cosines[c, column])
        assert parents[column] == best
        assert cosines[column] == pytest.approx(all_cosines[best, column], rel=1e-5)


def test_an_absent_factor_has_no_parent():
    links = Links([(1, 0, 0), (2, 0, 0), (2, 0, 1)])
    links.add(np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0]], np.float32))
    parents, cosines = links.parents()
    assert parents.tolist() == [-1, 0, -1]
    np.testing.assert_allclose(cosines, [0, 1, 0], atol=1e-9)


def test_the_example_runs():
    module = importlib.import_module("stages.algorithms.nmf.choice")
    found = doctest.testmod(module)
    assert found.failed == 0 and found.attempted >= 3
