"""Ragged arrays: what goes in comes out, in any order and block size, or it is an error."""

import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import store.location
from store import ArtifactDamaged, Layout, Ragged, RaggedWriter, offsets_of

SMALL = Layout(chunk_rows=4, shard_rows=8)
GRIDS = np.array([[2, 3], [1, 1], [5, 4], [3, 3], [0, 4], [2, 7]])  # 50 rows, 7 shards of 8

quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
grids = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=8)


def values_for(grid_hw, channels, dtype, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2000, (int(offsets_of(grid_hw)[-1]), channels))
    values[rng.random(values.shape) < 0.6] = 0
    return values.astype(dtype)


def write(group, grid_hw, values, *, step=None, layout=SMALL, resume=None, until=None, **options):
    """Append `values` from where `resume` says, `step` rows at a time; stop before `until`."""
    resume = resume or {"rows": 0}
    writer = RaggedWriter(
        group,
        np.asarray(grid_hw).reshape(-1, 2),
        100 + np.arange(len(grid_hw)),
        values.shape[1],
        values.dtype,
        layout=layout,
        resume=resume,
        **options,
    )
    stop = len(values) if until is None else until
    for start in range(resume["rows"], stop, step or max(len(values), 1)):
        writer.append(start, values[start : min(stop, start + (step or len(values)))])
    if until is None:
        writer.close()
    return writer


def new_group(path):
    return zarr.open_group(path, mode="w", zarr_format=3)


def files_of(path):
    return {p.relative_to(path): p.read_bytes() for p in Path(path).rglob("*") if p.is_file()}


@pytest.fixture
def written(tmp_path):
    """A ragged array of 50 rows x 3, its values, and its folder."""
    values = values_for(GRIDS, 3, np.float32)
    group = new_group(tmp_path / "maps.zarr")
    write(group, GRIDS, values)
    return Ragged.open(group), values, tmp_path / "maps.zarr"


# -- what goes in comes out ----------------------------------------------------------------------


@quick
@given(
    grid_hw=grids,
    dtype=st.sampled_from(["float16", "float32", "uint16"]),
    channels=st.integers(1, 4),
    step=st.integers(1, 40),
    chunk=st.integers(1, 5),
    chunks=st.integers(1, 3),
)
def test_round_trip(tmp_path_factory, grid_hw, dtype, channels, step, chunk, chunks):
    values = values_for(grid_hw, channels, dtype)
    group = new_group(tmp_path_factory.mktemp("ragged"))
    flushed = []
    layout = Layout(chunk, chunk * chunks)
    write(
        group,
        grid_hw,
        values,
        step=step,
        layout=layout,
        on_flush=lambda stored: flushed.append(stored["rows"]),
    )
    ragged = Ragged.open(group)
    assert ragged.dtype == values.dtype and ragged.channels == channels
    assert len(ragged) == len(grid_hw)
    assert ragged.image_ids.tolist() == [100 + i for i in range(len(grid_hw))]
    np.testing.assert_array_equal(ragged.rows(0, len(values)), values)
    first = 0
    for entry, (h, w) in enumerate(grid_hw):
        expected = values[first : first + h * w].reshape(h, w, channels)
        np.testing.assert_array_equal(ragged.map(entry), expected)
        first += h * w
    # every whole shard is reported once, and then the rest
    assert flushed == [*range(layout.shard_rows, len(values), layout.shard_rows)] + (
        [len(values)] if len(values) else []
    )


@quick
@given(entries=st.lists(st.integers(0, len(GRIDS) - 1), max_size=12), block_rows=st.integers(1, 60))
def test_selected_rows_are_the_concatenated_maps(tmp_path_factory, entries, block_rows):
    values = values_for(GRIDS, 3, np.float16)
    group = new_group(tmp_path_factory.mktemp("ragged"))
    write(group, GRIDS, values)
    ragged = Ragged.open(group)
    offsets = offsets_of(GRIDS)
    expected = np.concatenate(
        [values[:0], *(values[offsets[entry] : offsets[entry + 1]] for entry in entries)]
    )
    owners = [100 + entry for entry in entries for _ in range(GRIDS[entry].prod())]
    selected = ragged.select(entries, block_rows)
    blocks = list(selected.blocks())
    assert selected.shape == expected.shape and selected.dtype == np.float16
    assert all(len(block) == block_rows for block in blocks[:-1])
    np.testing.assert_array_equal(np.concatenate([values[:0], *blocks]), expected)
    found = [selected.locate(row) for row in range(len(expected))]
    assert found == [f"image {owner}" for owner in owners]
    for once, again in zip(blocks, selected.blocks(), strict=True):
        np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize("large", [1.0, 1e6])
