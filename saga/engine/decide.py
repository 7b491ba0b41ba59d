"""decide(saga, state, input, now) → Decision: what one input means for one instance. Pure: no clock, no chance, no I/O.

The naive way is a handler per message that loads a row, changes it and sends the next command. It fails where two facts meet: a
reply and a time-out, a refusal and a parallel branch, a crash between the change and the command. Here every input, late, doubled or
absurd, becomes one decision; deciding works on a copy; and what leaves is part of the decision, so it is durable before it is sent.

The order of the questions below is the order in which they are asked:

    1. Is it a start that only another saga can take?    → a dead letter (S8)
    2. Is there no instance yet?                         → a start makes one (S6); anything else is unmatched
    3. Was this input decided before? (S11)              → nothing changes
    4. Is it a start?                                    → a repeat, or a conflict (S6)
    5. Is it for another run, or a timer while parked?   → nothing changes
    6. Is its version not the registered one?            → it parks; or, where it has ended, nothing changes (S5)
    7. Is it an operator's?                              → what is parked goes on, or the action is refused (S30)
    8. Is the instance parked until a `retry`?           → the input is kept, in order (S29)
    9. Has it taken all the decisions it may?            → it parks (S32)
   10. Take it: move its step, then everything that follows (`replies`, `advance`)
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import orjson
from pydantic import ValidationError

from saga.engine import trace
from saga.engine.advance import advance, park_if_quiet, settle_unknown, turn_back
from saga.engine.apply import diff
from saga.engine.book import brief, start_key
from saga.engine.decision import Announce, DeadLetter, Decision, Input, Kind, Output
from saga.engine.definition import Saga
from saga.engine.draft import Draft, UserCodeRaised
from saga.engine.policy import MAX_DECISIONS, MAX_KEPT, MAX_KEPT_BYTES
from saga.engine.replies import Contradiction, Ignored, attempt_failed, take_reply
from saga.engine.state import Cause, Instance, Phase, Status, Waits, instance_id
from saga.errors import Unreadable

_NO_SAGA: Any = None  # a draft that only parks asks nothing of its definition


def decide(saga: Saga[Any, Any] | None, state: Instance | None, given: Input, now: int, key: str = "") -> Decision:
    """What `given` means for the instance `state` (None: there is none yet, then `key` is its business id). `now` in ms.

    `saga` is the definition registered under the instance's name, None if there is none any more. `state` is not changed.
    """
    if given.kind is Kind.OTHER:
        return _not_startable(saga, given, key)
    if state is None:
        if given.kind is not Kind.START or saga is None:
            return Decision("", 0, key, given, "unmatched", detail="no such instance")
        return _start(saga, given, now, key)
    if given.identity and given.identity in state.seen:
        return _nothing(state, given, "duplicate")
    if given.kind is Kind.START:
        return _started_before(state, given)
    if given.kind is Kind.REPLY and not given.attributes["sagacommand"].startswith(state.id + ":"):
        return _nothing(state, given, "unmatched", "it answers another run")
    if given.kind is Kind.TIMER and state.parked is not None:
        return _nothing(state, given, "parked", "timers stand still")
    if saga is None or saga.version != state.version or saga.graph.hash != state.hash:
        return _other_version(saga, state, given, now)
    before = Draft(saga, state, now)
    if given.kind is Kind.OPERATOR:
        note, detail = _retry(draft := before.copy(), given)
    elif state.parked is not None and state.parked.holds:
        note, detail = _keep(draft := before.copy(), given, "kept")
    elif state.live and state.seq + 1 >= state.limit:
        draft = before.copy()
        draft.park("limit", detail=f"{state.limit} decisions", holds=True)
        note, detail = _keep(draft, given, "parked")
    else:
        draft, note, detail = _try(before, given)
    return _decision(state, draft, given, note, detail)


def _start(saga: Saga[Any, Any], given: Input, now: int, key: str) -> Decision:
    id = instance_id(saga.name, key, now)
    state = Instance(
        id=id,
        saga=saga.name,
        key=key,
        version=saga.version,
        hash=saga.graph.hash,
        started=now,
        deadline=now + round(saga.deadline.total_seconds() * 1000),
        digest=_digest(given.data),
        trace=trace.read(given.attributes.get("traceparent", "")) or trace.begin(id),
        limit=MAX_DECISIONS,
    )
    draft = Draft(saga, state, now)
    draft.announce("started")
    draft, note, detail = _try(draft, given)
    return _decision(None, draft, given, note, detail)


def refuse_growth(state: Instance, given: Input, now: int, size: int) -> Decision:
    """The state would grow beyond what may be stored: park, and set the input aside as a dead letter (S32). `size` in bytes."""
    draft = Draft(_NO_SAGA, state, now).copy()
    detail = f"the instance's state would have {size} bytes"
    if draft.state.parked is None or not draft.state.parked.holds:
        draft.park("too-large", detail=detail, holds=True)
    draft.outputs.append(DeadLetter("too-large", detail))
    return _decision(state, draft, given, "deadletter", detail)


def _not_startable(saga: Saga[Any, Any] | None, given: Input, key: str) -> Decision:
    """A start that another saga takes and this one cannot: a dead letter with the reason (S8)."""
    if saga is None:
        return Decision("", 0, key, given, "unmatched", detail="no such saga")
    problem = Unreadable("key", f"the key function of {saga.name} does not always give the same answer")
    try:
        start_key(saga, given.data)
    except Unreadable as found:
        problem = found
    return Decision("", 0, key, given, "deadletter", str(problem), outputs=(DeadLetter(problem.reason, problem.detail),))


def _started_before(state: Instance, given: Input) -> Decision:
    """S6: the same payload is answered as before; another payload under the same key is a conflict."""
    about = {"saga": state.saga, "key": state.key, "instance": state.id, "version": state.version}
    if _digest(given.data) != state.digest:
        detail = f"{state.saga} {state.key!r} was started with another payload"
        why = {**about, "reason": "conflict", "detail": detail}
        asked = trace.read(given.attributes.get("traceparent", ""))
        rejected = Announce("saga.rejected.v1", f"{state.id}:rejected:{given.identity}", why, asked)
        return _nothing(state, given, "conflict", detail, (rejected, DeadLetter("conflict", detail)))
    what = "started" if state.live else str(state.phase)
    answer = Announce(f"saga.{what}.v1", f"{state.id}:{what}", _answer(state, about), state.trace)
    return _nothing(state, given, "repeated-start", "", (answer,))


def _answer(state: Instance, about: dict[str, Any]) -> dict[str, Any]:
    if state.live:
        return about
    why = {} if state.cause is None else {"why": state.cause.why, "step": state.cause.step, "detail": state.cause.detail}
    return {**about, "data": state.data, **why}


def _other_version(saga: Saga[Any, Any] | None, state: Instance, given: Input, now: int) -> Decision:
    """S5: an instance is pinned to the version it started with; without that version nothing can be decided."""
    if not state.live:
        return _nothing(state, given, "after-end")
    if saga is None:
        there = "is not registered"
    elif saga.version != state.version:
        there = f"is registered in version {saga.version} only"
    else:
        there = "is registered with another structure under the same version"
    detail = f"the instance runs version {state.version}; {state.saga!r} {there}"
    if given.kind is Kind.OPERATOR:
        return _nothing(state, given, "operator-refused", detail)
    draft = Draft(_NO_SAGA, state, now).copy()
    if state.parked is None or not state.parked.holds:
        draft.park("version", detail=detail, holds=True)
    note, detail = _keep(draft, given, "kept")
    return _decision(state, draft, given, note, detail)


def _try(draft: Draft, given: Input, *, believe: bool = False) -> tuple[Draft, str, str]:
    """Take one input; if it cannot be taken, all is as it was before, but for what must be remembered of it.

    The draft that is given is not changed; another is returned.
    """
    trial = draft.copy()
    try:
        note = _take(trial, given, believe)
    except Ignored as ignored:
        return draft.copy(), ignored.reason, ignored.detail
    except ValidationError as error:
        draft = draft.copy()
        draft.outputs.append(DeadLetter("schema", brief(error)))
        return draft, "deadletter", brief(error)
    except UserCodeRaised as raised:
        draft = draft.copy()
        if not draft.state.live:  # a validator of a late reply; nothing waits for it any more
            return draft, "after-end", raised.detail.splitlines()[-1]
        draft.park(raised.reason, raised.step, raised.detail, holds=True)
        return draft, *_keep(draft, given, "parked")
    except Contradiction as contradiction:
        draft = draft.copy()
        if not draft.state.live:
            draft.outputs.append(DeadLetter("contradiction", contradiction.detail))
            return draft, "contradiction", contradiction.detail
        draft.park("contradiction", contradiction.step, contradiction.detail, holds=True)
        return draft, *_keep(draft, given, "parked")
    return trial, note, ""


def _take(draft: Draft, given: Input, believe: bool) -> str:
    if given.kind is Kind.START:
        event = draft.call("", draft.saga.starts_on.model_validate, given.data)
        assert draft.saga.begin is not None
        draft.put_data("", draft.call("", draft.saga.begin, event))
        note = "started"
    elif given.kind is Kind.REPLY:
        note = take_reply(draft, given, believe=believe)
    elif not draft.state.live:
        raise Ignored("after-end")
    elif given.kind is Kind.TIMER:
        note = _timer(draft, given.data["step"], given.data["due"])
    else:
        _move_stuck_steps(draft)
        note = "retried"
    if not draft.state.live:
        raise Ignored("after-end")  # whatever a late reply would have changed
    draft.state.parked = None
    advance(draft)
    return note


def _timer(draft: Draft, name: str, due: int) -> str:
    """S26: a timer speaks of one attempt of one step; when that has settled, it is void."""
    state = draft.state
    if name == "":
        if state.deadline_over or state.deadline != due:
            raise Ignored("void")
        if draft.now < due:
            raise Ignored("early")
        return _deadline(draft)
    step = state.steps[name]
    if step.due != due:
        raise Ignored("void")
    if draft.now < due:
        raise Ignored("early")
    if step.waits is Waits.RETRY:
        draft.again(name)
        return "retry"
    attempt_failed(draft, name, f"no reply to attempt {step.attempt}")
    return "timed-out"


def _deadline(draft: Draft) -> str:
    """S25: before the pivot the deadline turns the saga back; after it, it only alerts. S21: between, the pivot's outcome decides."""
    state = draft.state
    state.deadline_over = True
    pivot = state.steps.get(draft.saga.graph.pivot or "")
    if pivot is not None and state.phase is Phase.RUNNING:
        if pivot.status is Status.EXECUTING and pivot.waits is Waits.RETRY:
            settle_unknown(draft, draft.saga.graph.pivot or "", f"the deadline passed; {pivot.reason}")
        return "deadline"
    turn_back(draft, Cause("deadline", detail="the saga's deadline passed"))
    for name, step in list(state.steps.items()):
        if step.status is Status.EXECUTING and step.waits is Waits.REPLY and step.due is None:
            settle_unknown(draft, name, "the saga's deadline passed")
    return "deadline"


