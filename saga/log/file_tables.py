"""The tables of a file log and what is done to records in them: plain functions on an SQLite connection.

Each runs within a transaction of its caller's, and each that writes looks first: one that raises has written nothing. A record's
row id is its partition's id and its offset in one number, so a partition is one stretch of one B-tree, in order, without an index.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Collection, Iterable, Sequence

from saga.errors import Corrupt, InputsLost, Misconfigured, Rejected, Unavailable
from saga.log.base import LATEST, Appended, Bounds, Headers, Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.topic_settings import DEFAULTS, batch_size, check_spec

VERSION = 1  # of the tables, as PRAGMA user_version
_SHIFT = 40  # bits for the offset: a million records a second for twelve days; the ids of partitions have the other 23
_LUMP_BYTES = 4 * 1024 * 1024  # of one answer to a reader: the largest batch of a journal

_SCHEMA = """
CREATE TABLE topics (name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, config TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    number INTEGER NOT NULL,
    first INTEGER NOT NULL DEFAULT 0,   -- the lowest offset it holds
    next INTEGER NOT NULL DEFAULT 0,    -- the offset after the last
    time INTEGER NOT NULL DEFAULT 0,    -- of the last append, ms since 1970
    most INTEGER NOT NULL,              -- bytes in a batch
    UNIQUE (topic, number)
);
CREATE TABLE records (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, key BLOB, value BLOB, headers BLOB);
CREATE TABLE groups (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    topic TEXT NOT NULL,
    generation INTEGER NOT NULL DEFAULT 0,
    closes REAL,                        -- when the round under way ends at the latest; NULL where there is none
    UNIQUE (name, topic)
);
CREATE TABLE members (
    group_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    session REAL NOT NULL,              -- seconds
    expires REAL NOT NULL,
    joining INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    first INTEGER NOT NULL,             -- its partition numbers: first ≤ number < first + count
    count INTEGER NOT NULL,
    PRIMARY KEY (group_id, name)
) WITHOUT ROWID;
CREATE TABLE offsets (
    group_name TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    PRIMARY KEY (group_name, topic, partition)
) WITHOUT ROWID;
"""


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables where there are none. Raises Misconfigured if they were made by another version of this package."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found == 0:
        for statement in _SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={VERSION}")
    elif found != VERSION:
        raise Misconfigured(f"the file log has tables of version {found}, this program knows version {VERSION}")


# --- topics -------------------------------------------------------------------------------------------------------------------------


def create(connection: sqlite3.Connection, topics: Sequence[TopicSpec]) -> None:
    """Create those that do not exist. Raises Misconfigured for what Kafka would refuse, and for more than one replica."""
    for topic in topics:
        check_spec(topic)
        if topic.replication != 1:
            raise Misconfigured(f"{topic.name}: a file log is on one machine and keeps 1 copy, not {topic.replication}")
        if topic.config.get("cleanup.policy", "delete") != "delete":
            raise Misconfigured(f"{topic.name}: a file log does not compact; cleanup.policy must be delete")
    for topic in topics:
        config = {**DEFAULTS, **topic.config}
        row = (topic.name, topic.partitions, json.dumps(config))
        if connection.execute("INSERT INTO topics VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row).rowcount:
            numbers = [(topic.name, number, int(config["max.message.bytes"])) for number in range(topic.partitions)]
            connection.executemany("INSERT INTO partitions (topic, number, most) VALUES (?, ?, ?)", numbers)


def describe(connection: sqlite3.Connection, topics: Collection[str]) -> list[TopicSpec]:
    rows = (connection.execute("SELECT name, partitions, config FROM topics WHERE name = ?", (name,)).fetchone() for name in topics)
    return [TopicSpec(row[0], row[1], 1, json.loads(row[2])) for row in rows if row is not None]


def find(connection: sqlite3.Connection, partition: TopicPartition) -> int:
    """The id of a partition, for ever the same. Raises Unavailable if there is none."""
    row = connection.execute("SELECT id FROM partitions WHERE topic = ? AND number = ?", partition).fetchone()
    if row is None:
        raise Unavailable(f"{partition} does not exist")
    return int(row[0])


# --- writing ------------------------------------------------------------------------------------------------------------------------


def append(
    connection: sqlite3.Connection, to: TopicPartition, records: Sequence[Record], now: int, *, whole: bool
) -> tuple[int, Appended]:
    """Put records at the end; the partition's id, and where they stand. Time never goes back within a partition.

    Raises Unavailable if there is no such partition, Rejected if the `whole` batch, or else a single record, is too large.
    """
    row = connection.execute("SELECT id, next, time, most FROM partitions WHERE topic = ? AND number = ?", to).fetchone()
    if row is None:
        raise Unavailable(f"{to} does not exist")
    known, base, last, most = row
    if (size := batch_size(records) if whole else max(batch_size([each]) for each in records)) > most:
        raise Rejected(f"{to}: a batch of {size} bytes is over max.message.bytes={most}")
    time = max(now, last)
    first = known << _SHIFT | base
    rows = [(first + i, time, each.key, each.value, _pack(each.headers)) for i, each in enumerate(records)]
    connection.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", rows)
    connection.execute("UPDATE partitions SET next = ?, time = ? WHERE id = ?", (base + len(rows), time, known))
    return known, Appended(base, time)


def raise_start(connection: sqlite3.Connection, partition: TopicPartition, before: int) -> None:
    """From now on nothing below `before` is held; `sweep` takes it away. Raises Rejected if that is beyond the end."""
    known = find(connection, partition)
    end = _bounds(connection, known).end
    if before > end:
        raise Rejected(f"{partition}: cannot trim before {before}, it ends at {end}")
    connection.execute("UPDATE partitions SET first = max(first, ?) WHERE id = ?", (before, known))


def sweep(connection: sqlite3.Connection, partition: TopicPartition, most: int) -> bool:
    """Delete up to `most` rows below the partition's start; whether there may be more."""
    known = find(connection, partition)
    limit = known << _SHIFT | _bounds(connection, known).start
    lowest = connection.execute("SELECT min(id) FROM records WHERE id >= ? AND id < ?", (known << _SHIFT, limit)).fetchone()[0]
    if lowest is None:
        return False
    connection.execute("DELETE FROM records WHERE id >= ? AND id < ?", (lowest, min(lowest + most, limit)))
    return int(lowest) + most < limit


