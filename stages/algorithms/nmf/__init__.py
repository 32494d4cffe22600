"""Out-of-core non-negative matrix factorization: ``from stages.algorithms.nmf import factorize``.

    min ||A - H W||_F^2   subject to H >= 0, W >= 0          (the paper's eq. 3)

A is rows x channels, H (coefficients) rows x k, W (factors) k x channels, as in the paper.
scikit-learn names them the other way round: its ``W`` is our H, its ``H`` our W.
"""

from stages.algorithms.nmf.factorization import factorize, factorize_many, transform
from stages.algorithms.nmf.initial import INITS
from stages.algorithms.nmf.solvers import SOLVERS
from stages.algorithms.nmf.state import Factorization
from stages.algorithms.nmf.sweep import Sweep

__all__ = [
    "INITS",
    "SOLVERS",
    "Factorization",
    "Sweep",
    "factorize",
    "factorize_many",
    "transform",
]
