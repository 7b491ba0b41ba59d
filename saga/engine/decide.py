"""decide(saga, state, input, now) → Decision: what one input means for one instance. Pure: no clock, no chance, no I/O.

The naive way is a handler per message that loads a row, changes it and sends the next command. It fails where two facts meet: a
reply and a time-out, a refusal and a parallel branch, a crash between the change and the command. Here every input, late, doubled or
absurd, becomes one decision; deciding works on a copy; and what leaves is part of the decision, so it is durable before it is sent.

The order of the questions below is the order in which they are asked:

    1. Is it meant for a saga that cannot take it?       → a dead letter (S8)
    2. Is the instance not started yet?                  → a start starts it (S6); an event that it will wait for is kept (S7);
                                                           a parent that wants it undone is told that there is nothing; else unmatched
    3. Was this input decided before? (S11)              → nothing changes
    4. Is it a start?                                    → a repeat, or a conflict (S6)
    5. Is it for another run, or a timer while parked?   → nothing changes
    6. Is its version not the registered one?            → it parks; or, where it has ended, nothing changes (S5)
    7. Is it an operator's?                              → what the rules allow is done, all else refused with the reason (S30)
    8. Is the instance parked until a `retry`?           → the input is kept, in order (S29)
    9. Has it taken all the decisions it may?            → it parks (S32)
   10. Take it: move its step, then everything that follows (`replies`, `waits`, `family`, `advance`)
"""

from __future__ import annotations

from typing import Any

from saga.engine import family, trace
from saga.engine.actions import CANCEL, SIGNAL, signalled
from saga.engine.apply import diff
from saga.engine.decision import Announce, DeadLetter, Decision, Input, Kind, Output
from saga.engine.definition import Saga
from saga.engine.draft import Draft, Ignored
from saga.engine.keys import problem_of
from saga.engine.messages import RELEASE, UNDO
from saga.engine.operate import operate
from saga.engine.policy import KEEP_EARLY, MAX_DECISIONS
from saga.engine.schedules import announcement, is_schedule
from saga.engine.state import Cause, Instance, Phase, Status, digest, early_id, instance_id
from saga.engine.take import keep, try_take
from saga.engine.waits import keep_early

_NO_SAGA: Any = None  # a draft that only parks asks nothing of its definition


def decide(saga: Saga[Any, Any] | None, state: Instance | None, given: Input, now: int, key: str = "") -> Decision:
    """What `given` means for the instance `state` (None: there is none yet, then `key` is its business id). `now` in ms.

    `saga` is the definition registered under the instance's name and version, else another version of it, None if there is none any
    more. `state` is not changed.
    """
    if given.kind is Kind.OTHER:
        return _not_startable(saga, given, key)
    if state is None or state.phase is Phase.EARLY:
        return _before_start(saga, state, given, now, key)
    schedule = saga is not None and saga.schedule is not None and given.kind is Kind.START
    if given.identity and given.identity in state.seen and not schedule:  # a cron line may be as it was once before
        return _nothing(state, given, "duplicate")
    if saga is not None and given.kind is Kind.START and _another_round(state, given):
        return _start(saga, state, given, max(now, state.started + 1), state.key)
    if given.kind is Kind.START and not (schedule and digest(given.data) != state.digest):
        return _started_before(state, given)
    if schedule and not _as_here(saga, given):
        return _nothing(state, given, "repeated-start", "the code at hand has another line: who wrote this is older or newer")
    if schedule and not _may_change(state, now):
        return _nothing(state, given, "repeated-start", "a run goes on; the next one comes as the schedule says by then")
    if given.kind is Kind.REPLY and not given.attributes["sagacommand"].startswith(
        (f"{state.id}:", f"{state.undoes or state.id}:")
    ):
        return _nothing(state, given, "unmatched", "it answers another run")
    if given.kind is Kind.TIMER and state.parked is not None:
        return _nothing(state, given, "parked", "timers stand still")
    if saga is None or not saga.runs(state):
        return _other_version(saga, state, given, now)
    before = Draft(saga, state, now)
    if given.kind is Kind.OPERATOR:
        draft, note, detail = operate(before, given)
    elif state.parked is not None and state.parked.holds:
        note, detail = keep(draft := before.copy(), given, "kept")
    elif state.live and state.seq + 1 >= state.limit:
        draft = before.copy()
        draft.park("limit", detail=f"{state.limit} decisions", holds=True)
        note, detail = keep(draft, given, "parked")
    else:
        draft, note, detail = try_take(before, given)
    return _decision(state, draft, given, note, detail)


