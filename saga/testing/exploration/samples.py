"""Sample payloads: what starts the saga, what services answer, what it waits for; where the user gave nothing.

A reply takes what it can from its command (the same order id, the same amount), an event from the start, and the rest is made up from
its JSON Schema: the least that is valid. What cannot be made up is asked for, by an error that says what to write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel

from saga.engine.decision import Request, Send
from saga.engine.definition import Saga
from saga.engine.keys import start_key
from saga.engine.kinds import Chain, Child, Wait
from saga.engine.messages import Command, Message
from saga.errors import Misconfigured, Unreadable
from saga.testing.exploration.schemas import made_up

Given = BaseModel | Callable[[Any], Message] | Sequence[BaseModel]
Replies = Mapping[type[Message] | Saga[Any, Any], Given]  # by command class, by the class of an awaited event, by child

M = TypeVar("M", bound=BaseModel)


class Samples:
    """Payloads for one saga. Raises Misconfigured for a sample that cannot be one, or cannot be made up."""

    def __init__(self, saga: Saga[Any, Any], start: Message | None, replies: Replies) -> None:
        self.commands = {m.__type__: m for m in saga.messages() if issubclass(m, Command)}
        self._waits = {step.name: step for step in saga.steps.values() if isinstance(step, Wait)}
        self.others = {step.child.name: step.child for step in saga.steps.values() if isinstance(step, Child | Chain)}
        self._given = {what: self._listed(saga, what, given) for what, given in replies.items()}
        self.start = start if start is not None else made_up(saga.starts_on, {}, f"start={saga.starts_on.__name__}(...)")
        self._began = self.start.model_dump(mode="json")
        try:
            self.key = start_key(saga, self._began)
        except Unreadable as problem:
            raise Misconfigured(f"{self.start!r} cannot start {saga.name}: {problem}. Give start=...") from None
        self._made: dict[tuple[type[BaseModel], bytes], list[Any]] = {}
        self._events = {name: self._awaited(wait) for name, wait in self._waits.items()}

    def answers(self, send: Send, kind: type[Message]) -> list[Message]:
        """The payloads of this class (the command's reply, or one of its refusals) for this command, at least one."""
        key = (kind, orjson.dumps(send.data))
        if key not in self._made:
            self._made[key] = self._answers(self.commands[send.type], kind, send.data)
        return self._made[key]

    def events(self, step: str) -> list[Message]:
        """What a step waits for, at least one payload."""
        return self._events[step]

    def outcome(self, request: Request, child: Saga[Any, Any]) -> BaseModel:
        """The data of a child that has completed."""
        key = (child.data, orjson.dumps(request.data))
        if key not in self._made:
            given = self._given.get(child, [])
            self._made[key] = given or [made_up(child.data, request.data, f"replies={{{child.name}: {child.data.__name__}(...)}}")]
        outcome: BaseModel = self._made[key][0]
        return outcome

    def _answers(self, command: type[Command[Any]], kind: type[Message], data: Any) -> list[Message]:
        given = self._given.get(command, [])
        every = [one if isinstance(one, BaseModel) else one(command.model_validate(data)) for one in given]
        fitting = [one for one in every if isinstance(one, kind)]
        return fitting or [made_up(kind, data, f"replies={{{command.__name__}: {kind.__name__}(...)}}")]

    def _awaited(self, wait: Wait[Any, Any]) -> list[Message]:
        name = wait.event.__name__
        given: list[Any] = self._given.get(wait.event, [])
        events = given or [made_up(wait.event, self._began, f"replies={{{name}: {name}(...)}}")]
        for event in events:
            if wait.key is not None and wait.key(event) != self.key:
                what = f"{event!r} is not for the instance {self.key!r} but for {wait.key(event)!r}"
                raise Misconfigured(f"{what}: {wait.name} would never get it. Give replies={{{name}: {name}(...)}}")
        return events

    def _listed(self, saga: Saga[Any, Any], what: Any, given: Given) -> list[Any]:
        listed = list(given) if isinstance(given, Sequence) else [given]
        if isinstance(what, Saga):
            known, fits, name = what in self.others.values(), (what.data,), what.name
        elif issubclass(what, Command):
            known, fits, name = what in self.commands.values(), (what.__reply__, *what.__refusals__), what.__name__
        else:
            known, fits, name = any(wait.event is what for wait in self._waits.values()), (what,), what.__name__
        if not known:
            raise Misconfigured(f"replies= names {name}, which {saga.name} neither sends nor waits for")
        for one in listed:
            if isinstance(one, BaseModel) and not isinstance(one, fits):
                raise Misconfigured(f"replies=: {name} is answered by {_or(fits)}, not by {one!r}")
        return listed


def _or(classes: Iterable[type]) -> str:
    return " or ".join(each.__name__ for each in classes)
