"""Extraction: what is computed, what is taken over, in which order, within which memory."""

import errno
import gc
import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from typer.testing import Result

from stages.algorithms.backbone import Backbone, forward_bytes
from stages.algorithms.backbone.graph import build
from stages.artifacts.image_index import ImageIndex
from stages.extract.plan import (
    DECODE_BYTES,
    Footprint,
    GpuFootprint,
    Lanes,
    disk_order,
    gpu_batch,
    plan_jobs,
)
from stages.frame.errors import StageError
from stages.frame.resources import Resources
from stages.images.decode import ImageError, decode_resized, decode_rgb
from stages.images.readers import Readers
from stages.images.resize import resize_rgb
from store import Layout, Location, open_artifact
from store.publication import only_one
from tools import draw, edit, interrupted_at, message, run_dff

Dff = Callable[..., Result]
LAYER = "features.5"


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each forward pass saw."""
    seen: list[int] = []
    call = Backbone.__call__

    def counted(self: Backbone, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(len(batch))
        return call(self, batch)

    monkeypatch.setattr(Backbone, "__call__", counted)
    return seen


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def extract_afresh(project: Path, dff: Dff) -> dict[str, bytes]:
    """The bytes of an extraction with nothing to take over."""
    out, aside = project / "artifacts/activations.zarr", project / "aside"
    out.rename(aside)
    assert dff("extract").exit_code == 0
    fresh = contents(out)
    shutil.rmtree(out)
    aside.rename(out)
    return fresh


def both(dff: Dff) -> None:
    for stage in ("index", "extract"):
        result = dff(stage)
        assert result.exit_code == 0, result.exception


# -- incremental ---------------------------------------------------------------------------------


def test_added_images_are_the_only_ones_computed(
    project: Path, photographs: Path, dff: Dff, passes: list[int]
) -> None:
    both(dff)
    assert sum(passes) == 14
    passes.clear()
    # between the others by name, and in one case alone in its batch, which is then run twice
    for name in ("0a", "3a", "9"):
        draw(photographs / "images" / "discs" / f"{name}.png", seed=sum(map(ord, name)))
    both(dff)
    assert sum(passes) == 4, "three images; the one that is left over is computed twice"
    out = project / "artifacts/activations.zarr"
    assert len(open_artifact(out).ragged(LAYER)) == 17
    taken_over = contents(out)
    assert taken_over == extract_afresh(project, dff), "taken over or computed: the same bytes"


def test_removed_and_renamed_images_need_no_forward_pass(
    project: Path, photographs: Path, dff: Dff, passes: list[int]
) -> None:
    both(dff)
    passes.clear()
    for number in (1, 4):
        (photographs / "images" / "discs" / f"{number}.png").unlink()
    folder = photographs / "images" / "more discs"
    (folder / "2.png").rename(folder / "zebra.png")
    both(dff)
    assert passes == []
    artifact = open_artifact(project / "artifacts/activations.zarr")
    assert artifact.map("more discs", "images/more discs/zebra.png").any()
    assert contents(project / "artifacts/activations.zarr") == extract_afresh(project, dff)


def test_nothing_stale_is_ever_taken_over(
    project: Path, photographs: Path, dff: Dff, passes: list[int]
) -> None:
    both(dff)
    out = project / "artifacts/activations.zarr"

    def computed(count: int) -> None:
        passes.clear()
        both(dff)
        assert sum(passes) == count
        assert contents(out) == extract_afresh(project, dff)

    draw(photographs / "images" / "discs" / "3.png", seed=99, size=(72, 56))
    computed(2)  # one image, run as a batch of two
    for before, after in (
        ("weights: random:0", "weights: random:1"),
        ("size: 64", "size: 80"),
        ("resize: squash", "resize: long_side"),
        ("precision: float32", "precision: bfloat16"),
        ("dtype: float16", "dtype: float32"),
    ):
        edit(project, before, after)
        # aspect ratio kept, each set has three shapes: 3, 2 and 2 images, in batches of two
        alone = 2 if "resize: long_side" in (project / "params.yaml").read_text() else 0
        computed(14 + alone)
    edit(project, "batch: 2", "batch: 3")
    computed(0)  # which images run together changes nothing


@pytest.mark.parametrize("named", ["w.pth", "~/w.pth", "w"])
def test_a_weights_file_that_changed_under_its_name(
    project: Path, dff: Dff, passes: list[int], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside params.yaml or at home, and whatever its suffix."""
    monkeypatch.setenv("HOME", str(project))
    network = build("squeezenet1_1", "cpu")
    file = project / Path(named).name
    torch.save(network.state_dict(), file)
    edit(project, "weights: random:0", f"weights: {named}")
    both(dff)
    first = open_artifact(project / "artifacts/activations.zarr").ragged(LAYER).map(0)
    torch.save({name: 2 * value for name, value in network.state_dict().items()}, file)
    passes.clear()
    both(dff)
    assert sum(passes) == 14
    assert (
        open_artifact(project / "artifacts/activations.zarr").ragged(LAYER).map(0) != first
    ).any()


