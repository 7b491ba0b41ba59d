"""Builders for the engine's tests: a saga from a few words, with steps of every kind.

    made = make({"pay": Part(), "ship": Part(after=("pay",), pivot=True, verify=True)})
    made = make({"pick": Part(items=3, at_once=2), "paid": Part(after=("pick",), waits="event", within=60, late=True)})

Each step's functions say what they were given, so a test sees whether it was the right thing; `Made` breaks them, or makes them large.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel

from saga.engine.definition import Saga
from saga.engine.kinds import Step
from saga.engine.messages import Command, Event, Refusal
from saga.engine.nodes import START, AnyStep, Node, Unless, unless
from saga.engine.policy import Retry, Unknown


class Ordered(Event, type="shop.ordered.v1"):
    key: str
    text: str = ""


class Did(Event, type="work.did.v1"):
    note: str = ""


class Declined(Refusal, type="work.declined.v1"):
    reason: str = ""


class Do(Command[Did], service="work", refuses=(Declined,)):
    step: str
    text: str = ""


class Undone(Event, type="work.undone.v1"):
    pass


class CannotUndo(Refusal, type="work.cannot-undo.v1"):
    pass


class Undo(Command[Undone], service="work", refuses=(CannotUndo,)):
    step: str
    text: str = ""


class CannotSay(Refusal, type="work.cannot-say.v1"):
    pass


class Find(Command[Did], service="work", refuses=(CannotSay,)):
    step: str


class Happened(Event, type="world.happened.v1"):
    """What a step waits for; each has a type of its own, see `event_for`."""

    key: str = ""
    note: str = ""


class Work(BaseModel):
    key: str
    log: list[str] = []
    text: str = ""


@dataclass(frozen=True)
class Part:
    """One step in a few words: a command, if nothing else is said."""

    after: tuple[str, ...] = ()
    pivot: bool = False
    undo: bool = True  # has a compensation (never one from the pivot on)
    verify: bool = False
    unknown: Unknown | None = None
    timeout: float | None = 10  # seconds
    attempts: int = 2
    when: str = ""  # "?": asks whether its name is in Made.no; "x": if x was not skipped; "!x": unless x was not
    best_effort: bool = False
    items: int | None = None  # a mapped step, with so many items
    at_once: int = 10
    waits: Literal["", "event", "ask", "pause"] = ""
    within: float | None = 60  # seconds; of a pause, how long
    event: str = ""  # waits for the event of this step, not of its own
    late: bool = False  # has a remedy
    escalate: str = ""
    child: Saga[Ordered, Work] | None = None
    chain: Saga[Ordered, Work] | None = None

    @property
    def sends(self) -> bool:
        """Does it send commands that have an effect?"""
        return not (self.waits or self.child or self.chain)


@dataclass
class Made:
    """A saga, and what of its user code is broken now: "start", "<step>", "<step>.done", "<step>.compensate", "<step>.verify"."""

    saga: Saga[Ordered, Work]
    broken: set[str] = field(default_factory=set)
    text: dict[str, str] = field(default_factory=dict)  # what a function puts into what it makes, to make it large
    no: set[str] = field(default_factory=set)  # steps with when="?" that are not wanted
    asked: list[str] = field(default_factory=list)  # conditions and items that were evaluated, in order
    items: dict[str, list[str]] = field(default_factory=dict)


class Broken(Exception):
    """What broken user code raises."""


def make(parts: Mapping[str, Part], *, name: str = "shop", version: int = 1, deadline: float = 3600, checked: bool = True) -> Made:
    saga = Saga(name, version=version, starts_on=Ordered, key=_key, data=Work, deadline=timedelta(seconds=deadline))
    made = Made(saga)
    after_pivot: set[str] = set()
    nodes: dict[str, AnyStep[Work]] = {}

    @saga.start
    def begin(event: Ordered) -> Work:
        return Work(key=event.key, text=_text(made, "start"))

    for step_name, part in parts.items():
        if any(parts[other].pivot or other in after_pivot for other in part.after):
            after_pivot.add(step_name)
        forward = part.pivot or step_name in after_pivot
        after = tuple(nodes[other] for other in part.after) or START
        options: dict[str, Any] = {"after": after, "best_effort": part.best_effort} | _condition(made, step_name, part, nodes)
        nodes[step_name] = _add(made, step_name, part, options, forward)
    if checked:
        saga.check()
    return made


def _condition(
    made: Made, name: str, part: Part, nodes: Mapping[str, AnyStep[Work]]
) -> dict[str, Callable[[Work], bool] | Node | Unless]:
    if not part.when:
        return {}
    if part.when != "?":
        return {"when": unless(nodes[part.when[1:]]) if part.when.startswith("!") else nodes[part.when]}

    def wanted(_data: Work) -> bool:
        made.asked.append(name)
        _text(made, f"{name}.when")
        return name not in made.no

    return {"when": wanted}


def _add(made: Made, name: str, part: Part, options: dict[str, Any], forward: bool) -> AnyStep[Work]:
    if part.waits:
        return _add_wait(made, name, part, options)
    if part.child is not None or part.chain is not None:
        return _add_saga(made, name, part, options)
    retry = Retry(attempts=part.attempts, first=timedelta(seconds=1))
    timeout = None if part.timeout is None else timedelta(seconds=part.timeout)
    options |= {"timeout": timeout, "retry": retry, "unknown": part.unknown}
    options |= {} if part.undo or forward else {"compensation": None}
    add = _add_command if part.items is None else _add_map
    return add(made, name, part, options, forward)


def _add_command(made: Made, name: str, part: Part, options: dict[str, Any], forward: bool) -> AnyStep[Work]:
    def command(_data: Work) -> Do:
        return Do(step=name, text=_text(made, name))

    def done(data: Work, _reply: Did) -> Work:
        return data.model_copy(update={"log": [*data.log, name], "text": _text(made, f"{name}.done")})

    def compensate(_data: Work, sent: Do) -> Undo:
        assert sent.step == name, "the compensation was given another command than the one that was sent"
        return Undo(step=name, text=_text(made, f"{name}.compensate"))

    def verify(_data: Work, sent: Do) -> Find:
        _text(made, f"{name}.verify")
        return Find(step=sent.step)

    command.__name__ = name
    step: Step[Work, Do] = made.saga.step(pivot=part.pivot, **options)(command)
    step.done(done)
    if part.undo and not forward:
        step.compensate(compensate)
    if part.verify:
        step.verify(verify)
    return step


def _add_map(made: Made, name: str, part: Part, options: dict[str, Any], forward: bool) -> AnyStep[Work]:
    made.items[name] = [f"{name}{index}" for index in range(part.items or 0)]

    def items(_data: Work) -> list[str]:
        made.asked.append(name)
        return made.items[name]

    def command(_data: Work, item: str) -> Do:
        return Do(step=name, text=_text(made, name) or item)

    def done(data: Work, item: str, _reply: Did) -> Work:
        return data.model_copy(update={"log": [*data.log, item], "text": _text(made, f"{name}.done")})

    def compensate(_data: Work, item: str, sent: Do) -> Undo:
        assert name in made.text or (sent.step, sent.text) == (name, item), "S17: undone with another item than it was done with"
        _text(made, f"{name}.compensate")
        return Undo(step=name, text=item)

    def verify(_data: Work, _item: str, sent: Do) -> Find:
        _text(made, f"{name}.verify")
        return Find(step=sent.step)

    command.__name__ = name
    mapped = made.saga.each(items, at_once=part.at_once, **options)(command)
    mapped.done(done)
    if part.undo and not forward:
        mapped.compensate(compensate)
    if part.verify:
        mapped.verify(verify)
    return mapped


def _add_wait(made: Made, name: str, part: Part, options: dict[str, Any]) -> AnyStep[Work]:
    within = None if part.within is None else timedelta(seconds=part.within)
    if part.waits == "pause":
        assert within is not None

        def waited(data: Work, at: datetime) -> Work:
            assert at.tzinfo is UTC
            return data.model_copy(update={"log": [*data.log, name]})

        pause = made.saga.pause(within, name=name, **options)
        pause.done(waited)
        return pause
    event = event_for(part.event or name)
    wait = (
        made.saga.ask(event, within=within, name=name, role="boss", escalate=part.escalate, **options)
        if part.waits == "ask"
        else made.saga.expect(event, key=lambda said: said.key, within=within, name=name, **options)
    )

    def came(data: Work, said: Happened) -> Work:
        return data.model_copy(update={"log": [*data.log, f"{name} {said.note}".strip()], "text": _text(made, f"{name}.done")})

    def late(_data: Work) -> Do:
        return Do(step=name, text=_text(made, f"{name}.late"))

    came.__annotations__["said"] = event
    wait.done(came)
    if part.late:
        wait.late(late)
    return wait


def _add_saga(made: Made, name: str, part: Part, options: dict[str, Any]) -> AnyStep[Work]:
    def event(data: Work) -> Ordered:
        return Ordered(key=f"{data.key}-{name}", text=_text(made, name))

    def done(data: Work, child: Work) -> Work:
        return data.model_copy(update={"log": [*data.log, f"{name} {','.join(child.log)}"]})

    event.__name__ = name
    if part.chain is not None:
        return made.saga.starts(part.chain, **options)(event)
    assert part.child is not None
    options |= {"pivot": part.pivot} | ({} if part.undo else {"compensation": None})
    step = made.saga.child(part.child, **options)(event)
    step.done(done)
    return step


@cache
def event_for(name: str) -> type[Happened]:
    """The event that the step of this name waits for."""

    class Named(Happened, type=f"world.{name.lower()}.v1"):
        pass

    return Named


def _key(event: Ordered) -> str:
    return event.key


def _text(made: Made, place: str) -> str:
    if place in made.broken:
        raise Broken(f"{place} is broken")
    return made.text.get(place, "")


LINE = {"a": Part(), "b": Part(after=("a",)), "c": Part(after=("b",))}
FORK = {"a": Part(), "b": Part()}  # two branches, no join
DIAMOND = {"a": Part(), "b": Part(after=("a",)), "c": Part(after=("a",)), "d": Part(after=("b", "c"))}
PIVOT = {"a": Part(), "p": Part(after=("a",), pivot=True, verify=True), "z": Part(after=("p",))}
