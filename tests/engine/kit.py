"""Builders for the engine's tests: a saga from a few words, and a run of it that checks itself at every step.

    made = make({"pay": Part(), "ship": Part(after=("pay",), pivot=True, verify=True)})
    run = Run(made.saga)
    assert run.start() == ["started", "execute pay#1"]
    assert run.reply("pay") == ["execute ship#1"]

What a step leads to is given as short texts: `<action> <step>#<attempt>` for a command (`~2` after the step for a second round), a word for
what is told on saga.events, and `deadletter <reason>`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

import orjson
from pydantic import BaseModel

import saga.engine.decide as decide_module
from saga.engine.actions import RETRY
from saga.engine.apply import apply, diff
from saga.engine.decide import decide
from saga.engine.decision import Announce, DeadLetter, Decision, Input, Kind, Output, Send, output_from_json
from saga.engine.definition import Saga
from saga.engine.kinds import Step
from saga.engine.messages import PROTOCOL_TYPES, Command, Event, Refusal
from saga.engine.nodes import START, Node
from saga.engine.policy import Retry, Unknown
from saga.engine.state import Instance, Waits

BEGAN = 1_700_000_000_000  # ms: when every run begins


class Ordered(Event, type="shop.ordered.v1"):
    key: str
    text: str = ""


class Did(Event, type="work.did.v1"):
    note: str = ""


class Declined(Refusal, type="work.declined.v1"):
    reason: str = ""


class Do(Command[Did], service="work", refuses=(Declined,)):
    step: str
    text: str = ""


class Undone(Event, type="work.undone.v1"):
    pass


class CannotUndo(Refusal, type="work.cannot-undo.v1"):
    pass


class Undo(Command[Undone], service="work", refuses=(CannotUndo,)):
    step: str
    text: str = ""


class CannotSay(Refusal, type="work.cannot-say.v1"):
    pass


class Find(Command[Did], service="work", refuses=(CannotSay,)):
    step: str


class Work(BaseModel):
    key: str
    log: list[str] = []
    text: str = ""


@dataclass(frozen=True)
class Part:
    """One step in a few words."""

    after: tuple[str, ...] = ()
    pivot: bool = False
    undo: bool = True  # has a compensation (never one from the pivot on)
    verify: bool = False
    unknown: Unknown | None = None
    timeout: float | None = 10  # seconds
    attempts: int = 2


@dataclass
class Made:
    """A saga, and what of its user code is broken now: "start", "<step>", "<step>.done", "<step>.compensate", "<step>.verify"."""

    saga: Saga[Ordered, Work]
    broken: set[str] = field(default_factory=set)
    text: dict[str, str] = field(default_factory=dict)  # what a function puts into what it makes, to make it large


class Broken(Exception):
    """What broken user code raises."""


def make(parts: Mapping[str, Part], *, name: str = "shop", version: int = 1, deadline: float = 3600) -> Made:
    saga = Saga(name, version=version, starts_on=Ordered, key=_key, data=Work, deadline=timedelta(seconds=deadline))
    made = Made(saga)
    after_pivot: set[str] = set()
    nodes: dict[str, Node] = {}

    @saga.start
    def begin(event: Ordered) -> Work:
        return Work(key=event.key, text=_text(made, "start"))

    for step_name, part in parts.items():
        if any(parts[other].pivot or other in after_pivot for other in part.after):
            after_pivot.add(step_name)
        forward = part.pivot or step_name in after_pivot
        nodes[step_name] = _add(made, step_name, part, tuple(nodes[other] for other in part.after), forward)
    saga.check()
    return made


def _add(made: Made, name: str, part: Part, after: tuple[Node, ...], forward: bool) -> Node:
    def command(_data: Work) -> Do:
        return Do(step=name, text=_text(made, name))

    def done(data: Work, _reply: Did) -> Work:
        return data.model_copy(update={"log": [*data.log, name], "text": _text(made, f"{name}.done")})

    def compensate(_data: Work, sent: Do) -> Undo:
        assert sent.step == name, "the compensation was given another command than the one that was sent"
        return Undo(step=name, text=_text(made, f"{name}.compensate"))

    def verify(_data: Work, sent: Do) -> Find:
        _text(made, f"{name}.verify")
        return Find(step=sent.step)

    command.__name__ = name
    timeout = None if part.timeout is None else timedelta(seconds=part.timeout)
    retry = Retry(attempts=part.attempts, first=timedelta(seconds=1))
    options: dict[str, Any] = {} if part.undo or forward else {"compensation": None}
    step: Step[Work, Do] = made.saga.step(
        after=after or START, timeout=timeout, pivot=part.pivot, retry=retry, unknown=part.unknown, **options
    )(command)
    step.done(done)
    if part.undo and not forward:
        step.compensate(compensate)
    if part.verify:
        step.verify(verify)
    return step


def _key(event: Ordered) -> str:
    return event.key


def _text(made: Made, place: str) -> str:
    if place in made.broken:
        raise Broken(f"{place} is broken")
    return made.text.get(place, "")


LINE = {"a": Part(), "b": Part(after=("a",)), "c": Part(after=("b",))}
FORK = {"a": Part(), "b": Part()}  # two branches, no join
DIAMOND = {"a": Part(), "b": Part(after=("a",)), "c": Part(after=("a",)), "d": Part(after=("b", "c"))}
PIVOT = {"a": Part(), "p": Part(after=("a",), pivot=True, verify=True), "z": Part(after=("p",))}


class Run:
    """One instance. Every input it is given is checked for what must hold at every decision, whatever the saga."""

    def __init__(self, saga: Saga[Any, Any] | None, key: str = "k1") -> None:
        self.saga = saga
        self.key = key
        self.state: Instance | None = None
        self.now = BEGAN
        self.decisions: list[Decision] = []
        self._ids = 0

    # --- what can happen ----------------------------------------------------------------------------------------------------------

    def start(self, *, id: str = "start-1", text: str = "") -> list[str]:
        data = {"key": self.key} | ({"text": text} if text else {})
        return self.feed(Input(Kind.START, Ordered.__type__, id, "shop", "shop.events:0:1", data=data))

    def reply(self, step: str, outcome: str = "done", action: str = "execute", **changes: Any) -> list[str]:
        """A reply to a step's command; to the attempt that is out and to the newest round, if not said otherwise."""
        return self.feed(self.answer(step, outcome, action, **changes))

    def answer(
        self,
        step: str,
        outcome: str = "done",
        action: str = "execute",
        *,
        attempt: int | None = None,
        round: int = 0,
        **changes: Any,
    ) -> Input:
        stands = self.instance.steps.get(step)
        rounds = {"execute": "round", "verify": "ask_round", "compensate": "undo_round"}
        round = round or (getattr(stands, rounds[action]) if stands else 1)
        attempt = attempt if attempt is not None else stands.attempt if stands else 1
        self._ids += 1
        given: dict[str, Any] = {
            "type": PROTOCOL_TYPES.get(outcome) or _TYPES[outcome, action],
            "id": f"reply-{self._ids}",
            "source": "work",
            "origin": f"work.events:0:{self._ids}",
            "data": {"note": "x"} if outcome in ("done", "refused") else {},
            "attributes": {
                "sagacommand": f"{self.instance.id}:{step}:{action}" + (f"~{round}" if round > 1 else ""),
                "sagaoutcome": outcome,
                "sagaattempt": str(attempt),
            },
        }
        given["attributes"] |= changes.pop("attributes", {})
        return Input(Kind.REPLY, **(given | changes))

    def timer(self) -> list[str]:
        """The next timer fires, when it is due."""
        due = self.instance.next_timer()
        assert due is not None, "there is no timer to fire: time alone changes nothing here"
        self.now = max(self.now, due[0])
        return self.feed(Input(Kind.TIMER, data={"step": due[1], "due": due[0]}))

    def silence(self, limit: int = 100) -> list[str]:
        """Nobody answers: timers fire until none is left. What they led to."""
        led: list[str] = []
        while self.instance.next_timer() is not None:
            assert (limit := limit - 1), "timers never come to an end"
            led += self.timer()
        return led

    def deadline(self) -> list[str]:
        """The saga's deadline fires now, before any other timer."""
        self.now = max(self.now, self.instance.deadline)
        return self.feed(Input(Kind.TIMER, data={"step": "", "due": self.instance.deadline}))

    def retry(self, id: str = "") -> list[str]:
        self._ids += 1
        self.now += 1
        data = {"saga": "shop", "key": self.key, "who": "ann", "why": "fixed"}
        return self.feed(Input(Kind.OPERATOR, RETRY, id or f"retry-{self._ids}", "cli", "saga.requests:0:9", data=data))

    def feed(self, given: Input) -> list[str]:
        before = self.state.to_json() if self.state is not None else None
        frozen = orjson.dumps(before)
        decision, draft = _watched(self.saga, self.state, given, self.now, self.key)
        assert orjson.dumps(self.state.to_json() if self.state else None) == frozen, "S31: deciding changed its argument"
        if decision.seq:
            self._adopt(before, decision, draft)
        self.decisions.append(decision)
        return [short(output) for output in decision.outputs]

    # --- what came of it ----------------------------------------------------------------------------------------------------------

    @property
    def instance(self) -> Instance:
        assert self.state is not None, "there is no instance"
        return self.state

    @property
    def note(self) -> str:
        return self.decisions[-1].note

    @property
    def led(self) -> list[str]:
        """Everything that left so far."""
        return [short(output) for decision in self.decisions for output in decision.outputs]

    @property
    def parked(self) -> str:
        """Why it is parked, "" if it is not."""
        return self.instance.parked.reason if self.instance.parked else ""

    def status(self, step: str) -> str:
        return str(self.instance.steps[step].status)

    def sends(self) -> list[Send]:
        return [output for decision in self.decisions for output in decision.outputs if isinstance(output, Send)]

    # --- what always holds ----------------------------------------------------------------------------------------------------------

    def _adopt(self, before: dict[str, Any] | None, decision: Decision, draft: Instance | None) -> None:
        live = apply(self.state, decision)
        folded = apply(None if before is None else Instance.from_json(_json(before)), reread(decision))
        assert _bytes(live.to_json()) == _bytes(folded.to_json()), "I18: folding the journal gives another state than the live one"
        assert _bytes(Instance.from_json(_json(live.to_json())).to_json()) == _bytes(live.to_json()), (
            "I18: a snapshot gives another state"
        )
        if draft is not None:
            expected = draft.to_json() | {"seq": live.seq, "seen": live.seen}
            assert _bytes(expected) == _bytes(live.to_json()), "S31: applying gives another state than deciding made"
        assert decision.seq == (before or {}).get("seq", 0) + 1, "I6: the numbers of decisions have a gap"
        if before is not None and before.get("ended") is not None:
            assert decision.ignored, "I11: a decision after the end changed the instance"
            assert not any(isinstance(output, Send) for output in decision.outputs), "I11: a command after the end"
        self.state = live
        check_waits(live)


