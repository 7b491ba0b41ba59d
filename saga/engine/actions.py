"""What an operator may do with one instance: a decision like any other, with who and why (S30).

    retry        the steps that are stuck get another attempt, or a new round; after user code raised, what was kept is applied
    resume       only what was kept is applied: no command is sent again
    cancel       before the pivot it turns back; while the pivot is out its attempts end and its outcome decides (S20, S21)
    compensate   the same, and what is stuck counts as unknown: it is compensated, whatever its policy says
    skip         a step that is stuck counts as done, with the result that the operator gives; or as never done; a compensation as done.
                 After a contradiction: what was said before stands, and what contradicts it is set aside
    edit         other data, while it is parked
    signal       an event that a step waits for, or the answer to a question, by somebody who has the role

The naive way is a status column that operators may set. Then nothing says what was done about it, and the next reply finds a state that
the rules never led to. Here an action is allowed where the rules allow what follows from it, and refused with the reason elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from saga.engine.decision import Input, Kind
from saga.engine.definition import Saga
from saga.engine.draft import Draft
from saga.engine.kinds import Child, Mapped, Wait
from saga.engine.messages import CHILD_COMPLETED
from saga.engine.settle import give_up_verifying, past_pivot, pivot_is_out, receive, settle_unknown, turn_back
from saga.engine.state import ACTION_OF, BY_HAND, Action, Cause, Phase, Status, StepState, Waits, digest
from saga.engine.waits import answer, is_open, keep_early, wait_on, will_wait

RETRY, RESUME, CANCEL = "saga.retry.v1", "saga.resume.v1", "saga.cancel.v1"
COMPENSATE, SKIP, EDIT, SIGNAL = "saga.compensate.v1", "saga.skip.v1", "saga.edit.v1", "saga.signal.v1"


class Refused(Exception):
    """The action is not allowed here, because …"""


def refuse_other_run(draft: Draft, given: Input) -> None:
    """Raises Refused if the saga has begun anew since whoever acts looked at it."""
    meant = given.data.get("instance")
    if meant and meant != draft.state.id:
        raise Refused(f"this was meant for {meant}, and now it is {draft.state.id}")


def retry(draft: Draft, _data: Mapping[str, Any]) -> str:
    """Move every step that is stuck."""
    for name, step in list(draft.state.steps.items()):
        if step.waits is not Waits.OPERATOR:
            continue
        if step.status is Status.WAITING:
            wait_on(draft, name)
        elif step.status is Status.EXECUTING and draft.state.phase is Phase.COMPENSATING:
            draft.set(name, status=Status.UNKNOWN, waits=Waits.NOTHING)  # what will be undone is not tried again (S13)
        elif isinstance(draft.step(name), Mapped):
            draft.set(name, waits=Waits.NOTHING)  # its turn comes again when not too many others are on their way (S17)
        else:
            draft.once_more(name)
    return "retried"


def resume(draft: Draft, _data: Mapping[str, Any]) -> str:
    raise Refused("no input is kept for it; retry, skip or compensate what is stuck" if draft.state.parked else "it is not parked")


def cancel(draft: Draft, data: Mapping[str, Any]) -> str:
    return _back(draft, Cause("cancelled", detail=f"{data['who']}: {data['why']}"[:500]))


def compensate(draft: Draft, data: Mapping[str, Any]) -> str:
    note = _back(draft, Cause("operator", detail=f"{data['who']}: {data['why']}"[:500]))
    for name, step in list(draft.state.steps.items()):
        if step.waits is Waits.OPERATOR and step.status in (Status.EXECUTING, Status.VERIFYING) and not draft.step(name).pivot:
            give_up_verifying(draft, name, step.reason)
    return note


def _back(draft: Draft, cause: Cause) -> str:
    state, graph = draft.state, draft.saga.graph
    if state.phase is Phase.COMPENSATING:
        raise Refused("it compensates already")
    if past_pivot(draft):
        how = "its pivot went through" if pivot_is_out(draft) else "it is past its pivot, which was skipped"
        raise Refused(f"{how}: from here there is only forward")
    if pivot_is_out(draft):
        if any(name in state.steps and state.steps[name].waits is Waits.OPERATOR for name in graph.pivots):
            raise Refused("nobody knows whether its pivot happened; skip the pivot, with or without a result, or retry it")
        end_attempts(draft)
        state.cancelled = True
        return "cancelling"
    turn_back(draft, cause)
    settle_endless(draft, f"{cause.why}: {cause.detail}")
    return "cancelled"


def end_attempts(draft: Draft) -> None:
    """The pivot gets no further attempt; the one that is out decides (S21)."""
    for name in draft.saga.graph.pivots:
        pivot = draft.state.steps.get(name)
        if pivot is not None and pivot.status is Status.EXECUTING and pivot.waits is Waits.RETRY:
            settle_unknown(draft, name, f"no further attempt: the saga is to end; {pivot.reason}")


def settle_endless(draft: Draft, why: str) -> None:
    """What waits for a reply without a time-out of its own waits no longer."""
    for name, step in list(draft.state.steps.items()):
        if step.status is Status.EXECUTING and step.waits is Waits.REPLY and step.due is None:
            settle_unknown(draft, name, why)


def skip(draft: Draft, data: Mapping[str, Any]) -> str:
    """Raises Refused; ValidationError for a result that does not fit."""
    state, name = draft.state, str(data.get("step", ""))
    there = state.steps.get(name)
    if there is None or there.waits is not Waits.OPERATOR:
        stuck = [other for other, step in state.steps.items() if step.waits is Waits.OPERATOR]
        raise Refused(f"{name or 'no step'} is not stuck; {', '.join(stuck) or 'no step'} is{_yet(name, there)}")
    step, result = draft.step(name), data.get("result")
    if there.status is Status.COMPENSATING:
        draft.set(name, status=Status.COMPENSATED, waits=Waits.NOTHING, due=None, answer="skipped", reason="")
    elif isinstance(step, Wait):
        answer(draft, step, result)
    elif data.get("nothing"):
        if draft.saga.graph.retriable(step.name):
            raise Refused("it is after the pivot, where there is no way back: give a result")
        draft.set(name, status=Status.REFUSED, waits=Waits.NOTHING, due=None, answer="nothing", reason="said an operator")
        if not step.best_effort:
            turn_back(draft, Cause("refused", name, f"{data['who']} says that it never happened: {data['why']}"[:500]))
    else:
        said = BY_HAND if there.answer in ("refused", "nothing") else "done"
        draft.set(name, status=Status.DONE, waits=Waits.NOTHING, due=None, succeeded=True, answer=said, reason="")
        receive(draft, name, draft.read(name, _reply_class(step), result))
    return "skipped"


def _yet(name: str, step: StepState | None) -> str:
    """What a step is at that gives up by itself, if nobody answers."""
    if step is None or step.status not in ACTION_OF or step.waits not in (Waits.REPLY, Waits.RETRY):
        return ""
    at = {Status.VERIFYING: "is being asked about", Status.COMPENSATING: "is being compensated"}.get(step.status, "is being tried")
    return f": {name} {at} (attempt {step.attempt}); skip it once that is given up"


def _reply_class(step: Any) -> Any:
    replies = step.answers(Action.EXECUTE, "done")
    return replies[CHILD_COMPLETED] if isinstance(step, Child) else next(iter(replies.values()))


def edit(draft: Draft, data: Mapping[str, Any]) -> str:
    """Raises Refused; ValidationError for data that is not the saga's."""
    if draft.state.parked is None:
        raise Refused("data is edited only while it is parked, when nothing else changes it")
    if data.get("was") not in (None, digest(draft.state.data)):
        raise Refused("somebody else has changed its data meanwhile; look again")
    draft.put_data("", draft.read("", draft.saga.data, data.get("data")))
    return "edited"


