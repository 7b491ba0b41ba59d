"""The bench still runs: every part of it in a tiny form, with real processes, on the file log; and one part on Kafka.

How fast anything is, is no matter here.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import PAGES, RESULTS
from bench.parts import PARTS, Bench, Sizes
from bench.plot import draw
from bench.readings import Histogram, percentile
from bench.report import BEGIN, END, machine, sections, write
from saga.config import Config
from tests.conftest import SessionBroker

TINY = Sizes(rates={20: 1.0}, in_flight=32, saturated_seconds=0.5, floor_seconds=0.5, floor_rounds=1, takeovers=1, instances=300)


def measured(part: str, config: Config, folder: Path) -> Any:
    found = asyncio.run(PARTS[part](Bench(config, {}, folder, TINY)))
    assert json.loads(json.dumps(found)) == found, "what is kept as JSON would not come back as it was"
    return found


def on_files(folder: Path) -> Config:
    return Config(log=f"file:{folder / 'log'}", session_seconds=2.0)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_each_part_measures_something_and_has_a_table(part: str, tmp_path: Path) -> None:
    found = measured(part, on_files(tmp_path), tmp_path)
    (section,) = sections({part: found})
    assert section.rows, f"{part} is measured, but not shown"
    assert all(len(row) == len(section.columns) for row in section.rows), "a row does not fit its table"
    if part == "latency":
        assert found[0]["sagas"] == 20, "a start went without its end"
    elif part in ("saturated", "pair"):
        assert set(found["cpu"]) == {"orchestrator", "services-1", "load", *(["orchestrator-2"] if part == "pair" else [])}
        assert found["commit_inputs"]["mean"] >= 1, "no commit was seen in the orchestrator's metrics"
    elif part == "floor":
        assert found["throughput_ratio"] > 0
    elif part == "takeover":
        (once,) = found["rounds"]
        assert 0 < once["first_claim"] <= once["first_decision"] <= once["last_decision"], "a take-over in no order of time"
    else:
        assert found["restore"]["records"] >= TINY.instances


@pytest.mark.kafka
@pytest.mark.slow
def test_it_runs_on_kafka(broker: SessionBroker, tmp_path: Path) -> None:
    found = measured("saturated", Config(bootstrap=broker.bootstrap, dev=True), tmp_path)
    assert found["sagas_per_second"] > 0


# --- what it computes -----------------------------------------------------------------------------------------------------------------


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2


def test_a_histogram_shows_only_what_was_added() -> None:
    before = Histogram.read(_exposition(first=10, second=10, sum=5.0), "took_seconds")
    after = Histogram.read(_exposition(first=10, second=30, sum=35.0), "took_seconds")
    added = after.since(before)
    assert (added.count, added.mean) == (20, 1.5)
    assert added.quantile(0.5) == 1.5, "half of twenty lie in the middle of the bucket from 1 to 2"


def _exposition(first: int, second: int, sum: float) -> str:
    return (
        "# TYPE took_seconds histogram\n"
        f'took_seconds_bucket{{le="1.0"}} {first}\n'
        f'took_seconds_bucket{{le="2.0"}} {second}\n'
        f'took_seconds_bucket{{le="+Inf"}} {second}\n'
        f"took_seconds_count {second}\ntook_seconds_sum {sum}\n"
    )


# --- what it shows --------------------------------------------------------------------------------------------------------------------


def test_a_page_gets_the_numbers_between_its_marks_and_nothing_else_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    found = {"machine": machine(), "latency": [_latency(5)]}
    assert write(found, page)
    assert page.read_text().startswith(f"before\n{BEGIN}\n")
    assert page.read_text().endswith(f"{END}\nafter\n")
    assert "5 sagas a second" in page.read_text()
    assert "old" not in page.read_text()
    first = page.read_text()
    assert write(found, page)
    assert page.read_text() == first, "written twice, it differs"


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing to see")
    assert not write({"machine": machine()}, page)
    assert page.read_text() == "nothing to see"


def test_the_picture_can_be_drawn(tmp_path: Path) -> None:
    side = {"sagas_per_second": 900.0, "cpu": {"orchestrator": 1.0, "floor": 0.4, "responder": 0.4, "broker": 0.3, "load": 0.1}}
    saturated = {
        "sagas_per_second": 700.0,
        "cpu_total": 2.0,
        "cpu": {**dict.fromkeys(("services-1", "services-2"), 0.4), "load": 0.1},
    }
    found = {
        "machine": machine(),
        "latency": [_latency(rate) for rate in (5, 20, 100, 300)],
        "saturated": saturated,
        "floor": {"throughput_ratio": 0.6, "rounds": [{"orchestrator": side, "floor": side}]},
    }
    draw(found, tmp_path / "images" / "bench.png")
    assert (tmp_path / "images" / "bench.png").read_bytes().startswith(b"\x89PNG")


def _latency(rate: int) -> dict[str, Any]:
    return {
        "rate": rate,
        "sagas": 10,
        "ms": {"p50": 10.0, "p95": 20.0, "p99": 2000.0, "max": 3000.0},
        "drained_seconds": 0.1,
        "others": 0.0,
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_numbers_in_the_pages_are_the_kept_ones(page: Path, tmp_path: Path) -> None:
    copy = tmp_path / page.name
    copy.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    assert write(json.loads(RESULTS.read_text(encoding="utf-8")), copy), f"{page.name} has no place for them"
    assert copy.read_text() == page.read_text(), f"{page.name}: run `python -m bench --write`"
