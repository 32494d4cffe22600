"""What every refiner keeps to, their options, and that each usual value has one owner."""

import dataclasses
import inspect
import pickle
import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.params import ParamsError, build
from stages.algorithms import mean_field as mean_field_module
from stages.algorithms.colour_term import ColourTerm
from stages.algorithms.dense_crf import dense_crf
from stages.algorithms.inference import images
from stages.algorithms.inference.images import window_radius
from stages.algorithms.mean_field import mean_field
from stages.algorithms.whole_numbers import probabilities
from stages.frame.fingerprint import fingerprint
from stages.refine.params import RefineParams
from stages.refine.refiners import REFINERS
from stages.refine.refiners.densecrf import DenseCrf
from stages.refine.refiners.guided import Guided
from stages.refine.refiners.refiner import BatchRefiner, LevelsRefiner, Refiner, Task
from stages.refine.stage import REFINE
from stages.refine.work import refined_by, rows_of_task
from tools import ROOT

GROUPS = (slice(0, 1), slice(1, 3))
every_refiner = pytest.mark.parametrize(
    "refiner", [r() for r in REFINERS.values()], ids=[*REFINERS]
)


def a_task(h: int, w: int, seed: int = 0, absent: bool = False) -> Task:
    """Noise, and three columns of two factorizations; perhaps the second is absent."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
    probability = rng.random((3, h, w), dtype=np.float32)
    if absent:
        probability[1] = 0
    return Task(image, probability, GROUPS)


# -- every refiner ---------------------------------------------------------------------------


@every_refiner
@given(h=st.integers(1, 12), w=st.integers(1, 12), seed=st.integers(0, 99), absent=st.booleans())
@settings(max_examples=15, deadline=None)
def test_probabilities_in_and_out(
    refiner: Refiner, h: int, w: int, seed: int, absent: bool
) -> None:
    task = a_task(h, w, seed, absent)
    image, probability = task.image.copy(), task.probability.copy()
    q = refined_by(refiner, task)
    assert q.shape == (3, h, w) and q.dtype == np.float32
    assert (q >= 0).all() and (q <= 1).all()
    assert (task.image == image).all() and (task.probability == probability).all(), "was changed"
    if absent:
        assert (q[1] == 0).all()
        assert (q[0] > 0).any()


@every_refiner
def test_the_same_bits_again_and_in_another_process(refiner: Refiner) -> None:
    task = a_task(30, 40)
    q = refined_by(refiner, task)
    assert q.tobytes() == refined_by(refiner, task).tobytes()
    there = pickle.loads(pickle.dumps((refiner, task)))
    rows = rows_of_task(*there)
    assert rows.shape == (1200, 3) and rows.flags.c_contiguous
    assert (rows.T.reshape(3, 30, 40) == q).all()


@every_refiner
def test_maps_without_an_edge_in_the_image_keep_their_sides(refiner: Refiner) -> None:
    """What is sure stays so: no refiner turns a flat image's maps over."""
    probability = np.stack([np.full((20, 24), p, np.float32) for p in (0.02, 0.98)])
    task = Task(np.full((20, 24, 3), 128, np.uint8), probability, (slice(0, 1), slice(1, 2)))
    low, high = refined_by(refiner, task)
    assert low.max() < 0.5 < high.min()


@every_refiner
def test_larger_images_take_no_less(refiner: Refiner) -> None:
    sizes = [(1, 1), (60, 80), (120, 160), (375, 500), (1500, 2000)]
    needed = [refiner.bytes_per_image(size, 3) for size in sizes]
    assert needed == sorted(needed) and needed[0] >= 0
    assert refiner.bytes_per_image((80, 60), 3) == needed[1], "turned by a quarter"
    if isinstance(refiner, BatchRefiner):
        there = [refiner.batch_bytes(size, 3) for size in sizes]
        assert all(few < many for few, many in pairwise(there))
        assert refiner.batch_bytes((60, 80), 3) < refiner.batch_bytes((60, 80), 30)


