"""What `saga.events` says of a checkout's end: read strictly, and nothing else of it."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import ValidationError

from saga.cloudevents import CloudEvent, parse_time
from saga.engine import trace
from saga.errors import Unreadable
from services.checkout.saga import Checkout, checkout

COMPLETED, COMPENSATED = "saga.completed.v1", "saga.compensated.v1"
OUTCOMES = (COMPLETED, COMPENSATED)


class Outcome(NamedTuple):
    """One checkout's outcome. Told again it has the same id and the same time (`at`, in ms: when it was decided)."""

    id: str
    instance: str
    completed: bool
    at: int
    data: Checkout
    trace: str  # W3C traceparent of the order


def outcome_of(event: CloudEvent) -> Outcome | None:
    """The outcome that this event tells, or None if it tells something else. Raises Unreadable if it is none of the coordinator's."""
    if event.type not in OUTCOMES:
        return None
    try:
        if event.data["saga"] != checkout.name:
            return None
        instance, data = event.data["instance"], Checkout.model_validate(event.data["data"])
    except (KeyError, TypeError, ValidationError) as error:
        raise Unreadable("schema", f"{event.type} {event.id!r}: {error}") from None
    at = parse_time(event.time)
    if at is None or not event.id:
        raise Unreadable("time", f"{event.type} {event.id!r} has no id, or not the time {event.time!r}")
    return Outcome(event.id, instance, event.type == COMPLETED, at, data, trace.read(event.attributes.get("traceparent", "")))
