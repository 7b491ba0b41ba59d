"""Which instances there are, and in what state: rows for `saga list`, and the choice of those that an operator acts on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from saga.cloudevents import iso_time
from saga.engine.definition import Saga
from saga.engine.kinds import Child, Wait
from saga.engine.state import Instance, Phase, Status, StepState, Waits, base_name
from saga.errors import Misconfigured
from saga.ops.awaited import Awaited, Definitions, Question, awaited, fitting, items_done, questions, step_of
from saga.ops.lines import Tone, tone_of
from saga.ops.look import Journals
from saga.ops.why import PARKED, because, label, parked_because
from saga.ops.words import coarse, duration, last_line, named, plain


class Shown(StrEnum):
    """Which states a list shows; `live` are those without an outcome, `early` those that have not started yet."""

    LIVE = "live"
    EARLY = "early"
    RUNNING = "running"
    COMPENSATING = "compensating"
    PARKED = "parked"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    ALL = "all"


@dataclass(frozen=True)
class Filter:
    """Which instances are meant. `older`: begun at least so many ms ago; `reason`: of parking; `waits`: what some step waits for."""

    saga: str | None = None
    shown: Shown = Shown.LIVE
    step: str | None = None
    reason: str | None = None
    older: int = 0
    waits: Awaited | None = None

    def takes(self, state: Instance, now: int, saga: Saga[Any, Any] | None = None) -> bool:
        """`saga`: the definition that the instance runs, without which an answer or a time counts as an event."""
        fits_state = self.shown is Shown.ALL or self.shown == label(state) or (self.shown is Shown.LIVE and state.live)
        return (
            fits_state
            and self.saga in (None, state.saga)
            and (self.step is None or any(self.step in (name, base_name(name)) for name in waiting_steps(state)))
            and (self.waits is None or any(self.waits is awaited(*step, fitting(saga, state)) for step in _waiting(state)))
            and (self.reason is None or (state.parked is not None and state.parked.reason == self.reason))
            and now - state.started >= self.older
        )


@dataclass
class Listing:
    """The oldest instances that a filter takes, at most `limit` of them (0: all), and how many there are of each state."""

    rows: list[Instance] = field(default_factory=list)
    taken: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    steps: dict[str, set[str]] = field(default_factory=dict)  # by saga: all that the journal, and the app, know of

    def require_known(self, wanted: Filter) -> None:
        """Where nothing is found, a name that nobody knows is a mistake, not good news. Raises Misconfigured with those there are."""
        if self.taken:
            return
        steps = self.steps.get(wanted.saga, set()) if wanted.saga is not None else set[str]().union(*self.steps.values())
        for option, name, known in (
            ("saga", wanted.saga, self.steps),
            ("step", None if wanted.step is None else base_name(wanted.step), steps),
            ("reason", wanted.reason, PARKED),
        ):
            if name is not None and known and name not in known:  # where nothing is known, nothing has run yet
                raise Misconfigured(f"--{option} {plain(name)}: there is none; known are {', '.join(sorted(known))}")


def unknown(_state: Instance) -> None:
    """No definition is at hand."""


async def listing(journals: Journals, wanted: Filter, now: int, limit: int = 0, definitions: Definitions = unknown) -> Listing:
    """Read every partition, one after the other, so that no more than one is in memory."""
    found = Listing()
    for partition in await journals.partitions():
        fold = await journals.fold(partition)
        for registered, one in fold.outlines.items():
            found.steps.setdefault(registered.rpartition(" ")[0], set()).update(one["outline"])
        for state in fold.states():
            found.counts[label(state)] += 1
            if wanted.takes(state, now, definitions(state)):
                found.taken += 1
                found.rows.append(state)
        found.rows.sort(key=lambda state: (state.started, state.saga, state.key))
        if limit:
            del found.rows[limit:]
    return found


async def open_questions(journals: Journals, definitions: Definitions, role: str | None, saga: str | None) -> list[Question]:
    """The questions that wait for a person, of this role if one is given; those with the least time left first."""
    found: list[Question] = []
    for partition in await journals.partitions():
        for state in (await journals.fold(partition)).states():
            if saga in (None, state.saga):
                found += [one for one in questions(state, definitions(state)) if role is None or role in one.roles]
    return sorted(found, key=lambda one: (one.until is None, one.until or one.since, one.saga, one.key, one.step))


def waiting_steps(state: Instance) -> list[str]:
    """The steps that something is waited for at; of a parked instance also the one it is parked at."""
    steps = [name for name, _ in _waiting(state)]
    if state.live and state.parked is not None and state.parked.step and state.parked.step not in steps:
        steps.append(state.parked.step)
    return steps


def _waiting(state: Instance) -> list[tuple[str, StepState]]:
    return [(name, step) for name, step in state.steps.items() if step.waits is not Waits.NOTHING] if state.live else []


HEADINGS = ("STATE", "SAGA", "KEY", "AGE", "STEP", "WHAT")
ASKED = ("SAGA", "KEY", "STEP", "ROLE", "DUE", "ANSWER")


def cells(state: Instance, now: int, saga: Saga[Any, Any] | None = None) -> tuple[Tone, tuple[str, ...]]:
    """A row of the table. `saga`: the definition that the instance runs, if it is at hand."""
    steps = ", ".join(dict.fromkeys(_in_brief(name, state) for name in waiting_steps(state)))
    age = coarse(max(0, now - state.started))
    return tone_of(label(state)), (label(state), state.saga, named(state.key), age, steps, _what(state, now, fitting(saga, state)))


def question_cells(question: Question, now: int) -> tuple[Tone, tuple[str, ...]]:
    """A row of the table of questions."""
    left = "" if question.until is None else f"in {duration(question.until - now)}" if question.until > now else "overdue"
    row = (question.saga, named(question.key), question.step, " or ".join(question.roles), left, question.answer)
    return (Tone.BAD if len(question.roles) > 1 else Tone.PLAIN), row


def _in_brief(name: str, state: Instance) -> str:
    """A step's name; of items of a mapped step, how many are done instead of which wait."""
    done, total = items_done(base_name(name), state)
    return f"{base_name(name)} {done}/{total}" if total and "/" in name else name


