"""Maps of several sizes combined: by hand, and what must hold whatever the coefficients are."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.algorithms.heatmap import upsample
from stages.algorithms.scales import FLOOR, combined, resized, shown, split

COLUMNS = 3
grids = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=3)


def coefficients(sizes: list[tuple[int, int]], seed: int) -> list[np.ndarray]:
    """Some zero, one column all zero at one size."""
    rng = np.random.default_rng(seed)
    found = [rng.gamma(0.5, 1.0, (h, w, COLUMNS)) for h, w in sizes]
    for one in found:
        one[rng.random(one.shape) < 0.3] = 0
    found[0][..., 2] = 0
    return found


def largest_of(maps: list[np.ndarray]) -> np.ndarray:
    return np.array([one.max(axis=(0, 1)) for one in maps])


def test_rows_of_sizes_are_split_in_their_order() -> None:
    rows = np.arange(16.0).reshape(8, 2)
    small, large = split(rows, np.array([[1, 2], [3, 2]]))
    assert small.tolist() == [[[0, 1], [2, 3]]]
    assert large.shape == (3, 2, 2) and large[2, 1].tolist() == [14, 15]
    with pytest.raises(ValueError, match=r"rows \(8, 2\) do not fill grids"):
        split(rows, np.array([[1, 2], [3, 3]]))


@pytest.mark.parametrize(
    ("grid", "size"),
    [((3, 4), (9, 16)), ((1, 1), (5, 3)), ((4, 1), (4, 7)), ((7, 7), (13, 13)), ((2, 3), (7, 5))],
)
def test_sizes_meet_as_heat_maps_are_drawn(grid: tuple[int, int], size: tuple[int, int]) -> None:
    values = np.random.default_rng(0).random((*grid, 2))
    expected = upsample(torch.from_numpy(values.reshape(-1, 2)), grid, size)
    np.testing.assert_allclose(np.moveaxis(resized(values, size), -1, 0), expected, atol=1e-6)


def test_a_map_by_hand() -> None:
    # 4 of at most 8 at the coarse size, and 1, 9 of at most 9 at the fine one
    coarse, fine = np.array([[[4.0]]]), np.array([[[1.0], [9.0]]])
    m = combined([coarse, fine], np.array([[8.0], [9.0]]))
    np.testing.assert_allclose(m[0, :, 0], [np.sqrt(0.5 / 9), np.sqrt(0.5)])
    np.testing.assert_allclose(shown(m, np.array([1.0]))[0, :, 0], [1 / 3, 1], rtol=1e-6)
    weak = 0.2 * m  # an image that lacks the concept: by half of the set's largest value
    np.testing.assert_allclose(shown(weak, np.array([1.0])), weak / FLOOR, rtol=1e-6)


def test_one_size_is_its_own_mean() -> None:
    (one,) = coefficients([(3, 5)], 0)
    most = largest_of([one])
    by = np.where(most > 0, most, 1)
    np.testing.assert_allclose(combined([one], most), one / by, rtol=1e-12)


def test_other_columns_are_refused() -> None:
    with pytest.raises(ValueError, match=r"largest \(1, 3\) is not"):
        combined(coefficients([(1, 2), (2, 4)], 0), np.ones((1, 3)))


@given(sizes=grids, seed=st.integers(0, 99), data=st.data())
def test_what_holds_of_every_map(
    sizes: list[tuple[int, int]], seed: int, data: st.DataObject
) -> None:
    maps = coefficients(sizes, seed)
    most = largest_of(maps)
    m = combined(maps, most)
    top = m.max(axis=(0, 1)) * data.draw(st.floats(1, 4))  # another image may be stronger
    found = shown(m, top)
    assert found.shape == (*sizes[-1], COLUMNS) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1 and np.isfinite(found).all()
    assert not found[..., 2].any(), "nothing at one size is nothing"
    # a size that measures in other units says the same
    units = [2.0 ** data.draw(st.integers(-9, 9)) for _ in sizes]
    others = [one * unit for one, unit in zip(maps, units, strict=True)]
    assert np.array_equal(shown(combined(others, largest_of(others)), top), found)
    for column in range(COLUMNS):
        strong = m[..., column].max() >= FLOOR * top[column] > 0
        assert (found[..., column].max() == 1) == strong
