"""The press: a night's numbers as HTML, CSV and a plot.

To draw them takes a while, so that is done beforehand, and comes to nothing but bytes. They are written in the command's own
transaction, where the inbox lets only one of a command and its compensation through: a press that was held up half way, and goes on when
its report was shredded long ago, writes no more. The same numbers give the same files, so that printing twice changes nothing.
"""

from __future__ import annotations

import csv
import hashlib
import io
from functools import partial
from html import escape
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import MetaData

from saga import Participant, Work
from services.stage.example import data_folder
from services.stage.files import remove, write_whole
from topics.nightly import RenderReport, ReportRendered, ReportShredded, ShredReport

TABLES = MetaData()
press = Participant("press")

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{night}</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem; color: #1d2433; background: #fff }}
  table {{ border-collapse: collapse; width: 100% }} td {{ padding: .4rem 0; border-bottom: 1px solid #dde2ec }}
  td + td {{ text-align: right; font-variant-numeric: tabular-nums }} img {{ max-width: 100%; height: auto }}
  .off {{ color: #b3261e; font-weight: 600 }}
  @media (prefers-color-scheme: dark) {{
    body {{ color: #e6e9f0; background: #14171f }} td {{ border-color: #333a4a }} .off {{ color: #ff8a80 }}
  }}
</style>
<h1>The day until {night}</h1>
<table>
<tr><td>sales completed</td><td>{completed}</td></tr>
<tr><td>sales refused</td><td>{compensated}</td></tr>
<tr><td>sold, says the journal</td><td>{journal:.2f} EUR</td></tr>
<tr><td>sold, says the till</td><td{off}>{till:.2f} EUR</td></tr>
</table>
<p><img src="cid:plot" alt="completed and refused sales"></p>
</html>
"""


def reports() -> Path:
    return data_folder() / "reports"


def files_of(night: str) -> tuple[Path, Path, Path]:
    """HTML, CSV and plot. Any night gives a safe name, and two nights never the same."""
    name = hashlib.blake2b(night.encode(), digest_size=8).hexdigest()
    return reports() / f"{name}.html", reports() / f"{name}.csv", reports() / f"{name}.png"


class Drawn(NamedTuple):
    """A report before it is on paper."""

    page: bytes
    table: bytes
    plot: bytes


def draw(cmd: RenderReport, _: Work) -> Drawn:
    return Drawn(_page(cmd), _csv(cmd), _plot(cmd))


@press.handles(RenderReport, calls=draw)
def render(cmd: RenderReport, _: Work, drawn: Drawn) -> ReportRendered:
    page, table, plot = files_of(cmd.night)
    for path, content in zip((page, table, plot), drawn, strict=True):
        write_whole(path, partial(_put, content))
    return ReportRendered(html=page.name, csv=table.name, plot=plot.name)


@press.handles(ShredReport)
def shred(cmd: ShredReport, _: Work) -> ReportShredded:
    for file in files_of(cmd.night):
        remove(file)
    return ReportShredded(night=cmd.night)


def _page(cmd: RenderReport) -> bytes:
    return PAGE.format(
        night=escape(cmd.night),
        completed=cmd.completed,
        compensated=cmd.compensated,
        journal=cmd.journal_minor / 100,
        till=cmd.till_minor / 100,
        off=' class="off"' if cmd.till_minor != cmd.journal_minor else "",
    ).encode()


def _csv(cmd: RenderReport) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["night", "completed", "refused", "journal_eur", "till_eur"])
    writer.writerow([cmd.night, cmd.completed, cmd.compensated, f"{cmd.journal_minor / 100:.2f}", f"{cmd.till_minor / 100:.2f}"])
    return out.getvalue().encode()


def _plot(cmd: RenderReport) -> bytes:
    import matplotlib as mpl  # here, since it takes a second to load, and only this needs it

    mpl.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.4), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(["refused", "completed"], [cmd.compensated, cmd.completed], color=["#b3261e", "#1e7a46"])
    axes.bar_label(bars, padding=4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("sales")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120, metadata={"Software": None})
    return out.getvalue()


def _put(content: bytes, draft: Path) -> None:
    draft.write_bytes(content)
