"""Operator actions: a record to the home partition of the instance, then what its owner decided about it, from the journal.

The record is whole or not there, and its id makes a repeat harmless; so whoever stops half-way through many has done some of them
entirely and the others not at all. What was sent is decided even if nobody waits for it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from saga.cloudevents import CloudEvent, iso_time
from saga.engine.actions import COMPENSATE, RESUME, RETRY
from saga.engine.decision import Decision, Request, Send
from saga.engine.messages import REQUESTS
from saga.engine.state import Parked, Phase, digest, step_and_action
from saga.errors import Unavailable
from saga.log.base import Log, Outgoing, TopicPartition
from saga.log.partition import home
from saga.ops.edits import passed_over
from saga.ops.look import Journals
from saga.ops.why import parked_because
from saga.ops.words import plain
from saga.runtime.fold import Fold

SOURCE = "saga-cli"  # ce_source of what operators send
DEFAULT_RATE = 10.0  # a second: what was parked for one reason may fail for it again, and its participants are to survive that
DEFAULT_PATIENCE = 30.0  # seconds after the last was sent: longer than it takes another orchestrator to take over
_TRIES = 3  # of a send that was not acknowledged; the same id each time, so one that got through twice counts once
_LOOK = 0.5  # seconds between looks at whether everything is sent


def wall_clock() -> int:
    """Now, in ms since 1970: ages are reckoned with it, and what a tool sends is dated."""
    return round(time.time() * 1000)


class Target(NamedTuple):
    """`instance`: the run that is meant; another one with this key refuses the action. Empty: whichever there is."""

    saga: str
    key: str
    instance: str = ""


class Came(StrEnum):
    """What came of an operator's action."""

    RETRIED = "retried"
    RESUMED = "resumed"
    CANCELLED = "cancelled"  # it turns back
    CANCELLING = "cancelling"  # the pivot is out, and its outcome decides whether it turns back
    COMPENSATING = "compensating"
    SKIPPED = "skipped"
    EDITED = "edited"
    IN_PART = "edited in part"  # some of what was given is no field of its data
    UNCHANGED = "unchanged"  # all of it is none
    SIGNALLED = "signalled"
    ANSWERED = "answered"
    KEPT = "kept"  # a signal, for an instance that keeps its inputs until an operator lets it go on
    PARKED = "parked"  # it was done, and the instance has parked, or parked again
    REFUSED = "refused"
    UNKNOWN = "unknown"
    UNDECIDED = "undecided"  # sent, but nobody has decided it yet


# What came of an action, by the note of its decision. Two actions have no note of their own.
_NO_NOTES = (Came.REFUSED, Came.UNKNOWN, Came.UNDECIDED, Came.COMPENSATING, Came.IN_PART, Came.UNCHANGED, Came.ANSWERED)
_NOTES = {str(came): came for came in Came if came not in _NO_NOTES}
_OWN = {(RESUME, "retried"): Came.RESUMED, (COMPENSATE, "cancelled"): Came.COMPENSATING}


class Answer(NamedTuple):
    target: Target
    came: Came
    detail: str

    def to_json(self) -> dict[str, Any]:
        return {"saga": self.target.saga, "key": self.target.key, "came": str(self.came), "detail": self.detail}


@dataclass(frozen=True)
class Act:
    """Who acts and why, how many a second at most, and how long to wait for the last answer, in seconds; and what is done.

    `action`: one of `saga.engine.actions`; `data`: what that one needs besides who and why.
    """

    who: str
    why: str
    rate: float = DEFAULT_RATE
    patience: float = DEFAULT_PATIENCE
    action: str = RETRY
    data: Mapping[str, Any] = field(default_factory=dict)


