"""params.yaml is read strictly, and every mistake is one line that says what to write instead."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.init import PRESETS, demo_params, write_params
from pipeline.params import PARAMS, ParamsError, build, check_root, read_params, render
from pipeline.registry import STAGES
from stages.extract.params import ExtractParams
from stages.frame.fingerprint import digest, fingerprint
from stages.frame.params import choice, fill_options, options_of, param, user_path
from stages.frame.stage import Stage
from tools import ROOT, edit, message, run_dff


def test_the_shipped_params_are_the_demo_preset() -> None:
    assert (ROOT / PARAMS).read_text(encoding="utf-8") == demo_params()


def test_the_shipped_params_are_the_defaults() -> None:
    read = read_params(ROOT)
    assert list(read) == [stage.name for stage in STAGES]
    for stage in STAGES:
        assert read[stage.name] == stage.params()


@pytest.mark.parametrize("what", PRESETS)
def test_every_preset_can_be_read_back(tmp_path: Path, what: str) -> None:
    root = None if what == "demo" else tmp_path / "data"
    (tmp_path / "data").mkdir()
    path = write_params(tmp_path, what, root)
    assert yaml.safe_load(path.read_text(encoding="utf-8"))
    params = read_params(tmp_path)
    datasets = {"pascal-parts": "pascal_part", "pascal-parts-coarse": "pascal_part"}
    datasets |= {"voc2007": "voc", "voc2007-agnostic": "voc", "figure4": "icoseg"}
    assert params["index"].dataset == datasets.get(what, what)
    if what not in ("demo", "folder"):  # the paper's experiments
        assert (params["extract"].backbone, params["extract"].weights) == ("vgg19", "DEFAULT")
        assert params["extract"].layers[-1] == "conv5_4"
        assert params["report"].paper or what == "figure4"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("seeds: [0]", "sede: [0]", "factorize.sede: unknown key, did you mean 'seeds'?"),
        ("factorize:", "factorise:", "factorise: unknown section, did you mean 'factorize'?"),
        ("k: [1, 2]", "k: [0]", "factorize.k: [0] must be one or more numbers of at least 1"),
        ("k: [1, 2]", "k: []", "factorize.k: [] must be one or more numbers"),
        ("k: [1, 2]", "k: [2, 2]", "factorize.k: [2, 2] has a number twice"),
        ("k: [1, 2]", "k: two", "factorize.k: 'two' is not a whole number"),
        ("k: [1, 2]", "k: [true]", "factorize.k: true in line"),
        ("size: 64", "size: 64.5", "extract.size: 64.5 in line"),
        ("size: 64", "size: 8", "extract.size: 8 is not between 32 and 4096"),
        ("size: 64", "size: [224, 416.5]", "extract.size: 416.5 in line"),
        ("size: 64", "size: [224, 8000]", "extract.size: 8000 is not between 32 and 4096"),
        ("size: 64", "size: [416, 224]", "extract.size: [416, 224] must be ascending"),
        ("size: 64", "size: [224, 224]", "extract.size: [224, 224] must be ascending, each"),
        ("size: 64", "size: []", "extract.size: name at least one number of pixels"),
        ("size: 64", "size: [[64]]", "extract.size: ['64'] is not a whole number"),
        ("solver: hals", "solver: als", "factorize.solver: 'als' is unknown, choose hals or mu"),
        ("method: guided", "method: crf", "refine.method: 'crf' is unknown, choose guided"),
        ("joint: false", "joint: 1", "refine.guided.joint: 1 in line"),
        (
            "dataset: folder",
            "dataset: coco",
            "'coco' is unknown, choose demo, folder",
        ),
        (
            "percentile: 75.0                 # masks",
            "percentile: 101 # masks",
            "between 0 and 100",
        ),
        ("tol: 0.0001", "tol: small", "factorize.tol: 'small' is not a number"),
        ("  weight: 5.0", "  weight: .nan", "refine.guided.weight: nan is not a finite number"),
        ("seeds: [0]  ", "seeds: [0", "params.yaml: not valid YAML in line"),
        ("size: 64", "size: !!int [64]", "params.yaml: not valid YAML in line"),
        ("size: 64", "size: !!int '['", "extract.size: [ in line"),
        ("size: 64", "size: 2019-99-99", "extract.size: 2019-99-99 in line"),
    ],
)
def test_a_mistake_is_one_clear_line(project: Path, before: str, after: str, expected: str) -> None:
    edit(project, before, after)
    with pytest.raises(ParamsError) as raised:
        read_params(project)
    assert expected in str(raised.value)
    assert PARAMS in str(raised.value)


def test_numbers_as_people_write_them(project: Path) -> None:
    edit(project, "tol: 0.0001", "tol: 2e-4")  # YAML takes this for text
    edit(project, "  weight: 5.0", "  weight: 5")
    edit(project, "k: [1, 2]", "k: 3")
    params = read_params(project)
    assert params["factorize"].tol == 2e-4
    assert params["refine"].options.weight == 5.0
    assert params["factorize"].k == (3,)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("k: [1, 2]", "k: [010]", "factorize.k: 010 in line # is not a whole number, {}8"),
        ("k: [1, 2]", "k: [1_0]", "factorize.k: 1_0 in line # is not a whole number, {}10"),
        ("k: [1, 2]", "k: 2019-12-24", "factorize.k: 2019-12-24 in line # is not a whole number"),
        ("size: 64", "size: 0x40", "extract.size: 0x40 in line # is not a whole number, {}64"),
        ("size: 64", "size: 1:04", "extract.size: 1:04 in line # is not a whole number, {}64"),
        ("max_failed: 0.05", "max_failed: 00.5", "00.5 in line # is not a number, {}0.5"),
        ("joint: false", "joint: no", "joint: no in line # is not true or false, {}False"),
    ],
)  # fmt: skip
def test_values_that_programs_read_in_two_ways(
    project: Path, before: str, after: str, expected: str
) -> None:
    edit(project, before, after)
    lines = (project / PARAMS).read_text().splitlines()
    (number,) = (i for i, line in enumerate(lines, 1) if after in line)
    with pytest.raises(ParamsError) as raised:
        read_params(project)
    said = expected.format("and to some programs ").replace("#", str(number))
    assert str(raised.value).endswith(said)


def test_text_is_what_is_written(project: Path) -> None:
    edit(project, "  sets: []", "  sets: [010, no, NA, 1e3, 1_000, 12:30, 2019-12-24, 'null']")
    sets = read_params(project)["index"].sets
    assert sets == ("010", "no", "NA", "1e3", "1_000", "12:30", "2019-12-24", "null")
    assert {type(one) for one in sets} == {str}
    edit(project, "'null'", "null")
    with pytest.raises(ParamsError, match=r"index.sets: None is not text"):
        read_params(project)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(), max_size=3), st.floats(0, 1), st.integers(1, 100))
@example(["NA", "010", "no", "", "~", "1e3", "=", "<<"], 1e-05, 10)
def test_what_init_writes_is_read_as_it_was(sets: list[str], share: float, k: int) -> None:
    sections = {"index": {"sets": tuple(sets), "max_failed": share}, "factorize": {"k": (k,)}}
    with TemporaryDirectory() as folder:
        (Path(folder) / PARAMS).write_text(render(sections, "x"), encoding="utf-8")
        read = read_params(Path(folder))
    assert (read["index"].sets, read["index"].max_failed) == (tuple(sets), share)
    assert read["factorize"].k == (k,)


def test_a_missing_key_names_the_usual_value(project: Path) -> None:
    edit(project, "  seeds: [0]", "  # seeds: [0]")
    with pytest.raises(ParamsError, match=r"factorize.seeds: missing; the usual value is \[0\]"):
        read_params(project)


def test_an_older_file_is_told_of_all_that_it_lacks_at_once(project: Path) -> None:
    path = project / PARAMS
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    kept, inside = [], False
    for line in lines:
        if not line.startswith((" ", "#", "\n")):
            inside = line.startswith("explain:")
        if not inside and not line.startswith("  seeds: ["):
            kept.append(line)
    path.write_text("".join(kept), encoding="utf-8")
    with pytest.raises(ParamsError) as raised:
        read_params(project)
    assert str(raised.value) == (
        "params.yaml: 5 lines are missing; add them, here with their usual values: "
        "factorize.seeds: [0]; explain.images: 12; explain.classes: 2; explain.design: 32; "
        "explain.class_names: ''"
    )
    edit(project, "  tol: ", "  toll: ")  # a slip is told first
    with pytest.raises(ParamsError, match=r"factorize\.toll: unknown key, did you mean 'tol'"):
        read_params(project)


def test_params_that_are_not_there_or_not_a_mapping(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="`dff init` writes one"):
        read_params(tmp_path)
    (tmp_path / PARAMS).write_text("- 1\n")
    with pytest.raises(ParamsError, match="must have the sections index, extract"):
        read_params(tmp_path)
    (tmp_path / PARAMS).write_text("!!python/object/apply:os.system ['true']\n")
    with pytest.raises(ParamsError, match="not valid YAML"):
        read_params(tmp_path)


def test_init_does_not_replace_what_somebody_wrote(project: Path, photographs: Path) -> None:
    before = (project / PARAMS).read_bytes()
    with pytest.raises(ParamsError, match="--force replaces it"):
        write_params(project, str(photographs), None)
    assert (project / PARAMS).read_bytes() == before
    write_params(project, str(photographs), None, force=True)
    after = (project / PARAMS).read_bytes()
    assert after != before
    write_params(project, str(photographs), None)
    assert (project / PARAMS).read_bytes() == after, "it says this already"


def test_init_replaces_the_shipped_params(tmp_path: Path, photographs: Path) -> None:
    (tmp_path / PARAMS).write_text(demo_params(), encoding="utf-8")
    write_params(tmp_path, str(photographs), None)
    assert read_params(tmp_path)["index"].root == str(photographs)


def test_init_for_a_project_elsewhere(
    tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    write_params(Path("elsewhere"), photographs.name, None)
    root = read_params(Path("elsewhere"))["index"].root
    assert (Path("elsewhere") / root).resolve() == photographs.resolve()


def test_one_size_is_one_however_it_is_written(project: Path) -> None:
    edit(project, "size: 64", "size: [64]")
    found = read_params(project)["extract"]
    assert found == replace(found, size=64)
    assert found.size == 64 and found.sizes == (64,)
    edit(project, "size: [64]", "size: [64, 96]")
    assert read_params(project)["extract"].sizes == (64, 96)
    with pytest.raises(ValueError, match="your own activations are of one size"):
        ExtractParams(backbone="own", size=(64, 96))


def test_init_for_the_best_quality(tmp_path: Path, photographs: Path) -> None:
    for name, options in {"usual": [], "best": ["--quality", "best"]}.items():
        folder = str(tmp_path / name)
        assert run_dff("init", str(photographs), "--project", folder, *options).exit_code == 0
    usual, best = (read_params(tmp_path / name) for name in ("usual", "best"))
    assert best["extract"].sizes == (224, 416) and usual["extract"].sizes == (224,)
    best["extract"] = replace(best["extract"], size=224)
    assert best == usual, "nothing else"
    line = message(run_dff("init", str(photographs), "--project", folder, "--quality", "good"))
    assert line == "--quality good: choose one of usual, best"
    demo = tmp_path / "demo"
    assert run_dff("init", "demo", "--project", str(demo), "--quality", "best").exit_code == 0
    assert read_params(demo)["extract"].sizes == (224, 416)


def test_init_checks_the_network(tmp_path: Path, photographs: Path) -> None:
    with pytest.raises(ParamsError, match="vgg19"):
        write_params(tmp_path, str(photographs), None, backbone="vg19")
    with pytest.raises(ParamsError, match="conv5_4"):
        write_params(tmp_path, str(photographs), None, layers=["conv5_5"])
    assert not (tmp_path / PARAMS).exists()
    assert write_params(tmp_path / "new", str(photographs), None).exists(), "makes the folder"
    with pytest.raises(ParamsError, match="cannot be written"):
        write_params(tmp_path / "new" / PARAMS / "below a file", str(photographs), None)


def test_init_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="no such folder"):
        write_params(tmp_path, "nowhere", None)
    with pytest.raises(ParamsError, match="name the folder"):
        write_params(tmp_path, "icoseg", None)
    with pytest.raises(ParamsError, match="unknown preset"):
        write_params(tmp_path, "coco", tmp_path)
    assert not (tmp_path / PARAMS).exists()


@pytest.mark.parametrize("twice", ["  seeds: [1]\n", "  {seeds: 1, seeds: 2}\n"])
def test_a_key_that_stands_there_twice_is_refused(project: Path, twice: str) -> None:
    path = project / PARAMS
    text = path.read_text(encoding="utf-8")
    if twice.startswith("  {"):
        text += "more:\n" + twice
    else:
        text = text.replace("  seeds:", twice + "  seeds:")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ParamsError, match=r"in line \d+: 'seeds' stands there twice"):
        read_params(project)


def test_paths_may_begin_at_home(
    project: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photographs, weights and labels: each path in params means what a shell would make of it."""
    monkeypatch.setenv("HOME", str(photographs.parent))
    edit(project, f"root: {photographs}", f"root: ~/{photographs.name}")
    edit(project, "labels: labels.yaml", "labels: ~/names.yaml")
    edit(project, "k: [1, 2]", "k: [2]")
    names = {"discs": {2: ["object", "background"]}}
    content = {"layer": "features.5", "seed": 0, "sets": names}
    (photographs.parent / "names.yaml").write_text(yaml.safe_dump(content))
    for stage in STAGES[:-1]:
        result = run_dff(stage.name, "--project", str(project))
        assert result.exit_code == 0, result.exception
    table = pd.read_parquet(project / "artifacts/evaluation/labels.parquet")
    assert set(table["label"]) == {"object", "background"}


