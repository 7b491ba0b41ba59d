"""A draft: one instance being decided. It holds the working copy, runs the user's functions, and collects what is to leave.

User code may do anything, also raise. Whatever it does wrong comes out as UserCodeRaised, and the decision that called it starts again
from where it was: the instance parks and keeps its input (S29).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from saga.engine import trace
from saga.engine.decision import Announce, Output, Request, Send
from saga.engine.definition import Saga
from saga.engine.keys import start_key
from saga.engine.kinds import Child, Mapped
from saga.engine.messages import UNDO
from saga.engine.nodes import AnyStep, Node, Unless
from saga.engine.policy import DEFAULT_TIMEOUT, MAX_DATA_BYTES, MAX_DECISIONS, MAX_ITEMS, MAX_OUTPUT_BYTES, MAX_SENT_BYTES
from saga.engine.state import (
    ACTION_OF,
    ROUND_OF,
    Action,
    Instance,
    Parked,
    Status,
    StepState,
    Waits,
    base_name,
    command_id,
    instance_id,
)
from saga.errors import Unreadable


class Ignored(Exception):
    """This input changes nothing, because …"""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class UserCodeRaised(Exception):
    """A function of the definition raised, or returned what it must not."""

    def __init__(self, step: str, detail: str, reason: str = "user-code") -> None:
        super().__init__(detail)
        self.step = step
        self.detail = detail
        self.reason = reason


class Draft:
    """A working copy of an instance. `now` is the partition's time in ms."""

    def __init__(self, saga: Saga[Any, Any], state: Instance, now: int) -> None:
        self.saga = saga
        self.state = state
        self.now = now
        self.outputs: list[Output] = []
        self.data_changed = False
        self._model: BaseModel | None = None

    def copy(self) -> Draft:
        other = Draft(self.saga, self.state.copy(), self.now)
        other.outputs, other.data_changed = list(self.outputs), self.data_changed
        return other

    def step(self, name: str) -> AnyStep[Any]:
        """The definition of a step, or of the mapped step that an iteration belongs to."""
        return self.saga.steps[base_name(name)]

    def set(self, name: str, **changes: Any) -> StepState:
        state = self.state.steps[name] = self.state.steps[name]._replace(**changes)
        return state

    # --- the user's functions -------------------------------------------------------------------------------------------------

    def call(self, step: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except (Exception, SystemExit) as error:  # SystemExit too: one definition must not end the process for all
            lines = traceback.format_exception(error)
            raise UserCodeRaised(step, readable("".join(lines)[-4000:])) from error

    def read(self, step: str, message: type[BaseModel], data: Any) -> Any:
        """A reply's payload as its class. Raises ValidationError if it is invalid, UserCodeRaised if a validator raised another error."""
        try:
            return self.call(step, message.model_validate, data)
        except UserCodeRaised as raised:
            if isinstance(raised.__cause__, ValidationError):
                raise raised.__cause__ from None
            raise

    def model(self) -> BaseModel:
        """The instance's data as the user's class."""
        if self._model is None:
            self._model = self.call("", self.saga.data.model_validate, own(self.state.data))
        return self._model

    def put_data(self, step: str, data: Any) -> None:
        """Take over what `start` or `done` returned. Raises UserCodeRaised if it is not the saga's data, or too large (S32)."""
        if not isinstance(data, self.saga.data):
            raise UserCodeRaised(step, f"{step or 'start'} must return a {self.saga.data.__name__}, not {type(data).__name__}")
        if strange := self.call(
            step, _strange, data
        ):  # `model_copy(update=…)` takes any name, and what has no field is not in the JSON
            raise UserCodeRaised(step, f"{step or 'start'} set {strange}")
        value = self._plain(step, data, "the instance's data")
        # `model_copy(update=…)` checks nothing: what cannot be read back would park the instance later, where no fix helps.
        self._model = self.call(step, self.saga.data.model_validate, value)
        self.state.data = value
        self.data_changed = True

    def wanted(self, step: AnyStep[Any]) -> bool:
        """Does the step's condition hold (S18)?"""
        when = step.when
        if isinstance(when, Unless):
            return self.state.steps[when.node.name].status is Status.SKIPPED
        if isinstance(when, Node):
            return self.state.steps[when.name].status is not Status.SKIPPED
        return when is None or bool(self.call(step.name, when, self.model()))

    def items(self, step: Mapped[Any, Any, Any]) -> list[Any]:
        """The items of a mapped step as JSON values, asked for once (S17)."""
        made = self.call(step.name, lambda: list(step.items(self.model())))
        if len(made) > MAX_ITEMS:
            what = f"{step.name} has {len(made)} items; at most {MAX_ITEMS} are possible"
            raise UserCodeRaised(step.name, what, "too-large")
        plain = [self.call(step.name, step.item.dump_python, item, mode="json") for item in made]
        raw = self._written(step.name, plain, f"the items of {step.name}", MAX_DATA_BYTES)
        for value in (items := orjson.loads(raw)):
            self.call(step.name, step.item.validate_python, own(value))
        return list(items)

    def arguments(self, name: str) -> tuple[Any, ...]:
        """What the functions of a step are given first: the data, and for an iteration its item."""
        step = self.step(name)
        if not isinstance(step, Mapped):
            return (self.model(),)
        item = self.state.steps[step.name].sent[int(name.partition("/")[2])]
        return self.model(), self.call(name, step.item.validate_python, own(item))

    def receive(self, name: str, message: Any) -> None:
        """Put what came for a step into the data, by the function that its definition gives."""
        receive = self.step(name).receive
        if receive is not None:
            self.put_data(name, self.call(name, receive, *self.arguments(name), message))

    def command(self, step: str, function: Callable[..., Any], expected: type[BaseModel], *more: Any) -> Any:
        """Ask the user's function for a command, as JSON data."""
        made = self.call(step, function, *self.arguments(step), *more)
        if not isinstance(made, expected):
            raise UserCodeRaised(step, f"{step} must return a {expected.__name__}, not {type(made).__name__}")
        data = self._plain(step, made, f"the command {expected.__name__}")
        self.call(step, expected.model_validate, data)
        return data

    def _plain(self, step: str, model: BaseModel, what: str) -> Any:
        """A model's JSON value, exactly as the journal will give it back (NaN, say, comes back as null)."""
        value = self.call(step, model.model_dump, mode="json")
        raw = self._written(step, value, what, MAX_DATA_BYTES)
        return orjson.loads(raw)

    def _written(self, step: str, value: Any, what: str, limit: int) -> bytes:
        try:
            # It will stand deeper in a decision, and JSON is only written to some depth.
            raw = orjson.dumps([[[[[[[[value]]]]]]]])[8:-8]
        except TypeError as error:
            raise UserCodeRaised(step, f"{what} cannot be written as JSON: {error}") from error
        if len(raw) > limit:
            raise UserCodeRaised(step, f"{what} has {len(raw)} bytes; at most {limit} are possible", "too-large")
        return raw

    # --- commands ---------------------------------------------------------------------------------------------------------------

    def execute(self, name: str) -> None:
        """Decide a step's command for the first time (from here on its compensation counts as registered: S9)."""
        step = self.step(name)
        assert step.command is not None
        assert step.command_class is not None
        data = self.command(name, step.command, step.command_class)
        if isinstance(step, Child):
            data = {"key": self.key_of(name, step.child, data), "data": data}
        self.state.steps[name] = StepState(decided=self.now, sent=data)
        self._bound_sent(name)
        self._send(name, data)

    def remedy(self, name: str) -> None:
        """Decide the command that is to help where an event is late."""
        step = self.step(name)
        assert step.command is not None
        assert step.command_class is not None
        data = self.command(name, step.command, step.command_class)
        self.set(name, status=Status.EXECUTING, attempt=1, decided=self.now, sent=data)
        self._bound_sent(name)
        self._send(name, data)

    def start_other(self, name: str, request: Request) -> None:
        """Begin another instance that nobody waits for; what starts it counts as what this one sent."""
        sent = {"key": request.key, "data": request.data}
        self.state.steps[name] = StepState(Status.DONE, Waits.NOTHING, decided=self.now, sent=sent, succeeded=True, answer="done")
        self.outputs.append(request)
        self._bound_sent(name)
        self._bound_outputs(name)

    def begin(self, name: str, status: Status) -> None:
        """Begin to verify or to compensate a step, under a command id that was not used before."""
        self.set(name, status=status)
        self.fresh(name)

    def again(self, name: str) -> None:
        """The next attempt of the command that is out: the same id, the next number (S13)."""
        state = self.state.steps[name]
        self.set(name, attempt=state.attempt + 1)
        self._send(name, state.sent if state.status is Status.EXECUTING else self._question(name))

    def fresh(self, name: str) -> None:
        """A new round, under a new command id: what was refused had no effect (S12), and a repeat would only be refused again."""
        state = self.state.steps[name]
        action = ACTION_OF[state.status]
        self.set(name, attempt=0, first=1, decided=self.now, answer="", reason="", **{ROUND_OF[action]: state.rounds(action) + 1})
        self.again(name)

    def once_more(self, name: str) -> None:
        """What an operator lets be tried again: another series of attempts, or another round of what was refused."""
        state = self.state.steps[name]
        if state.answer in ("refused", "nothing"):
            self.fresh(name)
        else:
            self.set(name, first=state.attempt + 1)
            self.again(name)

    def _question(self, name: str) -> Any:
        step, state = self.step(name), self.state.steps[name]
        if isinstance(step, Child):
            return {"saga": step.child.name, "key": state.sent["key"]}
        assert step.command_class is not None
        sent = self.call(name, step.command_class.model_validate, own(state.sent))
        if state.status is Status.VERIFYING:
            assert step.finder is not None
            assert step.finder_class is not None
            return self.command(name, step.finder, step.finder_class, sent)
        assert callable(step.compensation)
        assert step.compensation_class is not None
        return self.command(name, step.compensation, step.compensation_class, sent)

    def _send(self, name: str, data: Any) -> None:
        step, state = self.step(name), self.state.steps[name]
        action = ACTION_OF[state.status]
        command = step.command_for(action)
        assert command is not None, f"{name} has nothing to {action} with"
        # Only an execute command may wait for the deadline; a compensation is beyond it and must not wait for ever (S4, S23).
        timeout = step.timeout if action is Action.EXECUTE else step.timeout or DEFAULT_TIMEOUT
        if isinstance(step, Child):
            timeout = None  # a child ends by itself, and tells
            self.outputs.append(self._to_child(name, step, action, data))
        else:
            self.outputs.append(
                Send(
                    service=command.__service__,
                    type=command.__type__,
                    command=self.command_id(name, action),
                    action=action,
                    attempt=state.attempt,
                    time=state.decided,
                    data=data,
                    subject="" if action is Action.EXECUTE else self.subject(name),
                    trace=self.state.trace,
                )
            )
        self.set(name, waits=Waits.REPLY, due=None if timeout is None else self.now + round(timeout.total_seconds() * 1000))
        self._bound_outputs(name)

    def _bound_sent(self, name: str) -> None:
        """S32: all that an instance sent stands in its state."""
        self._written(name, [s.sent for s in self.state.steps.values()], "all commands of the instance", MAX_SENT_BYTES)

    def _bound_outputs(self, name: str) -> None:
        """S32: what leaves stands in the decision, which has to fit in one batch."""
        if len(self.outputs) * MAX_DATA_BYTES > MAX_OUTPUT_BYTES:  # each alone is within its own limit
            sent = [output.data for output in self.outputs if isinstance(output, Send | Request)]
            self._written(name, sent, "the commands of one decision", MAX_OUTPUT_BYTES)

    def _to_child(self, name: str, step: Child[Any, Any], action: Action, data: Any) -> Request:
        id = self.command_id(name, action)
        about = {"sagaparent": id, "sagachild": step.child.name, "traceparent": self.state.trace}
        type, key = step.child.starts_on.__type__, self.state.steps[name].sent["key"]
        if action is Action.COMPENSATE:
            type, about["sagasubject"] = UNDO, self.subject(name)
        else:
            data = data["data"]
        return Request(type, f"{id}:{self.state.steps[name].attempt}", key, data, about)

    def key_of(self, name: str, saga: Saga[Any, Any], data: Any) -> str:
        """The key under which another saga starts with this event."""
        try:
            return start_key(saga, data)
        except Unreadable as problem:
            raise UserCodeRaised(name, f"{saga.name} cannot start on this: {problem}") from problem

    def command_id(self, name: str, action: Action) -> str:
        return command_id(self.state.id, name, action, self.state.steps[name].rounds(action))

    def subject(self, name: str) -> str:
        """The id of a step's execute command, also where a second run undoes what the first one did (S28)."""
        return command_id(self.state.undoes or self.state.id, name, Action.EXECUTE, self.state.steps[name].round)

    # --- telling others -----------------------------------------------------------------------------------------------------------

    def announce(self, what: str, **data: Any) -> None:
        """An event on `saga.events`. Started, completed and compensated happen once; parked and resumed may happen again."""
        state = self.state
        once = what in ("started", "completed", "compensated")
        self.outputs.append(
            Announce(
                type=f"saga.{what}.v1",
                id=f"{state.id}:{what}" + ("" if once else f":{state.seq + 1}"),
                data={"saga": state.saga, "key": state.key, "instance": state.id, "version": state.version, **data},
                trace=state.trace,
            )
        )

    def park(self, reason: str, step: str = "", detail: str = "", *, holds: bool) -> None:
        self.state.parked = Parked(reason, self.now, step, detail, holds)

    def finish(self, before: Instance | None) -> None:
        """Tell the world if this decision parked or resumed the instance; once, however often it did on the way."""
        was, now = before.parked if before is not None else None, self.state.parked
        if now is not None and now != was:
            self.announce("parked", reason=now.reason, step=now.step, detail=now.detail)
        elif now is None and was is not None:
            self.announce("resumed")

    def begin_run(self, **given: Any) -> None:
        """Another run under the same saga and key; its instance has another id, and the numbers of decisions go on."""
        old, saga = self.state, self.saga
        started = max(self.now, old.started + 1)
        id = instance_id(saga.name, old.key, started)
        deadline = started + round(saga.deadline.total_seconds() * 1000)
        self.state = Instance(id, saga.name, old.key, saga.version, saga.graph.hash, started, deadline, old.digest, trace.begin(id))
        for name, value in ({"seq": old.seq, "limit": old.seq + 1 + MAX_DECISIONS, "early": list(old.early)} | given).items():
            setattr(self.state, name, value)
        self.data_changed = True
        self._model = None


def readable(text: str) -> str:
    """The text as it can be written: a lone surrogate, which UTF-8 has not, is replaced."""
    return text.encode(errors="replace").decode()


def _strange(data: BaseModel) -> str:
    """A name that was given a value and is no field, if there is one, with the field that may be meant."""
    declared = type(data)
    if len(data.__dict__) <= len(declared.model_fields):
        return ""
    for name in data.__dict__:
        if name not in declared.model_fields and not hasattr(declared, str(name)):  # a cached property is kept there, too
            near = get_close_matches(str(name), declared.model_fields, 1)
            return f"{name!r}, which {declared.__name__} has not" + (f"; is {near[0]!r} meant?" if near else "")
    return ""


def own(data: Any) -> Any:
    """A copy for the user's code: pydantic hands on what lies under `Any` as it is, and to change it in place would change the state."""
    return orjson.loads(orjson.dumps(data))
