"""Steps that wait: for an event that nobody commands, for a person's answer, for a time.

Events come when they like: before the saga has started, before their step's turn, twice, late or never. The naive way, a subscription
that is opened when the step begins, loses what came before. Here an event that some step of the saga may still need is kept with the
instance, in order (S7), and the step looks there first when its turn comes.

When its time is over, a wait is late. That is told; with a remedy, or with somebody to escalate to, one more such time begins; then
the step has failed like one that was refused.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from pydantic import ValidationError

from saga.engine.decision import DeadLetter, Input
from saga.engine.draft import Draft, Ignored, UserCodeRaised
from saga.engine.kinds import Pause, Wait, Waiting
from saga.engine.messages import faults
from saga.engine.policy import MAX_EARLY, MAX_EARLY_BYTES
from saga.engine.settle import missed, receive
from saga.engine.state import Phase, Status, StepState, Waits


def open_wait(draft: Draft, step: Waiting[Any]) -> None:
    """The turn of a step that waits has come."""
    draft.state.steps[step.name] = StepState(Status.WAITING, Waits.EVENT, attempt=0, decided=draft.now)
    if isinstance(step, Pause):
        draft.set(step.name, due=_time(draft, step))
        return
    assert isinstance(step, Wait)
    _begin_time(draft, step)
    if step.role:
        draft.announce("asked", step=step.name, role=step.role, answer=step.event.__type__, until=draft.state.steps[step.name].due)
    for item in [item for item in draft.state.early if item["type"] == step.event.__type__ and not step.role]:
        draft.state.early.remove(item)
        try:
            event = draft.read(step.name, step.event, item.get("data"))
        except ValidationError as error:  # it was valid when it was kept; what brings the step's turn now must not suffer for it
            draft.outputs.append(DeadLetter("schema", faults(error), given=item))
            continue
        _came(draft, step, event)
        return


def take_event(draft: Draft, given: Input) -> str:
    """An event that some step of this saga waits for. Raises Ignored where none does any more."""
    steps = [
        step for step in draft.saga.steps.values() if isinstance(step, Wait) and step.event.__type__ == given.type and not step.role
    ]
    for step in steps:
        if is_open(draft, step.name):
            _came(draft, step, draft.read(step.name, step.event, given.data))
            return "event"
    if not any(will_wait(draft, step) for step in steps):
        raise Ignored("late", f"no step waits for {given.type} any more")
    if keep_early(draft, given):
        return "early"
    detail = f"{len(draft.state.early)} events wait for their turn already; more are not kept"
    draft.outputs.append(DeadLetter("early-full", detail))
    return "deadletter"


def will_wait(draft: Draft, step: Wait[Any, Any]) -> bool:
    """Is this a step whose turn may still come? In a saga that begins anew, another run's turn comes too."""
    ahead = step.name not in draft.state.steps or draft.saga.again is not None
    return draft.state.phase is Phase.RUNNING and ahead and not step.role


def keep_early(draft: Draft, event: Input) -> bool:
    """Keep an event until its start or its step (S7). False where too many wait already: then it can only be redriven."""
    early, item = draft.state.early, event.to_json()
    if early and (len(early) >= MAX_EARLY or len(orjson.dumps([*early, item])) > MAX_EARLY_BYTES):
        return False
    early.append(item)
    return True


def answer(draft: Draft, step: Wait[Any, Any], data: Any) -> None:
    """What an operator says in place of an event, or a person in answer to a question."""
    _came(draft, step, draft.read(step.name, step.event, data))


def is_open(draft: Draft, name: str) -> bool:
    """Does this step wait? Also while its remedy is out, and while an operator is needed since nothing came."""
    state = draft.state.steps.get(name)
    return state is not None and state.status in (Status.WAITING, Status.EXECUTING)


def time_over(draft: Draft, name: str) -> str:
    """The time of a wait is over: a pause ends, what was awaited is late."""
    step, state = draft.step(name), draft.state.steps[name]
    if isinstance(step, Pause):
        _came(draft, step, datetime.fromtimestamp(draft.now / 1000, UTC))
        return "time"
    assert isinstance(step, Wait)
    last = state.ask_round > 0 or not (step.command is not None or step.escalate)
    what = f"no answer of {' or '.join(step.may_answer(state))}" if step.role else f"no {step.event.__type__}"
    draft.announce("late", step=name, awaited=step.event.__type__, role=step.role, last=last, since=state.decided)
    if last:
        missed(draft, name, f"{what} in time")
        return "late"
    draft.set(name, ask_round=1)
    if step.command is not None:
        draft.remedy(name)
    else:
        _begin_time(draft, step)
    if step.escalate:
        draft.announce("asked", step=name, role=step.escalate, answer=step.event.__type__, until=draft.state.steps[name].due)
    return "late"


def remedied(draft: Draft, name: str) -> None:
    """The remedy was done: one more time for the event. Raises Ignored where nobody waits for the remedy any more."""
    step = draft.step(name)
    assert isinstance(step, Wait)
    if draft.state.steps[name].status is not Status.EXECUTING:
        raise Ignored("late", f"{name} is {draft.state.steps[name].status}")
    if draft.state.phase is Phase.COMPENSATING:
        draft.set(name, status=Status.SKIPPED, waits=Waits.NOTHING, due=None, reason="the saga turned back")
        return
    draft.set(name, status=Status.WAITING, waits=Waits.EVENT)
    _begin_time(draft, step)


def wait_on(draft: Draft, name: str) -> None:
    """An operator lets a wait that was missed go on for one more time."""
    step = draft.step(name)
    assert isinstance(step, Wait)
    draft.set(name, waits=Waits.EVENT, answer="", reason="")
    _begin_time(draft, step)


def _came(draft: Draft, step: Waiting[Any], what: Any) -> None:
    draft.set(step.name, status=Status.DONE, waits=Waits.NOTHING, due=None, succeeded=True, answer="done", reason="")
    receive(draft, step.name, what)


def _begin_time(draft: Draft, step: Wait[Any, Any]) -> None:
    due = None if step.within is None else draft.now + _ms(step.within)
    draft.set(step.name, due=due)


def _time(draft: Draft, step: Pause[Any]) -> int:
    if isinstance(step.until, timedelta):
        return draft.now + _ms(step.until)
    time = draft.call(step.name, step.until, draft.model())
    if not isinstance(time, datetime) or time.tzinfo is None:
        raise UserCodeRaised(step.name, f"{step.name} must say a time with a zone, not {time!r}")
    return round(time.timestamp() * 1000)


def _ms(time: timedelta) -> int:
    return round(time.total_seconds() * 1000)
