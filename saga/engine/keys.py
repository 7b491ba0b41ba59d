"""Business ids: how a saga's key comes from an event, and what may be one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from saga.engine.definition import Saga
from saga.engine.kinds import Wait
from saga.engine.messages import faults
from saga.errors import Unreadable

MAX_KEY_BYTES = 512  # a key is in every header and command id of its saga


def start_key(saga: Saga[Any, Any], data: Any) -> str:
    """The business id of a start. Raises Unreadable if it has none, or is not valid (S8)."""
    return event_key(saga.name, saga.starts_on, saga.key, data)


def event_key(saga: str, message: type[BaseModel], key_of: Callable[[Any], str], data: Any) -> str:
    """The key of a saga that an event concerns, by the function that its definition gives. Raises Unreadable."""
    type = getattr(message, "__type__", message.__name__)
    try:
        event = message.model_validate(data)
    except ValidationError as error:
        raise Unreadable("schema", f"{type}: {faults(error)}") from None
    except (Exception, SystemExit) as error:  # pydantic lets through what a validator raises, unless it is a ValueError
        what = f"{type}: a validator of {message.__name__} raised {error.__class__.__name__}"
        raise Unreadable("schema", what) from error
    try:
        key = key_of(event)
    except (Exception, SystemExit) as error:
        raise Unreadable("key", f"the key function of {saga} raised {error!r}") from error
    if not isinstance(key, str) or not key or len(key.encode(errors="replace")) > MAX_KEY_BYTES or not key.isprintable():
        raise Unreadable("key", f"the key of {saga} must be printable text of 1 to {MAX_KEY_BYTES} bytes, not {key!r:.80}")
    return key


def problem_of(saga: Saga[Any, Any], type: str, data: Any) -> Unreadable:
    """Why this saga cannot take an event that another one takes."""
    try:
        if saga.starts_on.__type__ == type:
            start_key(saga, data)
        for step in saga.steps.values():
            if isinstance(step, Wait) and step.key is not None and step.event.__type__ == type:
                event_key(saga.name, step.event, step.key, data)
    except Unreadable as problem:
        return problem
    return Unreadable("key", f"the key function of {saga.name} does not always give the same answer")
