"""Insights: how many customers change to which plan, by window of time, in a Faust table; on a page of its own.

    GET /          the page
    GET /changes   the same as JSON

A change is in the table before insights says that it is counted, and that is on the log before what was heard is acknowledged. So a
crash at any point leads to the same row and to an event with the same id.
"""

from __future__ import annotations

import asyncio
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from saga.config import Config
from saga.reactor import CloudEvent, FaustReactor, heard, iso_time
from services.customer.counts import REACTOR, TABLE, Row, by_plan, by_window
from services.stage.example import data_folder
from services.stage.web import serve
from topics.customer import ChangeCounted, ChangeUncounted, ChangeWithdrawn, PlanChanged

HEARS = "customer.events"
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2"><title>Changes of plan</title>
<style>body {{ font: 1rem system-ui; margin: 2rem }} td, th {{ padding: .2rem 1rem; text-align: right }}</style>
<h1>Changes of plan that stand</h1><table><tr><th>from<th>plans</tr>{rows}</table>"""


class Insights:
    """The table, what goes into it, and what it shows."""

    def __init__(self, reactor: FaustReactor) -> None:
        self._reactor = reactor
        self._table = reactor.table(TABLE)

    async def on_changed(self, event: PlanChanged, came: CloudEvent, partition: int) -> None:
        there = self._table.get(partition, event.change_id)
        if there is None:
            row = Row(int(event.at.timestamp()), event.plan, True)
            await self._table.put(partition, event.change_id, row.encode())
        elif not Row.decode(there).stands:
            return
        await self._reactor.say(ChangeCounted(change_id=event.change_id), id=f"{event.change_id}:counted", cause=came)

    async def on_withdrawn(self, event: ChangeWithdrawn, came: CloudEvent, partition: int) -> None:
        there = self._table.get(partition, event.change_id)
        row = Row(int(event.at.timestamp()), event.plan, False) if there is None else Row.decode(there)._replace(stands=False)
        if there != row.encode():
            await self._table.put(partition, event.change_id, row.encode())
        await self._reactor.say(ChangeUncounted(change_id=event.change_id), id=f"{event.change_id}:uncounted", cause=came)

    def rows(self) -> list[Row]:
        return [Row.decode(raw) for _, raw in self._table.rows(self._reactor.mine(HEARS))]

    def pages(self) -> Starlette:
        async def numbers(_: Request) -> Response:
            if not self._reactor.ready:
                return JSONResponse({"error": "not-ready"}, 503)
            rows = self.rows()
            windows = [{"from": iso_time(begin * 1000), **plans} for begin, plans in by_window(rows).items()]
            heard_of = len(rows)
            return JSONResponse({"heard": heard_of, "total": by_plan(rows), "windows": windows})

        async def page(_: Request) -> Response:
            lines = [
                f"<tr><td>{iso_time(begin * 1000)[11:19]}<td>{', '.join(f'{count} {plan}' for plan, count in plans.items())}</tr>"
                for begin, plans in by_window(self.rows()).items()
            ]
            return HTMLResponse(PAGE.format(rows="".join(lines)))

        return Starlette(routes=[Route("/", page), Route("/changes", numbers)])


async def run(stop: asyncio.Event) -> None:
    """Work until `stop` is set. Raises SagaError or OSError if Kafka or the address cannot be had."""
    from services.customer import app  # here, since it imports this package's services

    reactor = FaustReactor(Config.read(), REACTOR, folder=data_folder(), partitions=app.partitions)
    insights = Insights(reactor)
    reactor.listen(HEARS, heard({PlanChanged: insights.on_changed, ChangeWithdrawn: insights.on_withdrawn}))
    async with asyncio.TaskGroup() as parts:
        parts.create_task(reactor.run(stop))
        parts.create_task(serve(insights.pages(), os.environ.get("EXAMPLE_INSIGHTS_HTTP") or "127.0.0.1:8083", stop))
