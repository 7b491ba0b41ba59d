"""The numbers of the demo, all read from the log: what was placed, decided, told to the world, and who owns which partition.

Pure: records in (`see`), a view out (`view`). Only `follow`, at the end, reads.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from saga import Saga
from saga.cloudevents import parse
from saga.engine.apply import apply
from saga.engine.messages import topic_of
from saga.errors import Unavailable
from saga.log.base import Log, StoredRecord, TopicPartition
from saga.ops.look import History, Moment
from saga.ops.why import parked_because, why
from saga.runtime.codec import EVENTS, JOURNAL
from saga.runtime.fold import Committed, Fold
from saga.runtime.states import Slot
from services.checkout.tale import Tale
from topics.order import OrderPlaced

ORDERS = topic_of(OrderPlaced)
FETCH = 2_000  # records at once
WAIT_SECONDS = 0.2
RATE_SECONDS = 5  # a rate is the mean of so many
READ_MS, GLANCE_MS = 6_000, 2_000  # a tale that is over stays this long; before an order that fights on, only the shorter time
TALES = 12  # kept, the latest
WAITING = 8  # orders that are told what for, the oldest


class Ownership(NamedTuple):
    """Who decides in a partition, since when (the broker's clock, ms), and when it first did so (0: not yet)."""

    owner: str
    claimed: int
    decided: int


class Series(NamedTuple):
    """Something that is counted: how many so far, how often in each second since the first, and a second's mean of late."""

    total: int
    by_second: tuple[int, ...]
    rate: float


class Owner(NamedTuple):
    """One orchestrator and its partitions. `killed`: how long ago, in ms."""

    name: str
    partitions: frozenset[int]
    killed: int | None


@dataclass(frozen=True)
class TakeOver:
    """What became of a killed owner's partitions. Times are in ms after the kill; None: not yet."""

    victim: str
    lost: frozenset[int]
    left: int  # of these, partitions that nobody has claimed yet
    claimed: int | None  # when the last was
    decided: int | None  # when the new owner first decided in one of them


@dataclass(frozen=True)
class View:
    """Everything that a person is shown of one moment."""

    placed: Series
    ended: Series
    outcomes: Mapping[str, int]  # completed, compensated, parked, and those without any
    unread: int  # placed, but no orchestrator has begun with them
    took: tuple[int, int] | None  # ms from the order to its outcome: of half of them at most, of 95 %
    partitions: int
    owners: tuple[Owner, ...]
    take_over: TakeOver | None
    waits: tuple[str, ...]  # the oldest live orders: what each waits for, since when
    tales: tuple[Tale, ...]  # of orders in trouble, the latest first


@dataclass
class Kill:
    pid: int
    at: int
    lost: dict[int, Ownership]


@dataclass
class Watch:
    """The tally so far, by order: what is told twice counts once. `names`: of the orchestrators, by their process ids."""

    partitions: int
    saga: Saga[Any, Any]
    names: Mapping[int, str] = field(default_factory=dict)
    placed: dict[str, int] = field(default_factory=dict)  # order → when (ms)
    outcomes: dict[str, tuple[str, int]] = field(default_factory=dict)  # order → what, and when it was told (ms)
    owners: dict[int, Ownership] = field(default_factory=dict)
    live: dict[Slot, History] = field(default_factory=dict)
    _begun: set[str] = field(default_factory=set)
    _kill: Kill | None = None
    _folds: dict[int, Fold] = field(default_factory=dict)
    _tales: dict[Slot, Tale] = field(default_factory=dict)
    _told: list[Tale] = field(default_factory=list)

    @property
    def topics(self) -> list[TopicPartition]:
        """What is to be read, from its beginning."""
        return [TopicPartition(topic, number) for topic in (ORDERS, EVENTS, JOURNAL) for number in range(self.partitions)]

    @property
    def parked(self) -> dict[str, str]:
        """Which orders wait for an operator, and why."""
        states = [history.state for history in self.live.values()]
        return {state.key: parked_because(state.parked) for state in states if state is not None and state.parked is not None}

    def owned_by(self, pid: int) -> dict[int, Ownership]:
        """The partitions whose present owner is this process."""
        return {number: found for number, found in self.owners.items() if _pid(found.owner) == pid}

    def killed(self, pid: int, at: int) -> None:
        """This process was killed now (ms): from here on it is watched what becomes of its partitions."""
        self._kill = Kill(pid, at, self.owned_by(pid))

    # --- records in -----------------------------------------------------------------------------------------------------------------

    def see(self, record: StoredRecord) -> None:
        """Take the next record of a partition. Raises Corrupt, Unreadable for what our own programs cannot have written."""
        if record.topic == JOURNAL:
            self._journal(record)
            return
        event = parse(record)
        if event.type == OrderPlaced.__type__:
            self.placed.setdefault(event.data["order_id"], record.timestamp)
        elif event.type in ("saga.completed.v1", "saga.compensated.v1"):
            self.outcomes.setdefault(event.subject, (event.type.split(".")[1], record.timestamp))

    def _journal(self, record: StoredRecord) -> None:
        number = record.partition
        fold = self._folds.setdefault(number, Fold(TopicPartition(JOURNAL, number)))
        batch = fold.feed(record)
        now = self.owners.get(number)
        if fold.owner and (now is None or now.owner != fold.owner):
            self.owners[number] = now = Ownership(fold.owner, record.timestamp, 0)
        if batch is not None and batch.decisions:
            assert now is not None, "only an owner decides"
            self.owners[number] = now._replace(decided=now.decided or record.timestamp)
            self._decisions(fold.partition, batch)

    def _decisions(self, partition: TopicPartition, batch: Committed) -> None:
        for offset, decision in enumerate(batch.decisions, batch.base + len(batch.snapshot)):
            if not decision.seq:
                continue  # it concerns no order
            slot, at = Slot(decision.saga, decision.key), batch.commit["now"]
            if decision.seq == 1:
                self.live[slot], self._tales[slot] = History(decision.saga, decision.key, partition), Tale(decision.key)
                self._begun.add(decision.key)
            if (history := self.live.get(slot)) is None:
                continue  # it has ended: whatever came late changed nothing
            before = history.state
            history.state = apply(before.copy() if before is not None else None, decision)
            history.moments.append(Moment(at, offset, decision, before, history.state))
            self._tell(self._tales[slot], history.moments[-1])
            if not history.state.live:
                del self.live[slot], self._tales[slot]

    def _tell(self, tale: Tale, moment: Moment) -> None:
        """One order at a time: the next that turns back, or fails again and again, once the last tale could be read."""
        setbacks = tale.setbacks
        tale.add(moment)
        if tale.setbacks == setbacks or not (tale.turned_back or tale.setbacks > 1) or tale in self._told:
            return
        over = self._told[-1].over if self._told else 0
        if over is not None and moment.at - over >= (GLANCE_MS if tale.setbacks > 1 else READ_MS):
            self._told = [*self._told, tale][-TALES:]

    # --- a view out -------------------------------------------------------------------------------------------------------------------

    def view(self, now: int) -> View:
        """How it all stands at `now`, in ms since 1970."""
        counts = Counter(what for what, _ in self.outcomes.values())
        outcomes = {"completed": counts["completed"], "compensated": counts["compensated"], "parked": len(self.parked)}
        took = sorted(at - self.placed.get(key, at) for key, (_, at) in self.outcomes.items())
        begin = min(self.placed.values(), default=now)
        return View(
            placed=_series(list(self.placed.values()), begin, now),
            ended=_series([at for _, at in self.outcomes.values()], begin, now),
            outcomes=outcomes | {"in flight": len(self.placed) - sum(outcomes.values())},
            unread=len(self.placed.keys() - self._begun),
            took=(took[len(took) // 2], took[len(took) * 95 // 100]) if took else None,
            partitions=self.partitions,
            owners=tuple(self._owners(now)),
            take_over=self.take_over,
            waits=tuple(self._oldest(now)),
            tales=tuple(reversed(self._told)),
        )

    @property
    def take_over(self) -> TakeOver | None:
        """How far the take-over of the killed orchestrator's partitions is; None if none was killed."""
        if self._kill is None:
            return None
        at, lost = self._kill.at, self._kill.lost
        new = [self.owners[number] for number in lost if self.owners[number].owner != lost[number].owner]
        left, decided = len(lost) - len(new), [found.decided - at for found in new if found.decided]
        claimed = max((found.claimed - at for found in new), default=None) if not left else None
        return TakeOver(self.names[self._kill.pid], frozenset(lost), left, claimed, min(decided, default=None))

    def _owners(self, now: int) -> Iterator[Owner]:
        found: dict[str, set[int]] = {name: set() for name in self.names.values()}
        for number, ownership in self.owners.items():
            found.setdefault(self.names.get(_pid(ownership.owner), ownership.owner), set()).add(number)
        dead = {self.names[self._kill.pid]: now - self._kill.at} if self._kill is not None else {}
        yield from (Owner(name, frozenset(numbers), dead.get(name)) for name, numbers in found.items())

    def _oldest(self, now: int) -> Iterator[str]:
        states = [(history.state, history) for history in self.live.values() if history.state is not None]
        for state, history in sorted(states, key=lambda both: both[0].started)[:WAITING]:
            yield why(state, now, self.saga, history.sent())


def _pid(owner: str) -> int:
    """An owner's name ends in its process id and a random part."""
    return int(owner.split("-")[-2])


def _series(times: list[int], begin: int, now: int) -> Series:
    """`times` in ms. The second that `now` is in is left out, since it is not over."""
    seconds = Counter((at - begin) // 1000 for at in times)
    window = min(RATE_SECONDS, max(1, (now - begin) // 1000))
    recent = sum(1 for at in times if now - at < window * 1000)
    return Series(len(times), tuple(seconds[n] for n in range((now - begin) // 1000)), recent / window)


async def follow(watch: Watch, log: Log) -> None:
    """Read on until cancelled. A log that does not answer is waited for: how long is said where something is waited for."""
    reader = log.reader()
    try:
        await reader.assign(dict.fromkeys(watch.topics, 0))
        while True:
            try:
                records = await reader.fetch(watch.topics, limit=FETCH, timeout=WAIT_SECONDS)
            except Unavailable:
                await asyncio.sleep(WAIT_SECONDS)
                continue
            for record in records:
                watch.see(record)
    finally:
        await reader.close()
