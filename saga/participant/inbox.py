"""The inbox: what became of each command, so that each takes effect once however often it comes.

The row of an execute command is its subject's whole story; it is the thing that execute, verify and compensate agree on:

    (absent)   never heard of, or never got as far as a commit
    BEGUN      calls to the outside began; nobody here knows how they ended
    CLOSING    as BEGUN, but its compensation began calls too: the execute may not begin again
    DONE       executed; the reply is kept
    REFUSED    the business "no"; the reply is kept
    NOTHING    closed for ever: it is not, or no longer, and must never be (a tombstone)

What arrives, and what the kit does with it:

                 execute        compensate             verify
    (absent)     run            close, say "nothing"   close, say "nothing"
    BEGUN        run            run                    run
    CLOSING      say "nothing"  run                    run
    DONE         say it again   run                    say what was done
    REFUSED      say it again   say "nothing"          say "nothing"
    NOTHING      say "nothing"  say "nothing"          say "nothing"

What the subject's row becomes when the handler ran, by its answer (a state not named stays; `refused` changes nothing but its own
row):

                 execute          compensate            verify
    before       done | refused   done | nothing        done     nothing
    (absent)     DONE | REFUSED   –                     –        –
    BEGUN        DONE | REFUSED   NOTHING | NOTHING     DONE     NOTHING
    CLOSING      –                NOTHING | NOTHING     CLOSING  NOTHING
    DONE         –                DONE | DONE           –        –

Compensate and verify have rows of their own only for their reply: the same command again gets the same answer.

The naive way looks once, runs, then writes. Between look and write another process may have done the same: after a rebalance two
may hold a key for a moment, one in the middle of its calls, the other with the compensation. So the table is asked again in the
transaction that writes, under a lock on the subject's id, and whoever comes second obeys what it finds: an execute that returns
from its calls to find its row NOTHING or CLOSING writes nothing and says "nothing". CLOSING narrows what is left: calls that were
on their way when the compensation began. Those only the other side can hold back, by the idempotency key.

Rows are forgotten some time after the retention. An absent row is therefore proof only for a subject that cannot be older than
that; the runner answers `expired` for the others.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    LargeBinary,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from saga.engine.state import Action
from saga.log.base import Headers, Record
from saga.participant.outbox import pack, unpack
from saga.participant.tables import METADATA

MAX_ID = 1_000  # characters of a command id: far more than names and keys need, and PostgreSQL indexes no more than 2,700 bytes

table = Table(
    "saga_inbox",
    METADATA,
    Column("id", String(MAX_ID), primary_key=True),  # the sagacommand
    Column("state", String(8), nullable=False),
    Column("since", BigInteger, nullable=False),  # ms since 1970, of the last change
    Column("reply_value", LargeBinary),
    Column("reply_headers", LargeBinary),
    Index("saga_inbox_since", "since"),
)


class State(StrEnum):
    ABSENT = "absent"
    BEGUN = "begun"
    CLOSING = "closing"
    DONE = "done"
    REFUSED = "refused"
    NOTHING = "nothing"


class Do(StrEnum):
    """What the kit does with a command that arrived."""

    RUN = "run"
    AGAIN = "again"  # send the reply of the row again
    TELL = "tell"  # answer with what the subject's reply says
    NOTHING = "nothing"  # answer `nothing`
    CLOSE = "close"  # the same, and leave a tombstone


_OPEN = (State.BEGUN, State.CLOSING)

ARRIVAL: dict[Action, dict[State, Do]] = {
    Action.EXECUTE: {
        State.ABSENT: Do.RUN,
        State.BEGUN: Do.RUN,
        State.CLOSING: Do.NOTHING,
        State.DONE: Do.AGAIN,
        State.REFUSED: Do.AGAIN,
        State.NOTHING: Do.NOTHING,
    },
    Action.COMPENSATE: {
        State.ABSENT: Do.CLOSE,
        State.BEGUN: Do.RUN,
        State.CLOSING: Do.RUN,
        State.DONE: Do.RUN,
        State.REFUSED: Do.NOTHING,
        State.NOTHING: Do.NOTHING,
    },
    Action.VERIFY: {
        State.ABSENT: Do.CLOSE,
        State.BEGUN: Do.RUN,
        State.CLOSING: Do.RUN,
        State.DONE: Do.TELL,
        State.REFUSED: Do.NOTHING,
        State.NOTHING: Do.NOTHING,
    },
}

# (action, subject before, the handler's answer) → subject after; what is not here stays as it is
SETTLED: dict[tuple[Action, State, State], State] = {
    (Action.EXECUTE, State.ABSENT, State.DONE): State.DONE,
    (Action.EXECUTE, State.ABSENT, State.REFUSED): State.REFUSED,
    (Action.EXECUTE, State.BEGUN, State.DONE): State.DONE,
    (Action.EXECUTE, State.BEGUN, State.REFUSED): State.REFUSED,
    **{(Action.COMPENSATE, before, answer): State.NOTHING for before in _OPEN for answer in (State.DONE, State.NOTHING)},
    (Action.VERIFY, State.BEGUN, State.DONE): State.DONE,
    **{(Action.VERIFY, before, State.NOTHING): State.NOTHING for before in _OPEN},
}

# (action, subject before) → subject once calls have begun
BEGINS: dict[tuple[Action, State], State] = {
    (Action.EXECUTE, State.ABSENT): State.BEGUN,
    (Action.COMPENSATE, State.BEGUN): State.CLOSING,
}


class Row(NamedTuple):
    """A row of the inbox; `value` and `packed` (its headers) are those of its reply, if it has one. `since`: ms, of its last change."""

    id: str
    state: State
    value: bytes | None = None
    packed: bytes | None = None
    since: int = 0

    @property
    def headers(self) -> Headers:
        return unpack(self.packed) if self.packed else ()

    def record(self, key: bytes | None = None) -> Record:
        """The reply as it was first sent, byte for byte."""
        if self.value is None:
            raise AssertionError(f"{self.id} is {self.state} and has no reply")
        return Record(key, self.value, self.headers)


class Inbox:
    """The rows of some commands in one transaction: read at once, changed in memory, written at once by `flush`.

    A statement costs the same for one row as for fifty, and most of it is spent before the database sees it.
    """

    def __init__(self, connection: Connection, ids: Collection[str]) -> None:
        self.connection = connection
        self.savepoint = Savepoint(connection)
        self._asked = ids
        rows = connection.execute(_FIND, {"ids": list(ids)})
        self._rows = {id: Row(id, State(state), value, packed, since) for id, state, value, packed, since in rows}
        self._stored = set(self._rows)
        self._changed: dict[str, dict[str, Any]] = {}

    def find(self, id: str) -> Row:
        """The row of a command, as this transaction has it; one in the state ABSENT if there is none."""
        assert id in self._asked, f"{id} was not read in this transaction"
        return self._rows.get(id) or Row(id, State.ABSENT)

    def write(self, id: str, state: State, reply: Record | None, since: int) -> None:
        """Put a row into a state, with its reply. Never fails, so what is written together stays together."""
        value, packed = (reply.value, pack(reply.headers)) if reply else (None, None)
        self._rows[id] = Row(id, state, value, packed, since)
        self._changed[id] = {"id": id, "state": state.value, "since": since, "reply_value": value, "reply_headers": packed}

    def flush(self) -> None:
        """Write what changed to the database. Raises Broken if that cannot be: what it goes with must not stand without it."""
        changed, self._changed = self._changed, {}
        new = [row for id, row in changed.items() if id not in self._stored]
        try:
            if new:
                self.connection.execute(_INSERT, new)
            for id in changed.keys() & self._stored:
                self.connection.execute(_UPDATE, {"was": id, **changed[id]})
        except SQLAlchemyError as error:
            raise Broken(f"the inbox could not be written: {error}") from error
        self._stored.update(changed)


class Savepoint:
    """`with savepoint:` what is done inside is undone if it raises; it can be used again and again in its transaction.

    Raises Broken if the transaction is gone: a full disk rolls all of it back. On the driver's own cursor, since SQLAlchemy's way
    costs more than most handlers.
    """

    def __init__(self, connection: Connection) -> None:
        self._cursor = connection.connection.cursor()

    def __enter__(self) -> None:
        self._cursor.execute("SAVEPOINT saga_handler")

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        try:
            if error is not None:
                self._cursor.execute("ROLLBACK TO SAVEPOINT saga_handler")
            self._cursor.execute("RELEASE SAVEPOINT saga_handler")
        except Exception as gone:
            raise Broken(f"the transaction ended under its handler: {gone}") from gone


class Broken(Exception):
    """The transaction that a savepoint was in is no more; nothing may be written as if it were."""


_FIND = select(table.c.id, table.c.state, table.c.reply_value, table.c.reply_headers, table.c.since).where(
    table.c.id.in_(bindparam("ids", expanding=True))
)
_INSERT = insert(table)
_UPDATE = update(table).where(table.c.id == bindparam("was"))


def purge(connection: Connection, before: int, limit: int) -> int:
    """Forget up to `limit` rows that last changed before `before` (ms since 1970); returns how many.

    BEGUN and CLOSING stay: somebody's money may hang on them, and only they say so.
    """
    old = select(table.c.id).where(table.c.since < before, table.c.state.not_in([s.value for s in _OPEN])).limit(limit)
    return connection.execute(delete(table).where(table.c.id.in_(old))).rowcount


def unsettled(connection: Connection, before: int) -> int:
    """How many commands began calls before `before` and never learned how they ended."""
    count = select(func.count()).select_from(table).where(table.c.since < before, table.c.state.in_([s.value for s in _OPEN]))
    return int(connection.execute(count).scalar_one())


def reply_data(reply: Record) -> object:
    """The payload of a kept reply."""
    return orjson.loads(reply.value or b"null")
