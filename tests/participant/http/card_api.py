"""A card API like those on the market, on a real socket, with every way to be unpleasant; what it did is there to be counted.

    POST /charges                  Idempotency-Key: K   {"order_id": "o-1", "amount": 7}
    GET  /charges/K
    POST /charges/K/void           K never charges, unless it has already
    POST /charges/K/refunds        Idempotency-Key: R

Each test says how the next requests go: `api.next("charge", "cut", "500")` is the first one cut after it was charged, the second a 500,
and all others as they should be.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import ssl
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from services.checkout.gateway import CuttableProtocol

SECRET = "s3cr3t-of-the-card"


Handle = Callable[[Request], Awaitable[Response]]


class Asked(NamedTuple):
    """A request as it came. `key`: its idempotency key."""

    what: str
    method: str
    path: str
    key: str
    headers: dict[str, str]
    body: Any


class CardApi:
    """`async with CardApi() as api:` then ask `api.base`."""

    def __init__(self, tls: Path | None = None) -> None:
        """`tls`: a certificate, which callers must show, too, and its key."""
        self._tls = tls
        self.charged: dict[str, dict[str, Any]] = {}
        self.refunds: dict[str, dict[str, Any]] = {}
        self.closed: set[str] = set()
        self.asked: list[Asked] = []
        self.at_once = self.most_at_once = 0
        self.arrived = asyncio.Condition()
        self.released = asyncio.Event()  # ends every hang
        self._script: defaultdict[str, deque[str]] = defaultdict(deque)

    def next(self, what: str, *manners: str) -> None:
        self._script[what].extend(manners)

    def of(self, what: str) -> list[Asked]:
        return [each for each in self.asked if each.what == what]

    async def until(self, what: str, count: int = 1) -> None:
        """Wait until so many such requests were handled, though not answered."""
        async with asyncio.timeout(20), self.arrived:
            await self.arrived.wait_for(lambda: len(self.of(what)) >= count)

    async def quiet(self) -> bool:
        """Nothing is being worked on."""
        return self.at_once == 0

    # --- the API

    async def _charge(self, request: Request) -> Response:
        key, body = request.headers["idempotency-key"], await request.json()
        if body["amount"] > 1_000:
            return _error(402, "card_declined", "too much")
        if key in self.closed:
            return _error(410, "closed", "this key never charges")
        if key in self.charged and self.charged[key]["asked"] != body:
            return _error(422, "key_reused", "the key came with another body")
        self.charged.setdefault(key, {"asked": body, "payment_id": f"ch_{len(self.charged) + 1}", "amount": body["amount"]})
        return JSONResponse(self._shown(key), 201)

    async def _find(self, request: Request) -> Response:
        key = request.path_params["key"]
        if key not in self.charged:
            return _error(404, "unknown_charge", "there is none")
        return JSONResponse(self._shown(key))

    async def _void(self, request: Request) -> Response:
        key = request.path_params["key"]
        self.closed.add(key)
        return JSONResponse(self._shown(key) if key in self.charged else {"status": "voided"})

    async def _refund(self, request: Request) -> Response:
        key, of = request.headers["idempotency-key"], request.path_params["key"]
        if of not in self.charged:
            return _error(404, "unknown_charge", "there is none")
        self.refunds.setdefault(key, {"of": of, "amount": self.charged[of]["amount"]})
        return JSONResponse(self.refunds[key], 201)

    def _shown(self, key: str) -> dict[str, Any]:
        charge = self.charged[key]
        return {"payment_id": charge["payment_id"], "amount": charge["amount"], "status": "captured"}

    # --- how it goes

    def _route(self, what: str, path: str, method: str) -> Route:
        handler: Handle = getattr(self, f"_{what}")

        async def handle(request: Request) -> Response:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                assert "cookie" not in request.headers
                answer = await self._handle(what, handler, request)
                answer.set_cookie("session", "whose?")
                return answer
            finally:
                self.at_once -= 1

        return Route(path, handle, methods=[method])

    async def _handle(self, what: str, handler: Handle, request: Request) -> Response:
        raw = await request.body()
        asked = Asked(
            what,
            request.method,
            request.url.path,
            request.headers.get("idempotency-key", ""),
            dict(request.headers),
            await request.json() if raw else None,
        )
        manner = self._script[what].popleft() if self._script[what] else ""
        answer = None if manner in ("", "late", *BEFORE) else await handler(request)
        async with self.arrived:
            self.asked.append(asked)
            self.arrived.notify_all()
        if manner == "late":  # the caller gives up; what it asked for is done all the same, later
            await self.released.wait()
        if manner in BEFORE:
            return BEFORE[manner]()
        if manner == "hang":
            await self.released.wait()
        if manner == "cut":
            CuttableProtocol.cut(request)
        if manner in AFTER:
            return AFTER[manner]()
        return answer if answer is not None else await handler(request)

    async def __aenter__(self) -> Self:
        app = Starlette(
            routes=[
                self._route("charge", "/v1/charges", "POST"),
                self._route("void", "/v1/charges/{key:path}/void", "POST"),
                self._route("refund", "/v1/charges/{key:path}/refunds", "POST"),
                self._route("find", "/v1/charges/{key:path}", "GET"),
            ]
        )
        config = uvicorn.Config(
            app,
            port=0,
            http=CuttableProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        if self._tls is not None:
            config.ssl_certfile = config.ssl_ca_certs = str(self._tls)
            config.ssl_cert_reqs = ssl.CERT_REQUIRED
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve())
        await self._server.up.wait()
        self.port: int = self._server.servers[0].sockets[0].getsockname()[1]
        self.base = f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.released.set()
        self._server.should_exit = True
        await self._serving


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status)


def _drip() -> Response:
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    return StreamingResponse(body(), 500)


def _huge() -> Response:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 65_536

    return StreamingResponse(body(), 201, media_type="application/json")


# Nothing is charged.
BEFORE: dict[str, Callable[[], Response]] = {
    "500": lambda: _error(500, "internal", f"broken; you sent {SECRET}"),
    "503 for a second": lambda: Response(status_code=503, headers={"retry-after": "1"}),
    "429 for a year": lambda: Response(status_code=429, headers={"retry-after": "31536000"}),
    "drip": _drip,
    "409": lambda: _error(409, "in_progress", "the first one is still at work"),
    "202": lambda: JSONResponse({}, 202),
    "pending": lambda: JSONResponse({"status": "pending"}),
    "declined": lambda: JSONResponse({"status": "declined"}),
    "redirect": lambda: Response(status_code=307, headers={"location": "/v1/elsewhere"}),
    "400": lambda: _error(400, "bad_amount", f"no such amount; you sent {SECRET}"),
    "a proxy's 404": lambda: Response("<html>not here</html>", 404, media_type="text/html"),
    "a proxy's 402": lambda: Response("<html>pay up</html>", 402, media_type="text/html"),
    "401": lambda: _error(401, "who", f"Bearer {SECRET} is nobody"),
}
# It is charged, and then this is said.
AFTER: dict[str, Callable[[], Response]] = {
    "huge": _huge,
    "no JSON": lambda: Response(b'{"payment_id": ', 201, media_type="application/json"),
    "twice": lambda: Response(b'{"payment_id": "a", "amount": 7, "amount": 700}', 201, media_type="application/json"),
    "wrong schema": lambda: JSONResponse({"payment_id": "ch_1", "amount": "7"}, 201),
    "empty": lambda: Response(status_code=201),
    "zipped": lambda: Response(gzip.compress(b"{}" * 1000), 201, headers={"content-encoding": "gzip"}),
    "500 after all": lambda: _error(500, "internal", "broken"),
}