@every_refiner
def test_batches_are_images_one_by_one(refiner: Refiner) -> None:
    import torch

    if not isinstance(refiner, BatchRefiner):
        assert not hasattr(refiner, "refine_batch")
        return
    tasks = [a_task(30, 40, seed) for seed in range(3)]
    images = torch.stack([torch.from_numpy(task.image) for task in tasks]).permute(0, 3, 1, 2)
    p = torch.from_numpy(np.stack([task.probability for task in tasks]))
    together = refiner.refine_batch(images.float() / 255, p, GROUPS)
    for q, task in zip(together.numpy(), tasks, strict=True):
        np.testing.assert_allclose(q, refiner.refine(task), atol=5e-3)


@every_refiner
@given(
    h=st.integers(1, 90),
    w=st.integers(1, 90),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 99),
)
@settings(max_examples=15, deadline=None)
def test_whole_numbers_are_those_of_the_probabilities(
    refiner: Refiner, h: int, w: int, dtype: Any, seed: int
) -> None:
    if not isinstance(refiner, LevelsRefiner):
        assert not hasattr(refiner, "refine_levels")
        return
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
    heat = rng.integers(0, np.iinfo(dtype).max, (18, h, w), dtype, endpoint=True)
    heat[3] = 0  # absent from the image
    thresholds = rng.choice([0.3, 0.6, 1e-45], 18)
    thresholds[1] = 0.0  # absent from most of the set
    columns, before = heat.transpose(1, 2, 0), heat.copy()
    found = refiner.refine_levels(image, columns, thresholds)
    again = refiner.refine_levels(image, np.ascontiguousarray(columns), thresholds)
    assert found is not None and again is not None
    assert found.tobytes() == again.tobytes() and (heat == before).all()
    task = Task(image, probabilities(columns, thresholds), (slice(0, 18),))
    q = refined_by(refiner, task).reshape(18, -1).T
    assert found.shape == q.shape and found.dtype == np.uint8
    assert not found[:, [1, 3]].any()
    away = np.abs(found - 255 * q)
    assert away.max() < 2 and (away > 0.51).mean() < 1e-2


def test_what_loops_cannot_do_is_asked_for_in_probabilities() -> None:
    image, heat = np.zeros((4, 5, 3), np.uint8), np.ones((4, 5, 2), np.uint16)
    assert Guided(joint=True).refine_levels(image, heat, np.ones(2)) is None


@every_refiner
def test_every_option_is_explained_and_has_a_usual_value(refiner: Refiner) -> None:
    options = dataclasses.fields(refiner)  # type: ignore[arg-type]
    for option in options:
        assert option.metadata["help"] and option.default is not dataclasses.MISSING
    with pytest.raises(dataclasses.FrozenInstanceError):
        refiner.whatever = 1  # type: ignore[attr-defined]
    assert refiner.kind in ("threads", "processes")
    if refiner.remedy:  # what it tells people to turn to is an option
        (name,) = [n for n, one in REFINERS.items() if type(refiner) is one]
        assert refiner.remedy.split(f"refine.{name}.")[1] in {option.name for option in options}


def test_params_load_no_library_that_computes() -> None:
    heavy = {"torch", "skimage", "pydensecrf"}
    script = f"import sys, stages.refine.params; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


