"""Where a refiner works: in threads, in processes or on a cluster, or on a GPU."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stages.frame.parallel import ordered_map
from stages.frame.resources import Resources
from stages.maps.plan import Compute, Rows, Whole
from stages.refine.layer import LayerTasks, device_of
from stages.refine.refiners.refiner import Refiner, Task


def refined(tasks: LayerTasks, entries: Sequence[int], resources: Resources) -> Iterator[Rows]:
    """Refined probabilities of each entry, float32 ``[h * w, columns]``, in order."""
    workers = resources.workers
    if tasks.refiner.kind == "processes":
        read = ordered_map(tasks.task, entries, workers=workers)
        one = partial(rows_of_task, tasks.refiner)
        yield from ordered_map(
            one, read, workers=workers, kind="processes", cluster=resources.cluster
        )
    elif (device := device_of(tasks.refiner, resources)) == "cpu":
        # Each worker takes an image from its file to its rows: reading, decoding and inference of
        # several overlap.
        yield from ordered_map(partial(_on_cpu, tasks), entries, workers=workers)
    else:
        from stages.refine.device import DeviceRefiner

        yield from DeviceRefiner(tasks, device, resources).rows(entries)


def computing(tasks: LayerTasks, half: bool, resources: Resources) -> Compute:
    """`refined`, again and again; or whole numbers where masks are q >= 0.5 (`half`) and no other
    processes make them."""
    device = device_of(tasks.refiner, resources)
    if device == "cpu" and half and tasks.refiner.kind == "threads":
        return partial(_halved, tasks, resources.workers)
    if device == "cpu":
        return partial(refined, tasks, resources=resources)
    from stages.refine.device import DeviceRefiner

    on_device = DeviceRefiner(tasks, device, resources)
    return on_device.whole if half else on_device.rows


def refined_by(refiner: Refiner, task: Task) -> NDArray[np.float32]:
    """Refined probabilities ``[columns, h, w]`` of one image, in this process, on a CPU."""
    q, present = refiner.refine(task), _present(task)
    return q if present.all() else np.where(present[:, None, None], q, np.float32(0))


def _present(task: Task) -> NDArray[np.bool_]:
    """A factor that is absent stays absent, whatever the floor of the probabilities."""
    return np.asarray(task.probability.max(axis=(1, 2)) > 0)


def rows_of_task(refiner: Refiner, task: Task) -> Rows:
    """`refined_by`, as ``[h * w, columns]``."""
    q = refined_by(refiner, task)
    return np.ascontiguousarray(q.reshape(len(q), -1).T)


def _halved(tasks: LayerTasks, workers: int, entries: Sequence[int]) -> Iterator[Whole]:
    yield from ordered_map(partial(_halved_one, tasks), entries, workers=workers)


def _halved_one(tasks: LayerTasks, entry: int) -> Whole:
    from stages.algorithms.whole_numbers import halves

    heat = tasks.heat(entry)
    task = tasks.task(entry, heat)
    levels, bits = halves(tasks.refiner.refine(task), _present(task))
    if tasks.apart:
        levels, bits = tasks.settled(entry, levels, heat)
    around = tasks.certain_at(entry, heat) if tasks.certain else None
    return Whole(levels, bits, around, settled=True)


def _on_cpu(tasks: LayerTasks, entry: int) -> Rows:
    return rows_of_task(tasks.refiner, tasks.task(entry))
