"""Where a refiner works: in threads, in processes or on a cluster, or on a GPU."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stages.frame.cluster import Cluster
from stages.frame.parallel import ordered_map
from stages.frame.resources import Resources
from stages.maps.finished import Finished, measured
from stages.maps.made_there import There
from stages.maps.plan import Compute, Rows, Whole
from stages.refine.layer import Heat, LayerTasks, device_of
from stages.refine.refiners.refiner import BatchRefiner, LevelsRefiner, Refiner, Task


def refined(tasks: LayerTasks, entries: Sequence[int], resources: Resources) -> Iterator[Rows]:
    """Refined probabilities of each entry, float32 ``[h * w, columns]``, in order."""
    workers = resources.workers
    if resources.spread is not None:
        there = resources.spread, f"refine {tasks.maps.layer}: images"
        yield from ordered_map(partial(_on_cpu, tasks), entries, cluster=there[0], label=there[1])
    elif tasks.refiner.kind == "processes" and workers > 1:
        read = ordered_map(tasks.task, entries, workers=workers)
        one = partial(rows_of_task, tasks.refiner)
        yield from ordered_map(one, read, workers=workers, kind="processes")
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
    if resources.spread is not None:
        return partial(refined, tasks, resources=resources)
    device = device_of(tasks.refiner, resources)
    if device == "cpu" and half and tasks.refiner.kind == "threads":
        return partial(_halved, tasks, resources.workers)
    if device == "cpu":
        return partial(refined, tasks, resources=resources)
    from stages.refine.device import DeviceRefiner

    on_device = DeviceRefiner(tasks, device, resources)
    return on_device.whole if half else on_device.rows


def making_there(tasks: LayerTasks, half: bool, resources: Resources) -> There | None:
    """What a cluster's workers compute, where there is one; on their GPUs, if each has one."""
    cluster = resources.spread
    if cluster is None:
        return None
    of_task = resources.of_task
    # where masks begin is counted on CPUs: all passes give the same
    on_gpus = half and isinstance(tasks.refiner, BatchRefiner) and of_task.device != "cpu"
    if not on_gpus or "cpu" in devices_there(cluster, of_task):
        of_task = replace(of_task, device="cpu")
    compute = partial(_computed, tasks, half, of_task)
    return There(cluster, compute, f"refine {tasks.maps.layer}")


def devices_there(cluster: Cluster, resources: Resources) -> set[str]:
    """What the workers of a cluster would use."""
    workers, of_task = cluster.client.nthreads(), Resources.torch_device
    label = "refine: devices"
    asked = [cluster.submit(of_task, resources, label=label, near=one) for one in workers]
    return set(cluster.results(asked))


def _computed(
    tasks: LayerTasks, half: bool, resources: Resources, entries: Sequence[int]
) -> Iterator[Rows | Whole | Finished]:
    yield from computing(tasks, half, resources)(entries)


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


def _halved(tasks: LayerTasks, workers: int, entries: Sequence[int]) -> Iterator[Finished]:
    yield from ordered_map(partial(_halved_one, tasks), entries, workers=workers)


def _halved_one(tasks: LayerTasks, entry: int) -> Finished:
    """All that is made of an entry, in one go: one thread has it in its cache."""
    from stages.algorithms.whole_numbers import by_column, masks_of_halves

    found, thresholds = tasks.heat(entry)
    heat = by_column(found), thresholds
    levels = whole_refined(tasks, entry, heat)
    if tasks.apart:
        levels, bits = tasks.settled(entry, levels, heat)
    else:
        bits = masks_of_halves(levels)
    around = tasks.certain_at(entry, heat) if tasks.certain else None
    h, w = heat[0].shape[:2]
    return Finished(entry, levels, bits, [measured(entry, levels, bits, (h, w), around)])


def whole_refined(tasks: LayerTasks, entry: int, heat: Heat) -> NDArray[np.uint8]:
    """``round(255 q)`` of an entry, uint8 ``[h * w, columns]``, from its heat maps."""
    from stages.algorithms.whole_numbers import halves

    refiner = tasks.refiner
    if isinstance(refiner, LevelsRefiner):
        levels = refiner.refine_levels(tasks.image(entry), *heat)
        if levels is not None:
            return levels
    task = tasks.task(entry, heat)
    return halves(refiner.refine(task), _present(task))[0]


def _on_cpu(tasks: LayerTasks, entry: int) -> Rows:
    return rows_of_task(tasks.refiner, tasks.task(entry))
