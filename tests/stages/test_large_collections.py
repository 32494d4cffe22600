"""What a collection of any size may cost: bounded pictures, few open files, tables without rows
of objects."""

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reported import PARAMS, run_stages
from stages.artifacts.image_index import ImageIndex, contents_digest
from stages.artifacts.tables import read_table
from stages.datasets import FoundImage, LeftOut
from stages.extract.plan import Order
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.index import checked
from stages.index.checked import Checked, Found
from stages.index.stage import INDEX
from stages.report.chosen import fair_shares
from stages.report.packed import read_script
from stages.report.params import ReportParams
from stages.report.stage import REPORT
from tools import draw

LAYER, LARGE, SMALL, MOST = "features.5", 60, 4, 44
ROOT = Path(__file__).parents[2]
OPEN_FILES = 64


# -- which images a report has ---------------------------------------------------------------


@given(st.lists(st.integers(1, 500), min_size=1, max_size=30), st.integers(1, 2000))
def test_sets_are_cut_fairly(counts: list[int], most: int) -> None:
    least = 20
    shown = fair_shares(counts, most, least)
    assert all(0 < one <= count for one, count in zip(shown, counts, strict=True))
    assert sum(shown) <= max(most, least * len(counts))
    if sum(counts) <= most:
        assert shown == counts
    cut = {one for one, count in zip(shown, counts, strict=True) if one < count}
    assert len(cut) <= 1, "all that are cut have the same number"
    whole = [count for one, count in zip(shown, counts, strict=True) if one == count]
    assert not cut or max(whole, default=0) <= cut.pop(), "no larger set is whole"
    if sum(counts) > most > least * len(counts):
        assert sum(shown) > most - len(counts), "what may be shown is shown"


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Reports on a large and a small set: of all images, and of at most `MOST`."""
    root = tmp_path_factory.mktemp("large") / "root"
    for name, count in (("large", LARGE), ("small", SMALL)):
        for i in range(count):
            draw(root / name / f"{i:02d}.png", count + i, (48, 40))
    project = root.parent / "project"
    report = run_stages(root, project, (LAYER,), (1, 3), (0,))
    whole = Path(shutil.copytree(report, root.parent / "whole"))
    params = ReportParams(images=PARAMS.images, top=PARAMS.top, long_side=64, most=MOST)
    execute(REPORT, params, project, Resources(workers=2))
    return whole, report


def payload(report: Path, key: str) -> dict:
    return read_script(report / "data" / f"{key}.js", key)


def test_a_large_set_is_cut_and_a_small_one_is_whole(reports: tuple[Path, Path]) -> None:
    whole, cut = reports
    large, small = payload(cut, "index")["sets"]
    assert (large["total"], small["total"]) == (LARGE, SMALL) and small["count"] == SMALL
    assert large["count"] <= MOST - SMALL < LARGE
    assert [one["count"] for one in payload(whole, "index")["sets"]] == [LARGE, SMALL]
    assert len(list((whole / "thumbs").iterdir())) == LARGE + SMALL
    assert len(list((cut / "thumbs").iterdir())) == large["count"] + SMALL
    assert payload(whole, "set-001/set") == payload(cut, "set-001/set")


def test_the_strongest_images_are_among_those_that_are_shown(reports: tuple[Path, Path]) -> None:
    def strongest(report: Path) -> list[list[str]]:
        of = payload(report, "set-000/set")
        by_k = of["layers"][0]["ks"]
        return [[of["images"][i] for i in f["tops"]] for one in by_k for f in one["factors"]]

    whole, cut = map(strongest, reports)
    assert whole == cut and any(whole)
    names = payload(reports[1], "set-000/set")["images"]
    assert names == sorted(names) and {names[0], names[-1]} == {
        "large/00.png",
        f"large/{LARGE - 1}.png",
    }, "the others are spread over the set, both ends among them"


def test_what_is_shown_of_an_image_is_the_same(reports: tuple[Path, Path]) -> None:
    """Coefficients and masks, by the image's name."""

    def of_images(report: Path) -> dict[str, tuple]:
        names, found = payload(report, "set-000/set")["images"], {}
        for path in sorted((report / "data/set-000/l0-k3").glob("masks-*.js")):
            one = payload(report, path.relative_to(report / "data").with_suffix("").as_posix())
            boxes = np.frombuffer(base64.b64decode(one["boxes"]), np.uint16)
            for place, (i, boxed) in enumerate(
                zip(one["at"], boxes.reshape(len(one["at"]), -1), strict=True)
            ):
                found[names[i]] = (one["lengths"][place], one["sizes"][place], boxed.tolist())
        return found

    whole, cut = map(of_images, reports)
    assert len(whole) == LARGE > len(cut) > 0
    assert all(whole[name] == of for name, of in cut.items())


