"""What a step waits for, in a word; and which questions wait for a person. Pure.

The journal says that something is waited for and until when. Whether it is an event, an answer or a time, and whose, only the definition
says: two steps that wait look the same in an instance's state, on purpose, since what may be said of them changes with the code.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from saga.cloudevents import iso_time
from saga.engine.definition import Saga
from saga.engine.kinds import Child, Pause, Wait
from saga.engine.nodes import AnyStep
from saga.engine.state import Instance, Status, StepState, Waits, base_name
from saga.ops.blanks import blank
from saga.ops.words import brief, plain

Definitions = Callable[[Instance], Saga[Any, Any] | None]  # the definition that an instance runs, if it is at hand


class Awaited(StrEnum):
    REPLY = "reply"
    RETRY = "retry"  # the time of the next attempt
    CHILD = "child"
    EVENT = "event"  # without the definition: anything that a step without a command waits for
    ANSWER = "answer"
    TIME = "time"
    OPERATOR = "operator"


class Question(NamedTuple):
    """A question that is open. Times in ms since 1970; `until` None: for as long as it takes."""

    saga: str
    key: str
    step: str
    roles: tuple[str, ...]  # who may answer now; the second one since it was escalated
    answer: str  # the type of the answer
    blank: str  # one, as JSON, with what is to be filled in
    since: int
    until: int | None

    def to_json(self) -> dict[str, Any]:
        until = None if self.until is None else iso_time(self.until)
        return self._asdict() | {"roles": list(self.roles), "since": iso_time(self.since), "until": until, "line": self.line()}

    def line(self) -> str:
        """What to type to answer it: the role that was asked first, the saga too, since another one may have the key."""
        key, role = shlex.quote(plain(self.key)), shlex.quote(self.roles[0])
        return f"saga answer {key} {self.step} '{self.blank}' --role {role} --saga {self.saga} --why \"…\""


def fitting(saga: Saga[Any, Any] | None, state: Instance) -> Saga[Any, Any] | None:
    """The definition, if it is the one that this instance runs: another version would tell of other steps."""
    return saga if saga is not None and saga.runs(state) else None


def awaited(name: str, step: StepState, saga: Saga[Any, Any] | None) -> Awaited | None:
    """What a step waits for; None if for nothing. `saga`: one that fits, or None."""
    definition = step_of(saga, name)
    match step.waits:
        case Waits.NOTHING:
            return None
        case Waits.OPERATOR:
            return Awaited.OPERATOR
        case Waits.RETRY:
            return Awaited.RETRY
        case Waits.REPLY:
            return Awaited.CHILD if isinstance(definition, Child) else Awaited.REPLY
    if isinstance(definition, Pause):
        return Awaited.TIME
    return Awaited.ANSWER if isinstance(definition, Wait) and definition.role else Awaited.EVENT


def questions(state: Instance, saga: Saga[Any, Any] | None) -> Iterator[Question]:
    """The questions of one instance that a person may answer now; while it is parked, too, unless it is the answer that it parked at."""
    saga, parked = fitting(saga, state), state.parked
    answered = parked.step if parked is not None and parked.holds else None
    for name, step in state.steps.items() if state.live else ():
        definition = step_of(saga, name)
        if (
            name != answered
            and isinstance(definition, Wait)
            and definition.role
            and step.status in (Status.WAITING, Status.EXECUTING)
        ):
            until = None if step.status is Status.EXECUTING or step.waits is Waits.OPERATOR else step.due
            yield Question(
                state.saga,
                state.key,
                name,
                definition.may_answer(step),
                definition.event.__type__,
                blank(definition.event),
                step.decided,
                until,
            )


def step_of(saga: Saga[Any, Any] | None, name: str) -> AnyStep[Any] | None:
    """The definition of a step, or of the mapped step that an item belongs to."""
    return saga.steps.get(base_name(name)) if saga is not None else None


LONGEST_ITEM = 24  # characters of an item beside its step's name


def titled(name: str, state: Instance | None) -> str:
    """A step as people read it: an item of a mapped step with what it is, in brief."""
    base, _, index = name.partition("/")
    whole = state.steps.get(base) if state is not None and index else None
    if whole is None or not isinstance(whole.sent, list) or not index.isdecimal() or int(index) >= len(whole.sent):
        return name
    return f"{name} {brief(whole.sent[int(index)], LONGEST_ITEM)}"


def items_done(base: str, state: Instance) -> tuple[int, int]:
    """Of a mapped step: how many items are done, and how many there are."""
    whole = state.steps.get(base)
    total = len(whole.sent) if whole is not None and isinstance(whole.sent, list) else 0
    return sum(state.steps[name].status is Status.DONE for name in items_of(base, state)), total


def items_of(base: str, state: Instance) -> list[str]:
    """The items of a mapped step that were begun."""
    return [name for name in state.steps if name.startswith(f"{base}/")]
