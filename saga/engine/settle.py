"""How a step ends, well or not, and the turn back that may follow from it.

Silence is never a "no". A step without an answer is unknown: it is asked about, compensated like one that happened, or left to an
operator, by its policy (S14). Only from a refusal, or from an event that never came, is it known that nothing was done.
"""

from __future__ import annotations

from typing import Any

from saga.engine.draft import Draft, UserCodeRaised, readable
from saga.engine.kinds import Child, Mapped, Waiting
from saga.engine.state import Cause, Phase, Status, Waits


class TurnBack(Exception):
    """Raised by a saga's `done` function, before the pivot: what came means that all is undone. Its text is the reason.

    The step itself counts as done, so it is compensated like the others. From the pivot on it is a mistake, and the instance parks.
    """


def receive(draft: Draft, name: str, message: Any) -> None:
    """Put what came for a step into the data; or turn back, if the saga's own code says so."""
    try:
        draft.receive(name, message)
    except UserCodeRaised as raised:
        if not isinstance(told := raised.__cause__, TurnBack):
            raise
        why = readable(draft.call(name, str, told))[:500]
        if draft.state.phase is Phase.RUNNING and (past_pivot(draft) or pivot_is_out(draft)):
            what = f"{name} wants to turn back, but from the pivot on there is only forward: {why}"
            raise UserCodeRaised(name, what) from None
        turn_back(draft, Cause("decided", name, why))


def turn_back(draft: Draft, cause: Cause) -> None:
    """From now on this instance compensates: no new step, no further attempt of what will be undone (S13)."""
    state = draft.state
    if state.phase is not Phase.RUNNING:
        return
    state.phase = Phase.COMPENSATING
    state.cause = cause
    for name, step in list(state.steps.items()):
        if step.status is Status.WAITING or (step.status is Status.EXECUTING and _only_begins_others(draft, name)):
            draft.set(name, status=Status.SKIPPED, waits=Waits.NOTHING, due=None, reason="the saga turned back")
        elif step.status is Status.EXECUTING and (step.waits is not Waits.REPLY or _can_be_called_back(draft, name)):
            settle_unknown(draft, name, step.reason)
        elif step.status is Status.VERIFYING and step.waits in (Waits.OPERATOR, Waits.NOTHING) and not step.answer:
            give_up_verifying(draft, name, step.reason)


def past_pivot(draft: Draft) -> bool:
    """Is there only forward from here: did the pivot succeed, or, where it was skipped, did anything begin that comes after it?"""
    steps, graph = draft.state.steps, draft.saga.graph
    if any(name in steps and steps[name].status is Status.DONE for name in graph.pivots):
        return True
    after = [name for name in graph.after_pivot if name in steps and not graph.steps[name].best_effort]
    return any(steps[name].status is not Status.SKIPPED for name in after)


def pivot_is_out(draft: Draft) -> bool:
    """Was the pivot begun? While it is not settled, its outcome decides which way the saga goes (S21)."""
    steps = draft.state.steps
    return any(name in steps and steps[name].status is not Status.SKIPPED for name in draft.saga.graph.pivots)


def _only_begins_others(draft: Draft, name: str) -> bool:
    """The state of a mapped step as a whole: its iterations have states of their own."""
    return "/" not in name and isinstance(draft.step(name), Mapped)


def _can_be_called_back(draft: Draft, name: str) -> bool:
    """A child that is on its way is not waited for: whatever it has done by then, it is told to undo."""
    step = draft.step(name)
    return isinstance(step, Child) and step.undoable


def give_up_verifying(draft: Draft, name: str, why: str) -> None:
    """Nobody answered whether it happened, and the saga goes back: compensate it like what did happen."""
    draft.set(name, status=Status.UNKNOWN, waits=Waits.NOTHING, due=None, answer="unknown", reason=why)


def settle_unknown(draft: Draft, name: str, why: str) -> None:
    """A step got no answer and will get no further attempt: what then, by its policy (S14, S21)."""
    state, step = draft.state, draft.step(name)
    if isinstance(step, Waiting):
        missed(draft, name, f"nobody answered its remedy: {why}")
        return
    policy = step.when_unknown()
    going_back = state.phase is Phase.COMPENSATING and not step.pivot
    if policy == "park" and (step.unknown == "park" or not (going_back or step.best_effort)):
        draft.set(name, waits=Waits.OPERATOR, due=None, answer="unknown", reason=why)
    elif policy == "verify" and not going_back:
        draft.begin(name, Status.VERIFYING)
    else:
        # What may have happened is compensated like what did; the participant answers `nothing` if it never ran.
        draft.set(name, status=Status.UNKNOWN, waits=Waits.NOTHING, due=None, answer="unknown", reason=why)
        if not step.best_effort:
            turn_back(draft, Cause("unknown", name, why))


def missed(draft: Draft, name: str, why: str) -> None:
    """What a step waits for did not come, and nothing is left to try. From the pivot on an operator must help: nothing is undone there."""
    if name in draft.saga.graph.after_pivot and not draft.step(name).best_effort:
        draft.set(name, status=Status.WAITING, waits=Waits.OPERATOR, due=None, answer="late", reason=why)
        return
    draft.set(name, status=Status.REFUSED, waits=Waits.NOTHING, due=None, answer="late", reason=why)
    if not draft.step(name).best_effort:
        turn_back(draft, Cause("late", name, why))
