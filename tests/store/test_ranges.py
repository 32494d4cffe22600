"""Arrays whose ranges many processes make: whatever the cut, the bytes are those of one writer."""

import json
import pickle
from itertools import pairwise

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import ArrayPlan, Layout, Location, RaggedWriter, RangeWriter, offsets_of, write_shard
from store.ranges import NextShards

GRIDS = np.array([[2, 3], [1, 1], [5, 4], [3, 3], [0, 4], [2, 7]])  # 50 rows
LAYOUT = Layout(chunk_rows=4, shard_rows=8)
quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
KINDS = {  # type and options of an array
    "features": ("float32", {"narrow": True}),
    "as they are": ("float32", {}),
    "smooth maps": ("uint16", {"images": "smooth"}),
    "refined maps": ("uint16", {"images": "flat"}),
    "masks": ("uint8", {"images": "flat"}),
}


def values_for(grids, dtype, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 200, (int(offsets_of(grids)[-1]), 3))
    values[rng.random(values.shape) < 0.6] = 0
    return values.astype(dtype)


def new_writer(folder, grids, kind, layout=LAYOUT, **options):
    dtype, of_kind = KINDS[kind]
    group = zarr.open_group(folder, mode="a", zarr_format=3)
    ids = np.arange(len(grids))
    return RaggedWriter(group, grids, ids, 3, dtype, layout=layout, **of_kind, **options)


def files_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def encoded_range(plan, grids, blocks, first, stop):
    """The range of the entries ``first:stop`` as another process makes it."""
    offsets = offsets_of(grids)
    writer = RangeWriter(pickle.loads(pickle.dumps(plan)), int(offsets[first]), grids[first:stop])
    at = int(offsets[first])
    for block in blocks:
        writer.append(at, block)
        at += len(block)
    writer.close()
    return pickle.loads(pickle.dumps(writer.encoded))


def assemble(writer, ranges, shards=None):
    """Write shards from the ranges that have rows of them."""
    for shard in shards if shards is not None else range(writer.plan.shards):
        start, stop = writer.plan.rows_of(shard)
        touching = [one for one in ranges if one.start < stop and one.stop > start]
        writer.written(shard, write_shard(writer.plan, shard, touching[::-1]))


