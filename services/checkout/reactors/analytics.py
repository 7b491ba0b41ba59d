"""Analytics: outcomes and revenue by window of time, in a table that survives its process, over HTTP.

The table is a Faust table: a dictionary whose every change is first a record of its changelog, a compacted topic that it is read back
from. Faust writes there in the background and acknowledges an event whether or not that write succeeded; a crash in between would
lose the row. So here a row is in the changelog before it is in the dictionary, and in the dictionary before its event is acknowledged.

    GET /numbers?window=60   all that this process knows, and the same by windows of so many seconds
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from saga.cloudevents import CloudEvent, iso_time
from saga.config import Config
from saga.log.base import TopicSpec
from saga.runtime.codec import EVENTS
from services.checkout.numbers import CHANGELOG, KEEP, TABLE, WINDOW, Row, by_window, count, decode_row, encode_row, row_of
from services.checkout.outcomes import outcome_of
from services.checkout.reactors.listen import listen, make_app, make_topics, run
from services.checkout.settings import SETTINGS
from services.checkout.web import Problem, problem_response, serve

NAME = "analytics"
MAX_WINDOWS = 2_000  # in one answer


class Numbers:
    """The table, and what is asked of it. A key is <partition>/<event id>: the rows of all partitions lie in one dictionary."""

    def __init__(self, app: Any, config: Config, partitions: int) -> None:
        self._app = app
        self._events = config.prefix + EVENTS
        self._table = app.Table(TABLE, partitions=partitions, key_type=bytes, value_type=bytes)
        self._swept: dict[int, int] = {}  # partition → the window in which old rows last were taken out

    async def react(self, event: CloudEvent, partition: int) -> None:
        """Keep an outcome's row. Raises Unreadable for what the coordinator did not write."""
        outcome = outcome_of(event)
        if outcome is None:
            return
        key, row = f"{partition}/{outcome.id}".encode(), row_of(outcome)
        if self._table.data.get(key) is None:
            await self._table.send_changelog(partition, key, encode_row(row))
            self._table.data[key] = encode_row(row)
        if self._swept.get(partition, 0) < row.window:
            self._swept[partition] = row.window
            await self._sweep(partition, row.at - KEEP)

    async def _sweep(self, partition: int, before: int) -> None:
        old = [key for key, row in self._rows() if int(key.split(b"/")[0]) == partition and row.at < before]
        for key in old:
            await self._table.send_changelog(partition, key, None)
            del self._table.data[key]

    def _rows(self) -> Iterator[tuple[bytes, Row]]:
        for key, raw in list(self._table.data.items()):
            yield key, decode_row(raw)

    @property
    def ready(self) -> bool:
        return bool(self._app.tables.recovery.completed.is_set() and not self._app.rebalancing)

    def mine(self) -> set[int]:
        """The partitions that this process has now; rows of others may still lie in its dictionary."""
        return {tp.partition for tp in self._app.consumer.assignment() if tp.topic == self._events}

    def rows(self) -> list[Row]:
        mine = self.mine()
        return [row for key, row in self._rows() if int(key.split(b"/")[0]) in mine]


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

    config, partitions = Config.read(), everything.partitions
    app = make_app(config, NAME)
    safe = {
        "cleanup.policy": "compact",
        "unclean.leader.election.enable": "false",
        "min.insync.replicas": "1" if config.dev else "2",
    }
    await make_topics(config, NAME, [TopicSpec(CHANGELOG, partitions, 1 if config.dev else 3, safe)])
    numbers = Numbers(app, config, partitions)
    listen(app, config, numbers.react)
    async with asyncio.TaskGroup() as parts:
        parts.create_task(run(app, stop))
        parts.create_task(serve(api(numbers), SETTINGS.analytics_http, stop))
