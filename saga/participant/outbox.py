"""The outbox: events that were decided in a transaction and still have to reach the log.

A record cannot be written to a database and to Kafka at once: whichever comes first, a crash in between loses the other. So it is
written here, in the transaction that decided it, and published afterwards, at least once.

Replies need no row here. They stand in the inbox, and the offset of a command is committed after its reply was published: after a
crash in between the command is read again, found in the inbox, and answered from it. An event has nobody who would ask again.

Each row has an owner, the relay that publishes it: the one of the process that wrote it, or nobody's (a process without a relay).
Relays do not share rows while all is well, so they need no lock and do not wait for each other. Rows of an owner that may be gone
are published by others too, and deleted then, but never taken from it: if it lives after all, it publishes its next row at once,
and a row taken from it would come out behind that one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)

from saga.deadletter import MAX_RECORD
from saga.errors import Rejected
from saga.log.base import Headers, Record
from saga.participant.tables import METADATA, ROW_ID

table = Table(
    "saga_outbox",
    METADATA,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("owner", String(64)),
    Column("created", BigInteger, nullable=False),  # ms since 1970
    Column("topic", String(255), nullable=False),
    Column("partition", Integer),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("headers", LargeBinary, nullable=False),
    Index("saga_outbox_owner", "owner", "id"),
    sqlite_autoincrement=True,  # an id is never given again, so what is known of an id stays true
)


class Departure(NamedTuple):
    """A record on its way out. `partition`: where it should go if the topic has that many, else (None) to its key's home."""

    topic: str
    partition: int | None
    record: Record


class Waiting(NamedTuple):
    """A row of the outbox."""

    id: int
    created: int
    departure: Departure


def pack(headers: Headers) -> bytes:
    """Headers as bytes; ours are UTF-8 always."""
    return orjson.dumps([[name, raw.decode()] for name, raw in headers])


def unpack(packed: bytes) -> Headers:
    return tuple((name, text.encode()) for name, text in orjson.loads(packed))


def check(departure: Departure) -> None:
    """Raises Rejected for a record that Kafka would not take."""
    record = departure.record
    size = len(record.key or b"") + len(record.value or b"")
    for name, raw in record.headers:
        size += len(name) + len(raw)
    if size > MAX_RECORD:
        raise Rejected(f"a record for {departure.topic} has {size} bytes, more than the {MAX_RECORD} that may be published")


def put(connection: Connection, departures: Sequence[Departure], owner: str | None, now: int) -> None:
    """Add records, in order. Raises Rejected for one that Kafka would not take."""
    if departures:
        connection.execute(insert(table), [_row(departure, owner, now) for departure in departures])


def waiting(connection: Connection, owner: str, limit: int) -> list[Waiting]:
    """The oldest rows of this owner, in order."""
    return _rows(connection, table.c.owner == owner, limit)


def others(connection: Connection, owner: str, before: int, limit: int) -> list[Waiting]:
    """The oldest rows of other owners that were written before `before` (ms since 1970), in order."""
    return _rows(connection, (table.c.owner != owner) & (table.c.created < before), limit)


def nobodys(connection: Connection) -> bool:
    """Whether there are rows without an owner."""
    return connection.execute(select(table.c.id).where(table.c.owner.is_(None)).limit(1)).first() is not None


def claim(connection: Connection, owner: str) -> None:
    """Become the owner of the rows without one."""
    connection.execute(update(table).where(table.c.owner.is_(None)).values(owner=owner))


def remove(connection: Connection, ids: Collection[int]) -> None:
    """Delete rows that were acknowledged."""
    if ids:
        connection.execute(delete(table).where(table.c.id.in_(ids)))


def _rows(connection: Connection, which: ColumnElement[bool], limit: int) -> list[Waiting]:
    rows = connection.execute(select(table).where(which).order_by(table.c.id).limit(limit))
    return [Waiting(r.id, r.created, Departure(r.topic, r.partition, Record(r.key, r.value, unpack(r.headers)))) for r in rows]


def _row(departure: Departure, owner: str | None, now: int) -> dict[str, Any]:
    check(departure)
    record = departure.record
    return {
        "owner": owner,
        "created": now,
        "topic": departure.topic,
        "partition": departure.partition,
        "key": record.key,
        "value": record.value,
        "headers": pack(record.headers),
    }
