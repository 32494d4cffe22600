"""docs/scale.md: its tables are the sums that benchmarks/scale.py makes of what was measured."""

import pytest

from benchmarks import scale


def test_the_page_has_the_tables() -> None:
    text = scale.PAGE.read_text(encoding="utf-8")
    tables = text.split(scale.BEGIN)[1].split(scale.END)[0].strip()
    assert tables == scale.pages(scale.PRICE)


def test_hours_are_work_over_workers() -> None:
    known = {key: term.value for key, term in scale.terms().items()}
    rows = {row["stage"]: row for row in scale.costs(3_600_000, 10, 2.0)}
    hours = 3_600_000 / known["extract"] / 10 / 3600
    assert rows["extract"]["hours"] == pytest.approx(hours)
    assert rows["extract"]["USD"] == pytest.approx(hours * 10 * 2.0)
    assert rows["all"]["hours"] == pytest.approx(
        sum(row["hours"] for stage, row in rows.items() if stage != "all")
    )
    twice = {row["stage"]: row for row in scale.costs(7_200_000, 10, 2.0)}
    assert twice["extract"]["TB written"] == pytest.approx(2 * rows["extract"]["TB written"])
