"""One trace from the HTTP request to the mail: through every event, command, reply, compensation and outcome, and in every log.

The services and the orchestrator are processes, on a log in a folder; what is looked at are their records and their logs.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from saga import Store
from saga.cloudevents import header_fields, parse
from saga.engine.trace import read, trace_id
from saga.log.base import StoredRecord, TopicPartition
from saga.runtime.codec import EVENTS, JOURNAL
from saga.topics import specs
from services import app
from services.checkout.mail import TABLES, Mailer, mails
from tests.kafka.shop import Shop
from tests.services.shop import ADA, BERLIN

PARENT = "00f067aa0ba902b7"
COMPLETES, COMPENSATES = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"
GIVEN = {
    "completes": f"00-{COMPLETES}-{PARENT}-01",
    "compensates": f"00-{COMPENSATES}-{PARENT}-00",
    "malformed": f"00-{COMPLETES.upper()}-{PARENT}-01",
    "without": None,
}
OUT_OF_STOCK = "TEA-GYOKURO"
pytestmark = pytest.mark.slow


@dataclass
class Seen:
    """What a run left: every record but the journal's, by order; and every line of every log."""

    records: dict[str, list[StoredRecord]]
    lines: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("traces")
    records = asyncio.run(play(folder))
    lines = {file.stem: [json.loads(line) for line in file.read_text().splitlines()] for file in folder.glob("*.log")}
    return Seen(records, lines)


async def play(folder: Path) -> dict[str, list[StoredRecord]]:
    shop = Shop(folder, f"file:{folder / 'log'}", "t-")
    shop.crew.environment |= {"SAGA_LOGS": "json", "SAGA_LOGS_LEVEL": "debug"}
    async with shop:
        shop.start_orchestrator()
        await shop.all_owned()
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            for name, traceparent in GIVEN.items():
                headers = {} if traceparent is None else {"traceparent": traceparent}
                url = f"http://{shop.environment['CHECKOUT_ORDER_HTTP']}/orders"
                assert (await http.post(url, json=order(name), headers=headers)).status_code == 201, "a traceparent was an error"
                shop.placed.append(name)
        await shop.settle()
        return await everything(shop)


def order(name: str) -> dict[str, Any]:
    sku = OUT_OF_STOCK if name == "compensates" else "TEA-EARL-GREY"
    line = {"sku": sku, "quantity": 1, "unit_price": {"minor": 995, "currency": "EUR"}}
    return {"order_id": name, "customer": ADA.model_dump(), "address": BERLIN.model_dump(), "lines": [line], "card": "tok_visa"}


async def everything(shop: Shop) -> dict[str, list[StoredRecord]]:
    found: dict[str, list[StoredRecord]] = {name: [] for name in GIVEN}
    topics = [spec.name for spec in specs(app, replication=1, min_insync=1) if spec.name != JOURNAL]
    partitions = [TopicPartition(topic, number) for topic in topics for number in range(app.partitions)]
    for partition, held in (await shop.log.bounds(partitions)).items():
        async for lump in shop.log.read(partition, held.start, held.end):
            for record in lump:
                found[(record.key or b"").decode()].append(record)
    return found


def traceparents(records: list[StoredRecord]) -> set[str]:
    return {header_fields(record.headers).get("traceparent", "") for record in records}


def hops(records: list[StoredRecord]) -> set[str]:
    """Where the trace was seen: topics, with a command's or a reply's action."""
    return {" ".join(filter(None, (r.topic, header_fields(r.headers).get("sagaaction", "")))) for r in records}


@pytest.mark.parametrize("name", ["completes", "compensates"])
def test_every_record_of_an_order_carries_the_trace_of_its_request(seen: Seen, name: str) -> None:
    assert traceparents(seen.records[name]) == {GIVEN[name]}


def test_the_trace_goes_through_every_kind_of_record(seen: Seen) -> None:
    """Lest the test above looks at nothing."""
    forward = {"order.events", "payment.commands execute", "payment.events execute", "shipping.commands execute", "saga.events"}
    assert forward <= hops(seen.records["completes"])
    back = {"payment.commands compensate", "payment.events compensate", "inventory.events execute", "saga.events"}
    assert back <= hops(seen.records["compensates"])
    types = {header_fields(r.headers)["type"] for r in seen.records["compensates"] if r.topic == EVENTS}
    assert "saga.compensated.v1" in types


@pytest.mark.parametrize("name", ["malformed", "without"])
def test_without_a_valid_one_a_trace_begins_with_the_first_service(seen: Seen, name: str) -> None:
    (begun,) = traceparents(seen.records[name])
    assert read(begun) == begun, f"{begun!r} is not a valid traceparent"
    assert trace_id(begun) not in (COMPLETES, COMPENSATES)


@pytest.mark.parametrize(
    ("trace", "processes"),
    [
        (COMPLETES, {"order", "orchestrator-1", "payment", "inventory", "shipping"}),
        (COMPENSATES, {"order", "orchestrator-1", "payment", "inventory"}),
    ],
)
def test_every_process_logs_the_trace(seen: Seen, trace: str, processes: set[str]) -> None:
    found = {name: [line for line in lines if line.get("trace") == trace] for name, lines in seen.lines.items()}
    assert {name for name, lines in found.items() if lines} == processes
    key = "completes" if trace == COMPLETES else "compensates"
    assert {line["key"] for lines in found.values() for line in lines} == {key}
    assert {"pay"} <= {line.get("step") for line in found["payment"]}
    assert {line["saga"] for line in found["payment"]} == {"checkout"}


def test_no_log_tells_what_is_private(seen: Seen) -> None:
    said = json.dumps(seen.lines, ensure_ascii=False)
    assert "completes" in said
    for private in (ADA.name, ADA.email, BERLIN.street, "tok_visa"):
        assert private not in said, f"{private!r} stands in a log"


def test_a_mail_remembers_the_trace(seen: Seen, tmp_path: Path) -> None:
    """Notification on the record that the orchestrator wrote; it runs on Faust, so on a Kafka only, but this is all that it does."""
    store = Store(f"sqlite:///{tmp_path / 'notification.db'}", tables=TABLES)
    mailer = Mailer(tmp_path / "mail", store)
    mailer.prepare()
    try:
        for name in ("completes", "compensates"):
            wrote = [mailer.handle(parse(record)) for record in seen.records[name] if record.topic == EVENTS]
            assert wrote.count(True) == 1
        with store.read() as connection:
            kept = {order_id: trace for order_id, trace in connection.execute(select(mails.c.order_id, mails.c.trace))}  # noqa: C416
        assert kept == {"completes": GIVEN["completes"], "compensates": GIVEN["compensates"]}
    finally:
        store.close()