def test_dense_rows_in_the_form_that_takes_less_memory_are_as_they_are_stored(tmp_path, large):
    """float16, unless one chunk needed more; as many rows a block either way."""
    values = values_for(GRIDS, 3, np.float32) + np.float32(0.5)
    values[-1, -1] = large
    group = new_group(tmp_path)
    writer = RaggedWriter(group, GRIDS, range(len(GRIDS)), 3, np.float32, narrow=True)
    writer.append(0, values)
    writer.close()
    whole = Ragged.open(group).select(range(len(GRIDS)))
    rows = whole.compact()
    assert rows.form == "dense" and whole.dtype == np.float32
    assert rows.dtype == (np.float16 if large == 1 else np.float32)
    assert rows.rows_per_block == whole.rows_per_block
    assert rows.nbytes == values.size * rows.dtype.itemsize
    found = np.concatenate(list(rows.blocks()))
    assert found.dtype == rows.dtype
    np.testing.assert_array_equal(found, values.astype(rows.dtype))
    assert rows[2:9].dtype == rows.dtype


def test_default_block_holds_everything_small(written):
    ragged, values, _ = written
    (block,) = ragged.select(range(len(GRIDS))).blocks()
    np.testing.assert_array_equal(block, values)


@pytest.mark.parametrize("dtype", ["float16", "uint16"])
def test_all_zero_rows_are_written(tmp_path, dtype):
    group = new_group(tmp_path)
    write(group, [[1, 1]], np.zeros((1, 2), dtype))
    assert len(list((tmp_path / "values" / "c").rglob("0"))) == 2  # the shard in its folder
    assert not Ragged.open(group).map(0).any()


def test_single_entry_of_image_zero(tmp_path):
    # offsets [0, 0], grid [[0, 0]] and id [0] are all zero: they must be on disk all the same
    group = new_group(tmp_path)
    writer = RaggedWriter(group, np.array([[0, 0]]), np.array([0]), 2, "float32")
    writer.close()
    ragged = Ragged.open(group)
    assert ragged.map(0).shape == (0, 0, 2) and ragged.image_ids.tolist() == [0]


def test_few_files(tmp_path):
    grid_hw = np.full((400, 2), 5)
    values = values_for(grid_hw, 3, np.float16)
    write(new_group(tmp_path), grid_hw, values, layout=Layout(100, 5000), step=25)
    assert len([p for p in (tmp_path / "values" / "c").rglob("*") if p.is_file()]) == 2
    assert len(files_of(tmp_path)) == 10


def test_entries_out_of_range_are_errors(written):
    ragged, values, _ = written
    np.testing.assert_array_equal(ragged.map(-1).reshape(-1, 3), values[-14:])
    with pytest.raises(IndexError):
        ragged.map(len(GRIDS))
    for entries in ([-1], [0, len(GRIDS)]):
        with pytest.raises(IndexError, match="there are 6"):
            ragged.select(entries)
    with pytest.raises(ValueError, match="block_rows"):
        ragged.select([0], 0)


def test_reading_ahead_leaves_no_thread_and_no_file_open(written):
    ragged, _, _ = written
    list(ragged.select([0, 1, 2], 4).blocks())  # zarr starts its own threads on first use
    threads = threading.active_count()
    descriptors = Path("/proc/self/fd")
    files = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    for _ in range(20):
        blocks = ragged.select([0, 1, 2], 4).blocks()
        next(blocks)
        blocks.close()
    assert threading.active_count() <= threads
    if files:
        assert len(list(descriptors.iterdir())) <= files


# -- writing wrongly -----------------------------------------------------------------------------


