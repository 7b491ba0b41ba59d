"""Inputs and decisions: what the engine is given, and what it made of it. Both are plain data and stand in the journal.

A decision records its outcome, not the way to it: the fields that changed, the data if it changed, and what is to leave. So a
journal folds to the same bytes whatever later versions of the engine or of user code would decide (S31).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any


class Kind(StrEnum):
    START = "start"
    REPLY = "reply"
    EVENT = "event"  # one that a step waits for
    TIMER = "timer"
    PARENT = "parent"  # what an instance is told by the one that started it (S28)
    OPERATOR = "operator"
    OTHER = "other"  # an input that concerns no instance: a dead letter, a forward, an accepted loss


@dataclass(frozen=True)
class Input:
    """One thing that happened. `origin` is where it first stood (topic:partition:offset); a timer has none."""

    kind: Kind
    type: str = ""
    id: str = ""
    source: str = ""
    origin: str = ""
    at: tuple[str, int, int] | None = None  # topic, partition, offset it was read from; a forward has another origin
    data: Any = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def identity(self) -> str:
        """(source, id) where the sender gives both, else the origin; hashed to 64 bits, "" for a timer (S11)."""
        if self.id and self.source:
            name = f"{self.source}\n{self.id}"
        elif self.origin:
            name = f"\n{self.origin}"
        else:
            return ""
        return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()

    @property
    def topic(self) -> str:
        return self.origin.split(":")[0]

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {"kind": self.kind}
        for name in ("type", "id", "source", "origin"):
            if getattr(self, name):
                value[name] = getattr(self, name)
        if self.data is not None:  # an event without fields is {}, which is not the same as no value
            value["data"] = self.data
        if self.at:
            value["at"] = list(self.at)
        if self.attributes:
            value["attributes"] = dict(self.attributes)
        return value

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Input:
        given = dict(value)
        at = given.pop("at", None)
        return Input(kind=Kind(given.pop("kind")), at=tuple(at) if at else None, **given)


@dataclass(frozen=True, slots=True)
class Send:
    """A command to a participant."""

    service: str
    type: str
    command: str  # the command id, the same for every attempt
    action: str
    attempt: int
    time: int  # ms: when the command was first decided
    data: Any
    subject: str = ""  # on compensate and verify: the execute command's id
    trace: str = ""  # traceparent of the start
    kind: str = "send"


@dataclass(frozen=True, slots=True)
class Announce:
    """An event on `saga.events`."""

    type: str
    id: str
    data: Any
    trace: str = ""  # traceparent of the start
    kind: str = "announce"


@dataclass(frozen=True, slots=True)
class Request:
    """A record on `saga.requests` for another instance: its start, or what parent and child say to each other (S28).

    `key`: that instance's business id. `partition`, its home, is filled in by the runtime, which knows how many there are.
    """

    type: str
    id: str
    key: str
    data: Any
    attributes: Mapping[str, str]
    partition: int = 0
    kind: str = "request"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The input, as it came, to `saga.deadletter`. `raw` is filled in by the runtime, which has the bytes.

    `given`: the input as JSON where it is not the decision's own, but one that was kept until an operator's `retry`.
    """

    reason: str
    detail: str
    raw: Any = None
    given: Any = None
    kind: str = "deadletter"


@dataclass(frozen=True, slots=True)
class Forward:
    """The input, as it came, to its home partition of `saga.requests`."""

    partition: int
    raw: Any = None
    kind: str = "forward"


Output = Send | Announce | Request | DeadLetter | Forward

_OUTPUTS: dict[str, type[Output]] = {
    "send": Send,
    "announce": Announce,
    "request": Request,
    "deadletter": DeadLetter,
    "forward": Forward,
}


def output_json(output: Output) -> dict[str, Any]:
    return {name: getattr(output, name) for name in output.__slots__}


def output_from_json(value: Mapping[str, Any]) -> Output:
    return _OUTPUTS[value["kind"]](**value)


@dataclass(frozen=True, slots=True)
class Decision:
    """What one input came to for one instance (or for none: then `instance` is "" and `seq` is 0).

    `note` says in a word what it came to; `patch` the fields of Instance that changed (of the steps, those that changed), `data`
    the user's data if it changed, as a one-element tuple.
    """

    instance: str
    seq: int
    key: str
    input: Input
    note: str
    detail: str = ""
    patch: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[Any] | None = None
    outputs: tuple[Output, ...] = ()

    @property
    def saga(self) -> str:
        """The name of the instance's saga; "" if there is no instance."""
        return self.instance.partition(":")[0]

    @property
    def ignored(self) -> bool:
        return not self.patch and self.data is None
