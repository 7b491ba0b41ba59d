"""How a saga is written: a module that reads as the process.

    checkout = Saga("checkout", version=1, starts_on=OrderPlaced, key=lambda o: o.order_id, data=Checkout, deadline=minutes(30))

    @checkout.step(after=START)
    def pay(c: Checkout) -> TakePayment: ...
    @pay.done
    def paid(c: Checkout, reply: PaymentTaken) -> Checkout: ...
    @pay.compensate
    def refund(c: Checkout, sent: TakePayment) -> ReturnPayment: ...

What can be seen from one line is checked on that line; what needs the whole (`Saga.check`) when the saga is put into an `App`, which is
at import too. The graph cannot have a cycle or an unreachable step: a link is an object, and must exist before it is linked to.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from types import CodeType, FunctionType
from typing import Any, Final, Generic, TypeVar, get_args

from pydantic import BaseModel

from saga.engine.graph import Graph
from saga.engine.messages import Command, Event, Message
from saga.engine.policy import (
    COMPENSATE_RETRY,
    DEFAULT_REMEMBER,
    DEFAULT_RETRY,
    DEFAULT_TIMEOUT,
    VERIFY_RETRY,
    Retry,
    Unknown,
)
from saga.engine.state import Action
from saga.errors import DefinitionError

MOMENT = timedelta(milliseconds=1)  # the engine's clock knows nothing shorter
MAX_STEPS = 200  # S2: more than a person can follow; and an instance's whole state has to fit in 1 MiB

D = TypeVar("D", bound=BaseModel)
S = TypeVar("S", bound=Message)
R = TypeVar("R", bound=Event)
C = TypeVar("C", bound=Command[Any])
C_co = TypeVar("C_co", bound=Command[Any], covariant=True)


class Unset:
    """The type of UNSET: nothing was said, which is not the same as None."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()


class Node:
    """A place in a saga that a step can come after."""

    name: str
    where: str


class _Start(Node):
    name = "START"
    where = "saga"


START: Final[Node] = _Start()
After = Node | Sequence[Node]


class Step(Node, Generic[D, C_co]):
    """One step: a command, its reply, and what is to be done when it has to be undone or when nobody answers."""

    def __init__(self, saga: Saga[Any, D], function: Callable[[D], C_co], options: _Options) -> None:
        self.saga = saga
        self.name = _name(function)
        self.where = _where(function)
        self.command = function
        self.command_class: type[C_co] = saga.reads(function, [saga.data], Command)
        self.after = options.after
        self.timeout = options.timeout
        self.pivot = options.pivot
        self.retry = options.retry
        self.unknown: Unknown | None = options.unknown
        self.compensation: Callable[[D, Any], Command[Any]] | Unset | None = options.compensation
        self.compensation_class: type[Command[Any]] | None = None
        self.finder: Callable[[D, Any], Command[Any]] | None = None
        self.finder_class: type[Command[Any]] | None = None
        self.receive: Callable[[D, Any], D] | None = None

    def done(self: Step[D, Command[R]], function: Callable[[D, R], D]) -> Callable[[D, R], D]:
        """Put the reply into the data: called once, when the step's reply is accepted."""
        self._once(self.receive, "done", function)
        self.saga.reads(function, [self.saga.data, self.command_class.__reply__], self.saga.data)
        self.receive = function
        return function

    def compensate(self, function: Callable[[D, C_co], Command[Any]]) -> Callable[[D, C_co], Command[Any]]:
        """The command that undoes this step; it gets the data as it is then, and the command as it was sent."""
        self._once(None if isinstance(self.compensation, Unset) else function, "compensate", function)
        self.compensation_class = self.saga.reads(function, [self.saga.data, self.command_class], Command)
        self.compensation = function
        return function

    def verify(self: Step[D, Command[R]], function: Callable[[D, C_co], Command[R]]) -> Callable[[D, C_co], Command[R]]:
        """The question to ask when nobody answered (S14): its answer is this step's reply, or `nothing`."""
        self._once(self.finder, "verify", function)
        found = self.saga.reads(function, [self.saga.data, self.command_class], Command)
        if found.__reply__ is not self.command_class.__reply__:
            raise DefinitionError(
                f"{self.name}: verify asks with {found.__name__}, which is answered by {found.__reply__.__name__}; "
                f"it must be the step's own reply, {self.command_class.__reply__.__name__}",
                _where(function),
            )
        self.finder, self.finder_class = function, found
        return function

    def command_for(self, action: Action) -> type[Command[Any]] | None:
        """The command that is sent for an action; None if this step has none."""
        classes = {
            Action.EXECUTE: self.command_class,
            Action.VERIFY: self.finder_class,
            Action.COMPENSATE: self.compensation_class,
        }
        return classes[action]

    def retry_for(self, action: Action) -> Retry:
        return {Action.EXECUTE: self.retry, Action.VERIFY: VERIFY_RETRY, Action.COMPENSATE: COMPENSATE_RETRY}[action]

    def when_unknown(self) -> Unknown:
        """What follows when the last attempt got no answer (S14): as it was written, else whatever the step can."""
        return self.unknown or ("verify" if self.finder else "compensate" if self.compensation_class else "park")

    def _once(self, there: object, what: str, function: Callable[..., Any]) -> None:
        if there is not None:
            raise DefinitionError(f"{self.name} has a {what} (or compensation=None) already", _where(function))