def _retry(draft: Draft, given: Input) -> tuple[str, str]:
    """An operator lets a parked instance go on: kept inputs in order until one raises again (S29), or the steps that are stuck."""
    state, parked = draft.state, draft.state.parked
    if parked is None:
        return "operator-refused", f"it is not parked but {state.phase}"
    pivot_went_through = parked.reason == "contradiction" and state.phase is Phase.COMPENSATING and draft.step(parked.step).pivot
    if pivot_went_through:
        return "operator-refused", "the pivot happened although the participant had denied it, and others are already compensated"
    if parked.reason == "limit":
        state.limit = state.seq + 1 + MAX_DECISIONS
    kept = [Input.from_json(item) for item in state.kept] if parked.holds else [given]
    state.parked, state.kept = None, []
    note = "retried"
    for index, item in enumerate(kept):
        trial, _note, _detail = _try(draft, item, believe=index == 0 and parked.reason == "contradiction")
        draft.state, draft.data_changed = trial.state, trial.data_changed
        draft.outputs = [_of(item, output) if parked.holds else output for output in trial.outputs]
        if draft.state.parked is not None and draft.state.parked.holds:
            draft.state.kept += [item.to_json() for item in kept[index + 1 :]]
            note = "parked"
            break
    if draft.state.live and draft.state.parked is None:
        park_if_quiet(draft)  # if nothing that was kept changed anything, it still waits for what it waited for before
    return note, ""


