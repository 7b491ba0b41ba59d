"""The bench: a saga in a test, with the production worker and journal on the log in memory, in virtual time.

    with Bench(checkout) as bench:
        bench.refuse(ReserveStock, OutOfStock(sku="x"))
        order = bench.start(OrderPlaced(order_id="1", total=42))
        assert order.outcome == "compensated"

Time stands still between calls. `start`, `reply` and an operator's actions let everything happen that needs no waiting; what waits for
a time-out or a pause needs `advance`, or `settle`, which lets as much time pass as is needed. An hour costs no hour.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, overload

from sqlalchemy import MetaData

from saga.app import App
from saga.cloudevents import CloudEvent, header_fields, iso_time, parse
from saga.engine.definition import Saga
from saga.engine.messages import DEADLETTERS, REQUESTS, Command, Event, Message, Refusal, topic_of
from saga.log.base import Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.memory import MemoryBroker
from saga.ops.look import Histories, History
from saga.ops.operate import SOURCE
from saga.participant import Participant, Store
from saga.runtime.codec import JOURNAL
from saga.runtime.fold import Committed, Fold
from saga.runtime.task import Phase
from saga.testing.case import Case, stories
from saga.testing.clock import VirtualTimeLoop
from saga.testing.script import Say, Script, Silence, checked
from saga.testing.services import Hosted, Orchestrator, Played
from saga.topics import specs

T = TypeVar("T")
R = TypeVar("R", bound=Event)
C = TypeVar("C", bound=Command[Any])
M = TypeVar("M", bound=Event)

AT_ONCE = 0.001  # seconds: what is due within this of now belongs to now; records land a microsecond apart
SESSION = 0.5  # seconds until the group takes a crashed process's partitions away; in production it is 10
TAKE_OVER = 60.0  # seconds within which a new process must own and run everything, or something is wrong
SETTLED = ("completed", "compensated", "parked", "early")  # states in which time alone does nothing, or only forgets
MOST_STORIES = 3  # told of a test that failed


class Bench:
    """Sagas on a bench; a context manager. `seed`: draw the order in which things happen at once, to look for races.

    Raises Misconfigured or DefinitionError for a definition with a mistake.
    """

    def __init__(self, *sagas: Saga[Any, Any], seed: int | None = None) -> None:
        self._given = sagas
        self._app = App(sagas=sagas, begin="earliest", partitions=1)
        self.sagas = self._app.book.sagas
        commands = [m for saga in sagas for m in saga.messages() if issubclass(m, Command)]
        self._script = Script(commands)
        self._services = {command.__service__ for command in commands}
        self._loop = VirtualTimeLoop(seed)
        self._broker = MemoryBroker(session_timeout=SESSION, rebalance_timeout=SESSION)
        self._folder = tempfile.TemporaryDirectory(prefix="saga-bench-", ignore_cleanup_errors=True)
        self._hosted: dict[str, Hosted] = {}
        self._orchestrators: list[Orchestrator] = []
        self._played: list[asyncio.Task[None]] = []
        self._begun = False
        self._sent = 0
        self._journal = Fold(TopicPartition(JOURNAL, 0))
        self._batches: list[Committed] = []

    def __enter__(self) -> Bench:
        try:
            self._broker.create(self._topics([]))
            self._take_over()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None) -> None:
        try:
            if isinstance(error, Exception):
                self.tell_stories(error)
        finally:
            self._close()

    # --- what services answer -----------------------------------------------------------------------------------------------------

    @overload
    def answer(self, command: type[Command[R]], reply: R, *, times: int | None = None) -> None: ...
    @overload
    def answer(self, command: type[C], reply: Callable[[C], Message], *, times: int | None = None) -> None: ...
    def answer(self, command: type[Command[Any]], reply: Any, *, times: int | None = None) -> None:
        """What the service of this command answers: its reply, or a function of the command.

        The function returns a reply or a refusal, or raises: Refused and Nothing mean what they mean in a participant, Silence no
        answer, anything else a technical failure. With `times` it is said so often, and then what was said without.
        """
        self._tell(command, checked(command, reply) if isinstance(reply, Message) else reply, times)

    def refuse(self, command: type[Command[Any]], refusal: Refusal, *, times: int | None = None) -> None:
        """The service says no. Raises WrongAnswer if the command does not name this refusal."""
        self._tell(command, checked(command, refusal), times)

    def fail(self, command: type[Command[Any]], reason: str = "out of order", *, times: int | None = None) -> None:
        """The service answers that it failed, technically; the saga tries again after a pause."""
        self._tell(command, _raising(lambda: RuntimeError(reason)), times)

    def silence(self, command: type[Command[Any]], *, times: int | None = None) -> None:
        """The service does not answer. Whether it did what it was told, its compensation or verify says: by itself, that it did not."""
        self._tell(command, _raising(Silence), times)

    def participant(self, participant: Participant, *, tables: MetaData | None = None) -> Store:
        """Run a real participant, on an SQLite database of its own; to be called before anything is started.

        `tables`: its own. The result is the test's way into that database. Handlers run as they are, on the bench's time; what
        they call outside is for the test to replace, since there is no network in virtual time.
        """
        if self._begun:
            raise ValueError(f"{participant.name} comes too late: put participants on the bench before the first event")
        if participant.name in self._hosted:
            raise ValueError(f"{participant.name} is on the bench already")
        hosted = Hosted(self._broker, participant, Path(self._folder.name) / f"{participant.name}.db", tables, lambda: self.now)
        self._hosted[participant.name] = hosted
        self._broker.create(self._topics([participant]))
        self._do(hosted.start())
        self._play(self._loop.time())
        return hosted.store

    # --- what happens -------------------------------------------------------------------------------------------------------------

    def start(self, event: Message) -> Case:
        """The event that starts a saga comes in; once all that needs no waiting has happened, the instance that it started.

        Raises AssertionError if it started none, with the reason.
        """
        saga = next((saga for saga in self.sagas.values() if isinstance(event, saga.starts_on)), None)
        if saga is None:
            raise ValueError(f"no saga on this bench starts on {type(event).__name__}")
        key = saga.key(event)
        self.send(event, key=key)
        if self.history(saga.name, key).state is None:
            raise AssertionError(f"{event!r} started nothing: {'; '.join(self.dead_letters) or 'nobody read it'}")
        return Case(self, saga.name, key)

    def send(self, event: Message, *, key: str) -> None:
        """A service publishes an event."""
        sent = CloudEvent(event.__type__, self._id(), event.__service__, event.model_dump(mode="json"), iso_time(self.now), key)
        self._put(topic_of(type(event)), sent.record(key.encode()))

    def reply(self, case: Case, to: type[Command[R]], message: R) -> None:
        """A reply to the last command of this class that an instance sent comes now, whatever was answered before."""
        sent = [record for record, fields in self._records(topic_of(to), to.__type__) if fields["sagainstance"] == case.id]
        if not sent:
            raise ValueError(f"{case!r} sent no {to.__name__}")
        departure = self._script.force(sent[-1], to.__service__, message, self.now)
        self._put(departure.topic, departure.record)

    def operate(self, case: Case, action: str, why: str, **data: Any) -> None:
        """An operator acts on an instance. Raises AssertionError, with the reason, if the engine refuses it."""
        data = {"saga": case.saga, "key": case.key, "who": "bench", "why": why, **data}
        event = CloudEvent(action, self._id(), SOURCE, data, iso_time(self.now), case.key)
        self._put(REQUESTS, event.record(case.key.encode()))
        moments = self.history(case.saga, case.key).moments
        decided = next((m.decision for m in reversed(moments) if m.decision.input.id == event.id), None)
        if decided is None or decided.note == "operator-refused":
            raise AssertionError(f"{action} was refused: {decided.detail if decided is not None else 'there is no such instance'}")

    def advance(self, by: timedelta) -> None:
        """Let this much time pass."""
        self._begin()
        self._play(self._loop.time() + by.total_seconds())

    def settle(self, within: timedelta = timedelta(days=1)) -> None:
        """Let time pass until every instance has ended, is parked or not even started; a schedule, which never ends, is not waited for.

        Raises AssertionError, with the stories, if that takes longer.
        """
        self._begin()
        end = self._loop.time() + within.total_seconds()
        while open_ := [case for case in self.cases if self._goes_on(case)]:
            due = self._loop.next_timer()
            if due is None or due > end:
                raise AssertionError(f"not settled within {within}:\n\n{stories(open_, MOST_STORIES)}")
            self._play(due)

    def _goes_on(self, case: Case) -> bool:
        return self.sagas[case.saga].schedule is None and case.state not in SETTLED

    def crash(self, participant: Participant | None = None) -> None:
        """The orchestrator, or the process of a real participant, dies without a word; another one starts and takes over.

        It takes as long as it takes the group to notice: half a second.
        """
        if participant is None:
            self._do(self._orchestrators[-1].crash())
            self._take_over()
            return
        hosted = self._hosted.get(participant.name)
        if hosted is None:
            raise ValueError(f"{participant.name} is no real participant on this bench")
        self._do(hosted.crash())
        self._do(hosted.start())
        self.advance(timedelta(seconds=2 * SESSION))

    # --- what became of it --------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """The time on the bench, in ms since 1970; it begins with the year 2026."""
        return int((self._broker.epoch + self._loop.time()) * 1000)

    @property
    def cases(self) -> list[Case]:
        """All instances that are remembered, in the order in which they began."""
        self._catch_up()
        states = sorted(self._journal.states(), key=lambda state: state.started)
        return [Case(self, state.saga, state.key) for state in states]

    def case(self, key: str, saga: str | None = None) -> Case:
        """The instance with this key. Raises AssertionError if there is none, or there are several and `saga` does not say which."""
        found = [case for case in self.cases if case.key == key and saga in (None, case.saga)]
        if len(found) != 1:
            raise AssertionError(f"there are {len(found)} instances with the key {key!r}; there are: {self.cases}")
        return found[0]

    def commands(self, command: type[C], *, of: Case | None = None) -> list[C]:
        """The commands of this class that were sent, in order, each once however often it was attempted."""
        found: dict[str, C] = {}
        for record, fields in self._records(topic_of(command), command.__type__):
            if of is None or fields["sagainstance"] == of.id:
                found.setdefault(fields["sagacommand"], command.model_validate(parse(record, fields).data))
        return list(found.values())

    def attempts(self, command: type[Command[Any]], *, of: Case | None = None) -> int:
        """How many commands of this class were sent, each attempt counted."""
        sent = self._records(topic_of(command), command.__type__)
        return len({fields["id"] for _, fields in sent if of is None or fields["sagainstance"] == of.id})

    def events(self, event: type[M]) -> list[M]:
        """The events of this class that were published, in order, each id once."""
        found: dict[str, M] = {}
        for record, fields in self._records(topic_of(event), event.__type__):
            found.setdefault(fields["id"], event.model_validate(parse(record, fields).data))
        return list(found.values())

    @property
    def dead_letters(self) -> list[str]:
        """What was set aside because it could not be read or handled: reason and detail."""
        return [f"{fields.get('sagareason', '')}: {fields.get('sagadetail', '')}" for _, fields in self._records(DEADLETTERS)]

    def history(self, saga: str, key: str) -> History:
        """All decisions about an instance, as the journal has them."""
        self._catch_up()
        histories = Histories(self._journal.partition, key, saga)
        for batch in self._batches:
            histories.take(batch)
        return histories.found.get(saga) or History(saga, key, self._journal.partition)

    def tell_stories(self, error: Exception) -> None:
        """Add the stories of the instances to an error: what happened here is the first thing that its reader wants to know."""
        if cases := self.cases:
            error.add_note("\n" + stories(cases, MOST_STORIES))

    # --- its pieces ---------------------------------------------------------------------------------------------------------------

    def _tell(self, command: type[Command[Any]], say: Say, times: int | None) -> None:
        if command.__type__ not in self._script.commands:
            raise ValueError(f"no saga on this bench sends {command.__name__}")
        if command.__service__ in self._hosted:
            raise ValueError(f"{command.__service__} is a real participant on this bench: it answers {command.__name__} itself")
        if times is not None and times < 1:
            raise ValueError(f"times= is at least 1, not {times}")
        self._script.tell(command, say, times)

    def _put(self, topic: str, record: Record) -> None:
        """A record comes in; what it leads to at once, happens."""
        self._begin()

        async def put() -> None:
            self._broker.append(TopicPartition(topic, 0), [record])

        self._do(put())
        self._play(self._loop.time())

    def _begin(self) -> None:
        """From the first event on, the services that are no real participants are played."""
        if not self._begun:
            self._begun = True
            played = Played(self._broker, self._script)
            services = sorted(self._services - self._hosted.keys())
            self._played.append(self._loop.create_task(played.run(services), name="played services"))

    def _take_over(self) -> None:
        async def start() -> Orchestrator:
            return Orchestrator(self._broker, self._app.book, f"orchestrator-{len(self._orchestrators) + 1}")

        self._orchestrators.append(self._do(start()))
        end = self._loop.time() + TAKE_OVER
        self._play(self._loop.time())
        while not self._orchestrators[-1].ready:
            due = self._loop.next_timer()
            if due is None or due > end:
                raise AssertionError(f"no orchestrator runs after {TAKE_OVER} s: {self._orchestrators[-1].worker.status()}")
            self._play(due)

    def _play(self, until: float) -> None:
        """Run up to this time (s of the loop), and what belongs to that moment. Raises what went wrong meanwhile."""
        self._loop.play(until)
        end = until + 1.0
        while (due := self._loop.next_timer()) is not None and due <= min(self._loop.time() + AT_ONCE, end):
            self._loop.play(due)
        for task in [self._orchestrators[-1].task] * bool(self._orchestrators) + self._played + self._running():
            if task.done():
                task.result()
                raise AssertionError(f"{task.get_name()} ended before its time")
        for status in self._orchestrators[-1].worker.status().values() if self._orchestrators else ():
            if status.startswith(Phase.STOPPED):
                raise AssertionError(f"the orchestrator's partition {status}")

    def _running(self) -> list[asyncio.Task[None]]:
        return [hosted.service.task for hosted in self._hosted.values() if hosted.service is not None]

    def _do(self, what: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(what)

    def _catch_up(self) -> None:
        partition = self._journal.partition
        for record in self._broker.slice(partition, self._journal.next, self._broker.bounds(partition).end):
            batch = self._journal.feed(record)
            if batch is not None:
                self._batches.append(batch)

    def _records(self, topic: str, type: str = "") -> list[tuple[StoredRecord, dict[str, str]]]:
        """The records of a topic, of one message type if one is given, with their CloudEvents fields."""
        partition = TopicPartition(topic, 0)
        held = self._broker.bounds(partition)
        found = [(record, header_fields(record.headers)) for record in self._broker.slice(partition, held.start, held.end)]
        return [(record, fields) for record, fields in found if type in ("", fields.get("type"))]

    def _topics(self, participants: Sequence[Participant]) -> list[TopicSpec]:
        app = App(sagas=self._given, participants=participants, begin="earliest", partitions=1)
        return specs(app, replication=1, min_insync=1)

    def _id(self) -> str:
        self._sent += 1
        return f"bench-{self._sent}"

    def _close(self) -> None:
        try:
            for hosted in self._hosted.values():
                self._do(hosted.close())
            self._loop.finish()
        finally:
            self._loop.close()
            self._folder.cleanup()


def _raising(make: Callable[[], Exception]) -> Say:
    def say(_: Any) -> Message:
        raise make()

    return say
