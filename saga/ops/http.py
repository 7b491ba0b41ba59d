"""What a process tells over HTTP: /metrics for Prometheus, /healthz and /readyz for whoever restarts and routes.

/healthz  200 as long as the process does its work: its loop turns, and no partition stopped
/readyz   200 when it is in the group, and every partition it was given runs; of participants, when each takes commands
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from typing import Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from saga.errors import Misconfigured
from saga.metrics import CONTENT_TYPE

Answer = Callable[[Request], Awaitable[Response]]


class Watched(Protocol):
    """What is asked of a worker."""

    @property
    def ready(self) -> bool: ...

    def status(self) -> dict[int, str]: ...


class Taking(Protocol):
    """What is asked of a participant's runner."""

    @property
    def name(self) -> str: ...

    @property
    def ready(self) -> bool: ...


class Counted(Protocol):
    """What /metrics shows."""

    def text(self) -> bytes: ...


def application(worker: Watched, metrics: Counted) -> Starlette:
    async def healthz(_: Request) -> Response:
        status = worker.status()
        stopped = {str(number): text for number, text in status.items() if text.startswith("stopped")}
        return JSONResponse({"stopped": stopped}, status_code=503 if stopped else 200)

    async def readyz(_: Request) -> Response:
        partitions = {str(number): text for number, text in worker.status().items()}
        return JSONResponse({"ready": worker.ready, "partitions": partitions}, status_code=200 if worker.ready else 503)

    return _application(healthz, readyz, metrics)


def participant_application(runners: Sequence[Taking], metrics: Counted) -> Starlette:
    """The same of a process that runs participants: one that can no longer work ends, so as long as it answers it is healthy."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"stopped": {}})

    async def readyz(_: Request) -> Response:
        participants = {runner.name: runner.ready for runner in runners}
        ready = all(participants.values())
        return JSONResponse({"ready": ready, "participants": participants}, status_code=200 if ready else 503)

    return _application(healthz, readyz, metrics)


def _application(healthz: Answer, readyz: Answer, metrics: Counted) -> Starlette:
    async def show_metrics(_: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", show_metrics)])


@contextlib.asynccontextmanager
async def serving(app: Starlette, address: str, told: Callable[[str], None], setting: str = "SAGA_HTTP") -> AsyncIterator[None]:
    """Serve while the body runs. `address` is host:port, port 0 takes a free one; `told` learns the true address.

    Raises Misconfigured if the address, which `setting` gave, is not one, or is taken.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise Misconfigured(f"{setting} must be host:port, not {address!r}")
    try:
        # By ourselves: uvicorn logs in a line of its own that it cannot, and leaves.
        listening = socket.create_server((host.strip("[]"), int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        why = str(error).partition(" (while")[0]
        raise Misconfigured(f"cannot listen on {address}: {why}; {setting} names another address, port 0 takes any") from None
    server = _Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    serve = asyncio.create_task(server.serve(sockets=[listening]), name="http")
    try:
        while not server.started:
            done, _ = await asyncio.wait([serve], timeout=0.01)
            if done:
                raise Misconfigured(f"the server on {address} ended as it began: {serve.exception()!r}")
        host, bound = listening.getsockname()[:2]
        told(f"{host}:{bound}")
        yield
    finally:
        server.should_exit = True
        await asyncio.wait([serve])


class _Server(uvicorn.Server):
    """A server that leaves the signals to its process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
