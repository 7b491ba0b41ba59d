"""The book of sagas: which definitions there are, and whom an input concerns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from saga.engine.decision import Kind
from saga.engine.definition import Saga
from saga.engine.messages import PROTOCOL_TYPES, Event, Refusal, topic_of
from saga.engine.state import split_instance
from saga.errors import Misconfigured, Unreadable

RETRY = "saga.retry.v1"  # an operator's action (S30); its data names saga, key, who and why
OPERATOR_TYPES = frozenset({RETRY})
MAX_KEY_BYTES = 512  # a key is in every header and command id of its saga


class Target(NamedTuple):
    """An instance that an input concerns: by saga and key, and for a reply also by its id.

    Of kind OTHER: the input would start this saga but is not valid for it; `decide` makes a dead letter of it, there where another saga
    takes the same input as it is.
    """

    kind: Kind
    saga: str
    key: str
    instance: str = ""


class Book:
    """The registered definitions. Raises Misconfigured if two have one name, DefinitionError if one has a mistake."""

    def __init__(self, sagas: Iterable[Saga[Any, Any]]) -> None:
        self.sagas: dict[str, Saga[Any, Any]] = {}
        self._starts: dict[str, list[Saga[Any, Any]]] = {}
        answers: set[str] = set(PROTOCOL_TYPES.values())
        topics: dict[str, None] = {}
        for saga in sagas:
            saga.check()
            if saga.name in self.sagas:
                raise Misconfigured(f"two sagas are named {saga.name!r}: at {self.sagas[saga.name].where} and {saga.where}")
            self.sagas[saga.name] = saga
            self._starts.setdefault(saga.starts_on.__type__, []).append(saga)
            topics[topic_of(saga.starts_on)] = None
            for message in saga.messages()[1:]:
                if issubclass(message, Event | Refusal):
                    answers.add(message.__type__)
                    topics[topic_of(message)] = None
        self._answers = frozenset(answers)
        self.topics = tuple(topics)  # of events that concern some saga
        self._known = self._answers | self._starts.keys() | OPERATOR_TYPES

    def knows(self, type: str) -> bool:
        return type in self._known

    def route(self, type: str, attributes: Mapping[str, str], data: Any) -> list[Target]:
        """Whom an input concerns. One saga that cannot take a start does not take it from the others.

        Raises Unreadable if it is valid for nobody: a start or an operator action that is not as it must be (S8).
        """
        targets = self._replies(type, attributes)
        if type in OPERATOR_TYPES:
            targets.append(_operator(type, data))
        problems: dict[str, Unreadable] = {}
        for saga in self._starts.get(type, ()):
            try:
                targets.append(Target(Kind.START, saga.name, start_key(saga, data)))
            except Unreadable as problem:
                problems[saga.name] = problem
        if problems and not targets:
            raise next(iter(problems.values()))
        return targets + [Target(Kind.OTHER, name, targets[0].key) for name in problems]

    def _replies(self, type: str, attributes: Mapping[str, str]) -> list[Target]:
        if type in self._answers and "sagacommand" in attributes:
            instance = ":".join(attributes["sagacommand"].split(":")[:3])
            try:
                saga_name, key = split_instance(instance)
            except ValueError:
                return []
            if saga_name in self.sagas:
                return [Target(Kind.REPLY, saga_name, key, instance)]
        return []


def start_key(saga: Saga[Any, Any], data: Any) -> str:
    """The business id of a start. Raises Unreadable if it has none, or is not valid (S8)."""
    try:
        event = saga.starts_on.model_validate(data)
    except ValidationError as error:
        raise Unreadable("schema", f"{saga.starts_on.__type__}: {brief(error)}") from None
    except (Exception, SystemExit) as error:  # pydantic lets through what a validator raises, unless it is a ValueError
        what = f"{saga.starts_on.__type__}: a validator of {saga.starts_on.__name__} raised {type(error).__name__}"
        raise Unreadable("schema", what) from error
    try:
        key = saga.key(event)
    except (Exception, SystemExit) as error:
        raise Unreadable("key", f"the key function of {saga.name} raised {error!r}") from error
    if not isinstance(key, str) or not key or len(key.encode(errors="replace")) > MAX_KEY_BYTES or not key.isprintable():
        raise Unreadable("key", f"the key of {saga.name} must be printable text of 1 to {MAX_KEY_BYTES} bytes, not {key!r:.80}")
    return key


def _operator(type: str, data: Any) -> Target:
    names = [data.get(name) if isinstance(data, dict) else None for name in ("saga", "key", "who", "why")]
    if not all(isinstance(name, str) and name for name in names):
        raise Unreadable("schema", f"{type} needs saga, key, who and why as text")
    return Target(Kind.OPERATOR, str(names[0]), str(names[1]))


def brief(error: ValidationError) -> str:
    """A validation error in one line, without the values (they may be private)."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in error.errors(include_url=False)[:5])
