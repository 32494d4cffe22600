"""The procedural scenes: deterministic, exactly annotated, and written as a plain folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.datasets.demo.scenes import (
    DEMO_SETS,
    KINDS,
    SETTINGS,
    draw_scene,
    part_names,
    write_demo,
)


@pytest.mark.parametrize("kind", DEMO_SETS)
def test_same_seed_same_bytes_other_seed_other_picture(kind: str) -> None:
    first, again, other = (draw_scene(kind, seed, 96, 128) for seed in (3, 3, 4))
    assert first.image.tobytes() == again.image.tobytes()
    assert all(np.array_equal(first.parts[name], again.parts[name]) for name in first.parts)
    assert not np.array_equal(first.image, other.image)
    assert any(not np.array_equal(first.parts[name], other.parts[name]) for name in first.parts)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_disjoint_masks_of_the_picture_s_size(kind: str) -> None:
    scene = draw_scene(kind, 11, 80, 112)
    assert scene.image.shape == (80, 112, 3)
    assert scene.image.dtype == np.uint8
    assert scene.image.std() > 5
    assert tuple(scene.parts) == part_names(kind)
    for mask in scene.parts.values():
        assert mask.shape == (80, 112)
        assert mask.dtype == np.bool_
    if scene.parts:
        assert np.sum(list(scene.parts.values()), axis=0).max() == 1


@pytest.mark.parametrize("kind", DEMO_SETS)
def test_every_part_shows_in_most_scenes_and_the_object_is_large(kind: str) -> None:
    scenes = [draw_scene(kind, seed, 112, 112) for seed in range(10)]
    for name in part_names(kind):
        assert sum(bool(scene.parts[name].sum() >= 20) for scene in scenes) >= 8, name
    covers = [np.any(list(scene.parts.values()), axis=0).mean() for scene in scenes]
    assert 0.15 < np.mean(covers) < 0.45
    assert min(covers) > 0.08


def test_most_of_the_object_lies_inside_the_frame() -> None:
    for kind in DEMO_SETS:
        for seed in range(4):
            parts = draw_scene(kind, seed, 112, 112).parts
            whole = np.any(list(parts.values()), axis=0)
            rim = np.ones_like(whole)
            rim[1:-1, 1:-1] = False
            assert (whole & rim).sum() < 0.1 * rim.sum()


def test_empty_has_no_parts_and_the_backdrop_leaves_the_object_where_it_is() -> None:
    assert draw_scene("empty", 0, 64, 64).parts == {}
    on_land, in_water = (draw_scene("plane", 5, 96, 96, setting) for setting in SETTINGS[::2])
    wings = on_land.parts["wings"] & in_water.parts["wings"]
    assert wings.sum() > 0.9 * on_land.parts["wings"].sum()


def test_unknown_kinds_settings_and_tiny_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind 'unicorn'"):
        draw_scene("unicorn", 0, 64, 64)
    with pytest.raises(ValueError, match="unknown setting 'moon'"):
        draw_scene("deer", 0, 64, 64, "moon")
    with pytest.raises(ValueError, match="32x32"):
        draw_scene("deer", 0, 20, 64)


def test_write_demo_lays_out_a_plain_folder(tmp_path: Path) -> None:
    write_demo(tmp_path, images_per_set=3, seed=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "parts"]
    shapes = set()
    for kind in DEMO_SETS:
        legend = json.loads((tmp_path / "parts" / kind / "parts.json").read_text("utf-8"))
        assert legend == {str(i + 1): name for i, name in enumerate(part_names(kind))}
        images = sorted((tmp_path / "images" / kind).iterdir())
        assert [p.name for p in images] == [f"{kind}_{i:03d}.png" for i in range(3)]
        for path in images:
            label = tmp_path / "parts" / kind / path.name
            with Image.open(path) as image, Image.open(label) as part:
                assert image.mode == "RGB"
                assert part.mode == "P"
                assert part.size == image.size
                assert set(np.unique(np.asarray(part))) <= set(range(len(legend) + 1))
                shapes.add(image.size)
    assert len(shapes) > 1


def test_write_demo_repeats_itself_and_changes_with_the_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_demo(tmp_path / name, images_per_set=1, seed=seed)
    stem = f"images/{DEMO_SETS[0]}/{DEMO_SETS[0]}_000.png"
    first, again, other = ((tmp_path / name / stem).read_bytes() for name in "abc")
    assert first == again
    assert first != other
