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
from typing import Any, NamedTuple

from rich.table import Table

from infra.broker.jars import kafka_version

BEGIN = "<!-- bench: written by `python -m bench --write` -->"
BEGIN_BRIEF = "<!-- bench in brief: written by `python -m bench --write` -->"
END = "<!-- /bench -->"
TOO_BUSY = 0.05  # share of the machine that others had, above which the throughput is not what this machine can do
KEPT_UP_SECONDS = 3.0  # a system that keeps up with a rate has ended all sagas so soon after the last start

Row = tuple[str, ...]


class Section(NamedTuple):
    """Some numbers with their title: `rows` under `columns`, whose first is the title."""

    columns: Row
    rows: Sequence[Row]
    others: float = 0.0  # the share of the machine that other processes had meanwhile


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


def sections(found: dict[str, Any]) -> Iterable[Section]:
    """The numbers that were measured."""
    makers: dict[str, Callable[[Any], Section]] = {
        "saturated": _saturated,
        "pair": lambda found: _saturated(found, " and two orchestrators"),
        "latency": _latency,
        "floor": _floor,
        "takeover": _takeover,
        "memory": _memory,
    }
    for part, make in makers.items():
        if part in found:
            yield make(found[part])


def _saturated(found: dict[str, Any], more: str = "") -> Section:
    commit, append = found["commit_inputs"], found["append_ms"]
    rows = [
        ("completed sagas", f"{found['sagas_per_second']:,.0f} a second"),
        ("processor time of a saga, all processes", f"{found['cpu_total']:.2f} ms"),
        *((f"… {role}", f"{ms:.2f} ms") for role, ms in found["cpu"].items()),
        ("inputs decided by one commit", f"{commit['mean']:.0f} (p95 {commit['p95']:.0f})"),
        ("one commit", f"{append['mean']:.1f} ms (p95 {append['p95']:.1f} ms)"),
    ]
    return Section((f"Saturated: {found['in_flight']:,} in flight{more}", ""), rows, found["others"])


def _latency(found: list[dict[str, Any]]) -> Section:
    def row(each: dict[str, Any]) -> Row:
        late = each["drained_seconds"] > KEPT_UP_SECONDS
        name = f"{each['rate']} sagas a second" + (", more than it can do" if late else "")
        return (name, *(f"{each['ms'][share]:,.0f} ms" for share in ("p50", "p95", "p99")))

    return Section(("From start to end of a saga", "p50", "p95", "p99"), [row(each) for each in found], _worst(found))


def _floor(found: dict[str, Any]) -> Section:
    rounds = found["rounds"]

    def row(name: str, of: Callable[[str, dict[str, Any]], float], text: str) -> Row:
        return name, *(format(median(of(side, each[side]) for each in rounds), text) for side in ("orchestrator", "floor"))

    rows = [
        (
            *row("completed sagas a second", lambda _, measured: measured["sagas_per_second"], ",.0f"),
            f"{found['throughput_ratio']:.0%}",
        ),
        (
            *row("its own processor time of a saga, ms", lambda side, measured: measured["cpu"][side], ".2f"),
            _times(found["cpu_ratio"]),
        ),
        (
            *row("… of all processes, ms", lambda _, measured: sum(measured["cpu"].values()), ".2f"),
            _times(found["cpu_total_ratio"]),
        ),
    ]
    columns = ("Against the floor (no databases)", "orchestrator", "floor", "ratio")
    return Section(columns, rows, _worst([side for each in rounds for side in each.values()]))


def _takeover(found: dict[str, Any]) -> Section:
    names = {
        "given": "its partitions are given to the other",
        "first_claim": "the first is claimed",
        "first_decision": "the first decision on one",
        "last_decision": "decisions on all",
    }
    rows = [(text, *(f"{each[name] / 1000:.2f} s" for each in found["rounds"])) for name, text in names.items()]
    counted = [f"round {number}" for number, _ in enumerate(found["rounds"], 1)]
    return Section((f"After kill -9 (session time-out {found['session_seconds']:.0f} s)", *counted), rows)


