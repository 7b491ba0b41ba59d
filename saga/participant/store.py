"""The service's database: its own tables, and beside them the inbox and the outbox, through SQLAlchemy Core.

SQLite is the default, with full durability (WAL, synchronous=FULL): a transaction that was answered survives a power cut. It takes
one writer at a time, so writers queue here, in one thread, rather than collide in the database. PostgreSQL is for several machines.

    store = Store("sqlite:///payment.db", tables=METADATA)
    with store.begin() as connection:                    # in a thread: an HTTP handler, a script
        connection.execute(insert(orders).values(...))
        store.send(connection, OrderPlaced(...), key=order_id)
    await store.run(place_order)                         # on the event loop: place_order(connection) runs in a database thread
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from sqlalchemy import BigInteger, Connection, Engine, MetaData, bindparam, create_engine, event, make_url, text
from sqlalchemy.dialects.postgresql import ARRAY

from saga.cloudevents import CloudEvent, iso_time
from saga.engine import trace
from saga.engine.messages import Event, topic_of
from saga.errors import Misconfigured, Unavailable
from saga.participant import outbox
from saga.participant.outbox import Departure
from saga.participant.tables import METADATA

T = TypeVar("T")

BUSY = 10.0  # seconds to wait for another writer; far longer than any transaction here should take
POSTGRESQL_WRITERS = 4  # transactions a process has open at once: enough to hide the way to the server, few for its connections


def wall_clock() -> int:
    """Milliseconds since 1970: the only place in the kit that asks for the time of day."""
    return time.time_ns() // 1_000_000


class Transaction:
    """An open transaction that an async handler uses statement by statement, each in a database thread."""

    def __init__(self, connection: Connection, executor: Executor) -> None:
        self.connection = connection
        self._executor = executor

    async def call(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)


class Store:
    """A database with inbox and outbox; opened at first use, when its tables are created too.

    `url` is a SQLAlchemy URL (sqlite:///file.db, postgresql+psycopg://…); `tables` the service's own tables, created with ours;
    `now` gives milliseconds since 1970. Raises Misconfigured for a database of another kind, or one that only lives in memory.
    """

    def __init__(self, url: str, *, tables: MetaData | None = None, now: Callable[[], int] = wall_clock) -> None:
        parsed = make_url(url)
        self.now = now
        self.sqlite = parsed.get_backend_name() == "sqlite"
        if not self.sqlite and parsed.get_backend_name() != "postgresql":
            raise Misconfigured(f"the store is {parsed.get_backend_name()!r}; it takes sqlite or postgresql")
        if self.sqlite and parsed.database in (None, "", ":memory:"):
            raise Misconfigured("the store is an SQLite database in memory: what it promises must survive the process")
        self.writers = 1 if self.sqlite else POSTGRESQL_WRITERS
        self.relay: str | None = None  # the id of this process's relay, while it has one: the owner of the rows we write
        self._tables = tables
        self._engine = (
            _sqlite_engine(url)
            if self.sqlite
            else create_engine(url, pool_size=self.writers + 4, pool_pre_ping=True, hide_parameters=True)
        )
        self._writing = ThreadPoolExecutor(self.writers, thread_name_prefix="saga-store")
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="saga-store-read")
        self._one_writer = threading.Lock()
        self._gate: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._preparing = threading.Lock()
        self._prepared = False
        self._listeners: list[Callable[[bool], None]] = []

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction of the service's own code: committed at the end, rolled back on an exception.

        It blocks; on an event loop use `run`. Raises Unavailable if another writer does not finish in time.
        """
        self._prepare()
        if self.sqlite and not self._one_writer.acquire(timeout=BUSY):
            raise Unavailable(f"another transaction of this process has not ended for {BUSY} s")
        try:
            with self._begun("BEGIN IMMEDIATE") as connection:
                connection.info.pop(_PUT, None)
                yield connection
                put = connection.info.pop(_PUT, False)
        finally:
            if self.sqlite:
                self._one_writer.release()
        for listener in list(self._listeners):
            listener(put)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading only; on SQLite it does not wait for writers. It blocks; on an event loop use `look`."""
        self._prepare()
        with self._begun("BEGIN") as connection:
            yield connection

    async def run(self, function: Callable[[Connection], T]) -> T:
        """Run `function(connection)` in one transaction, in a database thread, and return what it returns."""

        def work() -> T:
            with self.begin() as connection:
                return function(connection)

        async with self._turn():
            return await asyncio.get_running_loop().run_in_executor(self._writing, work)

    async def look(self, function: Callable[[Connection], T]) -> T:
        """The same for a function that only reads."""

        def work() -> T:
            with self.read() as connection:
                return function(connection)

        return await asyncio.get_running_loop().run_in_executor(self._reading, work)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """One transaction, open while its user awaits; for async handlers."""
        loop = asyncio.get_running_loop()
        async with self._turn():
            context = self.begin()
            transaction = Transaction(await loop.run_in_executor(self._writing, context.__enter__), self._writing)
            try:
                yield transaction
            except BaseException as error:
                failure = error  # the name `error` is gone when the thread runs
                await asyncio.shield(loop.run_in_executor(self._writing, lambda: _leave(context, failure)))
                raise
            await asyncio.shield(loop.run_in_executor(self._writing, lambda: _leave(context, None)))

    def send(self, connection: Connection, event: Event, *, key: str, id: str = "", traceparent: str = "") -> None:
        """Publish a domain event when the connection's transaction commits, on the topic of its service.

        `key`: the business id, whose home partition it goes to. `id`: its CloudEvents id, if the caller has one that is the same
        whenever the same fact is told again (a request's idempotency key); else a new one. `traceparent`: of the request that led to
        it; without a valid one a trace begins here. Raises Rejected if it is too large.
        """
        service = event.__service__
        sent = CloudEvent(
            type=event.__type__,
            id=id or uuid.uuid4().hex,
            source=service,
            data=event.model_dump(mode="json"),
            time=iso_time(self.now()),
            subject=key,
            attributes={"traceparent": trace.read(traceparent) or trace.begin(uuid.uuid4().hex)},
        )
        self.put(connection, [Departure(topic_of(type(event)), None, sent.record(key.encode()))])

    def put(self, connection: Connection, departures: list[Departure]) -> None:
        """Add records to the outbox, in the connection's transaction."""
        outbox.put(connection, departures, self.relay, self.now())
        connection.info[_PUT] = True

    def lock(self, connection: Connection, ids: Collection[str]) -> None:
        """Until the transaction ends, nobody else decides about these inbox rows, present or not.

        SQLite: the transaction began IMMEDIATE, so it is the only writer already. PostgreSQL: an advisory lock for each id, since
        SELECT … FOR UPDATE cannot lock a row that does not exist yet, and a tombstone is just that; taken in one order, so two
        transactions cannot wait for each other.
        """
        if not self.sqlite:
            numbers = sorted({int.from_bytes(hashlib.blake2b(i.encode(), digest_size=8).digest(), "big", signed=True) for i in ids})
            connection.execute(_LOCK, {"numbers": numbers})

    def on_commit(self, listener: Callable[[bool], None]) -> Callable[[], None]:
        """Have `listener(put)` called after each of our transactions, in whatever thread; the result ends that.

        `put`: whether the transaction added to the outbox.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def close(self) -> None:
        """Close all connections; what is still running in a thread is waited for."""
        self._writing.shutdown()
        self._reading.shutdown()
        self._engine.dispose()

    @contextmanager
    def _begun(self, begin: str) -> Iterator[Connection]:
        """A connection with a transaction. `begin`: how SQLite begins it.

        A transaction that reads first and writes later fails at once if another wrote in between; one that will write says so. Said
        here and not by a listener of the engine's: an engine with listeners takes a slower way for every statement.
        """
        with self._engine.begin() as connection:
            if self.sqlite:
                connection.exec_driver_sql(begin)
            yield connection

    def _prepare(self) -> None:
        """Create the tables, once; several processes may do so at the same time."""
        with self._preparing:
            if self._prepared:
                return
            with self._begun("BEGIN IMMEDIATE") as connection:
                if not self.sqlite:
                    connection.execute(_LOCK, {"numbers": [_CREATING]})
                for metadata in (METADATA, self._tables):
                    if metadata is not None:
                        metadata.create_all(connection)
            self._prepared = True

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """On SQLite one transaction of this event loop at a time: the writing thread must never wait for its own loop."""
        if not self.sqlite:
            yield
            return
        loop = asyncio.get_running_loop()
        if self._gate is None or self._gate[0] is not loop:
            self._gate = (loop, asyncio.Lock())
        async with self._gate[1]:
            yield


_PUT = "saga_put"  # noted on a connection while its transaction has added to the outbox
_CREATING = 0x5A6A0001  # any number that nobody else uses for an advisory lock
_LOCK = text("SELECT pg_advisory_xact_lock(n) FROM unnest(:numbers) WITH ORDINALITY AS one(n, i) ORDER BY i").bindparams(
    bindparam("numbers", type_=ARRAY(BigInteger))
)


def _leave(context: Any, error: BaseException | None) -> None:
    """End a transaction that was begun by hand. The error that ended it goes on by itself, so it need not come out of here too."""
    try:
        context.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
    except BaseException as same:
        if same is not error:
            raise


def _sqlite_engine(url: str) -> Engine:
    engine = create_engine(url, connect_args={"check_same_thread": False}, hide_parameters=True)  # they are private

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions on its own; `_begun` does
        for pragma in (f"busy_timeout={int(BUSY * 1000)}", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        _write_ahead(connection)

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL. SQLite does not wait for another writer there, and two processes may be the first at once.

    It does wait where a transaction begins; so after each failure one begins, and ends.
    """
    until = time.monotonic() + BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
