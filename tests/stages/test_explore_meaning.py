"""What concepts mean to the network, on the page to explore and in the report."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from browser import at, needs_browser, ready, turn_to, violations
from explained import CLASSES, colour_project
from stages.artifacts.explanations import Explanations
from tools import run_in_process

pytestmark = [pytest.mark.xdist_group("explore-meaning"), needs_browser]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on a network whose classes have names that are markup."""
    project = colour_project(tmp_path_factory.mktemp("meaning"))
    run_in_process(project)
    return project / "artifacts/report"


def of(report: Path) -> Explanations:
    return Explanations.open(report.parent / "explained.zarr")


def test_a_concepts_view_shows_its_importance_by_class(browser: Browser, report: Path) -> None:
    found, rank, k, j = of(report), 1, 3, 1
    name = list(found.sets)[rank]
    layer, column = found.at("act"), found.factorizations.columns_of(k)[j]
    with at(browser, report, f"#/s{rank}/c{j}?k={k}") as page:
        ready(page)
        figures = page.locator(".meaning-class")
        classes = found.classes_of("act", name)
        expect(figures).to_have_count(len(classes))
        for place, called in classes:
            figure = figures.nth(place)
            expect(figure.locator("figcaption bdi")).to_have_text(called)
            total = layer.total[rank, column, place]
            error = layer.total_error[rank, column, place]
            mine = figure.locator("li.here")
            expect(mine).to_have_count(1)
            said = f"{100 * total:.0f} % ± {100 * error:.0f}"
            expect(mine.locator(".value").first).to_have_text(said)
            effect = f"{abs(layer.effect[rank, column, place]):.1f}"
            expect(mine.locator(".value").last).to_contain_text(effect)
            expect(figure.locator("polyline")).to_have_count(3)
            steps = figure.locator("polyline.insertion").get_attribute("points")
            assert steps is not None and len(steps.split()) == k + 1
        hints = ", ".join(found.hints("act", name, k)[j])
        expect(page.locator("p.hint")).to_have_text(f"looks to the network like: {hints}")
        assert violations(page) == []


def test_a_set_shows_hints_where_there_are_no_names(browser: Browser, report: Path) -> None:
    found = of(report)
    name = next(iter(found.sets))
    with at(browser, report, "#/s0?k=2", viewport={"width": 390, "height": 800}) as page:
        ready(page)
        for j, looks in enumerate(found.hints("act", name, 2)):
            hint = page.locator(".concept").nth(j).locator(".hint")
            expect(hint).to_have_text(f"looks to the network like: {', '.join(looks)}")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, "nothing is wider than the screen"


def test_the_form_offers_hints_as_such(browser: Browser, report: Path) -> None:
    found = of(report)
    looks = found.hints("act", next(iter(found.sets)), 2)[0]
    with at(browser, report, "#/s0/names?k=2") as page:
        row = ready(page).locator(".naming").first
        offered = row.locator("button", has_text=f"looks to the network like: {looks[0]}")
        expect(offered).to_have_count(1)
        field = row.locator("input[type=text]")
        field.press_sequentially(looks[0][:3])
        option = row.locator(".suggestions li", has_text=looks[0])
        expect(option).to_contain_text("looks like it to the network")
        field.press("ArrowDown")
        field.press("Enter")
        assert page.evaluate("[...Names.typed.values()].map(one => one.now)") == [[looks[0]]]
        turn_to(page, "#/s0?k=2")
        # a name takes the hint's place
        expect(page.locator(".concept").first.locator(".hint")).to_have_count(0)
        expect(page.locator(".concept").nth(1).locator(".hint")).to_have_count(1)


def test_the_report_has_hints_importance_and_tables(report: Path) -> None:
    page = next(report.glob("pages/set-000.html")).read_text(encoding="utf-8")
    assert "looks to the network like: " in page and "importance for <i>" in page
    assert "<b>green</b>" not in page and "&lt;b&gt;green&lt;/b&gt;" in page
    assert re.search(r'title="total Sobol index and its standard error, per cent">\d+', page)
    for name in ("importance", "importance-curves"):
        head, first = (report / f"tables/{name}.csv").read_text(encoding="utf-8").split("\n")[:2]
        assert "class" in head and any(one in first for one in CLASSES)


def test_where_nothing_is_known_the_reason_is_there(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from reported import run_stages
    from tools import draw_photographs

    folder = tmp_path_factory.mktemp("unknown")
    root = draw_photographs(folder / "photographs", 3)
    made = run_stages(root, folder / "project", ("features.5",), (1, 2), (0,))
    with at(browser, made, "#/s0/c1?k=2") as page:
        ready(page)
        expect(page.locator("main")).to_contain_text(
            "What it means to the network is not known: the classes of a random start (random:0)"
        )
        expect(page.locator(".meaning, .hint")).to_have_count(0)
    assert not (made / "tables/importance.csv").exists()
