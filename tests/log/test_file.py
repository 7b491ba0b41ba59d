"""What a log in a folder must do besides the contract: survive kills and stops, wake readers elsewhere, stay small."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from saga.errors import Corrupt, Misconfigured, Rejected, SagaError, Unavailable
from saga.log.base import Appended, Bounds, Outgoing, Record, TopicPartition, TopicSpec
from saga.log.file import FileLog
from saga.log.file_threads import WriteLock
from tests.log.tools import TO, everything, take, texts, values


def play(folder: Path, scene: Callable[[FileLog], Awaitable[None]], timeout: float = 10.0) -> None:
    """A scene with an open client of a log that has topic `t` with one partition."""

    async def scenario() -> None:
        log = FileLog(folder, timeout=timeout)
        await log.open()
        try:
            await log.create([TopicSpec("t", 1)])
            async with asyncio.timeout(60):
                await scene(log)
        finally:
            await log.close()

    asyncio.run(scenario())


def rows(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "log.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM records").fetchone()[0])


def change(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "log.db")) as connection, connection:
        connection.execute(statement)


def test_it_is_as_durable_as_sqlite_can_be(tmp_path: Path) -> None:
    async def scene(log: FileLog) -> None:
        def settings(connection: sqlite3.Connection) -> tuple[str, int]:
            return tuple(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous"))

        assert await log._writing.do(lambda to: settings(to.connection)) == ("wal", 2)  # 2 is FULL

    play(tmp_path, scene)


def test_everything_is_there_after_it_was_closed_and_opened(tmp_path: Path) -> None:
    answers: list[Appended] = []

    async def write(log: FileLog) -> None:
        answers.append(await log.append(TO, values("a", "b")))

    async def go_on(log: FileLog) -> None:
        assert [(each.offset, each.value) for each in await everything(log, TO)] == [(0, b"a"), (1, b"b")]
        answers.append(await log.append(TO, values("c")))
        assert answers[1].offset == 2
        assert answers[1].timestamp >= answers[0].timestamp

    play(tmp_path / "new" / "log", write)
    play(tmp_path / "new" / "log", go_on)


def test_time_does_not_go_back_when_the_clock_does(tmp_path: Path) -> None:
    future = 9_999_999_999_999

    async def scene(log: FileLog) -> None:
        change(tmp_path, f"UPDATE partitions SET time = {future}")  # as if appended before the clock was set back
        assert (await log.append(TO, values("a"))).timestamp == future

    play(tmp_path, scene)


def test_what_one_job_raises_undoes_only_its_own(tmp_path: Path) -> None:
    """Several calls wait for the write lock, so they share a transaction."""

    async def scene(log: FileLog) -> None:
        await log.create([TopicSpec("small", 1, 1, {"max.message.bytes": "10"})])
        small = TopicPartition("small", 0)
        with WriteLock(tmp_path).held():
            calls = [
                asyncio.create_task(log.append(TO, values("a", "b"))),
                asyncio.create_task(log.publish([Outgoing(TO, Record(None, b"c")), Outgoing(small, Record(None, b"x" * 11))])),
                asyncio.create_task(log.append(TO, values("d"))),
                asyncio.create_task(log.publish([Outgoing(small, Record(None, b"x" * 10)) for _ in range(3)])),
            ]
            await asyncio.sleep(0.1)
            assert not any(call.done() for call in calls), "the lock is ours"
        first, refused, second, none = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(refused, Rejected)
        assert isinstance(first, Appended)
        assert isinstance(second, Appended)
        assert (first.offset, second.offset, none) == (0, 2, None)
        assert texts(await everything(log, TO)) == ["a", "b", "d"]
        assert len(await everything(log, small)) == 3

    play(tmp_path, scene)


def test_who_waits_in_vain_learns_which_process_writes_and_what_it_gave_up_never_lands(tmp_path: Path) -> None:
    async def scene(log: FileLog) -> None:
        with WriteLock(tmp_path).held():
            calls = (log.append(TO, values("first")), log.append(TO, values("second")))
            for failed in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(failed, Unavailable)
                assert f"the last to write was process {os.getpid()}" in str(failed)
        assert (await log.append(TO, values("after"))).offset == 0
        assert texts(await everything(log, TO)) == ["after"]

    play(tmp_path, scene, timeout=0.3)


def test_a_reader_is_woken_also_when_nobody_rings(tmp_path: Path) -> None:
    """A writer may die between its commit and its ring."""

    async def scene(log: FileLog) -> None:
        other = FileLog(tmp_path)
        await other.open()
        try:
            reader = log.reader()
            await reader.assign({TO: 0})
            waiting = asyncio.create_task(reader.fetch([TO], limit=10, timeout=30))
            await asyncio.sleep(0.1)
            log._bell._path.unlink()
            await other.append(TO, values("a"))
            assert texts(await asyncio.wait_for(waiting, 5)) == ["a"]
        finally:
            await other.close()

    play(tmp_path, scene)


def test_nothing_of_a_client_is_left_when_it_is_closed(tmp_path: Path) -> None:
    async def scene(log: FileLog) -> None:
        await log.append(TO, values("a"))
        assert len(list((tmp_path / "bells").iterdir())) == 1

    play(tmp_path, scene)
    assert list((tmp_path / "bells").iterdir()) == []
    assert not (tmp_path / "log.db-wal").exists(), "the last one to close carries everything over into the main file"


def test_trimmed_records_are_gone_from_the_file(tmp_path: Path) -> None:
    async def scene(log: FileLog) -> None:
        for _ in range(3):
            await log.append(TO, values(*"x" * 500))
        await log.trim(TO, 1200)
        assert rows(tmp_path) == 300
        assert (await log.bounds([TO]))[TO] == Bounds(1200, 1500)
        await log.trim(TO, 100)  # below the start: nothing to do
        assert (await log.bounds([TO]))[TO] == Bounds(1200, 1500)
        await log.trim(TO, 1500)
        assert rows(tmp_path) == 0
        assert (await log.append(TO, values("next"))).offset == 1500
        with pytest.raises(Rejected):
            await log.trim(TO, 1502)

    play(tmp_path, scene)


def test_a_trim_that_was_cut_short_is_finished_by_the_next(tmp_path: Path) -> None:
    async def scene(log: FileLog) -> None:
        await log.append(TO, values(*"abcdef"))
        change(tmp_path, "UPDATE partitions SET first = 4")  # the start is raised, and the process died
        assert texts(await everything(log, TO)) == ["e", "f"]
        with pytest.raises(Corrupt):
            async for _ in log.read(TO, 3, 6):
                pass
        await log.trim(TO, 5)
        assert rows(tmp_path) == 1

    play(tmp_path, scene)


def test_records_older_than_their_topic_keeps_them_are_deleted(tmp_path: Path) -> None:
    old, kept = TopicPartition("old", 0), TopicPartition("kept", 0)

    async def write(log: FileLog) -> None:
        await log.create([TopicSpec("old", 1, 1, {"retention.ms": "60000"}), TopicSpec("kept", 1, 1, {"retention.ms": "-1"})])
        for partition in (old, kept):
            await log.append(partition, values("a", "b"))
        change(tmp_path, "UPDATE records SET time = 1000")
        await log.append(old, values("new"))

    async def look(log: FileLog) -> None:
        while (await log.bounds([old]))[old].start < 2:  # noqa: ASYNC110 - trims ring no bell
            await asyncio.sleep(0.01)
        assert texts(await everything(log, old)) == ["new"]
        assert texts(await everything(log, kept)) == ["a", "b"]

    play(tmp_path, write)
    play(tmp_path, look)


def test_a_lump_is_bounded_in_bytes(tmp_path: Path) -> None:
    async def scene(log: FileLog) -> None:
        for _ in range(12):
            await log.append(TO, [Record(None, b"x" * 1_000_000)])
        assert [len(lump) async for lump in log.read(TO, 0, 12)] == [5, 5, 2]  # the one that reaches 4 MiB is still in it
        reader = log.reader()
        await reader.assign({TO: 0})
        assert len(await reader.fetch([TO], limit=100, timeout=5)) == 5
        assert len(await take(reader, [TO], 7)) == 7

    play(tmp_path, scene)


def test_a_record_that_is_missing_is_not_stepped_over(tmp_path: Path) -> None:
    async def scene(log: FileLog) -> None:
        await log.append(TO, values(*"abcd"))
        change(tmp_path, "DELETE FROM records WHERE value = x'63'")
        with pytest.raises(Corrupt, match="the record at 2 is missing"):
            await everything(log, TO)

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda file: file.write_bytes(b"not a database" * 1000), Corrupt),
        (lambda file: change(file.parent, "PRAGMA user_version=99"), Misconfigured),
    ],
)
def test_what_is_not_our_file_is_told(tmp_path: Path, damage: Callable[[Path], None], error: type[SagaError]) -> None:
    async def write(log: FileLog) -> None:
        await log.append(TO, values("a"))

    play(tmp_path, write)
    damage(tmp_path / "log.db")
    with pytest.raises(error):
        play(tmp_path, write)
    assert list((tmp_path / "bells").iterdir()) == [], "what could not be opened is let go of"


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="folder"):
        asyncio.run(FileLog(tmp_path / "file").open())


def test_more_than_one_copy_cannot_be_promised(tmp_path: Path) -> None:
    async def scene(log: FileLog) -> None:
        with pytest.raises(Misconfigured, match="one machine"):
            await log.create([TopicSpec("u", 1, 3)])
        with pytest.raises(Misconfigured, match="compact"):
            await log.create([TopicSpec("u", 1, 1, {"cleanup.policy": "compact"})])
        assert await log.describe(["u"]) == {}

    play(tmp_path, scene)
