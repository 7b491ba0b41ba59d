"""How an instance ends, and what instances say to each other: parent and child, and chains (S28). All of it goes over `saga.requests`.

    parent                                     child
    <the event that starts it>   ─────────▶    begins, and remembers whom it answers
                                 ◀─────────    saga.completed.v1 | saga.compensated.v1 | saga.rejected.v1, as the reply to that command
    saga.undo.v1                 ─────────▶    turns back; or, if it had completed, begins a second run that undoes the first
                                 ◀─────────    saga.compensated.v1 when that has ended; saga.nothing.v1 where nothing was to be undone
    saga.release.v1              ─────────▶    need not be kept for that any more

The naive way is to end the child and start a new saga that does the opposite. Then nobody knows which commands the second one undoes. Here
the second run has the steps of the first with what they sent, so its compensations name the commands that they undo, as in any saga; it
is an instance of its own, with an id and an outcome of its own. Parent and child are records apart: each may crash, wait or park alone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from saga.engine.decision import Input, Request
from saga.engine.definition import Saga
from saga.engine.draft import Draft, Ignored, UserCodeRaised
from saga.engine.kinds import Chain, Child
from saga.engine.messages import CHILD_COMPENSATED, CHILD_COMPLETED, CHILD_REJECTED, NOTHING, RELEASE, UNDO
from saga.engine.policy import DEFAULT_REMEMBER
from saga.engine.schedules import announcement
from saga.engine.settle import turn_back
from saga.engine.state import (
    Action,
    Cause,
    Instance,
    Phase,
    Status,
    StepState,
    command_id,
    digest,
    instance_of,
    split_instance,
    step_and_action,
)


def start_other(draft: Draft, step: Chain[Any]) -> None:
    """A chain: the other saga's start leaves with this decision, and nothing is waited for."""
    assert step.command is not None
    assert step.command_class is not None
    data = draft.command(step.name, step.command, step.command_class)
    key = draft.key_of(step.name, step.child, data)
    id = command_id(draft.state.id, step.name, Action.EXECUTE, 1)
    about = {"sagachild": step.child.name, "traceparent": draft.state.trace}
    draft.start_other(step.name, Request(step.command_class.__type__, id, key, data, about))


def end(draft: Draft, phase: Phase) -> None:
    """The one outcome: told with the data, and remembered for a while (S6); a child that may have to be undone, until its parent ends."""
    state = draft.state
    state.phase, state.ended = phase, draft.now
    cause = state.cause
    why = {} if cause is None else {"why": cause.why, "step": cause.step, "detail": cause.detail}
    draft.announce(str(phase), data=state.data, **why)
    if draft.saga.again is None or phase is Phase.COMPENSATED:
        state.early = []  # what came early for a step whose turn never came is late now: it is in the journal, and changes nothing
    if state.parent:
        draft.outputs.append(answer(state, state.parent))
    if phase is Phase.COMPLETED and state.parent and not draft.saga.graph.pivots:
        return  # `released` will say until when it is remembered
    _forget_later(draft)
    if phase is Phase.COMPLETED and draft.saga.again is not None:
        _renew(draft)


def answer(state: Instance, command: str) -> Request:
    """What an ended instance answers to its parent's command, always in the same words."""
    undoing = step_and_action(command)[1] == Action.COMPENSATE
    if state.phase is Phase.COMPLETED:
        return _reply(state, command, "done", CHILD_COMPLETED, state.data)
    cause = state.cause
    why = {} if cause is None else {"reason": f"{cause.why} {cause.step} {cause.detail}".strip()}
    return _reply(state, command, "done" if undoing else "refused", CHILD_COMPENSATED, why)


def refused(state: Instance, command: str, reason: str) -> Request:
    """A start or an undo that this instance cannot take."""
    return _reply(state, command, "refused", CHILD_REJECTED, {"reason": reason})


def nothing(command: str, trace: str) -> Request:
    """There is nothing to undo: nobody of this key was started for that command, or it has undone everything itself."""
    return _request(command, "nothing", NOTHING, {}, trace)


