"""What an instance waits for, since when, and what happens next: one sentence. Pure.

The journal alone says what is waited for and until when. How many attempts there are, and what follows the last, only the definition
says; where it is at hand, in the instance's version, the sentence says so too.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from saga.engine.definition import Saga
from saga.engine.kinds import Child, Pause, Wait, Waiting
from saga.engine.schedules import is_schedule
from saga.engine.state import ACTION_OF, Action, Cause, Instance, Parked, Phase, Status, StepState, Waits, base_name
from saga.ops.awaited import fitting, items_done, step_of, titled
from saga.ops.words import ago, duration, last_line, moment, named, plain

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
    "late": "{step} is late, and there is no way back any more",
}
# Why an instance turned back, by the word that the engine gives.
TURNED = {
    "refused": "{step} was refused",
    "unknown": "the outcome of {step} is unknown",
    "late": "{step} was late",
    "deadline": "its deadline passed",
    "decided": "its own code turned back at {step}",
    "cancelled": "it was cancelled",
    "operator": "an operator had it compensated",
    "parent": "its parent turned back",
}
_SAID_ALREADY = ("deadline", "parent")  # the detail of these says the same in other words
LONG_DEADLINE = 10 * 365 * 86_400_000  # ms: nobody waits for a deadline beyond it


def label(state: Instance) -> str:
    """The state in a word, as lists show it: parked comes before the phase it is parked in; early is not started yet."""
    return "parked" if state.parked is not None and state.live else str(state.phase)


def why(state: Instance, now: int, saga: Saga[Any, Any] | None = None, sent: Mapping[str, int] | None = None) -> str:
    """The sentence. `now` in ms; `sent`: when the last command of each step left, as far as that is known."""
    name = f"{state.saga} {named(state.key)}"
    if state.phase is Phase.EARLY:
        return f"{name} {_early(state, now)}."
    if not state.live:
        return f"{name} {_ended(state, now)}."
    if state.parked is not None:
        return f"{name} {_parked(state, state.parked, now)}."
    speaker = _Speaker(state, now, fitting(saga, state), sent or {})
    doing = f"compensates since {because(state.cause)}: it " if state.phase is Phase.COMPENSATING else ""
    return f"{name} {doing}waits {', and '.join(speaker.waits())}{_until(state, now)}."


def because(cause: Cause | None) -> str:
    """Why an instance turned back."""
    if cause is None:
        return "it was told to"
    what = TURNED.get(cause.why, f"{plain(cause.why)} at {{step}}").replace("{step}", cause.step or "the start")
    return f"{what} ({plain(cause.detail)})" if cause.detail and cause.why not in _SAID_ALREADY else what


def parked_because(parked: Parked) -> str:
    """Why it waits for an operator, with the last line of what is known about it."""
    what = PARKED.get(parked.reason, f"{plain(parked.reason)} at {{step}}").replace("{step}", parked.step or "the start")
    detail = last_line(parked.detail)
    return f"{what}: {detail}" if detail else what


def until(due: int, now: int) -> str:
    """A time to come: until 14:00:00 UTC (in 2 h)."""
    return f"until {moment(due, now)}" + (f" (in {duration(due - now)})" if due > now else "")


def _early(state: Instance, now: int) -> str:
    if state.ended is not None:
        return f"was never started; what was kept for its start went to the dead letters {ago(state.ended, now)}"
    count = len(state.early)
    types = ", ".join(sorted({plain(str(item.get("type"))) for item in state.early}))
    waits = f"{count} event{'s wait' if count > 1 else ' waits'} for its start"
    return f"is not started yet; {waits} ({types}), {until(state.deadline, now)}, then to be set aside as dead letters"


def _ended(state: Instance, now: int) -> str:
    ended = state.ended or state.started
    took = duration(ended - state.started)
    if state.phase is Phase.COMPLETED:
        return f"completed {ago(ended, now)}, {took} after it began"
    if state.undoes:
        return f"was compensated {ago(ended, now)}, by a second run, because {because(state.cause)} after the first had completed"
    return f"was compensated {ago(ended, now)}, {took} after it began, because {because(state.cause)}"


def _parked(state: Instance, parked: Parked, now: int) -> str:
    kept = len(state.kept)
    waiting = f"; {kept} input{'s' if kept > 1 else ''} wait{'s' if kept == 1 else ''} with it, and" if kept else ";"
    late = "" if parked.holds else " or a late reply comes"
    then = f"an operator retries it{late}"
    if parked.reason == "version":
        then = "code with that version runs" + (f", or `saga cancel {state.key}` ends it" if is_schedule(state) else "")
    elif parked.reason == "late":
        then = f"{parked.step} comes after all, or an operator retries or skips it"
    return (
        f"has been parked for {duration(now - parked.since)} (since {moment(parked.since, now)}) because "
        f"{parked_because(parked)}{waiting} nothing happens until {then}"
    )


def _until(state: Instance, now: int) -> str:
    """What ends the waiting, whatever it is for."""
    left = state.deadline - now
    if state.phase is Phase.COMPENSATING or state.deadline_over or left > LONG_DEADLINE:
        return "; it is cancelled, unless that succeeds" if state.cancelled else ""
    if state.cancelled:
        return "; it is cancelled, unless that succeeds"
    return f"; its deadline is in {duration(left)}" if left >= 0 else f"; its deadline passed {ago(state.deadline, now)}"


class _Speaker:
    """Says what each step of one instance waits for."""

    def __init__(self, state: Instance, now: int, saga: Saga[Any, Any] | None, sent: Mapping[str, int]) -> None:
        self.state = state
        self.now = now
        self.saga = saga
        self.sent = sent

    def waits(self) -> Iterator[str]:
        """A text for each step that waits; one for all items of a mapped step."""
        groups: dict[str, list[str]] = {}
        for name, step in self.state.steps.items():
            if step.waits is not Waits.NOTHING:
                groups.setdefault(base_name(name), []).append(name)
        for base, names in groups.items():
            first = self.wait(names[0], self.state.steps[names[0]])
            done, total = items_done(base, self.state)
            if len(names) > 1:
                yield f"for {len(names)} items of {base} ({done} of {total} done), the first {first}"
            else:
                yield first + (f", with {done} of {total} items of {base} done" if total else "")

    def wait(self, name: str, step: StepState) -> str:
        if step.status is Status.WAITING:
            return self._event(name, step)
        title = titled(name, self.state)
        what = {Action.EXECUTE: title, Action.VERIFY: f"the question about {title}", Action.COMPENSATE: f"compensating {title}"}
        action = ACTION_OF[step.status]
        definition = step_of(self.saga, name)
        if isinstance(definition, Waiting):
            what[action] = f"the remedy of {title}"
        if step.waits is Waits.OPERATOR:
            return f"for an operator at {what[action]} ({last_line(step.reason)})"
        if step.waits is Waits.RETRY:
            attempt = self._of(name, step, step.attempt + 1)
            return f"to begin attempt {attempt} of {what[action]} {self._when(step.due)} ({plain(step.reason)})"
        if isinstance(definition, Child):
            return self._child(definition, name, step)
        return f"for {self._who(name, action)} to {what[action]} ({self._attempt(name, step)}), {self._next(name, step)}"

    def _child(self, child: Child[Any, Any], name: str, step: StepState) -> str:
        saga, key = child.child.name, str(step.sent["key"])
        does = "undo itself" if step.status is Status.COMPENSATING else "end"
        return (
            f"for the child {saga} {named(key)} of {name} to {does} (`saga why {shlex.quote(plain(key))} --saga {saga}` says more)"
        )

    def _event(self, name: str, step: StepState) -> str:
        """What a step waits for that sends nothing."""
        definition = step_of(self.saga, name)
        if isinstance(definition, Pause):
            assert step.due is not None
            return f"for the time of {name}, {moment(step.due, self.now)}, {self._when(step.due)}"
        if not isinstance(definition, Wait):
            what = f"for {name}"
        elif definition.role:
            what = f"for the answer of {' or '.join(definition.may_answer(step))} to {name} ({definition.event.__type__})"
        else:
            what = f"for {definition.event.__type__} ({name})"
        if step.waits is Waits.OPERATOR:
            return f"for an operator, or {what} after all ({last_line(step.reason)})"
        if step.due is None:
            return f"{what}, for as long as it takes"
        late = step.due - self.now < -2000
        when = self._when(step.due) if late else until(step.due, self.now)
        return f"{what}, {when}{self._missed(definition, step) if isinstance(definition, Wait) else ''}"

    def _missed(self, wait: Wait[Any, Any], step: StepState) -> str:
        """What the engine will do when it does not come in time."""
        if not step.ask_round and wait.command_class is not None:
            asked = f" and {wait.escalate} is asked" if wait.escalate else ""
            return f", then {wait.command_class.__type__} is sent{asked}"
        if not step.ask_round and wait.escalate:
            return f", then {wait.escalate} is asked"
        return self._given_up(wait)

    def _given_up(self, wait: Waiting[Any]) -> str:
        if wait.best_effort:
            return ", then it goes on without"
        return ", then an operator must help" if self._past_pivot(wait.name) else ", then it turns back"

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
        definition = step_of(self.saga, name)
        command = definition.command_for(action) if definition is not None else None
        return f"the reply of {command.__service__}" if command is not None else "the reply"

    def _of(self, name: str, step: StepState, attempt: int) -> str:
        if (definition := step_of(self.saga, name)) is None or self._endless(name):
            return str(attempt)
        return f"{attempt} of {step.first - 1 + definition.retry_for(ACTION_OF[step.status]).attempts}"

    def _then(self, name: str, step: StepState) -> str:
        """What the engine will do when this attempt gets no answer (S13, S14)."""
        if (definition := step_of(self.saga, name)) is None:
            return ""
        action = ACTION_OF[step.status]
        back = self.state.phase is Phase.COMPENSATING
        last = step.attempt - step.first + 1 >= definition.retry_for(action).attempts
        given_up = action is Action.EXECUTE and (back or self.state.deadline_over or self.state.cancelled)
        if self._endless(name) or not (last or given_up):
            return f", then attempt {step.attempt + 1}"
        if isinstance(definition, Waiting):
            return self._given_up(definition)
        if action is not Action.EXECUTE:
            return (
                ", then an operator must help" if not (back and action is Action.VERIFY and not definition.pivot) else ", then back"
            )
        if definition.best_effort and definition.when_unknown() != "verify":
            return ", then it goes on without"
        return {
            "verify": ", then it asks whether it happened",
            "compensate": ", then it compensates",
            "park": ", then an operator must decide",
        }[definition.when_unknown()]

    def _endless(self, name: str) -> bool:
        return self.saga is not None and self.saga.graph.retriable(base_name(name))

    def _past_pivot(self, name: str) -> bool:
        return self.saga is not None and name in self.saga.graph.after_pivot
