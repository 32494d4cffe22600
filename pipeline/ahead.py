"""`dff compile`: the loops of a usual run, compiled ahead by several processes.

Each part calls loops on a few numbers, through the functions that stages call: then Numba compiles
them for the same types, and keeps them where the stages look for them. Nothing is listed twice but
these calls; a test compares what they have compiled with what a run needs.
"""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from threading import Lock

import numpy as np
from scipy import sparse

from stages.algorithms.cores import cores
from stages.frame.progress import note

Part = Callable[[], None]
SIZE = 8, 12  # of a map that makes all loops run


def of_refining() -> None:
    """The mean field: the longest to compile, as long as all others together."""
    from stages.algorithms.colour_term import ColourTerm
    from stages.algorithms.inference.images import Terms, infer_levels, loops_suit

    colour = ColourTerm(cells=4)
    if loops_suit(2, colour, joint=False):
        random = np.random.default_rng(0)
        image = random.integers(0, 256, (*SIZE, 3), np.uint8)
        heat = random.integers(0, 1 << 16, (*SIZE, 2), np.uint16)
        infer_levels(image, heat, np.full(2, 0.2), Terms(2, 1e-4, 5.0, 2, colour, 6))


def of_factorizing() -> None:
    """Passes over sparse rows and over dense ones, of both types, and all between them."""
    from stages.algorithms.nmf import factorize

    rows = sparse.random_array((256, 16), density=0.3, format="csr", dtype=np.float32, rng=0)
    factorize(rows, 2, seed=0)
    dense = np.random.default_rng(0).random((256, 16), np.float32)
    factorize(dense, 2, seed=0)
    factorize(dense.astype(np.float16), 2, seed=0)


def of_heat_maps() -> None:
    """Heat maps and where their masks begin."""
    from stages.algorithms.interpolation import count, draw, sample, upsampled
    from stages.algorithms.ranks import Brackets, Counts

    grid = np.random.default_rng(0).random((3, 4, 2), np.float32)
    draw(grid, SIZE, np.ones(2), np.full(2, 0.5))
    sample(grid, SIZE, 20)
    ends = np.array([1, 1 << 30]), np.array([1 << 30, 1 << 30]), np.array([16, 16])
    count(grid, SIZE, Brackets(*ends), Counts.none(2), Lock())
    upsampled(grid, SIZE)


def of_masks() -> None:
    """Masks, their boxes, and maps as they lie on the disk."""
    from stages.algorithms.apart import apart
    from stages.algorithms.mask_boxes import measure
    from stages.algorithms.parts import Parts, Shares
    from stages.algorithms.whole_numbers import by_column, halves, near_largest, probabilities
    from store.smooth import remainders, restored

    heat = np.arange(3 * SIZE[0] * SIZE[1], dtype=np.uint16).reshape(3, -1)
    starts, all_of = np.full(3, 0.001), np.ones(3, np.bool_)
    q = probabilities(heat.T.reshape(*SIZE, 3), starts)
    levels, bits = halves(q, all_of)
    rows = np.ascontiguousarray(heat.T).reshape(*SIZE, 3)
    near_largest(by_column(rows), 0.4, starts, all_of)
    measure(bits, heat.T, SIZE)
    measure(bits, levels, SIZE)
    apart(levels, heat.T, Shares(starts, np.ones(3), all_of), [Parts(slice(1, 3), 0)])
    lines = [(SIZE[0] * SIZE[1], SIZE[1])]
    restored(remainders(heat, lines), lines, 0, SIZE[1])


def of_pictures() -> None:
    """Pictures of the report and run lengths of its masks."""
    from stages.drawing.overlays import heat_picture, mask_picture, spotlight_picture
    from stages.report.packed import runs_of_masks

    random = np.random.default_rng(0)
    photo, colour = random.integers(0, 256, (*SIZE, 3), np.uint8), (200, 40, 40)
    strength = random.random(SIZE, np.float32)
    heat_picture(photo, strength[None], [colour])
    mask_picture(photo, [2 * strength], [2 * strength], [colour])
    spotlight_picture(photo, strength, 2 * strength, colour)
    runs_of_masks(random.integers(0, 4, (*SIZE, 1), np.uint8), 2)


# The longest first.
PARTS: tuple[Part, ...] = (of_refining, of_heat_maps, of_factorizing, of_pictures, of_masks)


def compile_ahead(workers: int) -> str:
    """Compile what is not kept yet, part by part in processes of their own; says how long it took.

    Parameters
    ----------
    workers : int
        Processes at once; 0: one per core.
    """
    began = time.monotonic()
    at_once = min(workers or cores(), len(PARTS))
    with ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn")) as pool:
        jobs = {pool.submit(part): part.__name__ for part in PARTS}
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            note(f"compiled loops {jobs[job].replace('_', ' ')} ({done} of {len(PARTS)})")
    return f"loops are compiled and kept ({time.monotonic() - began:.0f} s)"
