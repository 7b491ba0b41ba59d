"""Recorded decisions, decided again by the code at hand. Pure, but that the saga's own functions run.

The journal's own past never changes: a restore runs no user code. So this asks another question than `saga replay` does: had today's
code been there, on what the instance was then, what would it have decided? Where it raises, or does not take what was taken, it would
do so to the next instance that comes there. Where it decides something else, somebody meant that, or did not; so it is told, no more.

A user's functions are pure, as everywhere: what they say, not what they do, is looked at. Nothing is sent.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from saga.engine.apply import apply
from saga.engine.book import Book
from saga.engine.decide import decide
from saga.engine.decision import Announce, DeadLetter, Decision, Output, Request, Send, output_json
from saga.engine.definition import Saga
from saga.engine.state import Instance, Phase
from saga.ops.check_findings import Findings, Weight
from saga.ops.check_instances import fields_changed
from saga.ops.words import plain
from saga.raised import raised, raised_at
from saga.runtime.codec import decision_record
from saga.runtime.fold import Committed
from saga.runtime.states import UNMEASURED, Held, Slot, States
from saga.runtime.versions import VERSION

_TIMES = {"due", "decided", "deadline", "keep_until", "limit"}  # what a changed time-out, deadline or retry changes
_RAISES = ("user-code", "too-large")


class Recorded(NamedTuple):
    """A decision, what it was made on, and what it left; `now` in ms."""

    before: Instance | None
    decision: Decision
    after: Instance
    now: int


class Redecide:
    """Decides again what the batches of one partition hold: all, or the `last` decisions of each instance."""

    def __init__(self, book: Book, found: Findings, last: int | None = None) -> None:
        self._book = book
        self._found = found
        self._last = last
        self._states = States()
        self._forget: list[tuple[int, Slot]] = []
        self._recent: dict[Slot, deque[Recorded]] = {}
        self.unknown = 0  # decisions on what stands only in a part of the journal that was trimmed

    def take(self, batch: Committed) -> None:
        for value in batch.snapshot:
            if value["kind"] == "snapshot.part":
                self._know(Instance.from_json(value["instance"]))
        for decision in batch.decisions:
            if decision.seq:
                self._decided(decision, batch.commit["now"])
        while self._forget and self._forget[0][0] <= batch.commit["now"]:
            until, slot = heapq.heappop(self._forget)
            held = self._states.held(slot)
            if held is not None and held.state.keep_until == until:
                self._states.forget(slot)
                self._check_recent(slot)

    def end(self) -> None:
        """All was taken."""
        for slot in list(self._recent):
            self._check_recent(slot)

    # --- what an instance was ---------------------------------------------------------------------------------------------------------

    def _know(self, state: Instance) -> None:
        slot = Slot(state.saga, state.key)
        if slot not in self._states:
            self._keep(slot, state)

    def _decided(self, decision: Decision, now: int) -> None:
        slot = Slot(decision.saga, decision.key)
        held = None if decision.seq == 1 else self._states.held(slot)
        if held is None and decision.seq > 1:
            self.unknown += 1
            return
        before = None if held is None else held.state
        after = apply(None if before is None else before.copy(), decision)
        recorded = Recorded(before, decision, after, now)
        if self._last is None:
            self._check(recorded)
        elif self._last:
            self._recent.setdefault(slot, deque(maxlen=self._last)).append(recorded)
        self._keep(slot, after)

    def _keep(self, slot: Slot, state: Instance) -> None:
        self._states.put(slot, Held(state, UNMEASURED))
        if state.keep_until is not None:
            heapq.heappush(self._forget, (state.keep_until, slot))

    def _check_recent(self, slot: Slot) -> None:
        for recorded in self._recent.pop(slot, ()):
            self._check(recorded)

    # --- what would be decided ----------------------------------------------------------------------------------------------------------

    def _check(self, recorded: Recorded) -> None:
        before, decision, _, _ = recorded
        version, hash = _made_for(before, decision)
        about = self._found.of(decision.saga, version)
        example = f"{decision.instance}#{decision.seq}"
        saga = self._book.definition(decision.saga, version)
        if saga is None or saga.version != version:
            about.add(Weight.UNCHECKED, "its version is not in the app, so what it decided was not decided again", example)
        elif saga.graph.hash != hash:
            about.add(Weight.UNCHECKED, "its structure is another, so what it decided was not decided again", example)
        elif not _by_the_runtime(decision):
            about.decisions += 1
            for weight, what in _differences(saga, recorded):
                about.add(weight, what, example)


def _made_for(before: Instance | None, decision: Decision) -> tuple[int, str]:
    """The version and structure that a decision was made with."""
    if before is None or before.phase is Phase.EARLY:
        if "version" in decision.patch:
            return decision.patch["version"], decision.patch["hash"]
        assert before is not None, f"{decision.instance}: decision 1 does not say which version it begins"
    return before.version, before.hash


def _by_the_runtime(decision: Decision) -> bool:
    """What was not the definition's to decide: its version was not there, or the state would have grown too large to be stored."""
    parked = decision.patch.get("parked") or {}
    too_large = any(isinstance(output, DeadLetter) and output.reason == "too-large" for output in decision.outputs)
    return parked.get("reason") == VERSION or too_large


