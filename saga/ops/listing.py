"""Which instances there are, and in what state: rows for `saga list`, and the choice of those to retry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from saga.cloudevents import iso_time
from saga.engine.state import Instance, Status, Waits
from saga.ops.look import Journals
from saga.ops.story import Tone, tone_of
from saga.ops.why import because, label, parked_because
from saga.ops.words import coarse, duration, last_line, plain


class Shown(StrEnum):
    """Which states a list shows; `live` are those without an outcome."""

    LIVE = "live"
    RUNNING = "running"
    COMPENSATING = "compensating"
    PARKED = "parked"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    ALL = "all"


@dataclass(frozen=True)
class Filter:
    """Which instances are meant. `older`: begun at least so many ms ago; `reason`: of parking."""

    saga: str | None = None
    shown: Shown = Shown.LIVE
    step: str | None = None
    reason: str | None = None
    older: int = 0

    def takes(self, state: Instance, now: int) -> bool:
        fits_state = self.shown is Shown.ALL or self.shown == label(state) or (self.shown is Shown.LIVE and state.live)
        return (
            fits_state
            and self.saga in (None, state.saga)
            and (self.step is None or self.step in waiting_steps(state))
            and (self.reason is None or (state.parked is not None and state.parked.reason == self.reason))
            and now - state.started >= self.older
        )


@dataclass
class Listing:
    """The oldest instances that a filter takes, at most `limit` of them (0: all), and how many there are of each state."""

    rows: list[Instance] = field(default_factory=list)
    taken: int = 0
    counts: Counter[str] = field(default_factory=Counter)


async def listing(journals: Journals, wanted: Filter, now: int, limit: int = 0) -> Listing:
    """Read every partition, one after the other, so that no more than one is in memory."""
    found = Listing()
    for partition in await journals.partitions():
        fold = await journals.fold(partition)
        for state in fold.states():
            found.counts[label(state)] += 1
            if wanted.takes(state, now):
                found.taken += 1
                found.rows.append(state)
        found.rows.sort(key=lambda state: (state.started, state.saga, state.key))
        if limit:
            del found.rows[limit:]
    return found


def waiting_steps(state: Instance) -> list[str]:
    """The steps that something is waited for at; of a parked instance also the one it is parked at."""
    steps = [name for name, step in state.steps.items() if step.waits is not Waits.NOTHING]
    if state.parked is not None and state.parked.step and state.parked.step not in steps:
        steps.append(state.parked.step)
    return steps if state.live else []


HEADINGS = ("STATE", "SAGA", "KEY", "AGE", "STEP", "WHAT")


def cells(state: Instance, now: int) -> tuple[Tone, tuple[str, ...]]:
    """A row of the table."""
    steps = ", ".join(waiting_steps(state))
    row = (label(state), state.saga, plain(state.key), coarse(max(0, now - state.started)), steps, _what(state, now))
    return tone_of(label(state)), row


def _what(state: Instance, now: int) -> str:
    if not state.live:
        took = f"in {duration((state.ended or state.started) - state.started)}"
        return took if state.cause is None else f"{took}: {because(state.cause)}"
    if state.parked is not None:
        return f"{state.parked.reason} for {coarse(max(0, now - state.parked.since))}: {parked_because(state.parked)}"
    said = list(_waits(state, now))
    if state.cause is not None:
        said.append(because(state.cause))
    return "; ".join(said)


def _waits(state: Instance, now: int) -> Iterator[str]:
    for step in state.steps.values():
        left = "" if step.due is None else f" in {duration(step.due - now)}" if step.due > now else " is overdue"
        what = {Status.COMPENSATING: "compensation", Status.VERIFYING: "verify"}.get(step.status, "attempt")
        if step.waits is Waits.REPLY:
            yield f"{what} {step.attempt}" + (f", time-out{left}" if left else "")
        elif step.waits is Waits.RETRY:
            yield f"{what} {step.attempt + 1}{left}: {last_line(step.reason)}"
        elif step.waits is Waits.OPERATOR:
            yield f"needs an operator: {last_line(step.reason)}"


def as_json(state: Instance) -> dict[str, Any]:
    """An instance for other programs: its state as the journal keeps it, and times that a person can read."""
    return {
        "saga": state.saga,
        "key": state.key,
        "state": label(state),
        "instance": state.id,
        "version": state.version,
        "started": iso_time(state.started),
        "ended": None if state.ended is None else iso_time(state.ended),
        "waits_at": waiting_steps(state),
        "reason": state.parked.reason if state.parked is not None else None,
        "full": {name: value for name, value in state.to_json().items() if name != "seen"},
    }
