"""Analytics: outcomes and revenue by window of time, in a table that survives its process (`saga.reactor.table`), over HTTP.

GET /numbers?window=60   all that this process knows, and the same by windows of so many seconds
"""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from saga.cloudevents import CloudEvent, iso_time
from saga.config import Config
from saga.reactor import FaustReactor
from saga.runtime.codec import EVENTS
from services.checkout.numbers import KEEP, TABLE, WINDOW, Row, by_window, count, decode_row, encode_row, row_of
from services.checkout.outcomes import outcome_of
from services.checkout.settings import SETTINGS
from services.stage.web import Problem, problem_response, serve

NAME = "analytics"
MAX_WINDOWS = 2_000  # in one answer


class Numbers:
    """The table, and what is asked of it. A key is an event's id."""

    def __init__(self, reactor: FaustReactor) -> None:
        self._reactor = reactor
        self._table = reactor.table(TABLE)
        self._swept: dict[int, int] = {}  # partition → the window in which old rows last were taken out

    async def react(self, event: CloudEvent, partition: int) -> None:
        """Keep an outcome's row. Raises Unreadable for what the coordinator did not write."""
        outcome = outcome_of(event)
        if outcome is None:
            return
        row = row_of(outcome)
        if self._table.get(partition, outcome.id) is None:
            await self._table.put(partition, outcome.id, encode_row(row))
        if self._swept.get(partition, 0) < row.window:
            self._swept[partition] = row.window
            await self._sweep(partition, row.at - KEEP)

    async def _sweep(self, partition: int, before: int) -> None:
        for key, raw in list(self._table.rows({partition})):
            if decode_row(raw).at < before:
                await self._table.remove(partition, key)

    @property
    def ready(self) -> bool:
        return self._reactor.ready

    def mine(self) -> set[int]:
        return self._reactor.mine(EVENTS)

    def rows(self) -> list[Row]:
        return [decode_row(raw) for _, raw in self._table.rows(self.mine())]


def api(numbers: Numbers) -> Starlette:
    async def show(request: Request) -> Response:
        if not numbers.ready:
            raise Problem(503, "not-ready", "the table is being read back")
        length = _window(request.query_params.get("window", "60"))
        rows = numbers.rows()
        windows = by_window(rows, length)
        latest = list(windows.items())[-MAX_WINDOWS:]
        return JSONResponse(
            {
                "partitions": sorted(numbers.mine()),
                "total": count(rows).to_json(),
                "windows": [{"from": iso_time(begin), **counted.to_json()} for begin, counted in latest],
            }
        )

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[Route("/numbers", show, methods=["GET"]), Route("/healthz", health, methods=["GET"])],
        exception_handlers={Problem: problem_response},
    )


def _window(text: str) -> int:
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0
    if seconds == 0 or seconds * 1000 % WINDOW:
        raise Problem(400, "window", f"a window is a multiple of {WINDOW // 1000} seconds")
    return seconds * 1000


async def analyse(stop: asyncio.Event) -> None:
    """Work until `stop` is set. Raises SagaError or OSError if Kafka or the address cannot be had."""
    from services import app as everything  # here, since it imports every example

    reactor = FaustReactor(Config.read(), NAME, folder=SETTINGS.data, partitions=everything.partitions)
    numbers = Numbers(reactor)
    reactor.listen(EVENTS, numbers.react)
    async with asyncio.TaskGroup() as parts:
        parts.create_task(reactor.run(stop))
        parts.create_task(serve(api(numbers), SETTINGS.analytics_http, stop))