def check_waits(state: Instance) -> None:
    """P5: it ended, or is parked with a reason, or waits for something that will come: each wait has an end (S4)."""
    if not state.live:
        assert state.ended is not None, "an outcome without a time"
        assert state.keep_until is not None, "an outcome without a time until which it is remembered"
        assert state.parked is None, "I11: parked after the end"
        return
    if state.parked is not None:
        assert state.parked.reason, "P5: parked without a reason"
        assert state.next_timer() is None, "S29: timers stand still while an instance is parked"
        return
    waiting = [step for step in state.steps.values() if step.waits in (Waits.REPLY, Waits.RETRY)]
    assert waiting, f"P5: it neither moves nor waits nor is parked: {state.steps}"
    for name, step in state.steps.items():
        if step.waits in (Waits.REPLY, Waits.RETRY):
            ends = step.due is not None or (not state.deadline_over and step.status == "executing")
            assert ends, f"S4: {name} waits for ever"
        else:
            assert step.due is None, f"S26: {name} has settled and still has a timer"


def short(output: Output) -> str:
    match output:
        case Send():
            round = output.command.rpartition(":")[2].partition("~")[2]
            return f"{output.action} {output.command.split(':')[3]}{'~' + round if round else ''}#{output.attempt}"
        case Announce():
            return output.type.split(".")[1]
        case DeadLetter():
            return f"deadletter {output.reason}"
    return output.kind