def test_fewer_layers_are_taken_over_more_are_computed(
    project: Path, dff: Dff, passes: list[int]
) -> None:
    edit(project, "layers: [features.5]", "layers: [features.5, features.2]")
    both(dff)
    passes.clear()
    edit(project, "layers: [features.5, features.2]", "layers: [features.2]")
    both(dff)
    assert passes == []
    assert open_artifact(project / "artifacts/activations.zarr").layers == ["features.2"]
    edit(project, "layers: [features.2]", "layers: [features.2, features.7]")
    both(dff)
    assert sum(passes) == 14


def test_an_unfinished_run_of_other_images_is_not_lost(
    project: Path, photographs: Path, dff: Dff, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.extract.stage.plan_layout", lambda *a, **k: Layout(49, 98))
    assert dff("index").exit_code == 0
    with interrupted_at(8):
        assert dff("extract").exit_code == 130
    draw(photographs / "images" / "discs" / "9.png", seed=9)
    passes.clear()
    both(dff)
    assert sum(passes) <= 8, "15 images, 8 of them on disk already"
    assert contents(project / "artifacts/activations.zarr") == extract_afresh(project, dff)


def test_damaged_earlier_rows_are_computed_again(
    project: Path, photographs: Path, dff: Dff, passes: list[int]
) -> None:
    both(dff)
    (shard,) = (project / "artifacts/activations.zarr").glob("layers/*/maps/values/c/*/0")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(content)
    draw(photographs / "images" / "discs" / "9.png", seed=9)
    passes.clear()
    assert dff("index").exit_code == 0
    result = dff("extract")
    assert result.exit_code == 0
    assert "not reusing earlier rows" in result.stderr and "c/0/0" in result.stderr
    assert sum(passes) >= 15
    assert contents(project / "artifacts/activations.zarr") == extract_afresh(project, dff)


def test_an_artifact_of_an_older_layout_is_replaced(
    project: Path, dff: Dff, passes: list[int]
) -> None:
    import zarr

    both(dff)
    out = project / "artifacts/activations.zarr"
    expected = contents(out)
    zarr.open_group(out, mode="r+").attrs["schema"] = 1
    line = message(dff("factorize"))
    assert "schema 1, this version reads 2 and 3" in line and "delete it" in line
    passes.clear()
    both(dff)
    assert sum(passes) == 14 and contents(out) == expected


# -- what is stored ------------------------------------------------------------------------------


def test_values_beyond_float16_stay_finite(project: Path, dff: Dff) -> None:
    network = build("squeezenet1_1", "cpu")
    state = network.state_dict()
    state["features.0.weight"] *= 1e6
    torch.save(state, project / "large.pth")
    edit(project, "weights: random:0", "weights: large.pth")
    both(dff)
    ragged = open_artifact(project / "artifacts/activations.zarr").ragged(LAYER)
    values = ragged.rows(0, int(ragged.offsets[-1]))
    assert np.isfinite(values).all() and values.max() > 65504
    assert "float32" in ragged.stored_dtypes
    assert dff("factorize").exit_code == 0


def test_a_flipped_bit_stops_factorize_with_shard_and_images(project: Path, dff: Dff) -> None:
    both(dff)
    (shard,) = (project / "artifacts/activations.zarr").glob("layers/*/maps/values/c/*/0")
    sound = shard.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(sound), 5):
        flipped = bytearray(sound)
        flipped[position] ^= 1
        shard.write_bytes(flipped)
        line = message(dff("factorize"))
        assert "activations.zarr" in line and "c/0/0" in line and "images/discs/" in line
    shard.unlink()
    assert "it is gone" in message(dff("factorize"))


# -- order and plan ------------------------------------------------------------------------------


class _Index:
    """As much of an index as the order needs."""

    def __init__(self, sets: dict[str, list[int]]) -> None:
        self.sets = sets

    def size(self, image_id: int) -> tuple[int, int]:
        return (40, 40 + image_id % 3)


