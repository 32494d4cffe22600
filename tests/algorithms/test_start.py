"""Factorizations that go on from factors which are there already."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.algorithms.nmf import Sweep, factorize_many
from stages.algorithms.nmf.state import Factorization


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Non-negative, of rank 4 and a little noise."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(1).random((4, 30)) ** 3
    return (rng.random((count, 4)) ** 3 @ mixing + 0.01 * rng.random((count, 30))).astype("float32")


def run(A: np.ndarray, ks: list[int], **options: object) -> list[Factorization]:
    sweep = Sweep(A, ks, **options)  # type: ignore[arg-type]
    while not sweep.done:
        sweep.step()
    return sweep.finish()


def start_of(found: list[Factorization]) -> dict[tuple[int, int], np.ndarray]:
    return {(one.k, one.seed): one.factors for one in found}


@pytest.mark.parametrize("freeze", [False, True])
def test_factors_that_have_converged_stay_what_they_are(freeze: bool) -> None:
    A = rows(2000)
    found = factorize_many(A, [2, 3], tol=1e-6, max_passes=1000)
    for before, after in zip(
        found, run(A, [2, 3], start=start_of(found), freeze=freeze), strict=True
    ):
        np.testing.assert_array_equal(after.factors, before.factors)
        assert after.converged and after.updates == (0 if freeze else 1)
        assert after.loss[-1] == pytest.approx(before.loss[-1], rel=1e-3)
        np.testing.assert_allclose(after.energy, before.energy, rtol=1e-4)


def test_frozen_factors_never_change_and_others_do_where_that_helps() -> None:
    found = factorize_many(rows(500), [3], [0])
    start = start_of(found)
    other = rows(3000, seed=7)[:, ::-1].copy()  # other concepts altogether
    frozen, free = run(other, [3], start=start, freeze=True), run(other, [3], start=start)
    np.testing.assert_array_equal(frozen[0].factors, found[0].factors)
    assert free[0].loss[-1] < 0.9 * frozen[0].loss[-1]


def test_only_what_is_given_goes_on_the_rest_begins_anew() -> None:
    A = rows(800)
    found = factorize_many(A, [2], [0])
    mixed = run(A, [2, 3], start=start_of(found))
    from_nothing = factorize_many(A, [2, 3], [0])
    np.testing.assert_allclose(mixed[1].factors, from_nothing[1].factors, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(4)))
def test_the_order_that_was_given_stays(order: list[int]) -> None:
    A = rows(600)
    W = factorize_many(A, [4], [0])[0].factors[order]
    after = run(A, [4], start={(4, 0): W})[0].factors
    assert ((after * W).sum(axis=1) > 0.9).all()


def test_it_goes_on_after_an_interruption_as_if_there_had_been_none() -> None:
    A, start = rows(3000, seed=7)[:, ::-1].copy(), start_of(factorize_many(rows(500), [3], [0]))
    whole = run(A, [3], start=start)
    sweep = Sweep(A, [3], start=start)
    sweep.step()
    again = Sweep(A, [3], start=start, resume=sweep.state())
    while not again.done:
        again.step()
    np.testing.assert_array_equal(again.finish()[0].factors, whole[0].factors)


@pytest.mark.parametrize(
    ("start", "solver", "line"),
    [
        ({(2, 0): np.ones((2, 30)) / 30**0.5}, "mu", "mu cannot go on"),
        ({(3, 0): np.ones((3, 30)) / 30**0.5}, "hals", "k = 3 and seed 0"),
        ({(2, 1): np.ones((2, 30)) / 30**0.5}, "hals", "k = 2 and seed 1"),
        ({(2, 0): np.ones((2, 29)) / 29**0.5}, "hals", r"is \(2, 29\), not \(2, 30\)"),
        ({(2, 0): -np.ones((2, 30)) / 30**0.5}, "hals", "not finite and >= 0"),
        ({(2, 0): np.ones((2, 30))}, "hals", "not of length 1"),
    ],
)
def test_factors_that_fit_nothing_are_refused(
    start: dict[tuple[int, int], np.ndarray], solver: str, line: str
) -> None:
    with pytest.raises(ValueError, match=line):
        Sweep(rows(50), [2], solver=solver, start=start)
