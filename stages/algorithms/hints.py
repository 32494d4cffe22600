"""What a factor looks like to the network that it was found in: a hint at a name."""

import numpy as np
import torch
from numpy.typing import NDArray

from stages.algorithms.importance import Logits

TYPICAL = 95.0  # percentile of a factor's coefficients that counts as its strength


def typical_strength(coefficients: NDArray[np.float32]) -> NDArray[np.float32]:
    """How strong factors are where they are: a percentile of their coefficients, ``[k]``.

    Parameters
    ----------
    coefficients
        float32 ``[rows, k]``. The largest counts where the percentile is 0.
    """
    usual = np.percentile(coefficients, TYPICAL, axis=0)
    largest = coefficients.max(axis=0)
    return np.where(usual > 0, usual, largest).astype(np.float32)


def seen_alone(
    head: Logits,
    W: NDArray[np.float32],
    strength: NDArray[np.float32],
    grid: tuple[int, int],
    device: str | torch.device = "cpu",
) -> NDArray[np.float64]:
    """Logits of maps that have one factor everywhere, and nothing else, float64 ``[k, classes]``.

    Nothing is subtracted: what the set has in common (its mean row) is the object more often than
    not, and without it horses look like dogs.

    Parameters
    ----------
    W, strength
        float32 ``[k, channels]`` and ``[k]``.
    grid
        (h, w) of the maps.
    """
    rows = torch.from_numpy(W * strength[:, None]).to(device)
    found = []
    with torch.inference_mode():
        for row in rows:  # one by one: a map of a thousand classes is large
            found.append(head(row.expand(1, *grid, -1).contiguous())[0].double().cpu().numpy())
    return np.stack(found)
