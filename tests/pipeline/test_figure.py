"""`dff figure` and figures of matplotlib: what is in the files, and what Jupyter leaves behind."""

import base64
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.results import open_results
from stages.drawing.colours import PALETTE
from stages.drawing.figures import encoded
from stages.drawing.sheet import Row, sheet
from tools import message, run_dff

pytestmark = pytest.mark.xdist_group("results")  # one worker makes its project

SVG = "{http://www.w3.org/2000/svg}"
INLINE = "module://matplotlib_inline.backend_inline"  # what Jupyter sets


def draw(finished: Path, out: Path, *arguments: str) -> Path:
    result = run_dff("figure", "--project", str(finished), "--out", str(out), *arguments)
    assert result.exit_code == 0, result.exception
    assert result.stdout.strip() == str(out)
    return out


def test_svg_has_text_names_and_photographs_at_their_own_size(
    finished: Path, tmp_path: Path
) -> None:
    images = ["images/discs/0.png", "images/discs/1.png"]
    out = draw(finished, tmp_path / "f.svg", *images, "--set", "discs", "--k", "2", "--k", "1")
    root = ElementTree.fromstring(out.read_bytes())
    texts = ["".join(one.itertext()).strip() for one in root.iter(f"{SVG}text")]
    assert sorted(texts) == ["background", "factor 0", "k = 1", "k = 2", "object"]
    assert [embedded(one) for one in root.iter(f"{SVG}image")] == [(72, 56), (56, 72)] * 2
    again = draw(finished, tmp_path / "g.svg", *images, "--set", "discs", "--k", "2", "--k", "1")
    assert again.read_bytes() == out.read_bytes()


def embedded(image: ElementTree.Element) -> tuple[int, int]:
    """(width, height) in pixels of a PNG inside an SVG."""
    (href,) = (value for key, value in image.attrib.items() if key.endswith("href"))
    return Image.open(io.BytesIO(base64.b64decode(href.split(",")[1]))).size


def test_pdf_has_fonts_that_can_be_edited(finished: Path, tmp_path: Path) -> None:
    content = draw(finished, tmp_path / "f.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/TrueType" in content or b"/CIDFontType2" in content
    assert b"/Type3" not in content
    widths = {int(w) for w in re.findall(rb"/Width (\d+)", content)}
    assert {72, 56} <= widths
    assert b"CreationDate" not in content


def test_photographs_have_no_more_pixels_than_dpi_asks_for(finished: Path, tmp_path: Path) -> None:
    out = draw(finished, tmp_path / "f.svg", "--dpi", "40", "--height", "1", "--k", "1")
    root = ElementTree.fromstring(out.read_bytes())
    assert [embedded(one)[1] for one in root.iter(f"{SVG}image")] == [40] * 4


def test_png_shows_what_the_maps_say(finished: Path) -> None:
    """Where a mask is, the photograph takes on its colour; elsewhere it only becomes darker."""
    r = open_results(finished)
    image = "images/discs/1.png"
    figure = r.figure("discs", [2], [image])
    (shown,) = (axes.images[0].get_array() for axes in figure.axes)
    photo, masks = r.photo(image).astype(float), r.mask(image, 2)
    assert np.asarray(shown).shape == photo.shape
    outside = ~masks.any(axis=0)
    dark = np.asarray(shown, float)
    kept = np.abs(dark - 0.82 * photo).max(axis=2) < 2
    assert kept[outside].mean() > 0.75 and kept[~outside].mean() < 0.25


def test_a_legend_with_many_names_takes_several_columns() -> None:
    picture = Image.new("RGB", (30, 20))
    few, many = (
        sheet([Row("k = 9", [picture], [(PALETTE[0], f"name {i}") for i in range(n)])], 0.5)
        for n in (2, 9)
    )
    assert few.legends[0]._ncols == 1 and many.legends[0]._ncols == 3  # type: ignore
    assert many.get_size_inches()[0] > few.get_size_inches()[0]
    assert many._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["--out", "f.jpg"], "--out f.jpg: give it the suffix .pdf, .svg, .png"),
        (["--set", "disk"], "did you mean 'discs'?"),
        (["--k", "4"], "k 4: not there; there are 1, 2"),
        (["--maps", "raws"], "did you mean 'raw'?"),
        (["images/discs/77.png"], "image images/discs/77.png: not there"),
        (["images/more discs/1.png"], "is not in the set discs"),
    ],
)
def test_mistakes_are_one_line(
    finished: Path, tmp_path: Path, arguments: list[str], line: str
) -> None:
    out = [] if "--out" in arguments else ["--out", str(tmp_path / "f.pdf")]
    result = run_dff("figure", "--project", str(finished), *out, *arguments)
    assert line in message(result)
    assert not list(tmp_path.glob("f.*"))


def test_compare_writes_the_file_that_was_asked_for(finished: Path, tmp_path: Path) -> None:
    for name, begins in (("f.pdf", b"%PDF"), ("g.svg", b"<?xml"), ("h", b"\x89PNG")):
        result = run_dff("compare", str(finished), "--out", str(tmp_path / name))
        assert result.exit_code == 0, result.exception
        target = tmp_path / (name if "." in name else f"{name}.png")
        assert target.read_bytes().startswith(begins)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "f.csv", "f.pdf", "g.csv", "g.svg", "h.csv", "h.png",
    ]  # fmt: skip
    table = pd.read_csv(tmp_path / "f.csv")
    assert set(table["maps"]) == {"raw", "refined"} and set(table["k"]) == {1, 2}


@pytest.mark.parametrize("backend", [INLINE, "no such backend", "svg"])
def test_a_backend_that_jupyter_named_does_no_harm(backend: str) -> None:
    """In a process of its own, as one that is started from a notebook."""
    script = (
        "import os, stages.report.plots\n"
        "from stages.drawing.figures import Sheet, encoded, matplotlib\n"
        "assert encoded(Sheet(figsize=(1, 1)), 'png', 50).startswith(b'\\x89PNG')\n"
        "print(os.environ['MPLBACKEND'])\n"
        "print(dict.__getitem__(matplotlib.rcParams, 'backend'))\n"
    )
    env = os.environ | {"MPLBACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kept, chosen = done.stdout.splitlines()
    assert kept == backend, "others may want it"
    assert (chosen == backend) == (backend == "svg")


def test_the_same_figure_is_the_same_bytes(finished: Path) -> None:
    r = open_results(finished)
    one, other = (encoded(r.overlay("images/discs/0.png", 2), "pdf", 100) for _ in range(2))
    assert one == other
