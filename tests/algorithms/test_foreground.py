"""Figure and ground by the shape of masks: by hand, and against scikit-image."""

import numpy as np
import pytest
from skimage.measure import moments_central

from stages.algorithms.foreground import FigureCounts, most_compact


def picture(*rows):
    """One mask, '#' for True: bool [1, h, w]."""
    return np.array([[[cell == "#" for cell in row] for row in rows]])


def test_border_contact_by_hand():
    # 3 of the 4 mask pixels lie on the border, which is 10 of 12 pixels: (3/10) / (4/12).
    counts = FigureCounts.of(picture("##..", "##..", "...."))
    assert counts.border.tolist() == [3] and counts.border_pixels == 10
    assert counts.border_contact().tolist() == pytest.approx([0.9])
    assert FigureCounts.of(picture("....", ".##.", "....")).border_contact().tolist() == [0]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2), (3, 4)])
def test_a_full_mask_meets_the_border_as_chance_does(shape):
    counts = FigureCounts.of(np.ones((1, *shape), dtype=bool))
    assert counts.border[0] == counts.border_pixels
    assert counts.border_contact().tolist() == [1.0]


def test_a_disc_is_compact_and_two_are_not():
    y, x = np.mgrid[:80, :200]
    disc = np.hypot(y - 40, x - 40) < 20
    two = disc | (np.hypot(y - 40, x - 140) < 20)
    one, both = FigureCounts.of(np.stack([disc, two])).compactness()
    assert one == pytest.approx(1, abs=0.01)
    # two discs of radius r, their centres d apart: (2 A)^2 / (2 pi 2 (A r^2 / 2 + A d^2 / 4))
    area, r, d = np.pi * 400, 20, 100
    expected = 4 * area**2 / (2 * np.pi * (2 * area * r**2 / 2 + 2 * area * (d / 2) ** 2))
    assert both == pytest.approx(expected, rel=0.01)


def test_moments_are_those_of_scikit_image():
    mask = np.random.default_rng(0).random((1, 13, 17)) < 0.4
    central = moments_central(mask[0].astype(float), order=2)
    expected = central[2, 0] + central[0, 2] + mask.sum() / 6
    np.testing.assert_allclose(FigureCounts.of(mask).moment, [expected])


def test_sums_over_images():
    a, b = picture("#.", ".."), picture("###", "...")
    total = FigureCounts.of(a) + FigureCounts.of(b)
    assert total.area.tolist() == [4] and total.pixels == 10 and total.square.tolist() == [10]
    with pytest.raises(TypeError):
        total + 1


def test_the_figure_keeps_off_the_border():
    y, x = np.mgrid[:40, :60]
    ground = y > 25
    disc = np.hypot(y - 18, x - 30) < 9
    ring = (np.hypot(y - 20, x - 30) < 18) & (np.hypot(y - 20, x - 30) > 15)
    nothing = np.zeros((40, 60), dtype=bool)
    counts = FigureCounts.of(np.stack([ground, ring, disc, nothing]))
    compact, contact = counts.compactness(), counts.border_contact()
    assert most_compact(compact, contact) == 2
    assert most_compact(compact[:2], contact[:2]) == 1
    assert most_compact(compact[3:], contact[3:]) == 0
    assert np.isnan(counts.compactness()[3]) and np.isnan(counts.border_contact()[3])


@pytest.mark.parametrize("masks", [np.ones((2, 2), dtype=bool), np.ones((1, 2, 2))])
def test_refuses_what_is_no_masks(masks):
    with pytest.raises(ValueError, match="bool"):
        FigureCounts.of(masks)
