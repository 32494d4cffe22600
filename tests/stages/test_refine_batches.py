"""refine in batches: their order, the same results as image by image, and memory that runs out."""

import dataclasses
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.init import write_params
from pipeline.params import read_params
from pipeline.registry import STAGES
from stages.algorithms.masks import binarise, unpack_masks
from stages.artifacts.concept_maps import ConceptMaps, entry_sets
from stages.artifacts.image_index import ImageIndex
from stages.frame.errors import StageError
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.refine import device as refine_batches
from stages.refine import lanes as cuda_lanes
from stages.refine.device import DeviceRefiner, plan_batches
from stages.refine.layer import LayerTasks
from stages.refine.params import RefineParams
from stages.refine.refiners.guided import Guided
from stages.refine.refiners.none import Unrefined
from stages.refine.refiners.refiner import Refiner
from stages.refine.stage import REFINE
from stages.refine.work import refined
from store import open_artifact

SIZES = {"wide": (60, 80), "tall": (80, 60), "square": (64, 64)}
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ),
]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def resources(device: str = "cpu", memory: int = 4 * 2**30) -> Resources:
    return Resources(device, 2, memory)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two sets whose images have three sizes, in turn; heat maps of these sizes."""
    folder = tmp_path_factory.mktemp("mixed")
    rng = np.random.default_rng(0)
    for i in range(14):
        h, w = list(SIZES.values())[i % 3]
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        path = folder / "photographs" / f"set{i % 2}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((w, h), Image.Resampling.BICUBIC).save(path)
    write_params(
        folder,
        str(folder / "photographs"),
        None,
        backbone="squeezenet1_1",
        weights="random:0",
        layers=["features.5"],
    )
    params = read_params(folder)
    changes: dict[str, dict[str, Any]] = {
        "extract": {"size": 64},
        "factorize": {"k": (2, 3), "stability_runs": 0},
        "heatmaps": {"long_side": 0},
    }
    for stage in STAGES[:4]:
        changed = dataclasses.replace(params[stage.name], **changes.get(stage.name, {}))
        execute(stage, changed, folder, resources())
    return folder


def tasks_of(project: Path, refiner: Refiner = Guided()) -> LayerTasks:  # noqa: B008 (frozen)
    heatmaps = open_artifact(project / "artifacts/heatmaps.zarr")
    index = ImageIndex.open(project / "artifacts/index", project, heatmaps)
    set_of = [rank for rank, entries in enumerate(entry_sets(heatmaps)) for _ in entries]
    maps = ConceptMaps(heatmaps, heatmaps.layers[0])
    return LayerTasks.of_all(refiner, index, maps, set_of)


def in_float64(one: LayerTasks, entry: int) -> np.ndarray:
    """q of one entry in rows, all in double precision, on a CPU."""
    task = one.task(entry)
    guide = torch.from_numpy(task.image).permute(2, 0, 1)[None].double() / 255
    p = torch.from_numpy(task.probability)[None].double()
    assert isinstance(one.refiner, Guided)
    q = one.refiner.inferred(guide, p, task.groups, few_kernels=False)
    q[:, (task.probability == 0).all(axis=(1, 2))] = 0
    return q[0].flatten(1).T.numpy()


@given(
    kinds=st.lists(st.sampled_from("abc"), max_size=60),
    limit=st.integers(1, 5),
    window=st.integers(0, 20),
)
@settings(max_examples=150, deadline=None)
def test_batches_hold_one_size_each_and_nobody_waits_long(kinds, limit, window):
    sizes = [(ord(kind), 1) for kind in kinds]
    batches = list(plan_batches(sizes, lambda _: limit, window))
    assert sorted(at for batch in batches for at in batch) == list(range(len(sizes)))
    latest = -1
    for batch in batches:
        assert 1 <= len(batch) <= limit and batch == sorted(batch)
        assert len({sizes[at] for at in batch}) == 1
        latest = max(latest, *batch)
        assert latest - batch[0] <= max(window, limit) + window


def test_two_sizes_in_turn_still_fill_their_batches():
    sizes = [(1, 2), (2, 1)] * 50
    assert [len(batch) for batch in plan_batches(sizes, lambda _: 10, 40)] == [10] * 10


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("params", [{}, {"joint": True}, {"colour_weight": 0.0, "working_side": 0}])
def test_batches_give_what_images_give_one_by_one(mixed, device, params, monkeypatch):
    monkeypatch.setattr(refine_batches, "BATCH", 3)
    one = tasks_of(mixed, Guided(**params))
    entries = range(len(one.maps.maps))
    found = list(DeviceRefiner(one, device, resources()).rows(entries))
    for ours, theirs in zip(found, map(partial(in_float64, one), entries), strict=True):
        assert ours.dtype == np.float32 and ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    # The CPU's colour term is in float32: up to a hundredth or so where q hangs in the balance.
    stage = list(refined(one, entries, resources()))
    apart = np.abs(np.concatenate(found) - np.concatenate(stage))
    assert apart.max() < 0.02 and (apart > 1e-3).mean() < 1e-3


@pytest.mark.parametrize("device", DEVICES)
def test_levels_and_masks_are_those_of_the_probabilities(mixed, device):
    batched = DeviceRefiner(tasks_of(mixed), device, resources())
    entries = [9, 2, 3, 13]  # some, in any order
    for rows, whole in zip(batched.rows(entries), batched.whole(entries), strict=True):
        assert whole.levels.dtype == whole.bits.dtype == np.uint8
        # two runs, and a GPU need not add in the same order twice
        assert np.abs(255 * rows - whole.levels).max() <= 0.5 + 1e-3
        found = unpack_masks(whole.bits, rows.shape[1])
        assert (found == binarise(rows, 0.5))[np.abs(rows - 0.5) > 1e-5].all()


@needs_cuda
@pytest.mark.parametrize("binarise", ["half", "percentile"])
def test_the_stage_on_a_gpu_is_the_stage_on_a_cpu(mixed, binarise):
    params = RefineParams(binarise=binarise)  # type: ignore[arg-type]
    found = []
    for device in ("cpu", "cuda"):
        out = execute(REFINE, params, mixed, resources(device))
        maps = ConceptMaps(open_artifact(out), "features.5")
        entries = range(len(maps.maps))
        found.append(([maps.shares(e) for e in entries], [maps.masks(e) for e in entries]))
        out.rename(out.with_name(f"{device}-{binarise}.zarr"))
    for here, there in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(there, here, atol=1 / 255 + 1e-3)
    here, there = (np.concatenate([m.ravel() for m in masks]) for _, masks in found)
    assert (here & there).sum() >= 0.999 * (here | there).sum()


@needs_cuda
def test_recorded_steps_give_what_single_ones_give(mixed, monkeypatch):
    one = tasks_of(mixed)
    entries = [e for e in range(len(one.maps.maps)) if one.maps.maps.grid_hw[e][0] == 60] * 8
    monkeypatch.setattr(refine_batches, "BATCH", 4)
    recorded = DeviceRefiner(one, "cuda", resources())
    found = list(recorded.whole(entries))
    assert any(lane.graphs for lane in recorded.lanes), "nothing was recorded"
    assert all(lane.recording for lane in recorded.lanes), "recording failed"
    monkeypatch.setattr(cuda_lanes, "GRAPHS", False)
    plain = DeviceRefiner(one, "cuda", resources())
    for ours, theirs in zip(found, plain.whole(entries), strict=True):
        # not bit for bit: other numbers of images may be multiplied by other kernels
        assert np.abs(ours.levels.astype(int) - theirs.levels).max() <= 1
    assert not any(lane.graphs for lane in plain.lanes)


class Small:
    """A device that takes so many images at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.tried: list[int] = []
        run = cuda_lanes.Lane.run

        def limited(lane: Any, step: Any, inputs: Any, record: int = 0) -> Any:
            self.tried.append(len(inputs[0]))
            if len(inputs[0]) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.\n...")
            return run(lane, step, inputs, record)

        monkeypatch.setattr(cuda_lanes.Lane, "run", limited)


