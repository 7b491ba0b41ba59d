"""Taking one input: it moves its step, and then everything that follows. What cannot be taken leaves all as it was."""

from __future__ import annotations

import orjson
from pydantic import ValidationError

from saga.engine import family
from saga.engine.actions import ACTIONS, GO_ON, Refused, end_attempts, refuse_other_run, settle_endless
from saga.engine.advance import advance
from saga.engine.decision import DeadLetter, Input, Kind
from saga.engine.draft import Draft, Ignored, UserCodeRaised
from saga.engine.messages import RELEASE, faults
from saga.engine.policy import MAX_KEPT, MAX_KEPT_BYTES
from saga.engine.replies import Contradiction, attempt_failed, take_reply
from saga.engine.schedules import Turn
from saga.engine.settle import past_pivot, pivot_is_out, turn_back
from saga.engine.state import Cause, Phase, Status, Waits, digest
from saga.engine.waits import take_event, time_over


def try_take(draft: Draft, given: Input, *, believe: bool = False) -> tuple[Draft, str, str]:
    """Take one input; if it cannot be taken, all is as it was before, but for what must be remembered of it.

    The draft that is given is not changed; another is returned.
    """
    trial = draft.copy()
    try:
        note = _take(trial, given, believe)
    except Ignored as ignored:
        draft = draft.copy()
        draft.outputs += trial.outputs[len(draft.outputs) :]  # what is answered all the same
        return draft, ignored.reason, ignored.detail
    except Refused as refused:
        return draft.copy(), "operator-refused", str(refused)
    except ValidationError as error:
        draft = draft.copy()
        draft.outputs.append(DeadLetter("schema", faults(error)))
        return draft, "deadletter", faults(error)
    except UserCodeRaised as raised:
        draft = draft.copy()
        if not draft.state.live:  # a validator of a late reply; nothing waits for it any more
            return draft, "after-end", raised.detail.splitlines()[-1]
        draft.park(raised.reason, raised.step, raised.detail, holds=True)
        return draft, *keep(draft, given, "parked")
    except Contradiction as contradiction:
        draft = draft.copy()
        if not draft.state.live:
            draft.outputs.append(DeadLetter("contradiction", contradiction.detail))
            return draft, "contradiction", contradiction.detail
        draft.park("contradiction", contradiction.step, contradiction.detail, holds=True)
        return draft, *keep(draft, given, "parked")
    return trial, note, ""


def _take(draft: Draft, given: Input, believe: bool) -> str:
    if given.kind is Kind.START:
        note = _begin(draft, given)
    elif given.kind is Kind.REPLY:
        note = take_reply(draft, given, believe=believe)
    elif given.kind is Kind.PARENT:
        note = family.TOLD[given.type](draft, given)
        if given.type == RELEASE:
            return note  # nothing else changes
    elif not draft.state.live:
        raise Ignored("after-end")
    elif given.kind is Kind.EVENT:
        note = take_event(draft, given)
        if note in ("early", "deadletter"):
            return note
    elif given.kind is Kind.TIMER:
        note = _timer(draft, given.data["step"], given.data["due"])
    else:
        refuse_other_run(draft, given)  # a signal that was kept may have been meant for the run before
        note = ACTIONS[given.type](draft, given.data)
        if given.type not in GO_ON or note == "early":
            return note
    if not draft.state.live:
        raise Ignored("after-end")  # whatever a late reply would have changed
    draft.state.parked = None
    advance(draft)
    return note


def _begin(draft: Draft, given: Input) -> str:
    if draft.state.steps:  # a schedule that was changed
        draft.begin_run(digest=digest(given.data))
        draft.put_data("", Turn())
        draft.announce("started")
        return "rescheduled"
    if draft.state.phase is Phase.COMPENSATING:
        return "started"  # an operator ended it while its start raised: nothing was done, and nothing is to be
    event = draft.call("", draft.saga.starts_on.model_validate, given.data)
    assert draft.saga.begin is not None
    draft.put_data("", draft.call("", draft.saga.begin, event))
    return "started"


def _timer(draft: Draft, name: str, due: int) -> str:
    """S26: a timer speaks of one attempt of one step; when that has settled, it is void."""
    state = draft.state
    if name == "":
        if state.deadline_over or state.deadline != due:
            raise Ignored("void")
        if draft.now < due:
            raise Ignored("early")
        return _deadline(draft)
    step = state.steps.get(name)
    if step is None or step.due != due:
        raise Ignored("void")
    if draft.now < due:
        raise Ignored("early")
    if step.status is Status.WAITING:
        return time_over(draft, name)
    if step.waits is Waits.RETRY:
        draft.again(name)
        return "retry"
    attempt_failed(draft, name, f"no reply to attempt {step.attempt}")
    return "timed-out"


def _deadline(draft: Draft) -> str:
    """S25: before the pivot the deadline turns the saga back; after it, it only alerts. S21: between, the pivot's outcome decides."""
    state = draft.state
    state.deadline_over = True
    if state.phase is Phase.RUNNING and (past_pivot(draft) or pivot_is_out(draft)):
        end_attempts(draft)
        return "deadline"
    turn_back(draft, Cause("deadline", detail="the saga's deadline passed"))
    settle_endless(draft, "the saga's deadline passed")
    return "deadline"


def keep(draft: Draft, given: Input, note: str) -> tuple[str, str]:
    """Keep an input for later; if too many wait already, it goes to the dead letters, from where it can be redriven (S32)."""
    kept, item = draft.state.kept, given.to_json()
    if kept and (len(kept) >= MAX_KEPT or len(orjson.dumps([*kept, item])) > MAX_KEPT_BYTES):
        draft.outputs.append(DeadLetter("kept-full", f"{len(kept)} inputs wait for an operator already; more are not kept"))
        return "deadletter", "kept-full"
    kept.append(item)
    return note, ""
