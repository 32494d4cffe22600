"""Colours of factors: apart to all eyes."""

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab

from stages.drawing.colours import PALETTE, colour

# Machado, Oliveira, Fernandes, "A physiologically-based model for simulation of color vision
# deficiency", IEEE TVCG 15 (2009): the matrices of their supplement for severity 1, linear RGB.
EYES = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def seen(rgb: np.ndarray, eyes: str) -> np.ndarray:
    """CIE Lab of sRGB colours ``[n, 3]`` in 0 to 255, as some eyes see them."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    there = np.clip(linear @ np.array(EYES[eyes]).T, 0, 1)
    back = np.where(there <= 0.0031308, there * 12.92, 1.055 * there ** (1 / 2.4) - 0.055)
    return np.asarray(rgb2lab(back[:, None])[:, 0])


def closest(colours: np.ndarray, eyes: str) -> float:
    """The smallest CIEDE2000 difference of any two."""
    lab = seen(colours, eyes)
    apart = deltaE_ciede2000(lab[:, None], lab[None])
    return float(apart[np.triu_indices(len(lab), 1)].min())


def test_colours_stay_apart_to_all_eyes() -> None:
    palette = np.array(PALETTE, float)
    assert len(palette) == 12
    for eyes in EYES:
        assert closest(palette, eyes) >= 12, eyes
        assert closest(palette[:4], eyes) >= 16, eyes


def test_the_measure_knows_colours_that_are_confused() -> None:
    """Blue and purple of an earlier palette, which deuteranopes could not tell apart."""
    earlier = np.array([(46, 120, 255), (160, 88, 232)], float)
    assert closest(earlier, "all cones") > 15
    assert closest(earlier, "deuteranopia") < 4


def test_the_first_colours_are_the_papers() -> None:
    blue, red, green, orange = (np.array(colour(slot)) for slot in range(4))
    assert blue.argmax() == 2 and red.argmax() == 0 and green.argmax() == 1
    assert orange[0] > orange[1] > orange[2]
