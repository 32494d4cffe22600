"""Arrays that grow: whatever lies where, what is read is what an array made from nothing has."""

import itertools
import os
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from store import Layout, Location, Ragged, RaggedWriter
from store import behind as growing
from store.behind import Behind, plan_behind

LAYOUT = Layout(chunk_rows=3, shard_rows=6)
Images = dict[int, tuple[int, int]]  # number of each image, which is its content, and its grid


def rows_of(number: int, grid: tuple[int, int], channels: int) -> NDArray[np.float32]:
    """An image's rows, by its content alone; a third of the values are zero."""
    rng = np.random.default_rng(number)
    values = rng.integers(1, 1000, (grid[0] * grid[1], channels))
    return np.where(rng.random(values.shape) < 1 / 3, 0, values).astype(np.float32)


def write(place: Path | str, images: Images, behind: Behind | None, channels: int = 2) -> Ragged:
    """The array of some images, in their order; behind an earlier one where that is given."""
    group = Location.of(place).zarr_group("w")
    order = list(images)
    writer = RaggedWriter(
        group,
        np.array(list(images.values())).reshape(-1, 2),
        np.array(order),
        channels,
        np.float32,
        layout=LAYOUT,
        narrow=True,
        behind=behind,
        resume=behind.link(group) if behind else None,
    )
    appended = [order[i] for i in behind.tail] if behind else order
    for number, row in zip(appended, writer.offsets.tolist(), strict=False):
        writer.append(row, rows_of(number, images[number], channels))
    writer.close()
    return Ragged.open(group)


def grown(place: Path | str, images: Images, before: Ragged) -> tuple[Ragged, Behind | None]:
    """The array of some images that goes on from an earlier one where it can."""
    known = {int(number): entry for entry, number in enumerate(before.image_ids)}
    entries = np.array([known.get(number, -1) for number in images], np.int64)
    grids = np.array(list(images.values())).reshape(-1, 2)
    found = plan_behind([before], entries, [grids], [LAYOUT])
    behind = found[0] if found else None
    return write(place, images, behind), behind


def read(ragged: Ragged) -> NDArray[np.float32]:
    """All rows, by blocks that do not end with entries."""
    blocks = [np.empty((0, ragged.channels), np.float32)]
    blocks += ragged.select(np.arange(len(ragged)), block_rows=4).blocks()
    return np.concatenate(blocks)


# What happens to a collection in a day: images that come, by number, and some that go.
days = st.lists(
    st.tuples(st.sets(st.integers(0, 60), max_size=12), st.sets(st.integers(0, 60), max_size=3)),
    min_size=2,
    max_size=5,
)


@settings(max_examples=25, deadline=None)
@given(days, st.permutations(range(61)))
def test_a_grown_array_is_read_as_one_from_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    days: list[tuple[set[int], set[int]]],
    order: list[int],
) -> None:
    folder = tmp_path_factory.mktemp("grown")
    there: set[int] = set()
    before = None
    for day, (come, go) in enumerate(days):
        there = (there | come) - go
        images = {n: (1 + n % 3, n % 4) for n in order if n in there}  # some have no rows
        fresh = write(folder / f"fresh {day}", images, None)
        one = fresh if before is None else grown(folder / f"grown {day}", images, before)[0]
        expected = [rows_of(n, grid, 2) for n, grid in images.items()]
        np.testing.assert_array_equal(read(one), np.concatenate([np.empty((0, 2)), *expected]))
        for entry, rows in enumerate(expected):
            np.testing.assert_array_equal(one.map(entry).reshape(-1, 2), rows)
        assert one.image_ids.tolist() == fresh.image_ids.tolist()
        np.testing.assert_array_equal(one.offsets, fresh.offsets)
        np.testing.assert_array_equal(one.grid_hw, fresh.grid_hw)
        assert (one.nonzeros, one.density) == (fresh.nonzeros, fresh.density)
        if fresh.nonzeros:
            assert one.narrow_dtype == fresh.narrow_dtype == np.float16
        before = one


FIRST: Images = dict.fromkeys(range(19), (2, 2))  # 76 rows: twelve whole shards and four rows


def files_of(ragged: Ragged) -> dict[str, int]:
    """The inode of each shard's file."""
    folder = Location.of_node(ragged.values).path
    assert folder
    return {
        path.relative_to(folder).as_posix(): path.stat().st_ino
        for path in folder.rglob("*")
        if path.is_file() and path.name != "zarr.json"
    }


def test_whole_shards_are_links_and_the_rest_is_written(tmp_path: Path) -> None:
    before = write(tmp_path / "a", FIRST, None)
    more = {0: (2, 2), 20: (2, 2), **FIRST}
    after, behind = grown(tmp_path / "b", more, before)
    assert behind is not None
    # rows 72 to 76 are in no whole shard: the last image is written again, behind the new one
    assert (behind.rows, behind.tail.tolist()) == (72, [1, 19])
    assert after.starts.tolist() == [0, 72, *range(4, 72, 4), 76]
    old, new = files_of(before), files_of(after)
    assert {name for name in new if old.get(name) == new[name]} == {f"c/{i}/0" for i in range(12)}
    assert after.values.shape[0] == 80