def signal(draft: Draft, data: Mapping[str, Any]) -> str:
    """An event, or a person's answer. Raises Refused; ValidationError if it is not as its class says."""
    type, role = data.get("type"), data.get("role", "")
    steps = [step for step in draft.saga.steps.values() if isinstance(step, Wait) and step.event.__type__ == type]
    if steps and data.get("step"):
        others = ", ".join(step.name for step in steps)
        steps = [step for step in steps if step.name == data["step"]]
        if not steps:
            raise Refused(f"{data['step']} waits for no {type}; {others} does")
    if not steps:
        awaited = sorted({step.event.__type__ for step in draft.saga.steps.values() if isinstance(step, Wait)})
        raise Refused(f"no step waits for {type}; this saga waits for {', '.join(awaited) or 'no event at all'}")
    for step in steps:
        if is_open(draft, step.name):
            if step.role and role not in (roles := step.may_answer(draft.state.steps[step.name])):
                who = role or f"nobody in particular: `saga answer … --role {roles[0]}`"
                raise Refused(f"{step.name} is answered by the role {' or '.join(roles)}, not by {who}")
            answer(draft, step, data.get("data"))
            return "signalled"
    if any(will_wait(draft, step) for step in steps):
        draft.read(steps[0].name, steps[0].event, data.get("data"))
        if not keep_early(draft, _event(data)):
            raise Refused(f"{len(draft.state.early)} events wait for their turn already; more are not kept")
        return "early"
    raise Refused(f"{steps[0].name} does not wait {'any more' if steps[0].name in draft.state.steps else 'yet'}")


def signalled(saga: Saga[Any, Any], given: Input) -> Input | None:
    """The event that somebody says in place of a service, before its saga has started; None if this saga can wait for no such event."""
    for step in saga.steps.values():
        if isinstance(step, Wait) and step.event.__type__ == given.data.get("type") and not step.role:
            try:
                step.event.model_validate(given.data.get("data"))
            except Exception:  # whatever a validator raises, it is no such event
                return None
            return _event(given.data)
    return None


def _event(said: Mapping[str, Any]) -> Input:
    return Input(Kind.EVENT, said["type"], data=said.get("data"))


Handler = Callable[[Draft, Mapping[str, Any]], str]

ACTIONS: Final[Mapping[str, Handler]] = {
    RETRY: retry,
    RESUME: resume,
    CANCEL: cancel,
    COMPENSATE: compensate,
    SKIP: skip,
    EDIT: edit,
    SIGNAL: signal,
}
GO_ON: Final = (RETRY, CANCEL, COMPENSATE, SKIP, SIGNAL)  # what follows from these moves the instance, so it is parked no longer
