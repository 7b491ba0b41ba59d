"""The clinics' side: a server for the parts that are fetched, a folder for those that come as files, and a book of what was told them.

    GET /batches/{batch}/parts/{part}            CSV; the flaky part of a batch answers 503 a few times first
    PUT /batches/{batch}/runs/{run}/report       {"loaded": 41, "bad": [{"part": 0, "line": 3, "reason": "…"}]}; the same again is the same

It is no participant: it knows nothing of sagas, as the systems that data comes from never do.
"""

from __future__ import annotations

import asyncio

from pydantic import BaseModel, Field
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, Text, insert, select, update
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from saga import Store
from services.pipeline import files
from services.pipeline.clinics import FLAKY_TIMES, Delivery, deliveries
from services.pipeline.settings import Settings
from services.stage.example import database
from services.stage.files import write_whole
from services.stage.web import Problem, problem_response, read_body, serve
from topics.pipeline import BadRow

TABLES = MetaData()

# The list of what was damaged on purpose. No other service reads it; the audit does.
damage = Table(
    "damage",
    TABLES,
    Column("batch_id", String(40), primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("patient", Integer, nullable=False),
    Column("kind", String(20), nullable=False),
)

requests = Table(
    "requests",
    TABLES,
    Column("batch_id", String(40), primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("count", Integer, nullable=False),
)

reports = Table(
    "reports",
    TABLES,
    Column("batch_id", String(40), primary_key=True),
    Column("run", Integer, primary_key=True),
    Column("report", Text, nullable=False),  # as JSON
)


class Report(BaseModel):
    loaded: int = Field(ge=0)
    bad: tuple[BadRow, ...]


def deliver(made: list[Delivery], connection: Connection) -> None:
    """Put out the parts that come as files, and write down what is damaged; done again it changes nothing."""
    for delivery in made:
        for part in range(len(delivery.parts)):
            path, raw = files.delivered(delivery.batch_id, part), delivery.zipped(part)
            if delivery.by_file(part) and not path.exists():
                write_whole(path, lambda draft, raw=raw: draft.write_bytes(raw))  # type: ignore[misc]
    if connection.execute(select(damage).limit(1)).first() is None:
        rows = [{"batch_id": delivery.batch_id, **d._asdict()} for delivery in made for d in delivery.damage]
        connection.execute(insert(damage), rows)


def source_api(made: list[Delivery], store: Store) -> Starlette:
    """The clinics' HTTP API over these deliveries."""
    known = {delivery.batch_id: delivery for delivery in made}

    async def part(request: Request) -> Response:
        delivery, number = known.get(request.path_params["batch"]), request.path_params["part"]
        if delivery is None or number >= len(delivery.parts):
            raise Problem(404, "unknown", "there is no such part")
        seen = await store.run(lambda connection: _count(connection, delivery.batch_id, number))
        if number == delivery.flaky and seen <= FLAKY_TIMES:
            raise Problem(503, "down", "the clinic's system is down; try again later")
        return PlainTextResponse(delivery.text(number), media_type="text/csv")

    async def report(request: Request) -> Response:
        body = await read_body(request, Report)
        batch_id, run = request.path_params["batch"], request.path_params["run"]
        told = await store.run(lambda connection: _note(connection, batch_id, run, body.model_dump_json()))
        if told != body.model_dump_json():
            raise Problem(409, "conflict", f"the report of run {run} of {batch_id} said something else before")
        return JSONResponse({"status": "noted"})

    return Starlette(
        routes=[
            Route("/batches/{batch}/parts/{part:int}", part, methods=["GET"]),
            Route("/batches/{batch}/runs/{run:int}/report", report, methods=["PUT"]),
        ],
        exception_handlers={Problem: problem_response},
    )


async def run(stop: asyncio.Event) -> None:
    """Put out the deliveries, then serve until `stop` is set."""
    settings = Settings.read()
    made = deliveries(settings.batches, settings.seed)
    files.folder().mkdir(parents=True, exist_ok=True)
    store = Store(database("source"), tables=TABLES)
    try:
        await store.run(lambda connection: deliver(made, connection))
        await serve(source_api(made, store), settings.source, stop)
    finally:
        store.close()


def _count(connection: Connection, batch_id: str, part: int) -> int:
    """Count one more request for a part; how many there were."""
    this = (requests.c.batch_id == batch_id) & (requests.c.part == part)
    if connection.execute(update(requests).where(this).values(count=requests.c.count + 1)).rowcount == 0:
        connection.execute(insert(requests).values(batch_id=batch_id, part=part, count=1))
    return int(connection.execute(select(requests.c.count).where(this)).scalar_one())


def _note(connection: Connection, batch_id: str, run: int, report: str) -> str:
    """Write a report down if there is none yet; the one that stands."""
    this = (reports.c.batch_id == batch_id) & (reports.c.run == run)
    known = connection.execute(select(reports.c.report).where(this)).scalar()
    if known is None:
        connection.execute(insert(reports).values(batch_id=batch_id, run=run, report=report))
    return str(known or report)
