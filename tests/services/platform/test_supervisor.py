"""The host and its supervisor with real processes: started, killed, found again, refused, ended; whoever is killed with it or not."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Row, select

from saga import Nothing, Refused, Store, Work
from saga.participant.outbox import table as outbox
from services.platform import registry
from services.platform.addresses import Place, current, place
from services.platform.audit import running
from services.platform.host import (
    TABLES,
    ask_all,
    bring_back,
    bring_down,
    bring_up,
    drop,
    end_all,
    find_switch,
    host,
    plan,
    survey,
    switch,
)
from services.platform.meter import NoReading, read, watch
from services.platform.program import RUNS_ALREADY
from services.platform.registry import Id, Release
from services.platform.supervisor import PROGRAM, Supervisor
from topics.platform import (
    DropRelease,
    FindSwitch,
    NotWanted,
    PlanRelease,
    ProbeFailed,
    ProbeRelease,
    ProcessUnfit,
    ReleaseTurnedDown,
    RestartProcess,
    RetireRelease,
    StartProcess,
    StopProcess,
    Survey,
    SwitchRelease,
)

STORE, WEB = Id("v1", "store"), Id("v1", "web")
START_STORE = StartProcess(name="store", version="v1")
PATIENCE = 30.0  # seconds


def work(connection: Connection | None = None) -> Work:
    return Work("c", "", "execute", 1, "v1", "rollout:v1:1", "", connection=connection)


class Stand:
    """A host in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.data = folder
        self.run = folder / "run"
        self.store = Store(f"sqlite:///{folder / 'host.db'}", tables=TABLES)
        with self.store.begin() as connection:
            registry.set_release(connection, "v1", Release.PLANNED)

    @asynccontextmanager
    async def supervised(self) -> AsyncIterator[Supervisor]:
        """A host that is told to end in order."""
        stop, supervisor = asyncio.Event(), Supervisor(self.store, self.run, self.data / "jobs.db")
        host.supervised_by(supervisor)
        running = asyncio.create_task(supervisor.run(stop))
        try:
            yield supervisor
        finally:
            stop.set()
            await running

    def row(self, id: Id) -> Row[Any] | None:
        with self.store.read() as connection:
            return registry.of(connection, id)

    def told(self) -> list[str]:
        """The keys of the events in the outbox."""
        with self.store.read() as connection:
            return [key.decode() for key in connection.execute(select(outbox.c.key)).scalars()]

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                if what():
                    return
                await asyncio.sleep(0.02)


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def played(what: Awaitable[None]) -> None:
    async def whole() -> None:
        await what

    asyncio.run(whole())