def test_mappings_may_be_merged(project: Path) -> None:
    """YAML's own way not to write something twice; what overrides it is no second key."""
    path = project / PARAMS
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    given = content.pop("factorize")
    text = yaml.safe_dump(content)
    flow = yaml.safe_dump(given, default_flow_style=True, width=10_000).strip()
    text += f"factorize:\n  <<: {flow}\n  seeds: [5]\n"
    path.write_text(text, encoding="utf-8")
    assert read_params(project)["factorize"].seeds == (5,)


def test_a_folder_whose_name_begins_with_a_tilde(tmp_path: Path) -> None:
    assert user_path("~photos/x", tmp_path) == tmp_path / "~photos/x"
    assert user_path("~/x", tmp_path) == Path.home() / "x"


# -- options of what is chosen ---------------------------------------------------------------


@dataclass(frozen=True)
class Smooth:
    radius: float = param(0.5, "how far")


@dataclass(frozen=True)
class Sharp:
    power: int = param(2, "how much")
    names: tuple[str, ...] = param(("a",), "of whom")

    def __post_init__(self) -> None:
        if self.power < 1:
            raise ValueError(f"power: {self.power} must be at least 1")


@dataclass(frozen=True)
class Nothing:
    pass


@dataclass(frozen=True)
class Toy:
    """A toy."""

    way: str = choice("smooth", {"smooth": Smooth, "sharp": Sharp, "none": Nothing}, "which way")
    level: int = param(1, "how high")
    options: Any = options_of("way")

    def __post_init__(self) -> None:
        fill_options(self)