def undo(draft: Draft, given: Input) -> str:
    """The parent wants it undone. Raises Ignored where that is under way already."""
    state, command = draft.state, given.attributes.get("sagaparent", "")
    if state.parent == command:  # told again
        if not state.live:
            draft.outputs.append(answer(state, command))
        raise Ignored("duplicate", "it is being undone, or was")
    ours = state.parent == given.attributes.get("sagasubject", "")
    if not ours or state.phase is Phase.COMPENSATED:
        draft.outputs.append(nothing(command, state.trace))
        raise Ignored("unmatched" if not ours else "after-end", "there is nothing to undo")
    if draft.saga.graph.pivots:
        draft.outputs.append(refused(state, command, "it has a pivot, and is never undone"))
        raise Ignored("after-end", "it has a pivot")
    cause = Cause("parent", detail="its parent turned back")
    if state.live:
        state.parent = command
        turn_back(draft, cause)
        return "undone"
    done = {name: step for name, step in state.steps.items() if step.status in (Status.DONE, Status.SKIPPED, Status.UNKNOWN)}
    draft.begin_run(
        phase=Phase.COMPENSATING,
        cause=cause,
        parent=command,
        undoes=state.id,
        data=state.data,
        steps=done,
        version=state.version,
        hash=state.hash,
        trace=state.trace,
    )
    draft.announce("started")
    return "undone"


def release(draft: Draft, given: Input) -> str:
    """The parent has ended: from now on this instance is kept like any other. Raises Ignored where it is already."""
    state = draft.state
    if state.keep_until is not None or not state.parent or state.parent != given.attributes.get("sagaparent", ""):
        raise Ignored("after-end", "it is not kept for its parent")
    if state.live:  # its parent did not wait for it; nobody is left to be answered
        state.parent = ""
    else:
        _forget_later(draft)
    return "released"


def _forget_later(draft: Draft) -> None:
    """Nobody will ask for it to be undone: it is remembered for a while, and so are its own children.

    They may have been begun by the run that this one undoes, and answer to that one's commands. The definition may be another version's,
    or none at all, where its own is registered no more: a child that only that one knew is then not told.
    """
    state, saga = draft.state, cast("Saga[Any, Any] | None", draft.saga)
    remember = DEFAULT_REMEMBER if saga is None else saga.remember
    state.keep_until = draft.now + round(remember.total_seconds() * 1000)
    for name, step in saga.steps.items() if saga is not None else ():
        there = state.steps.get(name)
        if isinstance(step, Child) and there is not None and _may_be_kept(there):
            id = draft.subject(name)
            about = {"sagaparent": id, "traceparent": state.trace}
            key = there.sent["key"]
            draft.outputs.append(Request(RELEASE, f"{id}:released", key, {"saga": step.child.name, "key": key}, about))


def _may_be_kept(step: StepState) -> bool:
    """Was a child started, and not heard to have ended without effect? Then it may have completed, or will yet."""
    if step.status is Status.COMPENSATED:
        return step.answer == "skipped"
    begun = isinstance(step.sent, dict) and isinstance(step.sent.get("key"), str)
    return begun and step.status not in (Status.SKIPPED, Status.REFUSED)


def _renew(draft: Draft) -> None:
    """All is done: perhaps the saga begins anew, under the same key."""
    again = draft.saga.again
    assert again is not None
    data = draft.call("", again, draft.model(), datetime.fromtimestamp(draft.now / 1000, UTC))
    if data is None:
        return
    if not isinstance(data, draft.saga.data):
        raise UserCodeRaised("", f"renew must return a {draft.saga.data.__name__} or None, not {type(data).__name__}")
    if draft.saga.schedule is None:
        draft.begin_run()
    else:  # its next turn is by the line of the code at hand, so it need not be told of that line again
        draft.begin_run(digest=digest(announcement(draft.saga).model_dump(mode="json")))
    draft.put_data("", data)
    draft.announce("started")


def _reply(state: Instance, command: str, outcome: str, type: str, data: Any) -> Request:
    return _request(command, outcome, type, data, state.trace)


def _request(command: str, outcome: str, type: str, data: Any, trace: str) -> Request:
    _saga, key = split_instance(instance_of(command))
    about = {"sagacommand": command, "sagaoutcome": outcome, "sagaattempt": "1", "traceparent": trace}
    return Request(type, f"{command}:{outcome}", key, data, about)


TOLD = {UNDO: undo, RELEASE: release}  # what a parent says, and what follows from it