def _before_start(saga: Saga[Any, Any] | None, early: Instance | None, given: Input, now: int, key: str) -> Decision:
    """There is no instance, or only events that came before it (`early`)."""
    if early is not None and given.identity and given.identity in early.seen:
        return _nothing(early, given, "duplicate")
    if given.kind is Kind.START and saga is not None:
        return _start(saga, early, given, now, key)
    if given.kind is Kind.EVENT and saga is not None:
        return _keep_stray(saga, early, given, given, now, key)
    if given.kind is Kind.OPERATOR and given.type == SIGNAL and saga is not None and (said := signalled(saga, given)) is not None:
        return _keep_stray(saga, early, given, said, now, key)
    if given.kind is Kind.TIMER and early is not None:
        if early.ended is not None or given.data["due"] != early.deadline or now < early.deadline:
            return _nothing(early, given, "void" if now >= early.deadline else "early")
        return _forget_strays(early, given, now)
    outputs: tuple[Output, ...] = ()
    if given.kind is Kind.PARENT and given.type == UNDO and "sagaparent" in given.attributes:
        outputs = (family.nothing(given.attributes["sagaparent"], given.attributes.get("traceparent", "")),)
    return Decision("", 0, key, given, "unmatched", detail="no such instance", outputs=outputs)


def _keep_stray(saga: Saga[Any, Any], early: Instance | None, given: Input, event: Input, now: int, key: str) -> Decision:
    """S7: an event that came before its start waits for it, for a limited time and up to a limited number."""
    if early is None or early.ended is not None:  # what was given up is not gone yet: its numbers go on
        until = now + round(KEEP_EARLY.total_seconds() * 1000)
        state = Instance(early_id(saga.name, key), saga.name, key, saga.version, saga.graph.hash, now, until, digest="")
        state.phase = Phase.EARLY
        state.seq = early.seq if early is not None else 0
        before = None
    else:
        before, state = early, early.copy()
    draft = Draft(saga, state, now)
    if not keep_early(draft, event):
        detail = f"{len(state.early)} events wait for the start of {saga.name} {key!r}; more are not kept"
        return _nothing(state, given, "deadletter", "early-full", (DeadLetter("early-full", detail),))
    return _decision(before, draft, given, "early", "")


def _forget_strays(early: Instance, given: Input, now: int) -> Decision:
    """Nobody started the saga in time: what was kept for it goes to the dead letters, from where it can be redriven."""
    draft = Draft(_NO_SAGA, early, now).copy()
    detail = f"{early.saga} {early.key!r} was not started within {KEEP_EARLY}"
    draft.outputs += [DeadLetter("never-started", detail, given=item) for item in early.early]
    draft.state.early, draft.state.ended, draft.state.keep_until = [], now, now
    return _decision(early, draft, given, "never-started", detail)


def _start(saga: Saga[Any, Any], early: Instance | None, given: Input, now: int, key: str) -> Decision:
    id = instance_id(saga.name, key, now)
    state = Instance(
        id=id,
        saga=saga.name,
        key=key,
        version=saga.version,
        hash=saga.graph.hash,
        started=now,
        deadline=now + round(saga.deadline.total_seconds() * 1000),
        digest=digest(given.data),
        trace=trace.read(given.attributes.get("traceparent", "")) or trace.begin(id),
        limit=MAX_DECISIONS,
        parent=given.attributes.get("sagaparent", ""),
    )
    if early is not None:
        state.seq, state.seen, state.early = early.seq, early.seen, list(early.early)
    draft = Draft(saga, state, now)
    draft.announce("started")
    draft, note, detail = try_take(draft, given)
    return _decision(early, draft, given, note, detail)


def refuse_growth(state: Instance, given: Input, now: int, size: int) -> Decision:
    """The state would grow beyond what may be stored: park, and set the input aside as a dead letter (S32). `size` in bytes."""
    draft = Draft(_NO_SAGA, state, now).copy()
    detail = f"the instance's state would have {size} bytes"
    if draft.state.parked is None or not draft.state.parked.holds:
        draft.park("too-large", detail=detail, holds=True)
    draft.outputs.append(DeadLetter("too-large", detail))
    return _decision(state, draft, given, "deadletter", detail)


def _not_startable(saga: Saga[Any, Any] | None, given: Input, key: str) -> Decision:
    """What another saga takes and this one cannot: a dead letter with the reason (S8)."""
    if saga is None:
        return Decision("", 0, key, given, "unmatched", detail="no such saga")
    problem = problem_of(saga, given.type, given.data)
    return Decision("", 0, key, given, "deadletter", str(problem), outputs=(DeadLetter(problem.reason, problem.detail),))


