"""One run of a saga for the engine's tests: it is told what happens, says what that leads to, and checks itself at every step.

    made = make({"pay": Part(), "ship": Part(after=("pay",), pivot=True, verify=True)})
    run = Run(made.saga)
    assert run.start() == ["started", "execute pay#1"]
    assert run.reply("pay") == ["execute ship#1"]

What a step leads to is given as short texts: `<action> <step>#<attempt>` for a command (`~2` after the step for a second round), a word for
what is told on saga.events, `deadletter <reason>`, and what goes to another instance: `begin <saga> <key>`, `undo <key>`,
`release <key>`, `answer <outcome>`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson

import saga.engine.decide as decide_module
from saga.engine.actions import RETRY
from saga.engine.apply import apply, diff
from saga.engine.decide import decide
from saga.engine.decision import Announce, DeadLetter, Decision, Input, Kind, Output, Request, Send, output_from_json
from saga.engine.definition import Saga
from saga.engine.kinds import Child
from saga.engine.messages import PROTOCOL_TYPES, RELEASE, UNDO
from saga.engine.state import Instance, Waits, base_name
from tests.engine.parts import (
    DIAMOND,
    FORK,
    LINE,
    PIVOT,
    CannotSay,
    CannotUndo,
    Declined,
    Did,
    Do,
    Find,
    Made,
    Ordered,
    Part,
    Undo,
    Undone,
    Work,
    event_for,
    make,
)

__all__ = [
    "BEGAN",
    "DIAMOND",
    "FORK",
    "LINE",
    "PIVOT",
    "CannotSay",
    "CannotUndo",
    "Declined",
    "Did",
    "Do",
    "Find",
    "Made",
    "Ordered",
    "Part",
    "Run",
    "Undo",
    "Undone",
    "Work",
    "event_for",
    "make",
    "short",
    "started",
]

BEGAN = 1_700_000_000_000  # ms: when every run begins


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
        return self.operate(RETRY, id)

    def operate(self, action: str, id: str = "", **said: Any) -> list[str]:
        """An operator does something: `cancel`, `skip`, … with what belongs to it."""
        self._ids += 1
        self.now += 1
        type = action if "." in action else f"saga.{action}.v1"
        data = {"saga": "shop", "key": self.key, "who": "ann", "why": "fixed"} | said
        return self.feed(Input(Kind.OPERATOR, type, id or f"operator-{self._ids}", "cli", "saga.requests:0:9", data=data))

    def event(self, step: str, note: str = "", *, id: str = "", data: Any = None) -> list[str]:
        """The event comes that this step waits for, or will."""
        self._ids += 1
        data = data if data is not None else {"key": self.key, "note": note}
        origin = f"world.events:0:{self._ids}"
        return self.feed(Input(Kind.EVENT, event_for(step).__type__, id or f"event-{self._ids}", "world", origin, data=data))

    def answered(self, step: str, role: str = "boss", note: str = "") -> list[str]:
        """A person answers the question of this step."""
        return self.operate("signal", type=event_for(step).__type__, role=role, data={"note": note})

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
    def detail(self) -> str:
        return self.decisions[-1].detail

    @property
    def outcome(self) -> str:
        return str(self.instance.phase)

    @property
    def log(self) -> list[str]:
        """What the saga's data says has happened, in order."""
        return list(self.instance.data["log"])

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
        if (
            before is not None
            and before.get("ended") is not None
            and decision.input.kind is not Kind.PARENT
            and "sagaparent" not in decision.input.attributes
            and before["phase"] != "early"
        ):
            assert decision.ignored, "I11: a decision after the end changed the instance"
            assert not any(isinstance(output, Send) for output in decision.outputs), "I11: a command after the end"
        self.state = live
        check_waits(live, self.saga)


def check_waits(state: Instance, saga: Saga[Any, Any] | None) -> None:
    """P5: it ended, or is parked with a reason, or waits for something that will come: each wait has an end (S4)."""
    if state.phase == "early":
        assert state.ended is not None or state.next_timer() is not None, "S7: what came early is kept for ever"
        return
    if not state.live:
        assert state.ended is not None, "an outcome without a time"
        kept_for_parent = state.parent and state.phase == "completed"
        assert state.keep_until is not None or kept_for_parent, "an outcome without a time until which it is remembered"
        assert not state.early, "S7: what ended keeps events that it will never need"
        assert state.parked is None, "I11: parked after the end"
        return
    if state.parked is not None:
        assert state.parked.reason, "P5: parked without a reason"
        assert state.next_timer() is None, "S29: timers stand still while an instance is parked"
        return
    moving = (Waits.REPLY, Waits.RETRY, Waits.EVENT)
    assert any(step.waits in moving for step in state.steps.values()), (
        f"P5: it neither moves nor waits nor is parked: {state.steps}"
    )
    for name, step in state.steps.items():
        if step.waits in moving:
            child = saga is not None and isinstance(saga.steps[base_name(name)], Child)  # it has a deadline of its own
            ends = child or step.due is not None or (not state.deadline_over and step.status in ("executing", "waiting"))
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
        case Request():
            if "sagacommand" in output.attributes:
                return f"answer {output.attributes['sagaoutcome']}"
            words = {UNDO: "undo", RELEASE: "release"}
            return f"{words.get(output.type) or 'begin ' + output.attributes['sagachild']} {output.key}"
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
