"""boxes.parquet: components of masks, without specks, written a block at a time."""

import numpy as np
import pandas as pd
import pytest

from drawn import Drawn
from stages.artifacts.concept_maps import SIDES
from stages.evaluate.params import EvaluateParams

# 16 cells: a component of 6, one of 2, one of 1
SPECKLED = ["###.", "###.", "....", "##.#"]


@pytest.fixture
def speckled(drawn: Drawn) -> Drawn:
    drawn.maps["cows", "images/a.png"] = [SPECKLED] * 3
    drawn.publish()
    return drawn


@pytest.mark.parametrize(
    "least, areas",
    [(0.0, [6, 2, 1]), (1 / 16, [6, 2, 1]), (0.1, [6, 2]), (0.2, [6]), (1.0, [6])],
)
def test_specks_are_left_out_but_never_the_largest(
    speckled: Drawn, least: float, areas: list[int]
) -> None:
    folder = speckled.evaluate(least_area=least)
    boxes = speckled.table("boxes.parquet", image="images/a.png", k=1)
    assert boxes["area"].tolist() == areas
    assert boxes["rank"].tolist() == list(range(len(areas)))
    assert boxes[list(SIDES)].to_numpy().tolist()[0] == [0, 0, 2, 3]
    np.testing.assert_allclose(boxes["score"], np.array(areas) / 16)  # shares of the image
    assert (boxes["mean"] == 1).all() and folder.name == "evaluation"


def test_scores_and_detections_do_not_depend_on_specks(speckled: Drawn) -> None:
    def others(least_area: float) -> dict[str, bytes]:
        folder = speckled.evaluate(least_area=least_area)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        left_out = ("boxes.parquet", "artifact.json")
        return {str(p.relative_to(folder)): p.read_bytes() for p in paths if p.name not in left_out}

    found = others(0.0)
    assert found == others(1.0) and any("detections" in name for name in found)


def test_blocks_make_no_difference(speckled: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pd.read_parquet(speckled.evaluate() / "boxes.parquet")
    monkeypatch.setattr("store.small.CHUNK_ROWS", 2)
    speckled.publish()
    folder = speckled.evaluate(coverage=0.4)  # params that change nothing here, but run it again
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "boxes.parquet"), whole)
    assert len(whole) > 10 and np.isfinite(whole["score"]).all()


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_least_area_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="least_area"):
        EvaluateParams(least_area=share)
