"""The compiled inner loops of a pass over the rows on a CPU.

A pass does three things to each group of rows while it is in the cache: P = A W^T, the coefficients
H from P and G = W W^T, and the sums H^T A and H^T H. The factors of all factorizations lie side by
side in tiles of `LANES`, so that one non-zero of A costs one vector instruction per tile whatever
the k's are.

There are two sets of kernels: `vector`, and `plain` for where that one does not compile. Their
results differ by rounding.
"""

import warnings
from functools import cache
from importlib.metadata import version
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from stages.algorithms.nmf.kernels.compiling import GROUP, LANES, PAIR, WIDE

__all__ = [
    "GROUP",
    "LANES",
    "PAIR",
    "WIDE",
    "accelerate",
    "compact",
    "dense_pass_over",
    "pass_over",
    "pick",
    "squares",
    "sweep_coordinates",
]


@cache
def chosen() -> ModuleType:
    """The set that is used: `vector`, if it compiles and computes as it should."""
    try:
        from stages.algorithms.nmf.kernels import vector

        vector.check()
        return vector
    except Exception as error:  # nobody promises how: an import, a type, an instruction
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(
            f"NMF runs on plain loops, up to five times slower: vector instructions do not compile "
            f"with numba {version('numba')} on this machine ({reason})",
            RuntimeWarning,
            stacklevel=2,
        )
    from stages.algorithms.nmf.kernels import plain

    return plain


def pass_over(*arguments: Any) -> None:
    """See `vector.pass_over`."""
    chosen().pass_over(*arguments)


def dense_pass_over(*arguments: Any) -> None:
    """See `vector.dense_pass_over`."""
    chosen().dense_pass_over(*arguments)


def accelerate(*arguments: Any) -> bool:
    """See `starts.accelerate`; False, and nothing done, where its kernels do not compile."""
    if chosen().__name__.endswith("plain"):
        return False
    from stages.algorithms.nmf.kernels.starts import accelerate

    accelerate(*arguments)
    return True


def pick(*arguments: Any) -> int:
    """See `picking.pick`."""
    from stages.algorithms.nmf.kernels.picking import pick  # Numba, when there is work for it

    return int(pick(*arguments))


def squares(flat: NDArray[Any]) -> tuple[float, float]:
    """See `vector.squares`."""
    total, least = chosen().squares(flat)
    return float(total), float(least)


def compact(*arguments: Any) -> int:
    """See `vector.compact`."""
    return int(chosen().compact(*arguments))


def sweep_coordinates(*arguments: Any) -> None:
    """See `vector.sweep_coordinates`."""
    chosen().sweep_coordinates(*arguments)