@pytest.mark.parametrize("device", DEVICES)
def test_where_memory_is_short_batches_are_halved(mixed, device, monkeypatch):
    one = tasks_of(mixed)
    entries = [e for e in range(len(one.maps.maps)) if one.maps.maps.grid_hw[e][0] == 60] * 3
    expected = list(DeviceRefiner(one, device, resources()).whole(entries))
    small = Small(monkeypatch, most=3)
    found = list(DeviceRefiner(one, device, resources()).whole(entries))
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours.levels.astype(int) - theirs.levels).max() <= 1
    assert max(small.tried) > 3, "it was not short"


@pytest.mark.parametrize("device", DEVICES)
def test_one_image_that_does_not_fit_is_one_line(mixed, device, monkeypatch):
    Small(monkeypatch, most=0)
    with pytest.raises(StageError, match=r"\.png: .* needs about \d+ MiB .* \d+ MiB are free") as e:
        list(DeviceRefiner(tasks_of(mixed), device, resources()).whole(range(4)))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("device", DEVICES)
def test_processes_read_what_threads_read(mixed, device, monkeypatch):
    one = tasks_of(mixed)
    expected = list(DeviceRefiner(one, device, resources()).whole(range(14)))
    monkeypatch.setattr(refine_batches, "PROCESSES_FROM", 1)
    monkeypatch.setattr(refine_batches, "BATCH", 3)
    batched = DeviceRefiner(one, device, resources(memory=2**33))
    for _ in range(2):  # threads while processes start, then these
        for ours, theirs in zip(batched.whole(range(14)), expected, strict=True):
            assert np.abs(ours.levels.astype(int) - theirs.levels).max() <= 1
        readers = batched._readers
        assert readers
        wait(readers.starting)
    assert readers.processes and not readers.starting, "threads read"
    assert 0 < len(readers.free) < 10, "slabs are used again"


def test_an_image_that_is_gone_is_named(mixed):
    one = tasks_of(mixed)
    path = mixed / "photographs" / one.index.names[int(one.maps.maps.image_ids[5])]
    content = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(StageError, match="cannot be read"):
            list(DeviceRefiner(one, "cpu", resources()).whole(range(14)))
    finally:
        path.write_bytes(content)


def test_a_reader_that_stops_early_leaves_no_thread_at_work(mixed):
    rows = DeviceRefiner(tasks_of(mixed), "cpu", resources()).rows(range(14))
    next(rows)
    rows.close()


def test_little_memory_makes_small_batches(mixed):
    one = tasks_of(mixed)
    limits = [
        DeviceRefiner(one, "cpu", resources(memory=memory)).limit_of((600, 800))
        for memory in (2**26, 2**30, 2**40)
    ]
    assert limits[0] == 1 < limits[1] < limits[2] == refine_batches.BATCH


def test_only_what_refines_in_batches_gets_a_device(mixed):
    with pytest.raises(TypeError, match="Unrefined does not refine in batches"):
        DeviceRefiner(tasks_of(mixed, Unrefined()), "cpu", resources())