def _started_before(state: Instance, given: Input) -> Decision:
    """S6: the same payload is answered as before; another payload under the same key is a conflict. A parent is told, too (S28)."""
    about = {"saga": state.saga, "key": state.key, "instance": state.id, "version": state.version}
    parent = given.attributes.get("sagaparent", "")
    if digest(given.data) != state.digest or (parent and parent != state.parent):
        how = "with another payload" if digest(given.data) != state.digest else "by another"
        detail = f"{state.saga} {state.key!r} was started {how}"
        why = {**about, "reason": "conflict", "detail": detail}
        asked = trace.read(given.attributes.get("traceparent", ""))
        rejected = Announce("saga.rejected.v1", f"{state.id}:rejected:{given.identity}", why, asked)
        outputs: tuple[Output, ...] = (rejected, DeadLetter("conflict", detail))
        if parent:
            outputs = (rejected, family.refused(state, parent, detail))
        return _nothing(state, given, "conflict", detail, outputs)
    if parent:
        return _nothing(state, given, "repeated-start", "", () if state.live else (family.answer(state, parent),))
    what = "started" if state.live else str(state.phase)
    answer = Announce(f"saga.{what}.v1", f"{state.id}:{what}", _answer(state, about), state.trace)
    return _nothing(state, given, "repeated-start", "", (answer,))


def _another_round(state: Instance, given: Input) -> bool:
    """Does a parent try once more what had no effect, under a new command id as for any step (S19)?"""
    was, now = (id.rpartition(":") for id in (state.parent, given.attributes.get("sagaparent", "")))
    same_step = was[0] == now[0] and was[2].partition("~")[0] == now[2].partition("~")[0]
    return state.phase is Phase.COMPENSATED and bool(state.parent) and same_step and was != now


def _as_here(saga: Saga[Any, Any] | None, given: Input) -> bool:
    """Is a schedule told as the code at hand has it? While a deployment rolls, old and new code would change it in turn, and miss slots."""
    return saga is not None and bool(given.data == announcement(saga).model_dump(mode="json"))


def _may_change(state: Instance, now: int) -> bool:
    """May a schedule begin anew with another cron line or policy: does it run nothing, and is its next slot still ahead?

    A slot that passed while nobody ran is still to be decided on: begun anew the schedule would never hear of it.
    """
    ahead = (step.status is Status.WAITING and (step.due or 0) > now for step in state.steps.values())
    return state.live and state.parked is None and any(ahead)


def _answer(state: Instance, about: dict[str, Any]) -> dict[str, Any]:
    if state.live:
        return about
    why = {} if state.cause is None else {"why": state.cause.why, "step": state.cause.step, "detail": state.cause.detail}
    return {**about, "data": state.data, **why}


def _other_version(saga: Saga[Any, Any] | None, state: Instance, given: Input, now: int) -> Decision:
    """S5: an instance is pinned to the version it started with; without that version nothing can be decided."""
    if not state.live:
        if given.kind is Kind.PARENT and given.type == RELEASE:  # it needs none of its own code to be forgotten
            return _released(saga, state, given, now)
        return _nothing(state, given, "after-end", outputs=_to_parent(state, given))
    if saga is None:
        there = "is not registered"
    elif saga.version != state.version:
        there = f"is registered in version {saga.version} only"
    else:
        there = "is registered with another structure under the same version"
    detail = f"the instance runs version {state.version}; {state.saga!r} {there}"
    if given.kind is Kind.OPERATOR:
        if saga is None and given.type == CANCEL and is_schedule(state):
            return _end_removed_schedule(state, given, now)
        return _nothing(state, given, "operator-refused", detail)
    draft = Draft(_NO_SAGA, state, now).copy()
    if state.parked is None or not state.parked.holds:
        draft.park("version", detail=detail, holds=True)
    note, detail = keep(draft, given, "kept")
    return _decision(state, draft, given, note, detail)


def _end_removed_schedule(state: Instance, given: Input, now: int) -> Decision:
    """It needs no code to end: it has no effect of its own. It is not remembered, so that it may come back with a later version."""
    draft = Draft(_NO_SAGA, state, now).copy()
    draft.state.phase, draft.state.ended, draft.state.keep_until = Phase.COMPENSATED, now, now
    draft.state.cause = Cause("cancelled", detail=f"{given.data['who']}: {given.data['why']}"[:500])
    draft.state.parked, draft.state.kept = None, []
    draft.announce("compensated", data=state.data, why="cancelled", step="", detail=draft.state.cause.detail)
    return _decision(state, draft, given, "cancelled", "")


def _released(saga: Saga[Any, Any] | None, state: Instance, given: Input, now: int) -> Decision:
    draft = Draft(_NO_SAGA if saga is None else saga, state, now).copy()
    try:
        note = family.release(draft, given)
    except Ignored as ignored:
        return _nothing(state, given, ignored.reason, ignored.detail)
    return _decision(state, draft, given, note, "")


def _to_parent(state: Instance, given: Input) -> tuple[Output, ...]:
    """A parent that asks for what cannot be done here is not left without an answer."""
    if given.kind is not Kind.PARENT or given.type != UNDO or "sagaparent" not in given.attributes:
        return ()
    return (family.refused(state, given.attributes["sagaparent"], f"version {state.version} of {state.saga} is not registered"),)


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
