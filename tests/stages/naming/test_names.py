"""Names find their factors again: by place, by direction, or not at all, and then it is said."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from stages.artifacts.factorizations import Factorizations
from stages.artifacts.factors import Factors
from stages.frame.errors import StageError
from stages.naming.labels import clean, labels_text, packed, read_labels, unpacked
from stages.naming.match import SAME, match, nearest
from stages.naming.names import FactorNames, read_names

Matrix = Any
AXES = np.eye(8, dtype=np.float32)


def between(one: Matrix, other: Matrix, cosine: float) -> Matrix:
    """A unit row that has this cosine with the first of two orthogonal ones."""
    return (cosine * one + np.sqrt(1 - cosine**2) * other).astype(np.float32)


def factors(
    W: dict[str, dict[int, Matrix]], fingerprint: str = "now", seed: int = 0, layer: str = "fc"
) -> Factors:
    """What names need of factors: every image set with the same ks, one image each."""
    ks = list(next(iter(W.values())))
    rows = np.stack([np.concatenate([by_k[k] for k in ks]) for by_k in W.values()])
    one = SimpleNamespace(
        fingerprint=fingerprint,
        layers=[layer],
        sets={name: np.array([i]) for i, name in enumerate(W)},
        images=[f"{name}.png" for name in W],
        image_ids=np.arange(len(W)),
        factorizations=Factorizations.every(ks, [seed]),
        at=lambda layer: SimpleNamespace(W=rows),
    )
    return cast(Factors, one)


BEFORE = {"cows": {2: AXES[:2], 3: AXES[:3]}, "cars": {2: AXES[4:6], 3: AXES[4:7]}}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A file that names factors of BEFORE."""
    path = tmp_path / "labels.yaml"
    named = {
        "cows": {2: [("head",), ()], 3: [("head",), ("leg", "hoof"), ("tail",)]},
        "cars": {2: [(), ()], 3: [("wheel",), ("roof",), ()]},
    }
    path.write_text(labels_text("fc", 0, "before", named, BEFORE, {}), encoding="utf-8")
    return path


def texts(names: FactorNames, image_set: str, k: int, seed: int = 0) -> list[str]:
    return names.texts("fc", image_set, k, seed)


def test_the_factors_that_were_named_keep_their_places(written: Path) -> None:
    # directions count for nothing: the fingerprint says they are the same
    names = read_names(written, factors({"cows": BEFORE["cars"], "cars": BEFORE["cows"]}, "before"))
    assert texts(names, "cows", 3) == ["head", "leg + hoof", "tail"]
    assert texts(names, "cars", 3) == ["wheel", "roof", ""]
    assert names.of("fc", "cars", 2, 0) is None, "nobody named any"
    assert names.of("fc", "cows", 3, 1) is None and names.of("other", "cows", 3, 0) is None
    assert names.notes == () and names.lowest == 1


def test_names_follow_their_factors(written: Path) -> None:
    """Of one set they come in another order and a little changed; the other is as it was."""
    moved = np.stack([between(AXES[i], AXES[7], c) for i, c in ((2, 0.99), (0, 0.97), (1, 0.95))])
    now = {"cows": {2: AXES[[1, 0]], 3: moved}, "cars": BEFORE["cars"]}
    for seed in (0, 7):
        names = read_names(written, factors(now, seed=seed))
        assert texts(names, "cows", 3, seed) == ["tail", "head", "leg + hoof"]
        assert texts(names, "cows", 2, seed) == ["", "head"]
        assert texts(names, "cars", 3, seed) == ["wheel", "roof", ""]
        named = names.named("fc", "cows", 3, seed)
        assert named is not None
        assert named.cosines == pytest.approx([0.99, 0.97, 0.95], abs=1e-4)
        assert names.notes == () and names.lowest == pytest.approx(0.95, abs=1e-4)


def test_a_factor_that_is_gone_takes_its_name_along_and_that_is_said(written: Path) -> None:
    gone = np.stack([AXES[0], between(AXES[1], AXES[6], 0.6), AXES[2]])
    names = read_names(written, factors({"cows": {3: gone}, "cars": {3: BEFORE["cars"][3]}}))
    assert texts(names, "cows", 3) == ["head", "", "tail"]
    (line,) = names.notes
    assert "cows, k = 3: no factor is 'leg + hoof' any more" in line and "0.60, below 0.9" in line


def test_of_the_halves_of_a_factor_one_has_the_name_or_none(written: Path) -> None:
    def split(cosine: float) -> FactorNames:
        halves = [between(AXES[0], AXES[6], cosine), between(AXES[0], AXES[7], cosine - 0.02)]
        return read_names(written, factors({"cows": {3: np.stack([AXES[2], *halves])}}))

    assert texts(split(0.95), "cows", 3) == ["tail", "head", ""]
    assert texts(split(0.8), "cows", 3) == ["tail", "", ""]
    said = " ".join(split(0.8).notes)
    assert "'head'" in said and "0.80" in said and "image set 'cars' is not there" in said


