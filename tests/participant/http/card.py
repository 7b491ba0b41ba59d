"""The payment service of the kit's tests, done by configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from saga.log.base import StoredRecord
from saga.participant import Settings
from saga.participant.http import Api, Call, First, HttpParticipant, again, done, nothing, refused
from tests.participant.conftest import Drive
from tests.participant.http.card_api import CardApi
from tests.participant.kit import (
    FindPayment,
    Payment,
    PaymentDeclined,
    ReturnPayment,
    TakePayment,
    World,
    data,
    outcome,
)

HASTY = timedelta(seconds=0.5)  # for an API that hangs; a slow machine only makes it ask once more
QUICK = Settings(first_retry=timedelta(milliseconds=5))
TAKE = TakePayment(order_id="o-1", amount=7)
GIVE, FIND = ReturnPayment(order_id="o-1"), FindPayment(order_id="o-1")
Story = Callable[[World, CardApi], Awaitable[None]]

CAPTURED = done(200, where={"/status": "captured"})
CHARGE = Call(
    TakePayment,
    "POST",
    "/charges",
    [done(200, 201), refused(PaymentDeclined, 402, fields={"why": "/error/message"})],
)
REFUND = Call(
    ReturnPayment,
    "POST",
    "/charges/{subject_id}/refunds",
    [done(200, 201)],
    first=First("POST", "/charges/{subject_id}/void", [CAPTURED, nothing(200, where={"/status": "voided"})]),
)
ASK = Call(
    FindPayment,
    "GET",
    "/charges/{subject_id}",
    [CAPTURED, again(200, where={"/status": "pending"}), nothing(404, where={"/error/code": "unknown_charge"})],
    late=timedelta(seconds=1.5),
)


class Card(Payment):
    """The payment service of the kit's tests, done by configuration."""

    def __init__(self, api: CardApi, calls: list[Call] | None = None, **settings: Any) -> None:
        super().__init__()
        known: dict[str, Any] = {
            "headers": {"Authorization": "Bearer ${CARD_TOKEN}"},
            "timeout": timedelta(seconds=20),
            "reason": "/error/message",
        }
        self.participant = HttpParticipant("payment", Api(api.base, **known | settings), calls or [CHARGE, REFUND])


def tell(drive: Drive, story: Story) -> None:
    async def told(world: World) -> None:
        async with CardApi() as api:
            await story(world, api)
            await world.close()  # before the API goes, which waits for its callers

    drive(told)


def reason(reply: StoredRecord) -> str:
    assert outcome(reply) == "failed saga.failed.v1"
    return str(data(reply)["reason"])
