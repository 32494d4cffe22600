"""What a refiner is: a frozen dataclass of options that refines maps under them.

To add one, write a module beside this one::

    @dataclass(frozen=True)
    class Smooth:
        '''A Gaussian, whatever the image shows.'''

        kind: ClassVar[Kind] = "threads"
        remedy: ClassVar[str] = ""

        sigma: float = param(2.0, "standard deviation, pixels")

        def __post_init__(self) -> None:
            if self.sigma <= 0:
                raise ValueError(f"sigma: {self.sigma} must be above 0")

        def refine(self, task: Task) -> NDArray[np.float32]:
            from scipy.ndimage import gaussian_filter  # not above: see below

            return gaussian_filter(task.probability, self.sigma, axes=(1, 2))

        def bytes_per_image(self, size: Size, columns: int) -> int:
            return 0

and give it a name in `stages.refine.refiners.REFINERS`, say ``"smooth": Smooth``. From then on
``refine.method: smooth`` has a section ``refine.smooth`` with its options, each of which enters the
fingerprint, and ``tests/stages/test_refiners.py`` tries it with the others.

The module is imported for every command's help: what takes time to load (torch, a solver) is
imported inside functions. What is computed belongs into ``stages/algorithms``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stages.frame.parallel import Kind

if TYPE_CHECKING:
    from torch import Tensor

Size = tuple[int, int]  # (h, w)


@dataclass(frozen=True, eq=False)
class Task:
    """One image of one set, and what its heat maps say, at the size of the maps.

    Attributes
    ----------
    image : uint8 [h, w, 3]
        RGB.
    probability : float32 [columns, h, w]
        That the factor is there, in [0, 1]: half where its mask begins, 0 everywhere for a factor
        that is absent.
    groups : tuple of slice
        Columns of one factorization each, for refiners in which factors compete for pixels.
    """

    image: NDArray[np.uint8]
    probability: NDArray[np.float32]
    groups: tuple[slice, ...]


class Refiner(Protocol):
    """Aligns maps of probabilities with the edges of their image, one image at a time.

    Its dataclass fields are its options, made by `stages.frame.params.param`; ``__post_init__``
    raises ValueError, beginning with the option's name, for values that cannot be meant.

    Attributes
    ----------
    kind : {"threads", "processes"}
        What refines several images at once: threads, if `refine` releases the interpreter lock
        (torch, numpy); or processes, which may be those of ``--cluster``.
    remedy : str
        What a person may change so that an image takes less memory (``lower refine.guided.x``);
        empty where nothing does.
    """

    kind: ClassVar[Kind]
    remedy: ClassVar[str]

    def refine(self, task: Task) -> NDArray[np.float32]:
        """Refined probabilities, float32 ``[columns, h, w]`` in [0, 1].

        The same for the same task, bit for bit, in any thread or process. `task` stays as it is.
        Columns that are 0 everywhere need no care: they come out 0, whatever is returned.
        """
        ...

    def bytes_per_image(self, size: Size, columns: int) -> int:
        """What `refine` holds besides the image and some copies of its maps' values.

        `stages.refine.layer` counts these. The size of the maps, and how many are refined.
        """
        ...


@runtime_checkable
class BatchRefiner(Refiner, Protocol):
    """A refiner that a GPU runs, on many images of one size at once; a CPU runs `refine`."""

    def refine_batch(self, images: "Tensor", p: "Tensor", groups: Sequence[slice]) -> "Tensor":
        """Refined probabilities of images of one size, all on one device.

        What is computed must not depend on the values, nor look at them from the CPU: it is
        recorded as a CUDA graph.

        Parameters
        ----------
        images : Tensor [b, 3, h, w] float32, RGB in [0, 1]
        p : Tensor [b, columns, h, w] float32
        groups : sequence of slice
            As in `Task`.

        Returns
        -------
        Tensor [b, columns, h, w] float32
        """
        ...

    def batch_bytes(self, size: Size, columns: int) -> int:
        """About what one image takes on the GPU, its maps on their way in and out included."""
        ...


@runtime_checkable
class LevelsRefiner(Refiner, Protocol):
    """A refiner that goes from whole numbers to whole numbers on a CPU, in fewer steps."""

    def refine_levels(
        self, image: NDArray[np.uint8], heat: NDArray[Any], thresholds: NDArray[np.float64]
    ) -> NDArray[np.uint8] | None:
        """``round(255 q)`` of what `refine` gives, but for rounding; None to be asked for that.

        Parameters
        ----------
        image : uint8 [h, w, 3]
        heat : uint8 or uint16 [h, w, columns]
            Heat maps in whole numbers, column by column in memory; not to be changed.
        thresholds : float64 [columns]
            Shares where their masks begin: p is `stages.algorithms.mean_field.unary`.

        Returns
        -------
        uint8 [h * w, columns], column by column in memory
            0 for a factor that is absent: without threshold, or without heat.
        """
        ...


def libraries_of(refiner: Refiner, device: str = "cpu") -> tuple[str, ...]:
    """Modules that refining loads, whose memory counts before anything runs.

    A refiner names those of `refine` in an attribute ``libraries``; without one it is taken to use
    torch, whose threads `stages.refine.stage` leaves as they were.
    """
    with_torch = "torch", "numba"
    return with_torch if device != "cpu" else getattr(refiner, "libraries", with_torch)