def open_writer(path):
    return RaggedWriter(new_group(path), GRIDS, np.arange(len(GRIDS)), 3, "float32", layout=SMALL)


def test_a_gap_is_an_error(tmp_path):
    writer = open_writer(tmp_path)
    writer.append(0, np.ones((5, 3)))
    with pytest.raises(ValueError, match=r"rows 6.* after 5: rows are missing"):
        writer.append(6, np.ones((2, 3)))


def test_rows_that_are_there_already_are_an_error(tmp_path):
    writer = open_writer(tmp_path)
    writer.append(0, np.ones((5, 3)))
    with pytest.raises(ValueError, match=r"rows 4.* after 5: rows are there already"):
        writer.append(4, np.ones((2, 3)))


def test_missing_rows_are_an_error(tmp_path):
    writer = open_writer(tmp_path)
    writer.append(0, np.ones((49, 3)))
    with pytest.raises(ValueError, match="49 of 50 rows"):
        writer.close()


@pytest.mark.parametrize(
    "start, rows",
    [(0, np.ones((51, 3))), (-1, np.ones((2, 3))), (0, np.ones((2, 1))), (0, np.ones(3))],
)
def test_rows_that_do_not_fit_are_an_error(tmp_path, start, rows):
    writer = open_writer(tmp_path)
    with pytest.raises(ValueError, match="rows"):
        writer.append(start, rows)
    assert writer.flushed == 0


def test_the_callers_buffer_may_be_reused(tmp_path):
    writer = open_writer(tmp_path)
    buffer = np.empty((5, 3), np.float32)
    for start in range(0, 50, 5):
        buffer[:] = start
        writer.append(start, buffer)
    writer.close()
    values = Ragged.open(zarr.open_group(tmp_path, mode="r")).rows(0, 50)
    np.testing.assert_array_equal(values, np.repeat(np.arange(0, 50, 5), 5)[:, None] * np.ones(3))


@pytest.mark.parametrize("resume_row", [3, -8, 56])
def test_resuming_within_a_shard_is_an_error(tmp_path, resume_row):
    with pytest.raises(ValueError, match="shard boundary"):
        RaggedWriter(
            new_group(tmp_path),
            GRIDS,
            np.arange(6),
            3,
            "f4",
            layout=SMALL,
            resume={"rows": resume_row},
        )


@pytest.mark.parametrize("narrow", [False, True])
def test_rows_that_are_handed_over_are_written_as_those_that_are_copied(tmp_path, narrow):
    values = values_for(GRIDS, 3, np.float32)
    write(new_group(tmp_path / "copied"), GRIDS, values, step=7, narrow=narrow)
    group = new_group(tmp_path / "handed-over")
    write(group, GRIDS, values, step=7, narrow=narrow, handed_over=True)
    assert files_of(tmp_path / "handed-over") == files_of(tmp_path / "copied")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("images", ["smooth", "flat"])
def test_maps_are_kept_by_columns_and_every_reader_sees_them(tmp_path, dtype, images):
    rng = np.random.default_rng(0)
    grids = [(9, 12), (1, 1), (30, 7), (5, 40), (0, 3), (2, 90)]
    ramps = [np.add.outer(np.arange(h), np.arange(w)).ravel() for h, w in grids]
    values = np.concatenate(ramps)[:, None] * np.arange(1, 4)
    values = (values + rng.integers(0, 2, values.shape)).astype(dtype)
    layout = Layout(chunk_rows=100, shard_rows=300)  # pieces begin and end within lines
    writer = RaggedWriter(
        new_group(tmp_path), grids, np.arange(6), 3, dtype, layout=layout, images=images
    )
    for start in range(0, len(values), 77):
        writer.append(start, values[start : start + 77])
    writer.close()
    group = zarr.open_group(tmp_path, mode="r")
    np.testing.assert_array_equal(group["values"][...], values)
    ragged = Ragged.open(group)
    np.testing.assert_array_equal(ragged.rows(90, 333), values[90:333])
    assert ragged.density == np.count_nonzero(values) / values.size