# -- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refiner", "option", "value"),
    [
        (Guided, "iterations", -1),
        (Guided, "working_side", -1),
        (Guided, "radius", 0.0),
        (Guided, "radius", 1.5),
        (Guided, "eps", 1e-200),
        (Guided, "weight", -3.0),
        (Guided, "colour_weight", -1.0),
        (Guided, "colour_sigma", 1e-20),
        (Guided, "colour_reach", 0.0),
        (Guided, "colour_cells", 0),
        (DenseCrf, "iterations", -1),
        (DenseCrf, "gaussian_sxy", 0.0),
        (DenseCrf, "bilateral_sxy", -1.0),
        (DenseCrf, "bilateral_srgb", float("nan")),
    ],
)
def test_values_that_cannot_be_meant(refiner: type, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{option}: {value}"):
        refiner(**{option: value})


def section(method: str = "guided", **more: Any) -> dict[str, Any]:
    """A section of params.yaml with the usual options of all refiners."""
    options = {name: dataclasses.asdict(one()) for name, one in REFINERS.items()}  # type: ignore[call-overload]
    rules = {"binarise": "half", "percentile": 75.0, "masks": "apart", "certain": 0.425}
    found: dict[str, Any] = {"method": method, **rules}
    return {**found, "guided": options["guided"], "densecrf": options["densecrf"], **more}


@pytest.mark.parametrize("method", REFINERS)
def test_the_section_of_what_is_chosen_is_read(method: str) -> None:
    assert build(REFINE, section(method)) == RefineParams(method, options=REFINERS[method]())


def test_options_of_a_refiner_that_is_not_chosen_change_no_fingerprint() -> None:
    crf = dataclasses.asdict(DenseCrf(bilateral_sxy=50.0))
    usual, other = section(), section(densecrf=crf)
    assert _fingerprint(usual) == _fingerprint(other)
    assert _fingerprint(section("densecrf")) != _fingerprint(section("densecrf", densecrf=crf))


def _fingerprint(values: dict[str, Any]) -> str:
    return fingerprint(REFINE, build(REFINE, values), {})


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"radius": 0.1}, "refine.radius: is an option of its own section now: write "
         "refine.guided.radius"),
        ({"bilateral_srgb": 5.0}, "write refine.densecrf.bilateral_srgb"),
        ({"iterations": 5}, "write refine.guided.iterations or refine.densecrf.iterations"),
        ({"method": "none", "none": {}}, "refine.none: unknown key"),
        ({"percentile": 101.0}, "refine.percentile: 101.0 must be between 0 and 100"),
    ],
)  # fmt: skip
def test_old_and_mistaken_keys_are_one_line(more: dict[str, Any], expected: str) -> None:
    with pytest.raises(ParamsError) as raised:
        build(REFINE, section(**more))
    assert expected in str(raised.value)


# -- one owner of every usual value ----------------------------------------------------------


def test_functions_and_params_have_the_same_usual_values() -> None:
    guided = dataclasses.asdict(Guided())
    function = _defaults(mean_field)
    for name in ("iterations", "working_side", "eps", "weight", "joint"):
        assert function[name] == guided.pop(name), name
    colour = function["colour"]
    assert colour == ColourTerm()
    for option, field in [("weight", "weight"), ("sigma", "colour"), ("reach", "reach")]:
        assert getattr(colour, field) == guided.pop(f"colour_{option}"), option
    assert colour.cells == guided.pop("colour_cells")
    assert _defaults(window_radius)["share"] == guided.pop("radius")
    assert guided == {}, "an option that no function has"
    crf = _defaults(dense_crf)
    assert crf == dataclasses.asdict(DenseCrf())


def _defaults(function: Any) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


@pytest.mark.parametrize("side", [10, 63, 224, 245, 500])
def test_a_notebook_gets_the_stages_radius(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pixels: 1/14 and 0.0714 used to be 18 and 17 at 245."""
    import torch

    asked: list[int] = []

    def asked_for(guide: Any, radius: int, *_: Any) -> None:
        asked.append(radius)
        raise InterruptedError

    monkeypatch.setattr(mean_field_module.Guide, "of", asked_for)
    monkeypatch.setattr(images, "_lanes_work", lambda: False)
    image, p = torch.rand(1, 3, 4, side), torch.rand(1, 1, 4, side)
    with pytest.raises(InterruptedError):
        mean_field(image, p, working_side=0)
    with pytest.raises(InterruptedError):
        Guided(working_side=0).refine(
            Task(np.zeros((4, side, 3), np.uint8), p[0].numpy(), (slice(0, 1),))
        )
    assert asked == [max(1, round(0.0714 * side))] * 2


def test_guided_on_a_cpu_needs_no_torch_and_gives_what_torch_gets() -> None:
    code = """
import sys
import numpy as np
from stages.refine.refiners.guided import Guided
from stages.refine.refiners.refiner import Task
rng = np.random.default_rng(0)
image = rng.integers(0, 256, (40, 56, 3)).astype(np.uint8)
p = rng.random((3, 40, 56), np.float32)
q = Guided().refine(Task(image, p, (slice(0, 3),)))
if Guided().libraries[0] == "torch":
    sys.exit("plain loops here: nothing to compare")
assert "torch" not in sys.modules
import torch
tensor = torch.from_numpy(image)[None].permute(0, 3, 1, 2).float() / 255
by_torch = Guided().inferred(tensor, torch.from_numpy(p)[None], ())
assert np.array_equal(q, by_torch[0].numpy())
print("equal")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "equal\n", done.stderr
