"""Several processes on one log in a folder, killed and stopped at bad moments."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from saga.log.base import TopicSpec
from saga.log.file import FileLog
from saga.log.file_threads import WriteLock
from tests.log.file_process import BATCH
from tests.log.tools import TO, everything, texts, values

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

SECONDS = 60.0  # for anything that is awaited: far longer than it takes


class Child:
    """A process of tests.log.file_process, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        """The next line it prints; "" when it has ended."""
        assert self._process.stdout is not None
        async with asyncio.timeout(SECONDS):
            return (await self._process.stdout.readline()).decode().strip()

    async def until(self, *wanted: str) -> list[str]:
        """Its lines up to one of these."""
        said: list[str] = []
        while not said or said[-1] not in wanted:
            said.append(await self.line())
            assert said[-1], f"it ended, after saying {said}"
        return said

    async def rest(self) -> list[str]:
        said = []
        while line := await self.line():
            said.append(line)
        return said

    def ask(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        """Stopped when this returns."""
        self.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        async with asyncio.timeout(SECONDS):
            await self._process.communicate()


async def start(folder: Path, *arguments: str) -> Child:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.log.file_process", str(folder), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    child = Child(process)
    assert await child.line() == "open"
    return child


@asynccontextmanager
async def opened(folder: Path, partitions: int) -> AsyncIterator[FileLog]:
    log = FileLog(folder)
    await log.open()
    try:
        await log.create([TopicSpec("t", partitions)])
        yield log
    finally:
        await log.close()


def whole_batches(stored: list[str], acknowledged: dict[int, tuple[str, str]]) -> None:
    """Each batch stands whole and once, every acknowledged one where its answer said; those of a writer in its order."""
    assert len(stored) % BATCH == 0
    seen: dict[str, int] = {}
    for base in range(0, len(stored), BATCH):
        writer, number, _ = stored[base].split("-")
        assert stored[base : base + BATCH] == [f"{writer}-{number}-{part}" for part in range(BATCH)], f"a torn batch at {base}"
        assert int(number) == seen.get(writer, -1) + 1, f"a batch of {writer} is missing or doubled before {number}"
        seen[writer] = int(number)
        assert acknowledged.pop(base, (writer, number)) == (writer, number)
    assert not acknowledged, "acknowledged, and not there"


def answers(lines: list[str]) -> dict[int, tuple[str, str]]:
    found = {}
    for line in lines:
        if len(words := line.split()) == 3:  # the last line may be cut by the kill
            found[int(words[2])] = (words[0], words[1])
    return found


def test_processes_that_append_to_one_partition_do_not_tear_each_others_batches(tmp_path: Path) -> None:
    async def scene() -> None:
        async with opened(tmp_path, 1) as log:
            children = await asyncio.gather(*(start(tmp_path, "append", name, "80") for name in ("a", "b", "c")))
            acknowledged: dict[int, tuple[str, str]] = {}
            for lines in await asyncio.gather(*(child.rest() for child in children)):
                assert len(lines) == 80
                acknowledged |= answers(lines)
            await asyncio.gather(*(child.end() for child in children))
            assert len(acknowledged) == 240
            whole_batches(texts(await everything(log, TO)), acknowledged)

    asyncio.run(scene())


def test_a_writer_killed_in_the_middle_leaves_whole_batches_and_all_that_was_acknowledged(tmp_path: Path) -> None:
    seed = Random().randrange(10**6)
    print(f"seed {seed}")
    random = Random(seed)

    async def scene() -> None:
        acknowledged: dict[int, tuple[str, str]] = {}
        for round in range(3):
            pair = await asyncio.gather(*(start(tmp_path, "append", f"{name}{round}", "100000") for name in "ab"))
            await asyncio.sleep(random.uniform(0.05, 0.3))
            for child in pair:
                child.signal(signal.SIGKILL)
            for child in pair:
                acknowledged |= answers(await child.rest())
                await child.end()
            async with opened(tmp_path, 1) as log:
                stored = texts(await everything(log, TO))
                whole_batches(stored, dict(acknowledged))
        assert len(acknowledged) > 8, "nobody was killed in the middle of anything"
        async with opened(tmp_path, 1) as log:
            assert (await log.append(TO, values("next"))).offset == len(stored)
        # Rung after the answer, so it is looked at when the thread that rings has ended.
        assert list((tmp_path / "bells").iterdir()) == [], "the bells of the dead are removed"

    async def prepared() -> None:
        async with opened(tmp_path, 1):
            pass
        await scene()

    asyncio.run(prepared())


def test_what_a_killed_process_owned_goes_to_another(tmp_path: Path) -> None:
    async def scene() -> None:
        async with opened(tmp_path, 5):
            first = await start(tmp_path, "own", "1.0")
            await first.until("assigned 0 1 2 3 4")
            second = await start(tmp_path, "own", "1.0")
            await first.until("assigned 0 1 2", "assigned 3 4")
            await second.until("assigned 0 1 2", "assigned 3 4")
            first.signal(signal.SIGKILL)
            await second.until("assigned 0 1 2 3 4")
            second.ask()
            assert await second.line() == "committed"
            await asyncio.gather(first.end(), second.end())

    asyncio.run(scene())


def test_a_stopped_process_loses_its_lease_and_learns_it_when_it_goes_on(tmp_path: Path) -> None:
    async def scene() -> None:
        async with opened(tmp_path, 5):
            sleeper = await start(tmp_path, "own", "1.0")
            await sleeper.until("assigned 0 1 2 3 4")
            sleeper.ask()
            assert await sleeper.line() == "committed"
            with WriteLock(tmp_path).held():  # so that it is not stopped in a commit of its own, which would stop all
                sleeper.stop()
            other = await start(tmp_path, "own", "1.0")
            await other.until("assigned 0 1 2 3 4")
            sleeper.ask()  # it wakes up, and would commit before it can know
            sleeper.signal(signal.SIGCONT)
            said = await sleeper.until("assigned 0 1 2", "assigned 3 4")
            assert "lost" in said
            assert "committed" not in said
            assert "revoked 0 1 2 3 4" in said
            await other.until("assigned 0 1 2", "assigned 3 4")
            await asyncio.gather(sleeper.end(), other.end())

    asyncio.run(scene())
