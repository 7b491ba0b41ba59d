"""What follows once a step has moved: new steps, compensations in their order, the end, or a wait for an operator.

Forward: a step's turn comes when all before it are settled, as long as nothing failed.

Back: a naive coordinator compensates the moment something fails. That is too early: a parallel branch may still be on its way, and its
effect would be missed or would come after its own compensation. So first every branch settles (S16), and then a compensation starts
only when everything that depended on its step is out of the way (S22). A step with nothing to undo is out of the way when all that
depended on it is.
"""

from __future__ import annotations

from typing import Any

from saga.engine.draft import Draft, UserCodeRaised
from saga.engine.family import end, start_other
from saga.engine.kinds import Chain, Mapped, Waiting
from saga.engine.nodes import AnyStep
from saga.engine.state import ACTION_OF, UNSETTLED, Phase, Status, StepState, Waits, base_name, iteration
from saga.engine.waits import open_wait

MOST_RUNS = 8  # that one decision may begin: more begin anew without waiting for anything


def advance(draft: Draft) -> None:
    """Take every step that is possible now."""
    for _ in range(MOST_RUNS):
        state = draft.state
        if state.phase is Phase.RUNNING:
            _forward(draft)
        if state.phase is Phase.COMPENSATING:  # also if a wait that was opened just now was missed already
            _back(draft)
        if draft.state is state:
            break
    else:
        raise UserCodeRaised(
            "", f"{draft.saga.name} begins anew {MOST_RUNS} times at once; its renew must lead to something that waits"
        )
    if state.live and state.parked is None:
        park_if_quiet(draft)


def _forward(draft: Draft) -> None:
    state, graph = draft.state, draft.saga.graph
    begun = state.steps
    for name, before in graph.before.items():
        if name not in begun:
            if not all(_settled(draft, other) for other in before):
                continue
            _enter(draft, graph.steps[name])
        if name in graph.mapped and begun[name].status is Status.EXECUTING:
            _go_on(draft, graph.mapped[name])
        if state.phase is not Phase.RUNNING:
            return
    if all(_settled(draft, name) for name in graph.steps):
        end(draft, Phase.COMPLETED)


def _enter(draft: Draft, step: AnyStep[Any]) -> None:
    """A step's turn has come."""
    if not draft.wanted(step):
        draft.state.steps[step.name] = StepState(Status.SKIPPED, Waits.NOTHING, decided=draft.now)
    elif isinstance(step, Mapped):
        items = draft.items(step)
        draft.state.steps[step.name] = StepState(Status.EXECUTING, Waits.NOTHING, decided=draft.now, sent=items)
    elif isinstance(step, Waiting):
        open_wait(draft, step)
    elif isinstance(step, Chain):
        start_other(draft, step)
    else:
        draft.execute(step.name)


def _go_on(draft: Draft, step: Mapped[Any, Any, Any]) -> None:
    """Begin the next items of a mapped step, `at_once` of them on their way together; when all are settled, it is done (S17)."""
    steps, items = draft.state.steps, draft.state.steps[step.name].sent
    names = [iteration(step.name, index) for index in range(len(items))]
    under_way = sum(_on_its_way(draft, name) for name in names)
    for name in names:
        if under_way >= step.at_once:
            break
        if name not in steps:
            draft.execute(name)
            under_way += 1
        elif _to_be_tried_again(draft, name):
            draft.once_more(name)
            under_way += 1
    if all(_settled(draft, name) for name in names):
        draft.set(step.name, status=Status.DONE, answer="done")


def _back(draft: Draft) -> None:
    state, graph = draft.state, draft.saga.graph
    unsettled = [name for name, step in state.steps.items() if step.status in UNSETTLED]
    for name in unsettled:
        if _to_be_tried_again(draft, name):
            draft.once_more(name)
    if unsettled:
        return
    parts: dict[str, list[str]] = {name: [] for name in graph.steps}
    for name in state.steps:
        parts[base_name(name)].append(name)
    cleared: dict[str, bool] = {}

    def clear(name: str) -> bool:
        """Is this step out of the way: whatever depended on it undone, and it itself undone or without effect?"""
        if name not in cleared:
            after = [clear(other) for other in graph.next[name]]  # all of them, not only up to the first that is not
            cleared[name] = all(after) and not any(_to_undo(draft, part) for part in parts[name])
        return cleared[name]

    for name in graph.steps:
        clear(name)
    for name, step in graph.steps.items():
        if all(cleared[other] for other in graph.next[name]):
            _undo(draft, step, parts[name])
    if all(cleared.values()):
        end(draft, Phase.COMPENSATED)