def reread(decision: Decision) -> Decision:
    """A decision as a journal gives it back."""
    return Decision(
        decision.instance,
        decision.seq,
        decision.key,
        Input.from_json(_json(decision.input.to_json())),
        decision.note,
        decision.detail,
        _json(decision.patch),
        None if decision.data is None else (_json(decision.data[0]),),
        tuple(output_from_json(_json(asdict(output))) for output in decision.outputs),
    )


def _watched(
    saga: Saga[Any, Any] | None, state: Instance | None, given: Input, now: int, key: str
) -> tuple[Decision, Instance | None]:
    """A decision, and the working copy that it was made on."""
    drafts: list[Instance] = []

    def watch(before: Instance | None, after: Instance) -> dict[str, Any]:
        drafts.append(copy.deepcopy(after))
        return diff(before, after)

    names = vars(decide_module)
    names["diff"] = watch
    try:
        return decide(saga, state, given, now, key), drafts[-1] if drafts else None
    finally:
        names["diff"] = diff


def _json(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def _bytes(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


_TYPES: dict[tuple[str, str], str] = {
    ("done", "execute"): Did.__type__,
    ("done", "verify"): Did.__type__,
    ("done", "compensate"): Undone.__type__,
    ("refused", "execute"): Declined.__type__,
    ("refused", "verify"): CannotSay.__type__,
    ("refused", "compensate"): CannotUndo.__type__,
}


def started(parts: Mapping[str, Part], **options: Any) -> Run:
    """A run that has just started."""
    run = Run(make(parts, **options).saga)
    run.start()
    return run
