"""A compensation that removes a file, and whose transaction then does not commit, has done its work when it comes again.

The file is gone at once, the reply only with the commit. So a handler that answers `nothing` because there is no file says of a step that
it never happened, after that step had said `done`. The engine rightly believes neither, and the saga parks.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import MetaData

from saga import Command, Participant, Store, Work
from saga.log.base import Outgoing, Record, TopicPartition, TopicSpec
from saga.log.memory import MemoryBroker, MemoryLog
from saga.participant import ParticipantRunner
from saga.participant.inbox import Broken, Inbox
from services.nightly.press import files_of, press
from services.pipeline import files as pipeline_files
from services.pipeline.cleaner import TABLES as QUARANTINE
from services.pipeline.cleaner import cleaner
from services.pipeline.clinics import HEADING
from services.pipeline.collector import collector
from services.prediction import files as prediction_files
from services.prediction.preparer import choose, prepare, preparer
from services.prediction.samples import samples
from services.prediction.trainer import trainer
from tests.participant.kit import Ids, command, eventually, outcome
from topics.nightly import RenderReport, ShredReport
from topics.pipeline import CleanBatch, CollectPart, DropBatch, DropPart, Part
from topics.prediction import DiscardModel, DropData, PrepareData, TrainModel

TABLE = f"{HEADING}\n1,30,1,20,80,1,1,1,1,1,1,1\n"


class Story(NamedTuple):
    """A command, what undoes it, and the file that it leaves."""

    participant: Participant
    do: Command[Any]
    undo: Command[Any]
    file: Path
    tables: MetaData | None = None


def a_part_is_collected() -> Story:
    there = pipeline_files.delivered("b", 0)
    there.parent.mkdir(parents=True)
    there.write_bytes(gzip.compress(TABLE.encode()))
    do = CollectPart(batch_id="b", run=1, part=Part(number=0, where=str(there)))
    return Story(collector, do, DropPart(batch_id="b", run=1, part=0), pipeline_files.staged("b", 1, 0))


def a_batch_is_cleaned() -> Story:
    staged = pipeline_files.staged("b", 1, 0)
    staged.parent.mkdir(parents=True)
    staged.write_text(TABLE)
    do = CleanBatch(batch_id="b", run=1, collected=1, parts=1, repair=True)
    return Story(cleaner, do, DropBatch(batch_id="b", run=1), pipeline_files.cleaned("b", 1), QUARANTINE)


def _some_data() -> PrepareData:
    return PrepareData(run_id="r", samples=100, features=tuple(samples().features[:2]))


def data_is_prepared() -> Story:
    return Story(preparer, _some_data(), DropData(run_id="r"), prediction_files.prepared("r"))


def a_model_is_trained() -> Story:
    work = Work("c", "", "execute", 1, "r", "i", "")
    prepare(_some_data(), work, choose(_some_data(), work))
    return Story(trainer, TrainModel(run_id="r"), DiscardModel(run_id="r"), prediction_files.model("r"))


def a_report_is_printed() -> Story:
    until = datetime(2026, 1, 1, tzinfo=UTC)
    do = RenderReport(night="n", until=until, completed=1, compensated=0, journal_minor=1, till_minor=1)
    return Story(press, do, ShredReport(night="n"), files_of("n")[0])


STORIES = [a_part_is_collected, a_batch_is_cleaned, data_is_prepared, a_model_is_trained, a_report_is_printed]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_what_was_undone_is_undone_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, story: Callable[[], Story]) -> None:
    monkeypatch.setenv("EXAMPLE_DATA", str(tmp_path))
    told = story()
    flush = Inbox.flush
    lost: list[Path] = []

    def lose_the_first(self: Inbox) -> None:
        if not told.file.exists() and not lost:  # the compensation has removed it; a kill -9 here is the same
            lost.append(told.file)
            raise Broken("the disk was full for a moment")
        flush(self)

    async def play() -> list[str]:
        store = Store(f"sqlite:///{tmp_path / 'it.db'}", tables=told.tables)
        async with _Line(told.participant, store) as line:
            ids = Ids("k")
            await line.answer(command(told.do, ids), 1)
            assert told.file.exists()
            monkeypatch.setattr(Inbox, "flush", lose_the_first)
            return await line.answer(command(told.undo, ids, "compensate"), 2)

    (first, second) = asyncio.run(play())
    assert lost, "the transaction was to be lost"
    assert not told.file.exists()
    assert (first.split()[0], second.split()[0]) == ("done", "done")


class _Line:
    """A participant at work on a log of its own."""

    def __init__(self, participant: Participant, store: Store) -> None:
        self._name = participant.name
        self._store = store
        self._stop = asyncio.Event()
        self._log = MemoryLog(MemoryBroker())
        self._runner = ParticipantRunner(participant, store, self._log)

    async def __aenter__(self) -> _Line:
        await self._log.open()
        topics = (f"{self._name}.commands", f"{self._name}.events", "saga.deadletter")
        await self._log.create([TopicSpec(topic, 1) for topic in topics])
        self._task = asyncio.create_task(self._runner.run(self._stop))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._task
        await self._log.close()
        self._store.close()

    async def answer(self, record: Record, count: int) -> list[str]:
        """Send a command, and wait until there are so many replies; their outcomes."""
        await self._log.publish([Outgoing(TopicPartition(f"{self._name}.commands", 0), record)])
        said: list[str] = []

        async def there() -> bool:
            topic = TopicPartition(f"{self._name}.events", 0)
            held = (await self._log.bounds([topic]))[topic]
            said[:] = [outcome(each) async for lump in self._log.read(topic, held.start, held.end) for each in lump]
            return len(said) >= count

        await eventually(there, lambda: f"{count} replies of {self._name}; there are {said}")
        return said
