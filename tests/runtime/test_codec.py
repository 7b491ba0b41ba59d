"""Decisions as bytes: the same value gives the same bytes, now, after a restore, on any log, and for later versions to read."""

from __future__ import annotations

import asyncio
import base64
import os
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from saga.cloudevents import header_fields
from saga.engine.decision import DeadLetter, Decision, Forward, Input, Kind
from saga.log.base import Record, StoredRecord
from saga.runtime.codec import FORMAT, JOURNAL, checksum, decision_from_json, decision_record, decode, outgoing, raw
from saga.testing.clock import run
from tests.conftest import SessionBroker
from tests.runtime.kit import HERE, Pen, fold, open_log, placed, records, reply, specs
from tests.simulation.test_families import TRIPS
from tests.simulation.world import World

GOLDEN = Path(__file__).parent / "golden"


async def script(log: Any) -> Pen:
    """A scripted owner: starts, replies, repeats, a conflict, what is unreadable, a snapshot, another owner, and the end of an order."""
    ann = await Pen(log, "ann").open()
    await ann.start("a", "b:ü")
    await ann.commit(reply(ann.id("a"), "pay"), placed("a"), published=False)
    await ann.commit(placed("a", id="other", total=8), replace(placed("x", 7), value=b"no json"))
    await ann.snapshot()
    bob = await Pen(log, "bob").open()
    await bob.commit(reply(bob.id("a"), "greet"), reply(bob.id("a"), "reserve"))
    for step in ("ship", "confirm"):
        await bob.commit(reply(bob.id("a"), step))
    await bob.commit(seconds=0.5, published=False)
    return bob


def plain(journal: list[StoredRecord]) -> list[tuple[Any, ...]]:
    return [(record.offset, record.key, record.value, record.headers) for record in journal]


async def scripted() -> tuple[list[StoredRecord], Pen]:
    log = await open_log()
    pen = await script(log)
    return await records(log), pen


def test_the_same_script_writes_the_same_bytes() -> None:
    first, _ = run(scripted())
    again, _ = run(scripted(), seed=3)
    assert plain(first) == plain(again)


@pytest.mark.kafka
def test_memory_log_and_kafka_log_hold_byte_identical_journals(broker: SessionBroker) -> None:
    from saga.log.kafka import KafkaLog

    async def on_kafka() -> list[StoredRecord]:
        log = KafkaLog(broker.bootstrap, client_id=f"same-{os.getpid()}", prefix=f"same{uuid.uuid4().hex[:8]}.")
        await log.open()
        try:
            await log.create([spec for spec in specs(1) if spec.name == JOURNAL])
            await script(log)
            return await records(log)
        finally:
            await log.close()

    in_memory, _ = run(scripted())
    there = asyncio.run(on_kafka())
    assert plain(there) == plain(in_memory)


def test_what_is_published_again_after_a_restore_is_the_same_bytes() -> None:
    async def play() -> None:
        log = await open_log()
        pen = await Pen(log).open()
        await pen.start("a", published=False)
        pen.fold.grown = 10**10
        batch = await pen.commit(
            reply(pen.id("a"), "pay"), placed("a", id="other", total=9), replace(placed("y", 3), value=b"\xff"), published=False
        )
        assert {type(output).__name__ for d in batch.decisions for output in d.outputs} == {"Send", "DeadLetter", "Announce"}
        live = [record for sent in pen.fold.unpublished for record in outgoing(sent.decision, 0, sent.now)]
        again = [record for sent in fold(await records(log)).unpublished for record in outgoing(sent.decision, 0, sent.now)]
        assert len(live) >= 6
        assert again == live, "a copy differs from the first: a participant that compares would take it for another"

    run(play())


def test_a_decision_comes_back_from_the_journal_as_it_was() -> None:
    _, pen = run(scripted())
    journal, _ = run(scripted())
    decided = [record for record in journal if decode(record)["kind"] == "decision"]
    assert len(decided) > 8
    for record in decided:
        again = decision_record(decision_from_json(decode(record)))
        assert (again.key, again.value) == (record.key, record.value)
    assert pen.fold.complete