@quick
@given(
    grids=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=8),
    kind=st.sampled_from(sorted(KINDS)),
    cuts=st.sets(st.integers(0, 8)),
    step=st.integers(1, 9),
    chunk=st.integers(1, 7),
    chunks=st.integers(1, 3),
    large=st.booleans(),
)
def test_any_cut_gives_the_same_files(
    tmp_path_factory, grids, kind, cuts, step, chunk, chunks, large
):
    folder, grids = tmp_path_factory.mktemp("ranges"), np.array(grids).reshape(-1, 2)
    values = values_for(grids, KINDS[kind][0])
    if kind in ("features", "as they are") and large and values.size:
        values[len(values) // 2] = -1e6  # too much for float16: that chunk is float32
    whole = new_writer(folder / "whole", grids, kind, Layout(chunk, chunk * chunks))
    whole.append(0, values)
    whole.close()
    offsets, states = offsets_of(grids), []
    writer = new_writer(
        folder / "ranges", grids, kind, Layout(chunk, chunk * chunks), on_flush=states.append
    )
    ends = [0, *sorted(cut for cut in cuts if cut <= len(grids)), len(grids)]
    ranges = []
    for first, stop in pairwise(ends):
        rows = values[offsets[first] : offsets[stop]]
        blocks = [rows[at : at + step] for at in range(0, len(rows), step)]
        ranges.append(encoded_range(writer.plan, grids, blocks, first, stop))
    assemble(writer, ranges)
    writer.close()
    assert files_of(folder / "ranges") == files_of(folder / "whole")
    assert [state["rows"] for state in states] == [
        writer.plan.rows_of(shard)[1] for shard in range(writer.plan.shards)
    ]


@pytest.mark.parametrize("handed_over", [False, True])
def test_rows_that_come_as_float16_give_the_same_chunks(tmp_path, handed_over):
    """As a GPU gives them; a chunk of both types is as if all had come as float32."""
    values = values_for(GRIDS, "float32")
    values[30] = 70000  # in a chunk whose other rows came as float16
    whole = new_writer(tmp_path / "whole", GRIDS, "features")
    whole.append(0, values)
    whole.close()
    writer = new_writer(tmp_path / "ranges", GRIDS, "features")
    offsets = offsets_of(GRIDS)
    ranges = []
    for first, stop, dtype in [(0, 2, "float16"), (2, 3, "float16"), (3, 6, "float32")]:
        rows = values[offsets[first] : offsets[stop]].astype(dtype)
        one = RangeWriter(
            writer.plan, int(offsets[first]), GRIDS[first:stop], handed_over=handed_over
        )
        one.append(int(offsets[first]), rows)
        if not handed_over:
            rows[:] = 7  # the caller uses its buffer again
        one.close()
        ranges.append(one.encoded)
    assemble(writer, ranges)
    writer.close()
    assert files_of(tmp_path / "ranges") == files_of(tmp_path / "whole")


def test_begun_by_one_and_ended_by_many_and_the_other_way_round(tmp_path):
    values, offsets = values_for(GRIDS, "uint16"), offsets_of(GRIDS)
    states = {"one": [], "many": []}
    whole = new_writer(tmp_path / "one", GRIDS, "smooth maps", on_flush=states["one"].append)
    whole.append(0, values[:41])  # five shards, and one row of the next
    writer = new_writer(tmp_path / "many", GRIDS, "smooth maps", on_flush=states["many"].append)
    one = encoded_range(writer.plan, GRIDS, [values], 0, 6)
    assemble(writer, [one], range(5))
    assert files_of(tmp_path / "many") == files_of(tmp_path / "one")
    assert states["many"] == states["one"]

    resume = json.loads(json.dumps(states["one"][-1]))
    ended = new_writer(tmp_path / "one", GRIDS, "smooth maps", resume=resume)
    later = encoded_range(ended.plan, GRIDS, [values[offsets[5] :]], 5, 6)
    earlier = encoded_range(ended.plan, GRIDS, [values[offsets[2] : offsets[5]]], 2, 5)
    assemble(ended, [earlier, later], range(5, ended.plan.shards))
    ended.close()
    ended = new_writer(tmp_path / "many", GRIDS, "smooth maps", resume=resume)
    ended.append(40, values[40:])
    ended.close()
    assert files_of(tmp_path / "many") == files_of(tmp_path / "one")


def test_a_shard_is_refused_whose_rows_are_not_all_there(tmp_path):
    values, offsets = values_for(GRIDS, "uint16"), offsets_of(GRIDS)
    writer = new_writer(tmp_path, GRIDS, "smooth maps")
    first = encoded_range(writer.plan, GRIDS, [values[: offsets[2]]], 0, 2)
    rest = encoded_range(writer.plan, GRIDS, [values[offsets[2] :]], 2, 6)
    for ranges in ([first], [rest], [first, first, rest], []):
        with pytest.raises(ValueError, match=r"shard 0: rows 4 to 8 are not all there|rows 0 to 4"):
            write_shard(writer.plan, 0, ranges)
    assert not writer.plan.file(0).size()
    counted = write_shard(writer.plan, 0, [first, rest])
    with pytest.raises(ValueError, match=r"shard 1 of .* after 0 rows"):
        writer.written(1, counted)


def test_rows_that_do_not_fit_a_range_are_an_error(tmp_path):
    writer = new_writer(tmp_path, GRIDS, "features")
    one = RangeWriter(writer.plan, 6, GRIDS[1:3])
    for start, count in [(0, 2), (7, 2), (6, 22)]:
        with pytest.raises(ValueError, match=r"rows \d+ to \d+ after 6, up to 27"):
            one.append(start, np.ones((count, 3)))
    one.append(6, np.ones((20, 3)))
    with pytest.raises(ValueError, match="rows 26 to 27 are missing"):
        one.close()


def test_what_lost_workers_left_is_not_published(tmp_path):
    values = values_for(GRIDS, "uint16")
    writer = new_writer(tmp_path, GRIDS, "smooth maps")
    assemble(writer, [encoded_range(writer.plan, GRIDS, [values], 0, 6)])
    (tmp_path / "values/c/3/0.1234.partial").write_bytes(b"half")
    writer.close()
    assert not list(tmp_path.rglob("*.partial"))


def test_a_range_says_how_large_it_is(tmp_path):
    writer = new_writer(tmp_path, np.array([[100, 100]]), "features", Layout(1000, 4000))
    values = np.random.default_rng(0).random((10000, 3), np.float32)
    one = encoded_range(writer.plan, np.array([[100, 100]]), [values], 0, 1)
    assert 0.5 * values.nbytes / 2 < one.__sizeof__() < 1.5 * values.nbytes


@quick
@given(st.integers(1, 60), st.lists(st.integers(0, 60)), st.integers(0, 7))
def test_a_shard_is_complete_when_its_last_range_is(rows, cuts, flushed):
    plan = ArrayPlan(Location.of("nowhere"), rows, 3, np.dtype("float32"), LAYOUT)
    flushed = min(flushed, plan.shards - 1) * LAYOUT.shard_rows  # by an earlier run
    edges = sorted({0, rows, *(cut for cut in cuts if cut <= rows)})
    ranges = [(start, stop) for start, stop in pairwise(edges) if stop > flushed]
    shards, found = NextShards.after(plan, flushed), {}
    for start, stop in ranges:
        for shard, made in shards.complete(start, stop, (start, stop)):
            assert stop >= plan.rows_of(shard)[1], "not before its last row is there"
            found[shard] = made
    assert list(found) == list(range(flushed // LAYOUT.shard_rows, plan.shards))
    for shard, made in found.items():
        first, last = plan.rows_of(shard)
        assert made == [one for one in ranges if one[0] < last and one[1] > first]