def _undo(draft: Draft, step: AnyStep[Any], parts: list[str]) -> None:
    """Begin to compensate a step, or of a mapped one so many iterations as may be on their way together."""
    most = step.at_once if isinstance(step, Mapped) else 1
    under_way = sum(_on_its_way(draft, part) for part in parts)
    for part in parts:
        if under_way >= most or not _to_undo(draft, part):
            continue
        if _to_be_tried_again(draft, part):
            draft.once_more(part)
        elif not _is(draft, part, Status.COMPENSATING):
            draft.begin(part, Status.COMPENSATING)
        else:
            continue
        under_way += 1


def _to_undo(draft: Draft, name: str) -> bool:
    """Does this step have an effect, or perhaps one, that its compensation has not yet undone?"""
    if _is(draft, name, Status.COMPENSATING):
        return True
    step = draft.step(name)
    whole = isinstance(step, Mapped) and name == step.name  # the iterations have the effects
    return step.undoable and not whole and _is(draft, name, Status.DONE, Status.UNKNOWN)


def _settled(draft: Draft, name: str) -> bool:
    """May what comes after this step begin?"""
    step = draft.state.steps.get(name)
    if step is None:
        return False
    if step.status is Status.DONE or step.status is Status.SKIPPED:
        return True
    return draft.step(name).best_effort and step.status in (Status.REFUSED, Status.UNKNOWN)


def _to_be_tried_again(draft: Draft, name: str) -> bool:
    """Did an operator say so, of an iteration (see `actions.retry`)?"""
    return _is(draft, name, *ACTION_OF) and draft.state.steps[name].waits is Waits.NOTHING


def _on_its_way(draft: Draft, name: str) -> bool:
    """Does it wait for a reply, or for its next attempt? What waits for an operator keeps no other from its turn (S24)."""
    step = draft.state.steps.get(name)
    return step is not None and step.waits in (Waits.REPLY, Waits.RETRY)


def _is(draft: Draft, name: str, *statuses: Status) -> bool:
    step = draft.state.steps.get(name)
    return step is not None and step.status in statuses


def park_if_quiet(draft: Draft) -> None:
    """Nothing moves any more by itself, and a step needs an operator: the instance parks.

    Not earlier: what is independent of the step that is stuck still goes on (S24). But a step after the pivot is tried without end;
    beside one that is stuck it gets no more than its ordinary attempts, or the operator would never hear of the other.
    """
    steps = draft.state.steps
    if any(step.waits in (Waits.REPLY, Waits.EVENT) for step in steps.values()):
        return
    stuck = [name for name in steps if steps[name].waits is Waits.OPERATOR]
    if any(_moves(draft, name, bool(stuck)) for name in steps):
        return
    assert stuck, f"{draft.state.id} neither moves nor waits: {steps}"
    stuck.sort(key=lambda name: list(draft.saga.graph.steps).index(base_name(name)))
    name, step = stuck[0], steps[stuck[0]]
    reason = {Status.VERIFYING: "unverified", Status.COMPENSATING: "compensation"}.get(step.status, step.answer or "unknown")
    draft.park(reason, name, step.reason, holds=False)


def _moves(draft: Draft, name: str, another_is_stuck: bool) -> bool:
    """Will a reply or time alone change this step?"""
    step = draft.state.steps[name]
    if step.waits is Waits.RETRY and another_is_stuck and draft.saga.graph.retriable(base_name(name)):
        return step.attempt - step.first + 1 < draft.step(name).retry.attempts
    return step.waits in (Waits.REPLY, Waits.RETRY)