class _Options:
    """What `Saga.step` was told."""

    def __init__(self, after: tuple[Node, ...], timeout: timedelta | None, pivot: bool, retry: Retry) -> None:
        self.after = after
        self.timeout = timeout
        self.pivot = pivot
        self.retry = retry
        self.unknown: Unknown | None = None
        self.compensation: Unset | None = UNSET

    def check(self, where: str) -> None:
        retry = self.retry
        if self.timeout is not None and self.timeout < MOMENT:
            raise DefinitionError(f"timeout= must be at least a millisecond, not {self.timeout}", where)
        if retry.attempts < 1 or retry.first < MOMENT or retry.longest < retry.first or not 1 <= retry.factor <= 1000:
            what = "retry= takes at least 1 attempt, a first pause of at least 1 ms, a longest not below it, a factor of 1 to 1000"
            raise DefinitionError(f"{what}; not {retry}", where)
        if self.unknown not in (None, *get_args(Unknown)):
            raise DefinitionError(f'unknown= is "verify", "compensate" or "park", not {self.unknown!r}', where)
        if not (self.compensation is None or isinstance(self.compensation, Unset)):
            raise DefinitionError("compensation= is only ever None; write a compensation with @<step>.compensate", where)


class Saga(Generic[S, D]):
    """A definition: what starts it, its data, and its steps.

    `version` is raised whenever the structure changes (S5); `key` gives the business id; `deadline` is for the whole saga (S25);
    a finished instance is remembered for `remember`, so that a repeated start is answered and not run again (S6).
    Raises DefinitionError, with file and line, for each mistake.
    """

    def __init__(
        self,
        name: str,
        *,
        version: int,
        starts_on: type[S],
        key: Callable[[S], str],
        data: type[D],
        deadline: timedelta,
        remember: timedelta = DEFAULT_REMEMBER,
    ) -> None:
        self.where = _caller()
        if not name.isascii() or not name.replace("-", "").isalnum() or not name == name.lower():
            raise DefinitionError(f"a saga's name is lower-case letters, digits and '-'; this one is {name!r}", self.where)
        if version < 1 or deadline <= timedelta(0) or remember <= timedelta(0):
            raise DefinitionError(f"{name}: version, deadline and remember must be more than nothing", self.where)
        if not (isinstance(starts_on, type) and issubclass(starts_on, Message)) or not starts_on.__type__:
            raise DefinitionError(f"{name}: starts_on= takes a message class, not {starts_on!r}", self.where)
        if not (isinstance(data, type) and issubclass(data, BaseModel)):
            raise DefinitionError(f"{name}: data= takes a pydantic model class, not {data!r}", self.where)
        if not callable(key):
            raise DefinitionError(f"{name}: key= takes a function of the event, not {key!r}", self.where)
        self.name = name
        self.version = version
        self.starts_on = starts_on
        self.key = key
        self.data = data
        self.deadline = deadline
        self.remember = remember
        self.begin: Callable[[S], D] | None = None
        self.steps: dict[str, Step[D, Any]] = {}
        self._graph: Graph | None = None

    def start(self, function: Callable[[S], D]) -> Callable[[S], D]:
        """How the first data comes from the event that starts the saga."""
        if self.begin is not None:
            raise DefinitionError(f"{self.name} has a start already", _where(function))
        self.reads(function, [self.starts_on], self.data)
        self.begin = function
        return function

    def step(
        self,
        *,
        after: After,
        timeout: timedelta | None = DEFAULT_TIMEOUT,
        pivot: bool = False,
        retry: Retry = DEFAULT_RETRY,
        unknown: Unknown | None = None,
        compensation: Unset | None = UNSET,
    ) -> Callable[[Callable[[D], C]], Step[D, C]]:
        """A step: the function says which command is sent once all steps in `after` are done.

        `timeout` is for one attempt (None: until the deadline; written on purpose). From the `pivot` on there is no way back.
        `unknown` says what happens when the last attempt got no answer: "verify", "compensate" or "park" (S14).
        `compensation=None` says that there is nothing to undo.
        """
        where = _caller()
        options = _Options(self._links(after, where), timeout, pivot, retry)
        options.unknown, options.compensation = unknown, compensation
        options.check(where)

        def add(function: Callable[[D], C]) -> Step[D, C]:
            step = Step(self, function, options)
            if not (step.name.isascii() and step.name.isidentifier()) or step.name == START.name:
                what = f"a step's name is its function's: an ASCII name, and not START; this one is {step.name!r}"
                raise DefinitionError(what, step.where)
            if step.name in self.steps:
                what = f"{self.name} has a step {step.name!r} already, at {self.steps[step.name].where}"
                raise DefinitionError(what, step.where)
            if len(self.steps) >= MAX_STEPS:
                raise DefinitionError(f"{self.name} has more than {MAX_STEPS} steps", step.where)
            self.steps[step.name] = step
            self._graph = None
            return step

        return add

    @property
    def graph(self) -> Graph:
        if self._graph is None:
            self._graph = Graph(self.steps.values())
        return self._graph

    def check(self) -> None:
        """The rules that need the whole definition (S1, S4). Raises DefinitionError for the first that is broken."""
        if self.begin is None:
            raise DefinitionError(f"{self.name} has no @{self.name}.start: how does its data come from the event?", self.where)
        self.graph.check(self.name, self.where)

    def _links(self, after: Any, where: str) -> tuple[Node, ...]:
        nodes = tuple(after) if isinstance(after, Sequence) and not isinstance(after, str) else (after,)
        if not nodes:
            raise DefinitionError("after= is empty; write after=START for a first step", where)
        for node in nodes:
            if not isinstance(node, Node):
                raise DefinitionError(f"after= takes START or a step (the object, not its name), not {node!r}", where)
            if isinstance(node, Step) and node.saga is not self:
                raise DefinitionError(f"after={node.name} is a step of another saga, {node.saga.name!r}", where)
        if len(set(nodes)) < len(nodes):
            raise DefinitionError("after= names the same step twice", where)
        if START in nodes and len(nodes) > 1:
            raise DefinitionError("after= names START and a step; every step comes after START", where)
        return nodes

    def reads(self, function: Callable[..., Any], takes: Sequence[type], gives: type) -> Any:
        """Check a function's annotations against what it will be given; say the class that it returns (S3)."""
        where = _where(function)
        try:
            hints = _annotations(function)
        except Exception as error:
            raise DefinitionError(f"{_name(function)}: an annotation cannot be read: {error}", where) from None
        if inspect.iscoroutinefunction(function):
            raise DefinitionError(f"{_name(function)} is async; a definition decides, it waits for nothing", where)
        parameters = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
        if len(parameters) != len(takes):
            what = f"{_name(function)} takes {len(parameters)} arguments; it will be given {_names(takes)}"
            raise DefinitionError(what, where)
        for parameter, expected in zip(parameters, takes, strict=True):
            said = hints.get(parameter.name, expected)
            if isinstance(said, type) and not issubclass(expected, said):
                what = f"{_name(function)}: {parameter.name} is {said.__name__}; it will be given {expected.__name__}"
                raise DefinitionError(what, where)
        given = hints.get("return", None)
        if not (isinstance(given, type) and issubclass(given, gives)):
            named = "nothing" if "return" not in hints else getattr(given, "__name__", str(given))
            raise DefinitionError(f"{_name(function)} must return a {gives.__name__} and say so; it says {named}", where)
        if issubclass(given, Message) and not given.__type__:
            what = f"{_name(function)} must return one kind of command; {given.__name__} has no type of its own"
            raise DefinitionError(what, where)
        return given

    def messages(self) -> list[type[Message]]:
        """Every message class this saga reads or sends, in the order of its steps, each once."""
        found: dict[type[Message], None] = {self.starts_on: None}
        for step in self.steps.values():
            for command in (step.command_class, step.compensation_class, step.finder_class):
                if command is not None:
                    found.update(dict.fromkeys((command, command.__reply__, *command.__refusals__)))
        return list(found)


def minutes(n: float) -> timedelta:
    return timedelta(minutes=n)


def hours(n: float) -> timedelta:
    return timedelta(hours=n)


def days(n: float) -> timedelta:
    return timedelta(days=n)


def seconds(n: float) -> timedelta:
    return timedelta(seconds=n)


def _annotations(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Annotations as objects; names may be local to the function in which the saga is being defined."""
    frame = inspect.currentframe()
    names: dict[str, Any] = {}
    while frame is not None:
        if frame.f_code.co_filename == getattr(function, "__code__", _NO_CODE).co_filename:
            names = {**frame.f_locals, **names}
        frame = frame.f_back
    return inspect.get_annotations(function, eval_str=True, globals=getattr(function, "__globals__", {}), locals=names)


_NO_CODE: CodeType = compile("", "<no file>", "exec")


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))


def _names(classes: Iterable[type]) -> str:
    return "(" + ", ".join(c.__name__ for c in classes) + ")"


def _where(function: Callable[..., Any]) -> str:
    code = function.__code__ if isinstance(function, FunctionType) else None
    return f"{code.co_filename}:{code.co_firstlineno}" if code else "<no file>"


def _caller() -> str:
    """File and line of the first frame outside this module."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