def test_a_wrong_number_is_one_line() -> None:
    with pytest.raises(ValueError, match="most: 0 must be at least 1"):
        ReportParams(most=0)


# -- the index -------------------------------------------------------------------------------

IMAGES = st.lists(
    st.tuples(
        st.sets(st.sampled_from("abc"), min_size=1),
        st.sampled_from(["", "", "broken"]),
        st.sampled_from(["", "ff"]),
    ),
    max_size=9,
)


@settings(deadline=None, max_examples=30)
@given(images=IMAGES, block=st.integers(1, 4))
def test_tables_of_the_index_are_what_was_checked(
    tmp_path_factory: pytest.TempPathFactory, images: list, block: int
) -> None:
    folder, found = tmp_path_factory.mktemp("index"), Found()
    for i, (sets, reason, annotation) in enumerate(images):
        one = FoundImage(f"{i}.png", tuple(sorted(sets)))
        digest = f"{i:064x}"
        found.add(
            Checked(one, reason, *((0, 0, 0, "") if reason else (i, 2, 3, digest, annotation)))
        )
    members = found.members()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checked, "BLOCK", block)
        found.write(folder, members, [LeftOut("x", "odd")])
    good = [i for i, (_, reason, _) in enumerate(images) if not reason]
    table = read_table(folder / "images.parquet")
    assert table["name"].tolist() == [f"{i}.png" for i in good]
    assert table["height"].tolist() == good
    assert table["sha256"].tolist() == [f"{i:064x}" for i in good]
    assert table["annotation_sha256"].tolist() == [images[i][2] for i in good]
    rows = sorted((name, at) for at, i in enumerate(good) for name in images[i][0])
    sets = read_table(folder / "sets.parquet")
    assert list(zip(sets["set"], sets["image_id"], strict=True)) == rows
    assert members == {
        name: [at for of, at in rows if of == name] for name in sorted({of for of, _ in rows})
    }
    named = [(f"{i}.png", f"{i:064x}") for i in good]
    assert found.contents(members) == contents_digest(named, members)
    failures = read_table(folder / "failures.parquet")
    assert len(failures) == len(images) - len(good) + 1


def test_the_index_says_its_contents(reports: tuple[Path, Path]) -> None:
    """An index of an earlier version, which does not, tells the same."""
    project = reports[1].parents[1]
    index = ImageIndex.open(project / INDEX.writes, project)
    images = zip(index.names, index.images["sha256"], strict=True)
    assert index.recorded_contents == contents_digest(list(images), index.sets)
    assert index.sets == {"large": list(range(LARGE)), "small": list(range(LARGE, LARGE + SMALL))}
    numbers = [3, 1, 3]
    assert index.names_of(numbers).tolist() == [index.names[i] for i in numbers]


def test_sets_that_share_images_are_told_apart(tmp_path: Path) -> None:
    from stages.artifacts.image_index import _members

    table = pd.DataFrame({"set": ["b", "a", "b"], "image_id": [2, 1, 0]})
    assert _members(table, ["a", "b", "none"]) == {"a": [1], "b": [2, 0], "none": []}


@given(st.permutations(range(9)), st.sets(st.integers(0, 8)))
def test_positions_of_a_set_are_where_its_images_lie(order: list[int], members: set[int]) -> None:
    found = Order(tuple(order), ((),) * len(order)).positions(sorted(members))
    assert found == [place for place, image_id in enumerate(order) if image_id in members]


# -- open files ------------------------------------------------------------------------------

LIMITED = f"""
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, ({OPEN_FILES}, {OPEN_FILES}))
from reported import run_stages
if __name__ == "__main__":
    run_stages(Path(sys.argv[1]), Path(sys.argv[2]), ({LAYER!r},), (1, 2), (0,), size=32)
"""


def test_some_hundred_images_need_few_open_files(tmp_path: Path) -> None:
    for i in range(300):
        draw(tmp_path / "root" / f"set{i % 3}" / f"{i}.png", i, (48, 40))
    script = tmp_path / "limited.py"
    script.write_text(LIMITED, encoding="utf-8")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests/support")])
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "root"), str(tmp_path / "project")],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    index = payload(tmp_path / "project" / REPORT.writes, "index")
    assert [one["count"] for one in index["sets"]] == [100, 100, 100]