# --- reading ------------------------------------------------------------------------------------------------------------------------


def _bounds(connection: sqlite3.Connection, known: int) -> Bounds:
    row = connection.execute("SELECT first, next FROM partitions WHERE id = ?", (known,)).fetchone()
    if row is None:
        raise Corrupt(f"the file log has lost its partition with id {known}; was the file replaced?")
    return Bounds(*row)


def bounds(connection: sqlite3.Connection, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]:
    return {each: _bounds(connection, find(connection, each)) for each in partitions}


def offset_at(connection: sqlite3.Connection, partition: TopicPartition, timestamp: int) -> int:
    """By halving: offsets have no gaps, and time does not go back."""
    known = find(connection, partition)
    low, high = _bounds(connection, known)
    if timestamp == LATEST:
        return high
    while low < high:
        middle = (low + high) // 2
        (time,) = connection.execute("SELECT time FROM records WHERE id = ?", (known << _SHIFT | middle,)).fetchone()
        low, high = (low, middle) if time >= timestamp else (middle + 1, high)
    return low


def lump(connection: sqlite3.Connection, partition: TopicPartition, start: int, end: int) -> list[StoredRecord]:
    """Records from `start` on, at least one, up to a lump's size or `end`. Raises Corrupt if not all up to `end` are held."""
    known = find(connection, partition)
    held = _bounds(connection, known)
    if start < held.start or end > held.end:
        raise Corrupt(f"{partition}: offsets {start} to {end} were asked for, but it holds {held.start} to {held.end}")
    return _records(connection, partition, known, start, end)


def take(
    connection: sqlite3.Connection, wanted: Sequence[tuple[TopicPartition, int, int]], limit: int
) -> dict[TopicPartition, list[StoredRecord]]:
    """What there is at these positions (partition, its id, offset), up to `limit` records in all.

    Raises InputsLost where a position lies outside what the partition holds.
    """
    marks = ", ".join("?" * len(wanted))
    rows = connection.execute(f"SELECT id, first, next FROM partitions WHERE id IN ({marks})", [known for _, known, _ in wanted])
    held = {row[0]: Bounds(row[1], row[2]) for row in rows}
    found: dict[TopicPartition, list[StoredRecord]] = {}
    for partition, known, position in wanted:
        start, end = held[known]
        if not start <= position <= end:
            raise InputsLost(f"{partition}: position {position} is outside what it holds, {start} to {end}")
        if position < end and limit > 0:
            found[partition] = _records(connection, partition, known, position, min(end, position + limit))
            limit -= len(found[partition])
    return found


def outdated(connection: sqlite3.Connection, now: int) -> list[tuple[TopicPartition, int]]:
    """Partitions with records that are older than their topic's retention.ms, and the offset to trim them to."""
    found = []
    for name, config in connection.execute("SELECT name, config FROM topics").fetchall():
        kept = int(json.loads(config)["retention.ms"])
        if kept < 0:
            continue
        for known, number, start, end in connection.execute(
            "SELECT id, number, first, next FROM partitions WHERE topic = ? AND first < next", (name,)
        ).fetchall():
            (oldest,) = connection.execute("SELECT time FROM records WHERE id = ?", (known << _SHIFT | start,)).fetchone()
            if oldest < now - kept:
                partition = TopicPartition(name, number)
                found.append((partition, min(offset_at(connection, partition, now - kept), end)))
    return found


def _records(connection: sqlite3.Connection, at: TopicPartition, known: int, start: int, end: int) -> list[StoredRecord]:
    base = known << _SHIFT
    cursor = connection.execute(
        "SELECT id, time, key, value, headers FROM records WHERE id >= ? AND id < ? ORDER BY id", (base + start, base + end)
    )
    found: list[StoredRecord] = []
    size, expected = 0, start
    for number, time, key, value, headers in cursor:
        if number - base != expected:
            raise Corrupt(f"{at}: the record at {expected} is missing, the next one is {number - base}")
        found.append(StoredRecord(at.topic, at.partition, expected, time, key, value, _unpack(headers)))
        expected += 1
        size += len(key or b"") + len(value or b"") + len(headers or b"")
        if size >= _LUMP_BYTES:
            break
    cursor.close()
    if not found:
        raise Corrupt(f"{at}: the records from {start} to {end} are missing")
    return found


# --- headers ------------------------------------------------------------------------------------------------------------------------


def _pack(headers: Headers) -> bytes | None:
    """Count, the lengths of all names and values, then names and values themselves."""
    if not headers:
        return None
    parts = [part for name, value in headers for part in (name.encode(), value)]
    return struct.pack(f"<I{len(parts)}I", len(parts), *map(len, parts)) + b"".join(parts)


def _unpack(packed: bytes | None) -> Headers:
    if not packed:
        return ()
    (count,) = struct.unpack_from("<I", packed)
    at = 4 + 4 * count
    parts = []
    for length in struct.unpack_from(f"<{count}I", packed, 4):
        parts.append(packed[at : at + length])
        at += length
    return tuple((parts[i].decode(), parts[i + 1]) for i in range(0, count, 2))
