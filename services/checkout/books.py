"""All that the checkout left behind, read once: every database, the mail drop, the journal, and what the world was told.

Nothing is written, and nothing is taken from what a service says of itself over HTTP: an audit looks at the books.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import SMTP
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Table, create_engine, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from saga.cloudevents import parse
from saga.engine.state import Instance
from saga.errors import Unavailable
from saga.log.base import Log, TopicPartition
from saga.ops.look import Journals
from saga.runtime.codec import EVENTS
from services.checkout import inventory, mail, numbers, order, payment, shipping
from services.checkout.outcomes import OUTCOMES
from services.checkout.settings import Settings

Row = Any  # a row of a table, its columns as attributes


@dataclass
class Books:
    orders: list[Row] = field(default_factory=list)
    lines: list[Row] = field(default_factory=list)
    history: list[Row] = field(default_factory=list)
    entries: list[Row] = field(default_factory=list)
    stock: list[Row] = field(default_factory=list)
    movements: list[Row] = field(default_factory=list)
    shipments: list[Row] = field(default_factory=list)
    mails: list[Row] = field(default_factory=list)
    charges: list[sqlite3.Row] = field(default_factory=list)
    refunds: list[sqlite3.Row] = field(default_factory=list)
    bookings: list[sqlite3.Row] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)  # name in the mail drop → the event it was written for
    counted: dict[str, numbers.Row] = field(default_factory=dict)  # the table of analytics, by the event's id
    instances: list[Instance] = field(default_factory=list)
    told: dict[str, set[str]] = field(default_factory=dict)  # instance → the outcomes told on saga.events


async def read_books(settings: Settings, log: Log, partitions: int, *, reactors: bool = True) -> Books:
    """Read everything; without reactors, what they would have written is not looked for.

    Raises Unavailable if a database or the log is not there, Corrupt if the journal contradicts itself.
    """
    books = read_databases(settings, reactors=reactors)
    if reactors:
        books.counted = await read_counted(log, partitions)
    books.instances = await read_instances(log)
    books.told = await read_outcomes(log, partitions)
    return books


def read_databases(settings: Settings, *, reactors: bool = True) -> Books:
    """The services' databases, the gateway's, the carriers', and the mail drop. Raises Unavailable if one is not there."""
    books = Books()
    tables: dict[str, dict[str, Table]] = {
        "order": {"orders": order.orders, "lines": order.lines, "history": order.history},
        "payment": {"entries": payment.entries},
        "inventory": {"stock": inventory.stock, "movements": inventory.movements},
        "shipping": {"shipments": shipping.shipments},
    }
    if reactors:
        tables["notification"] = {"mails": mail.mails}
    for service, wanted in tables.items():
        engine = _engine(settings.database(service))
        try:
            with engine.connect() as connection:
                for name, table in wanted.items():
                    setattr(books, name, list(connection.execute(select(table))))
        except SQLAlchemyError as error:
            raise Unavailable(f"the database of the {service} service cannot be read: {error}") from error
        finally:
            engine.dispose()
    books.charges, books.refunds = _theirs(settings.gateway_ledger, "charges", "refunds")
    (books.bookings,) = _theirs(settings.carriers_books, "bookings")
    books.files = read_mail(settings.mail_drop) if reactors else {}
    return books


async def read_instances(log: Log) -> list[Instance]:
    """Every instance that the journal knows, folded from its very beginning."""
    journals, found = Journals(log), list[Instance]()
    for partition in await journals.partitions():
        found += (await journals.fold(partition, whole=True)).states()
    return found


async def read_outcomes(log: Log, partitions: int) -> dict[str, set[str]]:
    """What the world was told: the outcomes on saga.events, by instance. The same may be told again, under the same id."""
    told: dict[str, set[str]] = {}
    numbers = [TopicPartition(EVENTS, number) for number in range(partitions)]
    for partition, held in (await log.bounds(numbers, committed=True)).items():
        async for lump in log.read(partition, held.start, held.end):
            for event in map(parse, lump):
                if event.type in OUTCOMES:
                    told.setdefault(event.data["instance"], set()).add(event.type)
    return told


async def read_counted(log: Log, partitions: int) -> dict[str, numbers.Row]:
    """The table of analytics, read from its changelog as Faust reads it: the last value of a key counts, and none removes it."""
    rows: dict[str, numbers.Row] = {}
    every = [TopicPartition(numbers.CHANGELOG, number) for number in range(partitions)]
    for partition, held in (await log.bounds(every)).items():
        async for lump in log.read(partition, held.start, held.end):
            for record in lump:
                key = (record.key or b"").decode()  # <partition>/<event's id>
                if record.value is None:
                    rows.pop(key, None)
                else:
                    rows[key] = numbers.decode_row(record.value)
    found: dict[str, numbers.Row] = {}
    for key, row in rows.items():
        event_id = key.split("/", 1)[1]
        found[key if event_id in found else event_id] = (
            row  # in a second partition it is counted twice: under a name that nobody has
        )
    return found


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        raise Unavailable(f"there is no database {parsed.database}")
    return create_engine(url)


def _theirs(file: Path, *tables: str) -> list[list[sqlite3.Row]]:
    """Tables of a database that is not ours."""
    if not file.is_file():
        raise Unavailable(f"there is no database {file}")
    connection = sqlite3.connect(file)
    connection.row_factory = sqlite3.Row
    try:
        return [list(connection.execute(f"SELECT * FROM {table}")) for table in tables]
    finally:
        connection.close()


def read_mail(folder: Path) -> dict[str, str]:
    """The mail drop: file name → the id of the event it was written for."""
    found = {}
    for file in sorted(folder.glob("*.eml")) if folder.is_dir() else ():
        message = message_from_bytes(file.read_bytes(), policy=SMTP)
        # A long header was folded into lines; an id has no blanks, so what is between its parts was not in it.
        found[file.name] = "".join(str(message["X-Event"] or "").split())
    return found
