"""The picture of the numbers: latency by rate, what a saga costs by process, and throughput against the floor."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import matplotlib

matplotlib.use("Agg")  # a file, never a window
from matplotlib import pyplot
from matplotlib.axes import Axes

INK, QUIET, GRID = "#1f2933", "#6b7785", "#e4e8ec"
SHADES = ("#1b4965", "#3d7ea6", "#8fbcd9")  # p50, p95, p99
COLOURS = {"orchestrator": "#1b4965", "floor": "#8fbcd9", "services": "#e07a3f", "broker": "#8a94a0", "load": "#cfd6dd"}
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": QUIET,
    "xtick.color": INK,
    "ytick.color": QUIET,
}


def draw(found: dict[str, Any], file: Path) -> None:
    """Draw a run of all parts."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with pyplot.rc_context(STYLE):  # type: ignore[arg-type]
        figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(13, 4.2), width_ratios=(1.6, 0.9, 1))
        _latency(left, found["latency"])
        _cost(middle, found["saturated"])
        _floor(right, found["floor"])
        on = found["machine"]
        about = f"{on['cores']} cores for everything · Kafka {on['kafka']} · Python {on['python']} · {on['date']}"
        figure.subplots_adjust(left=0.03, right=0.98, top=0.86, bottom=0.2, wspace=0.16)
        figure.text(0.03, 0.03, about, fontsize=8, color=QUIET)
        figure.savefig(file, dpi=160)
        pyplot.close(figure)


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _latency(axes: Axes, found: list[dict[str, Any]]) -> None:
    _plain(axes, "From start to end of a saga, ms (log scale)")
    width = 0.26
    for shade, name, shift in zip(SHADES, ("p50", "p95", "p99"), (-width, 0.0, width), strict=True):
        values = [each["ms"][name] for each in found]
        bars = axes.bar([at + shift for at in range(len(found))], values, width * 0.92, color=shade, label=name)
        axes.bar_label(bars, [_short(value) for value in values], padding=2, fontsize=8, color=QUIET)
    axes.set_yscale("log")
    axes.set_ylim(1, 6 * max(each["ms"]["p99"] for each in found))
    axes.margins(x=0.02)
    axes.yaxis.set_visible(False)  # every bar says its value
    axes.set_xticks(range(len(found)), [f"{each['rate']}/s" for each in found])
    axes.legend(frameon=False, ncols=3, loc="upper left", fontsize=9)


def _cost(axes: Axes, found: dict[str, Any]) -> None:
    _plain(axes, "Processor time of a saga, ms")
    axes.yaxis.set_visible(False)
    spent: dict[str, float] = {}
    for role, ms in found["cpu"].items():
        spent[role.partition("-")[0]] = spent.get(role.partition("-")[0], 0.0) + ms
    bottom = 0.0
    for role, ms in sorted(spent.items(), key=lambda each: -each[1]):
        axes.bar([0], [ms], 0.5, bottom=bottom, color=COLOURS[role])
        if ms > 0.03 * found["cpu_total"]:
            axes.text(0.3, bottom + ms / 2, f"{role} {ms:.2f}", va="center", fontsize=9, color=INK)
        bottom += ms
    axes.set_xlim(-0.3, 1.0)
    axes.set_xticks([])
    axes.set_xlabel(
        f"{found['cpu_total']:.2f} ms in all, at {found['sagas_per_second']:,.0f} sagas a second", loc="left", fontsize=9
    )


def _floor(axes: Axes, found: dict[str, Any]) -> None:
    _plain(axes, "Sagas a second, without databases")
    rounds = found["rounds"]
    sides = {"floor": "floor (no engine)", "orchestrator": "orchestrator"}
    for at, side in enumerate(sides):
        each = [one[side]["sagas_per_second"] for one in rounds]
        axes.bar([at], [median(each)], 0.5, color=COLOURS[side])
        axes.plot([at] * len(each), each, "o", color=INK, markeredgecolor="white", markersize=5)
        axes.annotate(f"{median(each):,.0f}", (at, max(each)), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    axes.set_xticks(range(2), sides.values())
    axes.margins(x=0.1, y=0.15)
    axes.yaxis.set_visible(False)
    axes.set_xlabel(f"{found['throughput_ratio']:.0%} of the floor", loc="left", fontsize=9)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value < 10_000 else f"{value / 1000:,.0f}k"
