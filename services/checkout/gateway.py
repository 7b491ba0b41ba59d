"""A payment gateway like those on the market, as a server of its own: idempotency keys, and every way to be unpleasant.

    POST /charges              Idempotency-Key: K   {"amount": 1990, "currency": "EUR", "card": "tok_…", "reference": "order 7"}
    GET  /charges/{K}
    POST /charges/{K}/void     K never charges, unless it has already
    POST /refunds              Idempotency-Key: R   {"charge_key": "K"}

The card says how it behaves: `tok_declined` is declined; `tok_slow` answers after a second; `tok_timeout` is charged only after the
caller has given up, the first time; `tok_lost_answer` is charged and then the connection is cut, the first time, and `tok_silent`
every time; `tok_flaky` is a 500 twice. Any other is charged.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.checkout.ledger import Charge, Conflict, Ledger, Refund
from services.checkout.settings import SETTINGS
from services.stage.web import Problem, problem_response, read_body, serve
from topics.values import MAX_MINOR, CardToken, Text

SLOW_SECONDS = 1.0
STUCK_SECONDS = 3.0  # longer than the payment service waits
FLAKY_TIMES = 2
MAX_KEY = 1000

logger = logging.getLogger(__name__)


class ChargeRequest(BaseModel):
    amount: int = Field(ge=1, le=MAX_MINOR, strict=True)
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    card: CardToken
    reference: Text


class RefundRequest(BaseModel):
    charge_key: str = Field(min_length=1, max_length=MAX_KEY)


class CuttableProtocol(H11Protocol):
    """HTTP connections that can be cut from inside a request, as a network does; ASGI itself has no word for that."""

    open: ClassVar[WeakValueDictionary[tuple[str, int], CuttableProtocol]] = WeakValueDictionary()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client:
            self.open[self.client] = self

    @classmethod
    def cut(cls, request: Request) -> None:
        assert request.client, "a TCP connection has a client"
        cls.open[request.client.host, request.client.port].transport.abort()


def gateway_api(ledger: Ledger) -> Starlette:
    """The gateway on these books. Serve it with `protocol=CuttableProtocol`."""

    async def charge(request: Request) -> Response:
        key, body = _key(request), await read_body(request, ChargeRequest)
        seen = await run_in_threadpool(ledger.count_request, key)
        if body.card == "tok_slow":
            await asyncio.sleep(SLOW_SECONDS)
        if body.card == "tok_timeout" and seen == 1:
            await asyncio.sleep(STUCK_SECONDS)
        if body.card == "tok_flaky" and seen <= FLAKY_TIMES:
            raise Problem(500, "internal", "something broke; nothing was charged")
        try:
            made, new = await run_in_threadpool(ledger.charge, key, body.reference, body.amount, body.currency, body.card)
        except Conflict as conflict:
            raise Problem(422, "key-reused", str(conflict)) from None
        if body.card == "tok_silent" or (body.card == "tok_lost_answer" and seen == 1):
            CuttableProtocol.cut(request)
        if made.status == "declined":
            raise Problem(402, "declined", "the bank declines this card")
        if made.status == "voided":
            raise Problem(410, "voided", f"key {key} was voided: it never charges")
        return JSONResponse(_shown(made), 201 if new else 200)

    async def find(request: Request) -> Response:
        found = await run_in_threadpool(ledger.find, request.path_params["key"])
        if found is None:
            raise Problem(404, "unknown", "there is no charge with this key")
        return JSONResponse(_shown(found))

    async def void(request: Request) -> Response:
        return JSONResponse(_shown(await run_in_threadpool(ledger.void, request.path_params["key"])))

    async def refund(request: Request) -> Response:
        key, body = _key(request), await read_body(request, RefundRequest)
        try:
            made, new = await run_in_threadpool(ledger.refund, key, body.charge_key)
        except Conflict as conflict:
            raise Problem(409, "conflict", str(conflict)) from None
        return JSONResponse(_shown(made), 201 if new else 200)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[
            Route("/charges", charge, methods=["POST"]),
            # A key may hold any character, slashes too.
            Route("/charges/{key:path}/void", void, methods=["POST"]),
            Route("/charges/{key:path}", find, methods=["GET"]),
            Route("/refunds", refund, methods=["POST"]),
            Route("/healthz", health, methods=["GET"]),
        ],
        exception_handlers={Problem: problem_response},
    )


async def run(stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    SETTINGS.data.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(SETTINGS.gateway_ledger)
    try:
        await serve(gateway_api(ledger), SETTINGS.gateway_http, stop, protocol=CuttableProtocol)
    finally:
        ledger.close()


def _key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if not key or len(key) > MAX_KEY or not key.isprintable():
        raise Problem(400, "idempotency-key", f"send an Idempotency-Key header of 1 to {MAX_KEY} printable characters")
    return key


def _shown(row: Charge | Refund) -> dict[str, Any]:
    return dict(vars(row))
