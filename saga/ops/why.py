"""What an instance waits for, since when, and what happens next: one sentence. Pure.

The journal alone says what is waited for and until when. How many attempts there are, and what follows the last, only the definition
says; where it is at hand, in the instance's version, the sentence says so too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saga.engine.definition import Saga
from saga.engine.nodes import AnyStep
from saga.engine.state import ACTION_OF, Action, Cause, Instance, Parked, Phase, Status, StepState, Waits, base_name
from saga.ops.words import ago, duration, last_line, moment, plain

# Why an instance is parked, by the word that the engine gives. What a participant said follows where it said something.
PARKED = {
    "user-code": "its own code raised at {step}",
    "too-large": "it would grow too large at {step}",
    "contradiction": "the participant contradicted itself about {step}",
    "limit": "it took as many decisions as it may",
    "version": "no running definition fits it",
    "unknown": "nobody knows whether {step} happened",
    "unverified": "nobody answered whether {step} happened",
    "compensation": "{step} could not be compensated",
    "refused": "{step} was refused, and there is no way back any more",
    "nothing": "{step} never happened, says its participant",
    "expired": "the participant of {step} no longer remembers it",
}


def label(state: Instance) -> str:
    """The state in a word, as lists show it: parked comes before the phase it is parked in."""
    return "parked" if state.parked is not None and state.live else str(state.phase)


def why(state: Instance, now: int, saga: Saga[Any, Any] | None = None, sent: Mapping[str, int] | None = None) -> str:
    """The sentence. `now` in ms; `sent`: when the last command of each step left, as far as that is known."""
    name = f"{state.saga} {plain(state.key)}"
    fits = saga is not None and saga.version == state.version and saga.graph.hash == state.hash
    if not state.live:
        return f"{name} {_ended(state, now)}."
    if state.parked is not None:
        return f"{name} {_parked(state, state.parked, now)}."
    speaker = _Speaker(state, now, saga if fits else None, sent or {})
    waits = [speaker.wait(step, at) for step, at in state.steps.items() if at.waits is not Waits.NOTHING]
    doing = f"compensates since {because(state.cause)}: it " if state.phase is Phase.COMPENSATING else ""
    until = "" if state.phase is Phase.COMPENSATING or state.deadline_over else f"; {_deadline(state, now)}"
    return f"{name} {doing}waits {', and '.join(waits)}{until}."


def because(cause: Cause | None) -> str:
    """Why an instance turned back."""
    if cause is None:
        return "it was told to"
    if cause.why == "deadline":
        return "its deadline passed"
    what = f"{cause.step} was refused" if cause.why == "refused" else f"the outcome of {cause.step} is unknown"
    return f"{what} ({plain(cause.detail)})" if cause.detail else what


def parked_because(parked: Parked) -> str:
    """Why it waits for an operator, with the last line of what is known about it."""
    what = PARKED.get(parked.reason, f"{plain(parked.reason)} at {{step}}").replace("{step}", parked.step or "the start")
    detail = last_line(parked.detail)
    return f"{what}: {detail}" if detail else what


def _ended(state: Instance, now: int) -> str:
    ended = state.ended or state.started
    took = duration(ended - state.started)
    if state.phase is Phase.COMPLETED:
        return f"completed {ago(ended, now)}, {took} after it began"
    return f"was compensated {ago(ended, now)}, {took} after it began, because {because(state.cause)}"


def _parked(state: Instance, parked: Parked, now: int) -> str:
    kept = len(state.kept)
    waiting = f"; {kept} input{'s' if kept > 1 else ''} wait{'s' if kept == 1 else ''} with it, and" if kept else ";"
    late = "" if parked.holds else " or a late reply comes"
    until = "code with that version runs" if parked.reason == "version" else f"an operator retries it{late}"
    return (
        f"has been parked for {duration(now - parked.since)} (since {moment(parked.since, now)}) because "
        f"{parked_because(parked)}{waiting} nothing happens until {until}"
    )


def _deadline(state: Instance, now: int) -> str:
    left = state.deadline - now
    return f"its deadline is in {duration(left)}" if left >= 0 else f"its deadline passed {ago(state.deadline, now)}"


class _Speaker:
    """Says what each step of one instance waits for."""

    def __init__(self, state: Instance, now: int, saga: Saga[Any, Any] | None, sent: Mapping[str, int]) -> None:
        self.state = state
        self.now = now
        self.saga = saga
        self.sent = sent

    def wait(self, name: str, step: StepState) -> str:
        what = {Action.EXECUTE: name, Action.VERIFY: f"the question about {name}", Action.COMPENSATE: f"compensating {name}"}
        if step.status is Status.WAITING:
            return f"for {name}" + (f", until {self._when(step.due)}" if step.due is not None else "")
        action = ACTION_OF[step.status]
        if step.waits is Waits.OPERATOR:
            return f"for an operator at {what[action]} ({last_line(step.reason)})"
        if step.waits is Waits.RETRY:
            attempt = self._of(name, step, step.attempt + 1)
            return f"to begin attempt {attempt} of {what[action]} {self._when(step.due)} ({plain(step.reason)})"
        return f"for {self._who(name, action)} to {what[action]} ({self._attempt(name, step)}), {self._next(name, step)}"

    def _attempt(self, name: str, step: StepState) -> str:
        since = self.sent.get(name) or (step.decided if step.attempt == step.first == 1 else None)
        text = f"attempt {self._of(name, step, step.attempt)}"
        return text if since is None else f"{text}, sent {ago(since, self.now)}"

    def _next(self, name: str, step: StepState) -> str:
        if step.due is None:
            return "without a time-out of its own"
        return f"time-out {self._when(step.due)}{self._then(name, step)}"

    def _when(self, due: int | None) -> str:
        assert due is not None
        left = due - self.now
        if left < -2000:  # an owner decides within moments; this one is late
            return f"which was due {ago(due, self.now)} and not decided yet (does an orchestrator run?)"
        return f"in {duration(left)}" if left > 0 else "now"

    def _who(self, name: str, action: Action) -> str:
        definition = self._step(name)
        command = definition.command_for(action) if definition is not None else None
        return f"the reply of {command.__service__}" if command is not None else "the reply"

    def _of(self, name: str, step: StepState, attempt: int) -> str:
        if (definition := self._step(name)) is None or self._endless(name):
            return str(attempt)
        return f"{attempt} of {step.first - 1 + definition.retry_for(ACTION_OF[step.status]).attempts}"

    def _then(self, name: str, step: StepState) -> str:
        """What the engine will do when this attempt gets no answer (S13, S14)."""
        if (definition := self._step(name)) is None:
            return ""
        action = ACTION_OF[step.status]
        back = self.state.phase is Phase.COMPENSATING
        last = step.attempt - step.first + 1 >= definition.retry_for(action).attempts
        given_up = action is Action.EXECUTE and (back or self.state.deadline_over)
        if self._endless(name) or not (last or given_up):
            return f", then attempt {step.attempt + 1}"
        if action is not Action.EXECUTE:
            return (
                ", then an operator must help" if not (back and action is Action.VERIFY and not definition.pivot) else ", then back"
            )
        return {
            "verify": ", then it asks whether it happened",
            "compensate": ", then it compensates",
            "park": ", then an operator must decide",
        }[definition.when_unknown()]

    def _step(self, name: str) -> AnyStep[Any] | None:
        return self.saga.steps.get(base_name(name)) if self.saga is not None else None

    def _endless(self, name: str) -> bool:
        return self.saga is not None and self.saga.graph.retriable(base_name(name))
