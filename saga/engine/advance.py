"""What follows once a step has moved: new steps, compensations in their order, the end, or a wait for an operator.

Forward: a step starts when all before it are done, as long as nothing failed.

Back: a naive coordinator compensates the moment something fails. That is too early: a parallel branch may still be on its way, and its
effect would be missed or would come after its own compensation. So first every branch settles (S16), and then a compensation starts
only when everything that depended on its step is out of the way (S22). A step with nothing to undo is out of the way when all that
depended on it is.
"""

from __future__ import annotations

from saga.engine.draft import Draft
from saga.engine.state import UNSETTLED, Cause, Phase, Status, Waits


def advance(draft: Draft) -> None:
    """Take every step that is possible now."""
    state = draft.state
    if state.phase is Phase.RUNNING:
        _forward(draft)
    elif state.phase is Phase.COMPENSATING:
        _back(draft)
    if state.live and state.parked is None:
        park_if_quiet(draft)


def turn_back(draft: Draft, cause: Cause) -> None:
    """From now on this instance compensates: no new step, no further attempt of what will be undone (S13)."""
    state = draft.state
    if state.phase is not Phase.RUNNING:
        return
    state.phase = Phase.COMPENSATING
    state.cause = cause
    for name, step in list(state.steps.items()):
        if step.status is Status.EXECUTING and step.waits in (Waits.RETRY, Waits.OPERATOR):
            settle_unknown(draft, name, step.reason)
        elif step.status is Status.VERIFYING and step.waits is Waits.OPERATOR and not step.answer:
            give_up_verifying(draft, name, step.reason)


def give_up_verifying(draft: Draft, name: str, why: str) -> None:
    """Nobody answered whether it happened, and the saga goes back: compensate it like what did happen."""
    draft.set(name, status=Status.UNKNOWN, waits=Waits.NOTHING, due=None, answer="unknown", reason=why)


def settle_unknown(draft: Draft, name: str, why: str) -> None:
    """A step got no answer and will get no further attempt: what then, by its policy (S14, S21)."""
    state, step = draft.state, draft.step(name)
    policy = step.when_unknown()
    going_back = state.phase is Phase.COMPENSATING and not step.pivot
    if policy == "park" and (step.unknown == "park" or not going_back):
        draft.set(name, waits=Waits.OPERATOR, due=None, answer="unknown", reason=why)
    elif policy == "verify" and not going_back:
        draft.begin(name, Status.VERIFYING)
    else:
        # What may have happened is compensated like what did; the participant answers `nothing` if it never ran.
        draft.set(name, status=Status.UNKNOWN, waits=Waits.NOTHING, due=None, answer="unknown", reason=why)
        turn_back(draft, Cause("unknown", name, why))


def _forward(draft: Draft) -> None:
    state, graph = draft.state, draft.saga.graph
    for name, before in graph.before.items():
        if name not in state.steps and all(_is(draft, other, Status.DONE) for other in before):
            draft.execute(name)
    if len(state.steps) == len(graph.steps) and all(step.status is Status.DONE for step in state.steps.values()):
        draft.end(Phase.COMPLETED)


def _back(draft: Draft) -> None:
    state, graph = draft.state, draft.saga.graph
    if any(step.status in UNSETTLED for step in state.steps.values()):
        return
    cleared: dict[str, bool] = {}

    def clear(name: str) -> bool:
        """Is this step out of the way: whatever depended on it undone, and it itself undone or without effect?"""
        if name not in cleared:
            after = [clear(other) for other in graph.next[name]]  # all of them, not only up to the first that is not
            cleared[name] = all(after) and not _to_undo(draft, name)
        return cleared[name]

    for name in graph.steps:
        clear(name)
    for name in graph.steps:
        if _is(draft, name, Status.DONE, Status.UNKNOWN) and _to_undo(draft, name) and all(cleared[n] for n in graph.next[name]):
            draft.begin(name, Status.COMPENSATING)
    if all(cleared.values()):
        draft.end(Phase.COMPENSATED)


def _to_undo(draft: Draft, name: str) -> bool:
    """Does this step have an effect, or perhaps one, that its compensation has not yet undone?"""
    if _is(draft, name, Status.COMPENSATING):
        return True
    return draft.step(name).compensation_class is not None and _is(draft, name, Status.DONE, Status.UNKNOWN)


def _is(draft: Draft, name: str, *statuses: Status) -> bool:
    step = draft.state.steps.get(name)
    return step is not None and step.status in statuses


def park_if_quiet(draft: Draft) -> None:
    """Nothing moves any more by itself, and a step needs an operator: the instance parks.

    Not earlier: what is independent of the step that is stuck still goes on (S24). But a step after the pivot is tried without end;
    beside one that is stuck it gets no more than its ordinary attempts, or the operator would never hear of the other.
    """
    steps = draft.state.steps
    if any(step.waits is Waits.REPLY for step in steps.values()):
        return
    stuck = [name for name in draft.saga.graph.steps if name in steps and steps[name].waits is Waits.OPERATOR]
    if any(_moves(draft, name, bool(stuck)) for name in steps):
        return
    assert stuck, f"{draft.state.id} neither moves nor waits: {steps}"
    name, step = stuck[0], steps[stuck[0]]
    reason = {Status.VERIFYING: "unverified", Status.COMPENSATING: "compensation"}.get(step.status, step.answer or "unknown")
    draft.park(reason, name, step.reason, holds=False)


def _moves(draft: Draft, name: str, another_is_stuck: bool) -> bool:
    """Will a reply or time alone change this step?"""
    step = draft.state.steps[name]
    if step.waits is Waits.RETRY and another_is_stuck and draft.saga.graph.retriable(name):
        return step.attempt - step.first + 1 < draft.step(name).retry.attempts
    return step.waits in (Waits.REPLY, Waits.RETRY)
