"""The store and its outbox as the service's own code uses them: events born of HTTP requests, settings, old rows."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select

from saga.cloudevents import header_fields
from saga.errors import Misconfigured, Rejected
from saga.log.partition import home
from saga.participant import Settings, Store, inbox, outbox
from saga.participant.inbox import State
from tests.participant.conftest import Drive
from tests.participant.kit import (
    PARTITIONS,
    TABLES,
    Ids,
    LedgerGrew,
    NotePayment,
    Payment,
    World,
    command,
    data,
    eventually,
    notes,
    put,
)


def test_an_event_sent_in_a_transaction_goes_out_when_it_commits_and_only_then(drive: Drive) -> None:
    async def story(world: World) -> None:
        process = await world.start(Payment(), Settings(poll=timedelta(hours=1)))  # so it must be woken by the commit

        def request(note: str) -> None:
            with process.store.begin() as connection:
                connection.execute(insert(notes).values(note=note))
                process.store.send(connection, LedgerGrew(note=note), key="o-1", id=f"request-{note}")
                if note == "bad":
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(request, "bad")
        await asyncio.to_thread(request, "good")
        (sent,) = await world.until(1)
        fields = header_fields(sent.headers)
        assert (fields["id"], fields["source"], fields["subject"]) == ("request-good", "payment", "o-1")
        assert (sent.key, sent.partition, data(sent)) == (b"o-1", home("o-1", PARTITIONS), {"note": "good"})
        assert [row.note for row in await world.rows(notes)] == ["good"]

    drive(story)


def test_events_of_a_process_without_a_relay_are_published_by_another(drive: Drive) -> None:
    async def story(world: World) -> None:
        await world.start(Payment(), Settings(poll=timedelta(milliseconds=10)))

        def tell(connection: Connection) -> None:
            for number in range(5):
                world.store.send(connection, LedgerGrew(note=str(number)), key="o-1")

        await world.store.run(tell)
        sent = await world.until(5)
        assert [data(record)["note"] for record in sent] == ["0", "1", "2", "3", "4"]

    drive(story)


def test_the_outbox_is_empty_after_a_graceful_stop(drive: Drive) -> None:
    async def story(world: World) -> None:
        process = await world.start(Payment())
        await world.send(*(command(NotePayment(note="x"), Ids(f"o-{n}")) for n in range(20)))
        await world.until(20, type="payment.noted.v1")
        await process.end()
        assert await world.rows(outbox.table) == []

    drive(story)


def test_an_event_too_large_for_kafka_is_refused_before_it_can_block_the_outbox(drive: Drive) -> None:
    async def story(world: World) -> None:
        def tell(connection: Connection) -> None:
            world.store.send(connection, LedgerGrew(note="x" * 1_000_000), key="o-1")

        with pytest.raises(Rejected, match="may be published"):
            await world.store.run(tell)

    drive(story)


def test_old_rows_are_forgotten_in_batches_but_never_one_whose_calls_began(drive: Drive) -> None:
    async def story(world: World) -> None:
        def fill(connection: Connection) -> None:
            for state in State:
                if state is not State.ABSENT:
                    for since in (1_000, 9_000):
                        put(connection, f"{state}-{since}", state, None, since)

        await world.store.run(fill)
        assert await world.store.run(lambda connection: inbox.purge(connection, 5_000, 2)) == 2
        assert await world.store.run(lambda connection: inbox.purge(connection, 5_000, 2)) == 1
        assert await world.store.run(lambda connection: inbox.purge(connection, 5_000, 2)) == 0
        assert await world.store.look(lambda connection: inbox.unsettled(connection, 5_000)) == 2
        left = {row.id for row in await world.rows(inbox.table)}
        assert left == {"begun-1000", "closing-1000", *(f"{s}-9000" for s in State if s is not State.ABSENT)}

    drive(story)


def test_two_processes_may_create_the_tables_at_once(url: str) -> None:
    async def story() -> None:
        stores = [Store(url, tables=TABLES) for _ in range(4)]
        await asyncio.gather(
            *(store.run(lambda connection: connection.execute(insert(notes).values(note="x"))) for store in stores)
        )
        assert len(await stores[0].look(lambda connection: connection.execute(select(notes)).all())) == 4
        for store in stores:
            store.close()

    asyncio.run(story())


def test_a_file_that_another_process_is_just_creating_is_waited_for(tmp_path: Path) -> None:
    """The switch to WAL is the one thing for which SQLite does not wait by itself."""
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    store = Store(f"sqlite:///{tmp_path / 'x.db'}")

    def open_it() -> str:
        with store.begin() as connection:
            return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one())

    with ThreadPoolExecutor(1) as threads:
        opening = threads.submit(open_it)
        with pytest.raises(TimeoutError):
            opening.result(0.1)
        other.execute("COMMIT")
        assert opening.result(20) == "wal"
    other.close()
    store.close()


def test_a_database_that_is_not_there_yet_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        world = World(f"sqlite:///{tmp_path / 'later' / 'payment.db'}")
        await world.open()
        ids = Ids("o-1")
        await world.start(Payment())
        await world.send(command(NotePayment(note="x"), ids))

        async def missed() -> bool:
            return "unable to open database file" in caplog.text

        await eventually(missed, lambda: "the process to miss its database")
        (tmp_path / "later").mkdir()
        await world.reply(ids.command())
        await world.close()

    asyncio.run(story())


def test_sqlite_keeps_what_it_answered_through_a_power_cut(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'x.db'}")
    with store.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2, "FULL"
    store.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql+pymysql://localhost/x"])
def test_a_store_that_cannot_keep_its_promise_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured):
        Store(url)
