"""Replay: an honest journal agrees with itself from wherever it is folded; one that was changed does not, and it is said where."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from rich.console import Console

from saga.errors import Misconfigured
from saga.log.base import Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.memory import MemoryBroker, MemoryLog
from saga.log.partition import home
from saga.ops.output import Format, Output
from saga.ops.refold import Until
from saga.ops.replay import Asked, parse_until, replay
from saga.runtime.codec import JOURNAL
from saga.testing.clock import run
from tests.ops.shop import DECLINED, PARTITIONS, SILENCE, Shop, ended, place, play

KEYS = [f"o{n}" for n in range(12)]
Change = Callable[[dict[str, Any]], dict[str, Any] | None]


async def busy(shop: Shop) -> dict[TopicPartition, list[StoredRecord]]:
    """The journal of a day: orders that end well and badly, three owners, one of them with an append that landed too late."""
    for part in (KEYS[:6], KEYS[6:]):
        await place(shop.log, *part)
        for key in part:
            await shop.until(key, ended)
        await shop.orchestrate(snapshot_bytes=2_000)
    await shop.stop()
    for tp, held in journal(shop.broker).items():  # a duplicate of its last commit, late
        shop.broker.append(tp, [Record(None, next(r.value for r in reversed(held) if b'"kind":"commit"' in (r.value or b"")))])
    await shop.orchestrate(snapshot_bytes=2_000)
    await place(shop.log, *(f"{key}-2" for key in KEYS))
    for key in KEYS:
        await shop.until(f"{key}-2", ended)
    await shop.stop()
    return journal(shop.broker)


def journal(broker: MemoryBroker) -> dict[TopicPartition, list[StoredRecord]]:
    partitions = [TopicPartition(JOURNAL, number) for number in range(PARTITIONS)]
    return {tp: broker.slice(tp, broker.bounds(tp).start, broker.bounds(tp).end) for tp in partitions}


@pytest.fixture(scope="module")
def records() -> dict[TopicPartition, list[StoredRecord]]:
    script = {"o1 pay execute": [DECLINED], "o2 pay execute": [SILENCE, SILENCE]}
    return play(script, busy, snapshot_bytes=2_000)


class Told:
    """What a replay of these records says, after each value went through `change`; trimmed below `trim`."""

    def __init__(
        self,
        records: dict[TopicPartition, list[StoredRecord]],
        *,
        change: Change = lambda value: value,
        trim: dict[TopicPartition, int] | None = None,
        asked: Asked | None = None,
        format: Format = Format.JSON,
        terminal: bool = False,
    ) -> None:
        async def main() -> int:
            broker = MemoryBroker()
            broker.create([TopicSpec(JOURNAL, PARTITIONS, 1, {"max.message.bytes": "4194304"})])
            for tp, held in records.items():
                for record in held:
                    value = change(orjson.loads(record.value or b""))
                    raw = record.value if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
                    broker.append(tp, [Record(record.key, raw)])
                broker.trim(tp, (trim or {}).get(tp, 0))
            before = journal(broker)
            log = MemoryLog(broker)
            await log.open()
            code = await replay(
                log, asked or Asked(None, Until()), Output(format, out), Console(file=err, width=300, force_terminal=terminal)
            )
            assert journal(broker) == before, "a replay wrote"
            return code

        out, err = io.StringIO(), io.StringIO()
        self.code = run(main())
        self.out, self.err = out.getvalue(), err.getvalue()

    @property
    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.out)
        return found

    def sum(self, name: str) -> int:
        return sum(row[name] for row in self.rows)


def test_an_honest_journal_agrees_with_itself(records: dict[TopicPartition, list[StoredRecord]]) -> None:
    told = Told(records)
    assert told.code == 0, told.err
    assert [row["problem"] for row in told.rows] == [None] * PARTITIONS
    values = [orjson.loads(record.value or b"") for held in records.values() for record in held]
    kinds = [value["kind"] for value in values]
    assert told.sum("records") == len(values)
    assert told.sum("claims") == kinds.count("claim") > PARTITIONS
    assert told.sum("decisions") == kinds.count("decision")
    assert told.sum("void") == PARTITIONS
    assert told.sum("batches") == kinds.count("commit") - PARTITIONS
    assert told.sum("snapshots") > PARTITIONS, "the journal has hardly any snapshot to compare"
    assert all(row["restored_from"] for row in told.rows), "no second fold was made"
    assert sum(row["instances"].get("completed", 0) for row in told.rows) == 2 * len(KEYS) - 1
    assert sum(row["instances"].get("compensated", 0) for row in told.rows) == 1


def test_people_get_a_table_and_the_sum(records: dict[TopicPartition, list[StoredRecord]]) -> None:
    told = Told(records, format=Format.TABLE)
    lines = told.out.splitlines()
    assert lines[0].split() == [
        "PARTITION",
        "OFFSETS",
        "BATCHES",
        "VOID",
        "CLAIMS",
        "SNAPSHOTS",
        "DECISIONS",
        "INSTANCES",
        "RESULT",
    ]
    assert len(lines) == 1 + PARTITIONS
    assert all("the same as " in line for line in lines[1:])
    assert "byte for byte, no difference" in told.err


def test_a_terminal_sees_how_far_it_is(records: dict[TopicPartition, list[StoredRecord]]) -> None:
    assert "replaying" in Told(records, terminal=True).err
    assert "replaying" not in Told(records).err


def test_what_was_trimmed_is_said_and_the_rest_is_compared(records: dict[TopicPartition, list[StoredRecord]]) -> None:
    trim = {tp: orjson.loads(held[-1].value or b"")["restore_from"] for tp, held in records.items()}
    assert all(trim.values())
    told = Told(records, trim=trim)
    assert told.code == 0, told.err
    assert {row["partition"]: row["begins"] for row in told.rows} == {tp.partition: start for tp, start in trim.items()}
    assert told.rows[0]["instances"] == Told(records).rows[0]["instances"]
    assert "history begins at" in Told(records, trim=trim, format=Format.TABLE).out


def once(kind: str, change: Change) -> Change:
    """The change, for the first value of a kind that it takes (it gives None for one it does not)."""
    done: list[bool] = []

    def first(value: dict[str, Any]) -> dict[str, Any] | None:
        if done or value["kind"] != kind or (changed := change(value)) is None:
            return None
        done.append(True)
        return changed

    return first


def left_out() -> Change:
    """A snapshot that has one instance twice and another not at all: no part of it is wrong, and its count is right."""
    parts: list[dict[str, Any]] = []

    def change(value: dict[str, Any]) -> dict[str, Any] | None:
        if value["kind"] == "snapshot.begin":
            parts.clear()
        if value["kind"] == "snapshot.part":
            parts.append(value)
            return parts[0] if len(parts) == 2 else None
        return None

    return change


def voided() -> Change:
    """The batch with the first decision 2 no longer says where it stands."""
    seen: set[int] = set()

    def change(value: dict[str, Any]) -> dict[str, Any] | None:
        if value["kind"] == "commit" and 2 in seen:
            seen.clear()
            seen.add(-1)
            return {**value, "offset": value["offset"] + 1}
        if -1 not in seen:
            seen.add(value.get("seq", 0))
        return None

    return change


def with_data(value: dict[str, Any], **more: Any) -> dict[str, Any] | None:
    return {**value, "data": [{**value["data"][0], **more}]} if value.get("data") else None


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (
            once("snapshot.part", lambda v: {**v, "instance": {**v["instance"], "seq": 99}}),
            "the snapshot has another state of shop:",
        ),
        (once("decision", lambda v: with_data(v, total=1)), "the snapshot has another state of shop:"),
        (once("decision", lambda v: {**v, "seq": 7} if v["seq"] == 3 else None), "decision 7"),
        (voided(), "than the journal gives"),
        (once("snapshot.end", lambda v: {**v, "count": v["count"] + 1}), "parts, not"),
        (left_out(), "instance missing (shop:"),
    ],
    ids=["part", "data", "seq", "offset", "count", "left-out"],
)
def test_a_changed_journal_is_found_with_its_place(
    records: dict[TopicPartition, list[StoredRecord]], change: Change, where: str
) -> None:
    told = Told(records, change=change)
    assert told.code == 3
    problems = [row["problem"] for row in told.rows if row["problem"]]
    assert problems
    assert all(problem.startswith("saga.journal:") for problem in problems)
    assert any(where in problem for problem in problems), problems
    assert all(f"DIFFERS: {problem}" in told.err for problem in problems)


def test_an_end_that_names_a_snapshot_without_all_is_found(records: dict[TopicPartition, list[StoredRecord]]) -> None:
    """The last record says to restore from a place where no snapshot begins."""
    tp = TopicPartition(JOURNAL, 0)
    begin = orjson.loads(records[tp][-1].value or b"")["restore_from"]

    def change(value: dict[str, Any]) -> dict[str, Any] | None:
        return {**value, "restore_from": begin + 3} if value.get("restore_from") == begin else None

    told = Told(records, change=change, asked=Asked(0, Until()))
    assert told.code == 3
    assert f"a fold from {begin + 3}, where an owner would restore from" in told.err


def test_until_a_decision_shows_the_instance_as_it_was(records: dict[TopicPartition, list[StoredRecord]]) -> None:
    tp = TopicPartition(JOURNAL, home("o2", PARTITIONS))
    decisions = [value for r in records[tp] if (value := orjson.loads(r.value or b""))["kind"] == "decision"]
    second = next(value for value in decisions if value["key"] == "o2" and value["seq"] == 2)
    told = Told(records, asked=Asked(None, parse_until(f"{second['instance']}#2")))
    assert told.code == 0, told.err
    (row,) = told.rows
    assert row["partition"] == tp.partition
    assert row["instance"]["state"] == "running"
    assert row["instance"]["full"]["seq"] == 2
    assert row["decisions"] < len(decisions)


def test_until_a_time_takes_only_batches_that_are_not_later(records: dict[TopicPartition, list[StoredRecord]]) -> None:
    commits = [(r.offset, value) for held in records.values() for r in held if "now" in (value := orjson.loads(r.value or b""))]
    times = sorted(value["now"] for offset, value in commits if value["offset"] == offset)
    middle = times[len(times) // 2]
    told = Told(records, asked=Asked(None, Until(time=middle)))
    assert told.code == 0, told.err
    assert told.sum("batches") == sum(1 for time in times if time <= middle)
    assert Told(records, asked=Asked(None, Until(time=times[0] - 1))).sum("decisions") == 0


def test_until_an_offset_takes_the_batch_that_holds_it(records: dict[TopicPartition, list[StoredRecord]]) -> None:
    held = records[TopicPartition(JOURNAL, 1)]
    commits = [r.offset for r in held if (v := orjson.loads(r.value or b""))["kind"] == "commit" and v["count"] > 1]
    told = Told(records, asked=Asked(1, Until(offset=commits[3] - 1)))
    assert told.code == 0, told.err
    assert [row["ends"] for row in told.rows] == [commits[3] + 1]


def test_what_until_names_must_be_there(records: dict[TopicPartition, list[StoredRecord]]) -> None:
    assert Told(records, asked=Asked(0, Until(offset=10**9))).code == 1
    absent = Told(records, asked=Asked(None, parse_until("shop:nobody:abc#1")))
    assert absent.code == 1
    assert "shop:nobody:abc#1 is not in what the journal holds" in absent.err


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("17", Until(offset=17)),
        ("shop:o%3A1:k2#12", Until(instance="shop:o%3A1:k2", seq=12)),
        ("2026-01-01T00:00:01Z", Until(time=1_767_225_601_000)),
    ],
)
def test_until_is_written_as_a_time_a_decision_or_an_offset(text: str, until: Until) -> None:
    assert parse_until(text) == until


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-01T00:00:01", "o1#1", "shop:o1:k2#0", "-1"])
def test_what_until_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match=r"until|instance"):
        parse_until(text)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (Asked(None, Until(offset=3)), "--partition"),
        (Asked(PARTITIONS, Until()), f"there is no {PARTITIONS}"),
        (Asked((home("o1", PARTITIONS) + 1) % PARTITIONS, Until(instance="shop:o1:k", seq=1)), "is at home in"),
    ],
)
def test_what_cannot_be_meant_is_refused(records: dict[TopicPartition, list[StoredRecord]], asked: Asked, why: str) -> None:
    with pytest.raises(Misconfigured, match=why):
        Told(records, asked=asked)