def test_a_new_k_takes_the_names_of_the_nearest(written: Path) -> None:
    five = AXES[[7, 2, 1, 6, 0]]
    names = read_names(
        written, factors({"cows": {1: AXES[:1], 5: five}, "cars": {1: AXES[6:7], 5: five}})
    )
    assert texts(names, "cows", 5) == ["", "tail", "leg + hoof", "", "head"]
    assert texts(names, "cows", 1) == ["head"]
    assert texts(names, "cars", 1) == [""] and texts(names, "cars", 5) == [""] * 5
    one = read_names(written, factors({"cows": {1: AXES[:1]}, "cars": {1: AXES[4:5]}}))
    assert texts(one, "cars", 1) == ["wheel"], "k = 2 has a place for names, but none"
    assert [nearest(k, [2, 4]) for k in (1, 3, 9)] == [2, 4, 4]
    said = " ".join(names.notes)
    assert "cars, k = 5: no factor is 'wheel' any more" in said
    assert "cars, k = 1" not in said, "with fewer factors some are missing"


def test_other_channels_or_layers_name_nothing(written: Path) -> None:
    wide = {
        "cows": {3: np.eye(3, 9, dtype=np.float32)},
        "cars": {3: np.eye(3, 9, dtype=np.float32)},
    }
    names = read_names(written, factors(wide))
    assert not names.sets and "a layer of other channels" in names.notes[0]
    names = read_names(written, factors(BEFORE, layer="fd"))
    assert not names.sets and "layer 'fc' is not there" in names.notes[0]


def test_a_file_by_hand_names_by_number_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text("sets: {cows: {2: [a, ~], 4: [a, b, c, d]}, cow: {2: [a, a]}}")
    names = read_names(path, factors(BEFORE))
    assert texts(names, "cows", 2) == ["a", ""] and texts(names, "cows", 3) == [""] * 3
    by_number, k, image_set = names.notes
    assert "`dff label` adds that" in by_number
    assert "k 4 is not there" in k and "did you mean 'cows'?" in image_set


def test_what_names_become_in_an_artifact(written: Path) -> None:
    names = read_names(written, factors(BEFORE))
    again = FactorNames.from_record(names.record)
    for k in (2, 3):
        assert again.named("fc", "cows", k, 0) == names.named("fc", "cows", k, 0) or again.texts(
            "fc", "cows", k, 0
        ) == names.texts("fc", "cows", k, 0)
    assert (again.notes, again.seen, again.lowest) == (names.notes, names.seen, names.lowest)
    assert again.form(factors(BEFORE)) == names.form(factors(BEFORE))


HOSTILE = [
    "no", "1e3", "7", "007", "null", "~", "2024-01-01", "0x1F", "=", "<<", "- x", "a: b", "#c",
    "<script>alert('1')</script>", "a/b", "\"quoted\" 'twice'", "頭", "رأس",
    "👩‍👩‍👧", "{{ 7*7 }}", "a" * 300,
]  # fmt: skip


def test_names_are_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "labels.yaml"
    k = len(HOSTILE)
    W = {"no": {k: np.eye(k, 40, dtype=np.float32)}}
    text = labels_text("fc", 0, "12345e6", {"no": {k: [(one,) for one in HOSTILE]}}, W, {})
    path.write_text(text, encoding="utf-8")
    labels = read_labels(path)
    assert labels.sets == {"no": {k: tuple((one,) for one in HOSTILE)}}
    assert labels.factors == "12345e6"
    plain = 'sets: {2008: {8: [no, 7, 1e3, 2024-01-01, null, ~, "", "null"]}}'
    path.write_text(plain)
    ((name, by_k),) = read_labels(path).sets.items()
    assert name == "2008"
    assert by_k[8] == (("no",), ("7",), ("1e3",), ("2024-01-01",), (), (), (), ("null",))
    path.write_text('sets: {a: {1: [[leg, hoof, leg, ~, "a\\0\\ud800\\n b"]]}}')
    assert read_labels(path).sets["a"][1] == (("leg", "hoof", "a\ufffd\ufffd b"),)
    assert clean("  two\t words ") == "two words"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sets: {a: {2: [x]}}", "sets.a.2: must be a list of 2 names"),
        ("sets: {a: {x: [x]}}", "sets.a.x: 'x' is not a whole number"),
        ("sets: {a: {1: [{b: c}]}}", "is not a name, a list of names or null"),
        ("sets: [a]", "sets: must have an entry for each image set"),
        ("sats: {}", "sats: unknown key, did you mean 'sets'?"),
        ("sets: {a: {1: [x]}}\ndirections: {a: {1: eJx}}", "directions.a.1: is damaged"),
        ("sets: {a: {1: [!!int x]}}", "cannot be read"),
        ("sets: {", "cannot be read"),
    ],
)
def test_what_is_no_labels_file_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text(text)
    with pytest.raises(StageError) as caught:
        read_labels(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_directions_survive_as_text() -> None:
    W = np.abs(np.random.default_rng(0).normal(size=(5, 512))).astype(np.float32)
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    again = unpacked(packed(W), 5)
    assert again.shape == W.shape
    np.testing.assert_allclose(again @ W.T, W @ W.T, atol=5e-4)
    with pytest.raises(ValueError):
        unpacked(packed(W), 3)


@pytest.mark.parametrize("seed", range(3))
def test_matching_undoes_any_permutation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    W = np.eye(6, 20) + 0.02 * rng.random((6, 20))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    order = rng.permutation(6)
    found, cosines = match(W, W[order])
    assert [int(order[at]) for at in found] == list(range(6))
    assert cosines == pytest.approx([1.0] * 6)
    found, cosines = match(W, W[order[:4]])
    assert sorted(at for at in found if at >= 0) == [0, 1, 2, 3]
    assert all((at >= 0) == (cosine >= SAME) for at, cosine in zip(found, cosines, strict=True))
    with pytest.raises(ValueError, match="20 channels cannot be matched with 19"):
        match(W, W[:, :19])