def _differences(saga: Saga[Any, Any], recorded: Recorded) -> Iterator[tuple[Weight, str]]:
    before, was, left, now = recorded
    said = f"on {was.input.type or was.note}"
    try:
        made = decide(saga, before, was.input, now, was.key)
    except (Exception, SystemExit) as error:  # nothing that the engine foresees: an instance that no longer fits its definition
        yield Weight.BREAKS, f"{said} nothing can be decided: {type(error).__name__}: {error}"
        return
    if decision_record(_normal(made)).value == decision_record(_normal(was)).value:
        return
    other = list(_other(was, made, left, apply(None if before is None else before.copy(), made)))
    if not other:
        return  # an older engine wrote the same in other words
    parks, parked = made.patch.get("parked") or {}, was.patch.get("parked") or {}
    if parks.get("reason") in _RAISES and parks["reason"] != parked.get("reason"):
        where = parks["step"] or "start"
        yield Weight.BREAKS, f"{said} the code of {where} raises, and the instance parks: {plain(raised_at(parks['detail']))}"
    elif made.note == "deadletter" != was.note:
        yield Weight.BREAKS, f"{said} what was taken becomes a dead letter: {made.detail}"
    elif made.ignored and not was.ignored:
        yield Weight.BREAKS, f"{said} what was taken is passed over: {made.note}{made.detail and f', {made.detail}'}"
    elif parked and not parks:
        yield Weight.DIFFERS, f"{said} it does not park: {parked['reason']}"
    else:
        yield Weight.DIFFERS, f"{said} {'; '.join(other)}"


def _other(was: Decision, made: Decision, left: Instance, leaves: Instance) -> Iterator[str]:
    """In which respects two decisions, and what they leave, differ; in words without values."""
    if was.note != made.note:
        yield f"it comes to {made.note}, not {was.note}"
    then, now = [_name(output) for output in was.outputs], [_name(output) for output in made.outputs]
    if then != now:
        yield f"it sends {', '.join(now) or 'nothing'}, not {', '.join(then) or 'nothing'}"
    else:
        for one, other in zip(was.outputs, made.outputs, strict=True):
            if fields := _fields(output_json(_plain_output(one)), output_json(_plain_output(other))):
                yield f"{_name(one)} has another {fields}"
    if fields := _fields(left.data, leaves.data):
        yield f"the data has another {fields}"
    paths = [path for _, path in fields_changed(_state(left), _state(leaves))]
    if any(path.split(".")[-1] in _TIMES for path in paths):
        yield "other times (time-outs, pauses, deadline)"
    # What a command has in it is told above; and what an instance leads to, by what is sent.
    rest = [path.removeprefix("steps.") for path in paths if path.split(".")[-1] not in _TIMES and ".sent" not in path]
    if then == now and rest:
        yield f"the state has another {', '.join(rest)}"


def _state(state: Instance) -> dict[str, Any]:
    value = state.to_json()
    if parked := value.get("parked"):
        value["parked"] = {**parked, "detail": raised(parked["detail"])}
    return {name: inner for name, inner in value.items() if name not in ("data", "seen")}


def _fields(was: Any, now: Any) -> str:
    return ", ".join(path.removeprefix("data.") for _, path in fields_changed(was, now))


def _name(output: Output) -> str:
    return output.type if isinstance(output, Send | Request) else getattr(output, "type", output.kind)


def _normal(decision: Decision) -> Decision:
    """Without what only the runtime adds, and of a traceback what was raised: its frames name lines of a file."""
    patch = dict(decision.patch)
    if parked := patch.get("parked"):
        patch["parked"] = {**parked, "detail": raised(parked["detail"])}
    return replace(decision, patch=patch, outputs=tuple(_plain_output(output) for output in decision.outputs))


def _plain_output(output: Output) -> Output:
    if isinstance(output, DeadLetter):
        return replace(output, raw=None)
    if isinstance(output, Request):
        return replace(output, partition=0)
    if isinstance(output, Announce) and isinstance(output.data, dict) and "detail" in output.data:
        return replace(output, data={**output.data, "detail": raised(str(output.data["detail"]))})
    return output