TOY: Stage[Toy] = Stage("toy", 1, Toy, {}, Path("artifacts/toy"), lambda *_: None, "A toy.")


def toy(**section: object) -> Toy:
    return build(TOY, section)


def test_options_are_those_of_what_is_chosen() -> None:
    assert toy(way="smooth", level=1, smooth={"radius": 1}).options == Smooth(1.0)
    assert toy(way="none", level=1).options == Nothing()
    assert Toy("sharp").options == Sharp()


def test_what_was_not_chosen_changes_no_fingerprint() -> None:
    one = toy(way="smooth", level=1, smooth={"radius": 1}, sharp={"power": 2, "names": []})
    other = toy(way="smooth", level=1, smooth={"radius": 1}, sharp={"power": 3, "names": ["b"]})
    third = toy(way="smooth", level=1, smooth={"radius": 2})
    assert fingerprint(TOY, one, {}) == fingerprint(TOY, other, {})
    assert fingerprint(TOY, one, {}) != fingerprint(TOY, third, {})


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"way": "rough", "level": 1}, "toy.way: 'rough' is unknown, choose smooth, sharp or none"),
        (
            {"way": "sharp", "level": 1},
            "toy.sharp: missing; add the section with its usual values, "
            "`sharp: {power: 2, names: [a]}`",
        ),
        (
            {"way": "smooth", "level": 1, "smooth": {}},
            "toy.smooth.radius: missing; the usual value",
        ),
        (
            {"way": "smooth", "level": 1, "radius": 2},
            "toy.radius: is an option of its own section now: write toy.smooth.radius",
        ),
        (
            {"way": "none", "level": 1, "sharp": {"powr": 2}},
            "toy.sharp.powr: unknown key, did you mean 'power'?",
        ),
        (
            {"way": "none", "level": 1, "sharp": {"power": 0, "names": []}},
            "toy.sharp.power: 0 must be at least 1",
        ),
        ({"way": "none", "levl": 1}, "toy.levl: unknown key, did you mean 'level'?"),
        ({"way": "none", "level": 1, "smooth": 3}, "toy.smooth: must be a section"),
    ],
)
def test_a_mistake_in_options_is_one_clear_line(section: dict, expected: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ParamsError) as raised:
        build(TOY, section)
    assert expected in str(raised.value)


