"""Extraction: what is computed, what is taken over, in which order, within which memory."""

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import Result

from stages.algorithms.backbone import Backbone, forward_bytes
from stages.algorithms.backbone.graph import build
from stages.extract.plan import Lanes, Needs, disk_order, plan_jobs
from stages.image_index import ImageIndex
from stages.stage import StageError
from store import Layout, open_artifact
from tools import draw, edit, interrupted_at, message

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


def test_a_weights_file_that_changed_under_its_name(
    project: Path, dff: Dff, passes: list[int]
) -> None:
    network = build("squeezenet1_1", "cpu")
    torch.save(network.state_dict(), project / "w.pth")
    edit(project, "weights: random:0", "weights: w.pth")
    both(dff)
    first = open_artifact(project / "artifacts/activations.zarr").ragged(LAYER).map(0)
    torch.save({name: 2 * value for name, value in network.state_dict().items()}, project / "w.pth")
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
    assert "schema 1, this version reads 2" in line and "delete it" in line
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
    shapes = [(32, 32 + kind) for _, kind in images]
    known = np.array([one for one, _ in images], dtype=bool)
    jobs = plan_jobs(shapes, known, batch)
    assert [position for job in jobs for position in range(job.start, job.stop)] == list(
        range(len(images))
    )
    assert [p for job in jobs for p in job.batch] == np.flatnonzero(~known).tolist()
    for job in jobs:
        assert len(job.batch) <= batch
        assert all(job.start <= p < job.stop and shapes[p] == job.shape for p in job.batch)
    for job, following in pairwise(jobs):
        if job.batch and following.batch:
            full = len(job.batch) == batch
            assert full or shapes[following.batch[0]] != job.shape


def test_memory_of_a_forward_pass_by_hand() -> None:
    # VGG's first block: its second convolution reads and writes 64 x 224 x 224 float32
    block = 64 * 224 * 224 * 4
    peak, outputs = forward_bytes("vgg11", ("conv1_1",), 3, 224, 224)
    assert outputs == 3 * block
    assert peak == 3 * (block + max(block, 3 * 224 * 224 * 4))
    assert forward_bytes("vgg19", ("conv5_4",), 2, 224, 224) == (4 * block, 2 * 512 * 14 * 14 * 4)


def test_lanes_by_hand() -> None:
    needs = Needs(resident=100, shards=20, slice=4, forward=50, inputs=10, outputs=5, image=1)
    assert needs.fixed == 130 and needs.lane == 65
    assert needs.lanes_within(130 + 65, 8) == Lanes(1, 8, 4)
    assert needs.lanes_within(130 + 4 * 65 + 1, 8) == Lanes(4, 2, 4)
    assert needs.lanes_within(10_000, 8) == Lanes(8, 1, 4)
    assert needs.lanes_within(10_000, 8).waiting == 9
    with pytest.raises(StageError, match=r"needs about 0 MiB.*the budget is 0 MiB"):
        needs.lanes_within(194, 8)


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
    from stages.images import ImageError

    assert dff("index").exit_code == 0

    def broken(data: bytes) -> np.ndarray:
        raise ImageError("truncated")

    monkeypatch.setattr("stages.extract.stream.decode_rgb", broken)
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