def _of(item: Input, output: Output) -> Output:
    """What a kept input became when its turn came: a dead letter of it, not of the operator's action."""
    if isinstance(output, DeadLetter) and output.given is None:
        return replace(output, given=item.to_json())
    return output


def _move_stuck_steps(draft: Draft) -> None:
    for name, step in list(draft.state.steps.items()):
        if step.waits is not Waits.OPERATOR:
            continue
        if step.status is Status.EXECUTING and draft.state.phase is Phase.COMPENSATING:
            draft.set(name, status=Status.UNKNOWN, waits=Waits.NOTHING)  # what will be undone is not tried again (S13)
        elif step.answer in ("refused", "nothing"):
            draft.fresh(name)
        else:
            draft.set(name, first=step.attempt + 1)
            draft.again(name)


def _keep(draft: Draft, given: Input, note: str) -> tuple[str, str]:
    """Keep an input for later; if too many wait already, it goes to the dead letters, from where it can be redriven (S32)."""
    kept, item = draft.state.kept, given.to_json()
    if kept and (len(kept) >= MAX_KEPT or len(orjson.dumps([*kept, item])) > MAX_KEPT_BYTES):
        draft.outputs.append(DeadLetter("kept-full", f"{len(kept)} inputs wait for an operator already; more are not kept"))
        return "deadletter", "kept-full"
    kept.append(item)
    return note, ""


def _decision(before: Instance | None, draft: Draft, given: Input, note: str, detail: str) -> Decision:
    draft.finish(before)
    state = draft.state
    return Decision(
        instance=state.id,
        seq=state.seq + 1,
        key=state.key,
        input=given,
        note=note,
        detail=detail,
        patch=diff(before, state),
        data=(state.data,) if draft.data_changed else None,
        outputs=tuple(draft.outputs),
    )


def _nothing(state: Instance, given: Input, note: str, detail: str = "", outputs: tuple[Output, ...] = ()) -> Decision:
    return Decision(state.id, state.seq + 1, state.key, given, note, detail, outputs=outputs)


def _digest(data: Any) -> str:
    return hashlib.blake2b(orjson.dumps(data, option=orjson.OPT_SORT_KEYS), digest_size=12).hexdigest()
