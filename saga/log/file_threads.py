"""The threads that touch the file: one that reads, one that writes, each with a connection of its own, so that the loop never waits.

Writing is by group commit. A commit to disk (one fsync) costs the same for one batch as for fifty, so whatever waits when the write
lock is had shares one transaction, a savepoint each: what one raises undoes only its own. Alone when idle, in groups under load,
with nothing to tune.

Processes take turns by a lock of their own, before SQLite's. SQLite waits for its write lock by sleeping longer and longer, up to
100 ms, while another process may take it again and again. Here whoever waits is woken by the kernel, and must first pass a gate that
only the next in turn holds, so a busy writer cannot overtake twice. The kernel gives both up when their holder dies.

What this cannot do: a process stopped (SIGSTOP) in the very moment of a commit holds the lock until it goes on or dies. Others then
get Unavailable, and the message names the process. Nothing is lost or doubled by that.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from saga.errors import Corrupt, SagaError, Unavailable
from saga.log.file_tables import make_tables

T = TypeVar("T")

FILE = "log.db"  # in the log's folder
GROUP = 200  # jobs in one transaction: past this the cost of the commit is spread thin, and the first only waits longer
CHECKPOINT_PAGES = 2000  # of 4 KiB, until what was written is carried over into the main file: some 10 ms, in which nobody writes
STOP_SECONDS = 5.0  # for a thread to end; one that waits for the disk or for a stopped process is left behind


class Transaction(NamedTuple):
    """What a writing job works on. It adds to `changed` whom to tell of the change after the commit."""

    connection: sqlite3.Connection
    changed: set[int]


class _Job(NamedTuple):
    effect: Callable[[Any], Any]
    answer: asyncio.Future[Any]


class _Outcome(NamedTuple):
    answer: asyncio.Future[Any]
    value: Any = None
    error: Exception | None = None


class Worker:
    """A thread that does jobs one after the other. `timeout`: for one job, in seconds, the waiting before it included."""

    def __init__(self, folder: Path, name: str, timeout: float) -> None:
        self.folder = folder
        self.timeout = timeout
        self._name = name
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()
        self._closed = True

    async def start(self) -> None:
        """Raises what opening the file raises: Unavailable, Misconfigured, Corrupt."""
        self._loop, self._closed = asyncio.get_running_loop(), False
        # A daemon: a thread that waits for a lock for ever must not keep the process from ending.
        threading.Thread(target=self._run, name=self._name, daemon=True).start()
        await self._do(lambda _: None)

    async def stop(self) -> None:
        """What was asked for before is still done; then the thread ends."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self._ended.wait()

    async def _do(self, effect: Callable[[Any], T]) -> T:
        """The result of a job. Raises what it raises; Unavailable if it does not come in time: then it may still be done.

        One that was not begun when its caller gave up is never begun.
        """
        if self._closed or self._loop is None:
            raise Unavailable("the log is closed")
        answer: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Job(effect, answer))
        try:
            async with asyncio.timeout(self.timeout):
                return await answer
        except TimeoutError:
            raise Unavailable(f"{self.folder}: no answer within {self.timeout:g} s{self._why_late()}") from None

    def _why_late(self) -> str:
        return ""

    # From here on in the thread

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            if not job.answer.cancelled():
                self._work(job)
        self._let_go()
        self._tell(self._ended.set)

    def _work(self, job: _Job) -> None:
        raise NotImplementedError

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect(self.folder, self.timeout)
        return self._connection

    def _let_go(self) -> None:
        """Also after an error of SQLite's, since what state the connection is in is then anybody's guess."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _settle(self, outcomes: list[_Outcome]) -> None:
        self._tell(lambda: _settle(outcomes))

    def _tell(self, callback: Callable[[], object]) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(callback)


class Reading(Worker):
    """Each job sees the log as it stands at one moment; no writer holds it up, and it holds up none."""

    async def do(self, effect: Callable[[sqlite3.Connection], T]) -> T:
        return await self._do(effect)

    def _work(self, job: _Job) -> None:
        try:
            connection = self._connected()
            connection.execute("BEGIN")
            try:
                outcome = _Outcome(job.answer, job.effect(connection))
            finally:
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._let_go()
            outcome = _Outcome(job.answer, error=translated(error, self.folder))
        except Exception as error:
            outcome = _Outcome(job.answer, error=error)
        self._settle([outcome])


class Writing(Worker):
    """Group commit; `ring` is called in this thread after each, with whom to tell."""

    def __init__(self, folder: Path, name: str, timeout: float, ring: Callable[[Collection[int]], None]) -> None:
        super().__init__(folder, name, timeout)
        self._ring = ring
        self._lock = WriteLock(folder)

    async def do(self, effect: Callable[[Transaction], T]) -> T:
        """Done, and on the disk, when this returns."""
        return await self._do(effect)

    def _why_late(self) -> str:
        return f"; the last to write was process {self._lock.last()}, is it stopped?"

    def _run(self) -> None:
        super()._run()
        self._lock.close()

    def _work(self, job: _Job) -> None:
        jobs, changed = [job], set[int]()
        try:
            with self._lock.held():
                jobs += self._waiting()
                outcomes = self._together(jobs, changed)
        except (sqlite3.Error, OSError) as error:
            self._let_go()
            failure = translated(error, self.folder)
            outcomes = [_Outcome(each.answer, error=failure) for each in jobs]
        except SagaError as error:  # from making the connection
            outcomes = [_Outcome(each.answer, error=error) for each in jobs]
        self._settle(outcomes)
        if changed:
            self._ring(changed)

    def _waiting(self) -> list[_Job]:
        """Whatever else waits by now, up to the size of a group."""
        found: list[_Job] = []
        with suppress(queue.Empty):
            while len(found) < GROUP - 1:
                if (job := self._queue.get_nowait()) is None:
                    self._queue.put(None)  # the end, which `_run` must see; nothing comes after it
                    break
                found.append(job)
        return found

    def _together(self, jobs: list[_Job], changed: set[int]) -> list[_Outcome]:
        connection = self._connected()
        transaction = Transaction(connection, changed)
        outcomes: list[_Outcome] = []
        connection.execute("BEGIN IMMEDIATE")
        for job in jobs:
            if job.answer.cancelled():
                continue
            connection.execute("SAVEPOINT job")
            try:
                outcomes.append(_Outcome(job.answer, job.effect(transaction)))
            except sqlite3.ProgrammingError as error:  # a value of a type that SQLite does not take: this job's own mistake
                connection.execute("ROLLBACK TO job")
                outcomes.append(_Outcome(job.answer, error=error))
            except sqlite3.Error:
                raise
            except Exception as error:
                connection.execute("ROLLBACK TO job")
                outcomes.append(_Outcome(job.answer, error=error))
            connection.execute("RELEASE job")
        connection.execute("COMMIT")
        return outcomes


class WriteLock:
    """Who may write: one thread of one process at a time, in turn."""

    def __init__(self, folder: Path) -> None:
        self._paths = (folder / "gate.lock", folder / "write.lock")
        self._files: tuple[int, ...] = ()

    @contextmanager
    def held(self, *, alone: bool = False) -> Iterator[None]:
        """Waits as long as it takes. `alone`: nobody is next in line meanwhile, who if stopped there would hold up all others."""
        if not self._files:
            self._files = tuple(os.open(path, os.O_RDWR | os.O_CREAT, 0o644) for path in self._paths)
        gate, lock = self._files
        fcntl.flock(gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        finally:
            if not alone:
                fcntl.flock(gate, fcntl.LOCK_UN)
        try:
            os.pwrite(lock, b"%-10d" % os.getpid(), 0)
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
            if alone:
                fcntl.flock(gate, fcntl.LOCK_UN)

    def last(self) -> str:
        """The process that had it last, or has it."""
        with suppress(OSError):
            return self._paths[1].read_text().strip() or "unknown"
        return "unknown"

    def close(self) -> None:
        for file in self._files:
            os.close(file)
        self._files = ()


def connect(folder: Path, timeout: float) -> sqlite3.Connection:
    """A connection to the log's file, with tables. Raises Misconfigured, or what SQLite raises."""
    connection = sqlite3.connect(folder / FILE, timeout=timeout, isolation_level=None, check_same_thread=False)
    try:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"wal_autocheckpoint={CHECKPOINT_PAGES}", "cache_size=-8000"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            connection.execute("BEGIN IMMEDIATE")
            make_tables(connection)  # looks again: another process may have been quicker
            connection.execute("COMMIT")
        else:
            make_tables(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def translated(error: sqlite3.Error | OSError, folder: Path) -> SagaError:
    """A damaged file is Corrupt; anything else (a full disk, a file that cannot be opened) may pass."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Corrupt(f"{folder}: {error}")
    return Unavailable(f"{folder}: {type(error).__name__} {error}")


def _settle(outcomes: list[_Outcome]) -> None:
    for answer, value, error in outcomes:
        if answer.done():
            continue
        if error is None:
            answer.set_result(value)
        else:
            answer.add_done_callback(lambda done: done.exception())  # its caller may be cancelled before it looks
            answer.set_exception(error)
