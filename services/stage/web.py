"""What the HTTP servers here have in common: a bounded body, errors that say what is wrong, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from typing import Any, TypeVar

import uvicorn
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from saga.cloudevents import parse_json
from saga.errors import Unreadable
from services.checkout.settings import host_and_port

MAX_BODY = 64 * 1024  # bytes; an order of a hundred lines has some ten thousand
BODY_SECONDS = 10.0  # a sender that takes longer is stuck, or means harm
STOP_SECONDS = 5  # what is being answered may take so long when the process stops

M = TypeVar("M", bound=BaseModel)


class Problem(Exception):
    """An answer that is no success: HTTP status, a word for programs, and a sentence (or a list of them) for people."""

    def __init__(self, status: int, error: str, detail: Any) -> None:
        super().__init__(status, error, detail)
        self.status = status
        self.error = error
        self.detail = detail


async def problem_response(_: Request, problem: Exception) -> JSONResponse:
    """For Starlette's exception_handlers."""
    assert isinstance(problem, Problem)
    return JSONResponse({"error": problem.error, "detail": problem.detail}, problem.status)


async def read_body(request: Request, model: type[M]) -> M:
    """The request's JSON body as a model. Raises Problem: 400, 408, 413, 415 or 422."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "content-type", "send application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "content-encoding", "send it as it is, not compressed")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = await _limited(request)
    except TimeoutError:
        raise Problem(408, "slow-body", f"the body was not there after {BODY_SECONDS:g} s") from None
    except ClientDisconnect:
        raise Problem(400, "cut-off", "the connection ended before the body did") from None
    try:
        return model.model_validate(parse_json(raw))
    except Unreadable as error:
        raise Problem(400, error.reason, error.detail) from None
    except ValidationError as error:
        # Where and what, without the values: they may be private, and they came from the sender anyway.
        wrong = [{"at": ".".join(map(str, e["loc"])), "what": e["msg"]} for e in error.errors(include_url=False)[:20]]
        raise Problem(422, "schema", wrong) from None


async def _limited(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise Problem(413, "too-large", f"the body has more than {MAX_BODY} bytes")
    return bytes(body)


class _Server(uvicorn.Server):
    """A server that leaves the signals to its process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(app: ASGIApp, address: str, stop: asyncio.Event, *, protocol: type[asyncio.Protocol] | None = None) -> None:
    """Serve until `stop` is set, then finish what is being answered. Raises OSError if the address cannot be had."""
    host, port = host_and_port(address)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol or "h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = _Server(config)

    async def end() -> None:
        await stop.wait()
        server.should_exit = True

    ending = asyncio.create_task(end())
    try:
        await server.serve()
    except SystemExit:  # uvicorn's way to say that it could not bind
        raise OSError(f"nothing can listen at {address}; its log line above says why") from None
    finally:
        ending.cancel()
    if not stop.is_set():
        raise OSError(f"the server at {address} ended by itself")