@pytest.mark.parametrize("format", [1, 2])
def test_a_kept_journal_of_each_format_folds_to_the_kept_state(format: int) -> None:
    """Written by `python -m tests.runtime.test_codec`, once for each format; a newer reader reads every older one."""
    lines = (GOLDEN / f"format-{format}.jsonl").read_bytes().splitlines()
    journal = [
        StoredRecord(JOURNAL, 0, offset, 0, _bytes(orjson.loads(line)["key"]), orjson.loads(line)["value"].encode())
        for offset, line in enumerate(lines)
    ]
    kept = (GOLDEN / f"format-{format}.state.json").read_bytes().rstrip()
    assert fold(journal).canonical() == kept
    assert decode(journal[0])["format"] == format
    named = max(decode(record).get("restore_from", 0) for record in journal)
    assert named > 0
    assert fold(journal, named).canonical() == kept


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def write_golden() -> None:
    """The journal of a small world of families: claims, void batches, snapshots, and every kind of decision of this format."""

    async def scene() -> World:
        world = World(3, cast=TRIPS, orders=6, fault_seconds=20)
        await world.play()
        return world

    journal = run(scene(), seed=3).broker.everything()[HERE]
    lines = [{"key": r.key and base64.b64encode(r.key).decode(), "value": (r.value or b"").decode()} for r in journal]
    (GOLDEN / f"format-{FORMAT}.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)) + b"\n")
    (GOLDEN / f"format-{FORMAT}.state.json").write_bytes(fold(journal).canonical() + b"\n")


def test_a_dead_letter_of_a_huge_record_is_small_whatever_is_huge() -> None:
    size = 3_000_000
    headers = tuple((f"h{n}", b"x" * 50_000) for n in range(60))
    for huge in (
        Record(b"k" * size, b"v"),
        Record(b"k", b"v" * size),
        Record(b"k", b"v", headers),
        Record(None, None, (("n" * size, b""),)),
    ):
        stored = StoredRecord("t", 0, 0, 0, huge.key, huge.value, huge.headers)
        assert len(orjson.dumps(raw(stored, 65_536))) < 300_000


def test_a_redriven_dead_letter_that_fails_again_has_no_header_twice() -> None:
    headers = (("ce_type", b"x.y.v1"), ("ce_sagaorigin", b"t:0:1"), ("ce_sagareason", b"json"), ("ce_sagadetail", b"old"))
    kept = raw(StoredRecord("saga.requests", 0, 9, 0, b"k", b"v", headers))
    for output in (DeadLetter("schema", "new", kept), Forward(1, kept)):
        decision = Decision("", 0, "", Input(Kind.OTHER, origin="t:0:1"), "deadletter", outputs=(output,))
        fields = header_fields(outgoing(decision, 0, 0)[0].record.headers)  # raises for a header that stands twice
        assert fields["sagaorigin"] == "t:0:1"
    assert fields.get("sagareason") is None


def test_a_checksum_tells_records_apart_by_key_value_and_headers() -> None:
    base = placed("a")
    others = [replace(base, key=b"b"), replace(base, value=b"{}"), replace(base, headers=()), replace(base, key=None)]
    assert len({checksum(record) for record in [base, *others]}) == 5
    assert checksum(base) == checksum(replace(base, offset=7, timestamp=9))
    assert HERE.topic == JOURNAL


def test_the_dead_letter_of_a_kept_input_holds_that_input() -> None:
    kept = Input(Kind.REPLY, "mail.greeted.v1", "r1", "mail", "mail.events:2:7", data={"odd": 1}, attributes={"sagacommand": "c"})
    operator = Input(Kind.OPERATOR, "saga.retry.v1", "op", "cli", "saga.requests:0:9", data={"who": "ann"})
    letter = DeadLetter("schema", "invalid", given=kept.to_json())
    decision = decision_from_json(
        orjson.loads(decision_record(Decision("i", 4, "k", operator, "retried", outputs=(letter,))).value or b"")
    )
    (sent,) = outgoing(decision, 0, 0)
    fields = header_fields(sent.record.headers)
    assert (fields["id"], fields["source"], fields["type"], fields["sagacommand"]) == ("r1", "mail", "mail.greeted.v1", "c")
    assert (fields["sagaorigin"], fields["sagareason"]) == ("mail.events:2:7", "schema")
    assert (sent.record.key, sent.record.value) == (b"k", b'{"odd":1}')


if __name__ == "__main__":
    write_golden()
