"""The press: what is drawn beforehand is nothing but bytes, so that nothing is printed outside the command's transaction."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from saga import Work
from services.nightly.press import draw, files_of, render, reports, shred
from topics.nightly import RenderReport, ShredReport

REPORT = RenderReport(
    night="n<1>", until=datetime(2026, 1, 1, tzinfo=UTC), completed=2, compensated=1, journal_minor=1050, till_minor=50
)


def work() -> Work:
    return Work("nightly:n:1:render:execute", "", "execute", 1, "n", "nightly:n:1", "")


def test_a_press_that_was_held_up_prints_nothing_after_its_report_was_shredded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call may go on after all is over; its transaction does not, and what stands in it never happens."""
    monkeypatch.setenv("EXAMPLE_DATA", str(tmp_path))
    held_up = draw(REPORT, work())
    assert not reports().exists()
    printed = render(REPORT, work(), held_up)
    page, table, plot = files_of(REPORT.night)
    assert (printed.html, printed.csv, printed.plot) == (page.name, table.name, plot.name)
    assert sorted(reports().iterdir()) == sorted((page, table, plot))
    assert "n&lt;1&gt;" in page.read_text()
    assert "10.50 EUR" in page.read_text()
    assert table.read_text().splitlines()[1] == "n<1>,2,1,10.50,0.50"
    assert plot.read_bytes().startswith(b"\x89PNG")
    shred(ShredReport(night=REPORT.night), work())
    draw(REPORT, work())
    assert list(reports().iterdir()) == []


def test_the_same_numbers_are_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_DATA", str(tmp_path))
    assert draw(REPORT, work()) == draw(REPORT, work())
