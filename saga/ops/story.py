"""The story of one instance, from its decisions to lines: the one renderer for whoever tells it. Pure.

Every decision is told in order: when, what came in, and under it what came of it: steps that moved, data that changed, commands that
left. Between decisions that are far apart a line says so, or the reader takes a night for a moment.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, NamedTuple

from saga.engine.decision import Announce, DeadLetter, Decision, Kind, Send
from saga.engine.definition import Saga
from saga.engine.messages import PROTOCOL_TYPES
from saga.engine.state import Action, Cause, Instance, Parked, Phase, Status, StepState, Waits, step_and_action
from saga.ops.look import History, Moment
from saga.ops.why import because, label, parked_because, why
from saga.ops.words import ago, brief, changes, clock, day, duration, last_line, plain

GAP = 60_000  # ms: from here on a pause is told
MOST_CHANGES = 8  # places of the data told for one decision; all of them are in -o json


class Tone(StrEnum):
    TITLE = "title"
    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"
    STUCK = "stuck"
    QUIET = "quiet"


class Line(NamedTuple):
    """One line of a story. `since`: relative to its start, and `at`: the time of day, on the lines that begin a decision."""

    tone: Tone
    text: str
    since: str = ""
    at: str = ""
    level: int = 0  # 0: over the full width; 1: a decision; 2: what came of it


def tone_of(state: str) -> Tone:
    """How a state is shown: completed, running, compensating, compensated or parked."""
    return {"completed": Tone.GOOD, "parked": Tone.STUCK, "compensated": Tone.BAD, "compensating": Tone.BAD}.get(state, Tone.PLAIN)


def story(history: History, now: int, saga: Saga[Any, Any] | None = None) -> list[Line]:
    """The whole story: header, decisions, and the sentence that `why` gives. `now` in ms."""
    state = history.state
    assert state is not None, "a history without a state has no story"
    lines = [*_header(history, state, now), Line(Tone.PLAIN, "")]
    if history.trimmed:
        seen = f"up to decision {history.moments[0].decision.seq - 1}" if history.moments else f"all {state.seq} decisions of it"
        lines.append(Line(Tone.QUIET, f"What came first ({seen}) was trimmed from the journal.", level=1))
    last = history.moments[0].at if history.moments else now
    for moment in history.moments:
        if moment.at - last >= GAP or day(moment.at) != day(last):
            on = f"  ({day(moment.at)})" if day(moment.at) != day(last) else ""
            lines.append(Line(Tone.QUIET, f"┄ {duration(moment.at - last)} later{on}", level=1))
        last = moment.at
        since = f"+{duration(moment.at - state.started)}" if moment.at > state.started else "0 s"
        lines.append(Line(Tone.PLAIN, cause(moment), since, clock(moment.at), 1))
        lines += [Line(tone, text, level=2) for tone, text in consequences(moment)]
    if now - last >= GAP and state.live:
        lines.append(Line(Tone.QUIET, f"┄ {duration(now - last)} since then", level=1))
    return [*lines, Line(Tone.PLAIN, ""), Line(tone_of(label(state)), why(state, now, saga, history.sent()))]


def _header(history: History, state: Instance, now: int) -> Iterator[Line]:
    yield Line(tone_of(label(state)), f"{state.saga} {plain(state.key)} · {label(state)}")
    took = f", took {duration(state.ended - state.started)}" if state.ended is not None else ""
    yield Line(
        Tone.QUIET,
        f"version {state.version} · began {day(state.started)} {clock(state.started)[:8]} UTC, {ago(state.started, now)}{took}",
    )
    yield Line(Tone.QUIET, f"instance {plain(state.id)} · {history.partition}")
    for earlier in history.earlier:
        yield Line(Tone.QUIET, f"an earlier run of this key, {plain(earlier)}, was over and forgotten before")


# --- what came in -----------------------------------------------------------------------------------------------------------------


def cause(moment: Moment) -> str:
    """The input of a decision, in words."""
    given = moment.decision.input
    data: Mapping[str, Any] = given.data if isinstance(given.data, dict) else {}
    if given.kind is Kind.OPERATOR:
        action = given.type.split(".")[1] if given.type.count(".") > 1 else given.type
        return f"{action} by {plain(str(data.get('who', '?')))}: {plain(str(data.get('why', '')))}"
    if given.kind is Kind.TIMER:
        return _timer(moment, str(data.get("step", "")))
    said = f"{_speaker(moment.decision)} says {plain(given.type)}"
    if given.kind is not Kind.REPLY:
        return said
    about, action, attempt = _about(given.attributes)
    if given.type in PROTOCOL_TYPES.values() and (reason := data.get("reason")):
        said += f": {plain(str(reason))}"
    asked = f", asked about {about}" if action == Action.VERIFY else ""
    return said + asked + (f", attempt {attempt}" if attempt not in ("", "1") else "")


def _speaker(decision: Decision) -> str:
    """The service that an event came from: the first part of its topic, or of its type where it came another way."""
    topic = decision.input.topic
    return plain(topic.removesuffix(".events") if topic.endswith(".events") else decision.input.type.split(".")[0])


def _about(attributes: Mapping[str, str]) -> tuple[str, str, str]:
    """Step, action and attempt that a reply echoes."""
    step, action = step_and_action(attributes.get("sagacommand", ""))
    known = action if action in tuple(Action) else Action.EXECUTE
    return plain(step), known, plain(attributes.get("sagaattempt", ""))


def _timer(moment: Moment, step: str) -> str:
    if not step:
        return "the saga's deadline passes"
    before = moment.before.steps.get(step) if moment.before is not None else None
    if moment.decision.note == "retry" or (before is not None and before.waits is Waits.RETRY):
        return f"time for the next attempt of {_doing(step, before)}"
    attempt = f", attempt {before.attempt}" if before is not None else ""
    return f"time-out of {_doing(step, before)}{attempt}"


def _doing(step: str, state: StepState | None) -> str:
    status = state.status if state is not None else Status.EXECUTING
    return {Status.COMPENSATING: f"compensating {step}", Status.VERIFYING: f"the question about {step}"}.get(status, step)


# --- what came of it --------------------------------------------------------------------------------------------------------------

_NOTHING_CHANGED = {
    "duplicate": "decided before; nothing changes",
    "late": "too late; nothing changes",
    "unmatched": "it answers nothing that was asked; nothing changes",
    "wrong-service": "it comes from another service than was asked; nothing changes",
    "void": "no longer of matter; nothing changes",
    "early": "too early; nothing changes",
    "after-end": "the saga has ended; nothing changes",
    "repeated-start": "started before; the sender is told",
    "conflict": "started before with another payload; refused",
    "operator-refused": "refused",
    "contradiction": "it contradicts what was said before",
    "kept": "kept until an operator retries",
    "parked": "kept until an operator retries",
    "deadletter": "set aside as a dead letter",
}
_SIGN = {Tone.GOOD: "✓", Tone.BAD: "✗", Tone.STUCK: "‖"}


def consequences(moment: Moment) -> list[tuple[Tone, str]]:
    """What came of a decision, a text each."""
    decision, found = moment.decision, list[tuple[Tone, str]]()
    if decision.note in _NOTHING_CHANGED and (decision.note != "parked" or decision.input.kind is Kind.TIMER):
        detail = f" ({last_line(decision.detail)})" if decision.detail else ""
        found.append(
            (
                Tone.BAD if decision.note in ("operator-refused", "conflict") else Tone.QUIET,
                f"· {_NOTHING_CHANGED[decision.note]}{detail}",
            )
        )
    if decision.note in ("retried", "parked") and decision.input.kind is Kind.OPERATOR and moment.before and moment.before.kept:
        kept = ", ".join(plain(str(item.get("type") or "a timer")) for item in moment.before.kept)
        found.append((Tone.PLAIN, f"· takes up what was kept: {kept}"))
    if decision.patch.get("parked", 0) is None and moment.before is not None and moment.before.parked is not None:
        found.append((Tone.GOOD, "✓ it goes on"))
    parked = decision.patch.get("parked")  # told at the end; then the step it is parked at need not say that it needs an operator
    found += [one for one in _sayings(_steps(moment)) if not (parked and one[0] is Tone.STUCK)]
    found += _sayings(_turn(decision))
    if changed := ", ".join(_data(moment)):
        found.append((Tone.PLAIN, f"= {changed}"))
    found += _outputs(decision)
    found += _sayings(_end(moment))
    return found


def _sayings(lines: Iterable[tuple[Tone, str]]) -> list[tuple[Tone, str]]:
    return [(tone, f"{_SIGN.get(tone, '·')} {text}") for tone, text in lines]


def _steps(moment: Moment) -> Iterator[tuple[Tone, str]]:
    for name, value in moment.decision.patch.get("steps", {}).items():
        before = moment.before.steps.get(name) if moment.before is not None else None
        after = StepState.from_json(value)
        # What the line above says already is not said again: the type of the reply.
        said = moment.decision.input.type
        reason = "" if after.reason == said else last_line(after.reason.removeprefix(f"{said}: "))
        yield from _step(name, before, after._replace(reason=reason), moment.at)


def _step(name: str, before: StepState | None, after: StepState, now: int) -> Iterator[tuple[Tone, str]]:
    reason = f": {after.reason}" if after.reason else ""
    if before is None or before.status is not after.status:
        match after.status:
            case Status.DONE:
                yield (
                    Tone.GOOD,
                    f"{name} is done" + (" after all" if before is not None and before.status is Status.UNKNOWN else ""),
                )
            case Status.REFUSED if after.answer == "nothing":
                yield Tone.BAD, f"{name} never happened{reason}"
            case Status.REFUSED:
                yield Tone.BAD, f"{name} is refused{reason}"
            case Status.UNKNOWN:
                yield Tone.BAD, f"nobody knows whether {name} happened{reason}"
            case Status.COMPENSATED:
                nothing = after.answer == "nothing"
                yield Tone.GOOD, f"{name}: there was nothing to compensate" if nothing else f"{name} is compensated"
            case Status.COMPENSATING if after.succeeded and (before is None or not before.succeeded):
                yield Tone.GOOD, f"{name} is done"
    elif after.succeeded and not before.succeeded:
        yield Tone.PLAIN, f"{name} had happened after all; its compensation is on the way"
    if after.waits is Waits.RETRY and after.due is not None:
        yield Tone.BAD, f"{_doing(name, after)} failed; next attempt in {duration(after.due - now)}"
    elif after.waits is Waits.OPERATOR and (before is None or before.waits is not Waits.OPERATOR):
        yield Tone.STUCK, f"{_doing(name, after)} needs an operator{reason}"


def _turn(decision: Decision) -> Iterator[tuple[Tone, str]]:
    if decision.patch.get("phase") == Phase.COMPENSATING and (told := decision.patch.get("cause")):
        yield Tone.BAD, f"turns back: {because(replace(Cause(**told), detail=''))}"


def _data(moment: Moment) -> list[str]:
    if moment.decision.data is None:
        return []
    (after,) = moment.decision.data
    if moment.before is None and moment.decision.seq > 1:
        return [f"data is now {brief(after, 200)}"]
    if moment.before is None:
        after = {name: value for name, value in after.items() if value not in ("", None, [], {})}
    found = changes(moment.before.data if moment.before is not None else {}, after)
    more = len(found) - MOST_CHANGES
    return found if more <= 0 else [*found[:MOST_CHANGES], f"… and {more} more"]


def _outputs(decision: Decision) -> Iterator[tuple[Tone, str]]:
    for output in decision.outputs:
        if isinstance(output, Send):
            step = plain(step_and_action(output.command)[0])
            to = {Action.COMPENSATE: f"compensates {step}", Action.VERIFY: f"asks about {step}"}.get(Action(output.action), step)
            again = f", attempt {output.attempt}" if output.attempt > 1 else ""
            yield Tone.PLAIN, f"→ {to}{again}: {output.type}"
        elif isinstance(output, DeadLetter) and decision.note != "deadletter":
            yield Tone.BAD, f"→ dead letter: {output.reason}"
        elif isinstance(output, Announce) and output.type == "saga.rejected.v1":
            yield Tone.QUIET, f"→ tells the sender: {output.type}"


def _end(moment: Moment) -> Iterator[tuple[Tone, str]]:
    patch, took = moment.decision.patch, ""
    if moment.after is not None:
        took = f" after {duration(moment.at - moment.after.started)}"
    if patch.get("phase") == Phase.COMPLETED:
        yield Tone.GOOD, f"completed{took}"
    if patch.get("phase") == Phase.COMPENSATED:
        yield Tone.BAD, f"compensated{took}"
    if patch.get("parked"):
        again = " again" if moment.before is not None and moment.before.parked is not None else ""
        yield Tone.STUCK, f"parked{again}: {parked_because(Parked(**patch['parked']))}"


# --- on a page of some width ------------------------------------------------------------------------------------------------------

NARROW = 64  # columns; below, the time of day is left out


def page(lines: Iterable[Line], width: int | None = None) -> Iterator[tuple[Tone, str, str]]:
    """Each line as (tone, margin, text), folded to `width` columns with the text kept in its column; None: never folded."""
    lines = list(lines)
    narrow = width is not None and width < NARROW
    first = max((len(line.since) for line in lines), default=0)
    margin = first + 2 if narrow else first + 16
    for line in lines:
        if line.level == 0:
            yield from ((line.tone, "", text) for text in _folded(line.text, width, ""))
            continue
        head = f"{line.since:>{first}}  " if narrow else f"{line.since:>{first}}  {line.at:<12}  "
        space, hang = ("  " if line.level == 2 else ""), ("  " if line.level == 2 else "")
        room = None if width is None else max(width - margin, 20)
        for number, text in enumerate(_folded(space + line.text, room, space + hang)):
            yield line.tone, head if number == 0 else " " * margin, text


def _folded(text: str, width: int | None, hang: str) -> list[str]:
    if width is None or len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=hang, drop_whitespace=True, break_on_hyphens=False) or [text]
