"""apply(state, decision) → state: how a decision becomes state. No user code, no rules: it writes down what was decided.

`diff` is its other half: what `decide` changed in its working copy, as the patch that `apply` replays. The two together are the
reason why a fold gives the live state, byte for byte.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from saga.engine.decision import Decision, Kind
from saga.engine.state import Instance, StepState, plain, restore

# What may change after the start; the rest of Instance is fixed by its first decision.
_CHANGING = ("phase", "deadline_over", "cause", "parked", "ended", "keep_until", "limit", "kept")
_changing = attrgetter(*_CHANGING)
_UNKNOWN = object()
_FIXED = ("id", "saga", "key", "version", "hash", "started", "deadline", "digest", "trace")


def diff(before: Instance | None, after: Instance) -> dict[str, Any]:
    """The fields of `after` that differ from `before`, as JSON values; for a new instance, all of them."""
    patch: dict[str, Any] = {}
    if before is None:
        patch = {name: getattr(after, name) for name in _FIXED}
    nows = _changing(after)
    befores = (_UNKNOWN,) * len(nows) if before is None else _changing(before)
    if nows != befores:
        for name, was, now in zip(_CHANGING, befores, nows, strict=True):
            if now != was:
                patch[name] = plain(now)
    old = before.steps if before is not None else {}
    steps = {name: step.to_json() for name, step in after.steps.items() if old.get(name) is not step}
    if steps:
        patch["steps"] = steps
    return patch


def apply(state: Instance | None, decision: Decision) -> Instance:
    """The state after a decision; `state` itself is changed and returned, or made if this is the first decision.

    Raises AssertionError if the decision is not the next one of this instance.
    """
    patch = decision.patch
    if state is None:
        assert decision.seq == 1, f"{decision.instance}: the first decision has seq {decision.seq}"
        state = Instance(**{name: patch[name] for name in _FIXED})
    assert decision.seq == state.seq + 1, f"{decision.instance}: decision {decision.seq} follows {state.seq}"
    state.seq = decision.seq
    for name in _CHANGING:
        if name in patch:
            setattr(state, name, restore(name, patch[name]))
    for name, step in patch.get("steps", {}).items():
        state.steps[name] = StepState.from_json(step)
    if decision.data is not None:
        (state.data,) = decision.data
    # A dead letter is not remembered: it may be redriven. An operator's action that was refused is: its repeat must not take
    # effect later (S11, S30).
    counts = not decision.ignored or decision.input.kind is Kind.OPERATOR
    if counts and decision.note not in ("duplicate", "deadletter") and (identity := decision.input.identity):
        state.seen = [*state.seen, identity]
    return state
