"""Payment is played by a service in Java that was written from docs/PROTOCOL.md alone; all books are audited as ever."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from infra import java
from infra.broker import jars
from infra.process import halt, spawn
from saga.cloudevents import CloudEvent, iso_time
from saga.conformance import Asked, Result, Samples, check, subject
from saga.engine.state import instance_id
from saga.log.base import Outgoing, Record, StoredRecord, TopicPartition
from saga.participant.store import wall_clock
from services import app
from tests.conftest import SessionBroker
from tests.kafka.shop import Shop

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(900)]

PROJECT = Path(__file__).parents[2] / "services" / "checkout" / "java"
STOP_SECONDS = 15.0


class JavaPayment:
    """The process, in place of the shop's own payment service, which is gone for good, with its database."""

    def __init__(self, shop: Shop) -> None:
        shop.crew.kill("payment")
        self.book = shop.folder / "data" / "payment.db"
        for file in self.book.parent.glob("payment.db*"):
            file.unlink()
        self._shop = shop
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self._shop.folder / "payment-java.log"

    def start(self) -> None:
        self._process = spawn(java.command(PROJECT, "payment.Main"), log=self.log, env=self._shop.environment)

    def end(self, how: signal.Signals) -> int:
        """Told to stop, or killed; its exit code."""
        assert self._process is not None
        halt(self._process, STOP_SECONDS, how)
        return self._process.returncode

    def __enter__(self) -> JavaPayment:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGTERM)


def shop(tmp_path: Path, broker: SessionBroker) -> Shop:
    try:
        java.built(PROJECT)
    except java.JavaUnavailable as reason:
        pytest.skip(f"no service in Java: {reason}")
    return Shop(tmp_path / "shop", broker.bootstrap, f"t{uuid4().hex[:8]}-")


def test_its_client_is_of_the_brokers_version() -> None:
    pinned = re.search(r"<kafka\.version>([^<]+)<", (PROJECT / "pom.xml").read_text())
    assert pinned
    assert pinned[1] == jars.kafka_version()


def test_forty_orders_with_payment_in_java_killed_in_between(tmp_path: Path, broker: SessionBroker) -> None:
    async def scene() -> None:
        async with shop(tmp_path, broker) as s:
            s.start_orchestrator()
            await s.all_owned()
            with JavaPayment(s) as payment:
                await s.place(12)
                await s.place(2, card="tok_declined")
                await s.place(2, card="tok_lost_answer")  # charged, and the connection is cut, the first time
                await s.place(2, card="tok_flaky")
                await s.settle()
                silent = await s.place(2, card="tok_silent")  # charged, and the connection is cut every time
                slow = await s.place(4, card="tok_slow")  # charged, and answered, a second after it was asked

                async def asked() -> bool:
                    keys = [key for (key,) in s.gateway("SELECT key FROM requests")]
                    return all(any(f":{name}:" in key for key in keys) for name in slow)

                await s.until(asked, "the gateway was not asked")
                payment.end(signal.SIGKILL)  # between the charge and writing it down
                await s.place(6)
                payment.start()
                await s.place(10)
                await s.settle()
                s.audit()
                assert len(s.placed) == 40
                returned = "SELECT c.key FROM refunds r JOIN charges c ON c.key = r.charge_key"
                refunded = {key.split(":")[1] for (key,) in s.gateway(returned)}
                assert refunded >= set(silent), "what was taken in silence was not given back"
                assert not refunded & set(slow), "a charge whose answer was lost with the process was not found again"
                assert payment.end(signal.SIGTERM) == 128 + signal.SIGTERM
                assert "\tat " not in payment.log.read_text(), "it ended with an exception"

    asyncio.run(scene())


KEY, PARTITION = "k", 3


@dataclass(frozen=True)
class Sent:
    """A command as the coordinator sends it, of an instance that began at `began` (ms) and was decided then."""

    step: str
    action: str = "execute"
    attempt: int = 1
    began: int = 0
    value: bytes = b'{"order_id": "k", "amount": {"minor": 500, "currency": "EUR"}, "card": "tok_visa", "new": 1}'
    type: str = "payment.take_payment.v1"

    @property
    def instance(self) -> str:
        return instance_id("other", KEY, self.began or wall_clock())

    def record(self, instance: str) -> Record:
        execute = f"{instance}:{self.step}:execute"
        attributes = {
            "sagainstance": instance,
            "sagacommand": f"{instance}:{self.step}:{self.action}",
            "sagaaction": self.action,
            "sagaattempt": str(self.attempt),
        }
        if self.action != "execute":
            attributes["sagasubject"] = execute
        time = iso_time(self.began or wall_clock())
        id = f"{attributes['sagacommand']}:{self.attempt}"
        event = CloudEvent(self.type, id, "saga", {}, time, KEY, attributes).record(KEY.encode())
        return Record(event.key, self.value, event.headers)


