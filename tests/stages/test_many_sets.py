"""Very many image sets: a report that opens, and states that are one entry a set."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, expect

from browser import needs_browser, opened, ready
from reported import run_stages
from stages.factorize.states import States
from stages.report import page as pages
from stages.report.opened import _Rows
from tools import draw

pytestmark = pytest.mark.xdist_group("explore")
SETS, CARDS = 7, 3


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many") / "root"
    for number in range(SETS):
        for i in range(2):
            draw(root / f"s{number} <i>" / f"{i}.png", 2 * number + i)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "MANY", SETS - 1)
        patch.setattr(pages, "CARDS", CARDS)
        patch.setattr("stages.report.write.CARDS", CARDS)
        return run_stages(root, root.parent / "project", ("features.5",), (1, 2), (0,))


def test_the_first_page_is_bounded(report: Path) -> None:
    """Cards, pictures and scores of some sets; the mean of all; no page for each."""
    html = (report / "index.html").read_text(encoding="utf-8")
    assert html.count('class="set-card"') == CARDS
    assert not (report / "pages").exists()
    assert f"first {CARDS} of {SETS} image sets" in html
    assert re.findall(r'rowspan="2">([^<]+)', html)[-CARDS - 1 :] == [
        "mean over sets", *(f"s{number} &lt;i&gt;" for number in range(CARDS)),
    ]  # fmt: skip
    # a photograph and a heat map of the two images of each card
    assert len(list((report / "pictures").iterdir())) == CARDS * 2 * 2
    for href in re.findall(r'<h2><a href="([^"]+)"', html):
        assert re.fullmatch(r"explore\.html#/s\d", href)


def test_every_set_can_be_explored(report: Path) -> None:
    text = (report / "data" / "index.js").read_text(encoding="utf-8")
    facts = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert [one["name"] for one in facts["sets"]] == [f"s{number} <i>" for number in range(SETS)]
    for rank in range(SETS):
        text = (report / "data" / f"set-{rank:03d}" / "set.js").read_text(encoding="utf-8")
        found = json.loads(text[text.index("{") : text.rindex("}") + 1])
        # the images in which a factor is strongest are known without their pictures
        assert all(factor["tops"] for factor in found["layers"][0]["ks"][1]["factors"])


@needs_browser
def test_cards_come_as_the_page_is_scrolled(browser: Browser, report: Path) -> None:
    with opened(browser, report / "explore.html", "#/all") as page:
        ready(page)
        expect(page.locator("h1")).to_have_text(f"{SETS} image sets")
        expect(page.locator("article.card")).to_have_count(SETS)
        expect(page.locator("p.more button")).to_have_count(0)
        assert page.locator("a.report").get_attribute("href") == "index.html"
        page.evaluate(  # many more sets, as far as the list knows
            """() => {
              const { sets } = App.run,
                set = App.run.set.bind(App.run);
              App.run.set = (rank) => set(rank % 7);
              for (let n = 0; n < 500; n++) sets.push({ ...sets[n % 7], name: `more ${n}` });
              delete App.run.children;
              App.show();
            }"""
        )
        expect(page.locator("h1")).to_have_text("507 image sets")
        shown = page.locator("article.card").count()
        assert 60 <= shown < 507
        for _ in range(30):
            page.locator("p.more").scroll_into_view_if_needed()
            page.wait_for_timeout(50)
            if page.locator("article.card").count() > shown:
                break
        assert page.locator("article.card").count() in range(shown + 1, 508)
        search = page.locator("input[type=search]")
        search.fill("more 499")
        expect(page.locator("article.card")).to_have_count(1)


def test_rows_of_a_set_are_those_of_the_table() -> None:
    table = pd.DataFrame(
        {
            "layer": pd.Categorical(["a", "b", "a", "a"]),
            "set": ["x", "x", "y", "x"],
            "k": np.array([1, 2, 3, 4], np.int64),
            "score": [0.5, np.inf, 0.25, -1.0],
            "suggested": [True, False, True, False],
            "reason": ["", "r", None, "s"],
        }
    )
    rows = _Rows.of(table)
    for layer, name in (("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")):
        mine = table[(table["layer"] == layer) & (table["set"] == name)].to_dict("records")
        found = rows.of_set(layer, name)
        assert found == mine
        assert [[type(value) for value in row.values()] for row in found] == [
            [type(value) for value in row.values()] for row in mine
        ]


def test_states_are_an_entry_a_set_and_large_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    states = {
        rank: {
            "passes": np.array(rank),
            "0.W": rng.standard_normal((2, 5)),
            "runs 0": rng.standard_normal((3, 1, 4)).astype(np.float32),
            "0.loss": np.empty(0),
        }
        for rank in range(4)
    }
    states[3]["H"] = rng.standard_normal((300_000, 1))
    with States(tmp_path, 0) as kept:
        for rank, state in states.items():
            kept.keep(rank, state, done=True)
    with np.load(next(tmp_path.glob("*.npz"))) as file:
        assert len(file.files) == len(states) + 1
    again = States(tmp_path, 0)
    for rank, state in states.items():
        found = again.saved(rank)
        assert found is not None
        assert found.keys() == state.keys()
        for key, one in state.items():
            assert found[key].dtype == one.dtype
            np.testing.assert_array_equal(found[key], one)
    assert again.saved(4) is None
