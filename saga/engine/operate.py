"""An operator's action on one instance, with what was kept until then (S29, S30). What each action does is in `actions`."""

from __future__ import annotations

from dataclasses import replace

from pydantic import ValidationError

from saga.engine.actions import ACTIONS, CANCEL, COMPENSATE, GO_ON, RESUME, RETRY, SIGNAL, SKIP, Refused, refuse_other_run
from saga.engine.advance import advance, park_if_quiet
from saga.engine.decision import DeadLetter, Input, Output
from saga.engine.draft import Draft, UserCodeRaised
from saga.engine.messages import faults
from saga.engine.policy import MAX_DECISIONS
from saga.engine.state import Phase
from saga.engine.take import keep, try_take

_KEPT_FIRST = (RETRY, RESUME)  # these do nothing but let what was kept be decided, where something was


def operate(before: Draft, given: Input) -> tuple[Draft, str, str]:
    """An operator's action (S30): refused with the reason, or done; with it go the inputs that were kept until then."""
    parked, draft = before.state.parked, before.copy()
    try:
        refuse_other_run(draft, given)
    except Refused as refused:
        return draft, "operator-refused", str(refused)
    if draft.saga.schedule is not None and draft.state.key == draft.state.saga and given.type in (CANCEL, COMPENSATE):
        return draft, "operator-refused", "the app has this schedule, so it goes on; take it out of the app, and then cancel it"
    if not draft.state.live:
        return draft, "operator-refused", f"it is not parked but {draft.state.phase}" if given.type == RETRY else "it has ended"
    seen = given.data.get("parked")  # why it was parked when whoever acts looked at it, where that is said
    if seen and seen != (parked and parked.reason):
        return draft, "operator-refused", f"it is not parked any more for the reason {seen}"
    if parked is not None and parked.holds:
        if given.type == SIGNAL:  # an input like those that are kept: its turn comes after theirs
            return draft, *keep(draft, given, "kept")
        return _with_kept(draft, given)
    if parked is None and given.type in _KEPT_FIRST:
        return draft, "operator-refused", f"it is not parked but {draft.state.phase}"
    draft, note, detail = try_take(draft, given)
    if note == "deadletter":  # what the operator gave is not as it must be; nobody wants to redrive that
        return before.copy(), "operator-refused", detail
    return draft, note, detail


def _with_kept(draft: Draft, given: Input) -> tuple[Draft, str, str]:
    """The instance holds its inputs: they are applied in order until one raises again (S29), after what the operator's action changes."""
    state, parked = draft.state, draft.state.parked
    assert parked is not None
    kept, believe, note = [Input.from_json(item) for item in state.kept], parked.reason == "contradiction", "retried"
    went_through = believe and state.phase is Phase.COMPENSATING and draft.step(parked.step).pivot
    if given.type in _KEPT_FIRST and went_through:
        what = "the pivot happened although the participant had denied it, and others are already compensated"
        return draft, "operator-refused", f"{what}; skip lets the denial stand"
    if given.type == SKIP and believe:
        if given.data.get("step") not in (None, "", parked.step):
            what = f"it is parked for what contradicts {parked.step}"
            return draft, "operator-refused", f"{what}, not for {given.data['step']}; skip lets stand what was said before"
        draft.outputs.append(DeadLetter("contradiction", parked.detail, given=state.kept[0]))
        kept, believe, note = kept[1:], False, "skipped"
    elif given.type not in _KEPT_FIRST:
        try:
            note = ACTIONS[given.type](draft, given.data)
        except Refused as refused:
            return draft, "operator-refused", str(refused)
        except (ValidationError, UserCodeRaised) as error:
            return draft, "operator-refused", faults(error) if isinstance(error, ValidationError) else str(error)
        if given.type not in GO_ON or note == "early":
            return draft, note, ""
    if parked.reason == "limit":
        state.limit = state.seq + 1 + MAX_DECISIONS
    state.parked, state.kept = None, []
    for index, item in enumerate(kept):
        trial, _note, _detail = try_take(draft, item, believe=index == 0 and believe)
        draft.state, draft.data_changed = trial.state, trial.data_changed
        draft.outputs = [_of(item, output) for output in trial.outputs]
        if draft.state.parked is not None and draft.state.parked.holds:
            draft.state.kept += [item.to_json() for item in kept[index + 1 :]]
            return draft, "parked", ""
    if draft.state.live and draft.state.parked is None:
        return _carry_on(draft, given, note)
    return draft, note, ""


def _carry_on(draft: Draft, given: Input, note: str) -> tuple[Draft, str, str]:
    """If nothing that was kept changed anything, the instance still waits for what it waited for before, or turns back as it was told."""
    trial = draft.copy()
    try:
        if given.type in _KEPT_FIRST:
            park_if_quiet(trial)
        else:
            advance(trial)
    except UserCodeRaised as raised:
        draft.park(raised.reason, raised.step, raised.detail, holds=True)
        return draft, "parked", ""
    return trial, note, ""


def _of(item: Input, output: Output) -> Output:
    """What a kept input became when its turn came: a dead letter of it, not of the operator's action."""
    if isinstance(output, DeadLetter) and output.given is None:
        return replace(output, given=item.to_json())
    return output
