"""The tale of an order in trouble: a line for each decision, as the journal tells it. Pure.

`saga show` tells everything of an instance; here there is room for one line: what was said, what came of it, what is asked next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from saga.engine.decision import Decision, Kind, Send
from saga.engine.messages import PROTOCOL_TYPES
from saga.engine.state import ENDED, Action, Instance, Parked, Phase, Waits, step_and_action
from saga.ops.heard import cause
from saga.ops.lines import Tone
from saga.ops.look import Moment
from saga.ops.why import label, parked_because
from saga.ops.words import duration, plain

LONGEST = 80  # characters of what a refusal says
SETBACKS = ("failed", "refused", "nothing", "expired", "timed-out")  # notes of decisions that brought an order no further
SIGNS = {Tone.GOOD: "✓", Tone.BAD: "✗", Tone.STUCK: "‖", Tone.PLAIN: "·"}
_DOING = {Action.EXECUTE: "", Action.VERIFY: "asks about ", Action.COMPENSATE: "compensates "}


class Told(NamedTuple):
    """One line. `since`: the time since the order's start."""

    tone: Tone
    since: str
    text: str


@dataclass(eq=False)
class Tale:
    """One order's tale so far. `setbacks`: how many; `over`: when it came to rest (ended, or parked), in ms."""

    key: str
    lines: list[Told] = field(default_factory=list)
    state: str = ""  # completed, running, compensating, compensated or parked
    setbacks: int = 0
    turned_back: bool = False
    over: int | None = None

    def add(self, moment: Moment) -> None:
        """Go on with the next decision of this order."""
        state = moment.after
        assert state is not None, "whoever tells an order follows it from its first decision"
        if moment.decision.ignored:
            return
        self.lines.append(tell(moment, state))
        self.state = label(state)
        self.setbacks += is_setback(moment.decision)
        self.turned_back = state.cause is not None
        self.over = state.parked.since if state.live and state.parked else state.ended


def tell(moment: Moment, after: Instance) -> Told:
    """A decision in a line: `payment declined: no money left, turns back → compensates accept`."""
    decision = moment.decision
    said = _said(decision) if decision.input.kind in (Kind.START, Kind.REPLY) else cause(moment)
    asked = [_asked(output) for output in decision.outputs if isinstance(output, Send)]
    text = ", ".join([said, *_came_of_it(moment, after)]) + (" → " + ", ".join(asked) if asked else "")
    return Told(_tone(decision), duration(moment.at - after.started), text)


def is_setback(decision: Decision) -> bool:
    """Whether something was refused, failed or kept silent. A compensation that finds nothing to do is none."""
    _, action = step_and_action(decision.input.attributes.get("sagacommand", ""))
    return decision.note in SETBACKS and not (decision.note == "nothing" and action == Action.COMPENSATE)


def _tone(decision: Decision) -> Tone:
    if decision.patch.get("parked"):
        return Tone.STUCK
    if is_setback(decision):
        return Tone.BAD
    return Tone.GOOD if decision.note in ("done", "nothing") else Tone.PLAIN


def _said(decision: Decision) -> str:
    """An event's type reads as words, payment.declined.v1 as "payment declined"; and the reason, where there is one."""
    given = decision.input
    words = " ".join(given.type.split(".")[:-1]).replace("-", " ").replace("_", " ")
    if given.type in PROTOCOL_TYPES.values():
        step, action = step_and_action(given.attributes.get("sagacommand", ""))
        words = f"{_DOING[Action(action)]}{step} {given.type.split('.')[1]}"
    reason = _reason(given.data, decision.key) if is_setback(decision) else ""
    return plain(f"{words}: {reason}" if reason else words)


def _reason(data: Any, key: str) -> str:
    """The reason that is given, else whatever short the event carries besides the order's key."""
    given: Mapping[str, Any] = data if isinstance(data, dict) else {}
    small = [f"{name} {value}" for name, value in given.items() if isinstance(value, str | int) and value != key]
    text = str(given.get("reason") or ", ".join(small)).rstrip(".")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _came_of_it(moment: Moment, after: Instance) -> Iterator[str]:
    patch = moment.decision.patch
    for name in patch.get("steps", {}):
        step = after.steps[name]
        if step.waits is Waits.RETRY and step.due is not None:
            yield f"next attempt in {duration(step.due - moment.at)}"
    if patch.get("phase") == Phase.COMPENSATING:
        yield "turns back"
    if patch.get("phase") in ENDED:
        yield f"{patch['phase']} after {duration(moment.at - after.started)}"
    if parked := patch.get("parked"):
        yield f"parked: {parked_because(Parked(**parked))}"


def _asked(send: Send) -> str:
    step, action = step_and_action(send.command)
    again = f", attempt {send.attempt}" if send.attempt > 1 else ""
    return f"{_DOING[Action(action)]}{plain(step)}{again}"
