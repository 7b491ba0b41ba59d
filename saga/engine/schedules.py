"""Schedules: a saga that starts another one by the clock, made of the engine's own pieces.

For each `@report.every(…)` there is a saga with one instance in the whole cluster. It is in the journal like any other, so it survives
every crash, and its owner alone decides it, so each slot is run once. One turn of it is one run:

    slot (a pause until the slot) ──▶ run (a child; its failure changes nothing)      when runs may not overlap
                                  └─▶ begin (a chain; nobody waits for it)            when they may
    then it begins anew, with the next slot

What a slot is, which of them were missed, and which comes next is `calendar`'s matter.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from saga.engine.calendar import Schedule, Slot, after_run, due, next_slot
from saga.engine.definition import Saga, days
from saga.engine.messages import Event
from saga.engine.nodes import START
from saga.engine.state import Instance

SCHEDULED = "saga.scheduled.v1"
FOR_EVER = days(36_500)  # a schedule has no deadline; what it starts has its own


class Scheduled(Event, type=SCHEDULED):
    """An orchestrator found this schedule in its app. Told again and again; only a change of it changes anything."""

    name: str
    cron: str
    tz: str
    missed: str
    overlap: str


class Turn(BaseModel):
    """One turn: the slot that is waited for, and what became of it. Times in ms since 1970; 0: none yet."""

    at: int = 0
    at_once: bool = False  # it passed while the last run went on, so it is not missed
    run: int = 0
    then: int = 0
    fired: int = 0


def schedules(saga: Saga[Any, Any]) -> list[Saga[Scheduled, Turn]]:
    """The sagas that start this one by the clock, one for each `every`."""
    return [_schedule(saga, name, schedule, make) for name, (schedule, make) in saga.timetable.items()]


def announcement(saga: Saga[Any, Any]) -> Scheduled:
    """The event that starts a schedule's only instance, or tells it that it changed. Its key is the saga's name."""
    made = saga.schedule
    assert made is not None, f"{saga.name} is no schedule"
    return Scheduled(name=saga.name, cron=made.cron, tz=made.tz, missed=made.missed, overlap=made.overlap)


def is_schedule(state: Instance) -> bool:
    """Whether this is a schedule's instance, told without its definition: an app may have it no more."""
    return isinstance(state.data, dict) and set(state.data) == set(Turn.model_fields)


def _schedule(target: Saga[Any, Any], name: str, schedule: Schedule, make: Callable[[Slot], Any]) -> Saga[Scheduled, Turn]:
    saga = Saga(f"{target.name}-{name}", version=1, starts_on=Scheduled, key=lambda event: event.name, data=Turn, deadline=FOR_EVER)
    saga.schedule, saga.where = schedule, target.where
    Start = target.starts_on

    @saga.start
    def _begin(_event: Scheduled) -> Turn:
        return Turn()

    slot = saga.pause(lambda turn: datetime.fromtimestamp(turn.at / 1000, UTC), after=START, name="slot")

    @slot.done
    def _come(turn: Turn, at: datetime) -> Turn:
        now = _ms(at)
        if not turn.at:
            return turn.model_copy(update={"then": next_slot(schedule, now), "fired": now})
        if turn.at_once:
            return turn.model_copy(update={"run": turn.at, "then": next_slot(schedule, turn.at)})
        found = due(schedule, turn.at, now)
        return turn.model_copy(update={"run": found.run or 0, "then": found.then, "fired": now})

    def run(turn: Turn) -> Start:  # type: ignore[valid-type]
        return make(Slot.of(schedule, turn.run))  # type: ignore[no-any-return]

    def begin(turn: Turn) -> Start:  # type: ignore[valid-type]
        return make(Slot.of(schedule, turn.run))  # type: ignore[no-any-return]

    alone = schedule.overlap != "allow"
    saga.child(target, after=slot, when=lambda turn: alone and turn.run > 0, best_effort=True, compensation=None)(run)
    saga.starts(target, after=slot, when=lambda turn: not alone and turn.run > 0, best_effort=True)(begin)

    @saga.renew
    def _again(turn: Turn, at: datetime) -> Turn | None:
        if not turn.run or not alone:
            return Turn(at=turn.then, fired=turn.fired)
        following = after_run(schedule, turn.run, turn.fired, _ms(at))
        return Turn(at=following, at_once=following <= _ms(at), fired=turn.fired)

    return saga


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
