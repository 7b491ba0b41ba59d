"""Schedules begin since they are in the app: whoever takes over a partition looks whether those at home there are as its app says.

The naive way is a leader that looks at a clock. Here a schedule's start is an input like any other, on `saga.requests`, under an id that
says what it is; so it may be told by every owner again, and counts once.
"""

from __future__ import annotations

from collections.abc import Iterator

from saga.cloudevents import CloudEvent
from saga.engine.messages import REQUESTS
from saga.engine.schedules import SCHEDULED, announcement
from saga.engine.state import digest
from saga.log.base import Outgoing, TopicPartition
from saga.log.partition import home
from saga.runtime.batch import Place
from saga.runtime.codec import SOURCE
from saga.runtime.fold import Fold
from saga.runtime.states import Slot


def schedules_to_tell(place: Place, fold: Fold) -> Iterator[Outgoing]:
    """The starts of schedules that are at home here and have no instance, or one that was begun for another cron line or policy."""
    for saga in place.book.sagas.values():
        if saga.schedule is None or home(saga.name, place.partitions) != place.number:
            continue
        data = announcement(saga).model_dump(mode="json")
        there = fold.get(Slot(saga.name, saga.name))
        if there is None or there.digest != digest(data):
            event = CloudEvent(SCHEDULED, f"{saga.name}:{digest(data)}", SOURCE, data, subject=saga.name)
            yield Outgoing(TopicPartition(REQUESTS, place.number), event.record(saga.name.encode()))
