"""One instance and nothing around it: inputs as the engine takes them, and what it decides of each.

The bench runs a worker, a journal and services. What asks only what a definition decides needs none of that: `decide`, `apply`, and a
clock that is a number. `given` tests single decisions so, `explore` tens of thousands of runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from saga.engine.actions import RETRY
from saga.engine.apply import apply
from saga.engine.decide import decide
from saga.engine.decision import Input, Kind, Send
from saga.engine.definition import Saga
from saga.engine.messages import PROTOCOL_TYPES, REQUESTS, Message, events_topic, topic_of
from saga.engine.state import Instance
from saga.log.base import TopicPartition
from saga.ops.lines import page
from saga.ops.look import History, Moment
from saga.ops.operate import SOURCE
from saga.ops.story import story
from saga.runtime.codec import JOURNAL

BEGAN = round(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)  # ms: when every instance begins; the bench's clock does too


WIDTH = 110  # columns of a story in a test's output


def take(saga: Saga[Any, Any], key: str, state: Instance | None, given: Input, now: int) -> Moment:
    """One input is decided and applied; `state` stays as it is. `now` in ms."""
    decision = decide(saga, state, given, now, key)
    after = state
    if decision.seq:
        after = apply(state.copy() if state is not None else None, decision)
    return Moment(now, 0, decision, state, after)


def start_of(event: Message) -> Input:
    return Input(
        Kind.START, event.__type__, "start", event.__service__, f"{topic_of(type(event))}:0:0", data=event.model_dump(mode="json")
    )


def reply_to(send: Send, outcome: str, message: Message | None = None, *, id: str = "", reason: str = "") -> Input:
    """A service's answer. `message`: of the outcomes done and refused; `id`: a repeat has the same."""
    data = message.model_dump(mode="json") if message is not None else {"reason": reason} if reason else {}
    return Input(
        Kind.REPLY,
        message.__type__ if message is not None else PROTOCOL_TYPES[outcome],
        id or f"{send.command}:answer",
        send.service,
        f"{events_topic(send.service)}:0:0",
        data=data,
        attributes={"sagacommand": send.command, "sagaoutcome": outcome, "sagaattempt": str(send.attempt)},
    )


def event_of(event: Message, id: str) -> Input:
    """An event that some service publishes without being asked."""
    kind = type(event)
    return Input(Kind.EVENT, kind.__type__, id, kind.__service__, f"{topic_of(kind)}:0:0", data=event.model_dump(mode="json"))


def child_end(child: str, command: str, outcome: str, type: str, data: BaseModel | None, *, id: str = "") -> Input:
    """How a child tells its parent that it has ended, in answer to the command that started it or wants it undone."""
    about = {"sagacommand": command, "sagaoutcome": outcome, "sagaattempt": "1"}
    plain = data.model_dump(mode="json") if data is not None else {}
    return Input(Kind.REPLY, type, id or f"{command}:{outcome}", child, f"{REQUESTS}:0:0", data=plain, attributes=about)


def timer_of(state: Instance) -> tuple[int, Input] | None:
    """The next timer and when it is due (ms); None if time alone changes nothing."""
    timer = state.next_timer()
    if timer is None:
        return None
    due, step = timer
    return due, Input(Kind.TIMER, data={"step": step, "due": due})


def operator(state: Instance, action: str, id: str, **more: Any) -> Input:
    """What an operator sends with `saga retry`, `saga cancel` and the like."""
    data = {"saga": state.saga, "key": state.key, "who": "operator", "why": "it works again" if action == RETRY else "asked to"}
    return Input(Kind.OPERATOR, action, id, SOURCE, f"{REQUESTS}:0:0", data={**data, **more})


def told(saga: Saga[Any, Any], key: str, moments: Iterable[Moment], now: int) -> str:
    """The story of an instance: the text of `saga show`."""
    all_moments = list(moments)
    last = all_moments[-1].after if all_moments else None
    if last is None:
        return f"{saga.name} {key} was never started"
    history = History(saga.name, key, TopicPartition(JOURNAL, 0), all_moments, last)
    return "\n".join(f"{margin}{text}".rstrip() for _, margin, text in page(story(history, now, saga), WIDTH))
