"""The order service over HTTP: an order is placed once and starts its saga, and bad input gets a clear answer and harms nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from saga.cloudevents import parse
from services.checkout import order
from services.stage import web
from tests.services.shop import ADA, BERLIN, TEA, Desk, desk, eventually, served
from topics.order import AcceptOrder, CancelOrder, ConfirmOrder

Story = Callable[[Desk, httpx.AsyncClient], Coroutine[None, None, None]]
Tell = Callable[[Story], None]
JSON = {"content-type": "application/json"}


@pytest.fixture
def tell(tmp_path: Path) -> Tell:
    def run(story: Story) -> None:
        async def told() -> None:
            async with (
                desk(order.SERVICE, tmp_path) as at,
                served(order.api(at.store)) as address,
                httpx.AsyncClient(base_url=address, trust_env=False) as http,
            ):
                await story(at, http)

        asyncio.run(told())

    return run


def asked(**changed: Any) -> dict[str, Any]:
    """A good order as JSON, with some of its fields changed."""
    good = {
        "order_id": "o-1",
        "customer": ADA.model_dump(),
        "address": BERLIN.model_dump(),
        "lines": [TEA.model_dump()],
        "card": "tok_visa",
    }
    return {name: value for name, value in {**good, **changed}.items() if value is not ...}


def line(**changed: Any) -> dict[str, Any]:
    return {**TEA.model_dump(), **changed}


async def placed(at: Desk) -> list[Any]:
    """The orders that were told to the world."""
    return [event for event in map(parse, await at.published()) if event.type == "order.placed.v1"]


def test_an_order_is_there_and_starts_its_saga(tell: Tell) -> None:
    async def story(at: Desk, http: httpx.AsyncClient) -> None:
        answer = await http.post("/orders", json=asked())
        assert (answer.status_code, answer.headers["location"]) == (201, "/orders/o-1")
        assert answer.json()["total"] == {"minor": 1990, "currency": "EUR"}
        assert answer.json()["status"] == "placed"
        assert (await http.get("/orders/o-1")).json() == answer.json()

        async def told() -> bool:
            return len(await placed(at)) == 1

        await eventually(told, "the event that starts the saga")
        (event,) = await placed(at)
        assert (event.id, event.subject, event.data["total"]["minor"]) == ("o-1:placed", "o-1", 1990)

    tell(story)


def test_the_same_order_again_is_the_same_order_and_another_content_is_a_conflict(tell: Tell) -> None:
    async def story(at: Desk, http: httpx.AsyncClient) -> None:
        first = await http.post("/orders", json=asked())
        again = await http.post("/orders", json=asked())
        other = await http.post("/orders", json=asked(card="tok_other"))
        assert [first.status_code, again.status_code, other.status_code] == [201, 200, 409]
        assert again.json() == first.json()
        assert other.json()["error"] == "conflict"
        assert len(await at.rows(order.orders)) == 1

    tell(story)


def test_an_idempotency_key_makes_an_order_without_an_id_safe_to_repeat(tell: Tell) -> None:
    async def story(at: Desk, http: httpx.AsyncClient) -> None:
        key = {"Idempotency-Key": "from the client 1"}
        first = await http.post("/orders", json=asked(order_id=...), headers=key)
        again = await http.post("/orders", json=asked(order_id=...), headers=key)
        other = await http.post("/orders", json=asked(order_id=..., card="tok_other"), headers=key)
        assert [first.status_code, again.status_code, other.status_code] == [201, 200, 409]
        assert again.json()["order_id"] == first.json()["order_id"]
        assert (await http.post("/orders", json=asked(order_id="o-9"), headers=key)).status_code == 409
        assert len(await at.rows(order.orders)) == 1

    tell(story)


def test_a_hundred_equal_requests_at_once_are_one_order_and_one_event(tell: Tell) -> None:
    async def story(at: Desk, http: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(*(http.post("/orders", json=asked(), timeout=30) for _ in range(100)))
        assert sorted(answer.status_code for answer in answers) == [200] * 99 + [201]
        assert len(await at.rows(order.orders)) == 1
        accepted = await at.ask(AcceptOrder(order_id="o-1"), "o-1")  # by its reply, all that was written before it is out
        assert accepted.outcome == "done"
        assert len(await placed(at)) == 1

    tell(story)


LONG = "x" * 201
WRONG_FIELDS: list[tuple[str, dict[str, Any], str]] = [
    ("no lines", {"lines": []}, "lines"),
    ("too many lines", {"lines": [line()] * 101}, "lines"),
    ("lines missing", {"lines": ...}, "lines"),
    ("half a piece", {"lines": [line(quantity=0.5)]}, "lines.0.quantity"),
    ("no piece", {"lines": [line(quantity=0)]}, "lines.0.quantity"),
    ("money as a float", {"lines": [line(unit_price={"minor": 9.95, "currency": "EUR"})]}, "lines.0.unit_price.minor"),
    ("money as text", {"lines": [line(unit_price={"minor": "995", "currency": "EUR"})]}, "lines.0.unit_price.minor"),
    ("negative money", {"lines": [line(unit_price={"minor": -1, "currency": "EUR"})]}, "lines.0.unit_price.minor"),
    ("too much money", {"lines": [line(quantity=1000, unit_price={"minor": 2**53 - 1, "currency": "EUR"})]}, ""),
    ("nothing to pay", {"lines": [line(unit_price={"minor": 0, "currency": "EUR"})]}, ""),
    ("a currency we do not take", {"lines": [line(unit_price={"minor": 1, "currency": "XXX"})]}, ""),
    ("two currencies", {"lines": [line(), line(unit_price={"minor": 1, "currency": "USD"})]}, ""),
    ("an id that is a path", {"order_id": "../../etc/passwd"}, "order_id"),
    ("an id with a line break", {"order_id": "o\r\nX-Evil: 1"}, "order_id"),
    ("an id with markup", {"order_id": "<script>"}, "order_id"),
    ("a template", {"order_id": "{{7*7}}"}, "order_id"),
    ("an empty id", {"order_id": ""}, "order_id"),
    ("a long id", {"order_id": "x" * 65}, "order_id"),
    ("a card number", {"card": "4111111111111111"}, "card"),
    ("a mail header", {"customer": {**ADA.model_dump(), "email": "a@b.example\nBcc: c@d.example"}}, "customer.email"),
    ("a dot before an address", {"customer": {**ADA.model_dump(), "email": ".a@b.example"}}, "customer.email"),
    ("a dot after a name", {"customer": {**ADA.model_dump(), "email": "a.@b.example"}}, "customer.email"),
    ("two dots in a row", {"customer": {**ADA.model_dump(), "email": "a..b@b.example"}}, "customer.email"),
    ("a long name", {"customer": {**ADA.model_dump(), "name": LONG}}, "customer.name"),
    ("no country", {"address": {**BERLIN.model_dump(), "country": "Germany"}}, "address.country"),
    ("a misspelt field", {"coupon": "FREE"}, "coupon"),
]


@pytest.mark.parametrize(("changed", "at_field"), [case[1:] for case in WRONG_FIELDS], ids=[case[0] for case in WRONG_FIELDS])
def test_a_wrong_field_is_named_and_nothing_is_written(tell: Tell, changed: dict[str, Any], at_field: str) -> None:
    async def story(at: Desk, http: httpx.AsyncClient) -> None:
        answer = await http.post("/orders", json=asked(**changed))
        assert answer.status_code == 422, answer.text
        assert at_field in [wrong["at"] for wrong in answer.json()["detail"]]
        assert await at.rows(order.orders) == []

    tell(story)


NOT_JSON: list[tuple[str, bytes, dict[str, str], int]] = [
    ("nothing", b"", JSON, 400),
    ("no JSON", b"order: tea", JSON, 400),
    ("not UTF-8", b'{"order_id": "\xff"}', JSON, 400),
    ("NaN", b'{"order_id": NaN}', JSON, 400),
    ("a key twice", b'{"order_id": "a", "order_id": "b"}', JSON, 400),
    ("100,000 brackets", b"[" * 60_000, JSON, 400),
    ("a huge integer", b'{"order_id": 123456789012345678901234567890}', JSON, 400),
    ("a list", b"[]", JSON, 422),
    ("ten megabytes", b"x" * 10_000_000, JSON, 413),
    ("another content type", json.dumps(asked()).encode(), {"content-type": "text/plain"}, 415),
    ("no content type", json.dumps(asked()).encode(), {}, 415),
    ("gzip", b"\x1f\x8b", {**JSON, "content-encoding": "gzip"}, 415),
    ("an empty key", json.dumps(asked()).encode(), {**JSON, "idempotency-key": ""}, 400),
    ("a long key", json.dumps(asked()).encode(), {**JSON, "idempotency-key": "k" * 129}, 400),
]


@pytest.mark.parametrize(("body", "headers", "status"), [case[1:] for case in NOT_JSON], ids=[case[0] for case in NOT_JSON])
def test_what_is_no_order_gets_a_clear_answer(tell: Tell, body: bytes, headers: dict[str, str], status: int) -> None:
    async def story(at: Desk, http: httpx.AsyncClient) -> None:
        answer = await http.post("/orders", content=body, headers=headers)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]
        assert await at.rows(order.orders) == []
        assert (await http.post("/orders", json=asked())).status_code == 201, "the service no longer takes good orders"

    tell(story)


def test_a_body_that_never_ends_is_given_up(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BODY_SECONDS", 0.2)

    async def story(_: Desk, http: httpx.AsyncClient) -> None:
        host, port = str(http.base_url.host), int(http.base_url.port or 0)
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        status = await asyncio.wait_for(reader.readline(), 10)
        assert b"408" in status
        writer.close()
        await writer.wait_closed()

    tell(story)


def test_an_unknown_order_and_an_unknown_path_are_404(tell: Tell) -> None:
    async def story(_: Desk, http: httpx.AsyncClient) -> None:
        for path in ("/orders/none", "/orders/..%2f..%2fetc%2fpasswd", "/nothing"):
            assert (await http.get(path)).status_code == 404
        assert (await http.delete("/orders/none")).status_code == 405

    tell(story)


def test_an_order_goes_its_way(tell: Tell) -> None:
    async def story(at: Desk, http: httpx.AsyncClient) -> None:
        for order_id in ("o-1", "o-2"):
            await http.post("/orders", json=asked(order_id=order_id))
            assert (await at.ask(AcceptOrder(order_id=order_id), order_id, step="accept")).outcome == "done"
        confirmed = await at.ask(ConfirmOrder(order_id="o-1", tracking="CP1"), "o-1", step="confirm")
        cancelled = await at.ask(CancelOrder(order_id="o-2"), "o-2", step="accept", action="compensate")
        assert (confirmed.type, cancelled.type) == ("order.confirmed.v1", "order.cancelled.v1")
        shown = [(await http.get(f"/orders/{order_id}")).json() for order_id in ("o-1", "o-2")]
        assert [(one["status"], one["tracking"]) for one in shown] == [("confirmed", "CP1"), ("cancelled", None)]

    tell(story)


def test_an_order_nobody_placed_here_is_refused_and_a_cancelled_one_is_never_confirmed(tell: Tell) -> None:
    async def story(at: Desk, http: httpx.AsyncClient) -> None:
        unknown = await at.ask(AcceptOrder(order_id="o-9"), "o-9")
        assert (unknown.outcome, unknown.type) == ("refused", "order.unknown.v1")
        await http.post("/orders", json=asked())
        await at.ask(AcceptOrder(order_id="o-1"), "o-1", step="accept")
        await at.ask(CancelOrder(order_id="o-1"), "o-1", step="accept", action="compensate")
        wrong = await at.ask(ConfirmOrder(order_id="o-1", tracking="CP1"), "o-1", step="confirm")
        assert wrong.outcome == "failed"
        assert (await http.get("/orders/o-1")).json()["status"] == "cancelled"

    tell(story)