def _memory(found: dict[str, Any]) -> Section:
    restore, size = found["restore"], found["bytes_per_instance"]
    rows = [
        ("memory of one", f"{size['started'] / 1024:.1f} KiB"),
        ("… after a restore", f"{size['restored'] / 1024:.1f} KiB"),
        ("starts decided", f"{found['starts_per_second']:,.0f} a second"),
        ("restore of all", f"{restore['seconds']:.1f} s"),
        ("… records folded", f"{restore['records_per_second']:,.0f} a second"),
    ]
    return Section((f"With {found['instances']:,} live instances", ""), rows)


def _times(ratio: float) -> str:
    return f"{ratio:.1f} ×"


def _worst(measured: Sequence[dict[str, Any]]) -> float:
    return max(float(each["others"]) for each in measured)


# --- tables ---------------------------------------------------------------------------------------------------------------------------


def tables(found: dict[str, Any]) -> Iterable[Table]:
    for section in sections(found):
        table = Table(min_width=76, caption=_remark(section), caption_justify="left", caption_style="yellow")
        for number, column in enumerate(section.columns):
            table.add_column(column, justify="right" if number else "left", ratio=None if number else 1)
        for row in section.rows:
            table.add_row(*row)
        yield table


def markdown(found: dict[str, Any]) -> str:
    """All numbers."""
    return "\n".join([_where(found), "", *(line for section in sections(found) for line in _table(section))])


def brief(found: dict[str, Any]) -> str:
    """The numbers that somebody who has not decided yet asks for. `found` is of a whole run."""
    saturated, floor, memory = found["saturated"], found["floor"], found["memory"]
    rows: list[Row] = [
        ("completed sagas of five steps, saturated", f"{saturated['sagas_per_second']:,.0f} a second"),
        ("… with two orchestrators", f"{found['pair']['sagas_per_second']:,.0f} a second"),
    ]
    rows += [
        (
            f"from start to end, at {each['rate']} a second",
            " · ".join(f"{p} {each['ms'][p]:,.0f} ms" for p in ("p50", "p95", "p99")),
        )
        for each in found["latency"]
    ]
    taken = median(each["last_decision"] for each in found["takeover"]["rounds"]) / 1000
    rows += [
        ("throughput against the floor: the same records, no engine, no databases", f"{floor['throughput_ratio']:.0%}"),
        (f"after kill -9, all decided again (session time-out {found['takeover']['session_seconds']:.0f} s)", f"{taken:.1f} s"),
        (f"memory of a live instance, of {memory['instances']:,}", f"{memory['bytes_per_instance']['started'] / 1024:.1f} KiB"),
    ]
    others = max(saturated["others"], _worst(found["latency"]))
    return "\n".join([_where(found), "", *_table(Section(("", ""), rows, others))])


def _where(found: dict[str, Any]) -> str:
    on = found["machine"]
    return (
        f"{on['cores']} cores ({on['processor']}) for everything: broker, orchestrator, services and load. Python {on['python']}, "
        f"Kafka {on['kafka']}, aiokafka {on['aiokafka']}; commit {on['commit']}, {on['date']}."
    )


def _table(section: Section) -> list[str]:
    marks = "|".join(["---", *["---:"] * (len(section.columns) - 1)])
    remark = _remark(section)
    return [_line(section.columns), f"|{marks}|", *map(_line, section.rows), "", *([remark, ""] if remark else [])]


def _line(cells: Row) -> str:
    return f"| {' | '.join(cells)} |"


def _remark(section: Section) -> str:
    if section.others < TOO_BUSY:
        return ""
    return f"Other processes took up to {section.others:.0%} of the machine meanwhile: this is not what it can do."


def write(found: dict[str, Any], page: Path) -> bool:
    """Put the numbers between the marks of a page; False if it has none."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    for mark, made in ((BEGIN, markdown), (BEGIN_BRIEF, brief)):
        before, begin, rest = text.partition(mark)
        _, end, after = rest.partition(END)
        if begin and end:
            page.write_text(f"{before}{begin}\n{made(found)}{end}{after}", encoding="utf-8")
            return True
    return False
