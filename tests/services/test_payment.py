"""Payment, against a gateway that is unpleasant in every way: money moves once, whatever gets lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from services.checkout import gateway as gateway_module
from services.checkout import payment
from services.checkout.ledger import Ledger
from tests.services.shop import PRICE, Desk, desk, gateway_server
from topics.payment import ReturnPayment, TakePayment

QUICK = 0.4  # seconds the payment service waits for the gateway here

Story = Callable[[Desk, Ledger], Coroutine[None, None, None]]
Tell = Callable[[Story], None]


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tell:
    """Runs a story about the payment service and the gateway's books."""
    monkeypatch.setattr(gateway_module, "SLOW_SECONDS", QUICK / 4)
    monkeypatch.setattr(gateway_module, "STUCK_SECONDS", QUICK * 1.5)

    @asynccontextmanager
    async def opened() -> AsyncIterator[tuple[Desk, Ledger]]:
        async with gateway_server(tmp_path) as (address, ledger):
            client = payment.Gateway(address, QUICK)
            monkeypatch.setattr(payment, "gateway", client)
            try:
                async with desk(payment.SERVICE, tmp_path) as at:
                    yield at, ledger
            finally:
                await client.close()

    def run(story: Story) -> None:
        async def told() -> None:
            async with opened() as (at, ledger):
                await story(at, ledger)

        asyncio.run(told())

    return run


def take(card: str, order_id: str = "o-1") -> TakePayment:
    return TakePayment(order_id=order_id, amount=PRICE, card=card)


def charged(at: Desk, ledger: Ledger) -> str:
    found = ledger.find(at.id("o-1"))
    return found.status if found else "nothing"


def given_back(at: Desk, ledger: Ledger) -> bool:
    """A refund that was made under the compensation's id is known there; asked again it is not made again."""
    return not ledger.refund(at.id("o-1", action="compensate"), at.id("o-1"))[1]


@pytest.mark.parametrize("card", ["tok_visa", "tok_slow", "tok_timeout", "tok_lost_answer", "tok_flaky"])
def test_a_card_is_charged_once_however_unpleasant_the_gateway_is(tell: Tell, card: str) -> None:
    async def story(at: Desk, ledger: Ledger) -> None:
        answer = await at.ask(take(card), "o-1")
        assert (answer.outcome, answer.type) == ("done", "payment.taken.v1")
        again = await at.ask(take(card), "o-1", attempt=2)
        assert again == answer, "the same command got two answers"
        (entry,) = await at.rows(payment.entries)
        charge = ledger.find(entry.command_id)
        assert charge
        assert (charge.status, charge.charge_id, charge.amount) == ("captured", entry.gateway_id, 1990)
        assert (entry.kind, entry.amount_minor, entry.currency) == ("taken", 1990, "EUR")

    tell(story)


def test_a_declined_card_is_a_refusal_and_leaves_no_trace_in_the_books(tell: Tell) -> None:
    async def story(at: Desk, ledger: Ledger) -> None:
        answer = await at.ask(take("tok_declined"), "o-1")
        assert (answer.outcome, answer.type) == ("refused", "payment.declined.v1")
        assert await at.rows(payment.entries) == []
        assert charged(at, ledger) == "declined"

    tell(story)


def test_what_was_taken_is_given_back_once(tell: Tell) -> None:
    async def story(at: Desk, ledger: Ledger) -> None:
        await at.ask(take("tok_visa"), "o-1")
        first = await at.ask(ReturnPayment(order_id="o-1"), "o-1", action="compensate")
        second = await at.ask(ReturnPayment(order_id="o-1"), "o-1", action="compensate", attempt=2)
        assert (first.outcome, first.type) == ("done", "payment.returned.v1")
        assert first == second
        assert [entry.kind for entry in await at.rows(payment.entries)] == ["taken", "returned"]
        assert given_back(at, ledger)

    tell(story)


def test_a_payment_that_never_was_is_not_given_back_and_never_will_be_taken(tell: Tell) -> None:
    async def story(at: Desk, ledger: Ledger) -> None:
        answer = await at.ask(ReturnPayment(order_id="o-1"), "o-1", action="compensate")
        assert answer.outcome == "nothing"
        late = await at.ask(take("tok_visa"), "o-1")
        assert late.outcome == "nothing", "a compensated payment was taken after all"
        assert charged(at, ledger) == "nothing"

    tell(story)


def test_a_charge_whose_answer_never_comes_is_given_back_and_both_books_agree(tell: Tell) -> None:
    async def story(at: Desk, ledger: Ledger) -> None:
        failed = await at.ask(take("tok_silent"), "o-1")
        assert failed.outcome == "failed"
        assert charged(at, ledger) == "captured"
        assert await at.rows(payment.entries) == [], "nobody told the payment service that money was taken"
        answer = await at.ask(ReturnPayment(order_id="o-1"), "o-1", action="compensate")
        assert answer.outcome == "done", "money was taken and not given back"
        entries = [(entry.kind, entry.amount_minor) for entry in await at.rows(payment.entries)]
        assert entries == [("taken", 1990), ("returned", 1990)]
        assert given_back(at, ledger)

    tell(story)


# --- the gateway itself -----------------------------------------------------------------------------------------------------------


def test_a_voided_key_never_charges_and_a_key_is_for_one_payload(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_server(tmp_path) as (address, _), httpx.AsyncClient(base_url=address, trust_env=False) as http:
            body = {"amount": 1990, "currency": "EUR", "card": "tok_visa", "reference": "order 1"}
            assert (await http.post("/charges/k1/void")).json()["status"] == "voided"
            assert (await http.post("/charges", json=body, headers={"Idempotency-Key": "k1"})).status_code == 410
            assert (await http.post("/charges", json=body, headers={"Idempotency-Key": "k2"})).status_code == 201
            assert (await http.post("/charges", json=body, headers={"Idempotency-Key": "k2"})).status_code == 200
            other = {**body, "amount": 5}
            assert (await http.post("/charges", json=other, headers={"Idempotency-Key": "k2"})).status_code == 422
            assert (await http.post("/charges", json=body)).status_code == 400
            assert (await http.post("/charges/k2/void")).json()["status"] == "captured"
            assert (await http.get("/charges/k2")).json()["status"] == "captured"
            assert (await http.get("/charges/k3")).status_code == 404
            refund = {"charge_key": "k2"}
            assert (await http.post("/refunds", json=refund, headers={"Idempotency-Key": "r1"})).status_code == 201
            assert (await http.post("/refunds", json=refund, headers={"Idempotency-Key": "r1"})).status_code == 200
            assert (await http.post("/refunds", json=refund, headers={"Idempotency-Key": "r2"})).status_code == 409

    asyncio.run(story())


def test_a_lost_answer_is_a_charge_and_a_cut_connection(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway_server(tmp_path) as (address, ledger), httpx.AsyncClient(base_url=address, trust_env=False) as http:
            body = {"amount": 1990, "currency": "EUR", "card": "tok_lost_answer", "reference": "order 1"}
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await http.post("/charges", json=body, headers={"Idempotency-Key": "k1"})
            found = ledger.find("k1")
            assert found
            assert found.status == "captured"
            assert (await http.post("/charges", json=body, headers={"Idempotency-Key": "k1"})).status_code == 200

    asyncio.run(story())
