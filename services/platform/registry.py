"""What should run, and what happened to it: the host's tables.

    processes   one row for each process that should run, with what is known of it
    releases    planned → current → retired, or planned → dropped
    history     each start, death and stop; nothing is ever removed from it

A row of `processes` is what is wanted. The supervisor makes it true, and is the only one who starts or ends anything:

    wanted ──▶ up ──▶ down ──▶ again ──▶ up
       │                ▲         │
       ▼                └─────────┘
     unfit
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import JSON, BigInteger, Column, Connection, Integer, MetaData, Row, String, Table, delete, func, insert, select
from sqlalchemy import update as change

from topics.platform import ProcessDied

TABLES = MetaData()
LATELY_MS = 60_000  # deaths within this make the next restart wait longer

processes = Table(
    "processes",
    TABLES,
    Column("version", String(100), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("state", String(10), nullable=False),
    Column("settings", JSON, nullable=False),
    Column("pid", Integer, nullable=False, default=0),
    Column("reason", String(1000), nullable=False, default=""),
)
releases = Table(
    "releases",
    TABLES,
    Column("version", String(100), primary_key=True),
    Column("state", String(10), nullable=False),
)
history = Table(
    "history",
    TABLES,
    Column("n", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("version", String(100), nullable=False),
    Column("name", String(100), nullable=False),
    Column("what", String(10), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("reason", String(1000), nullable=False),
)


class State(StrEnum):
    WANTED = "wanted"  # is being started
    UP = "up"
    DOWN = "down"  # died; whoever starts it again decides when
    AGAIN = "again"  # is being started after a death
    UNFIT = "unfit"  # could not be started


class Release(StrEnum):
    PLANNED = "planned"
    CURRENT = "current"
    RETIRED = "retired"
    DROPPED = "dropped"


class What(StrEnum):
    STARTED = "started"
    DIED = "died"
    STOPPED = "stopped"


class Id(NamedTuple):
    """A process of the platform: not of the operating system, where it may be one after the other."""

    version: str
    name: str


def everything(connection: Connection) -> list[Row[Any]]:
    return list(connection.execute(select(processes).order_by(processes.c.version, processes.c.name)))


def of(connection: Connection, id: Id) -> Row[Any] | None:
    return connection.execute(select(processes).where(*_is(id))).first()


def release_state(connection: Connection, version: str) -> str | None:
    return connection.execute(select(releases.c.state).where(releases.c.version == version)).scalar()


def current(connection: Connection) -> str:
    return connection.execute(select(releases.c.version).where(releases.c.state == Release.CURRENT)).scalar() or ""


def workers(connection: Connection, version: str) -> tuple[str, ...]:
    named = select(processes.c.name).where(processes.c.version == version, processes.c.name.like("worker-%"))
    return tuple(sorted(connection.execute(named).scalars()))


def want(connection: Connection, id: Id, settings: dict[str, str]) -> str:
    """Have a process run; says why not if nothing of its version is started."""
    if no := _nothing_of(connection, id.version):
        return no
    row = of(connection, id)
    if row is None:
        fresh = {"version": id.version, "name": id.name, "state": State.WANTED, "settings": settings, "pid": 0, "reason": ""}
        connection.execute(insert(processes), fresh)
    elif row.state in (State.UNFIT, State.DOWN):
        move(connection, id, State(row.state), State.WANTED)
    return ""


def again(connection: Connection, id: Id) -> str:
    """Have a process started again that died; says why not if it is not wanted any more, or nothing of its version is started."""
    if of(connection, id) is None:
        return "it was stopped on purpose"
    if no := _nothing_of(connection, id.version):
        return no
    move(connection, id, State.DOWN, State.AGAIN)
    return ""


def _nothing_of(connection: Connection, version: str) -> str:
    """Why nothing of a version is started; "" if it is."""
    state = release_state(connection, version)
    return "" if state in (Release.PLANNED, Release.CURRENT) else f"{version} is {state or 'not planned'}"


def unwant(connection: Connection, id: Id) -> None:
    row = of(connection, id)
    if row is not None:
        connection.execute(delete(processes).where(*_is(id)))
        _note(connection, id, What.STOPPED, row.pid, "")


def unwant_unless_up(connection: Connection, id: Id) -> Row[Any] | None:
    """Give up a process that is not up by now; what was known of it."""
    row = of(connection, id)
    if row is not None and row.state != State.UP:
        unwant(connection, id)
    return row


def retire(connection: Connection, version: str, becomes: Release) -> None:
    """Have nothing of a version run any more."""
    set_release(connection, version, becomes)
    for row in everything(connection):
        if row.version == version:
            unwant(connection, Id(row.version, row.name))


def set_release(connection: Connection, version: str, state: Release) -> None:
    if release_state(connection, version) is None:
        connection.execute(insert(releases), {"version": version, "state": state})
    connection.execute(change(releases).where(releases.c.version == version).values(state=state))


def move(connection: Connection, id: Id, before: State, after: State, *, pid: int = 0, reason: str = "") -> bool:
    """Say what became of a process; False if it is not in the state `before` any more, for then somebody else has decided."""
    values = {"state": after, "pid": pid, "reason": reason[:1000]}
    moved = connection.execute(change(processes).where(*_is(id), processes.c.state == before).values(**values)).rowcount == 1
    if moved and after is State.UP:
        _note(connection, id, What.STARTED, pid, "")
    return moved


def died(connection: Connection, id: Id, before: State, pid: int, reason: str) -> ProcessDied | None:
    """A process that should run does not; what is to be told of it."""
    if not move(connection, id, before, State.DOWN, reason=reason):
        return None
    at = _note(connection, id, What.DIED, pid, reason)
    deaths = select(func.count()).where(history.c.what == What.DIED, history.c.version == id.version, history.c.name == id.name)
    return ProcessDied(
        name=id.name,
        version=id.version,
        death=connection.execute(deaths).scalar_one(),
        lately=connection.execute(deaths.where(history.c.at > at - LATELY_MS)).scalar_one(),
        at=datetime.fromtimestamp(at / 1000, UTC),
        reason=reason,
    )


def _note(connection: Connection, id: Id, what: What, pid: int, reason: str) -> int:
    at = time.time_ns() // 1_000_000
    row = {"at": at, "version": id.version, "name": id.name, "what": what, "pid": pid, "reason": reason[:1000]}
    connection.execute(insert(history), row)
    return at


def _is(id: Id) -> tuple[Any, Any]:
    return processes.c.version == id.version, processes.c.name == id.name
