"""What the heatmaps stage finds out about a set's coefficients, and how its progress counts."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import zarr

from stages.artifacts.concept_maps import FULL_COLOUR, ConceptMaps
from stages.artifacts.factors import Factors, Heat
from stages.heatmaps import survey as surveying
from stages.heatmaps.survey import survey
from stages.maps.write import track_images
from store import Ragged, RaggedWriter, Staging
from tools import edit, run_dff

Columns = list[tuple[int, int, int]]
GRIDS = [(2, 3), (1, 1), (8, 8), (3, 1)]


def coefficients(path: Path, values: np.ndarray) -> Ragged:
    group = zarr.open_group(path, mode="w")
    ids = np.arange(len(GRIDS))
    writer = RaggedWriter(group, np.array(GRIDS), ids, values.shape[1], np.float32)
    writer.append(0, values)
    writer.close()
    return Ragged.open(group)


@pytest.mark.parametrize("block", [1, 5, 10**6])
def test_a_survey_is_what_numpy_says_of_all_rows(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.set_rows.BLOCK_BYTES", 4 * 4 * block)
    values = np.random.default_rng(0).gamma(0.3, 1, (74, 4)).astype(np.float32)
    values[:, 1] *= -1  # as PCA's may be
    values[:, 2] = 0
    values[:, 3] = 0
    values[7, 3] = 2  # in one place only: no percentile above 0
    ragged = coefficients(tmp_path / "a.zarr", values)
    entries = [0, 2, 3]
    # of two factorizations; the first column is the figure of the others
    found = survey(ragged, entries, [(1, 0, 0), (3, 0, 0), (3, 0, 1), (3, 0, 2)])
    owned = [values[ragged.offsets[i] : ragged.offsets[i + 1]] for i in entries]
    rows = np.concatenate(owned)
    largest = np.maximum(rows.max(axis=0), 0)
    np.testing.assert_array_equal(found.scale, largest)
    shares = np.clip(rows[:, 0] / np.float64(largest[0]), 0, 1).astype(np.float32)
    assert found.full[0] == np.percentile(shares.astype(float), FULL_COLOUR)
    assert found.full[1:].tolist() == [0, 0, 1]
    assert found.strength[0] == np.percentile(shares.astype(float), 90)
    assert found.strength[1:].tolist() == [0, 0, 1]
    upper = shares >= np.percentile(shares.astype(float), 75)
    expected = shares[upper].sum(dtype=float) / shares.sum(dtype=float)
    np.testing.assert_allclose(found.within[0], expected, rtol=1e-6)
    assert np.isnan(found.within[1:3]).all(), "nothing of them is anywhere"
    assert found.within[3] == float(upper[rows[:, 3] > 0][0])
    assert np.isnan(survey(ragged, entries, [(4, 0, i) for i in range(4)]).within).all()
    expected = [one[:, 0].mean(dtype=float) / largest[0] for one in owned]
    np.testing.assert_allclose(found.means[:, 0], expected, rtol=1e-6)
    assert (found.means[:, 1:3] == 0).all() and found.means[1, 3] == 1 / 64


def test_an_interrupted_stage_does_not_survey_twice(
    project: Path, dff: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(project, "layers: [features.5]", "layers: [features.5, features.8]")
    for stage in ("index", "extract", "factorize"):
        dff(stage)
    surveyed: list[str] = []

    def counted(
        of: Ragged, entries: list[int], columns: Columns, held: Heat, *, inside: bool
    ) -> object:
        surveyed.append(str(of.values.path))
        return survey(of, entries, columns, held, inside=inside)

    monkeypatch.setattr(surveying, "survey", counted)
    checkpoint = Staging.checkpoint

    def interrupted(self: Staging, **progress: object) -> None:
        checkpoint(self, **progress)
        if "survey features.8" in progress:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "checkpoint", interrupted)
        assert run_dff("heatmaps", "--project", str(project)).exit_code == 130
    assert len(surveyed) == 4, "two layers of two sets"
    result = run_dff("heatmaps", "--project", str(project))
    assert result.exit_code == 0 and len(surveyed) == 4
    factors = Factors.open(project / "artifacts/factors.zarr")
    for layer, maps in ConceptMaps.open(project / "artifacts/heatmaps.zarr").items():
        for rank, entries in enumerate(factors.sets.values()):
            columns = factors.factorizations.columns
            expected = survey(factors.at(layer).coefficients, entries.tolist(), columns)
            np.testing.assert_array_equal(maps.strength[rank], expected.strength)
            np.testing.assert_array_equal(maps.within[rank], expected.within)
            np.testing.assert_array_equal(maps.scale[rank], expected.scale)
            np.testing.assert_array_equal(maps.full[rank], expected.full)
            np.testing.assert_array_equal(maps.means[entries], expected.means)
    assert "heatmaps: 14 images in" in result.stderr


def test_progress_counts_images(capsys: pytest.CaptureFixture[str]) -> None:
    with track_images("heatmaps", 4, layers=2) as advance:
        for _ in range(2):  # layers
            for _ in range(3):  # passes
                for _ in range(4):
                    advance(Fraction(1, 3))
    assert capsys.readouterr().err.startswith("heatmaps: 4 images in")
