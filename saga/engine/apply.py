"""apply(state, decision) → state: how a decision becomes state. No user code, no rules: it writes down what was decided.

`diff` is its other half: what `decide` changed in its working copy, as the patch that `apply` replays. The two together are the
reason why a fold gives the live state, byte for byte.

A patch with an `id` begins another run under the same saga and key: the first one, or one that follows what had ended (a child that is
undone, S28; a saga that begins anew when it is done). The numbers of decisions go on, and what was seen stays known, since a repeat may
come late (S11); everything else begins from its defaults.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from operator import attrgetter
from typing import Any

from saga.engine.decision import Decision, Kind
from saga.engine.state import Instance, StepState, plain, restore

SEEN_BEFORE = 1000  # so many identities a run takes over from the one before it under its key: repeats come within days, not years

# What may change after the start; the rest of Instance is fixed by its first decision.
_CHANGING = (
    "phase",
    "deadline_over",
    "cancelled",
    "cause",
    "parked",
    "ended",
    "keep_until",
    "limit",
    "parent",
    "kept",
    "early",
)
_changing = attrgetter(*_CHANGING)
_FIXED = ("id", "saga", "key", "version", "hash", "started", "deadline", "digest", "trace")
_INITIAL = {f.name: f.default if f.default is not MISSING else [] for f in fields(Instance) if f.name in _CHANGING}
_initially = tuple(_INITIAL[name] if name != "phase" else None for name in _CHANGING)  # the first phase is always told


def diff(before: Instance | None, after: Instance) -> dict[str, Any]:
    """The fields of `after` that differ from `before`, as JSON values; for a new run, those that differ from the defaults."""
    if before is not None and before.id != after.id:
        before = None
    patch: dict[str, Any] = {}
    if before is None:
        patch = {name: getattr(after, name) for name in _FIXED}
        if after.undoes:
            patch["undoes"] = after.undoes
    nows = _changing(after)
    befores = _initially if before is None else _changing(before)
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
    """The state after a decision; `state` itself is changed and returned, or made if this decision begins a run.

    Raises AssertionError if the decision is not the next one of this instance.
    """
    patch = decision.patch
    before = state.seq if state is not None else 0
    assert decision.seq == before + 1, f"{decision.instance}: decision {decision.seq} follows {before}"
    if state is None or "id" in patch:
        remembered = state.seen[-SEEN_BEFORE:] if state is not None else []
        state = Instance(**{name: patch[name] for name in _FIXED}, undoes=patch.get("undoes", ""), seen=remembered)
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
