"""The supervisor: makes the processes that run those that should run, whatever happened meanwhile, to them or to itself.

Problem: a handler that starts a process and then writes that down can be killed in between; so can one that writes first. Two sagas may
want the same process started and stopped at once. And a process may die while nobody looks. The naive way, to start and stop where it
is asked for, has a race for each of these. Taken here: handlers only write what is wanted (`registry`), and wait. One loop compares what
is wanted with what runs, and is the only one who starts or ends anything:

    1 say which version is current   2 end what is not wanted   3 start what is, ask what was started whether it is ready,
                                                                  and say which of those that were up has died

Each round begins with what is true now, so it does not matter what was missed. The processes end with this one (`spawn`); should one
be left all the same, it is found by the lock that it holds, and ended before anything is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import httpx
from sqlalchemy import Connection, Row

from saga import Store
from services.platform import registry
from services.platform.addresses import current, place
from services.platform.registry import Id, State
from services.stage.children import command_line, halt, last_lines, spawn

PROGRAM = Path(__file__).with_name("program.py")
READY_SECONDS = 10.0  # from its start until a process must be ready: a hundred times what it takes on an idle machine
PROBE_SECONDS = 1.0  # for an answer; a slow one only makes the next round later
ROUND_SECONDS = 0.2  # between two rounds if nobody wants anything
LEFT_OVER_SECONDS = 0.05  # between two looks whether a killed one is gone
PATIENCE_SECONDS = 5.0  # for a process that is told to end; a worker finishes its job first

T = TypeVar("T")


@dataclass(frozen=True)
class Child:
    """A process of the operating system that was started here, at a time (s, monotonic)."""

    process: subprocess.Popen[bytes]
    since: float
    log: Path


class Supervisor:
    """Runs the programs of the platform. `folder`: where they say that they run; `data`: their database."""

    def __init__(self, store: Store, folder: Path, data: Path) -> None:
        self._store = store
        self._folder = folder
        self._data = data
        self._children: dict[Id, Child] = {}
        self._woken = asyncio.Event()
        self._over = asyncio.Condition()  # a round is over
        self._begun = self._done = 0  # rounds

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; then all processes are ended."""
        self._folder.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self._end_left_over)
        async with httpx.AsyncClient(trust_env=False, timeout=PROBE_SECONDS) as http:
            try:
                while not stop.is_set():
                    self._woken.clear()
                    self._begun += 1
                    await self._round(http)
                    async with self._over:
                        self._done += 1
                        self._over.notify_all()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._woken.wait(), ROUND_SECONDS)
            finally:
                await self._end(list(self._children))

    # --- what handlers ask -------------------------------------------------------------------------------------------------------------

    async def write(self, function: Callable[[Connection], T]) -> T:
        """Change what is wanted; the next round begins at once."""
        done = await self._store.run(function)
        self._woken.set()
        return done

    async def look(self, function: Callable[[Connection], T]) -> T:
        """Read what is wanted."""
        return await self._store.look(function)

    async def settled(self, id: Id) -> Row[Any] | None:
        """Wait until a process is neither about to be started nor about to be started again; None if it is not wanted (any more)."""
        while True:
            row = await self._store.look(partial(registry.of, id=id))
            if row is None or row.state not in (State.WANTED, State.AGAIN):
                return row
            async with self._over:
                await self._over.wait()

    async def gone(self, which: Callable[[Id], bool]) -> None:
        """Wait until none of these processes runs, nor is about to be started by a round that read before what was wanted."""
        under_way = self._begun
        while self._done <= under_way or any(which(id) for id in self._children):
            async with self._over:
                await self._over.wait()

    async def answers(self, id: Id) -> str:
        """Ask a process whether it is ready; "" if it is, else why not."""
        async with httpx.AsyncClient(trust_env=False, timeout=PROBE_SECONDS) as http:
            child = self._children.get(id)
            return await self._probe(http, id, child) if child else "it does not run"

    # --- a round -----------------------------------------------------------------------------------------------------------------------

    async def _round(self, http: httpx.AsyncClient) -> None:
        rows, version = await self._store.look(lambda connection: (registry.everything(connection), registry.current(connection)))
        if current(self._folder) != version:
            draft = self._folder / "current.draft"
            draft.write_text(version)
            draft.replace(self._folder / "current")
        wanted = {Id(row.version, row.name) for row in rows}
        await self._end([id for id in self._children if id not in wanted])
        await asyncio.gather(*(self._tend(http, row) for row in rows))

    async def _tend(self, http: httpx.AsyncClient, row: Row[Any]) -> None:
        """One process nearer to what it should be."""
        id, state = Id(row.version, row.name), State(row.state)
        child = self._children.get(id)
        code = child.process.poll() if child else None
        if state is State.UP:
            if child is None or code is not None:
                reason = "the host is new and it is not there" if child is None else f"it ended with code {code}"
                await self._end([id])
                await self._fell(id, state, row.pid, reason)
        elif state in (State.WANTED, State.AGAIN):
            if child is None:
                self._children[id] = self._begin(id, row.settings)
            elif code is not None:
                await self._unfit(id, state, f"it ended with code {code}: {last_lines(child.log, 1)}")
            elif not (reason := await self._probe(http, id, child)):
                await self._store.run(partial(registry.move, id=id, before=state, after=State.UP, pid=child.process.pid))
            elif time.monotonic() - child.since > READY_SECONDS:
                await self._unfit(id, state, f"not ready after {READY_SECONDS:g} s: {reason}")

    async def _unfit(self, id: Id, state: State, reason: str) -> None:
        """It cannot be started; after a death that is another death."""
        pid = self._children[id].process.pid
        await self._end([id])
        if state is State.AGAIN:
            await self._fell(id, state, pid, reason)
        else:
            await self._store.run(partial(registry.move, id=id, before=state, after=State.UNFIT, reason=reason))

    async def _fell(self, id: Id, before: State, pid: int, reason: str) -> None:
        """Write down a death, and tell it, in one transaction."""

        def tell(connection: Connection) -> None:
            event = registry.died(connection, id, before, pid, reason)
            if event is not None:
                self._store.send(connection, event, key=f"{id.name}.{id.version}.{event.death}")

        await self._store.run(tell)

    def _begin(self, id: Id, settings: dict[str, str]) -> Child:
        folder = self._folder / id.version
        folder.mkdir(exist_ok=True)
        log = folder / f"{id.name}.log"
        argv = [sys.executable, "-I", *_argv(folder, id.name), "--data", str(self._data)]
        return Child(spawn(argv, log=log, env={"PATH": os.environ.get("PATH", ""), **settings}), time.monotonic(), log)

    async def _probe(self, http: httpx.AsyncClient, id: Id, child: Child) -> str:
        there = place(self._folder, id.version, id.name)
        if there is None or there.pid != child.process.pid:
            return "it has not said where it is"
        try:
            answer = await http.get(f"http://127.0.0.1:{there.port}/health")
        except httpx.HTTPError as error:
            return f"no answer ({type(error).__name__})"
        return "" if answer.status_code == 200 else f"{answer.status_code}, {answer.text[:500]}"

    async def _end(self, ids: Iterable[Id]) -> None:
        """End these processes; none of them is there when this returns."""
        children = [child for id in ids if (child := self._children.get(id)) is not None]
        await asyncio.gather(*(asyncio.to_thread(halt, child.process, PATIENCE_SECONDS) for child in children))
        self._children = {id: child for id, child in self._children.items() if child not in children}

    def _end_left_over(self) -> None:
        """Kill what an earlier host left running, and wait until it is gone: until nobody holds its lock.

        A program has its lock a moment before it writes who it is. Until then the file names the one before it, whose number may be
        anybody's by now. So what is killed is asked first what it runs.
        """
        for file in sorted(self._folder.glob("*/*.json")):
            with file.open("r+b") as lock:
                while not _locked(lock):
                    there = place(self._folder, file.parent.name, file.stem)
                    if there is not None and " ".join(_argv(file.parent, file.stem)) in command_line(there.pid):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(there.pid, signal.SIGKILL)
                    time.sleep(LEFT_OVER_SECONDS)


def _argv(folder: Path, name: str) -> list[str]:
    """By which a program that runs is known for the one of this name in this folder."""
    return [str(PROGRAM), name.partition("-")[0], "--name", name, "--run", str(folder.resolve())]


def _locked(file: BinaryIO) -> bool:
    """Whether this could be locked: nobody else holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
