"""How much of each row a factor explains: weights with which the row is factorized again.

With ``r_i = sum_l h_il w_l`` the reconstruction of row i, its energy is
``||r_i||^2 = sum_l h_il <w_l, r_i>``, and the share of factor j is

    s_ij = h_ij <w_j, r_i> / sum_l h_il <w_l, r_i>

which is >= 0 for W, H >= 0, and sums to 1 over the factors of every row that has a reconstruction.
So the matrices ``diag(s_j) A`` sum to the rows of A that are explained at all: what is found within
the factors of one factorization divides these, and nothing is counted twice. Where H is the
least-squares solution for W, ``<w_j, a_i> = <w_j, r_i>`` for every ``h_ij > 0`` (complementary
slackness), and the share is that of ``<r_i, a_i>``, too; of A nothing needs to be read.

W with values below zero (semi-NMF) may give a factor less than nothing: such a one has no share.
"""

import numpy as np
from numpy.typing import NDArray


def shares_of_rows(H: NDArray[np.floating], W: NDArray[np.floating]) -> NDArray[np.float32]:
    """Each factor's share of each row's reconstruction.

    Parameters
    ----------
    H : float [rows, k]
        Coefficients, >= 0.
    W : float [k, channels]

    Returns
    -------
    float32 [rows, k]
        In [0, 1]; rows sum to 1, but for those without a reconstruction, which are 0.

    Raises
    ------
    ValueError
        When the shapes do not fit.

    Examples
    --------
    >>> shares_of_rows(np.array([[3.0, 1.0], [0.0, 2.0], [0.0, 0.0]]), np.eye(2)).tolist()
    [[0.8999999761581421, 0.10000000149011612], [0.0, 1.0], [0.0, 0.0]]
    """
    if H.ndim != 2 or W.ndim != 2 or H.shape[1] != W.shape[0]:
        raise ValueError(f"H {H.shape} and W {W.shape} must be [rows, k] and [k, channels]")
    exact = W.astype(np.float64)
    largest = H.max(axis=1, initial=0, keepdims=True).astype(np.float64)
    # a row by its largest coefficient: squares of tiny ones would be nothing
    scaled = np.divide(H, largest, out=np.zeros(H.shape), where=largest > 0)
    carried = np.maximum(scaled * (scaled @ (exact @ exact.T)), 0)
    total = carried.sum(axis=1, keepdims=True)
    found = np.divide(carried, total, out=np.zeros_like(carried), where=total > 0)
    return found.astype(np.float32)
