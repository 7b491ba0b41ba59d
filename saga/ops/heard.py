"""What came in, in words: the line that begins a decision in a story. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saga.engine.actions import SIGNAL, SKIP
from saga.engine.decision import Decision, Input, Kind
from saga.engine.messages import CHILD_COMPENSATED, CHILD_COMPLETED, NOTHING, PROTOCOL_TYPES, REQUESTS, UNDO
from saga.engine.schedules import SCHEDULED
from saga.engine.state import Action, Phase, Status, StepState, Waits, instance_of, split_instance, step_and_action
from saga.ops.awaited import titled
from saga.ops.look import Moment
from saga.ops.words import brief, named, plain


def cause(moment: Moment) -> str:
    """The input of a decision, in words."""
    given = moment.decision.input
    data: Mapping[str, Any] = given.data if isinstance(given.data, dict) else {}
    match given.kind:
        case Kind.OPERATOR:
            return _operator(given.type, data)
        case Kind.TIMER:
            return _timer(moment, str(data.get("step", "")))
        case Kind.PARENT:
            parent = named_instance(given.attributes.get("sagaparent", ""))
            return (
                f"its parent {parent} turns back, and wants it undone" if given.type == UNDO else f"its parent {parent} has ended"
            )
        case Kind.START:
            return _start(given, data) or _event(moment.decision)
        case Kind.REPLY:
            return _child(moment, data) if given.topic == REQUESTS else _reply(moment, data)
    return _event(moment.decision)


def named_instance(command: str) -> str:
    """Of a command id, the saga and the key: another instance, as people name it."""
    try:
        saga, key = split_instance(instance_of(command))
    except ValueError:
        return plain(command)
    return f"{plain(saga)} {named(key)}"


def doing(step: str, state: StepState | None) -> str:
    """What a step is at: itself, its compensation, the question about it, or the remedy for what is late."""
    status = state.status if state is not None else Status.EXECUTING
    if state is not None and status is Status.EXECUTING and state.ask_round:  # only a wait that is late executes after a question
        return f"the remedy for {step}"
    return {Status.COMPENSATING: f"compensating {step}", Status.VERIFYING: f"the question about {step}"}.get(status, step)


def _operator(type: str, data: Mapping[str, Any]) -> str:
    what = plain(type.split(".")[1] if type.count(".") > 1 else type)
    step = plain(str(data.get("step") or ""))
    if type == SKIP:
        result = f" with {brief(data['result'])}" if data.get("result") is not None else ""
        what = f"skip of {step}" + (" as never done" if data.get("nothing") else result)
    elif type == SIGNAL and data.get("role"):
        what = f"answer to {step or plain(str(data.get('type')))} as {plain(str(data['role']))}"
    elif type == SIGNAL:
        what = f"signal {plain(str(data.get('type')))}"
    return f"{what} by {plain(str(data.get('who', '?')))}: {plain(str(data.get('why', '')))}"


def _timer(moment: Moment, step: str) -> str:
    before = moment.before.steps.get(step) if moment.before is not None else None
    if not step:
        early = moment.before is not None and moment.before.phase is Phase.EARLY
        return "the time to start it is over" if early else "the saga's deadline passes"
    name = titled(step, moment.before)
    if before is not None and before.status is Status.WAITING:
        return f"the time of {name} comes" if moment.decision.note == "time" else f"the time for {name} is over"
    if moment.decision.note == "retry" or (before is not None and before.waits is Waits.RETRY):
        return f"time for the next attempt of {doing(name, before)}"
    attempt = f", attempt {before.attempt}" if before is not None else ""
    return f"time-out of {doing(name, before)}{attempt}"


def _start(given: Input, data: Mapping[str, Any]) -> str:
    """A start that another instance sent, or a schedule; "" for an event that a service published."""
    if given.type == SCHEDULED:
        return f"an orchestrator has the schedule {plain(str(data.get('cron')))} ({plain(str(data.get('tz')))})"
    if "sagachild" not in given.attributes:
        return ""
    parent = given.attributes.get("sagaparent", "")
    said = plain(given.type)
    return f"its parent {named_instance(parent)} starts it: {said}" if parent else f"{named_instance(given.id)} starts it: {said}"


def _event(decision: Decision) -> str:
    return f"{_speaker(decision)} says {plain(decision.input.type)}"


def _reply(moment: Moment, data: Mapping[str, Any]) -> str:
    given = moment.decision.input
    said = _event(moment.decision)
    about, action, attempt = _about(given.attributes)
    if given.type in PROTOCOL_TYPES.values() and (reason := data.get("reason")):
        said += f": {plain(str(reason))}"
    asked = f", asked about {about}" if action == Action.VERIFY else ""
    return said + asked + (f", attempt {attempt}" if attempt not in ("", "1") else "")


def _child(moment: Moment, data: Mapping[str, Any]) -> str:
    """What a child answers."""
    given = moment.decision.input
    step, action, _ = _about(given.attributes)
    state = moment.before.steps.get(step) if moment.before is not None else None
    sent = state.sent if state is not None and isinstance(state.sent, dict) else {}
    reason = f": {plain(str(data['reason']))}" if data.get("reason") else ""
    child = f"the child {named(str(sent.get('key', '?')))} of {step}"
    if given.type == CHILD_COMPLETED:
        return f"{child} completed"
    if given.type == NOTHING:
        return f"{child} had nothing to undo"
    if given.type == CHILD_COMPENSATED:
        return f"{child} has undone itself" if action == Action.COMPENSATE else f"{child} was compensated{reason}"
    return f"{child} cannot be undone{reason}" if action == Action.COMPENSATE else f"{child} could not start{reason}"


def _speaker(decision: Decision) -> str:
    """The service that an event came from: the first part of its topic, or of its type where it came another way."""
    topic = decision.input.topic
    return plain(topic.removesuffix(".events") if topic.endswith(".events") else decision.input.type.split(".")[0])


def _about(attributes: Mapping[str, str]) -> tuple[str, str, str]:
    """Step, action and attempt that a reply echoes."""
    step, action = step_and_action(attributes.get("sagacommand", ""))
    known = action if action in tuple(Action) else Action.EXECUTE
    return plain(step), known, plain(attributes.get("sagaattempt", ""))