members = st.dictionaries(
    st.text("abc", min_size=1, max_size=2), st.lists(st.integers(0, 30), unique=True), max_size=5
)


@given(sets=members)
def test_every_image_lies_once_and_sets_in_few_runs(sets: dict[str, list[int]]) -> None:
    order = disk_order(_Index(sets), "long_side", 64)  # type: ignore[arg-type]
    assert sorted(order.image_ids) == sorted({i for ids in sets.values() for i in ids})
    kinds = {tuple(name for name, ids in sets.items() if image in ids) for image in order.image_ids}
    for name, ids in sets.items():
        positions = order.positions(ids)
        assert sorted(order.image_ids[p] for p in positions) == sorted(ids)
        runs = 1 + int((np.diff(positions) > 1).sum()) if positions else 0
        assert runs <= sum(name in kind for kind in kinds)
    first = next(iter(sets), None)
    if first:
        assert order.positions(sets[first]) == list(range(len(sets[first])))


@given(
    images=st.lists(st.tuples(st.booleans(), st.integers(0, 2)), max_size=60),
    batch=st.integers(1, 7),
)
def test_jobs_cover_the_order_and_hold_full_batches(
    images: list[tuple[bool, int]], batch: int
) -> None:
    shapes = [((32, 32 + kind),) for _, kind in images]
    known = np.array([one for one, _ in images], dtype=bool)
    jobs = plan_jobs(shapes, known, batch)
    assert [position for job in jobs for position in range(job.start, job.stop)] == list(
        range(len(images))
    )
    assert [p for job in jobs for p in job.batch] == np.flatnonzero(~known).tolist()
    for job in jobs:
        assert len(job.batch) <= batch
        assert all(job.start <= p < job.stop and shapes[p] == job.shapes for p in job.batch)
    for job, following in pairwise(jobs):
        if job.batch and following.batch:
            full = len(job.batch) == batch
            assert full or shapes[following.batch[0]] != job.shapes


def test_memory_of_a_forward_pass_by_hand() -> None:
    # VGG's first block: its second convolution reads and writes 64 x 224 x 224 float32
    block = 64 * 224 * 224 * 4
    peak, outputs = forward_bytes("vgg11", ("conv1_1",), 3, 224, 224)
    assert outputs == 3 * block
    assert peak == 3 * (block + max(block, 3 * 224 * 224 * 4))
    assert forward_bytes("vgg19", ("conv5_4",), 2, 224, 224) == (4 * block, 2 * 512 * 14 * 14 * 4)


def test_lanes_by_hand() -> None:
    held = Footprint(resident=100, shards=20, slice=4, forward=50, inputs=10, outputs=5, image=1)
    assert held.needs.peak(0) == 130 and held.lane == 65
    assert held.lanes_within(within(130 + 65)) == Lanes(1, 8, 4)
    assert held.lanes_within(within(130 + 4 * 65 + 1)) == Lanes(4, 2, 4)
    assert held.lanes_within(within(10_000)) == Lanes(8, 1, 4)
    assert held.lanes_within(within(10_000)).waiting == 9
    with pytest.raises(StageError, match=r"extract needs about 0 MiB.*the budget is 0 MiB"):
        held.lanes_within(within(194))


def within(memory: int, workers: int = 8) -> Resources:
    return Resources("cpu", workers, memory)


def test_threads_of_torch_are_left_alone(project: Path, dff: Dff) -> None:
    before = torch.get_num_threads()
    both(dff)
    assert torch.get_num_threads() == before


def test_lanes_do_not_change_results(project: Path, dff: Dff) -> None:
    both(dff)
    out = project / "artifacts/activations.zarr"
    expected = contents(out)
    for workers in ("1", "3", "5"):
        shutil.rmtree(out)
        assert dff("extract", "--workers", workers).exit_code == 0
        assert contents(out) == expected


def test_the_index_knows_sizes_and_hashes_at_once(project: Path, dff: Dff) -> None:
    assert dff("index").exit_code == 0
    index = ImageIndex.open(project / "artifacts/index", project)
    assert index.hashes.shape == (14, 32) and index.sizes.shape == (14, 2)
    assert index.hashes[3].tobytes().hex() == index.images["sha256"][3]