# -- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "uint16"])
def test_resumed_at_any_shard_the_bytes_are_the_same(tmp_path, dtype):
    values = values_for(GRIDS, 3, dtype)
    stored = {0: None}
    write(
        new_group(tmp_path / "whole"),
        GRIDS,
        values,
        on_flush=lambda state: stored.update({state["rows"]: json.loads(json.dumps(state))}),
    )
    assert list(stored) == [*range(0, 50, 8), 50]
    expected = files_of(tmp_path / "whole")
    for boundary in stored:
        folder = tmp_path / f"resumed-{boundary}"
        group = new_group(folder)
        # rows beyond the boundary were appended, but never flushed
        write(group, GRIDS, values, step=7, until=min(boundary + 5, 50))
        if boundary == 50:
            write(group, GRIDS, values, step=7)
        again = zarr.open_group(folder, mode="r+")
        write(again, GRIDS, values, step=5, resume=stored[boundary])
        assert files_of(folder) == expected, boundary


def test_repeated_rows_are_dropped(tmp_path):
    values = values_for(GRIDS, 3, np.float32)
    write(new_group(tmp_path / "whole"), GRIDS, values)
    group, states = new_group(tmp_path / "resumed"), []
    write(group, GRIDS, values, until=16, on_flush=states.append)
    writer = RaggedWriter(
        group, GRIDS, 100 + np.arange(6), 3, "float32", layout=SMALL, resume=states[-1]
    )
    writer.append(0, values[:6])  # wholly on disk
    writer.append(6, values[6:30])  # partly
    writer.append(30, values[30:])
    writer.close()
    assert files_of(tmp_path / "resumed") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("last", ["offsets", "grid_hw", "image_ids"])
def test_killed_while_the_array_was_created(tmp_path, last, monkeypatch):
    values = values_for(GRIDS, 3, np.float32)
    write(new_group(tmp_path / "whole"), GRIDS, values)
    group = new_group(tmp_path / "killed")
    create = zarr.Group.create_array

    def killed(self, name, **options):
        create(self, name, **options)
        if name == last:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(zarr.Group, "create_array", killed)
        write(group, GRIDS, values)
    write(zarr.open_group(tmp_path / "killed", mode="r+"), GRIDS, values)
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")


def test_resuming_without_the_shards_is_an_error(tmp_path):
    values = values_for(GRIDS, 3, np.uint16)
    with pytest.raises(ArtifactDamaged, match="gone"):
        write(new_group(tmp_path / "empty"), GRIDS, values, resume={"rows": 8})
    group = new_group(tmp_path / "lost")
    write(group, GRIDS, values, until=24)
    (tmp_path / "lost/values/c/1/0").unlink()
    with pytest.raises(ArtifactDamaged, match="gone"):
        write(group, GRIDS, values, resume={"rows": 24})


def test_resuming_another_array_is_an_error(tmp_path):
    group = new_group(tmp_path)
    write(group, GRIDS, values_for(GRIDS, 3, np.uint16))
    with pytest.raises(ArtifactDamaged, match="begun"):
        write(group, GRIDS, values_for(GRIDS, 3, np.float16))