def test_a_file_system_without_links_gets_copies(tmp_path: Path) -> None:
    before = write(tmp_path / "a", FIRST, None)
    link = os.link

    def no_link(source: Path, target: Path, **options: bool) -> None:
        if "/c/" in str(target):  # Zarr makes its own files so
            raise OSError(95, "not supported")
        link(source, target, **options)

    with mock.patch("os.link", no_link):
        after, behind = grown(tmp_path / "b", {**FIRST, 20: (2, 2)}, before)
    assert behind is not None and behind.rows == 72
    assert not set(files_of(before).values()) & set(files_of(after).values())
    assert len(read(after)) == 80


def test_an_array_at_a_url_grows_by_copies() -> None:
    before = write("memory://growing/a", FIRST, None)
    after, behind = grown("memory://growing/b", {**FIRST, 20: (2, 2)}, before)
    assert behind is not None and behind.rows == 72
    expected = [rows_of(n, (2, 2), 2) for n in [*FIRST, 20]]
    np.testing.assert_array_equal(read(after), np.concatenate(expected))


def test_equal_images_do_not_share_rows(tmp_path: Path) -> None:
    before = write(tmp_path / "a", FIRST, None)
    entries = np.array([0, 0, *range(1, 19)])
    (behind,) = plan_behind([before], entries, [np.full((20, 2), 2)], [LAYOUT])
    assert behind.tail.tolist() == [1, 19]


def test_what_is_scattered_too_much_is_written_in_order(tmp_path: Path) -> None:
    before = write(tmp_path / "a", FIRST, None)
    some = dict(itertools.islice(FIRST.items(), 0, None, 2))  # every second image is gone
    after, behind = grown(tmp_path / "b", some, before)
    assert behind is None and after.scattered is None
    between = {**{n: (2, 2) for pair in zip(FIRST, range(20, 39), strict=True) for n in pair}}
    after, behind = grown(tmp_path / "c", between, before)
    assert behind is None and after.scattered is None


def test_rows_that_died_are_written_anew_in_time(tmp_path: Path) -> None:
    one, images = write(tmp_path / "0", FIRST, None), dict(FIRST)
    shares = []
    for day in range(1, 12):  # the oldest image goes every day
        images = {**dict(itertools.islice(images.items(), 1, None)), 100 + day: (2, 2)}
        one, _ = grown(tmp_path / str(day), images, one)
        shares.append(1 - 76 / one.values.shape[0])
    assert max(shares) <= growing.DEAD + 0.1 and 0 in shares


@pytest.mark.parametrize("changed", ["layout", "types", "uncounted", "missing"])
def test_what_does_not_fit_is_written_anew(tmp_path: Path, changed: str) -> None:
    write(tmp_path / "a", FIRST, None)
    layout = Layout(3, 9) if changed == "layout" else LAYOUT
    group = zarr.open_group(tmp_path / "a", mode="r+")
    attrs = dict(group["values"].attrs)
    if changed == "types":  # some rows are rounded, their neighbours in another chunk are not
        attrs["stored_dtypes"] = {"float16": 3, "float32": 9}
    if changed == "uncounted":
        del attrs["nonzeros"]
    group["values"].attrs.put(attrs)
    if changed == "missing":
        (tmp_path / "a/values/c/2/0").unlink()
    entries, grids = np.arange(19), np.full((19, 2), 2)
    again = Ragged.open(group)
    assert not plan_behind([again], entries, [grids], [layout])


def test_values_below_zero_may_have_gone(tmp_path: Path) -> None:
    before = write(tmp_path / "a", FIRST, None)
    group = zarr.open_group(tmp_path / "a", mode="r+")
    group["values"].update_attributes({"signed": True})
    signed = Ragged.open(group)
    grids = [np.full((19, 2), 2)]
    assert plan_behind([signed], np.arange(19), grids, [LAYOUT])[0].source.signed
    fewer = np.arange(1, 19)
    assert not plan_behind([signed], fewer, [grids[0][1:]], [LAYOUT])
    assert plan_behind([before], fewer, [grids[0][1:]], [LAYOUT])


def test_arrays_of_several_layers_are_cut_at_the_same_images(tmp_path: Path) -> None:
    twenty = range(20)
    large = write(
        tmp_path / "a", dict.fromkeys(twenty, (2, 2)), None
    )  # 80 rows, 78 in whole shards
    small = write(tmp_path / "b", dict.fromkeys(twenty, (1, 3)), None)  # 60 rows in whole shards
    grids = [np.full((20, 2), 2), np.tile([1, 3], (20, 1))]
    a, b = plan_behind([large, small], np.arange(20), grids, [LAYOUT, LAYOUT])
    assert a.tail.tolist() == b.tail.tolist() == [19]
    assert (a.rows, b.rows) == (78, 60)  # of each the rows of the last image are dead
    assert b.starts.tolist() == [*range(0, 57, 3), 60]