def test_an_image_that_no_longer_decodes_is_one_line(
    project: Path, dff: Dff, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dff("index").exit_code == 0

    def broken(data: bytes, shape: tuple[int, int], **_: object) -> np.ndarray:
        raise ImageError("truncated")

    monkeypatch.setattr("stages.artifacts.image_index.decode_resized", broken)
    line = message(dff("extract"))
    assert "images/discs/0.png: truncated" in line and "dff run" in line


def test_reuse_can_be_refused(project: Path, dff: Dff, passes: list[int]) -> None:
    both(dff)
    expected = contents(project / "artifacts/activations.zarr")
    passes.clear()
    assert dff("extract").exit_code == 0
    assert passes == []
    assert dff("extract", "--no-reuse").exit_code == 0
    assert sum(passes) == 14
    assert contents(project / "artifacts/activations.zarr") == expected


def test_other_code_is_another_recipe(
    project: Path, dff: Dff, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    both(dff)
    passes.clear()
    monkeypatch.setattr("stages.extract.reuse._code_digest", lambda: "changed")
    assert dff("extract").exit_code == 0
    assert sum(passes) == 14


def test_work_begun_with_other_weights_is_not_gone_on_with(
    project: Path, dff: Dff, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights by name have no digest in the fingerprint: an upgrade may change what they mean."""
    from stages.algorithms.backbone.weights import parse_weights

    monkeypatch.setattr("stages.extract.stage.plan_layout", lambda *a, **k: Layout(49, 98))
    assert dff("index").exit_code == 0
    with interrupted_at(8):
        assert dff("extract").exit_code == 130
    monkeypatch.setattr(
        "stages.algorithms.backbone.network.parse_weights",
        lambda backbone, weights: parse_weights(backbone, "random:7"),
    )
    passes.clear()
    assert dff("extract").exit_code == 0
    assert sum(passes) == 14
    assert contents(project / "artifacts/activations.zarr") == extract_afresh(project, dff)


def test_an_index_of_other_images_is_refused_downstream(
    project: Path, photographs: Path, dff: Dff
) -> None:
    for stage in ("index", "extract", "factorize", "heatmaps"):
        assert dff(stage).exit_code == 0
    draw(photographs / "images" / "discs" / "0a.png", seed=1)
    assert dff("index").exit_code == 0
    for stage in ("heatmaps", "refine"):
        line = message(dff(stage))
        assert "artifacts/index: was made after" in line and "dff run" in line


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


# -- large batches through a device ------------------------------------------------------------
# On a CPU the device is this one, without streams and graphs: the order of things is the same.


@pytest.fixture
def as_on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extract as on a GPU, in batches of four images."""
    for module in ("needs", "stage"):
        monkeypatch.setattr(f"stages.extract.{module}.in_large_batches", lambda device: True)
    monkeypatch.setattr("stages.extract.plan.GPU_BATCH", 4)


def test_batches_of_a_gpu_by_hand() -> None:
    conv5_4 = 14 * 14 * 512 * 4
    assert gpu_batch(16, 224 * 224, conv5_4) == 128
    assert gpu_batch(200, 224 * 224, conv5_4) == 200, "more, if one wants it"
    assert gpu_batch(16, 64 * 64, 1000) == 256
    assert gpu_batch(16, 448 * 448, conv5_4) == 32
    conv1_2 = 224 * 224 * 64 * 4
    assert gpu_batch(4, 224 * 224, conv1_2) == 10, "what comes back fits 128 MiB"
    assert gpu_batch(1, 4096 * 4096, conv1_2) == 2


def test_memory_of_a_gpu_run_by_hand() -> None:
    held = GpuFootprint(
        resident=100, shards=20, slice=4, forward=0, inputs=16, outputs=60, image=1, process=2**20
    )
    assert held.needs.peak(0) == 100 + 40 + 4 * (16 + 64), "pinned memory comes in powers of two"
    assert held.lane == DECODE_BYTES + 8 * 2**20
    assert held.lanes_within(within(10**9, 16)) == Lanes(16, 1, 4, processes=16)
    assert held.lanes_within(within(10**9, 1)) == Lanes(1, 1, 4), "one process is no faster"
    threads, process = held.needs.peak(16), 2**20 + DECODE_BYTES + 4
    for count, processes in ((16, 16), (9, 9), (8, 8), (7, 0), (0, 0)):
        budget = threads + (count + 1) * process - 1
        assert held.lanes_within(within(budget, 16)) == Lanes(16, 1, 4, processes=processes)


@pytest.mark.parametrize(
    "edits",
    [
        {},
        {"dtype: float16": "dtype: float32"},
        {"precision: float32": "precision: tf32"},
        {"precision: float32": "precision: bfloat16"},
        {"resize: squash": "resize: long_side"},
        {"layers: [features.5]": "layers: [features.5, features.2]"},
        {"batch: 2": "batch: 300"},
    ],
    ids=lambda edits: next(iter(edits.values()), "as it is"),
)
def test_large_batches_give_the_same_bytes(
    project: Path, dff: Dff, edits: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for before, after in edits.items():
        edit(project, before, after)
    both(dff)
    expected = contents(project / "artifacts/activations.zarr")
    shutil.rmtree(project / "artifacts/activations.zarr")
    for module in ("needs", "stage"):
        monkeypatch.setattr(f"stages.extract.{module}.in_large_batches", lambda device: True)
    monkeypatch.setattr("stages.extract.plan.GPU_BATCH", 4)
    both(dff)
    assert contents(project / "artifacts/activations.zarr") == expected


@pytest.mark.usefixtures("as_on_gpu")
@pytest.mark.parametrize("images", [4, 8, 12])
def test_large_batches_go_on_after_an_interruption(
    project: Path, dff: Dff, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    monkeypatch.setattr("stages.extract.stage.plan_layout", lambda *a, **k: Layout(49, 98))
    assert dff("index").exit_code == 0
    with interrupted_at(images):
        assert dff("extract").exit_code == 130
    sent: list[int] = []
    maps = Backbone.maps
    monkeypatch.setattr(
        Backbone, "maps", lambda self, pixels: (sent.append(len(pixels)), maps(self, pixels))[1]
    )
    assert dff("extract").exit_code == 0
    assert sum(sent) == 14 - images
    assert contents(project / "artifacts/activations.zarr") == extract_afresh(project, dff)


@pytest.mark.usefixtures("as_on_gpu")
def test_large_batches_take_over_known_rows(project: Path, photographs: Path, dff: Dff) -> None:
    both(dff)
    for name in ("0a", "3a", "9"):
        draw(photographs / "images" / "discs" / f"{name}.png", seed=sum(map(ord, name)))
    both(dff)
    assert contents(project / "artifacts/activations.zarr") == extract_afresh(project, dff)
    (photographs / "images" / "discs" / "9.png").unlink()
    both(dff)
    assert contents(project / "artifacts/activations.zarr") == extract_afresh(project, dff)


@pytest.mark.parametrize("over", [1, 5, 14])
def test_values_beyond_float16_round_nothing_else(
    project: Path, dff: Dff, monkeypatch: pytest.MonkeyPatch, over: int
) -> None:
    """Chunks hold several images: those beside a large one must not be float16 already."""
    state = build("squeezenet1_1", "cpu").state_dict()
    torch.save(state, project / "w.pth")
    edit(project, "weights: random:0", "weights: w.pth")
    both(dff)
    ragged = open_artifact(project / "artifacts/activations.zarr").ragged(LAYER)
    highest = sorted(float(ragged.map(i).max()) for i in range(len(ragged)))
    scale = 66000 / highest[-over]
    for name in ("expand1x1", "expand3x3"):  # what features.5 pools
        for kind in ("weight", "bias"):
            state[f"features.4.{name}.{kind}"] *= scale
    torch.save(state, project / "w.pth")
    monkeypatch.setattr("stages.extract.stage.plan_layout", lambda *a, **k: Layout(70, 140))
    both(dff)
    out = project / "artifacts/activations.zarr"
    expected, dtypes = contents(out), open_artifact(out).ragged(LAYER).stored_dtypes
    assert "float32" in dtypes and ("float16" in dtypes) == (over < 14)
    shutil.rmtree(out)
    for module in ("needs", "stage"):
        monkeypatch.setattr(f"stages.extract.{module}.in_large_batches", lambda device: True)
    monkeypatch.setattr("stages.extract.plan.GPU_BATCH", 4)
    both(dff)
    assert contents(out) == expected


@pytest.mark.usefixtures("as_on_gpu")
def test_smaller_batches_are_tried_when_memory_runs_out(
    project: Path, dff: Dff, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(dff)
    out = project / "artifacts/activations.zarr"
    expected, tried, maps = contents(out), list[int](), Backbone.maps

    def limited(self: Backbone, pixels: torch.Tensor) -> object:
        tried.append(len(pixels))
        if len(pixels) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return maps(self, pixels)

    monkeypatch.setattr(Backbone, "maps", limited)
    shutil.rmtree(out)
    most = 3
    result = dff("extract")
    assert result.exit_code == 0 and tried == [4, 2, 2, 2, 2, 2, 2, 2], tried
    assert "4 images of 64x64 do not fit" in result.stderr and "with 2 at once" in result.stderr
    assert contents(out) == expected
    shutil.rmtree(out)
    most = 1
    line = message(dff("extract", "--no-reuse"))
    assert re.search(r"a pass of 2 images of 64x64, about \d+ MiB, does not fit .* MiB are", line)


@pytest.mark.usefixtures("as_on_gpu")
def test_a_network_that_gives_no_numbers_is_refused_in_large_batches(
    project: Path, dff: Dff
) -> None:
    state = build("squeezenet1_1", "cpu").state_dict()
    state["features.0.weight"] *= 1e6
    torch.save(state, project / "large.pth")
    edit(project, "weights: random:0", "weights: large.pth")
    edit(project, "precision: float32", "precision: float16")
    assert dff("index").exit_code == 0
    line = message(dff("extract"))
    assert "NaN or infinite values" in line and "use bfloat16" in line
    edit(project, "layers: [features.5]", "layers: [features.0]")
    edit(project, "weights: large.pth", "weights: random:0")
    assert dff("extract").exit_code == 0  # values below zero are kept as they are
    assert "features.0" in message(dff("factorize"))


@pytest.mark.parametrize("kind", ["jpg", "png", "tiff", "gif", "turned.jpg"])
@pytest.mark.parametrize("shape", [(64, 64), (56, 72), (100, 33), (20, 300)])
def test_decoding_within_pillow_gives_the_same_pixels(
    tmp_path: Path, kind: str, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (56, 72, 4 if kind == "png" else 3), np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = tmp_path / f"one.{kind}"
    image.save(path, **({"exif": exif} if kind.startswith("turned") else {}))
    data = path.read_bytes()
    expected = resize_rgb(decode_rgb(data), shape)
    assert np.array_equal(decode_resized(data, shape), expected)
    with pytest.raises(ImageError):
        decode_resized(data[: len(data) // 2], shape)


@pytest.mark.usefixtures("as_on_gpu")
def test_a_full_disk_is_one_line_in_large_batches(
    project: Path, dff: Dff, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards are stored by a thread of their own; its errors arrive."""
    monkeypatch.setattr("stages.extract.stage.plan_layout", lambda *a, **k: Layout(49, 98))
    assert dff("index").exit_code == 0
    write, written = Location.write, list[str]()

    def full(self: Location, parts: list[bytes]) -> None:
        written.append(str(self))
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, parts)

    with monkeypatch.context() as patch:
        patch.setattr(Location, "write", full)
        assert "space" in message(dff("extract")).lower()
    assert len(written) == 3, "nothing is stored after it"
    assert dff("extract").exit_code == 0
    assert contents(project / "artifacts/activations.zarr") == extract_afresh(project, dff)


@pytest.mark.usefixtures("as_on_gpu")
def test_an_image_that_no_longer_decodes_is_one_line_in_large_batches(
    project: Path, dff: Dff, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dff("index").exit_code == 0

    def broken(data: bytes, shape: tuple[int, int], **_: object) -> np.ndarray:
        raise ImageError("truncated")

    monkeypatch.setattr("stages.artifacts.image_index.decode_resized", broken)
    assert "images/discs/0.png: truncated" in message(dff("extract"))


@pytest.fixture
def by_processes(monkeypatch: pytest.MonkeyPatch, as_on_gpu: None) -> list[Readers]:
    """Let processes decode, and wait for them to have started; who read each batch."""
    seen: list[Readers] = []
    read = Readers.read

    def late(self: Readers, *arguments: Any) -> Any:
        wait(self.starting)
        seen.append(self)
        return read(self, *arguments)

    monkeypatch.setattr(Readers, "read", late)
    monkeypatch.setattr("stages.extract.stream.PROCESSES_FROM", 1)
    return seen


def assert_nothing_is_left(readers: list[Readers]) -> None:
    """No process, no memory; by processes it was."""
    assert readers and all(one.processes and not one.starting for one in readers)
    readers.clear()
    gc.collect()
    assert multiprocessing.active_children() == []
    files = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert not [file for file in files if "memfd:dff" in str(file)]
    assert "memfd:dff" not in Path("/proc/self/maps").read_text()


def extracted(project: Path, dff: Dff, device: str, *options: str) -> np.ndarray:
    """All rows of an extraction from nothing."""
    shutil.rmtree(project / "artifacts/activations.zarr", ignore_errors=True)
    result = dff("extract", "--device", device, "--no-reuse", *options)
    assert result.exit_code == 0, (result.stderr, result.exception)
    ragged = open_artifact(project / "artifacts/activations.zarr").ragged(LAYER)
    return ragged.rows(0, int(ragged.offsets[-1]))


LARGE = ("--memory", "16GiB", "--workers", "2")
ON = [
    "cpu",
    pytest.param("cuda", marks=needs_cuda),
]


@pytest.mark.parametrize("device", ON)
@pytest.mark.parametrize("resize", ["squash", "long_side"])
def test_processes_decode_what_threads_decode(
    project: Path,
    dff: Dff,
    resize: str,
    device: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edit(project, "resize: squash", f"resize: {resize}")
    assert dff("index").exit_code == 0
    request.getfixturevalue("as_on_gpu")
    extracted(project, dff, device, *LARGE)
    expected = contents(project / "artifacts/activations.zarr")
    readers = request.getfixturevalue("by_processes")
    extracted(project, dff, device, *LARGE)
    assert contents(project / "artifacts/activations.zarr") == expected
    assert_nothing_is_left(readers)
    monkeypatch.setattr("stages.extract.needs.PROCESS_BYTES", 2**34)
    extracted(project, dff, device, *LARGE)
    assert readers and not any(one.processes for one in readers), "memory for threads alone"


def test_what_a_process_cannot_read_is_the_same_line(
    project: Path, photographs: Path, dff: Dff, by_processes: list[Readers]
) -> None:
    assert dff("index").exit_code == 0
    path = photographs / "images/discs/3.png"
    path.write_bytes(path.read_bytes() + b"more")
    assert "discs/3.png: has changed since the index" in message(dff("extract", *LARGE))
    assert_nothing_is_left(by_processes)
    path.unlink()
    assert "discs/3.png: cannot be read" in message(dff("extract", *LARGE))
    assert_nothing_is_left(by_processes)


def test_a_killed_process_is_one_line_and_the_run_can_go_on(
    project: Path, dff: Dff, by_processes: list[Readers], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Readers.read

    def killing(self: Readers, *arguments: Any) -> Any:
        begun = read(self, *arguments)
        if len(by_processes) == 2:
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)
        return begun

    assert dff("index").exit_code == 0
    with monkeypatch.context() as patch:
        patch.setattr(Readers, "read", killing)
        line = message(dff("extract", *LARGE))
    assert "a worker process was killed" in line and "--workers" in line
    assert_nothing_is_left(by_processes)
    assert dff("extract", *LARGE).exit_code == 0


def test_an_interruption_leaves_no_process(
    project: Path, dff: Dff, by_processes: list[Readers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.extract.stage.plan_layout", lambda *a, **k: Layout(49, 98))
    assert dff("index").exit_code == 0
    with interrupted_at(4):
        assert dff("extract", *LARGE).exit_code == 130
    assert_nothing_is_left(by_processes)
    assert dff("extract", *LARGE).exit_code == 0
    assert contents(project / "artifacts/activations.zarr") == extract_afresh(project, dff)


def test_a_gpu_that_is_not_there_is_refused(project: Path, dff: Dff) -> None:
    assert dff("index").exit_code == 0
    assert re.search(
        r"--device cuda:77?: .* has \d+ CUDA", message(dff("extract", "--device", "cuda:77"))
    )


# -- on a GPU ------------------------------------------------------------------------------------

# As `load_backbone` states them.
WITHIN = {"float32": 1e-4, "tf32": 5e-3, "float16": 5e-3, "bfloat16": 5e-2}


@needs_cuda
@pytest.mark.parametrize("resize", ["squash", "long_side"])
@pytest.mark.parametrize("precision", WITHIN)
def test_extraction_on_cuda_agrees_with_the_cpu(
    project: Path, dff: Dff, precision: str, resize: str
) -> None:
    edit(project, "dtype: float16", "dtype: float32")
    edit(project, "resize: squash", f"resize: {resize}")
    assert dff("index").exit_code == 0
    exact = extracted(project, dff, "cpu").astype(np.float64)
    edit(project, "precision: float32", f"precision: {precision}")
    found = extracted(project, dff, "cuda")
    assert np.linalg.norm(found - exact) < WITHIN[precision] * np.linalg.norm(exact)


@needs_cuda
@pytest.mark.parametrize("precision", WITHIN)
def test_a_gpu_rounds_to_float16_as_the_writer_does(
    project: Path, dff: Dff, precision: str
) -> None:
    edit(project, "precision: float32", f"precision: {precision}")
    assert dff("index").exit_code == 0
    half = extracted(project, dff, "cuda")
    edit(project, "dtype: float16", "dtype: float32")
    whole = extracted(project, dff, "cuda")
    assert np.array_equal(half, whole.astype(np.float16).astype(np.float32))


@needs_cuda
@pytest.mark.parametrize("images", [4, 8, 12])
def test_a_resumed_extraction_on_cuda_gives_the_same_bits(
    project: Path, dff: Dff, monkeypatch: pytest.MonkeyPatch, images: int
) -> None:
    monkeypatch.setattr("stages.extract.plan.GPU_BATCH", 4)
    monkeypatch.setattr("stages.extract.stage.plan_layout", lambda *a, **k: Layout(49, 98))
    assert dff("index").exit_code == 0
    with interrupted_at(images):
        assert dff("extract", "--device", "cuda").exit_code == 130
    result = dff("extract", "--device", "cuda")
    assert result.exit_code == 0, result.stderr
    out = project / "artifacts/activations.zarr"
    resumed = contents(out)
    extracted(project, dff, "cuda")
    assert contents(out) == resumed


@needs_cuda
@pytest.mark.parametrize("precision", WITHIN)
def test_a_recorded_pass_is_the_pass(
    project: Path, dff: Dff, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    edit(project, "precision: float32", f"precision: {precision}")
    monkeypatch.setattr("stages.extract.plan.GPU_BATCH", 2)
    replays: list[None] = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(
        torch.cuda.CUDAGraph, "replay", lambda self: (replays.append(None), replay(self))[1]
    )
    assert dff("index").exit_code == 0
    recorded = extracted(project, dff, "cuda")
    assert len(replays) == 7, "14 images, two at a time"
    monkeypatch.setattr("stages.extract.device.GRAPH_JOBS", 10**6)
    plain = extracted(project, dff, "cuda")
    assert len(replays) == 7
    np.testing.assert_allclose(recorded, plain, rtol=1e-3, atol=1e-3)


@pytest.fixture
def cap() -> Iterator[Callable[[int], None]]:
    """Limit what this process may take of the GPU: so many MiB more than it holds."""

    def limit(mib: int) -> None:
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        allowed = torch.cuda.memory_reserved() + mib * 2**20
        torch.cuda.set_per_process_memory_fraction(allowed / total)

    yield limit
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


@needs_cuda
def test_a_full_gpu_gets_smaller_batches_then_one_line(
    project: Path, dff: Dff, cap: Callable[[int], None]
) -> None:
    """A pass of n images takes 26 MiB of each after conv1_1, the weights 37, the buffers 20."""
    edit(project, "backbone: squeezenet1_1", "backbone: vgg11")
    edit(project, "layers: [features.5]", "layers: [conv5_2]")
    edit(project, "size: 64", "size: 224")
    assert dff("index").exit_code == 0
    out = project / "artifacts/activations.zarr"
    assert dff("extract", "--device", "cuda").exit_code == 0
    free = open_artifact(out).ragged("conv5_2")
    expected = free.rows(0, int(free.offsets[-1]))
    shutil.rmtree(out)
    cap(400)
    result = dff("extract", "--device", "cuda")
    assert result.exit_code == 0, (result.stderr, result.exception)
    assert "images of 224x224 do not fit the memory of cuda" in result.stderr
    found = open_artifact(out).ragged("conv5_2")
    rows = found.rows(0, int(found.offsets[-1]))
    assert np.linalg.norm(rows - expected) < 1e-3 * np.linalg.norm(expected)
    shutil.rmtree(out)
    cap(225)  # buffers take 172 MiB, weights 37, a pass of two images 52
    line = message(dff("extract", "--device", "cuda"))
    assert re.search(r"2 images of 224x224, about \d+ MiB, does not fit .* \d+ MiB are free", line)


def test_two_projects_with_one_store_do_not_write_the_same_files(
    project: Path, tmp_path: Path
) -> None:
    """One fingerprint is one place: the second waits for the first, and then has its arrays."""
    other, store = tmp_path / "other", tmp_path / "store"
    shutil.copytree(project, other)
    for one in (project, other):
        assert run_dff("index", "--project", str(one)).exit_code == 0
    extract = ["extract", "--store", str(store)]
    assert run_dff(*extract, "--project", str(other)).exit_code == 0
    (place,) = store.glob("activations-*.zarr")
    shutil.rmtree(place)
    with only_one(place.with_name(f".{place.name}.lock"), place):
        refused = run_dff(*extract, "--project", str(project))
        assert "another process is working on it" in message(refused)
    assert run_dff(*extract, "--project", str(project)).exit_code == 0
    assert open_artifact(project / "artifacts/activations.zarr").location.path == place