class Operator:
    """Sends one action for each target and follows the journal for what came of it. `told` hears each answer as it comes."""

    def __init__(self, log: Log, act: Act, told: Callable[[Answer], None] | None = None) -> None:
        self.act = act
        self.sent = 0
        self.answers: list[Answer] = []
        self._log = log
        self._told = told
        self._waiting: dict[str, Target] = {}  # by the id of the record
        self._last_sent = 0.0

    async def act_on(self, targets: Sequence[Target]) -> list[Answer]:
        """Do it to these instances. Raises Unavailable if the log cannot be reached: `sent` says how many are on their way."""
        partitions = await Journals(self._log).partitions()
        journals = {partitions[home(target.key, len(partitions))] for target in targets}
        if not journals:
            return []
        # Begin to follow before anything is sent: what is decided about it stands behind the end of now.
        bounds = await self._log.bounds(sorted(journals))
        folds = {partition: Fold(partition, found.end, follows=True) for partition, found in bounds.items()}
        reader = self._log.reader()
        sending = asyncio.create_task(self._send_all(targets, len(partitions)))
        try:
            await reader.assign({partition: fold.next for partition, fold in folds.items()})
            while self._goes_on(sending):
                pause = _LOOK if not sending.done() else max(min(self._time_left(), 5.0), 0.0)
                for record in await reader.fetch(sorted(folds), limit=500, timeout=pause):
                    batch = folds[TopicPartition(record.topic, record.partition)].feed(record)
                    for decision in batch.decisions if batch is not None else ():
                        self._hear(decision)
            await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await reader.close()
        for target in self._waiting.values():
            what = (
                f"no orchestrator decided it within {self.act.patience:g} s; it is in {REQUESTS} and will be decided when one runs"
            )
            self._answer(Answer(target, Came.UNDECIDED, what))
        return self.answers

    def _goes_on(self, sending: asyncio.Task[None]) -> bool:
        if not sending.done():
            return True
        return sending.exception() is None and bool(self._waiting) and self._time_left() > 0

    def _time_left(self) -> float:
        return self._last_sent + self.act.patience - asyncio.get_running_loop().time()

    # --- sending ----------------------------------------------------------------------------------------------------------------------

    async def _send_all(self, targets: Sequence[Target], partitions: int) -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        for number, target in enumerate(targets):
            await asyncio.sleep(max(0.0, begin + number / self.act.rate - loop.time()))
            id = str(uuid.uuid4())
            self._waiting[id] = target
            await self._send(self._record(target, id, partitions))
            self.sent += 1
            self._last_sent = loop.time()

    async def _send(self, record: Outgoing) -> None:
        for attempt in range(1, _TRIES + 1):
            try:
                return await self._log.publish([record])
            except Unavailable:
                if attempt == _TRIES:
                    raise
        return None

    def _record(self, target: Target, id: str, partitions: int) -> Outgoing:
        meant = {"instance": target.instance} if target.instance else {}
        data = {**self.act.data, "saga": target.saga, "key": target.key, **meant, "who": self.act.who, "why": self.act.why}
        event = CloudEvent(self.act.action, id, SOURCE, data, iso_time(wall_clock()), target.key)
        return Outgoing(TopicPartition(REQUESTS, home(target.key, partitions)), event.record(target.key.encode()))

    # --- hearing ----------------------------------------------------------------------------------------------------------------------

    def _hear(self, decision: Decision) -> None:
        if decision.input.source == SOURCE and (target := self._waiting.pop(decision.input.id, None)) is not None:
            self._answer(what_came(target, decision))

    def _answer(self, answer: Answer) -> None:
        self.answers.append(answer)
        if self._told is not None:
            self._told(answer)


def what_came(target: Target, decision: Decision) -> Answer:
    """What a decision made of an operator's action."""
    if decision.note == "unmatched":
        return Answer(target, Came.UNKNOWN, "there is no such instance")
    came = _OWN.get((decision.input.type, decision.note)) or _NOTES.get(decision.note)
    if came is Came.SIGNALLED and decision.input.data.get("role"):
        came = Came.ANSWERED
    if came is None:
        return Answer(target, Came.REFUSED, plain(decision.detail or decision.note))
    if parked := decision.patch.get("parked"):
        again = " again" if decision.input.type in (RETRY, RESUME) else ""
        return Answer(target, Came.PARKED, f"it parked{again}: {parked_because(Parked(**parked))}")
    if came is Came.EDITED:
        return _edited(target, decision)
    return Answer(target, came, _goes_on(came, decision))


def _edited(target: Target, decision: Decision) -> Answer:
    """What the class of its data made of what it was given: of names that it does not know, nothing."""
    given = decision.input.data
    made = decision.data[0] if decision.data is not None else None
    lost = ", ".join(path for path, _ in passed_over(given["data"], made))
    if digest(made) == given.get("was"):
        what = f"its data has no {lost}" if lost else "its data's class makes of it what it was"
        return Answer(target, Came.UNCHANGED, f"{what}; nothing is changed, and it is still parked")
    if lost:
        return Answer(target, Came.IN_PART, f"its data has no {lost}; the rest is changed, and it is still parked")
    return Answer(target, Came.EDITED, "its data is changed; it is still parked")


def _goes_on(came: Came, decision: Decision) -> str:
    if came is Came.KEPT:
        return "it is parked; this waits its turn, until an operator lets it go on"
    if came is Came.CANCELLING:
        return "its pivot is out: that gets no further attempt, and its outcome decides"
    steps = dict.fromkeys(_steps_sent(decision))
    back = "it turns back" if decision.patch.get("phase") == Phase.COMPENSATING else "it goes on"
    if steps:
        return f"{back} with {', '.join(steps)}"
    return "it ended" if "ended" in decision.patch else back


def _steps_sent(decision: Decision) -> Iterator[str]:
    """The steps that a command, or a child, is asked for."""
    for output in decision.outputs:
        if isinstance(output, Send):
            yield plain(step_and_action(output.command)[0])
        elif isinstance(output, Request) and "sagachild" in output.attributes:
            yield plain(step_and_action(output.id)[0])