def _what(state: Instance, now: int, saga: Saga[Any, Any] | None) -> str:
    if state.phase is Phase.EARLY:
        kept = f"{len(state.early)} event{'s' if len(state.early) != 1 else ''} for its start"
        return "never started" if state.ended is not None else f"keeps {kept} for {duration(state.deadline - now)} more"
    if not state.live:
        took = f"in {duration((state.ended or state.started) - state.started)}"
        return took if state.cause is None else f"{took}: {because(state.cause)}"
    if state.parked is not None:
        return f"{state.parked.reason} for {coarse(max(0, now - state.parked.since))}: {parked_because(state.parked)}"
    said = [_wait(name, step, now, saga) for name, step in _waiting(state)]
    said = [text if (count := said.count(text)) == 1 else f"{count} times {text}" for text in dict.fromkeys(said)]
    if state.cause is not None:
        said.append(because(state.cause))
    return "; ".join(said)


def _wait(name: str, step: StepState, now: int, saga: Saga[Any, Any] | None) -> str:
    left = "" if step.due is None else f" in {duration(step.due - now)}" if step.due > now else " is overdue"
    what = {Status.COMPENSATING: "compensation", Status.VERIFYING: "verify"}.get(step.status, "attempt")
    due = "" if not left else f", due{left}" if step.due is not None and step.due > now else ", overdue"
    definition = step_of(saga, name)
    match awaited(name, step, saga):
        case Awaited.RETRY:
            return f"{what} {step.attempt + 1}{left}: {last_line(step.reason)}"
        case Awaited.OPERATOR:
            return f"needs an operator: {last_line(step.reason)}"
        case Awaited.CHILD if isinstance(definition, Child):
            child = f"{definition.child.name} {named(str(step.sent['key']))}"
            return f"child {child}" + (" to undo itself" if step.status is Status.COMPENSATING else "")
        case Awaited.TIME:
            return f"time{left}"
        case Awaited.ANSWER if isinstance(definition, Wait):
            return f"answer of {' or '.join(definition.may_answer(step))}{due}"
        case Awaited.EVENT:
            awaits = definition.event.__type__ if isinstance(definition, Wait) else "event"
            return awaits + due
    return f"{what} {step.attempt}" + (f", time-out{left}" if left else "")


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