def take(step: str, **more: Any) -> Sent:
    return Sent(step, **more)


def give_back(step: str, **more: Any) -> Sent:
    return Sent(step, "compensate", value=b'{"order_id": "k"}', type="payment.return_payment.v1", **more)


def test_it_keeps_the_inbox_and_the_tombstone_rule(tmp_path: Path, broker: SessionBroker) -> None:
    month = 31 * 24 * 3600 * 1000
    now = wall_clock()
    script: list[tuple[Sent, str]] = [
        (take("once", began=now), "done"),
        (take("once", began=now, attempt=2), "done"),  # again
        (give_back("once", began=now), "done"),
        (give_back("once", began=now, attempt=2), "done"),
        (take("once", began=now, attempt=3), "done"),  # it was done, and undone
        (give_back("late", began=now), "nothing"),  # never seen: a tombstone
        (take("late", began=now), "nothing"),
        (take("no", began=now, value=take("").value.replace(b"visa", b"declined")), "refused"),
        (give_back("no", began=now), "nothing"),
        (take("old", began=now - month), "expired"),
        (give_back("forgotten", began=now - month), "expired"),
        (take("bad", began=now, value=b"no JSON"), "failed"),
        (take("odd", began=now, type="payment.unheard-of.v1"), "failed"),
    ]

    async def scene() -> None:
        async with shop(tmp_path, broker) as s:
            with JavaPayment(s):
                sent = [Outgoing(TopicPartition("payment.commands", PARTITION), one.record(one.instance)) for one, _ in script]
                nobody = Record(KEY.encode(), b"{}", (("ce_type", b"payment.take_payment.v1"),))
                await s.log.publish([Outgoing(TopicPartition("payment.commands", PARTITION), nobody), *sent])

                async def answered() -> bool:
                    return len(await records(s, "payment.events")) >= len(script)

                await s.until(answered, "not every command is answered")
            answers = [dict(record.headers) for record in await records(s, "payment.events")]
            assert [(a["ce_sagacommand"], a["ce_sagaoutcome"]) for a in answers] == [
                (dict(out.record.headers)["ce_sagacommand"], outcome.encode())
                for out, (_, outcome) in zip(sent, script, strict=True)
            ]
            stored = await records(s, "payment.events")
            assert {record.partition for record in stored} == {PARTITION}, "an answer goes to its command's partition number"
            assert same(stored[0]) == same(stored[1]) == same(stored[4]), "the stored answer is sent again as it is"
            assert same(stored[2]) == same(stored[3])
            assert s.gateway("SELECT status, amount FROM charges ORDER BY at") == [("captured", 500), ("declined", 500)]
            assert s.gateway("SELECT count(*) FROM refunds") == [(1,)]
            reasons = [dict(record.headers)["ce_sagareason"] for record in await records(s, "saga.deadletter")]
            assert sorted(reasons) == [b"json", b"no-address", b"unknown-type"]

    asyncio.run(scene())


SAMPLES = {
    "payment.take_payment.v1": [
        {"order_id": "{key}", "amount": {"minor": 500, "currency": "EUR"}, "card": card} for card in ("tok_visa", "tok_declined")
    ]
}


def test_saga_participant_check_finds_nothing(tmp_path: Path, broker: SessionBroker) -> None:
    async def scene() -> None:
        async with shop(tmp_path, broker) as s:

            async def readable() -> bool:
                return not [*await records(s, "payment.events"), *await records(s, "saga.deadletter")]

            await s.until(readable, "the topics that were just made cannot be read")
            with JavaPayment(s):
                of = subject(app.book.sagas, "payment", Samples(SAMPLES))
                checked = await check(s.log, of, Asked(patience=60.0, remembers=30 * 24 * 3600 * 1000))
            found = [f"{f.check}: {f.says}: {f.remark}{f.came}" for f in checked.findings if f.result is not Result.OK]
            assert [line.split(":")[0] for line in found] == ["once"], "\n".join(found)
            assert checked.left == 0

    asyncio.run(scene())


def same(record: StoredRecord) -> tuple[object, ...]:
    return record.key, record.value, record.headers


async def records(s: Shop, topic: str) -> list[StoredRecord]:
    """All that stands on a topic."""
    found: list[StoredRecord] = []
    partitions = [TopicPartition(topic, number) for number in range(app.partitions)]
    for tp, held in (await s.log.bounds(partitions)).items():
        async for lump in s.log.read(tp, held.start, held.end):
            found += lump
    return found
