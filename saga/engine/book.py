"""The book of sagas: which definitions there are, in which versions, and whom an input concerns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from saga.engine.actions import ACTIONS
from saga.engine.decision import Kind
from saga.engine.definition import Saga
from saga.engine.keys import event_key, start_key
from saga.engine.kinds import Chain, Child, Wait
from saga.engine.messages import (
    CHILD_COMPENSATED,
    CHILD_COMPLETED,
    CHILD_REJECTED,
    PROTOCOL_TYPES,
    RELEASE,
    UNDO,
    Event,
    Refusal,
    topic_of,
)
from saga.engine.schedules import SCHEDULED, schedules
from saga.engine.state import instance_of, split_instance
from saga.errors import Misconfigured, Unreadable

PARENT_TYPES = frozenset({UNDO, RELEASE})
_ANSWERS = frozenset({*PROTOCOL_TYPES.values(), CHILD_COMPLETED, CHILD_COMPENSATED, CHILD_REJECTED})


class Target(NamedTuple):
    """An instance that an input concerns: by saga and key, and for a reply also by its id.

    Of kind OTHER: the input would concern this saga but is not valid for it; `decide` makes a dead letter of it, there where another
    saga takes the same input as it is.
    """

    kind: Kind
    saga: str
    key: str
    instance: str = ""


class Book:
    """The registered definitions. `sagas` has the newest version of each, by name: new instances begin with it.

    Raises Misconfigured if a version stands twice or a saga is not there that another one starts; DefinitionError for a mistake in one.
    """

    def __init__(self, sagas: Iterable[Saga[Any, Any]]) -> None:
        self.sagas: dict[str, Saga[Any, Any]] = {}
        self._versions: dict[tuple[str, int], Saga[Any, Any]] = {}
        for saga in sagas:
            self._add(saga)
        for schedule in [made for saga in self.sagas.values() for made in schedules(saga)]:
            self._add(schedule)
        self._starts: dict[str, list[Saga[Any, Any]]] = {}
        for saga in self.sagas.values():
            self._starts.setdefault(saga.starts_on.__type__, []).append(saga)
        self._waits: dict[str, list[tuple[str, Wait[Any, Any]]]] = {}
        answers, topics = set(_ANSWERS), dict[str, None]()
        for saga in self.all():
            self._check_others(saga)
            for step in saga.steps.values():
                if isinstance(step, Wait) and step.key is not None:
                    self._waits.setdefault(step.event.__type__, []).append((saga.name, step))
            for message in saga.messages():
                if message.__type__ != SCHEDULED and (message is saga.starts_on or issubclass(message, Event | Refusal)):
                    topics[topic_of(message)] = None
            messages = [message for step in saga.steps.values() for message in step.messages()]
            answers |= {message.__type__ for message in messages if issubclass(message, Event | Refusal)}
        self._answers = frozenset(answers)
        self.topics = tuple(topics)  # of events that concern some saga
        self._known = self._answers | self._starts.keys() | self._waits.keys() | ACTIONS.keys() | PARENT_TYPES

    def all(self) -> Iterator[Saga[Any, Any]]:
        """Every version of every saga."""
        yield from self._versions.values()

    def definition(self, saga: str, version: int | None = None) -> Saga[Any, Any] | None:
        """A saga in the version that an instance runs; where that one is not registered, the newest there is (S5)."""
        return self._versions.get((saga, version)) or self.sagas.get(saga) if version is not None else self.sagas.get(saga)

    def knows(self, type: str) -> bool:
        return type in self._known

    def route(self, type: str, attributes: Mapping[str, str], data: Any) -> list[Target]:
        """Whom an input concerns. One saga that cannot take it does not take it from the others.

        Raises Unreadable if it is valid for nobody: a start, an event or an operator action that is not as it must be (S8).
        """
        targets = self._replies(type, attributes)
        if type in ACTIONS:
            targets.append(_operator(type, data))
        elif type in PARENT_TYPES:
            targets.append(_parent(type, data))
        problems: dict[str, Unreadable] = {}
        for saga in self._starts.get(type, ()):
            if attributes.get("sagachild", saga.name) == saga.name:
                try:
                    key = start_key(saga, data)
                    if saga.schedule is None or key == saga.name:  # all schedules start on one type of event, each on its own alone
                        targets.append(Target(Kind.START, saga.name, key))
                except Unreadable as problem:
                    problems[saga.name] = problem
        if "sagachild" not in attributes:
            for name, wait in self._waits.get(type, ()):
                self._awaited(name, wait, data, targets, problems)
        if problems and not targets:
            raise next(iter(problems.values()))
        return targets + [Target(Kind.OTHER, name, targets[0].key) for name in problems]

    def _awaited(self, saga: str, wait: Wait[Any, Any], data: Any, targets: list[Target], problems: dict[str, Unreadable]) -> None:
        """An event that a step waits for; an instance that is given it as a reply already is not given it twice."""
        assert wait.key is not None
        try:
            key = event_key(saga, wait.event, wait.key, data)
        except Unreadable as problem:
            problems[saga] = problem
            return
        if not any((target.saga, target.key) == (saga, key) for target in targets):
            targets.append(Target(Kind.EVENT, saga, key))

    def _replies(self, type: str, attributes: Mapping[str, str]) -> list[Target]:
        if type in self._answers and "sagacommand" in attributes:
            instance = instance_of(attributes["sagacommand"])
            try:
                saga_name, key = split_instance(instance)
            except ValueError:
                return []
            if saga_name in self.sagas:
                return [Target(Kind.REPLY, saga_name, key, instance)]
        return []

    def _add(self, saga: Saga[Any, Any]) -> None:
        saga.check()
        if (saga.name, saga.version) in self._versions:
            there = self._versions[saga.name, saga.version]
            raise Misconfigured(
                f"two sagas are named {saga.name!r} and have version {saga.version}: at {there.where} and {saga.where}"
            )
        self._versions[saga.name, saga.version] = saga
        if saga.name not in self.sagas or self.sagas[saga.name].version < saga.version:
            self.sagas[saga.name] = saga

    def _check_others(self, saga: Saga[Any, Any]) -> None:
        for step in saga.steps.values():
            if isinstance(step, Child | Chain) and step.child.name not in self.sagas:
                raise Misconfigured(
                    f"{saga.name} starts {step.child.name} at {step.name} ({step.where}), which is not among the sagas of this app"
                )
            if isinstance(step, Child) and self.sagas[step.child.name].again is not None:
                raise Misconfigured(
                    f"{saga.name} waits for {step.child.name} at {step.name} ({step.where}), which begins anew and never ends; "
                    "start it with starts= and do not wait, or let it have no renew"
                )


def _operator(type: str, data: Any) -> Target:
    names = [data.get(name) if isinstance(data, dict) else None for name in ("saga", "key", "who", "why")]
    if not all(isinstance(name, str) and name for name in names):
        raise Unreadable("schema", f"{type} needs saga, key, who and why as text")
    return Target(Kind.OPERATOR, str(names[0]), str(names[1]))


def _parent(type: str, data: Any) -> Target:
    names = [data.get(name) if isinstance(data, dict) else None for name in ("saga", "key")]
    if not all(isinstance(name, str) and name for name in names):
        raise Unreadable("schema", f"{type} needs saga and key as text")
    return Target(Kind.PARENT, str(names[0]), str(names[1]))
