"""What came of a decision, in words: steps that moved, data that changed, what left. Pure.

All of it is in the decision itself and in the instance before and after it; the definition, where it is at hand, only adds what a step
waits for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from saga.engine.decision import Announce, DeadLetter, Decision, Kind, Output, Request, Send
from saga.engine.definition import Saga
from saga.engine.kinds import Wait
from saga.engine.messages import RELEASE, UNDO
from saga.engine.state import Action, Cause, Parked, Phase, Status, StepState, Waits, base_name, step_and_action
from saga.ops.awaited import fitting, items_done, step_of, titled
from saga.ops.heard import doing, named_instance
from saga.ops.lines import Tone
from saga.ops.look import Moment
from saga.ops.why import because, parked_because, until
from saga.ops.words import brief, changes, duration, last_line, named, plain

MOST_CHANGES = 8  # places of the data told for one decision; all of them are in -o json
MOST_ITEMS = 2  # items of a mapped step whose commands are told a line each; more of them in one

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
    "parked": "kept until an operator retries",
    "deadletter": "set aside as a dead letter",
}
_SIGN = {Tone.GOOD: "✓", Tone.BAD: "✗", Tone.STUCK: "‖"}

Saying = tuple[Tone, str]


def consequences(moment: Moment, saga: Saga[Any, Any] | None = None) -> list[Saying]:
    """What came of a decision, a text each."""
    decision = moment.decision
    saga = fitting(saga, moment.after) if moment.after is not None else None
    parked = decision.patch.get("parked")  # told at the end; then the step it is parked at need not say that it needs an operator
    found = _signed(_unchanged(moment))
    found += _signed(_runs(moment))
    found += _signed(_taken_up(moment))
    found += _signed(_late(decision, moment.at))
    found += [one for one in _signed(_steps(moment, saga)) if not (parked and one[0] is Tone.STUCK)]
    found += _signed(_turn(moment))
    if changed := ", ".join(_data(moment)):
        found.append((Tone.PLAIN, f"= {changed}"))
    found += _outputs(moment)
    found += _signed(_end(moment))
    return found


def _signed(sayings: Iterable[Saying]) -> list[Saying]:
    return [(tone, f"{_SIGN.get(tone, '·')} {text}") for tone, text in sayings]


def _unchanged(moment: Moment) -> Iterator[Saying]:
    """Inputs that changed no step: the reader wants to know why not."""
    decision = moment.decision
    detail = f" ({last_line(decision.detail)})" if decision.detail else ""
    if decision.note == "kept" or (decision.note == "deadletter" and not decision.ignored):
        yield Tone.QUIET, ("kept until an operator retries" if decision.note == "kept" else "set aside as a dead letter") + detail
    elif decision.note == "early" and not decision.ignored:
        early = moment.after is None or moment.after.phase is Phase.EARLY
        yield Tone.PLAIN, "not started yet: kept for its start" if early else "kept until a step waits for it"
    elif decision.note == "never-started":
        yield Tone.BAD, "never started; what was kept for it is set aside as dead letters"
    elif decision.ignored and decision.note in _NOTHING_CHANGED:
        refused = decision.note in ("operator-refused", "conflict")
        # A sign of its own would say that the saga failed; it is the input that was refused.
        yield (Tone.BAD if refused else Tone.QUIET), _NOTHING_CHANGED[decision.note] + detail


def _runs(moment: Moment) -> Iterator[Saying]:
    """A decision that begins another run under the same key."""
    before, after = moment.before, moment.after
    if "id" not in moment.decision.patch or before is None or after is None or before.phase is Phase.EARLY:
        return
    if before.live and any(isinstance(o, Announce) and o.type == "saga.completed.v1" for o in moment.decision.outputs):
        yield Tone.GOOD, f"completed after {duration(moment.at - before.started)}"
    if after.undoes:
        yield Tone.BAD, f"a second run undoes the first: {because(after.cause)}"
    else:
        yield Tone.PLAIN, f"begins anew as {plain(after.id)}"


def _taken_up(moment: Moment) -> Iterator[Saying]:
    """What had been kept until now."""
    decision, before, after = moment.decision, moment.before, moment.after
    if before is None:
        return
    if decision.note in ("retried", "parked") and decision.input.kind is Kind.OPERATOR and before.kept:
        yield Tone.PLAIN, f"takes up what was kept: {_types(before.kept)}"
    if decision.patch.get("parked", 0) is None and before.parked is not None:
        yield Tone.GOOD, "it goes on"
    left = after.early if after is not None else []
    if after is not None and decision.note != "never-started" and (taken := [item for item in before.early if item not in left]):
        yield Tone.PLAIN, f"takes up what came early: {_types(taken)}"


def _types(items: Iterable[Any]) -> str:
    return ", ".join(plain(str(item.get("type") or "a timer")) for item in items)


def _late(decision: Decision, at: int) -> Iterator[Saying]:
    for output in decision.outputs:
        if isinstance(output, Announce) and output.type == "saga.late.v1":
            told = output.data
            what = f"no answer to {told['step']}" if told["role"] else f"no {told['awaited']}"
            yield Tone.BAD, f"late: {what} within {duration(at - told['since'])}"


# --- steps ------------------------------------------------------------------------------------------------------------------------


def _steps(moment: Moment, saga: Saga[Any, Any] | None) -> Iterator[Saying]:
    decision, others = moment.decision, set(_started_by(moment.decision))
    asked = {o.data["step"] for o in decision.outputs if isinstance(o, Announce) and o.type == "saga.asked.v1"}
    undoes = "id" in decision.patch and moment.after is not None and bool(moment.after.undoes)
    for name, value in sorted(decision.patch.get("steps", {}).items(), key=partial(_turn_to_be_told, decision)):
        new = "id" in decision.patch or moment.before is None
        before = None if new or moment.before is None else moment.before.steps.get(name)
        after = StepState.from_json(value)
        if name in others or undoes:
            continue  # what is started is told by what leaves; a run that undoes another has its steps from that one
        # What the line above says already is not said again: the type of the reply.
        said = decision.input.type
        after = after._replace(reason="" if after.reason == said else last_line(after.reason.removeprefix(f"{said}: ")))
        title = titled(name, moment.after)
        if after.waits is Waits.EVENT and name not in asked and (before is None or before.waits is not Waits.EVENT):
            yield Tone.PLAIN, _waits(name, before, after, moment.at, saga)
        elif isinstance(after.sent, list) and "/" not in name:
            yield from _mapped(name, before, after)
        elif before is None or before.status is not after.status:
            yield from _moved(title, before, after, moment)
        elif after.succeeded and not before.succeeded:
            yield Tone.PLAIN, f"{title} had happened after all; its compensation is on the way"
        if after.waits is Waits.RETRY and after.due is not None:
            yield Tone.BAD, f"{doing(title, after)} failed; next attempt in {duration(after.due - moment.at)}"
        elif after.waits is Waits.OPERATOR and (before is None or before.waits is not Waits.OPERATOR):
            yield Tone.STUCK, f"{doing(title, after)} needs an operator" + (f": {after.reason}" if after.reason else "")


def _turn_to_be_told(decision: Decision, item: tuple[str, Any]) -> int:
    """First the step that the input speaks of, last what begins only now; a journal has them by name."""
    name, value = item
    data = decision.input.data if isinstance(decision.input.data, dict) else {}
    if name in (step_and_action(decision.input.attributes.get("sagacommand", ""))[0], data.get("step")):
        return 0
    if value.get("waits") == Waits.EVENT:
        return 4
    if value.get("status") == Status.SKIPPED:
        return 3
    return 2 if isinstance(value.get("sent"), list) and "/" not in name else 1


def _started_by(decision: Decision) -> Iterator[str]:
    """The steps whose only work was to start another saga."""
    for output in decision.outputs:
        if isinstance(output, Request) and "sagachild" in output.attributes and "sagaparent" not in output.attributes:
            yield step_and_action(output.id)[0]


def _waits(name: str, before: StepState | None, after: StepState, at: int, saga: Saga[Any, Any] | None) -> str:
    definition = step_of(saga, name)
    what = f"for {definition.event.__type__} ({name})" if isinstance(definition, Wait) else f"at {name}"
    again = " once more" if before is not None else ""
    if after.due is None:
        return f"waits{again} {what}, for as long as it takes"
    return f"waits{again} {what}, " + (until(after.due, at) if after.due > at else "and its time is now")


def _mapped(name: str, before: StepState | None, after: StepState) -> Iterator[Saying]:
    """A mapped step as a whole; its items have lines of their own."""
    count = len(after.sent)
    if after.status is Status.DONE:
        yield Tone.GOOD, f"{name} is done: " + (f"all {count} items" if count > 1 else "its one item" if count else "no items")
    elif after.status is Status.SKIPPED and before is not None:
        yield Tone.PLAIN, f"{name}: no further item is begun"
    elif before is None:
        yield Tone.PLAIN, f"{name} has {count} item{'s' if count != 1 else ''}"


def _moved(title: str, before: StepState | None, after: StepState, moment: Moment) -> Iterator[Saying]:
    reason = f": {after.reason}" if after.reason else ""
    best_effort = "; it was best effort, the saga goes on" if _goes_on(moment) else ""
    match after.status:
        case Status.DONE:
            again = " after all" if before is not None and before.status is Status.UNKNOWN else ""
            yield Tone.GOOD, f"{title} is done{again}{_of_items(title, moment)}"
        case Status.REFUSED if after.answer == "nothing" and moment.decision.note == "skipped":
            yield Tone.BAD, f"{title} counts as never done"
        case Status.REFUSED if after.answer == "nothing":
            yield Tone.BAD, f"{title} never happened{reason}{best_effort}"
        case Status.REFUSED if after.answer == "late":
            yield Tone.BAD, f"{title} is not waited for any more{reason}{best_effort}"
        case Status.REFUSED:
            yield Tone.BAD, f"{title} is refused{reason}{best_effort}"
        case Status.UNKNOWN:
            yield Tone.BAD, f"nobody knows whether {title} happened{reason}{best_effort}"
        case Status.SKIPPED if before is None and not after.reason:
            yield Tone.PLAIN, f"{title} is skipped: its condition does not hold"
        case Status.SKIPPED:
            yield Tone.PLAIN, f"{title} is not waited for any more"
        case Status.COMPENSATED if after.answer == "skipped":
            yield Tone.GOOD, f"{title} counts as compensated"
        case Status.COMPENSATED:
            nothing = after.answer == "nothing"
            yield Tone.GOOD, f"{title}: there was nothing to compensate" if nothing else f"{title} is compensated"
        case Status.COMPENSATING if after.succeeded and (before is None or not before.succeeded):
            yield Tone.GOOD, f"{title} is done"


def _goes_on(moment: Moment) -> bool:
    """Does the saga go forward although a step has failed? Then it was best effort."""
    return moment.after is not None and moment.after.phase is Phase.RUNNING


def _of_items(title: str, moment: Moment) -> str:
    base = base_name(title.partition(" ")[0])
    if moment.after is None or "/" not in title.partition(" ")[0] or not _goes_on(moment):
        return ""
    done, total = items_done(base, moment.after)
    return f" ({done} of {total})"


def _turn(moment: Moment) -> Iterator[Saying]:
    patch = moment.decision.patch
    if patch.get("phase") == Phase.COMPENSATING and (told := patch.get("cause")) and "id" not in patch:
        person = told["why"] in ("cancelled", "operator")  # who and why stand in the line above
        cause = Cause(**told) if told["why"] == "decided" else replace(Cause(**told), detail="")  # others' details were told above
        yield Tone.BAD, "turns back" if person else f"turns back: {because(cause)}"
    elif patch.get("cancelled"):
        yield Tone.PLAIN, "its pivot is out: it gets no further attempt, and its outcome decides"
    elif moment.decision.note == "deadline":
        yield Tone.PLAIN, "its pivot is out or done: it goes on"


def _data(moment: Moment) -> list[str]:
    if moment.decision.data is None:
        return []
    (after,) = moment.decision.data
    if moment.before is None and moment.decision.seq > 1:
        return [f"data is now {brief(after, 200)}"]
    began = "id" in moment.decision.patch
    if began and moment.before is not None and moment.before.data == after:
        return []
    if began:
        after = {name: value for name, value in after.items() if value not in ("", None, [], {})}
    found = changes({} if began or moment.before is None else moment.before.data, after)
    more = len(found) - MOST_CHANGES
    return found if more <= 0 else [*found[:MOST_CHANGES], f"… and {more} more"]


# --- what leaves ------------------------------------------------------------------------------------------------------------------


def _outputs(moment: Moment) -> Iterator[Saying]:
    decision = moment.decision
    sends: dict[tuple[str, str, int, str], list[Send]] = {}
    for output in decision.outputs:
        if isinstance(output, Send):
            base = base_name(step_and_action(output.command)[0])
            sends.setdefault((base, output.action, output.attempt, output.type), []).append(output)
    for output in decision.outputs:
        if isinstance(output, Send):
            key = (base_name(step_and_action(output.command)[0]), output.action, output.attempt, output.type)
            together = sends[key]
            if len(together) <= MOST_ITEMS:
                yield Tone.PLAIN, _sent(output, titled(step_and_action(output.command)[0], moment.after), moment)
            elif output is together[0]:
                yield Tone.PLAIN, _sent(output, f"{len(together)} items of {key[0]}", moment)
        else:
            yield from _told(output, moment)


def _sent(output: Send, title: str, moment: Moment) -> str:
    step = step_and_action(output.command)[0]
    state = moment.after.steps.get(step) if moment.after is not None else None
    to = {Action.COMPENSATE: f"compensates {plain(title)}", Action.VERIFY: f"asks about {plain(title)}"}.get(
        Action(output.action), plain(title)
    )
    if output.action == Action.EXECUTE:
        to = plain(doing(title, state))
    again = f", attempt {output.attempt}" if output.attempt > 1 else ""
    return f"→ {to}{again}: {output.type}"


def _told(output: Output, moment: Moment) -> Iterator[Saying]:
    if isinstance(output, DeadLetter) and moment.decision.note not in ("deadletter", "never-started"):
        yield Tone.BAD, f"→ dead letter: {output.reason}"
    elif isinstance(output, Announce) and output.type == "saga.rejected.v1":
        yield Tone.QUIET, f"→ tells the sender: {output.type}"
    elif isinstance(output, Announce) and output.type == "saga.asked.v1":
        told = output.data
        when = "for as long as it takes" if told["until"] is None else until(told["until"], moment.at)
        yield Tone.PLAIN, f"→ asks the role {plain(told['role'])} ({told['step']}): {told['answer']}, {when}"
    elif isinstance(output, Request):
        yield _requested(output)


def _requested(output: Request) -> Saying:
    """What goes to another instance."""
    about = output.attributes
    if "sagacommand" in about:
        return Tone.QUIET, f"→ tells its parent {named_instance(about['sagacommand'])}: {output.type}"
    if output.type == RELEASE:
        return Tone.QUIET, f"→ {output.data['saga']} {named(output.key)} need not be kept any longer"
    child, step = f"{plain(about.get('sagachild', '?'))} {named(output.key)}", step_and_action(output.id)[0]
    if output.type == UNDO:
        return Tone.PLAIN, f"→ compensates {step}: the child {child} is to undo itself"
    return Tone.PLAIN, f"→ {step} starts the child {child}" if "sagaparent" in about else f"→ {step} starts {child}"


def _end(moment: Moment) -> Iterator[Saying]:
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