def test_progress_is_told_only_after_the_shard_and_its_folders_are_safe(tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(store.location, "fsync_path", lambda path: events.append(path))
    monkeypatch.setattr("os.fsync", lambda descriptor: events.append("content"))
    values = values_for(GRIDS, 3, np.float16)
    write(new_group(tmp_path), GRIDS, values, on_flush=lambda stored: events.append(stored["rows"]))
    folder = tmp_path / "values"
    assert events[:5] == ["content", folder / "c/0", folder / "c", folder, 8]


# -- damage --------------------------------------------------------------------------------------


def shard_files(folder):
    return sorted(p for p in (folder / "values" / "c").rglob("*") if p.is_file())


def test_a_flipped_bit_in_any_shard_is_an_error_that_names_it(written):
    _, _, folder = written
    ragged_group, offsets = zarr.open_group(folder, mode="r"), offsets_of(GRIDS)
    names = {100 + i: f"img{i}.png" for i in range(len(GRIDS))}
    names = [names.get(i, "") for i in range(106)]
    rng = np.random.default_rng(0)
    assert len(shard_files(folder)) == 7
    for number, file in enumerate(shard_files(folder)):
        sound = file.read_bytes()
        for position in {0, len(sound) - 1, *rng.integers(0, len(sound), 6).tolist()}:
            ragged_again = Ragged.open(ragged_group, names)  # which has read no index yet
            flipped = bytearray(sound)
            flipped[position] ^= 1 << int(rng.integers(8))
            file.write_bytes(flipped)
            start, stop = 8 * number, min(8 * number + 8, 50)
            with pytest.raises(ArtifactDamaged, match=f"shard c/{number}/0") as error:
                ragged_again.rows(start, stop)
            line = str(error.value)
            assert str(folder) in line and "\n" not in line
            low, high = map(int, re.search(r"rows (\d+) to (\d+) of", line).groups())
            assert start <= low < high <= stop
            ids = np.flatnonzero((offsets[1:] > low) & (offsets[:-1] < high))
            assert f"of {', '.join(f'img{i}.png' for i in ids[:3])}" in line
        file.write_bytes(sound)


def test_a_truncated_shard_is_an_error(written):
    ragged, _, folder = written
    file = shard_files(folder)[2]
    sound = file.read_bytes()
    for length in (0, 1, len(sound) // 2, len(sound) - 1):
        file.write_bytes(sound[:length])
        with pytest.raises(ArtifactDamaged, match="rows 16 to 24"):
            ragged.rows(16, 24)


@pytest.mark.parametrize("part", ["offsets", "grid_hw", "image_ids"])
def test_a_flipped_bit_or_a_lost_file_in_the_small_parts_is_an_error(written, part):
    _, _, folder = written
    group = zarr.open_group(folder, mode="r")
    (file,) = (p for p in (folder / part / "c").rglob("*") if p.is_file())
    sound = file.read_bytes()
    for position in range(len(sound)):
        flipped = bytearray(sound)
        flipped[position] ^= 16
        file.write_bytes(flipped)
        with pytest.raises(ArtifactDamaged, match=part) as error:
            Ragged.open(group)
        assert str(folder) in str(error.value)
    file.unlink()
    with pytest.raises(ArtifactDamaged, match="gone"):
        Ragged.open(group)


@pytest.mark.parametrize("part", ["values", "offsets", "grid_hw", "image_ids"])
@pytest.mark.parametrize("how", ["lost", "cut", "empty"])
def test_lost_or_cut_metadata_is_an_error(written, part, how):
    _, _, folder = written
    file = folder / part / "zarr.json"
    content = file.read_bytes()
    if how == "lost":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2 if how == "cut" else 0])
    with pytest.raises(ArtifactDamaged, match=part):
        Ragged.open(zarr.open_group(folder, mode="r"))


def test_parts_that_do_not_agree_are_an_error(written):
    _, _, folder = written
    file = folder / "values" / "zarr.json"
    file.write_text(file.read_text().replace("50", "58", 1))
    with pytest.raises(ArtifactDamaged, match="58 rows"):
        Ragged.open(zarr.open_group(folder, mode="r"))


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint16"])
def test_a_lost_shard_is_an_error_not_zeros(tmp_path, dtype):
    values = values_for(GRIDS, 3, dtype)
    group = new_group(tmp_path)
    write(group, GRIDS, values)
    ragged = Ragged.open(group)
    (tmp_path / "values/c/3/0").unlink()
    np.testing.assert_array_equal(ragged.rows(0, 24), values[:24])
    np.testing.assert_array_equal(ragged.rows(32, 50), values[32:])
    for read in (
        lambda: ragged.rows(31, 40),
        lambda: ragged.rows(0, 25),
        lambda: ragged.map(2),
        lambda: list(ragged.select(range(6), 5).blocks()),
    ):
        with pytest.raises(ArtifactDamaged, match="gone") as error:
            read()
        assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
    if np.dtype(dtype).kind == "f":  # the second line of defence, past the store
        assert np.isnan(ragged.values[24:32]).all()


def test_a_folder_in_the_place_of_a_shard_is_an_error(written):
    ragged, _, folder = written
    file = shard_files(folder)[1]
    file.unlink()
    file.mkdir()
    with pytest.raises(ArtifactDamaged, match="rows 8 to 16"):
        ragged.rows(8, 16)
