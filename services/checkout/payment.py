"""The payment service: charges cards at the gateway, and gives the money back.

The gateway is outside our database, so each command calls it first, under an idempotency key that is the same for every attempt, and
then writes down what it said. A crash in between repeats the call, and the gateway answers with what it did before.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from urllib.parse import quote

import httpx
from pydantic import BaseModel
from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, String, Table, insert, select

from saga import Nothing, Participant, Refused, Work
from services.checkout.process import Service
from services.checkout.settings import SETTINGS
from topics.payment import PaymentDeclined, PaymentReturned, PaymentTaken, ReturnPayment, TakePayment
from topics.values import Money

ANSWER_SECONDS = 2.0  # most charges take milliseconds; the kit tries three times within the saga's own ten seconds

TABLES = MetaData()
ID = BigInteger().with_variant(Integer(), "sqlite")

# What was done, in the order it was done; never changed, only added to.
entries = Table(
    "payment_entries",
    TABLES,
    Column("id", ID, primary_key=True, autoincrement=True),
    Column("order_id", String(64), nullable=False, index=True),
    Column("kind", String(8), nullable=False),  # taken | returned
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("gateway_id", String(64), nullable=False),  # of the charge or the refund
    Column("command_id", String(1000), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)


class Charged(BaseModel):
    """What the gateway says of a charge."""

    charge_id: str
    status: str
    amount: int
    currency: str

    @property
    def money(self) -> Money:
        return Money(minor=self.amount, currency=self.currency)


class Returned(BaseModel):
    """A refund, and the charge it gives back."""

    refund_id: str
    charge: Charged


class Gateway:
    """The client of the payment gateway. Raises httpx.HTTPError for whatever is not an answer to the question."""

    def __init__(self, url: str, timeout: float = ANSWER_SECONDS) -> None:
        self._url = url
        self._timeout = timeout
        self._client: tuple[asyncio.AbstractEventLoop, httpx.AsyncClient] | None = None

    async def charge(self, key: str, amount: Money, card: str, reference: str) -> Charged | None:
        """Charge a card, once for a key; None if the bank declines."""
        body = {"amount": amount.minor, "currency": amount.currency, "card": card, "reference": reference}
        answer = await self._http().post("/charges", headers={"Idempotency-Key": key}, json=body)
        if answer.status_code == 402:
            return None
        return Charged.model_validate(answer.raise_for_status().json())

    async def void(self, key: str) -> Charged:
        """See to it that this key never charges; the answer says if it already has."""
        answer = await self._http().post(f"/charges/{quote(key, safe='')}/void")
        return Charged.model_validate(answer.raise_for_status().json())

    async def refund(self, key: str, charge_key: str) -> str:
        """Give a charge back, once; the refund's id."""
        answer = await self._http().post("/refunds", headers={"Idempotency-Key": key}, json={"charge_key": charge_key})
        return str(answer.raise_for_status().json()["refund_id"])

    async def close(self) -> None:
        if self._client:
            await self._client[1].aclose()
            self._client = None

    def _http(self) -> httpx.AsyncClient:
        """One client for each event loop: its connections belong to the loop that opened them."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._client[0] is not loop:
            self._client = (loop, httpx.AsyncClient(base_url=self._url, timeout=self._timeout, trust_env=False))
        return self._client[1]


gateway = Gateway(f"http://{SETTINGS.gateway_http}")
payment = Participant("payment")


async def charge_card(cmd: TakePayment, work: Work) -> Charged:
    charged = await gateway.charge(work.command_id, cmd.amount, cmd.card, f"order {cmd.order_id}")
    if charged is None:
        raise Refused(PaymentDeclined(order_id=cmd.order_id, reason="the bank declines this card"))
    return charged


@payment.handles(TakePayment, calls=charge_card)
def take(cmd: TakePayment, work: Work, charged: Charged) -> PaymentTaken:
    _note(work, cmd.order_id, "taken", charged.money, charged.charge_id, work.command_id)
    return PaymentTaken(order_id=cmd.order_id, payment_id=charged.charge_id, amount=charged.money)


async def give_back(_: ReturnPayment, work: Work) -> Returned:
    """The void comes first: a charge that is still on its way finds its key closed. Only what was captured is given back."""
    charge = await gateway.void(work.subject_id)
    if charge.status != "captured":
        raise Nothing
    return Returned(refund_id=await gateway.refund(work.command_id, work.subject_id), charge=charge)


@payment.handles(ReturnPayment, calls=give_back)
def give(cmd: ReturnPayment, work: Work, returned: Returned) -> PaymentReturned:
    known = work.execute(select(entries.c.id).where(entries.c.command_id == work.subject_id)).first()
    if known is None:  # we fell over between the charge and writing it down: the gateway knew, now our books do
        _note(work, cmd.order_id, "taken", returned.charge.money, returned.charge.charge_id, work.subject_id)
    _note(work, cmd.order_id, "returned", returned.charge.money, returned.refund_id, work.command_id)
    return PaymentReturned(order_id=cmd.order_id, amount=returned.charge.money)


def _note(work: Work, order_id: str, kind: str, amount: Money, gateway_id: str, command_id: str) -> None:
    work.execute(
        insert(entries).values(
            order_id=order_id,
            kind=kind,
            amount_minor=amount.minor,
            currency=amount.currency,
            gateway_id=gateway_id,
            command_id=command_id,
            at=datetime.now(UTC),
        )
    )


SERVICE = Service(payment, TABLES, close=gateway.close)
