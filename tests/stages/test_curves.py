"""Curves as SVG: their ticks, and that names and points are where they belong."""

import re
from xml.etree import ElementTree

import pytest

from stages.drawing.curves import WIDTH, Chart, ticks
from stages.report.plots import choice_plot, family_plot, loss_plot, quality_plot


@pytest.mark.parametrize(
    ("low", "high", "most", "whole", "expected"),
    [
        (0, 100, 9, False, ["0", "20", "40", "60", "80", "100"]),
        (0.83, 0.925, 9, False, ["0.84", "0.86", "0.88", "0.90", "0.92"]),
        (0.9, 2.1, 8, True, ["1", "2"]),
        (-0.1, 1.05, 5, False, ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        (0.5, 200, 8, True, ["25", "50", "75", "100", "125", "150", "175", "200"]),
    ],
)
def test_ticks_are_round(
    low: float, high: float, most: int, whole: bool, expected: list[str]
) -> None:
    assert [text for _, text in ticks(low, high, most, whole=whole)] == expected


def test_a_chart_is_well_formed_and_its_names_are_inside() -> None:
    chart = Chart("k", "a < b")
    chart.line([(1, 0.5), (2, float("nan")), (3, 0.7)], "#123456", marker=3)
    chart.bar(1, 0.5, 0.1, "#123456")
    chart.name("<stability>", 3, 0.7, "#123456")
    root = ElementTree.fromstring(str(chart.svg()))
    texts = {one.text: one for one in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"k", "a < b", "<stability>"} <= texts.keys()
    assert float(texts["<stability>"].get("x", "")) + 11 * 6.2 <= WIDTH
    dots = list(root.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(dots) == 2  # what is no number is not drawn


def test_a_chart_of_one_point_has_room_around_it() -> None:
    root = ElementTree.fromstring(str(loss_plot([_loss(1, 0.5)], [1])))
    (dot,) = root.iter("{http://www.w3.org/2000/svg}circle")
    assert 0 < float(dot.get("cx", "")) < WIDTH


def test_plots_of_a_page_show_every_run() -> None:
    losses = [_loss(k, 1 / (k + update), update) for k in (1, 2) for update in range(1, 5)]
    assert len(re.findall("<circle", loss_plot(losses, [1, 2]))) == 8
    rows = [{"k": k, "object_iou": 50.0 + k, "object_iou_std": 2.0} for k in (2, 1)]
    assert "refined" in quality_plot({"raw": rows, "refined": rows}, "object_iou")
    choice = [{"k": k, "stability": 0.9, "silhouette": 0.8, "suggested": k == 2} for k in (1, 2)]
    assert choice_plot(choice).count('r="5.5"') == 1  # the ring
    links = [
        {"k": 2, "factor": j, "parent_k": 1, "parent_factor": 0, "cosine": 0.5} for j in (0, 1)
    ]
    colours = {1: [(0, 0, 0)], 2: [(0, 0, 0), (255, 255, 255)]}
    assert family_plot(links, colours).count('stroke-width="1.6"') == 2


def _loss(k: int, error: float, update: int = 1) -> dict[str, float]:
    return {"k": k, "seed": 0, "update": update, "relative_error": error}