def test_options_of_another_choice_are_refused() -> None:
    with pytest.raises(ValueError, match="way: smooth takes Smooth"):
        Toy("smooth", options=Sharp())


def test_init_writes_a_dvc_yaml_for_a_project_that_is_no_checkout(
    tmp_path: Path, photographs: Path
) -> None:
    project = tmp_path / "own"
    result = run_dff("init", str(photographs), "--dvc", "--project", str(project))
    assert "git init && dvc init && dvc repro" in result.output
    made = yaml.safe_load((project / "dvc.yaml").read_text())
    assert list(made["stages"]) == ["code", *(stage.name for stage in STAGES)]
    outs = {path for stage in made["stages"].values() for path in stage["outs"]}
    for stage in STAGES:
        entry = made["stages"][stage.name]
        assert entry["params"] == [stage.name, {"artifacts/code.json": [stage.name]}]
        for path in entry.get("deps", []):
            assert path in outs or path == "${evaluate.labels}", "nothing of the checkout"
    assert (project / "labels.yaml").exists()
    code = project / "artifacts/code.json"
    assert run_dff("code", str(code)).exit_code == 0
    assert set(json.loads(code.read_text())) == {"dff", *(stage.name for stage in STAGES)}
    # what is somebody's stays
    (project / "dvc.yaml").write_text("stages: {}\n")
    result = run_dff("init", str(photographs), "--dvc", "--project", str(project))
    assert "is another one; --force replaces it" in message(result)
    assert (project / "dvc.yaml").read_text() == "stages: {}\n"


