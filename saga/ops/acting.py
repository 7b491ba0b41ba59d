"""What an operator does: whom it concerns, what would happen, and what came of it.

One instance by its key is acted on at once. Many, chosen by a filter, are only shown until somebody says yes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from saga.engine.actions import CANCEL, COMPENSATE, EDIT, RESUME, RETRY, SIGNAL, SKIP
from saga.engine.decision import Announce
from saga.engine.kinds import Wait
from saga.engine.schedules import is_schedule
from saga.engine.state import Action, Instance, Phase, Status, Waits, digest
from saga.errors import Misconfigured
from saga.ops.awaited import step_of
from saga.ops.blanks import blank
from saga.ops.commands import Tool, state_of
from saga.ops.edits import require_fields
from saga.ops.lines import Tone
from saga.ops.listing import Filter
from saga.ops.look import History
from saga.ops.operate import Act, Answer, Came, Operator, Target, wall_clock
from saga.ops.output import FAILED, OK, PROBLEMS
from saga.ops.why import why
from saga.ops.words import ago, changes, named, plain

# What each action of many is called in the sentence of a dry run.
DONE_TO = {RETRY: "retried", RESUME: "resumed", CANCEL: "cancelled", COMPENSATE: "compensated"}
_GOES_ON = (RETRY, RESUME, SKIP, SIGNAL)  # what follows from these may be a turn back, where the deadline has passed
_TONES = {
    Came.PARKED: Tone.STUCK,
    Came.KEPT: Tone.STUCK,
    Came.UNDECIDED: Tone.STUCK,
    Came.IN_PART: Tone.BAD,
    Came.UNCHANGED: Tone.BAD,
    Came.REFUSED: Tone.BAD,
    Came.UNKNOWN: Tone.BAD,
}


@dataclass(frozen=True)
class Chosen:
    """Whom an action concerns: one key (`filter.saga` narrows it), or all that a filter takes; those only with `yes`."""

    key: str | None
    filter: Filter
    yes: bool


async def act_on(tool: Tool, chosen: Chosen, act: Act) -> int:
    """Do it, or show to whom it would be done. The exit code."""
    found = await (one(tool, chosen.key, chosen.filter.saga) if chosen.key is not None else _many(tool, chosen))
    if found and act.action == SKIP:
        _require_result(tool, found[0], act.data)
    if act.action in _GOES_ON and (late := late_to_go_on(found, wall_clock())):
        tool.say(f"saga: {late}")
    if not found:
        return FAILED if chosen.key is not None else OK
    if chosen.key is not None and found[0].phase is Phase.EARLY:
        tool.say(f"saga: {why(found[0], wall_clock())}")
        return PROBLEMS
    if not (chosen.yes or chosen.key is not None):
        tool.say(f"{len(found)} would be {DONE_TO[act.action]}; nothing was done. To do it: --yes --why TEXT")
        return OK
    if chosen.filter.reason:  # what has parked for another reason since is not meant
        act = replace(act, data={**act.data, "parked": chosen.filter.reason})
    return await _send(tool, [_meant(state) for state in found], act)


def _require_result(tool: Tool, state: Instance, data: Mapping[str, Any]) -> None:
    """Raises Misconfigured where a step can only be skipped with a result, and none is given."""
    name, contradicted = data["step"], state.parked is not None and state.parked.reason == "contradiction"
    step = state.steps.get(name)
    if "result" in data or "nothing" in data or contradicted:
        return
    if step is None or step.waits is not Waits.OPERATOR or step.status is Status.COMPENSATING:
        return  # it takes neither; or it is not stuck, and is refused with the reason
    definition = step_of(tool.definition(state), name)
    replies = definition.answers(Action.EXECUTE, "done") if definition is not None else {}
    reply = definition.event if isinstance(definition, Wait) else next(iter(replies.values()), None)
    example = blank(reply) if reply is not None else "JSON"
    raise Misconfigured(f"say what {plain(name)} is answered, --result '{example}', or that it never happened: --nothing")


async def edit(tool: Tool, chosen: Chosen, change: Callable[[Any], Any], act: Act) -> int:
    """Give a parked instance other data: what `change` makes of what it has.

    Raises Misconfigured if that is the same, or has a field that the data's class, where it is at hand, does not have.
    """
    assert chosen.key is not None
    found = await one(tool, chosen.key, chosen.filter.saga)
    if not found:
        return FAILED
    data = change(found[0].data)
    definition = tool.definition(found[0])
    if definition is not None and definition.version == found[0].version:
        require_fields(definition.data, data)
    if not (told := changes(found[0].data, data)):
        raise Misconfigured("that is its data already; nothing was done")
    for line in told:
        tool.say(f"  {line}")
    act = replace(act, action=EDIT, data={"data": data, "was": digest(found[0].data)})
    return await _send(tool, [_meant(found[0])], act)


async def answer(tool: Tool, chosen: Chosen, step: str, said: Any, act: Act) -> int:
    """Answer the question of a step, in the role that `act.data` names. Raises Misconfigured if no such question is known."""
    assert chosen.key is not None
    histories = await tool.histories(chosen.key, chosen.filter.saga, whole=True)
    if not histories:
        return FAILED
    history = _only(histories)
    type = _type_of_answer(tool, history, step)
    data = {**act.data, "step": step, "type": type, "data": said}
    state = state_of(history)
    return await _send(tool, [_meant(state)], replace(act, action=SIGNAL, data=data))


async def one(tool: Tool, key: str, saga: str | None) -> Sequence[Instance]:
    """The instance with this key, or none. Raises Misconfigured if there are several and `saga` does not say which."""
    histories = await tool.histories(key, saga, whole=False)
    return [state_of(_only(histories))] if histories else []


def _only(histories: Sequence[History]) -> History:
    if len(histories) > 1:
        names = ", ".join(history.saga for history in histories)
        raise Misconfigured(f"{named(histories[0].key)} is a key of several sagas ({names}); say which with --saga")
    return histories[0]


def _meant(state: Instance) -> Target:
    """This run: if it has begun anew before the action is decided, the next run is not touched."""
    return Target(state.saga, state.key, state.id)


async def _many(tool: Tool, chosen: Chosen) -> Sequence[Instance]:
    """Those that fit; unless something is to be done to them they are shown."""
    now = wall_clock()
    with tool.journals() as journals:
        found = await tool.listing(journals, chosen.filter, now)
    if chosen.filter.saga is None:  # nobody who means many means the clocks that start them
        found.rows = [state for state in found.rows if not is_schedule(state)]
    if not found.rows:
        tool.say(f"no {chosen.filter.shown} instance fits; nothing to do")
    if not chosen.yes:
        tool.rows(found.rows, now)
    return found.rows


async def _send(tool: Tool, targets: Sequence[Target], act: Act) -> int:
    """Send the action for each, and tell what came of it."""

    def told(answer: Answer) -> None:
        who = f"{answer.target.saga} {named(answer.target.key)}"
        tool.output.text(f"{who} {answer.came}: {answer.detail}", _TONES.get(answer.came, Tone.GOOD))

    operator = Operator(tool.log, act, told if tool.output.for_people else None)
    try:
        answers = await operator.act_on(targets)
    except BaseException:  # Ctrl-C among them: say what is on its way before going
        tool.say(
            f"stopped: {operator.sent} of {len(targets)} were sent, {len(operator.answers)} of them decided; "
            "what was sent will be decided all the same"
        )
        raise
    if not tool.output.for_people:
        tool.output.values([answer.to_json() for answer in answers])
    elif len(targets) > 1:
        counts = {came: sum(answer.came is came for answer in answers) for came in Came}
        tool.say(", ".join(f"{count} {came}" for came, count in counts.items() if count))
    return exit_code(answers)


def exit_code(answers: Sequence[Answer]) -> int:
    came = {answer.came for answer in answers}
    if came & {Came.UNKNOWN, Came.UNDECIDED}:
        return FAILED
    return PROBLEMS if came & {Came.PARKED, Came.KEPT, Came.REFUSED, Came.IN_PART, Came.UNCHANGED} else OK


def late_to_go_on(states: Sequence[Instance], now: int) -> str:
    """A warning of those that will not go on but back: their deadline passed while they were parked, and timers stood still (S29)."""
    late = [
        state
        for state in states
        if state.parked and state.phase is Phase.RUNNING and not state.deadline_over and state.deadline < now
    ]
    if not late:
        return ""
    first = min(late, key=lambda state: state.deadline)
    name, passed = f"{first.saga} {named(first.key)}", ago(first.deadline, now)
    whose = (
        f"the deadline of {name} passed {passed}" if len(late) == 1 else f"the deadline of {len(late)} passed, of {name} {passed}"
    )
    return f"{whose}: as soon as it goes on, what has not come to its pivot turns back"


def _type_of_answer(tool: Tool, history: History, step: str) -> str:
    """What a question wants to hear: as it was asked, says the journal; else as the definition says."""
    state, saga = state_of(history), tool.definition(state_of(history))
    told = [output.data for moment in history.moments for output in moment.decision.outputs if _asks(output)]
    asked = {data["step"]: str(data["answer"]) for data in told}
    for name, definition in (saga.steps if saga is not None else {}).items():
        if isinstance(definition, Wait) and definition.role:
            asked.setdefault(name, definition.event.__type__)
    if step not in asked:
        whose = f"{state.saga} {named(state.key)}"
        raise Misconfigured(f"{whose} asks nothing at {step!r}; it does at {', '.join(asked) or 'no step'}")
    return asked[step]


def _asks(output: Any) -> TypeGuard[Announce]:
    return isinstance(output, Announce) and output.type == "saga.asked.v1"