async def not_ready(supervisor: Supervisor, id: Id) -> None:
    """Wait until a process answers that it is not ready."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if "503" in await supervisor.answers(id):
                return
            await asyncio.sleep(0.02)


def test_a_process_is_started_once_however_often_it_is_asked_for_and_all_end_with_their_host(stand: Stand) -> None:
    async def story() -> None:
        async with stand.supervised():
            first, second = await asyncio.gather(bring_up(START_STORE, work()), bring_up(START_STORE, work()))
            assert first == second == await bring_up(START_STORE, work())
            web = await bring_up(StartProcess(name="web", version="v1"), work())
            assert [(one.name, one.pid) for one in running(stand.data)] == [("store", first.pid), ("web", web.pid)]
            assert await ask_all(ProbeRelease(version="v1"), work())
        assert running(stand.data) == []

    played(story())


def test_what_ends_by_itself_or_is_not_ready_in_time_is_refused_with_the_reason_and_does_not_run(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with stand.supervised() as supervisor:
            with pytest.raises(Refused) as no:
                await bring_up(StartProcess(name="no-such-program", version="v1"), work())
            assert isinstance(no.value.refusal, ProcessUnfit)
            assert "it ended with code 2" in no.value.refusal.reason
            await bring_up(START_STORE, work())
            start_web = StartProcess(name="web", version="v1", settings={"PAGE": "/no/such/page"})
            web = asyncio.create_task(bring_up(start_web, work()))
            await not_ready(supervisor, WEB)
            monkeypatch.setattr("services.platform.supervisor.READY_SECONDS", 0.0)  # its time is over
            with pytest.raises(Refused) as no:
                await web
            assert isinstance(no.value.refusal, ProcessUnfit)
            assert "its page /no/such/page is not there" in no.value.refusal.reason
            assert [one.name for one in running(stand.data)] == ["store"]
            assert stand.row(WEB) is None

    played(story())


def test_a_death_is_told_once_and_the_process_stays_down_until_somebody_says_again(stand: Stand) -> None:
    async def story() -> None:
        async with stand.supervised() as supervisor:
            pid = (await bring_up(START_STORE, work())).pid
            os.kill(pid, signal.SIGKILL)
            await stand.until(lambda: stand.told() == ["store.v1.1"])
            assert "does not run" in await supervisor.answers(STORE)
            with pytest.raises(Refused) as no:
                await ask_all(ProbeRelease(version="v1"), work())
            assert isinstance(no.value.refusal, ProbeFailed)
            back = await bring_back(RestartProcess(name="store", version="v1"), work())
            assert back.pid != pid
            assert back == await bring_back(RestartProcess(name="store", version="v1"), work())
            assert stand.told() == ["store.v1.1"]

    played(story())


def test_what_cannot_be_started_again_has_died_again(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with stand.supervised():
            os.kill((await bring_up(START_STORE, work())).pid, signal.SIGKILL)
            await stand.until(lambda: len(stand.told()) == 1)
            monkeypatch.setattr("services.platform.supervisor.PROGRAM", stand.data / "gone.py")
            with pytest.raises(Refused) as no:
                await bring_back(RestartProcess(name="store", version="v1"), work())
            assert isinstance(no.value.refusal, ProcessUnfit)
            assert stand.told() == ["store.v1.1", "store.v1.2"], "so the next restart waits longer"

    played(story())


def test_what_was_stopped_on_purpose_is_not_started_again(stand: Stand) -> None:
    async def story() -> None:
        async with stand.supervised():
            await bring_up(START_STORE, work())
            await bring_down(StopProcess(name="store", version="v1"), work())
            assert running(stand.data) == []
            await bring_down(StopProcess(name="store", version="v1"), work())  # once more changes nothing
            with pytest.raises(Refused) as no:
                await bring_back(RestartProcess(name="store", version="v1"), work())
            assert isinstance(no.value.refusal, NotWanted)
            await end_all(RetireRelease(version="v1"), work())
            with pytest.raises(Refused) as no:
                await bring_up(START_STORE, work())
            assert isinstance(no.value.refusal, NotWanted)
            assert "v1 is retired" in no.value.refusal.reason

    played(story())


def test_a_host_that_comes_back_ends_what_was_left_and_tells_what_died_with_it(stand: Stand) -> None:
    """As where nothing ends a program with its host: one is started here, in place of the one that the host knows."""

    async def story() -> None:
        async with stand.supervised():
            await bring_up(START_STORE, work())
        left = start_alone(stand)
        try:
            await stand.until(lambda: (found := place(stand.run, *STORE)) is not None and found.pid == left.pid)
            second = start_alone(stand)
            assert await asyncio.to_thread(second.wait, PATIENCE) == RUNS_ALREADY, "the kernel's lock keeps a second copy out"
            async with stand.supervised():
                assert await asyncio.to_thread(left.wait, PATIENCE) == -signal.SIGKILL
                await stand.until(lambda: stand.told() == ["store.v1.1"])
                back = await bring_back(RestartProcess(name="store", version="v1"), work())
                assert [one.pid for one in running(stand.data)] == [back.pid]
        finally:
            left.kill()
            left.wait()

    played(story())


def test_a_start_that_was_refused_brings_nothing_back(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was up, the host was killed before it could say so, and while it is asked for again it is being started again after that death."""

    async def story() -> None:
        page = stand.data / "page.html"
        page.write_text("x")
        start_web = StartProcess(name="web", version="v1", settings={"PAGE": str(page)})
        async with stand.supervised():
            await bring_up(START_STORE, work())
            await bring_up(start_web, work())
        page.unlink()
        async with stand.supervised() as supervisor:
            await stand.until(lambda: sorted(stand.told()) == ["store.v1.1", "web.v1.1"])
            await bring_back(RestartProcess(name="store", version="v1"), work())
            back = asyncio.create_task(bring_back(RestartProcess(name="web", version="v1"), work()))
            await stand.until(lambda: (row := stand.row(WEB)) is not None and row.state == "again")
            asked_again = asyncio.create_task(bring_up(start_web, work()))
            await not_ready(supervisor, WEB)
            monkeypatch.setattr("services.platform.supervisor.READY_SECONDS", 0.0)
            for start in (asked_again, back):
                with pytest.raises(Refused):
                    await start
            monkeypatch.undo()
            page.write_text("x")
            with pytest.raises(Refused) as no:
                await bring_back(RestartProcess(name="web", version="v1"), work())
            assert isinstance(no.value.refusal, NotWanted)
            assert [one.name for one in running(stand.data)] == ["store"]

    played(story())


def test_nothing_of_a_release_that_was_dropped_is_left(stand: Stand) -> None:
    async def story() -> None:
        async with stand.supervised() as supervisor:
            await bring_up(START_STORE, work())
            await supervisor.write(lambda connection: drop(DropRelease(version="v1"), work(connection)))
            assert stand.row(STORE) is None
            await stand.until(lambda: running(stand.data) == [])

    played(story())


