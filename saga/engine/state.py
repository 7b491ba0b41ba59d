"""What the engine knows of one instance, and the table of what a step can be.

A step that was never decided has no entry. From its first command on it is in one of these states; the arrows are all there are:

                      done                                             compensate: done | nothing
        EXECUTING ───────────────▶ DONE ───────────▶ COMPENSATING ───────────────▶ COMPENSATED
          │  │ │                    ▲                    ▲
          │  │ │ verify says done   │                    │ a step that may have happened is
          │  │ └──────▶ VERIFYING ──┘                    │ compensated like one that did (S14)
          │  │              │ verify says nothing        │
          │  │ refused      ▼                            │
          │  └─────────▶ REFUSED   (no effect: S12)      │
          │ no answer, given up                          │
          └─────────────▶ UNKNOWN ───────────────────────┘

EXECUTING, VERIFYING and COMPENSATING have a command out. What such a step waits for is a second, small fact: the reply to the
attempt that is out, the time of the next attempt, or an operator, because nothing more will happen by itself.

Two more beside them: SKIPPED is a step whose condition did not hold (S18), or whose turn never came since the saga turned back; and
WAITING one that sends nothing and waits for an event, for a person's answer or for a time:

        WAITING ── it comes ──▶ DONE        WAITING ── its time is over ──▶ EXECUTING (a remedy) ──▶ WAITING ── … ──▶ REFUSED

A mapped step has a state for each iteration, under `<step>/<index>`, which goes its own way through the first picture; the state under
the step's own name holds the items, and is EXECUTING until all iterations are settled.

Why not one flat list of states: back-off and "waits for an operator" mean the same in all three, and a late reply must be judged by
where the step stands, not by what it happens to wait for.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, NamedTuple

import orjson


class Phase(StrEnum):
    EARLY = "early"  # not started yet: there are only events that came before their start (S7)
    RUNNING = "running"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    COMPENSATED = "compensated"


class Status(StrEnum):
    EXECUTING = "executing"
    VERIFYING = "verifying"
    COMPENSATING = "compensating"
    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    COMPENSATED = "compensated"
    SKIPPED = "skipped"
    WAITING = "waiting"


class Waits(StrEnum):
    REPLY = "reply"
    RETRY = "retry"
    EVENT = "event"  # an event, a person's answer, or a time
    OPERATOR = "operator"
    NOTHING = ""


class Action(StrEnum):
    EXECUTE = "execute"
    VERIFY = "verify"
    COMPENSATE = "compensate"


ENDED = (Phase.COMPLETED, Phase.COMPENSATED)
LIVE = (Phase.RUNNING, Phase.COMPENSATING)
ACTION_OF = {Status.EXECUTING: Action.EXECUTE, Status.VERIFYING: Action.VERIFY, Status.COMPENSATING: Action.COMPENSATE}
ROUND_OF = {Action.EXECUTE: "round", Action.VERIFY: "ask_round", Action.COMPENSATE: "undo_round"}
BY_HAND = "done by hand"  # an operator said so of what had been denied; then it must not be done by its participant too
UNSETTLED = (Status.EXECUTING, Status.VERIFYING)


class StepState(NamedTuple):
    """Where one step stands. Immutable: a change is another StepState, so what changed can be told by identity."""

    status: Status = Status.EXECUTING
    waits: Waits = Waits.REPLY
    attempt: int = 1  # of the command that is out; never reused, so a late `failed` cannot be taken for a newer one's
    first: int = 1  # the attempt at which the present series began: retry counts from here
    round: int = 1  # of the execute command: +1 when an operator repeats one that was refused (a new command id)
    ask_round: int = 0  # of the verify command: 0 if it was never sent, +1 when it is begun, and when an operator repeats it
    undo_round: int = 0  # the same for the compensation
    due: int | None = None  # ms: the time-out of the attempt, or the time of the next one
    decided: int = 0  # ms: when the command that is out was first decided; the same for all its attempts
    sent: Any = None  # the execute command's data, as it was sent
    succeeded: bool = False  # a `done` was seen for the execute command, in time or late
    answer: str = ""  # the last outcome that was accepted
    reason: str = ""  # why it failed, was refused, or waits for an operator

    def rounds(self, action: Action) -> int:
        """How many command ids of this action there were."""
        count: int = getattr(self, ROUND_OF[action])
        return count

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value, default in zip(self._fields, self, _STEP_DEFAULTS, strict=True) if value != default}

    @staticmethod
    def from_json(fields_: dict[str, Any]) -> StepState:
        given = dict(fields_)
        if "status" in given:
            given["status"] = _STATUS[given["status"]]
        if "waits" in given:
            given["waits"] = _WAITS[given["waits"]]
        return StepState(**given)


_STEP_DEFAULTS = StepState()
_STATUS, _WAITS = {str(status): status for status in Status}, {str(waits): waits for waits in Waits}


@dataclass(frozen=True, slots=True)
class Parked:
    """Why an instance waits for an operator. With `holds`, its inputs are kept, in order, until `retry` (S29)."""

    reason: str
    since: int
    step: str = ""
    detail: str = ""
    holds: bool = False


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an instance compensates: the first reason counts."""

    why: str  # refused | decided | unknown | deadline | late | cancelled | operator | parent
    step: str = ""
    detail: str = ""


