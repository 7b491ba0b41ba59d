"""The numbers for people: tables for a terminal, and the block of Markdown that the pages show."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from infra.broker.jars import kafka_version

BEGIN = "<!-- bench: written by `python -m bench --write` -->"
END = "<!-- /bench -->"
TOO_BUSY = 0.05  # share of the machine that others had, above which the throughput is not what this machine can do
KEPT_UP_SECONDS = 3.0  # a system that keeps up with a rate has ended all sagas so soon after the last start

Row = tuple[str, str]


def machine() -> dict[str, str | int]:
    """What was measured on."""
    root = Path(__file__).parents[1]
    asked = ["git", "-c", "safe.directory=*", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit,
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        "kafka": kafka_version(),
        "aiokafka": version("aiokafka"),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


# --- rows -----------------------------------------------------------------------------------------------------------------------------


def sections(found: dict[str, Any]) -> Iterable[tuple[str, Sequence[Row]]]:
    """The numbers that were measured, as titles and rows of two columns."""
    makers: dict[str, Callable[[Any], tuple[str, Sequence[Row]]]] = {
        "saturated": _saturated,
        "latency": _latency,
        "floor": _floor,
        "takeover": _takeover,
        "memory": _memory,
    }
    for part, make in makers.items():
        if part in found:
            yield make(found[part])


def _saturated(found: dict[str, Any]) -> tuple[str, Sequence[Row]]:
    commit, append = found["commit_inputs"], found["append_ms"]
    rows = [("completed sagas", f"{found['sagas_per_second']:,.0f} a second")]
    rows += [(f"processor time of a saga: {role}", f"{ms:.2f} ms") for role, ms in found["cpu"].items()]
    rows += [
        ("processor time of a saga: all together", f"{found['cpu_total']:.2f} ms"),
        ("inputs decided by one commit", f"{commit['mean']:.0f} (p95 {commit['p95']:.0f})"),
        ("one commit", f"{append['mean']:.1f} ms (p95 {append['p95']:.1f} ms)"),
    ]
    return "Saturated", [*rows, *_disturbed([found["others"]])]


def _latency(found: list[dict[str, Any]]) -> tuple[str, Sequence[Row]]:
    def row(each: dict[str, Any]) -> Row:
        ms, kept_up = each["ms"], each["drained_seconds"] < KEPT_UP_SECONDS
        text = f"p50 {ms['p50']:,.0f} ms, p95 {ms['p95']:,.0f} ms, p99 {ms['p99']:,.0f} ms"
        return f"{each['rate']} sagas a second", text if kept_up else f"more than it can do ({text})"

    return "From start to end", [row(each) for each in found]


def _floor(found: dict[str, Any]) -> tuple[str, Sequence[Row]]:
    def middle(side: str, of: str) -> float:
        return median([float(each[side]["cpu"][side] if of == "cpu" else each[side][of]) for each in found["rounds"]])

    rows = [
        (side, f"{middle(side, 'sagas_per_second'):,.0f} a second, {middle(side, 'cpu'):.2f} ms of its own processor time a saga")
        for side in ("orchestrator", "floor")
    ]
    rows.append(("throughput, of the floor's", f"{found['throughput_ratio']:.0%}"))
    rows.append(("processor time of all processes", f"{found['cpu_total_ratio']:.1f} times the floor's"))
    return "Against the floor", [*rows, *_disturbed([side["others"] for each in found["rounds"] for side in each.values()])]


def _takeover(found: dict[str, Any]) -> tuple[str, Sequence[Row]]:
    def seconds(name: str) -> str:
        return " and ".join(f"{each[name] / 1000:.2f}" for each in found["rounds"]) + " s"

    title = f"After kill -9 (session time-out {found['session_seconds']:.0f} s)"
    names = {
        "given": "its partitions are given to the other",
        "first_claim": "the first is claimed",
        "first_decision": "the first decision on one",
        "last_decision": "decisions on all",
    }
    return title, [(text, seconds(name)) for name, text in names.items()]


def _memory(found: dict[str, Any]) -> tuple[str, Sequence[Row]]:
    restore, size = found["restore"], found["bytes_per_instance"]
    return f"With {found['instances']:,} live instances", [
        ("memory of one", f"{size['started'] / 1024:.1f} KiB; after a restore {size['restored'] / 1024:.1f} KiB"),
        ("starts decided", f"{found['starts_per_second']:,.0f} a second"),
        ("restore of all", f"{restore['seconds']:.1f} s, {restore['records_per_second']:,.0f} records a second"),
    ]


def _disturbed(others: Sequence[float]) -> Sequence[Row]:
    worst = max(others)
    return [] if worst < TOO_BUSY else [("the machine was not the bench's alone", f"others took up to {worst:.0%} of it")]


# --- tables ---------------------------------------------------------------------------------------------------------------------------


def tables(found: dict[str, Any]) -> Iterable[Table]:
    for title, rows in sections(found):
        table = Table(title=title, title_justify="left", show_header=False, min_width=72)
        table.add_column(ratio=1)
        table.add_column(justify="right")
        for row in rows:
            table.add_row(*row)
        yield table


def markdown(found: dict[str, Any]) -> str:
    on = found["machine"]
    lines = [
        f"{on['cores']} cores ({on['processor']}) for everything: broker, orchestrator, services and load. Python {on['python']}, "
        f"Kafka {on['kafka']}, aiokafka {on['aiokafka']}; commit {on['commit']}, {on['date']}.",
        "",
    ]
    for title, rows in sections(found):
        lines += [f"| {title} | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows), ""]
    return "\n".join(lines)


def write(found: dict[str, Any], page: Path) -> bool:
    """Put the numbers between the marks of a page; False if it has none."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        page.write_text(f"{before}{begin}\n{markdown(found)}{end}{after}", encoding="utf-8")
    return bool(begin and end)