def test_a_stop_is_not_answered_before_a_start_that_was_decided_earlier(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round reads that web is wanted, and first ends another, which takes its time; then web is stopped."""

    async def story() -> None:
        async with stand.supervised() as supervisor:
            await bring_up(START_STORE, work())
            ending, go_on, end = asyncio.Event(), asyncio.Event(), supervisor._end

            async def end_slowly(ids: Iterable[Id]) -> None:
                if (ids := list(ids)) and not ending.is_set():
                    ending.set()
                    await go_on.wait()
                await end(ids)

            monkeypatch.setattr(supervisor, "_end", end_slowly)

            def both(connection: Connection) -> None:  # in one transaction, so that one round sees both
                registry.unwant(connection, STORE)
                registry.want(connection, WEB, {})

            await supervisor.write(both)
            await ending.wait()
            stopped = asyncio.create_task(bring_down(StopProcess(name="web", version="v1"), work()))
            await stand.until(lambda: stand.row(WEB) is None)
            go_on.set()
            await stopped
            rounds = supervisor._done
            assert running(stand.data) == []
            await stand.until(lambda: supervisor._done > rounds + 1)
            assert running(stand.data) == []

    played(story())


def test_a_stranger_who_has_the_number_of_a_program_that_ended_is_left_alone(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is left over has its lock, and has not yet written who it is."""
    file = stand.run / "v1" / "store.json"
    file.parent.mkdir(parents=True)
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    file.write_text(json.dumps({"pid": stranger.pid, "port": 1}))
    looks = []
    with file.open("r+b") as left_over:
        fcntl.flock(left_over, fcntl.LOCK_EX)

        def look(*which: Any) -> Place | None:
            looks.append(place(*which))
            if len(looks) == 3:
                fcntl.flock(left_over, fcntl.LOCK_UN)  # it ends by itself
            return looks[-1]

        monkeypatch.setattr("services.platform.supervisor.place", look)
        Supervisor(stand.store, stand.run, stand.data / "jobs.db")._end_left_over()
    assert looks == [Place(stranger.pid, 1)] * 3
    stranger.communicate(b"\n")
    assert stranger.returncode == 0


def start_alone(stand: Stand) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-I", str(PROGRAM), "store", "--name", "store", "--run", str(stand.run / "v1")]
    return subprocess.Popen([*line, "--data", str(stand.data / "jobs.db")], stdout=subprocess.DEVNULL)


def test_releases_go_one_at_a_time_and_the_switch_is_one_transaction(stand: Stand) -> None:
    with stand.store.begin() as connection:
        registry.want(connection, Id("v1", "worker-1"), {})
        with pytest.raises(Refused) as no:
            plan(PlanRelease(version="v2"), work(connection))
        assert no.value.refusal == ReleaseTurnedDown(reason="v1 is being rolled out")
        with pytest.raises(Nothing):
            find_switch(FindSwitch(version="v1"), work(connection))
        switch(SwitchRelease(version="v1"), work(connection))
        find_switch(FindSwitch(version="v1"), work(connection))
        assert survey(Survey(), work(connection)).workers == ("worker-1",)
        planned = plan(PlanRelease(version="v2"), work(connection))
        assert (planned.old, planned.workers) == ("v1", ("worker-1",))
        drop(DropRelease(version="v2"), work(connection))
        assert registry.want(connection, Id("v2", "store"), {}) == "v2 is dropped"
        plan(PlanRelease(version="v3"), work(connection))
        switch(SwitchRelease(version="v3"), work(connection))
        assert registry.current(connection) == "v3"
        assert registry.want(connection, STORE, {}) == "v1 is retired"
        assert registry.again(connection, Id("v1", "worker-1")) == "v1 is retired"
        with pytest.raises(Refused) as no:
            plan(PlanRelease(version="v1"), work(connection))
        assert no.value.refusal == ReleaseTurnedDown(reason="v1 is retired")


def test_whoever_asks_for_the_platform_is_told_the_version_that_is_current(stand: Stand) -> None:
    async def story() -> None:
        async with stand.supervised() as supervisor:
            assert current(stand.run) == ""
            await supervisor.write(lambda connection: switch(SwitchRelease(version="v1"), work(connection)))
            await stand.until(lambda: current(stand.run) == "v1")

    played(story())


def test_the_meter_asks_the_current_version_and_tells_that_nobody_works(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_DATA", str(stand.data))

    async def story() -> None:
        with pytest.raises(NoReading):
            await read()
        async with stand.supervised() as supervisor:
            await bring_up(START_STORE, work())
            await supervisor.write(lambda connection: switch(SwitchRelease(version="v1"), work(connection)))
            await stand.until(lambda: current(stand.run) == "v1")
            assert await read() == (0, 0), "no job waits, and no worker asked for one"
            stop = asyncio.Event()
            watching = asyncio.create_task(watch(stand.store, stop))
            await stand.until(lambda: any(key.startswith("load-") for key in stand.told()))
            stop.set()
            await watching

    played(story())