def test_the_demo_needs_no_folder_and_others_name_theirs(tmp_path: Path) -> None:
    write_params(tmp_path, "demo", None)
    check_root(tmp_path, read_params(tmp_path)["index"])
    edit(tmp_path, "dataset: demo", "dataset: folder")
    text = (tmp_path / PARAMS).read_text()
    start, end = text.index("  demo:"), text.index("  root:")
    folder = "  folder: {masks: masks, parts: parts, whole: '', void: -1}\n"
    (tmp_path / PARAMS).write_text(text[:start] + folder + text[end:])
    with pytest.raises(ParamsError, match=r"index\.root: name the folder of your photographs"):
        check_root(tmp_path, read_params(tmp_path)["index"])


def test_a_param_that_came_later_changes_no_fingerprint_at_its_usual_value() -> None:
    """`extract.preprocessing: model` is what was done before there was such a line."""
    extract = next(stage for stage in STAGES if stage.name == "extract")
    usual, own = ExtractParams(), ExtractParams(preprocessing="own")
    before = {n: v for n, v in asdict(usual).items() if n not in ("preprocessing", "options")}
    assert fingerprint(extract, usual, {}) == digest("extract", extract.version, before, {}, "")
    assert fingerprint(extract, own, {}) != fingerprint(extract, usual, {})
    bgr = replace(own, options=replace(own.options, channels="bgr"))
    assert fingerprint(extract, bgr, {}) != fingerprint(extract, own, {})
    cubic = replace(own, options=replace(own.options, interpolation="bicubic"))
    assert fingerprint(extract, cubic, {}) != fingerprint(extract, own, {})


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("mean: [0.5, 0.5]", "extract.own.mean: [0.5, 0.5] must be three numbers"),
        ("std: [0, 1, 1]", "extract.own.std: [0.0, 1.0, 1.0] must be above 0"),
        ("white: 0", "extract.own.white: 0.0 must be above 0"),
        ("channels: brg", "extract.own.channels: 'brg' is unknown, choose rgb or bgr"),
        ("interpolation: cubic", "extract.own.interpolation: 'cubic' is unknown, choose bilinear"),
        ("centre: 0", "extract.own.centre: unknown key"),
    ],
)
def test_preprocessing_of_ones_own(tmp_path: Path, section: str, expected: str) -> None:
    usual = {"mean": "[0.5, 0.5, 0.5]", "std": "[1, 1, 1]", "white": "1", "channels": "rgb"}
    usual["interpolation"] = "bilinear"
    key, _, value = section.partition(": ")
    lines = "".join(f"    {name}: {one}\n" for name, one in {**usual, key: value}.items())
    (tmp_path / PARAMS).write_text(demo_params(), encoding="utf-8")
    edit(tmp_path, "  preprocessing: model ", f"  own:\n{lines}  preprocessing: own ")
    with pytest.raises(ParamsError) as caught:
        read_params(tmp_path)
    assert expected in str(caught.value)
