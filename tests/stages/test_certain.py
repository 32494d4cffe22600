"""`refine.certain`: boxes go around certain heat, too; masks do not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from stages.algorithms.mask_boxes import measure
from stages.algorithms.masks import pack_masks, unpack_masks
from stages.artifacts.concept_maps import ConceptMaps
from stages.maps.finished import measured
from stages.refine.layer import LayerTasks
from tools import edit, message

Dff = Callable[..., Result]


def bits_of(*rows: str) -> np.ndarray:
    """Bits of one mask drawn in characters."""
    mask = np.array([[cell == "#" for cell in row] for row in rows])
    return pack_masks(mask.reshape(-1, 1))


def test_two_halves_of_an_object_are_one_box_by_hand() -> None:
    mask = bits_of("##....", "##...#", ".....#", "......")
    certain = bits_of("......", ".####.", "......", "......")
    levels = np.full((24, 1), 51, np.uint8)
    one = measured(7, levels, mask, (4, 6), certain)
    # entry, column, rank, top, left, bottom, right, area
    assert one.boxes.tolist() == [[7, 0, 0, 0, 0, 3, 6, 9]]
    assert one.scores.tolist() == [pytest.approx(0.2)]
    apart = measured(7, levels, mask, (4, 6))
    assert [box[3:7] for box in apart.boxes.tolist()] == [[0, 0, 2, 2], [1, 5, 3, 6]]
    # what is said of the mask is said of the mask
    assert one.areas.tolist() == apart.areas.tolist() == [6]
    np.testing.assert_array_equal(one.centroids, apart.centroids)
    np.testing.assert_allclose(one.centroids[0], [(2 * 0.5 + 3 * 1.5 + 2.5) / 6, 15 / 6])


def test_boxes_around_both_are_those_of_all_columns_together() -> None:
    rng = np.random.default_rng(1)
    masks, certain = (rng.random((30 * 20, 11)) < 0.3 for _ in range(2))
    certain[:, [0, 4, 5, 9]] = False
    certain[:, 6] &= masks[:, 6]  # nothing is added to it
    levels = rng.integers(0, 256, (600, 11), np.uint8)
    around = pack_masks(certain)
    one = measured(3, levels, pack_masks(masks), (30, 20), around)
    together = measure(pack_masks(masks | certain), levels, (30, 20))
    np.testing.assert_array_equal(one.boxes[:, 1:], together.boxes)
    np.testing.assert_array_equal(one.scores, together.scores / np.float32(255))
    assert (one.boxes[:, 0] == 3).all()


def test_areas_are_counted_pixels() -> None:
    masks = np.random.default_rng(0).random((30 * 20, 11)) < 0.4
    found = measure(pack_masks(masks), np.ones((600, 11), np.uint8), (30, 20))
    np.testing.assert_array_equal(found.areas, masks.sum(axis=0))


def refined_maps(project: Path, dff: Dff, *stages: str) -> ConceptMaps:
    """The refined maps of a project's only layer, made from nothing."""
    for stage in stages or ("index", "extract", "factorize", "heatmaps", "refine"):
        result = dff(stage, "--no-reuse")
        assert result.exit_code == 0, (result.stderr, result.exception)
    (maps,) = ConceptMaps.open(project / "artifacts/refined.zarr").values()
    return maps


def expected_boxes(
    maps: ConceptMaps, heat: ConceptMaps, certain: float, apart: bool = True
) -> list[list[int]]:
    """Boxes of the masks and of what is certain, from the stored maps alone."""
    rows = []
    for name, entries in maps.sets.items():
        thresholds = heat.thresholds[list(heat.sets).index(name)]
        for entry in entries:
            shares = heat.shares(int(entry))
            least = np.maximum(certain * shares.max(axis=(1, 2)), thresholds)
            around = shares >= least[:, None, None]
            around[thresholds <= 0] = False
            if apart:  # of parts, heat alone does not say which
                around[[k > 1 for k, _, _ in maps.columns]] = False
            together = np.moveaxis(maps.masks(int(entry)) | around, 0, -1)
            levels = maps.maps.map(int(entry))
            h, w, columns = levels.shape
            bits = pack_masks(together.reshape(-1, columns))
            boxes = measure(bits, levels.reshape(-1, columns), (h, w)).boxes
            rows += [[int(entry), *map(int, box)] for box in boxes]
    return rows


def test_the_stage_draws_boxes_around_both(project: Path, dff: Dff) -> None:
    edit(project, "certain: 0.425", "certain: 0.25")  # so that there is much of it
    maps = refined_maps(project, dff)
    (heat,) = ConceptMaps.open(project / "artifacts/heatmaps.zarr").values()
    boxes = maps.boxes.drop(columns="score").to_numpy().tolist()
    assert boxes == expected_boxes(maps, heat, 0.25)
    areas = [maps.masks(entry).sum(axis=(1, 2)) for entry in range(len(maps.maps))]
    np.testing.assert_array_equal(maps.areas, areas)
    # masks that are made in another way have boxes that are made in the same
    edit(project, "binarise: half", "binarise: percentile")
    again = refined_maps(project, dff, "refine")
    boxes = again.boxes.drop(columns="score").to_numpy().tolist()
    assert boxes == expected_boxes(again, heat, 0.25, apart=False)
    edit(project, "binarise: percentile", "binarise: half")
    edit(project, "certain: 0.25", "certain: 0")
    alone = refined_maps(project, dff, "refine")
    assert np.array_equal(alone.areas, maps.areas)
    assert alone.boxes.groupby(["entry", "column"])["area"].sum().sum() == alone.areas.sum()
    assert maps.boxes["area"].sum() > alone.areas.sum(), "something was certain and not masked"


@pytest.mark.parametrize("value", ["2.25", "-1", ".nan"])
def test_what_cannot_be_meant_is_refused(project: Path, dff: Dff, value: str) -> None:
    edit(project, "certain: 0.425", f"certain: {value}")
    assert f"certain: {value.replace('.nan', 'nan')}" in message(dff("refine"))


def test_certain_is_a_share_of_the_images_own_heat_by_hand() -> None:
    """Heat in per mille of the set's largest; the mask begins at 200."""
    heat = np.array(
        [
            # high: 0.5 of it is 500. low: 0.5 of it is below the threshold. absent; nothing.
            [[1000, 300, 100, 0], [501, 201, 100, 0], [499, 199, 0, 0]],
        ]
    )
    levels = np.round(heat * 65.535).astype(np.uint16)
    thresholds = np.array([0.2, 0.2, 0.2, 0.0])
    tasks = LayerTasks(None, None, None, [0], range(4), certain=0.5)  # type: ignore[arg-type]
    found = unpack_masks(tasks.certain_at(0, (levels, thresholds)), 4)
    assert found.T.tolist() == [
        [True, True, False],
        [True, True, False],
        [False, False, False],
        [False, False, False],
    ]
