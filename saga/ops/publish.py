"""An event that starts sagas, published by hand: for a first try, or for what a service could not say itself.

It goes where its service's own would go, and a repetition is harmless for the same reason: the key is known already (S6).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from saga.cloudevents import CloudEvent, iso_time
from saga.engine.definition import Saga
from saga.engine.keys import start_key
from saga.engine.messages import topic_of
from saga.errors import Misconfigured
from saga.log.base import Log, Outgoing, TopicPartition
from saga.log.partition import home
from saga.ops.edits import unknown_fields
from saga.ops.operate import SOURCE, wall_clock


class Published(NamedTuple):
    """Where the event went, and the instances (saga, key) that it is for."""

    id: str
    to: TopicPartition
    instances: Sequence[tuple[str, str]]
    passed_over: Sequence[str] = ()  # sentences on what the event's class does not know


def started_by(sagas: Mapping[str, Saga[Any, Any]], type: str) -> list[Saga[Any, Any]]:
    """The sagas that start on this type; a schedule's only an orchestrator starts. Raises Misconfigured if there is none."""
    by_hand = [saga for saga in sagas.values() if saga.schedule is None]
    found = [saga for saga in by_hand if saga.starts_on.__type__ == type]
    if not found:
        known = ", ".join(sorted({saga.starts_on.__type__ for saga in by_hand}))
        raise Misconfigured(f"{type!r} starts no saga here; what does: {known or 'nothing'}")
    return found


async def publish(log: Log, sagas: Mapping[str, Saga[Any, Any]], type: str, data: Any) -> Published:
    """Publish an event of this type; `data` is what its JSON says.

    Raises Misconfigured if it starts none of these sagas or its topic is not there, Unreadable if one of them cannot take it,
    Unavailable if the log does not answer: then it may have been published.
    """
    started = started_by(sagas, type)
    instances = [(saga.name, start_key(saga, data)) for saga in started]
    topic, key = topic_of(started[0].starts_on), instances[0][1]
    there = await log.describe([topic])
    if topic not in there:
        raise Misconfigured(f"there is no topic {topic} here: `saga topics apply` makes it")
    to = TopicPartition(topic, home(key, there[topic].partitions))
    event = CloudEvent(type, str(uuid.uuid4()), SOURCE, data, iso_time(wall_clock()), key)
    await log.publish([Outgoing(to, event.record(key.encode()))])
    return Published(event.id, to, instances, [text for saga in started for text in unknown_fields(saga.starts_on, data)])