@dataclass
class Instance:
    """One run of a saga. All times are milliseconds since 1970, of its partition's clock."""

    id: str
    saga: str
    key: str
    version: int
    hash: str
    started: int
    deadline: int
    digest: str  # of the start's payload: the same key with another payload is a conflict (S6)
    trace: str = ""  # traceparent of the start, carried to every command
    seq: int = 0
    phase: Phase = Phase.RUNNING
    deadline_over: bool = False
    cancelled: bool = False  # while the pivot was out: its attempts end, and its outcome decides (S21)
    cause: Cause | None = None
    parked: Parked | None = None
    ended: int | None = None
    keep_until: int | None = None
    limit: int = 0  # decisions allowed; set at the start, raised by `retry`
    parent: str = ""  # the command id that its outcome answers, if another instance started it (S28)
    undoes: str = ""  # the instance id of the run that this one undoes (S28)
    data: Any = None
    steps: dict[str, StepState] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)  # inputs (as JSON) that wait for an operator
    early: list[Any] = field(default_factory=list)  # events (as JSON) that came before their start or step, in order (S7)
    seen: list[str] = field(default_factory=list)  # identities of the inputs that changed it (S11)

    def copy(self) -> Instance:
        """Another one with lists of its own; what those hold is never changed in place."""
        other = object.__new__(Instance)
        other.__dict__.update(self.__dict__, steps=dict(self.steps), kept=list(self.kept), early=list(self.early))
        return other

    @property
    def live(self) -> bool:
        return self.phase in LIVE

    def next_timer(self) -> tuple[int, str] | None:
        """When time alone changes this instance next, and for which step ("" is the saga's deadline). None while parked (S29)."""
        if self.phase is Phase.EARLY and self.ended is None:
            return self.deadline, ""
        if self.parked is not None or not self.live:
            return None
        timers = [(step.due, name) for name, step in self.steps.items() if step.due is not None]
        if not self.deadline_over:
            timers.append((self.deadline, ""))
        return min(timers, default=None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: what a snapshot holds. Defaults are left out, so a new field does not change old bytes."""
        value: dict[str, Any] = {}
        for name, default in _DEFAULTS:
            now = getattr(self, name)
            if now != default:
                value[name] = plain(now)
        value["data"] = self.data
        value["steps"] = {name: step.to_json() for name, step in self.steps.items()}
        if self.kept:
            value["kept"] = self.kept
        if self.early:
            value["early"] = self.early
        value["seen"] = self.seen
        return value

    @staticmethod
    def from_json(value: dict[str, Any]) -> Instance:
        given = {name: restore(name, inner) for name, inner in value.items() if name != "steps"}
        return Instance(**given, steps={name: StepState.from_json(step) for name, step in value["steps"].items()})


def plain(value: Any) -> Any:
    """A field of Instance as a JSON value."""
    return asdict(value) if isinstance(value, (Parked, Cause)) else value


def restore(name: str, value: Any) -> Any:
    """A field of Instance from its JSON value."""
    if value is None:
        return None
    if name == "phase":
        return Phase(value)
    if name == "parked":
        return Parked(**value)
    if name == "cause":
        return Cause(**value)
    return value


_DEFAULTS = tuple((f.name, f.default) for f in fields(Instance) if f.name not in ("data", "steps", "kept", "early", "seen"))


def instance_id(saga: str, key: str, started: int) -> str:
    """`<saga>:<key>:<run>`; the run is the start time in base 36, and a `:` in a key is escaped."""
    return f"{saga}:{escape(key)}:{_base36(started)}"


def early_id(saga: str, key: str) -> str:
    """What stands in place of an instance's id before it is started."""
    return f"{saga}:{escape(key)}:{Phase.EARLY}"


def base_name(step: str) -> str:
    """The step of an iteration; any other name is itself."""
    return step.partition("/")[0]


def iteration(step: str, index: int) -> str:
    return f"{step}/{index}"


def escape(key: str) -> str:
    return key.replace("%", "%25").replace(":", "%3A")


def unescape(text: str) -> str:
    return text.replace("%3A", ":").replace("%25", "%")


def split_instance(instance: str) -> tuple[str, str]:
    """The saga and the key of an instance id. Raises ValueError if it is none."""
    saga, key, _run = instance.split(":")
    return saga, unescape(key)


def digest(data: Any) -> str:
    """Whether two JSON values are the same, without keeping both: the payload of a start (S6), the data that an edit replaces (S30)."""
    return hashlib.blake2b(orjson.dumps(data, option=orjson.OPT_SORT_KEYS), digest_size=12).hexdigest()


def command_id(instance: str, step: str, action: Action, round: int) -> str:
    """`<instance>:<step>:<action>`; a later round of an operator's retry adds `~2`, `~3`, …"""
    return f"{instance}:{step}:{action}" + (f"~{round}" if round > 1 else "")


def instance_of(command: str) -> str:
    """The instance id that a command id begins with; whatever else a text is, as much of it as could be one."""
    return ":".join(command.split(":")[:3])


def step_and_action(command: str) -> tuple[str, str]:
    """The step and the action of a command id, without its round; "" for what is not there: a reply may echo anything."""
    parts = command.split(":")
    return parts[3] if len(parts) > 3 else "", parts[4].partition("~")[0] if len(parts) > 4 else ""


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[rest] + digits
    return digits or "0"
